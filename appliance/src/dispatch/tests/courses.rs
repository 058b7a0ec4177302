//! What is kept of when a job reached its stages.

use super::rig::*;
use crate::{
    execute::{Copied, Stage, Verdict},
    model::{Builds as _, Course},
};

/// When each stage was reached, in the order in which they are.
fn stages(course: &Course) -> [Option<u64>; 8] {
    [
        course.accepted_ms,
        course.placed_ms,
        course.shipping_ms,
        course.shipped_ms,
        course.building_ms,
        course.built_ms,
        course.ended_ms,
        course.fetched_ms,
    ]
}

#[tokio::test]
async fn a_job_keeps_when_it_reached_its_stages() {
    let mut rig = Rig::workstation();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.stage(Stage::Shipping { node: "board".to_owned(), copied: Copied::default() });
    run.stage(Stage::Waiting("sent to board".to_owned()));
    run.builds();
    run.succeeds();
    alice.result().await;
    soon(rig.dispatcher.fetched(&alice.id())).await;
    let course = rig.view(&alice.id()).course;
    assert_eq!(course.node.as_deref(), Some("board"));
    let reached = stages(&course);
    assert!(reached.is_sorted() && reached[0].is_some(), "{course:?}");
    let jobs = rig.on_disk().await;
    assert_eq!(jobs[0].course, course, "and after a restart");
}

#[tokio::test]
async fn a_run_without_a_result_leaves_nothing() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    run.ends(Verdict::Lost("no answer".to_owned()));
    alice.hears("it will be tried again").await;
    let course = rig.view(&alice.id()).course;
    assert!(course.accepted_ms.is_some(), "{course:?}");
    assert_eq!(course, Course { accepted_ms: course.accepted_ms, ..Course::default() });
}

#[tokio::test]
async fn a_run_that_is_cancelled_is_known_up_to_its_end() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    alice.hears("building").await;
    soon(rig.dispatcher.cancel("hello", "roost cancel")).await.unwrap();
    let job = rig.view(&alice.id());
    assert_eq!((job.node, job.course.node.as_deref()), (None, Some("board")));
    let [.., building_ms, built_ms, ended_ms, fetched_ms] = stages(&job.course);
    assert!(building_ms.is_some() && built_ms == ended_ms && fetched_ms.is_none());
}

#[tokio::test]
async fn outputs_that_nobody_waited_for_were_not_fetched_all_the_time() {
    let mut rig = Rig::new();
    let alice = rig.submit("hello").await;
    let id = alice.id();
    let run = rig.run().await;
    drop(alice);
    until(|| rig.view(&id).attached == 0).await;
    run.succeeds();
    until(|| rig.dispatcher.has_ended(&id)).await;
    rig.submit("hello").await.result().await;
    soon(rig.dispatcher.fetched(&id)).await;
    let course = rig.view(&id).course;
    assert!(course.ended_ms.is_some() && course.fetched_ms.is_none(), "{course:?}");
}
