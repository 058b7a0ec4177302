//! Places waiting jobs whenever something has changed, and keeps the deadlines.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tokio::time::Instant;
use tracing::info;

use super::{Dispatcher, Live, State, history::History, live::Progress, now_s, run::Ending};
use crate::{
    execute::Stage,
    model::{ANYWHERE, Demand, Emulation, How, Job, JobId, JobKey, JobState, Outputs, Site},
    place::{self, Among, Decision, JobFacts, NodeFacts, Times, WaitFor},
    queue::rules,
};

/// A job to be started, which counts as running from the moment it was placed: nothing that takes
/// time may come in between.
struct Start {
    id: JobId,
    node: String,
}

/// What else the pump does once the lock is released.
enum Action {
    End { id: JobId, result: BuildResult },
    Release { id: JobId },
    Forget { key: JobKey, node: String },
}

/// Jobs that ask for the same, and have waited long enough or not, are decided once a round: facts
/// only get tighter within one.
type Decided = HashMap<(Among, Demand, String, BTreeSet<String>, bool), (WaitFor, String)>;

impl Dispatcher {
    /// Places jobs until the dispatcher is stopped.
    pub async fn run(&self) {
        loop {
            let (starts, actions, deadline) = self.round(Instant::now());
            for Start { id, node } in starts {
                self.start(&id, &node);
            }
            for action in actions {
                match action {
                    Action::End { id, result } => self.end(&id, result, Ending::FromOutside).await,
                    Action::Release { id } => {
                        use crate::model::Builds as _;
                        self.fetched(&id).await;
                    }
                    Action::Forget { key, node } => self.0.nodes.forget(&node, &key),
                }
            }
            match deadline {
                Some(deadline) => tokio::select! {
                    () = self.0.wake.notified() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                },
                None => self.0.wake.notified().await,
            }
        }
    }

    /// One look at everything: what to do now, and when to look again at the latest.
    fn round(&self, now: Instant) -> (Vec<Start>, Vec<Action>, Option<Instant>) {
        let mut facts = self.0.nodes.facts();
        let mut state = self.state();
        if state.stopping {
            return (Vec::new(), Vec::new(), None);
        }
        count_assigned(&state, &mut facts);
        let mut round = Round { now, starts: Vec::new(), actions: Vec::new(), deadline: None };
        // Those that have ended are many, and have nothing to wait for but their outputs' release.
        let mut order = Vec::new();
        for (id, live) in &state.jobs {
            if live.is_done() {
                self.deadlines(live, &mut round);
            } else {
                order.push((live.turn, id.clone()));
            }
        }
        order.sort_unstable();
        let mut decided = Decided::new();
        let mut ahead: HashMap<String, usize> = HashMap::new();
        let mut movable = Vec::new();
        let mut history = History::default();
        for (_, id) in order {
            let times = self.times(&mut history, &state, &id);
            let Some(live) = state.jobs.get_mut(&id) else { continue };
            if self.deadlines(live, &mut round) {
                continue;
            }
            if live.job.state == JobState::Queued {
                let ahead = ahead.entry(live.job.system.clone()).or_default();
                self.place(live, times, &mut facts, &mut decided, *ahead, &mut round);
                *ahead += usize::from(live.job.state == JobState::Queued);
            } else if live.may_move() {
                movable.push(id);
            }
        }
        // Afterwards: a slot that a waiting job takes is no reason to move another one.
        for id in movable {
            let times = self.times(&mut history, &state, &id);
            let Some(live) = state.jobs.get_mut(&id) else { continue };
            let (job, demand) = (live.job.clone(), live.demand.clone());
            let job = self.job_facts(&job, &demand, times, live.waited(now));
            if Self::reconsider(live, &job, &mut facts, &mut round) {
                self.place(live, times, &mut facts, &mut Decided::new(), 0, &mut round);
            }
        }
        (round.starts, round.actions, round.deadline)
    }

    /// How long builds like a job's took, where that may change its place.
    fn times(&self, history: &mut History, state: &State, id: &JobId) -> Times {
        let job = state.jobs.get(id).map(|live| &live.job);
        let asked =
            job.filter(|job| (self.0.policy)(&job.system).emulation == Emulation::WhenFaster);
        asked.map_or_else(Times::default, |job| history.times(state, job))
    }

