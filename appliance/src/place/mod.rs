//! Which node a job should have. Pure: facts in, a decision with its reason out; no I/O, no clock.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

#[cfg(test)]
mod tests;

/// What placement needs to know of a job.
#[derive(Clone, Debug)]
pub struct JobFacts<'a> {
    /// Nix's word for what it runs on; `builtin` runs anywhere.
    pub system: &'a str,
    /// `requiredSystemFeatures`.
    pub features: &'a BTreeSet<String>,
    /// Whether it is to be built on this node itself, or else on another one.
    pub here: bool,
}

/// Whether a node can be given work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes jobs.
    Ready,
    /// It was told to take none.
    Draining,
    /// It cannot be reached, or its builder cannot; the reason in plain words.
    Away(String),
}

/// What placement needs to know of a node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its id.
    pub id: String,
    /// Its host name, for people.
    pub name: String,
    /// Whether it is this node itself.
    pub here: bool,
    /// Systems that its CPU executes.
    pub systems: Vec<String>,
    /// Features that its executor accepts.
    pub features: BTreeSet<String>,
    /// Builds at once.
    pub slots: u32,
    /// Jobs that may wait there beyond the slots, so that a slot never idles for a round trip.
    pub ahead: u32,
    /// Jobs it has from here, running and waiting.
    pub assigned: u32,
    /// Jobs it has from everyone, as far as known; at least `assigned`.
    pub busy: u32,
    /// Whether it can be given work.
    pub health: Health,
}

impl NodeFacts {
    fn runs(&self, system: &str) -> bool {
        system == "builtin" || self.systems.iter().any(|s| s == system)
    }

    fn lacks<'a>(&self, features: &'a BTreeSet<String>) -> Vec<&'a str> {
        features.iter().filter(|f| !self.features.contains(*f)).map(String::as_str).collect()
    }

    /// Jobs a slot, in thousandths: the order of preference among nodes without history.
    fn load(&self) -> u64 {
        u64::from(self.busy.max(self.assigned)) * 1000 / u64::from(self.slots.max(1))
    }

    fn free_slot(&self) -> bool {
        self.busy.max(self.assigned) < self.slots
    }

    fn has_room(&self) -> bool {
        self.slots > 0 && self.assigned < self.slots + self.ahead
    }
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// A slot, on a node that works.
    Slot,
    /// A node that was told to drain.
    Resume,
    /// The return of a node that is away: bounded in time by policy.
    Return,
}

/// Where a job should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Run {
        /// Its id.
        node: String,
        /// Why there.
        reason: String,
    },
    /// Nowhere yet.
    Wait {
        /// For what.
        on: WaitFor,
        /// For what, in words, with names.
        reason: String,
    },
    /// Nowhere ever, as the fleet is.
    Refuse {
        /// Why.
        reason: String,
    },
}

/// Decides where a job should go: among the nodes that can build it, the least loaded one for its
/// slots; a free slot before a place in a queue; names break ties, so that equal facts give equal
/// decisions.
#[must_use]
pub fn decide(job: &JobFacts<'_>, nodes: &[NodeFacts]) -> Decision {
    let nodes: Vec<&NodeFacts> = nodes.iter().filter(|n| n.here == job.here).collect();
    let able: Vec<&NodeFacts> = nodes
        .iter()
        .copied()
        .filter(|n| n.runs(job.system) && n.lacks(job.features).is_empty())
        .collect();
    if able.is_empty() {
        return Decision::Refuse { reason: nobody(job, &nodes) };
    }
    let best = able
        .iter()
        .filter(|n| n.health == Health::Ready && n.has_room())
        .min_by_key(|n| (!n.free_slot(), n.load(), n.name.as_str(), n.id.as_str()));
    match best {
        Some(node) => Decision::Run { node: node.id.clone(), reason: chosen(node, job, &able) },
        None => wait(job, &able),
    }
}

fn chosen(node: &NodeFacts, job: &JobFacts<'_>, able: &[&NodeFacts]) -> String {
    let mut reason = format!("{} runs {} natively", node.name, job.system);
    if node.free_slot() {
        let free = node.slots - node.busy.max(node.assigned);
        let _ = write!(reason, " and has {free} of {} slots free", node.slots);
    } else {
        let _ = write!(reason, "; all slots are busy, and its queue is the shortest");
    }
    let others = able.len() - 1;
    if others > 0 {
        let _ = write!(reason, " ({others} other {} could)", plural(others, "node", "nodes"));
    }
    reason
}

fn wait(job: &JobFacts<'_>, able: &[&NodeFacts]) -> Decision {
    let ready: Vec<_> = able.iter().filter(|n| n.health == Health::Ready).collect();
    if !ready.is_empty() {
        let slots: u32 = ready.iter().map(|n| n.slots).sum();
        let reason = format!(
            "all {slots} {} for {} are busy ({})",
            plural(slots as usize, "slot", "slots"),
            job.system,
            Names(ready.iter().map(|n| n.name.as_str())),
        );
        return Decision::Wait { on: WaitFor::Slot, reason };
    }
    let draining: Vec<_> = able.iter().filter(|n| n.health == Health::Draining).collect();
    if !draining.is_empty() {
        let names = Names(draining.iter().map(|n| n.name.as_str()));
        let reason = format!("{names} could build it, and is draining; `roost resume` ends that");
        return Decision::Wait { on: WaitFor::Resume, reason };
    }
    let mut reason = format!("every node known for {} is away:", job.system);
    for (i, node) in able.iter().enumerate() {
        if let Health::Away(why) = &node.health {
            let _ = write!(reason, "{} {} ({why})", if i == 0 { "" } else { "," }, node.name);
        }
    }
    Decision::Wait { on: WaitFor::Return, reason }
}

fn nobody(job: &JobFacts<'_>, nodes: &[&NodeFacts]) -> String {
    let same_system: Vec<_> = nodes.iter().filter(|n| n.runs(job.system)).collect();
    if let Some(node) = same_system.iter().min_by_key(|n| n.lacks(job.features).len()) {
        return format!(
            "no node offers the features it needs: {} is the closest for {}, and lacks {}",
            node.name,
            job.system,
            Names(node.lacks(job.features).into_iter()),
        );
    }
    let known: BTreeSet<_> = nodes.iter().flat_map(|n| &n.systems).map(String::as_str).collect();
    if known.is_empty() {
        return format!("no node is known that builds anything, and it needs {}", job.system);
    }
    format!("no node builds {}; known are: {}", job.system, Names(known.iter().copied()))
}

fn plural(n: usize, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// Names in a sentence, at most eight of them.
struct Names<I>(I);

impl<'a, I: Iterator<Item = &'a str> + Clone> fmt::Display for Names<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let total = self.0.clone().count();
        for (i, name) in self.0.clone().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        if total > SHOWN {
            write!(f, " and {} more", total - SHOWN)?;
        }
        Ok(())
    }
}
