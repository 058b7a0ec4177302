//! The rules of a job's life.

use proptest::prelude::*;

use super::*;
use crate::{
    model::Outputs,
    queue::rules::{AfterDeath, MAX_DEATHS},
};

#[test]
fn a_record_of_a_version_that_noted_no_times_is_read() {
    let mut job = job(1);
    let mut record = serde_json::to_value(&job).unwrap();
    record.as_object_mut().unwrap().remove("course").unwrap();
    job.course = Course::default();
    assert_eq!(serde_json::from_value::<Job>(record).unwrap(), job);
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Start,
    Finish,
    Refuse,
    Died,
    PutBack,
    Release,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Start),
        Just(Change::Finish),
        Just(Change::Refuse),
        Just(Change::Died),
        Just(Change::PutBack),
        Just(Change::Release),
    ]
}

fn apply(job: &mut Job, change: Change) -> Result<(), rules::Impossible> {
    match change {
        Change::Start => rules::start(job, "board", How::Native, 7),
        Change::Finish => rules::finish(job, built(8), 8),
        Change::Refuse => rules::refuse(job, rules::transient("no", 8), 8),
        Change::Died => rules::died(job, 8, "it died").map(drop),
        Change::PutBack => rules::put_back(job, 8, "it stopped"),
        Change::Release => rules::release_outputs(job),
    }
}

proptest! {
    #[test]
    fn only_the_allowed_changes_happen(changes in proptest::collection::vec(change(), 0..60)) {
        let mut job = job(1);
        for change in changes {
            let before = job.clone();
            let changed = apply(&mut job, change);
            let allowed = matches!(
                (&before.state, change),
                (JobState::Queued, Change::Start | Change::Refuse)
                    | (JobState::Running { .. }, Change::Finish | Change::Died | Change::PutBack)
                    | (JobState::Done { .. }, Change::Release)
            );
            prop_assert_eq!(changed.is_ok(), allowed);
            if changed.is_err() {
                prop_assert_eq!(&job, &before);
            }
            prop_assert!(job.deaths <= MAX_DEATHS);
            prop_assert!(job.notes.len() <= Job::MAX_NOTES);
        }
    }
}

#[test]
fn the_third_death_is_the_last_and_says_why() {
    let mut job = running(1);
    for _ in 1..MAX_DEATHS {
        assert_eq!(rules::died(&mut job, 8, "the board went away"), Ok(AfterDeath::Queued));
        rules::start(&mut job, "board", How::Native, 9).unwrap();
    }
    assert_eq!(rules::died(&mut job, 10, "the board went away"), Ok(AfterDeath::GivenUp));
    let JobState::Done { result, node, at_s, outputs } = &job.state else { panic!("{job:?}") };
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert!(String::from_utf8_lossy(&result.error_msg).contains("the board went away"));
    assert_eq!((node.as_deref(), *at_s, *outputs), (Some("board"), 10, Outputs::Held));
    assert_eq!(job.notes.len(), 3);
}

#[test]
fn an_orderly_stop_is_no_death() {
    let mut job = running(1);
    rules::put_back(&mut job, 8, "the daemon was stopped").unwrap();
    assert_eq!((&job.state, job.deaths), (&JobState::Queued, 0));
}

#[test]
fn outputs_of_a_success_are_held_until_released() {
    let mut job = running(1);
    rules::finish(&mut job, built(8), 8).unwrap();
    assert!(matches!(job.state, JobState::Done { outputs: Outputs::Held, .. }));
    rules::release_outputs(&mut job).unwrap();
    rules::release_outputs(&mut job).unwrap();
    assert!(matches!(job.state, JobState::Done { outputs: Outputs::Released, .. }));
    let mut failed = running(2);
    rules::finish(&mut failed, rules::transient("no", 8), 8).unwrap();
    assert!(matches!(failed.state, JobState::Done { outputs: Outputs::Released, .. }));
}

#[test]
fn an_impossible_change_names_job_state_and_change() {
    let error = rules::finish(&mut job(1), built(8), 8).unwrap_err().to_string();
    assert_eq!(error, format!("job {} is queued and cannot be finished", job(1).id()));
}
