//! Outputs on their way to the build hooks that asked for them.
//!
//! A hook fetches the outputs of one build over several connections, one after another or at once
//! (Nix up to 2.26 hangs up after each), so what one session knows of them, all have to.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix_compat::store_path::StorePath;

use crate::model::JobId;

/// Deliveries remembered. Those that nobody completes, since the hook was killed or had some of the
/// outputs already, make room for later ones.
const MAX_DELIVERIES: usize = 1024;

/// The outputs that hooks have yet to fetch. Clones share them.
#[derive(Clone, Default)]
pub struct Deliveries(Arc<Mutex<VecDeque<Delivery>>>);

/// The outputs of one job for one hook.
struct Delivery {
    job: JobId,
    outputs: BTreeSet<StorePath>,
    unfetched: BTreeSet<StorePath>,
}

impl Deliveries {
    /// Expects the outputs of a job to be fetched.
    pub(super) fn begin(&self, job: JobId, outputs: BTreeSet<StorePath>) {
        if outputs.is_empty() {
            return;
        }
        let mut all = self.all();
        if all.len() >= MAX_DELIVERIES {
            all.pop_front();
        }
        all.push_back(Delivery { job, unfetched: outputs.clone(), outputs });
    }

    /// The job that made a path which is being fetched; of several, the last.
    pub(super) fn made(&self, path: &StorePath) -> Option<JobId> {
        let all = self.all();
        let delivery = all.iter().rev().find(|delivery| delivery.outputs.contains(path));
        delivery.map(|delivery| delivery.job.clone())
    }

    /// Takes note that a path has been fetched; gives the job whose last output that was.
    pub(super) fn fetched(&self, path: &StorePath) -> Option<JobId> {
        let mut all = self.all();
        let at = all.iter().position(|delivery| delivery.unfetched.contains(path))?;
        all[at].unfetched.remove(path);
        if !all[at].unfetched.is_empty() {
            return None;
        }
        all.remove(at).map(|delivery| delivery.job)
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    fn job() -> JobId {
        "0123456789abcdfg".parse().unwrap()
    }

    #[test]
    fn a_job_is_delivered_with_its_last_output() {
        let deliveries = Deliveries::default();
        deliveries.begin(job(), [path("out"), path("dev")].into());
        assert_eq!(deliveries.made(&path("out")), Some(job()));
        assert_eq!(deliveries.made(&path("other")), None);
        assert_eq!(deliveries.fetched(&path("out")), None);
        assert_eq!(deliveries.made(&path("out")), Some(job()), "it may be asked about again");
        assert_eq!(deliveries.fetched(&path("dev")), Some(job()));
        assert_eq!(deliveries.made(&path("out")), None);
    }

    #[test]
    fn two_hooks_that_wait_for_one_job_each_have_it_delivered() {
        let deliveries = Deliveries::default();
        deliveries.begin(job(), [path("out")].into());
        deliveries.begin(job(), [path("out")].into());
        let ended = [(); 3].map(|()| deliveries.fetched(&path("out")));
        assert_eq!(ended, [Some(job()), Some(job()), None]);
    }

    #[test]
    fn what_nobody_fetches_is_forgotten_in_time() {
        let deliveries = Deliveries::default();
        deliveries.begin(job(), [path("first")].into());
        for n in 0..MAX_DELIVERIES {
            deliveries.begin(job(), [path(&n.to_string())].into());
        }
        assert_eq!(deliveries.made(&path("first")), None);
        assert_eq!(deliveries.made(&path("0")), Some(job()));
    }
}
