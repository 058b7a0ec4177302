//! Where jobs go, what they wait for, and how long.

use std::collections::BTreeSet;

use nix_compat::nix_daemon::BuildStatus;

use super::rig::*;
use crate::{
    dispatch::Patience,
    execute::Verdict,
    model::{Builds as _, Cores, How, Size, Submission},
    place::{Health, NodeFacts},
};

#[tokio::test]
async fn a_waiting_client_hears_what_it_waits_for_and_its_place() {
    let mut rig = Rig::new();
    let (_a, _b) = (rig.submit("a").await, rig.submit("b").await);
    let (first, _second) = (rig.run().await, rig.run().await);
    let (mut c, mut d) = (rig.submit("c").await, rig.submit("d").await);
    c.hears("all 2 slots for riscv64-linux are busy (board); next in line").await;
    d.hears("1 job is before it").await;
    first.succeeds();
    assert_eq!(rig.run().await.id(), c.id());
    d.hears("next in line").await;
    assert!(rig.is_idle());
}

#[tokio::test]
async fn who_asks_why_is_told_which_nodes_could_have_a_job_and_which_are_out() {
    let mut rig = Rig::new();
    let away = NodeFacts { health: Health::Away("no route".to_owned()), ..node("gone") };
    rig.nodes(vec![NodeFacts { slots: 1, ..node("board") }, away]);
    let first = rig.submit("a").await;
    let run = rig.run().await;
    let candidates = |id: &crate::model::JobId| {
        let told = rig.dispatcher.why(id.as_str()).unwrap().candidates.into_iter();
        told.map(|it| (it.node, it.chosen, it.start_s.is_some(), it.reason)).collect::<Vec<_>>()
    };
    let gone = ("gone".to_owned(), false, false, "away: no route".to_owned());
    let board = ("board".to_owned(), true, true, String::new());
    assert_eq!(candidates(&first.id()), [board.clone(), gone.clone()], "as it was placed");
    let mut second = rig.submit("b").await;
    second.hears("slot").await;
    let told = rig.dispatcher.why(second.id().as_str()).unwrap().candidates;
    assert!(told[0].chosen && told[0].start_s > Some(0.0), "{told:?}");
    assert_eq!(told[0].finish_s, None, "nothing is known of such builds");
    assert_eq!(told[1].reason, "away: no route");
    run.succeeds();
    rig.run().await.succeeds();
    assert!(second.result().await.is_success());
    assert!(rig.dispatcher.why("b").unwrap().candidates.is_empty());
}

#[tokio::test]
async fn what_another_node_sends_is_begun_in_its_order_not_the_longest_first() {
    let mut rig = Rig::new();
    rig.nodes(vec![NodeFacts { slots: 1, ..node("board") }]);
    for (name, seconds) in [("running", 10), ("short", 1), ("long", 1000)] {
        rig.tells("elsewhere", name, How::Native, seconds);
        let sent = Submission { forwarded: true, ..submission(name) };
        soon(rig.dispatcher.submit(sent)).await.unwrap();
    }
    for name in ["running", "short", "long"] {
        let run = rig.run().await;
        assert_eq!(rig.view(&run.id()).name, name);
        run.succeeds();
    }
}

#[tokio::test]
async fn what_asks_for_many_cores_or_is_known_to_be_long_gets_all_of_this_node() {
    let mut rig = Rig::new();
    let features = BTreeSet::from([Size::BIG.to_owned()]);
    rig.nodes(vec![
        NodeFacts { features: features.clone(), slots: 3, ..node("here") },
        board("other"),
    ]);
    rig.tells("other", "compiler-1.0", How::Native, 3600);
    rig.tells("other", "hello-1.0", How::Native, 60);
    let big = Submission { features, ..submission("browser-2.0") };
    let _browser = rig.dispatcher.submit(big).await.unwrap();
    let mut cores = vec![rig.run().await.order.cores];
    for name in ["compiler-2.0", "hello-2.0"] {
        drop(rig.submit(name).await);
        cores.push(rig.run().await.order.cores);
    }
    assert_eq!(cores, [Cores::All, Cores::All, Cores::Share]);
    for job in rig.on_disk().await {
        let told = job.notes.iter().any(|note| note.text.ends_with("with all cores of the board"));
        assert_eq!(told, job.name != "hello-2.0", "{:?}", job.notes);
    }
}

