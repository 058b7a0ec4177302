//! Which node a job should have. Pure: facts in, a decision with its reason out; no I/O, no clock.

pub mod admission;
mod demand;
mod words;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

pub use demand::Fit;

use crate::model::{Demand, Emulation, How, NodeView, Standing};

/// Which nodes may have a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Among {
    /// This node alone: another one has sent it here.
    Here,
    /// This node, or one that does natively what this one cannot.
    All,
    /// Every node but this one, whose own Nix asks.
    Others,
}

/// What placement needs to know of a job.
#[derive(Clone, Debug)]
pub struct JobFacts<'a> {
    /// Nix's word for what it runs on; `builtin` runs anywhere.
    pub system: &'a str,
    /// `requiredSystemFeatures`.
    pub features: &'a BTreeSet<String>,
    /// Which nodes may have it.
    pub among: Among,
    /// Where it is to be built.
    pub demand: &'a Demand,
    /// When it may be emulated.
    pub policy: Policy,
    /// How long it has waited.
    pub waited: Duration,
    /// How long such builds take, as far as known.
    pub times: Times,
}

impl JobFacts<'_> {
    /// How much longer it waits for a busy native node before emulation is considered; `None` if it
    /// has waited long enough, and if time changes nothing.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let wait = self.policy.native_wait.filter(|_| self.policy.emulation != Emulation::Never)?;
        Some(wait.saturating_sub(self.waited)).filter(|left| !left.is_zero())
    }
}

/// When jobs for a system may be emulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether at all.
    pub emulation: Emulation,
    /// How long one waits for a busy native node before emulation is considered; none is as long as
    /// one is alive.
    pub native_wait: Option<Duration>,
}

/// How long builds of a package took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// On native hardware.
    pub native: Option<Duration>,
    /// Emulated.
    pub emulated: Option<Duration>,
}

/// Whether a node can be given work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes jobs.
    Ready,
    /// It starts nothing for the moment and goes on by itself; the reason in plain words.
    Paused(String),
    /// It was told to take none.
    Draining,
    /// It cannot be reached, or its builder cannot; the reason in plain words.
    Away(String),
}

impl Health {
    /// What a node that is reached says of itself.
    #[must_use]
    pub fn of(view: &NodeView) -> Self {
        match view.standing() {
            Standing::Draining => Self::Draining,
            Standing::Trouble(why) => Self::Away(why.to_owned()),
            Standing::Paused(why) => Self::Paused(why.to_owned()),
            Standing::Ready => Self::Ready,
        }
    }

    /// Whether it will take jobs without anybody's help.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self, Self::Ready | Self::Paused(_))
    }
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
    /// Systems that it emulates.
    pub emulated: Vec<String>,
    /// Features that its executor accepts.
    pub features: BTreeSet<String>,
    /// Words by which people tell nodes apart.
    pub labels: BTreeSet<String>,
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
    /// Another node, by its description, that has no jobs as far as known.
    #[must_use]
    pub fn of(view: &NodeView, health: Health) -> Self {
        Self {
            id: view.id.clone(),
            name: view.name.clone(),
            here: false,
            systems: view.systems.clone(),
            emulated: view.emulated.clone(),
            features: view.features.clone(),
            labels: view.labels.clone(),
            slots: view.slots,
            ahead: 0,
            assigned: 0,
            busy: 0,
            health,
        }
    }

    /// How it runs programs of a system; `None` if it does not.
    fn runs(&self, system: &str) -> Option<How> {
        let among = |systems: &[String]| systems.iter().any(|s| s == system);
        if system == "builtin" || among(&self.systems) {
            Some(How::Native)
        } else {
            among(&self.emulated).then_some(How::Emulated)
        }
    }

    /// The features that programs run in this way would not find.
    fn lacks<'a>(&self, how: How, features: &'a BTreeSet<String>) -> Vec<&'a str> {
        let has = |feature: &&String| self.features.contains(*feature) && how.has(feature);
        features.iter().filter(|feature| !has(feature)).map(String::as_str).collect()
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

    fn takes(&self) -> bool {
        self.health == Health::Ready && self.has_room()
    }

    /// What is best comes first: a free slot, then what is preferred, then the shortest queue, then
    /// this node, where nothing has to be sent. Names break ties, so that equal facts give equal
    /// decisions.
    fn rank(&self, demand: &Demand) -> (bool, bool, u64, bool, &str, &str) {
        let preferred = self.is_preferred(demand);
        (!self.free_slot(), !preferred, self.load(), !self.here, &self.name, &self.id)
    }

    /// Whether a demand allows this node.
    #[must_use]
    pub fn may_have(&self, demand: &Demand) -> bool {
        !matches!(self.fit(demand), Fit::Forbidden(_))
    }

    fn is_preferred(&self, demand: &Demand) -> bool {
        self.fit(demand) == Fit::Allowed { preferred: true }
    }

    fn fit(&self, demand: &Demand) -> Fit {
        demand.judge(&self.id, &self.name, &self.labels)
    }
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// A slot, on a node that works or will go on by itself.
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
        /// How it runs there.
        how: How,
        /// Why there.
        reason: String,
    },
    /// Nowhere yet.
    Wait {
        /// For what.
        on: WaitFor,
        /// For what, in words, with names.
        reason: String,
        /// When time alone changes the decision: so much more waiting.
        again: Option<Duration>,
    },
    /// Nowhere ever, as the fleet is.
    Refuse {
        /// Why.
        reason: String,
    },
}

/// The nodes that could have a job, as far as system and features go.
struct Candidates<'a> {
    native: Vec<&'a NodeFacts>,
    emulating: Vec<&'a NodeFacts>,
}

