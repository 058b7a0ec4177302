//! Which node a job should have. Pure: facts in, a decision with its reason out; no I/O, no clock.

pub mod admission;
mod candidates;
mod demand;
mod forecast;
pub mod local;
mod moves;
mod order;
mod plan;
mod slots;
mod words;

#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

pub use demand::Fit;
pub use forecast::{Span, Stuck, Task, Timing, forecast};
pub use moves::{recall, restart};
pub use order::{Turn, order};
pub use plan::Plan;
pub use slots::left_s;

use crate::model::{Demand, Emulation, How, Input, NodeView, Standing, Supply};

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

impl Among {
    fn allows(self, node: &NodeFacts) -> bool {
        match self {
            Self::Here => node.here,
            Self::All => true,
            Self::Others => !node.here,
        }
    }
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
    /// Whether it gets all cores of a board: see [`crate::model::Cores`].
    pub big: bool,
    /// Who asks for it: clients share the slots.
    pub client: &'a str,
    /// Seconds of work, at speed 1, from the beginning of this job to the end of what it is needed
    /// for, itself included, by the longest way; 0 if that is not known.
    pub path_s: f64,
    /// A node that it should rather not be given, as its last run there had no result.
    pub avoid: Option<&'a str>,
    /// Runs without a result, one after another.
    pub misses: u32,
    /// What has to be with a node before it begins, as far as it is worth counting.
    pub inputs: &'a [Input],
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

/// How long builds of a package take, by those that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// On native hardware of speed 1.
    pub native: Option<Duration>,
    /// On the node that emulates it fastest.
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

/// A job that a node has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// How much longer it is expected to take, in seconds, see [`left_s`]; of one that has not begun, all
    /// that it takes.
    pub left_s: f64,
    /// The path from its end on, as [`JobFacts::path_s`]; 0 if it has not begun.
    pub then_s: f64,
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
    /// How fast it is: native builds take as long as at speed 1.0, divided by this.
    pub speed: f64,
    /// Jobs that may wait there beyond the slots, so that a slot never idles for a round trip.
    pub ahead: u32,
    /// Jobs it has from here, running and waiting.
    pub assigned: u32,
    /// Those of them that get all of its cores.
    pub big: u32,
    /// Jobs it has from everyone, as far as known; at least `assigned`.
    pub busy: u32,
    /// What is known of the jobs it has, in the order in which they will end.
    pub jobs: Vec<Given>,
    /// What it lacks of the inputs of jobs.
    pub supply: Supply,
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
            speed: 1.0,
            ahead: 0,
            assigned: 0,
            big: 0,
            busy: 0,
            jobs: Vec::new(),
            supply: Supply::default(),
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

    /// How long something takes here that takes so long at speed 1.0.
    #[must_use]
    pub fn takes(&self, work: Duration) -> Duration {
        Duration::try_from_secs_f64(work.as_secs_f64() / self.speed).unwrap_or(Duration::MAX)
    }

    /// Jobs that are known to be there.
    fn taken(&self) -> u32 {
        self.busy.max(self.assigned)
    }

    /// Whether a slot is free now.
    fn has_free(&self) -> bool {
        self.taken() < self.slots
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

/// Decides where a job should go, as the only one that waits: see [`Plan`].
#[must_use]
pub fn decide(job: &JobFacts<'_>, nodes: &[NodeFacts]) -> Decision {
    Plan::new(nodes).place(job)
}
