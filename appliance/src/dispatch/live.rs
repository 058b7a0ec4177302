//! A job in memory: its record, how far it is, and who waits for it.

use std::{sync::Arc, time::Duration};

use nix_compat::nix_daemon::{BuildResult, BuildStatus};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use crate::{
    execute::{Copied, Measured, Stage},
    model::{
        Candidate, Cores, Course, Demand, How, Input, Job, JobState, JobView, Outputs, Payload,
        Site, first_line,
    },
    queue::logs::LogWriter,
};

/// What attached clients watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Progress {
    /// On its way.
    At(Stage),
    /// Over.
    Ended(Box<BuildResult>),
}

/// A job and everything that is true of it only while the daemon runs.
pub(super) struct Live {
    pub(super) job: Job,
    /// Where it is to be built, by who asked and by the configuration.
    pub(super) demand: Demand,
    /// Place in the order of acceptance.
    pub(super) turn: u64,
    pub(super) progress: watch::Sender<Progress>,
    /// Clients that wait for it.
    pub(super) attached: u32,
    /// Since when nobody does.
    pub(super) unattended: Option<Instant>,
    /// Who asked for it has said that it is not wanted: it ends as soon as nobody waits.
    pub(super) unwanted: bool,
    /// Since when no node has taken it, because those that could build it are away or lose it.
    pub(super) stranded: Option<Instant>,
    /// When it was accepted, or came back from a node without a result.
    pub(super) since: Instant,
    /// Since when it builds.
    pub(super) building: Option<Instant>,
    /// What its executor found out about its build.
    pub(super) measured: Measured,
    /// Not placed again before this.
    pub(super) not_before: Option<Instant>,
    /// Which cores it was given with its node.
    pub(super) cores: Cores,
    /// Runs without a result since it was last seen to build.
    pub(super) misses: u32,
    /// The node of the last of them.
    pub(super) avoid: Option<String>,
    /// The task that runs it.
    pub(super) task: Option<AbortHandle>,
    /// Its log, open until it ends.
    pub(super) log: Option<LogWriter>,
    /// What to build, if it is still at hand from the acceptance; else the queue has it.
    pub(super) payload: Option<Payload>,
    /// Those of its inputs that count, if that was found out.
    pub(super) inputs: Arc<[Input]>,
    /// Whether somebody waited for it when it ended: they fetch its outputs at once.
    pub(super) awaited: bool,
    /// Whether its build is over and its slot free, though its outputs are still being seen to.
    pub(super) vacated: bool,
    /// The nodes that were considered when it was placed, while it runs.
    considered: Vec<Candidate>,
}

/// Nodes that are remembered of a job that runs.
const MAX_CONSIDERED: usize = 8;

impl Live {
    pub(super) fn new(job: Job, demand: Demand, turn: u64, log: Option<LogWriter>) -> Self {
        let progress = match &job.state {
            JobState::Done { result, .. } => Progress::Ended(result.clone()),
            JobState::Queued | JobState::Running { .. } => {
                Progress::At(Stage::Waiting("waiting to be placed".to_owned()))
            }
        };
        Self {
            job,
            demand,
            turn,
            progress: watch::Sender::new(progress),
            attached: 0,
            unattended: Some(Instant::now()),
            unwanted: false,
            stranded: None,
            since: Instant::now(),
            building: None,
            measured: Measured::default(),
            not_before: None,
            cores: Cores::Share,
            misses: 0,
            avoid: None,
            task: None,
            log,
            payload: None,
            inputs: Arc::default(),
            awaited: false,
            vacated: false,
            considered: Vec::new(),
        }
    }

    /// How long it has waited since it was accepted or came back.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether it runs where it might be taken from: it has not begun, or it is emulated.
    pub(super) fn may_move(&self) -> bool {
        self.node().is_some()
            && !self.vacated
            && (self.building.is_none() || self.job.how == How::Emulated)
    }

