//! Decisions in words, for people.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    time::Duration,
};

use super::{
    Among, Health, JobFacts, NodeFacts, WaitFor,
    plan::{Able, Plan},
};
use crate::model::Emulation;

/// Why a native node has the job.
pub(super) fn native(
    plan: &Plan<'_, '_>,
    job: &JobFacts<'_>,
    able: &Able,
    chosen: usize,
    finish_s: Option<f64>,
) -> String {
    let node = plan.facts(&[chosen])[0];
    let mut reason = format!("{} runs {} natively", node.name, job.system);
    let slots = plan.slots(chosen);
    let _ = if slots.has_free() {
        let free = slots.len() - slots.busy;
        write!(reason, " and has {free} of {} slots free", slots.len())
    } else if finish_s.is_some() {
        write!(reason, "; all slots are busy, and it is expected to be done there first")
    } else {
        write!(reason, "; all slots are busy, and its queue is the shortest")
    };
    if let Some(lacks) = lacking(node, job) {
        let _ = write!(reason, "; it {lacks}");
    }
    let others = able.native.len() - 1;
    if others > 0 {
        let _ = write!(reason, " ({others} other {} could)", plural(others, "node", "nodes"));
    }
    let emulating = plan.facts(&able.emulating);
    if let Some(here) = emulating.iter().find(|n| n.here) {
        let _ = write!(reason, "; {} would have to emulate it", here.name);
    }
    reason + &demanded(job)
}

/// What a node lacks of a job's inputs, as the predicate of a sentence; none if that is nothing.
pub(super) fn lacking(node: &NodeFacts, job: &JobFacts<'_>) -> Option<String> {
    const MIB: u64 = 1 << 20;
    let bytes = node.supply.missing_bytes(job.inputs);
    let takes_s = node.supply.takes_s(job.inputs);
    let mib = bytes.div_ceil(MIB);
    (bytes > 0).then(|| format!("lacks {mib} MiB of its inputs (about {takes_s:.0} s)"))
}

/// Why a job waits while a node is free.
pub(super) fn worth_waiting(node: &NodeFacts, job: &JobFacts<'_>) -> String {
    format!(
        "{} is busy, and still expected to be the first to be done with it ({})",
        node.name, job.system
    )
}

/// Why the job is emulated: nothing native can have it.
pub(super) fn fallback(node: &NodeFacts, job: &JobFacts<'_>, native: &[&NodeFacts]) -> String {
    let mut reason = format!("{} emulates {}", node.name, job.system);
    room(&mut reason, node);
    if native.is_empty() && job.demand.is_empty() {
        reason += ": no node is known that runs it natively";
    } else if native.is_empty() {
        reason += ": no node that may have it runs it natively";
    } else if native.iter().any(|n| n.health.is_alive()) {
        let waited_s = job.waited.as_secs();
        let _ = write!(
            reason,
            ": no native slot was free for {waited_s} s (placement.native_wait_s), on {}",
            Names(native.iter().map(|n| n.name.as_str()))
        );
    } else {
        reason += ": no native node takes it now, ";
        absent(&mut reason, native);
    }
    let _ = write!(reason, " (placement.emulation = \"{}\")", job.policy.emulation.as_str());
    reason + &demanded(job)
}

/// Why the job is emulated though native nodes are there, which would be done in `native_s`.
pub(super) fn sooner(node: &NodeFacts, job: &JobFacts<'_>, native_s: f64) -> String {
    format!(
        "{} emulates {}: earlier builds took {:.0} s so, and native nodes, where jobs wait, are expected \
         to be done in {native_s:.0} s (placement.emulation = \"{}\")",
        node.name,
        job.system,
        job.times.emulated.unwrap_or_default().as_secs_f32(),
        job.policy.emulation.as_str()
    )
}

/// Why a job that waited elsewhere was taken back.
pub(super) fn recalled(at: &NodeFacts, other: &NodeFacts) -> String {
    let why = match &at.health {
        Health::Ready => "all its slots are busy".to_owned(),
        Health::Draining => "it is draining".to_owned(),
        Health::Paused(why) | Health::Away(why) => why.clone(),
    };
    format!("taken back from {}, where it had not begun ({why}): {} is free", at.name, other.name)
}

/// Why an emulated build is begun anew.
pub(super) fn restarted(node: &NodeFacts, native: Duration, left: Duration) -> String {
    format!(
        "{} is free and runs it natively: about {} s there, where emulation needs {} s more",
        node.name,
        native.as_secs(),
        left.as_secs()
    )
}

/// What a job waits for.
pub(super) fn waiting(job: &JobFacts<'_>, able: &[&NodeFacts], on: WaitFor) -> String {
    waiting_for(job, able, on) + &demanded(job)
}

