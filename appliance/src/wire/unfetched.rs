//! Which outputs clients have yet to fetch before their job is done with.
//!
//! A client may fetch them on other connections than the one it asked on: stock Nix up to 2.26 hangs
//! up after each output, and another node uses whichever of its channels is free.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix_compat::{nix_daemon::BuildResult, store_path::StorePath};

use super::{jobs::Ended, targets::Outputs};
use crate::model::JobId;

/// Jobs remembered. Of one that nobody fetches, the outputs are let go in time by whoever holds them.
const MAX_JOBS: usize = 1024;

type Jobs = VecDeque<(JobId, BTreeSet<StorePath>)>;

/// The jobs that ended well, each with the outputs that are not fetched yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Unfetched(Arc<Mutex<Jobs>>);

impl Unfetched {
    /// Expects `outputs` of a job to be fetched; nothing is expected of a job without any.
    fn expect(&self, id: JobId, outputs: BTreeSet<StorePath>) {
        let mut jobs = self.jobs();
        jobs.retain(|(known, _)| *known != id);
        if outputs.is_empty() {
            return;
        }
        if jobs.len() >= MAX_JOBS {
            jobs.pop_front();
        }
        jobs.push_back((id, outputs));
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Unfetched::expect`] for a job, unless it was refused. Returns its result.
    pub(super) fn expect_of(&self, ended: Ended, outputs: Outputs) -> BuildResult {
        let Ended { id, result } = ended;
        if let Some(id) = id {
            self.expect(id, outputs.paths(&result));
        }
        result
    }

    /// Whether outputs of a job are expected to be fetched.
    pub(super) fn expects(&self, id: &JobId) -> bool {
        self.jobs().iter().any(|(known, _)| known == id)
    }

    /// Whether a job waits for this output to be fetched.
    pub(super) fn awaits(&self, path: &StorePath) -> bool {
        self.jobs().iter().any(|(_, outputs)| outputs.contains(path))
    }

    /// Takes note that an output has been fetched, and returns the jobs that are complete by that.
    pub(super) fn fetched(&self, path: &StorePath) -> Vec<JobId> {
        let mut jobs = self.jobs();
        let mut complete = Vec::new();
        jobs.retain_mut(|(id, outputs)| {
            let last = outputs.remove(path) && outputs.is_empty();
            complete.extend(last.then(|| id.clone()));
            !last
        });
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    #[test]
    fn a_job_is_complete_when_its_last_output_is_fetched() {
        let [one, two]: [JobId; 2] =
            ["0123456789abcdfg", "1123456789abcdfg"].map(|id| id.parse().unwrap());
        let unfetched = Unfetched::default();
        unfetched.expect(one.clone(), [path("a"), path("b")].into());
        unfetched.expect(two.clone(), [path("b")].into());
        unfetched.expect("2123456789abcdfg".parse().unwrap(), BTreeSet::new());
        assert!(unfetched.awaits(&path("a")) && !unfetched.awaits(&path("c")));
        assert!(unfetched.expects(&one));
        assert_eq!(unfetched.fetched(&path("c")), []);
        assert_eq!(unfetched.fetched(&path("b")), [two]);
        assert_eq!(unfetched.fetched(&path("b")), []);
        assert!(unfetched.clone().awaits(&path("a")), "whichever session asks");
        let complete = unfetched.fetched(&path("a"));
        assert_eq!(complete, [one]);
        assert!(!unfetched.expects(&complete[0]));
        assert!(!unfetched.awaits(&path("a")));
    }
}
