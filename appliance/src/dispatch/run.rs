//! The life of a started job: its executor, its verdict, its end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tokio::{sync::watch, task::AbortHandle, time::Instant};
use tracing::{info, warn};

use super::{Dispatcher, Live, live::Progress, now_ms, now_s};
use crate::{
    execute::{Execute, Measured, Order, Report, Stage, Verdict},
    model::{Change, Cores, Job, JobId, JobState, Payload, Sent, Site},
    queue::{
        Durability,
        roots::Roots,
        rules::{self, AfterDeath},
    },
};

/// How long a job whose run had no result waits before it is placed again: a node that is in
/// trouble is not asked at once. Doubled with each such run in a row, [`DOUBLINGS`] times at most.
const PAUSE: Duration = Duration::from_secs(1);
/// To 32 s.
const DOUBLINGS: u32 = 5;

/// A rule of the queue for a run without a result.
type Rule = fn(&mut Job, u64, &str) -> Result<AfterDeath, rules::Impossible>;

fn put_back(job: &mut Job, at_s: u64, why: &str) -> Result<AfterDeath, rules::Impossible> {
    rules::put_back(job, at_s, why).map(|()| AfterDeath::Queued)
}

/// Who ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// What ran it.
    ByExecutor,
    /// Somebody or something else, whether it runs or not.
    FromOutside,
}

/// Tells clients and the log how a job goes.
struct Reporter {
    dispatcher: Dispatcher,
    id: JobId,
}

impl Report for Reporter {
    fn accepted(&mut self) {
        if let Some(live) = self.dispatcher.state().jobs.get_mut(&self.id) {
            live.stranded = None;
        }
    }

    fn built(&mut self) {
        if let Some(live) = self.dispatcher.state().jobs.get_mut(&self.id) {
            live.vacated = true;
            live.job.build_ms = live.building.map(|since| millis(since.elapsed()));
            live.job.course.is_built(now_ms());
        }
        self.dispatcher.0.wake.notify_one();
    }

    fn supplied(&mut self, sent: Option<Sent>) {
        self.dispatcher.supplied(&self.id, sent);
    }

    fn measured(&mut self, measured: Measured) {
        if let Some(live) = self.dispatcher.state().jobs.get_mut(&self.id) {
            live.measured = measured;
        }
    }

    fn stage(&mut self, stage: Stage) {
        let mut state = self.dispatcher.state();
        let Some(live) = state.jobs.get_mut(&self.id) else { return };
        let course = &mut live.job.course;
        match &stage {
            Stage::Waiting(_) => course.ships_nothing(now_ms()),
            Stage::Shipping { .. } => course.ships(now_ms()),
            Stage::Building { .. } => course.builds(now_ms()),
            Stage::Fetching { .. } => {}
        }
        if matches!(stage, Stage::Building { .. }) {
            live.misses = 0;
            live.stranded = None;
            live.building.get_or_insert_with(Instant::now);
        }
        if live.show(Progress::At(stage)) {
            drop(state);
            self.dispatcher.job_changed(&self.id);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(live) = self.dispatcher.state().jobs.get_mut(&self.id) {
            live.line(line);
        }
    }
}

impl Dispatcher {
    pub(super) async fn run_job(self, id: JobId, node: String, executor: Arc<dyn Execute>) {
        let Some(job) = self.begun(&id, &node) else { return };
        // On disk while the build runs: if the power goes before that, nothing was begun.
        let recorded = self.record(&job, Durability::Now);
        let mut one = false;
        let verdict = match self.order(&job).await {
            Ok(order) => {
                // A target may be many derivations, one after the other.
                one = matches!(order.payload, Payload::Derivation(_));
                let mut reporter = Reporter { dispatcher: self.clone(), id: id.clone() };
                let run = AssertUnwindSafe(executor.run(order, &mut reporter)).catch_unwind();
                let (verdict, ()) = tokio::join!(run, recorded);
                let verdict = verdict.unwrap_or_else(|_| {
                    Verdict::Died("roost itself failed (a panic, see its journal)".to_owned())
                });
                if let Verdict::Died(why) | Verdict::Lost(why) = &verdict {
                    reporter.line(format!("roost: {why}").as_bytes());
                }
                verdict
            }
            Err(why) => Verdict::Ended(Box::new(BuildResult::failure(
                BuildStatus::TransientFailure,
                format!("roost: {}: {why}", job.name),
            ))),
        };
        match verdict {
            Verdict::Ended(result) => {
                let learned = one.then(|| self.learn(&id, &node, &result)).flatten();
                tokio::join!(self.keep(learned), self.end(&id, *result, Ending::ByExecutor));
            }
            Verdict::Died(why) => self.interrupted(&id, &node, &why, rules::died).await,
            Verdict::Lost(why) => self.interrupted(&id, &node, &why, put_back).await,
        }
    }