impl<'a> Candidates<'a> {
    fn of(job: &JobFacts<'_>, nodes: &[&'a NodeFacts]) -> Self {
        let able = |how| {
            let fits = |n: &&&NodeFacts| {
                n.runs(job.system) == Some(how)
                    && n.lacks(how, job.features).is_empty()
                    && n.may_have(job.demand)
            };
            nodes.iter().filter(fits).copied().collect::<Vec<_>>()
        };
        let (mut native, emulating) = (able(How::Native), able(How::Emulated));
        // What this node does natively it does itself as long as it works: nothing has to be sent.
        // But others may be preferred.
        if let Some(here) = native.iter().copied().find(|n| n.here && n.health.is_alive()) {
            let first = here.is_preferred(job.demand);
            native.retain(|n| n.here || (!first && n.is_preferred(job.demand)));
        }
        Self { native, emulating }
    }
}

/// Decides where a job should go.
///
/// A native node comes first, whatever the load, while one is alive; how long a busy one is waited
/// for, and whether emulation is allowed at all, is the job's policy. Among equals the least loaded
/// one for its slots is taken, a free slot before a place in a queue.
#[must_use]
pub fn decide(job: &JobFacts<'_>, nodes: &[NodeFacts]) -> Decision {
    let among: Vec<&NodeFacts> = nodes
        .iter()
        .filter(|n| match job.among {
            Among::Here => n.here,
            Among::All => true,
            Among::Others => !n.here,
        })
        .collect();
    let able = Candidates::of(job, &among);
    if able.native.is_empty() && able.emulating.is_empty() {
        return Decision::Refuse { reason: words::nobody(job, &among, nodes) };
    }
    let may_emulate = job.policy.emulation != Emulation::Never && !able.emulating.is_empty();
    if !may_emulate && able.native.is_empty() {
        return Decision::Refuse { reason: words::forbidden(job, &able.emulating) };
    }
    if may_emulate && emulates_sooner(job, &able) {
        if let Some(node) = best(&able.emulating, job) {
            return run(node, How::Emulated, words::sooner(node, job));
        }
    }
    if let Some(node) = best(&able.native, job) {
        return run(node, How::Native, words::native(node, job, &able.native, &able.emulating));
    }
    let alive = able.native.iter().any(|n| n.health.is_alive());
    let left = match (alive, job.policy.native_wait) {
        (false, _) => Some(Duration::ZERO),
        (true, None) => None,
        (true, Some(wait)) => Some(wait.saturating_sub(job.waited)),
    };
    match left {
        Some(Duration::ZERO) if may_emulate => match best(&able.emulating, job) {
            Some(node) => run(node, How::Emulated, words::fallback(node, job, &able.native)),
            None => wait(job, [able.native, able.emulating].concat().as_slice(), None),
        },
        _ => wait(job, &able.native, left.filter(|left| may_emulate && !left.is_zero())),
    }
}

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
    let other = others.iter().find(|n| n.id == other).filter(|n| n.free_slot())?;
    let worse = how == How::Emulated && at.runs(job.system) == Some(How::Native);
    // Nothing native is given up for emulation while it is alive.
    (!(worse && at.health.is_alive())).then(|| words::recalled(at, other))
}

/// Whether a build that has been emulated for `elapsed` should be begun anew on the native node
/// that is free now; which one, and why.
#[must_use]
pub fn restart(job: &JobFacts<'_>, elapsed: Duration, nodes: &[NodeFacts]) -> Option<String> {
    let Times { native: Some(native), emulated: Some(emulated) } = job.times else { return None };
    if job.policy.emulation != Emulation::WhenFaster || emulated.saturating_sub(elapsed) <= native {
        return None;
    }
    let Decision::Run { node, how: How::Native, .. } = decide(job, nodes) else { return None };
    let node = nodes.iter().find(|n| n.id == node).filter(|n| n.free_slot())?;
    Some(words::restarted(node, native, emulated.saturating_sub(elapsed)))
}

/// Whether emulation ends sooner than the native nodes that are alive would, which may have to end
/// other jobs first; not known without a history of both.
fn emulates_sooner(job: &JobFacts<'_>, able: &Candidates<'_>) -> bool {
    let Times { native: Some(native), emulated: Some(emulated) } = job.times else { return false };
    if job.policy.emulation != Emulation::WhenFaster {
        return false;
    }
    let alive = able.native.iter().filter(|n| n.health.is_alive());
    // Every slot's turn takes about as long as this job does.
    let turns = alive.map(|n| 1 + n.busy.max(n.assigned) / n.slots.max(1)).min();
    turns.is_some_and(|turns| emulated < native.saturating_mul(turns))
}

fn best<'a>(nodes: &[&'a NodeFacts], job: &JobFacts<'_>) -> Option<&'a NodeFacts> {
    nodes.iter().copied().filter(|n| n.takes()).min_by_key(|n| n.rank(job.demand))
}

fn run(node: &NodeFacts, how: How, reason: String) -> Decision {
    Decision::Run { node: node.id.clone(), how, reason }
}

fn wait(job: &JobFacts<'_>, able: &[&NodeFacts], again: Option<Duration>) -> Decision {
    let waits_on = |health: fn(&Health) -> bool| able.iter().any(|n| health(&n.health));
    let on = if waits_on(Health::is_alive) {
        WaitFor::Slot
    } else if waits_on(|health| *health == Health::Draining) {
        WaitFor::Resume
    } else {
        WaitFor::Return
    };
    Decision::Wait { on, reason: words::waiting(job, able, on), again }
}
