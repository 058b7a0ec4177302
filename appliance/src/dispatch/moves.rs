//! Takes jobs back from nodes where they are worse off than they need be.

use tokio::task::AbortHandle;
use tracing::info;

use super::{Dispatcher, Live, live::Progress, now_s, pump::Round};
use crate::{
    execute::Stage,
    model::{How, JobState},
    place::{self, JobFacts, NodeFacts},
    queue::rules,
};

impl Dispatcher {
    /// Takes a job back if another node could begin it at once and its own has not begun it, or if
    /// it is emulated and would end sooner when begun anew on native hardware. Whether it was.
    pub(super) fn reconsider(
        live: &mut Live,
        job: &JobFacts<'_>,
        facts: &mut [NodeFacts],
        round: &mut Round,
    ) -> bool {
        let JobState::Running { node, .. } = &live.job.state else { return false };
        let node = node.clone();
        let waits = matches!(&*live.progress.borrow(), Progress::At(Stage::Waiting(_)));
        let why = match live.building {
            None if waits => place::recall(job, &node, facts),
            Some(since) if live.job.how == How::Emulated => {
                place::restart(job, round.now.saturating_duration_since(since), facts)
            }
            Some(_) | None => None,
        };
        let Some(why) = why else { return false };
        info!(job = %live.job.id(), node, "{why}");
        live.task.take().iter().for_each(AbortHandle::abort);
        if rules::put_back(&mut live.job, now_s(), &why).is_err() {
            return false;
        }
        live.building = None;
        live.since = round.now;
        if let Some(at) = facts.iter_mut().find(|at| at.id == node) {
            at.assigned = at.assigned.saturating_sub(1);
            at.busy = at.busy.saturating_sub(1);
        }
        round.forget(live, node);
        true
    }
}
