//! Who is let in, who shares what, and who hears what.

use nix_compat::nix_daemon::BuildStatus;

use super::rig::*;
use crate::model::{Builds as _, JobState, Refusal};

#[tokio::test]
async fn a_job_is_accepted_built_and_its_client_told() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    assert_eq!(run.order.key, submission("hello").key);
    assert_eq!(run.order.payload, submission("hello").payload);
    run.builds();
    alice.hears("building ").await;
    run.line("compiling");
    run.succeeds();
    let (heard, result) = alice.story().await;
    assert!(result.is_success());
    assert!(heard.contains(&"> compiling".to_owned()), "{heard:?}");
    assert_eq!(heard.last().unwrap(), "stop");
    let view = rig.view(&alice.id());
    assert_eq!((view.state.as_str(), view.node.as_deref()), ("built", Some("board")));
}

#[tokio::test]
async fn an_accepted_job_is_on_disk_and_its_inputs_are_held() {
    let rig = Rig::new();
    rig.nodes(vec![]);
    rig.health(crate::place::Health::Draining);
    let alice = rig.submit("hello").await;
    assert!(rig.holds(&alice.id()));
    let jobs = rig.on_disk().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!((&jobs[0].key, &jobs[0].state), (&submission("hello").key, &JobState::Queued));
}

#[tokio::test]
async fn two_clients_of_one_derivation_share_one_run_and_both_hear_everything() {
    let mut rig = Rig::new();
    let (first, second) = tokio::join!(rig.try_submit("hello"), rig.try_submit("hello"));
    let (mut alice, mut bob) = (Waiter::new(first.unwrap()), Waiter::new(second.unwrap()));
    assert_eq!(alice.id(), bob.id());
    let run = rig.run().await;
    assert_eq!(rig.view(&alice.id()).attached, 2);
    run.builds();
    run.line("compiling");
    run.succeeds();
    for client in [&mut alice, &mut bob] {
        let (heard, result) = client.story().await;
        assert!(result.is_success());
        assert!(heard.contains(&"> compiling".to_owned()), "{heard:?}");
    }
    assert!(rig.is_idle());
}

#[tokio::test]
async fn a_late_client_gets_the_log_from_its_start() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    run.line("one");
    run.line("two");
    alice.hears("> two").await;
    let mut bob = rig.submit("hello").await;
    bob.hears("> one").await;
    bob.hears("> two").await;
    run.line("three");
    bob.hears("> three").await;
    run.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn a_full_queue_refuses_new_jobs_and_still_attaches_to_old_ones() {
    let rig = Rig::with(PATIENT, 1);
    let _alice = rig.submit("hello").await;
    assert_eq!(rig.try_submit("other").await.unwrap_err(), Refusal::Full { held: 1 });
    rig.try_submit("hello").await.unwrap();
}

#[tokio::test]
async fn a_job_whose_inputs_are_gone_is_refused_and_nothing_is_left_of_it() {
    let rig = Rig::new();
    rig.lacks(path("hello-source"));
    let refusal = rig.try_submit("hello").await.unwrap_err();
    let example = path("hello-source").to_string();
    assert_eq!(refusal, Refusal::InputsGone { missing: 1, example });
    assert!(!rig.holds(&submission("hello").key.id()));
    assert!(rig.dispatcher.jobs().is_empty());
    rig.submit("other").await;
}

#[tokio::test]
async fn a_stopping_dispatcher_refuses() {
    let rig = Rig::new();
    soon(rig.dispatcher.stop()).await;
    assert_eq!(rig.try_submit("hello").await.unwrap_err(), Refusal::Stopping);
}

#[tokio::test]
async fn a_log_that_cannot_be_kept_is_no_reason_to_refuse() {
    let mut rig = Rig::new();
    // A folder where the log should be.
    rig.spoil_log(&submission("hello").key.id());
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.line("unheard");
    run.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_failure_is_told_once_and_then_the_job_is_built_again() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    rig.run().await.fails("no such file");
    let result = alice.result().await;
    assert_eq!(
        (result.status, text(&result)),
        (BuildStatus::PermanentFailure, "no such file".into())
    );
    let mut bob = rig.submit("hello").await;
    rig.run().await.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn a_failure_nobody_waited_for_is_told_to_whoever_asks_next_and_then_built_again() {
    for mut rig in [Rig::new(), Rig::workstation()] {
        let alice = rig.submit("hello").await;
        let id = alice.id();
        let run = rig.run().await;
        run.line("gcc: no such file");
        drop(alice);
        until(|| rig.view(&id).attached == 0).await;
        run.fails("builder failed");
        until(|| rig.dispatcher.has_ended(&id)).await;
        let (heard, result) = rig.submit("hello").await.story().await;
        assert_eq!(text(&result), "builder failed");
        assert!(heard.contains(&"> gcc: no such file".to_owned()), "{heard:?}");
        let mut bob = rig.submit("hello").await;
        rig.run().await.succeeds();
        assert!(bob.result().await.is_success());
    }
}

#[tokio::test]
async fn a_result_that_is_held_answers_whoever_asks() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    rig.run().await.succeeds();
    alice.result().await;
    assert!(rig.submit("hello").await.result().await.is_success());
    assert!(rig.is_idle());
}

#[tokio::test]
async fn a_workstation_asks_the_board_again_for_what_it_built() {
    let mut rig = Rig::workstation();
    let mut alice = rig.submit("hello").await;
    rig.run().await.succeeds();
    alice.result().await;
    let mut bob = rig.submit("hello").await;
    rig.run().await.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn who_leaves_an_ended_job_does_not_count_as_leaving_the_next_of_its_name() {
    let mut rig = Rig::with(crate::dispatch::Patience { orphan_grace: SHORTLY, ..PATIENT }, 10);
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    // More than her feed may be ahead of her: it is not done when the job is.
    for _ in 0..200 {
        run.line("chatter");
    }
    run.fails("no such file");
    until(|| rig.dispatcher.has_ended(&alice.id())).await;
    let mut bob = rig.submit("hello").await;
    let run = rig.run().await;
    let mut changes = rig.dispatcher.changes();
    assert_eq!(text(&alice.result().await), "no such file");
    drop(alice);
    // She is detached, which is a change of the job that she was attached to.
    soon(changes.recv()).await.unwrap();
    assert_eq!(rig.view(&bob.id()).attached, 1);
    run.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn outputs_are_held_until_they_are_fetched() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    let id = alice.id();
    rig.run().await.succeeds();
    alice.result().await;
    assert!(rig.holds(&id));
    soon(rig.dispatcher.fetched(&id)).await;
    assert!(!rig.holds(&id));
    // Released, it answers nobody any more.
    let _bob = rig.submit("hello").await;
    rig.run().await.succeeds();
}

#[tokio::test]
async fn outputs_that_nobody_fetches_are_let_go_of() {
    let patience = crate::dispatch::Patience { output_grace: std::time::Duration::ZERO, ..PATIENT };
    let mut rig = Rig::with(patience, 10);
    let mut alice = rig.submit("hello").await;
    rig.run().await.succeeds();
    alice.result().await;
    until(|| !rig.holds(&alice.id())).await;
}