#[tokio::test]
async fn a_board_decides_for_itself_which_cores_a_job_gets() {
    let mut rig = Rig::workstation();
    rig.tells("board", "compiler-1.0", How::Native, 3600);
    let _compiler = rig.submit("compiler-2.0").await;
    assert_eq!(rig.run().await.order.cores, Cores::Share);
}

#[tokio::test]
async fn a_drained_node_gets_nothing_until_it_is_resumed() {
    let mut rig = Rig::new();
    rig.health(Health::Draining);
    let mut alice = rig.submit("hello").await;
    alice.hears("is draining").await;
    assert!(rig.is_idle());
    rig.health(Health::Ready);
    rig.run().await.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_stranded_job_fails_after_a_while_and_names_the_node() {
    let rig = Rig::with(Patience { away: SHORTLY, ..PATIENT }, 10);
    rig.health(Health::Away("no route to host".to_owned()));
    let result = rig.submit("hello").await.result().await;
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert!(text(&result).contains("board (no route to host)"), "{}", text(&result));
}

#[tokio::test]
async fn a_node_that_comes_back_in_time_gets_the_job() {
    let mut rig = Rig::new();
    rig.health(Health::Away("no route to host".to_owned()));
    let mut alice = rig.submit("hello").await;
    alice.hears("is away").await;
    rig.health(Health::Ready);
    rig.run().await.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_job_that_no_node_can_build_is_refused_with_the_reason() {
    let rig = Rig::new();
    rig.nodes(vec![NodeFacts { systems: vec!["aarch64-linux".to_owned()], ..node("board") }]);
    let result = rig.submit("hello").await.result().await;
    assert!(text(&result).contains("no node builds riscv64-linux"), "{}", text(&result));
}

#[tokio::test]
async fn a_node_that_vanishes_between_choice_and_start_costs_nothing() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello").await;
    rig.run().await.ends(Verdict::Lost("gone".to_owned()));
    alice.hears("it will be tried again").await;
    rig.nodes(vec![node("another")]);
    let run = rig.run().await;
    assert_eq!(rig.view(&run.id()).node.as_deref(), Some("another"));
    // The first one may go on with it.
    until(|| rig.forgotten() == [run.id()]).await;
    run.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_node_that_loses_a_job_is_not_the_first_to_get_it_again() {
    let mut rig = Rig::new();
    // By load and name, the first of them is always the better choice.
    rig.nodes(vec![NodeFacts { slots: 9, ..node("a-black-hole") }, node("board")]);
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    assert_eq!(rig.view(&run.id()).node.as_deref(), Some("a-black-hole"));
    run.ends(Verdict::Lost("no answer".to_owned()));
    let run = rig.run().await;
    assert_eq!(rig.view(&run.id()).node.as_deref(), Some("board"));
    run.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn two_hundred_jobs_on_two_slots_all_end_and_never_more_than_two_run() {
    let mut rig = Rig::new();
    let names: Vec<_> = (0..200).map(|number| format!("job-{number}")).collect();
    let all = futures_util::future::join_all(names.iter().map(|name| rig.try_submit(name))).await;
    for _ in 0..all.len() {
        rig.run().await.succeeds();
    }
    for ticket in all {
        assert!(Waiter::new(ticket.unwrap()).result().await.is_success());
    }
    assert_eq!(rig.most(), 2);
    assert_eq!(rig.dispatcher.counts(), (0, 0));
}
