//! Brings jobs and executors together.
//!
//! [`Dispatcher`] accepts jobs ([`crate::model::Builds`]), keeps them in the queue, asks
//! [`crate::place`] where each should go whenever something has changed, runs them on executors
//! and tells attached clients. All of its state is behind one mutex that is never held across an
//! await; one task, [`Dispatcher::run`], does the placing, one task runs each started job, and
//! one task feeds each attached client.

mod accept;
mod advise;
mod control;
mod feed;
mod foresee;
mod learning;
mod live;
mod moves;
mod outlook;
mod pump;
mod reckon;
mod run;
mod supply;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use nix_compat::{nix_daemon::PathInfo, store_path::StorePath};
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    execute::Execute,
    learn::{Source, Stocks, Table},
    model::{Ahead, Change, Demand, Job, JobId, JobKey, JobState},
    place::{NodeFacts, Policy, local::LocalFacts},
    queue::{
        Queue, Recovery,
        logs::{Logs, Start},
        roots::{Roots, RootsError},
    },
};
use advise::Memory;
pub use control::FindError;
pub use foresee::Foresight;
use learning::Learning;
use live::Live;
pub use outlook::NoOutlook;

/// The nodes that jobs can be given to, as they are now.
pub trait Nodes: Send + Sync {
    /// Facts of each; `assigned` is filled in by the dispatcher.
    fn facts(&self) -> Vec<NodeFacts>;
    /// The executor of one of them.
    fn executor(&self, node: &str) -> Option<Arc<dyn Execute>>;
    /// Tells a node that a job is not wanted there any more, now or when it can be reached again. Of
    /// what this node runs itself, the end of the run says so.
    fn forget(&self, node: &str, key: &JobKey);
    /// The local Nix as a builder of what its own clients want; none if it takes no part.
    fn local(&self) -> Option<LocalFacts>;
    /// Whether it is this node itself, or a part of it.
    fn is_here(&self, node: &str) -> bool;
    /// The name people know a node by, whether it is there now or not.
    fn name(&self, node: &str) -> Option<String>;
    /// What each node has told of its builds, those that have told nothing included; `own` is what was
    /// learned on this one.
    fn histories(&self, own: Arc<Table>) -> Vec<Source>;
}

/// The store that inputs must be in before a job is accepted.
pub trait Inputs: Send + Sync {
    /// Those of `paths` that are not valid. An error is the reason why that could not be found out.
    fn missing<'a>(
        &'a self,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>>;
}

/// The stores that inputs are in. An error is the reason why nothing was found out.
pub trait Stores: Send + Sync {
    /// What the local store says of paths, in the order of `paths`; none of what is not there.
    fn infos<'a>(
        &'a self,
        paths: &'a [StorePath],
    ) -> BoxFuture<'a, Result<Vec<Option<PathInfo>>, String>>;

    /// Those of `paths` that are valid at a board.
    fn valid_at<'a>(
        &'a self,
        board: &'a str,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>>;
}

/// What is to be done after a derivation, for the client that waits for it.
pub trait Paths: Send + Sync {
    /// The longest way from a derivation to what was asked for; none if it is not known, now or at all.
    /// [`Dispatcher::look_again`] tells that answers have changed.
    fn after(&self, drv: &StorePath) -> Option<Ahead>;

    /// Takes note of the end of a derivation's job: built, or not.
    fn ended(&self, drv: &StorePath, built: bool);
}

/// How long things wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A job nobody waits for is cancelled after this.
    pub orphan_grace: Duration,
    /// Outputs nobody fetches are let go after this.
    pub output_grace: Duration,
    /// A job whose every possible node is away fails after this.
    pub away: Duration,
}

/// What a dispatcher works with.
pub struct Parts {
    /// The durable queue.
    pub queue: Queue,
    /// What opening the queue found.
    pub recovery: Recovery,
    /// Garbage-collection roots.
    pub roots: Roots,
    /// Job logs.
    pub logs: Logs,
    /// Executors.
    pub nodes: Arc<dyn Nodes>,
    /// Where inputs are checked before acceptance; `None` on a node that ships them later.
    pub inputs: Option<Arc<dyn Inputs>>,
    /// Where inputs are; `None` on a node that sends none.
    pub stores: Option<Arc<dyn Stores>>,
    /// What comes after each job; `None` on a node that nobody asks from its own store.
    pub paths: Option<Arc<dyn Paths>>,
    /// Unfinished jobs held at most.
    pub max_jobs: usize,
    /// How long things wait.
    pub patience: Patience,
    /// When jobs for a system may be emulated.
    pub policy: Policies,
    /// Where jobs are to be built.
    pub rules: Rules,
}

