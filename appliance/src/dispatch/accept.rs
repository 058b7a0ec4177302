//! The way into the queue: a job is promised once its record is on disk.

use std::{collections::BTreeSet, sync::Arc};

use nix_compat::store_path::StorePath;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{Dispatcher, Live, demanded, feed, now_ms, now_s};
use crate::{
    model::{
        Builds, Course, Demand, How, Job, JobId, JobState, Outputs, Payload, Refusal, Site, Size,
        Submission, Ticket,
    },
    queue::{Durability, QueueError, logs::Start, rules},
};

/// Events a slow client may lag behind before its feed waits for it.
const FEED_DEPTH: usize = 64;

/// Jobs whose payloads are kept in memory until they start, so that a start need not wait for the
/// queue's disk: more than a board builds at once. Most derivations are a few KiB.
const PAYLOADS_AT_HAND: usize = 32;

/// What to do with a submission, decided under the lock.
enum Step {
    Attach(Ticket),
    WaitForOther(watch::Receiver<()>),
    Accept(watch::Sender<()>),
}

impl Builds for Dispatcher {
    async fn submit(&self, submission: Submission) -> Result<Ticket, Refusal> {
        let id = submission.key.id();
        loop {
            match self.step(&id, &submission)? {
                Step::Attach(ticket) => return Ok(ticket),
                Step::WaitForOther(mut ended) => {
                    // The sender is dropped, never used: an error is the end.
                    let _ = ended.changed().await;
                }
                Step::Accept(ended) => {
                    // In a task of its own, so that a client that vanishes meanwhile cannot leave
                    // a record on disk that memory knows nothing of.
                    let this = self.clone();
                    let task = tokio::spawn(async move {
                        let result = this.accept(submission).await;
                        this.state().busy.remove(&result.0);
                        drop(ended);
                        result.1
                    });
                    return task.await.unwrap_or(Err(Refusal::Stopping));
                }
            }
        }
    }

    async fn fetched(&self, id: &JobId) {
        self.let_go(id, Some(now_ms())).await;
    }
}

impl Dispatcher {
    /// Holds the outputs of a job no longer: they have been fetched, or were held for long enough.
    pub(super) async fn let_go(&self, id: &JobId, fetched_ms: Option<u64>) {
        let job = {
            let mut state = self.state();
            let Some(live) = state.jobs.get_mut(id) else { return };
            let held = matches!(live.job.state, JobState::Done { outputs: Outputs::Held, .. });
            if !held || rules::release_outputs(&mut live.job).is_err() {
                return;
            }
            live.job.course.fetched_ms = fetched_ms.filter(|_| live.awaited);
            live.job.clone()
        };
        self.record(&job, Durability::Later).await;
        self.release_roots(id).await;
    }

    fn step(&self, id: &JobId, submission: &Submission) -> Result<Step, Refusal> {
        let forwarded = submission.forwarded;
        let mut state = self.state();
        if state.stopping {
            return Err(Refusal::Stopping);
        }
        // What panicked has closed its channel and is nothing to wait for.
        if let Some(ended) = state.busy.get(id).filter(|ended| ended.has_changed().is_ok()) {
            return Ok(Step::WaitForOther(ended.clone()));
        }
        if let Some(live) = state.jobs.get_mut(id).filter(|live| live.answers()) {
            let sent_on = live.node().filter(|node| forwarded && !self.0.nodes.is_here(node));
            if let Some(node) = sent_on {
                let name = self.0.nodes.name(node).unwrap_or_else(|| node.to_owned());
                return Err(Refusal::SentOn(name));
            }
            live.job.forwarded |= forwarded;
            if live.job.demand != submission.demand {
                self.wanted_elsewhere(live, &submission.demand);
            }
            return Ok(Step::Attach(self.attach(live)));
        }
        let held = state.open_jobs() + state.busy.len();
        if held >= self.0.max_jobs {
            return Err(Refusal::Full { held });
        }
        let (ended, watcher) = watch::channel(());
        state.busy.insert(id.clone(), watcher);
        Ok(Step::Accept(ended))
    }

    /// A job that is there is asked for with another demand. It is left as it is, unless nobody else
    /// waits for it and it has not begun. (The record on disk follows when it begins.)
    fn wanted_elsewhere(&self, live: &mut Live, demand: &Demand) {
        let words = if demand.is_empty() { "anywhere".to_owned() } else { demand.to_string() };
        if live.is_for_the_taking() {
            live.job.note(now_s(), format!("asked for again: {words}"));
            live.job.demand.clone_from(demand);
            live.demand = demanded(&self.0.rules, &live.job);
            self.0.wake.notify_one();
        } else if !demand.is_empty() && !live.is_done() {
            live.job.note(now_s(), format!("asked for again: {words}; it is left as it is"));
        }
    }