    /// Whether nobody waits for it and it has not begun, so that whoever asks next says where.
    pub(super) fn is_for_the_taking(&self) -> bool {
        self.attached == 0 && self.job.state == JobState::Queued
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.job.state, JobState::Done { .. })
    }

    /// Whether a request for the same job is answered by this one: it has not ended, or nobody has
    /// collected its result. (What a board built, the board is asked for again: it has it at hand,
    /// and we may not reach it now.)
    pub(super) fn answers(&self) -> bool {
        let built_here = self.job.key.site == Site::Here;
        match &self.job.state {
            JobState::Queued | JobState::Running { .. } => true,
            JobState::Done { result, outputs, .. } => {
                *outputs == Outputs::Held && (built_here || !result.is_success())
            }
        }
    }

    /// A failure is collected by the first who is told of it; then the next request builds again.
    pub(super) fn collect_failure(&mut self) {
        if let JobState::Done { result, outputs, .. } = &mut self.job.state {
            if !result.is_success() {
                *outputs = Outputs::Released;
            }
        }
    }

    /// A builder's failure that nobody waited for is kept for whoever asks again. What may pass is
    /// tried again instead.
    pub(super) fn keep_failure(&mut self) {
        if let JobState::Done { result, outputs, .. } = &mut self.job.state {
            let lasting = !result.is_success() && result.status != BuildStatus::TransientFailure;
            if lasting && self.attached == 0 {
                *outputs = Outputs::Held;
            }
        }
    }

    /// Remembers the nodes that were considered: the first ones, and the one that was chosen.
    pub(super) fn consider(&mut self, mut nodes: Vec<Candidate>) {
        if let Some(at) = nodes.iter().position(|node| node.chosen) {
            let last = MAX_CONSIDERED - 1;
            if at > last {
                nodes.swap(at, last);
            }
        }
        nodes.truncate(MAX_CONSIDERED);
        self.considered = nodes;
    }

    /// The nodes that were considered when it was placed; none of a job that does not run.
    pub(super) fn considered(&self) -> &[Candidate] {
        match self.job.state {
            JobState::Running { .. } => &self.considered,
            JobState::Queued | JobState::Done { .. } => &[],
        }
    }

    /// The node it runs on.
    pub(super) fn node(&self) -> Option<&str> {
        match &self.job.state {
            JobState::Running { node, .. } => Some(node),
            JobState::Queued | JobState::Done { .. } => None,
        }
    }

    /// Sets what clients see; tells whether it was new.
    pub(super) fn show(&self, progress: Progress) -> bool {
        self.progress.send_if_modified(|now| {
            let new = *now != progress;
            if new {
                *now = progress;
            }
            new
        })
    }

    /// Adds a line to the log and lets followers see it.
    pub(super) fn line(&mut self, line: &[u8]) {
        let Some(log) = &mut self.log else { return };
        if let Err(error) = log.append(line).and_then(|()| log.flush()) {
            tracing::warn!(job = %self.job.id(), "its log is cut here: {error}");
        }
    }

    /// As people see it; `name_of` knows nodes by their names.
    pub(super) fn view(&self, name_of: &dyn Fn(&str) -> Option<String>) -> JobView {
        let job = &self.job;
        let named = |node: &str| name_of(node).unwrap_or_else(|| node.to_owned());
        let (state, node, started_s, ended_s, reason) = match &job.state {
            JobState::Queued => ("queued", None, None, None, self.waiting_for()),
            JobState::Running { node, since_s } => {
                ("running", Some(named(node)), Some(*since_s), None, self.waiting_for())
            }
            JobState::Done { result, node, at_s, .. } => {
                let state = if result.is_success() { "built" } else { "failed" };
                (state, node.as_deref().map(named), None, Some(*at_s), outcome(result))
            }
        };
        JobView {
            id: job.id().to_string(),
            name: job.name.clone(),
            drv_path: job.key.drv_path.to_string(),
            system: job.system.clone(),
            state: state.to_owned(),
            emulated: node.is_some() && job.how == How::Emulated,
            node,
            forwarded: job.forwarded,
            client: job.client.label.clone(),
            attached: self.attached,
            accepted_s: job.accepted_s,
            started_s,
            ended_s,
            reason,
            course: Course { node: job.course.node.as_deref().map(named), ..job.course.clone() },
            steps_after: None,
        }
    }

    fn waiting_for(&self) -> String {
        match &*self.progress.borrow() {
            Progress::At(Stage::Waiting(reason)) => reason.clone(),
            Progress::At(Stage::Shipping { node, copied }) => shipping(node, copied),
            Progress::At(Stage::Fetching { node, copied }) => fetching(node, copied),
            Progress::At(Stage::Building { node, phase }) => match phase {
                Some(phase) => format!("building on {node} ({phase})"),
                None => format!("building on {node}"),
            },
            Progress::Ended(result) => outcome(result),
        }
    }
}

/// How far the shipping of inputs is, in words.
pub(super) fn shipping(node: &str, copied: &Copied) -> String {
    format!("copying inputs to {node}: {copied}")
}

/// How far the fetching of outputs is, in words.
pub(super) fn fetching(node: &str, copied: &Copied) -> String {
    format!("copying outputs from {node}: {copied}")
}

fn outcome(result: &BuildResult) -> String {
    match result.status {
        BuildStatus::Built => "built".to_owned(),
        BuildStatus::Substituted => "substituted".to_owned(),
        BuildStatus::AlreadyValid | BuildStatus::ResolvesToAlreadyValid => {
            "was there already".to_owned()
        }
        _ => first_line(&result.error_msg),
    }
}