    fn job_facts<'a>(
        &self,
        job: &'a Job,
        demand: &'a Demand,
        times: Times,
        waited: Duration,
    ) -> JobFacts<'a> {
        let among = match job.key.site {
            Site::Elsewhere => Among::Others,
            Site::Here if job.forwarded => Among::Here,
            Site::Here => Among::All,
        };
        // Whoever has sent it here has chosen.
        let demand = if among == Among::Here { &ANYWHERE } else { demand };
        let policy = (self.0.policy)(&job.system);
        let (system, features) = (&job.system, &job.features);
        JobFacts { system, features, among, demand, policy, waited, times }
    }

    /// Ends what nobody waits for any more; tells whether this job is to end.
    fn deadlines(&self, live: &Live, round: &mut Round) -> bool {
        let patience = &self.0.patience;
        match &live.job.state {
            JobState::Done { outputs: Outputs::Held, at_s, .. } => {
                let held = Duration::from_secs(now_s().saturating_sub(*at_s));
                let left = patience.output_grace.saturating_sub(held);
                if left.is_zero() {
                    round.actions.push(Action::Release { id: live.job.id() });
                } else {
                    round.again(round.now + left);
                }
                false
            }
            JobState::Done { .. } => false,
            JobState::Queued | JobState::Running { .. } => {
                let Some(since) = live.unattended else { return false };
                let end = since + patience.orphan_grace;
                if live.unwanted {
                    round.end(live, "cancelled by who asked for it");
                } else if round.now < end {
                    round.again(end);
                    return false;
                } else {
                    let grace_s = patience.orphan_grace.as_secs();
                    let why = format!("cancelled: nobody has waited for it for {grace_s} s");
                    round.end(live, &why);
                }
                true
            }
        }
    }

    fn place(
        &self,
        live: &mut Live,
        times: Times,
        facts: &mut [NodeFacts],
        decided: &mut Decided,
        ahead: usize,
        round: &mut Round,
    ) {
        if let Some(not_before) = live.not_before.filter(|at| round.now < *at) {
            return round.again(not_before);
        }
        let job = self.job_facts(&live.job, &live.demand, times, live.waited(round.now));
        let over = job.policy.native_wait.is_some_and(|wait| job.waited >= wait);
        let (system, features) = (live.job.system.clone(), live.job.features.clone());
        let kind = (job.among, job.demand.clone(), system, features, over);
        let decision = match decided.get(&kind).filter(|_| times == Times::default()) {
            Some((on, reason)) => {
                Decision::Wait { on: *on, reason: reason.clone(), again: job.left() }
            }
            None => decide(&job, facts, live.avoid.as_deref(), live.misses),
        };
        match decision {
            // Tried for long enough, each time in vain.
            Decision::Run { .. } if self.patience_is_over(live, round) => {
                let why = live.job.notes.last().map_or_else(String::new, |note| note.text.clone());
                self.give_up(live, &why, round);
            }
            Decision::Run { node, how, reason } => {
                if let Some(facts) = facts.iter_mut().find(|facts| facts.id == node) {
                    facts.assigned += 1;
                    facts.busy = facts.busy.max(facts.assigned);
                }
                // Its last run had no result, and may go on there: a job outlives its client.
                if let Some(left) = live.avoid.clone().filter(|left| *left != node) {
                    round.forget(live, left);
                }
                let since_s = now_s();
                live.job.note(since_s, reason);
                if rules::start(&mut live.job, &node, how, since_s).is_err() {
                    return;
                }
                round.starts.push(Start { id: live.job.id(), node });
            }
            Decision::Wait { on, reason, again } => {
                if let Some(again) = again {
                    round.again(round.now + again);
                }
                self.wait(live, on, &reason, ahead, round);
                decided.insert(kind, (on, reason));
            }
            Decision::Refuse { reason } => {
                live.job.note(now_s(), format!("refused: {reason}"));
                round.end(live, &reason);
            }
        }
    }

    fn wait(&self, live: &mut Live, on: WaitFor, reason: &str, ahead: usize, round: &mut Round) {
        if on == WaitFor::Return {
            live.stranded.get_or_insert(round.now);
            if self.patience_is_over(live, round) {
                return self.give_up(live, reason, round);
            }
        } else {
            live.stranded = None;
        }
        // A long queue is told in round numbers: each change is a message to each client.
        let place = match ahead {
            0 => "next in line".to_owned(),
            1 => "1 job is before it".to_owned(),
            n @ 2..=10 => format!("{n} jobs are before it"),
            n @ 11..=100 => format!("more than {} jobs are before it", (n - 1) / 10 * 10),
            n => format!("more than {} jobs are before it", (n - 1) / 100 * 100),
        };
        if live.job.notes.last().is_none_or(|note| note.text != reason) {
            live.job.note(now_s(), reason);
        }
        live.show(Progress::At(Stage::Waiting(format!("{reason}; {place}"))));
    }

    /// Whether a job that no node has taken was tried for long enough; if not, this is looked at
    /// again when it is.
    fn patience_is_over(&self, live: &Live, round: &mut Round) -> bool {
        let Some(since) = live.stranded else { return false };
        let end = since + self.0.patience.away;
        let over = round.now >= end;
        if !over {
            round.again(end);
        }
        over
    }

    fn give_up(&self, live: &mut Live, reason: &str, round: &mut Round) {
        let waited_s = self.0.patience.away.as_secs();
        let why = format!("gave up after {waited_s} s (workstation.away_timeout_s): {reason}");
        live.job.note(now_s(), why.clone());
        round.end(live, &why);
    }

    fn start(&self, id: &JobId, node: &str) {
        let Some(executor) = self.0.nodes.executor(node) else {
            // It went away between the facts and now; the next round sees that.
            if let Some(live) = self.state().jobs.get_mut(id) {
                drop(rules::put_back(&mut live.job, now_s(), "the node went away meanwhile"));
            }
            self.0.wake.notify_one();
            return;
        };
        info!(job = %id, node, "started");
        if let Some(live) = self.state().jobs.get_mut(id).filter(|live| live.node() == Some(node)) {
            let run = self.clone().run_job(id.clone(), node.to_owned(), executor);
            live.task = Some(tokio::spawn(run).abort_handle());
        }
        self.job_changed(id);
    }
}