    /// The record of a job whose run begins.
    fn begun(&self, id: &JobId, node: &str) -> Option<Job> {
        let mut state = self.state();
        let job = &mut state.jobs.get_mut(id)?.job;
        job.course.begins(node, now_ms());
        Some(job.clone())
    }

    async fn order(&self, job: &Job) -> Result<Order, String> {
        let (at_hand, cores) = match self.state().jobs.get_mut(&job.id()) {
            Some(live) => (live.payload.take(), live.cores),
            None => (None, Cores::Share),
        };
        let order =
            |payload| Order { key: job.key.clone(), payload, client: job.client.clone(), cores };
        if let Some(payload) = at_hand {
            return Ok(order(payload));
        }
        match self.0.queue.payload(&job.id()).await {
            Ok(Some(payload)) => Ok(order(payload)),
            Ok(None) => Err("its derivation is not in the queue's database any more".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A run ended without a result; `rule` says what that makes of the job.
    async fn interrupted(&self, id: &JobId, node: &str, why: &str, rule: Rule) {
        warn!(job = %id, node, "{why}");
        let (job, after) = {
            let mut state = self.state();
            let Some(live) = state.jobs.get_mut(id) else { return };
            live.task = None;
            live.vacated = false;
            live.building = None;
            live.measured = Measured::default();
            live.since = Instant::now();
            let Ok(after) = rule(&mut live.job, now_s(), why) else { return };
            match &live.job.state {
                JobState::Done { result, .. } => {
                    let result = result.clone();
                    live.job.course.ends(now_ms());
                    live.log = None;
                    live.show(Progress::Ended(result));
                    if live.attached > 0 {
                        live.collect_failure();
                    }
                }
                JobState::Queued | JobState::Running { .. } => {
                    let now = Instant::now();
                    let pause = PAUSE * (1 << live.misses.min(DOUBLINGS));
                    live.misses = live.misses.saturating_add(1);
                    live.avoid = Some(node.to_owned());
                    live.not_before = Some(now + pause);
                    live.stranded.get_or_insert(now);
                    let waiting = format!("{why}; it will be tried again");
                    live.show(Progress::At(Stage::Waiting(waiting)));
                }
            }
            (live.job.clone(), after)
        };
        self.record(&job, Durability::Later).await;
        self.0.wake.notify_one();
        self.job_changed(id);
        if after == AfterDeath::GivenUp {
            self.tell_paths(&job, false);
            self.release_roots(id).await;
        }
    }

    /// Ends a job: with its executor's result, or from outside (`refused`), which ends its run. The
    /// record is written when there is time, since a job whose end is lost with the power is asked
    /// for again, and its outputs are found valid.
    pub(super) async fn end(&self, id: &JobId, result: BuildResult, how: Ending) {
        let success = result.is_success();
        info!(job = %id, status = result.status.name(), "ended");
        let (job, node) = {
            let mut state = self.state();
            let Some(live) = state.jobs.get_mut(id) else { return };
            let node = live.node().map(str::to_owned);
            let at_s = now_s();
            let mut course = live.job.course.clone();
            let ended = match (how, &live.job.state) {
                (Ending::FromOutside, JobState::Running { .. }) => {
                    rules::put_back(&mut live.job, at_s, "ended from outside")
                        .and_then(|()| rules::refuse(&mut live.job, result, at_s))
                }
                (Ending::FromOutside, _) => rules::refuse(&mut live.job, result, at_s),
                (Ending::ByExecutor, _) => {
                    let took = live.building.map(|since| millis(since.elapsed()));
                    live.job.build_ms = live.job.build_ms.or(took);
                    rules::finish(&mut live.job, result, at_s)
                }
            };
            let JobState::Done { result, .. } = &live.job.state else { return };
            if ended.is_err() {
                return;
            }
            let result = result.clone();
            course.ends(now_ms());
            live.job.course = course;
            live.awaited = live.attached > 0;
            let task = live.task.take();
            match how {
                Ending::ByExecutor => live.keep_failure(),
                // At once, lest the run's record of its start follows that of the end.
                Ending::FromOutside => task.iter().for_each(AbortHandle::abort),
            }
            live.log = None;
            live.payload = None;
            live.consider(Vec::new());
            live.show(Progress::Ended(result));
            (live.job.clone(), node)
        };
        self.tell_paths(&job, success);
        // Its slot is free: who comes next does not wait for the disk.
        self.0.wake.notify_one();
        self.record(&job, Durability::Later).await;
        self.job_changed(id);
        if !success || job.key.site == Site::Elsewhere {
            self.release_roots(id).await;
        }
        self.prune().await;
        if how == Ending::FromOutside {
            if let Some(node) = node {
                self.0.nodes.forget(&node, &job.key);
            }
        }
    }

    fn tell_paths(&self, job: &Job, built: bool) {
        if let Some(paths) = &self.0.paths {
            paths.ended(&job.key.drv_path, built);
        }
    }

    /// Forgets the oldest finished jobs beyond the queue's limits, and the oldest logs beyond theirs.
    async fn prune(&self) {
        let gone = match self.0.queue.prune(now_s()).await {
            Ok(gone) => gone,
            Err(error) => return warn!("old jobs could not be forgotten: {error}"),
        };
        let due = self.0.logs.prune_is_due();
        if gone.is_empty() && !due {
            return;
        }
        // Who asks for one of them meanwhile waits until nothing of it is left. One that was asked
        // for again since the queue forgot it is another job.
        let (_forgotten, watcher) = watch::channel(());
        let gone: Vec<JobId> = {
            let mut state = self.state();
            let old = gone.into_iter().filter(|id| {
                !state.busy.contains_key(id) && state.jobs.get(id).is_none_or(Live::is_done)
            });
            let old: Vec<JobId> = old.collect();
            for id in &old {
                state.jobs.remove(id);
                state.busy.insert(id.clone(), watcher.clone());
            }
            old
        };
        let (logs, ids) = (self.0.logs.clone(), gone.clone());
        let forget = move |roots: &Roots| {
            for id in &ids {
                logs.remove(id).unwrap_or_else(|error| warn!("{error}"));
                roots.release(id).unwrap_or_else(|error| warn!("{error}"));
            }
            if due {
                logs.prune().map_or_else(|error| warn!("{error}"), drop);
            }
            Ok(())
        };
        if let Err(error) = self.roots(forget).await {
            warn!("what old jobs left could not be removed: {error}");
        }
        let mut state = self.state();
        for id in &gone {
            state.busy.remove(id);
        }
    }

    /// Writes a record. What cannot be written now is remembered by the queue and written later.
    pub(super) async fn record(&self, job: &Job, durability: Durability) {
        if let Err(error) = self.0.queue.update(job, durability).await {
            warn!(job = %job.id(), "its state could not be written: {error}");
        }
    }

    /// Lets go of what is held for a job that has ended. Should it be asked for again meanwhile, it
    /// is accepted afterwards; if it has been already, it needs the same again.
    pub(super) async fn release_roots(&self, id: &JobId) {
        let (_released, watcher) = watch::channel(());
        {
            let mut state = self.state();
            let open = state.jobs.get(id).is_some_and(|live| !live.is_done());
            if open || state.busy.contains_key(id) {
                return;
            }
            state.busy.insert(id.clone(), watcher);
        }
        self.remove_roots(id).await;
        self.state().busy.remove(id);
    }

    pub(super) async fn remove_roots(&self, id: &JobId) {
        let job = id.clone();
        if let Err(error) = self.roots(move |roots| roots.release(&job)).await {
            warn!(job = %id, "its garbage-collection roots could not be removed: {error}");
        }
    }

    pub(super) fn job_changed(&self, id: &JobId) {
        let view = self.state().jobs.get(id).map(|live| self.view(live));
        if let Some(view) = view {
            self.announce(Change::Job(view));
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