    async fn accept(&self, submission: Submission) -> (JobId, Result<Ticket, Refusal>) {
        let id = submission.key.id();
        let result = self.write(&id, submission).await;
        if let Err(refusal) = &result {
            warn!(job = %id, "refused: {refusal}");
            self.remove_roots(&id).await;
        }
        (id, result)
    }

    /// Holds the inputs, checks that they are there, and writes the record, in this order: what
    /// is held cannot vanish after the check.
    async fn write(&self, id: &JobId, submission: Submission) -> Result<Ticket, Refusal> {
        let inputs = inputs(&submission);
        let (held, job) = (inputs.clone(), id.clone());
        self.roots(move |roots| roots.hold_inputs(&job, &held)).await.map_err(Refusal::Disk)?;
        // What goes to a board is sent there with its inputs.
        let store = self.0.inputs.as_ref().filter(|_| submission.key.site == Site::Here);
        if let Some(store) = store {
            let missing = store.missing(&inputs).await.map_err(Refusal::Disk)?;
            if let Some(example) = missing.first() {
                let example = example.to_string();
                return Err(Refusal::InputsGone { missing: missing.len(), example });
            }
        }
        let accepted_ms = now_ms();
        let mut job = Job {
            name: submission.key.drv_path.name().trim_end_matches(".drv").to_owned(),
            key: submission.key,
            system: submission.system,
            size: size(&submission.payload, &submission.features),
            features: submission.features,
            client: submission.client,
            accepted_s: accepted_ms / 1000,
            deaths: 0,
            forwarded: submission.forwarded,
            demand: submission.demand,
            how: How::default(),
            build_ms: None,
            course: Course::of_accepted(accepted_ms),
            state: JobState::Queued,
            notes: Vec::new(),
        };
        job.note(job.accepted_s, format!("accepted from {}", job.client.label));
        let (accepted, inputs) =
            tokio::join!(self.0.queue.accept(&job, &submission.payload), async {
                match job.key.site {
                    Site::Elsewhere => self.survey(inputs).await,
                    // Nothing has to be sent.
                    Site::Here => Arc::default(),
                }
            });
        accepted.map_err(|error| match error {
            QueueError::Full { held } => Refusal::Full { held },
            error => Refusal::Disk(error.to_string()),
        })?;
        info!(job = %id, name = job.name, system = job.system, client = job.client.label, "accepted");
        // The job is promised by now: a log that cannot be kept is no reason not to build.
        let log = self.0.logs.writer(id, Start::Fresh);
        let log = log.inspect_err(|error| warn!(job = %id, "it has no log: {error}")).ok();
        let ticket = {
            let mut state = self.state();
            let turn = state.turn();
            state.advised.arrived(&job.key.drv_path);
            let demand = demanded(&self.0.rules, &job);
            let mut live = Live::new(job, demand, turn, log);
            live.inputs = inputs;
            let few = state.open_jobs() < PAYLOADS_AT_HAND;
            live.payload = few.then_some(submission.payload);
            let ticket = self.attach(&mut live);
            state.jobs.insert(id.clone(), live);
            ticket
        };
        self.0.wake.notify_one();
        self.job_changed(id);
        Ok(ticket)
    }

    /// Attaches a client; its feed runs until the job has ended or the client has gone.
    fn attach(&self, live: &mut Live) -> Ticket {
        let id = live.job.id();
        live.attached += 1;
        live.unattended = None;
        live.unwanted = false;
        live.collect_failure();
        let (sender, events) = mpsc::channel(FEED_DEPTH);
        let feed = feed::Feed::new(&live.job, live.progress.subscribe(), self.0.logs.follow(&id));
        let (this, job, turn) = (self.clone(), id.clone(), live.turn);
        tokio::spawn(async move {
            feed.run(sender).await;
            this.detach(&job, turn);
        });
        Ticket { id, events }
    }

    /// `turn` tells the job that the client was attached to from a later one of the same id.
    fn detach(&self, id: &JobId, turn: u64) {
        let mut state = self.state();
        if let Some(live) = state.jobs.get_mut(id).filter(|live| live.turn == turn) {
            live.attached = live.attached.saturating_sub(1);
            if live.attached == 0 && !live.is_done() {
                live.unattended = Some(tokio::time::Instant::now());
            }
        }
        drop(state);
        // A grace period has begun, which is a deadline for the pump.
        self.0.wake.notify_one();
        self.job_changed(id);
    }
}

/// What a derivation says of how long its build takes.
fn size(payload: &Payload, features: &BTreeSet<String>) -> Size {
    match payload {
        Payload::Derivation(derivation) => {
            Size::of(derivation.is_fixed_output(), derivation.prefer_local_build(), features)
        }
        Payload::Target(_) => Size::of(false, false, features),
    }
}

/// Everything the job needs in the store.
fn inputs(submission: &Submission) -> BTreeSet<StorePath> {
    match &submission.payload {
        Payload::Derivation(derivation) => derivation.input_srcs.clone(),
        Payload::Target(_) => BTreeSet::from([submission.key.drv_path.clone()]),
    }
}