/// As [`place::decide`], but rather not on the node where the last run had no result: a node that
/// takes everything and builds nothing must not swallow a queue. The first time that is no reason to
/// emulate: a native node whose cable was pulled is as good as ever when it is back.
fn decide(job: &JobFacts<'_>, facts: &[NodeFacts], avoid: Option<&str>, misses: u32) -> Decision {
    let anywhere = place::decide(job, facts);
    let Some(avoid) = avoid else { return anywhere };
    let others: Vec<_> = facts.iter().filter(|node| node.id != avoid).cloned().collect();
    let elsewhere = place::decide(job, &others);
    let emulated =
        |decision: &Decision| matches!(decision, Decision::Run { how: How::Emulated, .. });
    let worse = emulated(&elsewhere) && !emulated(&anywhere) && misses <= 1;
    if matches!(elsewhere, Decision::Run { .. }) && !worse { elsewhere } else { anywhere }
}

pub(super) struct Round {
    pub(super) now: Instant,
    starts: Vec<Start>,
    actions: Vec<Action>,
    deadline: Option<Instant>,
}

impl Round {
    fn again(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }

    /// Tells a node, afterwards, that a job was taken from it.
    pub(super) fn forget(&mut self, live: &Live, node: String) {
        self.actions.push(Action::Forget { key: live.job.key.clone(), node });
    }

    fn end(&mut self, live: &Live, why: &str) {
        let message = format!("roost: {}: {why}", live.job.name);
        let result = BuildResult::failure(BuildStatus::TransientFailure, message);
        self.actions.push(Action::End { id: live.job.id(), result });
    }
}

fn count_assigned(state: &State, facts: &mut [NodeFacts]) {
    for facts in facts {
        let builds = |live: &&Live| live.node() == Some(&facts.id) && !live.vacated;
        let here = state.jobs.values().filter(builds).count();
        facts.assigned = u32::try_from(here).unwrap_or(u32::MAX);
    }
}
