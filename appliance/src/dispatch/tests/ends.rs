//! How jobs end that their executor does not end: left, cancelled, given up.

use nix_compat::nix_daemon::BuildStatus;

use super::rig::*;
use crate::{
    dispatch::{FindError, Patience},
    execute::Verdict,
};

#[tokio::test]
async fn a_client_that_vanishes_leaves_its_job_running() {
    let mut rig = Rig::new();
    let alice = rig.submit("hello").await;
    let id = alice.id();
    let run = rig.run().await;
    drop(alice);
    until(|| rig.view(&id).attached == 0).await;
    assert_eq!(rig.view(&id).state, "running");
    let mut bob = rig.submit("hello").await;
    run.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn a_job_nobody_waits_for_is_cancelled_after_a_while() {
    let mut rig = Rig::with(Patience { orphan_grace: SHORTLY, ..PATIENT }, 10);
    let alice = rig.submit("hello").await;
    let id = alice.id();
    let run = rig.run().await;
    drop(alice);
    run.dropped().await;
    assert_eq!(run.id(), id);
    assert!(rig.view(&id).reason.contains("nobody has waited"), "{}", rig.view(&id).reason);
    until(|| rig.forgotten() == [id.clone()] && !rig.holds(&id)).await;
}

#[tokio::test]
async fn a_job_that_is_over_before_it_is_placed_is_never_started() {
    let mut rig = Rig::with(Patience { orphan_grace: SHORTLY, ..PATIENT }, 10);
    rig.health(crate::place::Health::Draining);
    let alice = rig.submit("hello").await;
    let id = alice.id();
    drop(alice);
    until(|| rig.view(&id).attached == 0).await;
    // Both at once for the pump: a node that takes it, and a deadline that has passed.
    let deadline = tokio::time::Instant::now() + 2 * SHORTLY;
    while tokio::time::Instant::now() < deadline {
        std::hint::spin_loop();
    }
    rig.health(crate::place::Health::Ready);
    until(|| rig.dispatcher.has_ended(&id)).await;
    assert!(rig.is_idle());
    assert_eq!(rig.dispatcher.assigned("board"), 0);
}

#[tokio::test]
async fn cancelling_reaches_every_client_and_the_executor() {
    let mut rig = Rig::new();
    let (mut alice, mut bob) = (rig.submit("hello").await, rig.submit("hello").await);
    let run = rig.run().await;
    let id = soon(rig.dispatcher.cancel("hello", "roost cancel")).await.unwrap();
    for client in [&mut alice, &mut bob] {
        let result = client.result().await;
        assert_eq!(result.status, BuildStatus::MiscFailure);
        assert!(text(&result).contains("cancelled by roost cancel"), "{}", text(&result));
    }
    run.dropped().await;
    assert_eq!(rig.forgotten(), std::slice::from_ref(&id));
    assert!(!rig.holds(&id));
    let again = soon(rig.dispatcher.cancel("hello", "roost cancel")).await;
    assert_eq!(again, Err(FindError::Ended(id)));
}

#[tokio::test]
async fn a_job_cancelled_right_after_its_start_stays_cancelled_on_disk() {
    let rig = Rig::new();
    let alice = rig.submit("hello").await;
    let id = alice.id();
    // Its run is under way to the queue for the derivation, and has not written its start.
    until(|| rig.view(&id).state == "running").await;
    soon(rig.dispatcher.cancel("hello", "roost cancel")).await.unwrap();
    let jobs = rig.on_disk().await;
    assert!(matches!(jobs[0].state, crate::model::JobState::Done { .. }), "{:?}", jobs[0]);
}

#[tokio::test]
async fn a_node_that_abandons_a_job_ends_it_only_if_nobody_else_waits() {
    let mut rig = Rig::new();
    let (alice, mut bob) = (rig.submit("hello").await, rig.submit("hello").await);
    let id = alice.id();
    let run = rig.run().await;
    rig.dispatcher.abandon(id.as_str()).unwrap();
    drop(alice);
    until(|| rig.view(&id).attached == 1).await;
    run.succeeds();
    assert!(bob.result().await.is_success());

    let carol = rig.submit("other").await;
    let run = rig.run().await;
    rig.dispatcher.abandon(carol.id().as_str()).unwrap();
    assert_eq!(rig.view(&carol.id()).state, "running");
    drop(carol);
    run.dropped().await;
}

#[tokio::test]
async fn a_job_under_which_executors_die_is_given_up() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    for _ in 0..3 {
        let run = rig.run().await;
        run.builds();
        run.ends(Verdict::Died("the power went".to_owned()));
    }
    let (heard, result) = alice.story().await;
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert!(text(&result).contains("died 3 times"), "{}", text(&result));
    assert!(heard.contains(&"> roost: the power went".to_owned()), "{heard:?}");
    assert!(rig.is_idle());
    until(|| !rig.holds(&alice.id())).await;
}

#[tokio::test]
async fn a_lost_connection_is_not_held_against_the_job() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    for _ in 0..4 {
        let run = rig.run().await;
        run.builds();
        // Else the same would be said twice, which is told once.
        alice.hears("building ").await;
        run.ends(Verdict::Lost("the connection was lost".to_owned()));
        alice.hears("it will be tried again").await;
    }
    rig.run().await.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn an_executor_that_panics_counts_as_dead() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    run.panics();
    alice.hears("a panic").await;
    rig.run().await.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_job_is_found_by_id_name_and_derivation() {
    let rig = Rig::new();
    let (alice, bob) = (rig.submit("hello").await, rig.submit("other").await);
    let find = |query: &str| rig.dispatcher.find(query);
    assert_eq!(find(alice.id().as_str()), Ok(alice.id()));
    assert_eq!(find(&bob.id().as_str()[..8]), Ok(bob.id()));
    assert_eq!(find("hello"), Ok(alice.id()));
    assert_eq!(find(&path("other.drv").to_string()), Ok(bob.id()));
    assert_eq!(find("nothing"), Err(FindError::Unknown("nothing".to_owned())));
    assert!(matches!(find(".drv"), Err(FindError::Ambiguous { count: 2, .. })));
}
