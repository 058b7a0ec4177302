//! Places waiting jobs whenever something has changed, and keeps the deadlines.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tokio::time::Instant;
use tracing::info;

use super::{Dispatcher, Live, State, live::Progress, now_s, reckon::Reckoner, run::Ending};
use crate::{
    execute::Stage,
    model::{
        ANYWHERE, Candidate, Cores, Demand, Input, Job, JobId, JobKey, JobState, Outputs, Site,
    },
    place::{self, Among, Decision, JobFacts, NodeFacts, Plan, WaitFor},
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
                    Action::Release { id } => self.let_go(&id, None).await,
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
        // What other nodes learn meanwhile is nothing to a node without jobs.
        let estimates = match state.open_jobs() {
            0 => Arc::default(),
            _ => self.estimates(),
        };
        let reckoner = Reckoner::new(estimates, self.0.paths.clone(), &self.stocks(), &mut facts);
        let mut round = Round { now, starts: Vec::new(), actions: Vec::new(), deadline: None };
        let mut movable = Vec::new();
        for (id, live) in &state.jobs {
            if !self.deadlines(live, &mut round) && live.may_move() {
                movable.push((live.turn, id.clone()));
            }
        }
        reckoner.count(&state, &mut facts, now);
        let decisions = self.decisions(&reckoner, &state, &facts, &mut round);
        let mut ahead: HashMap<String, usize> = HashMap::new();
        for (id, (decision, considered)) in decisions {
            let Some(live) = state.jobs.get_mut(&id) else { continue };
            if let Decision::Run { node, .. } = &decision {
                given(&mut facts, node);
            }
            let before = ahead.entry(live.job.system.clone()).or_default();
            live.consider(considered);
            self.carry_out(&reckoner, live, decision, *before, &mut round);
            *before += usize::from(live.job.state == JobState::Queued);
        }
        // Afterwards: a slot that a waiting job takes is no reason to move another one.
        movable.sort_unstable();
        for (_, id) in movable {
            let Some(live) = state.jobs.get(&id) else { continue };
            let (record, demand) = (live.job.clone(), live.demand.clone());
            let (inputs, avoid) = (live.inputs.clone(), live.avoid.clone());
            let job = self.job_facts(&reckoner, (&record, &demand, &inputs), live, now);
            let job = JobFacts { avoid: avoid.as_deref(), ..job };
            let Some(live) = state.jobs.get_mut(&id) else { continue };
            if Self::reconsider(live, &job, &mut facts, &mut round) {
                let job = JobFacts { waited: live.waited(now), ..job };
                let (decision, considered) = Plan::new(&facts).place_and_tell(&job, runs);
                live.consider(considered);
                if let Decision::Run { node, .. } = &decision {
                    given(&mut facts, node);
                }
                self.carry_out(&reckoner, live, decision, 0, &mut round);
            }
        }
        (round.starts, round.actions, round.deadline)
    }

    /// Where each job that waits should go, in the order in which they were placed, and which nodes were
    /// considered for those that are to run.
    fn decisions(
        &self,
        reckoner: &Reckoner,
        state: &State,
        facts: &[NodeFacts],
        round: &mut Round,
    ) -> Vec<(JobId, (Decision, Vec<Candidate>))> {
        for live in state.jobs.values().filter(|live| live.job.state == JobState::Queued) {
            let later = live.not_before.filter(|at| round.now < *at);
            if let Some(not_before) = later.filter(|_| !self.is_over(live, round.now)) {
                round.again(not_before);
            }
        }
        let mut decisions = Vec::new();
        self.in_turn(reckoner, state, (facts, round.now), |live, job, plan| {
            decisions.push((live.job.id(), plan.place_and_tell(job, runs)));
            ControlFlow::Continue(())
        });
        decisions
    }

    /// The nodes that could have a job that waits, were the ones before it placed now; none if it is not
    /// to be placed now.
    pub(super) fn candidates(
        &self,
        state: &State,
        id: &JobId,
        mut facts: Vec<NodeFacts>,
    ) -> Vec<Candidate> {
        let now = Instant::now();
        let reckoner =
            Reckoner::new(self.estimates(), self.0.paths.clone(), &self.stocks(), &mut facts);
        reckoner.count(state, &mut facts, now);
        let mut candidates = Vec::new();
        self.in_turn(&reckoner, state, (&facts, now), |live, job, plan| {
            let is_it = live.job.id() == *id;
            candidates = plan.place_and_tell(job, |_| is_it).1;
            if is_it { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        candidates
    }

    /// Goes through the jobs that wait and may be placed now, in the order in which they should be.
    fn in_turn(
        &self,
        reckoner: &Reckoner,
        state: &State,
        (facts, now): (&[NodeFacts], Instant),
        mut each: impl for<'j> FnMut(&Live, &JobFacts<'j>, &mut Plan<'_, 'j>) -> ControlFlow<()>,
    ) {
        let mut waiting = Vec::new();
        let mut running: HashMap<&str, u32> = HashMap::new();
        for live in state.jobs.values() {
            match live.job.state {
                JobState::Running { .. } if !live.vacated => {
                    *running.entry(live.job.client.label.as_str()).or_default() += 1;
                }
                JobState::Queued
                    if !self.is_over(live, now) && live.not_before.is_none_or(|at| at <= now) =>
                {
                    waiting.push(live);
                }
                JobState::Queued | JobState::Running { .. } | JobState::Done { .. } => {}
            }
        }
        let jobs: Vec<_> = waiting
            .iter()
            .map(|live| JobFacts {
                avoid: live.avoid.as_deref(),
                ..self.job_facts(reckoner, (&live.job, &live.demand, &live.inputs), live, now)
            })
            .collect();
        let turns = jobs.iter().zip(&waiting).map(|(job, live)| place::Turn {
            client: job.client,
            path_s: job.path_s,
            waited: job.waited,
            accepted: live.turn,
        });
        let turns: Vec<_> = turns.collect();
        let mut plan = Plan::new(facts);
        for at in place::order(&turns, &running) {
            if each(waiting[at], &jobs[at], &mut plan).is_break() {
                return;
            }
        }
    }

    fn job_facts<'a>(
        &self,
        reckoner: &Reckoner,
        (job, demand, inputs): (&'a Job, &'a Demand, &'a [Input]),
        live: &Live,
        now: Instant,
    ) -> JobFacts<'a> {
        let among = match job.key.site {
            Site::Elsewhere => Among::Others,
            Site::Here if job.forwarded => Among::Here,
            Site::Here => Among::All,
        };
        // Whoever has sent it here has chosen, and knows what it is for: what it sends comes in its order, not
        // the longest first.
        let (demand, path_s) = match among {
            Among::Here => (&ANYWHERE, 0.0),
            Among::All | Among::Others => (demand, reckoner.path_s(job)),
        };
        JobFacts {
            system: &job.system,
            features: &job.features,
            among,
            demand,
            policy: (self.0.policy)(&job.system),
            waited: live.waited(now),
            times: reckoner.times(job),
            client: &job.client.label,
            big: reckoner.is_big(job),
            path_s,
            avoid: None,
            misses: live.misses,
            inputs,
        }
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
                if !self.is_over(live, round.now) {
                    round.again(end);
                    return false;
                } else if live.unwanted {
                    round.end(live, "cancelled by who asked for it");
                } else {
                    let grace_s = patience.orphan_grace.as_secs();
                    let why = format!("cancelled: nobody has waited for it for {grace_s} s");
                    round.end(live, &why);
                }
                true
            }
        }
    }

    /// Whether a job that has not ended is to end because nobody waits for it.
    fn is_over(&self, live: &Live, now: Instant) -> bool {
        let grace = self.0.patience.orphan_grace;
        live.unattended.is_some_and(|since| live.unwanted || now >= since + grace)
    }

    /// Does what was decided of a job; `ahead` jobs for its system wait and come before it.
    fn carry_out(
        &self,
        reckoner: &Reckoner,
        live: &mut Live,
        decision: Decision,
        ahead: usize,
        round: &mut Round,
    ) {
        match decision {
            // Tried for long enough, each time in vain.
            Decision::Run { .. } if self.patience_is_over(live, round) => {
                let why = live.job.notes.last().map_or_else(String::new, |note| note.text.clone());
                self.give_up(live, &why, round);
            }
            Decision::Run { node, how, mut reason } => {
                live.cores = match self.0.nodes.is_here(&node) {
                    true => reckoner.cores(&live.job, &node, how),
                    false => Cores::Share,
                };
                if live.cores == Cores::All {
                    reason += ", with all cores of the board";
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

/// Whether a job is to run.
fn runs(decision: &Decision) -> bool {
    matches!(decision, Decision::Run { .. })
}

/// Counts a job that a node was given in this round.
fn given(facts: &mut [NodeFacts], node: &str) {
    if let Some(facts) = facts.iter_mut().find(|facts| facts.id == node) {
        facts.assigned += 1;
        facts.busy = facts.busy.max(facts.assigned);
    }
}