fn waiting_for(job: &JobFacts<'_>, able: &[&NodeFacts], on: WaitFor) -> String {
    match on {
        WaitFor::Slot => {
            let ready: Vec<_> = able.iter().filter(|n| n.health == Health::Ready).collect();
            if ready.is_empty() {
                return paused(able);
            }
            let slots: u32 = ready.iter().map(|n| n.slots).sum();
            format!(
                "all {slots} {} for {} are busy ({})",
                plural(slots as usize, "slot", "slots"),
                job.system,
                Names(ready.iter().map(|n| n.name.as_str())),
            )
        }
        WaitFor::Resume => {
            let draining = able.iter().filter(|n| n.health == Health::Draining);
            let names = Names(draining.map(|n| n.name.as_str()));
            format!("{names} could build it, and is draining; `roost resume` ends that")
        }
        WaitFor::Return => {
            let native = if job.policy.emulation == Emulation::Never { " natively" } else { "" };
            let mut reason = format!("every node known for {}{native} is away: ", job.system);
            absent(&mut reason, able);
            if job.policy.emulation == Emulation::Never {
                reason += "; placement.emulation = \"never\" forbids to emulate it";
            }
            reason
        }
    }
}

/// Why a job can go nowhere; `among` are those of `nodes` that it may have at all.
pub(super) fn nobody(job: &JobFacts<'_>, among: &[&NodeFacts], nodes: &[NodeFacts]) -> String {
    let demand = job.demand;
    let wanted: Vec<_> = among.iter().copied().filter(|n| n.may_have(demand)).collect();
    if demand.is_empty() || wanted.len() == among.len() {
        return unable(job, among);
    }
    if !wanted.is_empty() {
        return format!("{demand}, and of the nodes that remain {}", unable(job, &wanted));
    }
    let here = nodes.iter().find(|n| n.here && job.among == Among::Others && n.may_have(demand));
    if let Some(here) = here {
        return format!(
            "{demand}, and {} is this machine: it cannot build for its own Nix by way of roost, because \
             Nix holds the locks of the outputs meanwhile; leave the derivation to Nix (builders = \
             \"\"), or name a board",
            here.name
        );
    }
    if among.is_empty() {
        return format!("{demand}, and no node is known yet");
    }
    let known = Names(among.iter().map(|n| n.name.as_str()));
    format!("{demand}, and none of the known nodes ({known}) may have it then")
}

/// What is asked of the job's place, as an addition to a sentence.
fn demanded(job: &JobFacts<'_>) -> String {
    if job.demand.is_empty() { String::new() } else { format!(" ({})", job.demand) }
}

/// What none of these nodes can do.
fn unable(job: &JobFacts<'_>, nodes: &[&NodeFacts]) -> String {
    let closest = nodes
        .iter()
        .filter_map(|n| Some((n, n.lacks(n.runs(job.system)?, job.features))))
        .min_by_key(|(_, lacks)| lacks.len());
    if let Some((node, lacks)) = closest {
        return format!(
            "no node offers the features it needs: {} is the closest for {}, and lacks {}",
            node.name,
            job.system,
            Names(lacks.into_iter()),
        );
    }
    let known: BTreeSet<_> = nodes
        .iter()
        .flat_map(|n| n.systems.iter().chain(&n.emulated))
        .map(String::as_str)
        .collect();
    if known.is_empty() {
        return format!("no node is known that builds anything, and it needs {}", job.system);
    }
    format!("no node builds {}; known are: {}", job.system, Names(known.iter().copied()))
}

/// Why a job that could only be emulated can go nowhere.
pub(super) fn forbidden(job: &JobFacts<'_>, emulating: &[&NodeFacts]) -> String {
    format!(
        "no node is known that runs {} natively; {} could emulate it, and placement.emulation = \
         \"{}\" forbids that{}",
        job.system,
        Names(emulating.iter().map(|n| n.name.as_str())),
        job.policy.emulation.as_str(),
        demanded(job)
    )
}

fn room(reason: &mut String, node: &NodeFacts) {
    let _ = if node.has_free() {
        let free = node.slots - node.busy.max(node.assigned);
        write!(reason, " and has {free} of {} slots free", node.slots)
    } else {
        write!(reason, "; all slots are busy, and its queue is the shortest")
    };
}

fn paused(able: &[&NodeFacts]) -> String {
    let paused = able.iter().filter_map(|n| match &n.health {
        Health::Paused(why) => Some(format!("{} starts nothing now: {why}", n.name)),
        Health::Ready | Health::Draining | Health::Away(_) => None,
    });
    paused.take(Names::<()>::SHOWN).collect::<Vec<_>>().join("; ")
}

/// Who takes no jobs, each with the reason.
fn absent(reason: &mut String, nodes: &[&NodeFacts]) {
    for (i, node) in nodes.iter().take(Names::<()>::SHOWN).enumerate() {
        let why = match &node.health {
            Health::Away(why) | Health::Paused(why) => why,
            Health::Draining => "draining",
            Health::Ready => "busy",
        };
        let _ = write!(reason, "{}{} ({why})", if i == 0 { "" } else { ", " }, node.name);
    }
    if nodes.len() > Names::<()>::SHOWN {
        let _ = write!(reason, " and {} more", nodes.len() - Names::<()>::SHOWN);
    }
}

fn plural(n: usize, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// Names in a sentence, a bounded number of them.
struct Names<I>(I);

impl<I> Names<I> {
    const SHOWN: usize = 8;
}

impl<'a, I: Iterator<Item = &'a str> + Clone> fmt::Display for Names<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.clone().count();
        for (i, name) in self.0.clone().take(Self::SHOWN).enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        if total > Self::SHOWN {
            write!(f, " and {} more", total - Self::SHOWN)?;
        }
        Ok(())
    }
}
