//! What people ask of the dispatcher: lists, reasons, logs, cancelling, stopping.

use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tokio::sync::broadcast;

use super::{Dispatcher, Live, State, now_s, run::Ending};
use crate::{
    model::{Change, JobId, JobState, JobView, Why},
    queue::{Durability, rules},
};

/// Why a job could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing matches.
    #[error("no job matches {0:?}; `roost jobs --all` lists them")]
    Unknown(String),
    /// Several match.
    #[error("{query:?} matches {count} jobs, {first} and {second} among them; give more of it")]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// How many match.
        count: usize,
        /// One of them.
        first: JobId,
        /// Another.
        second: JobId,
    },
    /// It has ended already.
    #[error("job {0} has ended already")]
    Ended(JobId),
}

impl Dispatcher {
    /// Every job, oldest first.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        let state = self.state();
        let mut jobs: Vec<_> = state.jobs.values().collect();
        jobs.sort_by_key(|live| live.turn);
        jobs.into_iter().map(|live| self.view(live)).collect()
    }

    pub(super) fn view(&self, live: &Live) -> JobView {
        let view = live.view(&|node| self.0.nodes.name(node));
        let paths = self.0.paths.as_ref().filter(|_| !live.is_done());
        let ahead = paths.and_then(|paths| paths.after(&live.job.key.drv_path));
        JobView { steps_after: ahead.map(|ahead| ahead.steps.saturating_sub(1)), ..view }
    }

    /// Jobs that run and jobs that wait.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        self.state().jobs.values().fold((0, 0), |(running, queued), live| match live.job.state {
            JobState::Running { .. } => (running + 1, queued),
            JobState::Queued => (running, queued + 1),
            JobState::Done { .. } => (running, queued),
        })
    }

    /// Jobs that a node has from here.
    #[must_use]
    pub fn assigned(&self, node: &str) -> u32 {
        let state = self.state();
        let here = state.jobs.values().filter(|live| live.node() == Some(node)).count();
        u32::try_from(here).unwrap_or(u32::MAX)
    }

    /// The one job that `query` names: by id or a beginning of it, by derivation path, or by name.
    ///
    /// # Errors
    /// If none or several match.
    pub fn find(&self, query: &str) -> Result<JobId, FindError> {
        find(&self.state(), query)
    }

    /// Why a job is where it is.
    ///
    /// # Errors
    /// If none or several match `query`.
    pub fn why(&self, query: &str) -> Result<Why, FindError> {
        let facts = self.nodes();
        let state = self.state();
        let id = find(&state, query)?;
        let live = state.jobs.get(&id).ok_or_else(|| FindError::Unknown(query.to_owned()))?;
        let candidates = match live.job.state {
            JobState::Queued => self.candidates(&state, &id, facts),
            JobState::Running { .. } | JobState::Done { .. } => live.considered().to_vec(),
        };
        let notes = live.job.notes.iter().map(|note| (note.at_s, note.text.clone())).collect();
        Ok(Why { job: self.view(live), notes, candidates })
    }

    /// The node that built a job, once it has ended.
    #[must_use]
    pub fn built_on(&self, id: &JobId) -> Option<String> {
        match &self.state().jobs.get(id)?.job.state {
            JobState::Done { node, .. } => node.clone(),
            JobState::Queued | JobState::Running { .. } => None,
        }
    }

    /// Cancels a job for everyone who waits for it.
    ///
    /// # Errors
    /// If none or several match `query`, or the job has ended.
    pub async fn cancel(&self, query: &str, who: &str) -> Result<JobId, FindError> {
        let (id, name) = {
            let mut state = self.state();
            let id = find(&state, query)?;
            let live = state.jobs.get_mut(&id).filter(|live| !live.is_done());
            let Some(live) = live else { return Err(FindError::Ended(id)) };
            live.job.note(now_s(), format!("cancelled by {who}"));
            (id, live.job.name.clone())
        };
        let message = format!("roost: {name}: cancelled by {who}");
        let result = BuildResult::failure(BuildStatus::MiscFailure, message);
        self.end(&id, result, Ending::FromOutside).await;
        Ok(id)
    }

    /// Takes note that another node has no use for a job any more. It ends when nobody else waits
    /// for it either: that node may be attached still, and others may be, too.
    ///
    /// # Errors
    /// If none or several match `query`, or the job has ended.
    pub fn abandon(&self, query: &str) -> Result<(), FindError> {
        let mut state = self.state();
        let id = find(&state, query)?;
        let live = state.jobs.get_mut(&id).filter(|live| !live.is_done());
        let Some(live) = live else { return Err(FindError::Ended(id)) };
        live.unwanted = live.attached <= 1;
        drop(state);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Whether a job has ended, or is not known any more.
    #[must_use]
    pub fn has_ended(&self, id: &JobId) -> bool {
        self.state().jobs.get(id).is_none_or(Live::is_done)
    }

    /// Returns when a job waits no longer to be given to a node: it has been, or it has ended.
    pub async fn placed(&self, id: &JobId) {
        let waits = |live: &Live| live.job.state == JobState::Queued;
        let subscribed = self.state().jobs.get(id).map(|live| live.progress.subscribe());
        let Some(mut progress) = subscribed else { return };
        while self.state().jobs.get(id).is_some_and(waits) {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells those who watch of a change.
    pub fn announce(&self, change: Change) {
        // Nobody need be watching.
        drop(self.0.changes.send(change));
    }

    /// What changes, from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Stops: nothing is accepted or placed any more, runs are ended, and their jobs are written
    /// as waiting, since they did not die.
    pub async fn stop(&self) {
        let jobs: Vec<_> = {
            let mut state = self.state();
            state.stopping = true;
            let running = state.jobs.values_mut().filter(|live| live.node().is_some());
            running
                .map(|live| {
                    if let Some(task) = live.task.take() {
                        task.abort();
                    }
                    drop(rules::put_back(&mut live.job, now_s(), "the daemon was stopped"));
                    live.job.clone()
                })
                .collect()
        };
        self.0.wake.notify_one();
        for job in &jobs {
            self.record(job, Durability::Later).await;
        }
        if let Err(error) = self.0.queue.clone().close().await {
            tracing::warn!("the queue could not be written: {error}");
        }
    }
}

fn find(state: &State, query: &str) -> Result<JobId, FindError> {
    let drv = query.strip_suffix(".drv").is_some();
    let mut found: Vec<_> = state
        .jobs
        .iter()
        .filter(|(id, live)| {
            (!query.is_empty() && id.as_str().starts_with(query))
                || live.job.name == query
                || (drv && live.job.key.drv_path.to_string().ends_with(query))
        })
        .collect();
    // Of several with one name, those that have not ended are meant.
    if found.len() > 1 && found.iter().any(|(_, live)| !live.is_done()) {
        found.retain(|(_, live)| !live.is_done());
    }
    match found.as_slice() {
        [] => Err(FindError::Unknown(query.to_owned())),
        [(id, _)] => Ok((*id).clone()),
        [(first, _), (second, _), ..] => Err(FindError::Ambiguous {
            query: query.to_owned(),
            count: found.len(),
            first: (*first).clone(),
            second: (*second).clone(),
        }),
    }
}
