//! What outlives the dispatcher.

use super::rig::*;
use crate::{dispatch::Patience, model::JobState};

#[tokio::test]
async fn a_stop_puts_jobs_back_and_the_next_dispatcher_goes_on() {
    let mut rig = Rig::new();
    let _clients = [rig.submit("a").await, rig.submit("b").await, rig.submit("c").await];
    let runs = [rig.run().await, rig.run().await];
    runs[0].line("half way");
    let mut rig = rig.again(PATIENT).await;
    for run in &runs {
        run.dropped().await;
    }
    let mut ended = Vec::new();
    for _ in 0..3 {
        let run = rig.run().await;
        run.succeeds();
        ended.push(run.id());
    }
    for name in ["a", "b", "c"] {
        let mut client = rig.submit(name).await;
        assert!(ended.contains(&client.id()));
        assert!(client.result().await.is_success());
    }
    let jobs = rig.on_disk().await;
    assert!(jobs.iter().all(|job| job.deaths == 0), "a stop is no death: {jobs:?}");
    assert!(jobs.iter().all(|job| matches!(job.state, JobState::Done { .. })), "{jobs:?}");
}

#[tokio::test]
async fn the_log_of_a_job_goes_on_after_a_stop() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    run.line("before");
    alice.hears("> before").await;
    let mut rig = rig.again(PATIENT).await;
    let mut bob = rig.submit("hello").await;
    let run = rig.run().await;
    run.line("after");
    bob.hears("> before").await;
    bob.hears("> after").await;
}

#[tokio::test]
async fn a_job_nobody_comes_back_for_is_cancelled_after_a_restart() {
    let mut rig = Rig::new();
    let alice = rig.submit("hello").await;
    let id = alice.id();
    rig.run().await;
    let rig = rig.again(Patience { orphan_grace: SHORTLY, ..PATIENT }).await;
    until(|| rig.dispatcher.has_ended(&id)).await;
    assert!(rig.view(&id).reason.contains("nobody has waited"), "{}", rig.view(&id).reason);
}

#[tokio::test]
async fn nothing_starts_once_it_stops() {
    let mut rig = Rig::new();
    let _alice = rig.submit("hello").await;
    let run = rig.run().await;
    let _others = [rig.submit("b").await, rig.submit("c").await];
    let second = rig.run().await;
    soon(rig.dispatcher.stop()).await;
    run.dropped().await;
    second.dropped().await;
    rig.dispatcher.look_again();
    tokio::task::yield_now().await;
    assert!(rig.is_idle());
}

#[tokio::test]
async fn the_oldest_logs_go_when_all_together_are_too_large() {
    let mut rig = Rig::new();
    // Each a third of what there is room for.
    let line = "x".repeat(usize::try_from(LOGS_BYTES / 3).unwrap()).leak();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let mut alice = rig.submit(name).await;
        let run = rig.run().await;
        run.line(line);
        run.succeeds();
        assert!(alice.result().await.is_success());
    }
    until(|| rig.logged_bytes() <= LOGS_BYTES).await;
    assert!(rig.logged_bytes() > 0, "the newest are kept");
}