/// What a rule is told of a job.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The derivation's name without `.drv`.
    pub name: &'a str,
    /// Nix's word for what it runs on.
    pub system: &'a str,
    /// `requiredSystemFeatures`.
    pub features: &'a BTreeSet<String>,
}

/// Where the configuration wants jobs to be built.
pub type Rules = Box<dyn Fn(Asked<'_>) -> Demand + Send + Sync>;

/// Policies by system.
pub type Policies = Box<dyn Fn(&str) -> Policy + Send + Sync>;

/// The dispatcher. Clones share it.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    queue: Queue,
    roots: Roots,
    logs: Logs,
    nodes: Arc<dyn Nodes>,
    inputs: Option<Arc<dyn Inputs>>,
    stores: Option<Arc<dyn Stores>>,
    stocks: Mutex<Stocks>,
    paths: Option<Arc<dyn Paths>>,
    max_jobs: usize,
    patience: Patience,
    policy: Policies,
    learning: Learning,
    rules: Rules,
    state: Mutex<State>,
    /// Something changed that placement should look at.
    wake: Notify,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobId, Live>,
    /// Jobs on their way into the queue, and those whose roots are being removed; the sender is
    /// dropped when that has ended.
    busy: HashMap<JobId, watch::Receiver<()>>,
    /// What the local Nix was told a short time ago.
    advised: Memory,
    /// Order of acceptance.
    next_turn: u64,
    stopping: bool,
}

impl State {
    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    fn open_jobs(&self) -> usize {
        self.jobs.values().filter(|live| !live.is_done()).count()
    }
}

impl Dispatcher {
    /// Makes a dispatcher that goes on where the last one stopped.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut state = State::default();
        // Recovery lists them by their acceptance.
        for job in parts.recovery.jobs {
            let turn = state.turn();
            let log = match &job.state {
                JobState::Done { .. } => None,
                // A log that cannot be opened is no reason not to build.
                _ => parts.logs.writer(&job.id(), Start::Continue).ok(),
            };
            let demand = demanded(&parts.rules, &job);
            state.jobs.insert(job.id(), Live::new(job, demand, turn, log));
        }
        Self(Arc::new(Inner {
            queue: parts.queue,
            roots: parts.roots,
            logs: parts.logs,
            nodes: parts.nodes,
            inputs: parts.inputs,
            stores: parts.stores,
            stocks: Mutex::default(),
            paths: parts.paths,
            max_jobs: parts.max_jobs,
            patience: parts.patience,
            policy: parts.policy,
            learning: Learning::new(parts.recovery.history),
            rules: parts.rules,
            state: Mutex::new(state),
            wake: Notify::new(),
            changes: broadcast::channel(64).0,
        }))
    }

    /// Has waiting jobs looked at: a node has changed, or what comes after a job.
    pub fn look_again(&self) {
        self.0.wake.notify_one();
    }

    /// Does something with the garbage-collection roots: file operations that wait for the medium.
    async fn roots<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Roots) -> Result<T, RootsError> + Send + 'static,
    ) -> Result<T, String> {
        let roots = self.0.roots.clone();
        match tokio::task::spawn_blocking(move || act(&roots)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A part of the daemon that panicked ends the daemon, and its queue lasts: what is half
        // changed in memory is not used for long.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What whoever asked and the configuration together ask of a job's place.
fn demanded(rules: &Rules, job: &Job) -> Demand {
    let Job { name, system, features, .. } = job;
    rules(Asked { name, system, features }).and(&job.demand)
}

/// Seconds since 1970; 0 if the clock is before that.
pub(crate) fn now_s() -> u64 {
    now_ms() / 1000
}

/// Milliseconds since 1970; 0 if the clock is before that.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
