//! What may become of a job: pure functions on its record.
//!
//! `Queued -> Running -> Done`; `Running -> Queued` when the executor died under it (counted) or
//! let go of it in an orderly way (not counted); `Queued -> Done` when it is refused or cancelled.

use std::collections::BTreeMap;

use nix_compat::nix_daemon::{BuildResult, BuildStatus};

use crate::model::{How, Job, JobState, Outputs};

/// Deaths of an executor that a job survives, and one: with the third it is failed, since it may
/// be what kills them.
pub const MAX_DEATHS: u32 = 3;

/// A change of state that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {job} is {state} and cannot be {change}")]
pub struct Impossible {
    /// The job.
    pub job: String,
    /// Its state: `queued`, `running` or `done`.
    pub state: &'static str,
    /// What was to happen, such as `started`.
    pub change: &'static str,
}

/// What a death leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDeath {
    /// The job waits for another try.
    Queued,
    /// It was the last try: the job is done, failed as transient, and kept for whoever asks next.
    GivenUp,
}

/// `Queued -> Running` on `node`, natively or not.
///
/// # Errors
///
/// [`Impossible`] if it is not queued.
pub fn start(job: &mut Job, node: &str, how: How, at_s: u64) -> Result<(), Impossible> {
    match job.state {
        JobState::Queued => {
            job.how = how;
            job.build_ms = None;
            job.state = JobState::Running { node: node.to_owned(), since_s: at_s };
            Ok(())
        }
        JobState::Running { .. } | JobState::Done { .. } => Err(impossible(job, "started")),
    }
}

/// `Running -> Done` with the executor's result. The outputs of a success are held until they are
/// fetched.
///
/// # Errors
///
/// [`Impossible`] if it does not run.
pub fn finish(job: &mut Job, result: BuildResult, at_s: u64) -> Result<(), Impossible> {
    match &job.state {
        JobState::Running { node, .. } => {
            let node = Some(node.clone());
            job.state = done(result, node, at_s);
            Ok(())
        }
        JobState::Queued | JobState::Done { .. } => Err(impossible(job, "finished")),
    }
}

/// `Queued -> Done` without an executor: cancelled, refused, or given up.
///
/// # Errors
///
/// [`Impossible`] if it is not queued.
pub fn refuse(job: &mut Job, result: BuildResult, at_s: u64) -> Result<(), Impossible> {
    match job.state {
        JobState::Queued => {
            job.state = done(result, None, at_s);
            Ok(())
        }
        JobState::Running { .. } | JobState::Done { .. } => Err(impossible(job, "refused")),
    }
}

/// `Running -> Queued` because the executor died; with the last of [`MAX_DEATHS`], `Running ->
/// Done` as a transient failure that says so. `why` becomes a note.
///
/// # Errors
///
/// [`Impossible`] if it does not run.
pub fn died(job: &mut Job, at_s: u64, why: &str) -> Result<AfterDeath, Impossible> {
    let JobState::Running { node, .. } = &job.state else {
        return Err(impossible(job, "interrupted by a death"));
    };
    let node = node.clone();
    job.deaths = job.deaths.saturating_add(1);
    let deaths = job.deaths;
    if deaths < MAX_DEATHS {
        job.note(at_s, format!("{why}; death {deaths} of {MAX_DEATHS}, queued again"));
        job.course.waits_again();
        job.state = JobState::Queued;
        return Ok(AfterDeath::Queued);
    }
    job.note(at_s, format!("{why}; death {deaths} of {MAX_DEATHS}, given up"));
    let text = format!(
        "given up: what built it died {deaths} times under it, the last time because {why}; \
         see the job's notes, then ask again"
    );
    let result = Box::new(transient(&text, at_s));
    // Kept for whoever asks next: nobody should begin all over again without knowing.
    job.state = JobState::Done { result, node: Some(node), at_s, outputs: Outputs::Held };
    Ok(AfterDeath::GivenUp)
}

/// `Running -> Queued` because the executor let go of it in an orderly way, such as a daemon that
/// was stopped: no death. `why` becomes a note.
///
/// # Errors
///
/// [`Impossible`] if it does not run.
pub fn put_back(job: &mut Job, at_s: u64, why: &str) -> Result<(), Impossible> {
    match job.state {
        JobState::Running { .. } => {
            job.note(at_s, format!("{why}; queued again"));
            job.course.waits_again();
            job.state = JobState::Queued;
            Ok(())
        }
        JobState::Queued | JobState::Done { .. } => Err(impossible(job, "put back")),
    }
}

/// The outputs need not be held any more. Harmless if they were not.
///
/// # Errors
///
/// [`Impossible`] if it is not done.
pub fn release_outputs(job: &mut Job) -> Result<(), Impossible> {
    match &mut job.state {
        JobState::Done { outputs, .. } => {
            *outputs = Outputs::Released;
            Ok(())
        }
        JobState::Queued | JobState::Running { .. } => Err(impossible(job, "released")),
    }
}

/// A failure that asking again may cure, in our own words.
#[must_use]
pub fn transient(text: &str, at_s: u64) -> BuildResult {
    BuildResult {
        status: BuildStatus::TransientFailure,
        error_msg: text.as_bytes().to_vec(),
        times_built: 0,
        is_non_deterministic: false,
        start_time_s: at_s,
        stop_time_s: at_s,
        cpu_user_us: None,
        cpu_system_us: None,
        built_outputs: BTreeMap::new(),
    }
}

fn done(result: BuildResult, node: Option<String>, at_s: u64) -> JobState {
    let outputs = if result.is_success() { Outputs::Held } else { Outputs::Released };
    JobState::Done { result: Box::new(result), node, at_s, outputs }
}

fn impossible(job: &Job, change: &'static str) -> Impossible {
    let state = match job.state {
        JobState::Queued => "queued",
        JobState::Running { .. } => "running",
        JobState::Done { .. } => "done",
    };
    Impossible { job: job.id().to_string(), state, change }
}
