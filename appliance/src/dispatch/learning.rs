//! What builds here teach, and what is reckoned with that.

use std::sync::{Arc, Mutex, PoisonError};

use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tracing::warn;

use super::{Dispatcher, live::Live, now_s, run::millis};
use crate::{
    learn::{Changes, Ending, Entry, Estimates, Outcome, Package, Table},
    model::{Job, JobId},
};

/// What is known of earlier builds.
pub(super) struct Learning {
    /// Of those on this node.
    own: Mutex<Arc<Table>>,
    /// What follows from that and from what other nodes tell.
    estimates: Mutex<Arc<Estimates>>,
}

impl Learning {
    pub(super) fn new(own: Table) -> Self {
        Self { own: Mutex::new(Arc::new(own)), estimates: Mutex::default() }
    }

    fn own(&self) -> Arc<Table> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Dispatcher {
    /// The number of the last thing that was learned here; 0 if nothing was.
    #[must_use]
    pub fn history(&self) -> u64 {
        self.0.learning.own().revision()
    }

    /// What was learned here since then, in this order.
    #[must_use]
    pub fn history_since(&self, revision: u64) -> Vec<Entry> {
        self.0.learning.own().since(revision)
    }

    /// What is known of nodes and packages now.
    #[must_use]
    pub fn estimates(&self) -> Arc<Estimates> {
        let sources = self.0.nodes.histories(self.0.learning.own());
        let mut known = self.0.learning.estimates.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.is_of(&sources) {
            *known = Arc::new(Estimates::of(&sources));
        }
        known.clone()
    }

    /// Learns from the end of a run, if it was one of this node's and tells anything. What that changes
    /// is to be kept.
    pub(super) fn learn(&self, id: &JobId, node: &str, result: &BuildResult) -> Option<Changes> {
        if !self.0.nodes.is_here(node) {
            return None;
        }
        let state = self.state();
        let live = state.jobs.get(id).filter(|live| live.node() == Some(node))?;
        let ending = ending(live, result)?;
        let Job { name, system, how, .. } = &live.job;
        let outcome = Outcome { package: Package::of(name, system, *how), ending, at_s: now_s() };
        let mut own = self.0.learning.own.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::make_mut(&mut own).learn(&outcome))
    }

    /// Writes what was learned, when there is time: what is lost with the power is learned again.
    pub(super) async fn keep(&self, learned: Option<Changes>) {
        let Some(learned) = learned else { return };
        if let Err(error) = self.0.queue.learn(&learned).await {
            warn!("what a build taught could not be written: {error}");
        }
    }
}

/// What the end of a run tells of its package, if it does: one that was not built, was cancelled, or may
/// pass when it is tried again tells nothing.
fn ending(live: &Live, result: &BuildResult) -> Option<Ending> {
    match result.status {
        BuildStatus::Built => {
            let took = live.building.map(|since| millis(since.elapsed()));
            let ms = live.job.build_ms.or(took)?;
            let measured = live.measured;
            let (peak_mib, output_bytes) = (measured.peak_mib, measured.output_bytes);
            Some(Ending::Built { ms, peak_mib, output_bytes })
        }
        BuildStatus::PermanentFailure
        | BuildStatus::OutputRejected
        | BuildStatus::TimedOut
        | BuildStatus::LogLimitExceeded
        | BuildStatus::NotDeterministic => Some(Ending::Failed),
        BuildStatus::Substituted
        | BuildStatus::AlreadyValid
        | BuildStatus::ResolvesToAlreadyValid
        | BuildStatus::InputRejected
        | BuildStatus::TransientFailure
        | BuildStatus::CachedFailure
        | BuildStatus::MiscFailure
        | BuildStatus::DependencyFailed
        | BuildStatus::NoSubstituters => None,
    }
}
