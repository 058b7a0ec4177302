//! Whether a job that a node has should be taken from it.

use std::time::Duration;

use super::{Decision, Health, JobFacts, NodeFacts, Times, decide, words};
use crate::model::{Emulation, How};

/// Whether a job that waits at `node`, where it has not begun, should be taken back: another node
/// could begin it at once, and that one cannot. The reason in words.
#[must_use]
pub fn recall(job: &JobFacts<'_>, node: &str, nodes: &[NodeFacts]) -> Option<String> {
    let at = nodes.iter().find(|n| n.id == node)?;
    let free = at.busy.max(at.assigned) <= at.slots;
    if at.health == Health::Ready && free {
        return None;
    }
    let others: Vec<NodeFacts> = nodes.iter().filter(|n| n.id != node).cloned().collect();
    let Decision::Run { node: other, how, .. } = decide(job, &others) else { return None };
    let other = others.iter().find(|n| n.id == other).filter(|n| n.has_free())?;
    let worse = how == How::Emulated && at.runs(job.system) == Some(How::Native);
    if worse && at.health.is_alive() {
        // Nothing native is given up for emulation while it is alive.
        return None;
    }
    (!ends_sooner(job, at, other)).then(|| words::recalled(at, other))
}

/// Whether a job is expected to end sooner in the queue of a node than on another one that is free.
fn ends_sooner(job: &JobFacts<'_>, at: &NodeFacts, other: &NodeFacts) -> bool {
    let (Some(work), Some(first)) = (job.times.native, at.jobs.first()) else { return false };
    let begins_s = |node: &NodeFacts, free_s: f64| free_s.max(node.supply.takes_s(job.inputs));
    let there_s = begins_s(at, first.left_s) + at.takes(work).as_secs_f64();
    at.health == Health::Ready && there_s <= begins_s(other, 0.0) + other.takes(work).as_secs_f64()
}

/// Whether a build that has been emulated for `elapsed` should be begun anew on the native node
/// that is free now; which one, and why.
#[must_use]
pub fn restart(job: &JobFacts<'_>, elapsed: Duration, nodes: &[NodeFacts]) -> Option<String> {
    let Times { native: Some(native), emulated: Some(emulated) } = job.times else { return None };
    if job.policy.emulation != Emulation::WhenFaster {
        return None;
    }
    let Decision::Run { node, how: How::Native, .. } = decide(job, nodes) else { return None };
    let node = nodes.iter().find(|n| n.id == node).filter(|n| n.has_free())?;
    let sent = Duration::try_from_secs_f64(node.supply.takes_s(job.inputs));
    let native = node.takes(native).saturating_add(sent.unwrap_or(Duration::MAX));
    let left = emulated.saturating_sub(elapsed);
    (left > native).then(|| words::restarted(node, native, left))
}
