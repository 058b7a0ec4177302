//! Native first: what waits for hardware, what is emulated, and what moves when hardware is free.

use super::rig::*;
use crate::{
    execute::{Stage, Verdict},
    model::{Emulation, How},
    place::{Health, NodeFacts, Policy},
};

/// A board that emulates what [`board`] runs.
fn emulator(id: &str) -> NodeFacts {
    NodeFacts { systems: Vec::new(), emulated: vec!["riscv64-linux".to_owned()], ..board(id) }
}

fn away() -> Health {
    Health::Away("no route to host".to_owned())
}

fn building(node: &str) -> Stage {
    Stage::Building { node: node.to_owned(), phase: None }
}

const FALLBACK: Policy = Policy { emulation: Emulation::Fallback, native_wait: None };

#[tokio::test]
async fn without_native_hardware_a_job_is_emulated_and_why_says_so() {
    let mut rig = Rig::policy(FALLBACK);
    rig.nodes(vec![emulator("arm"), NodeFacts { health: away(), ..board("riscv") }]);
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    let why = rig.dispatcher.why(run.id().as_str()).unwrap();
    let notes: Vec<_> = why.notes.iter().map(|(_, text)| text.as_str()).collect();
    assert!(notes.iter().any(|note| note.contains("arm emulates riscv64-linux")), "{notes:?}");
    run.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_job_that_a_native_node_lost_once_is_not_emulated_while_it_is_there_but_is_after_more() {
    let mut rig = Rig::policy(FALLBACK);
    rig.nodes(vec![emulator("arm"), board("riscv")]);
    let mut alice = rig.submit("hello").await;
    for node in ["riscv", "riscv"] {
        let run = rig.run().await;
        assert_eq!(rig.view(&run.id()).node.as_deref(), Some(node));
        run.ends(Verdict::Lost("the connection was lost".to_owned()));
    }
    let run = rig.run().await;
    assert_eq!(rig.view(&run.id()).node.as_deref(), Some("arm"));
    run.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_native_node_that_comes_back_gets_the_jobs_that_wait_and_leaves_the_build_that_runs() {
    let mut rig = Rig::policy(FALLBACK);
    let arm = || NodeFacts { slots: 1, ahead: 1, ..emulator("arm") };
    rig.nodes(vec![arm(), NodeFacts { health: away(), ..board("riscv") }]);
    let (mut alice, mut bob) = (rig.submit("a").await, rig.submit("b").await);
    let (first, second) = (rig.run().await, rig.run().await);
    first.stage(building("arm"));
    second.stage(Stage::Waiting("on arm: all slots are busy".to_owned()));
    bob.hears("on arm").await;
    rig.nodes(vec![arm(), board("riscv")]);
    let moved = rig.run().await;
    assert_eq!(moved.id(), second.id());
    assert_eq!(rig.view(&moved.id()).node.as_deref(), Some("riscv"));
    second.dropped().await;
    until(|| rig.forgotten().contains(&second.id())).await;
    moved.succeeds();
    first.succeeds();
    assert!(alice.result().await.is_success());
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn a_job_that_waits_at_a_board_that_is_paused_moves_to_one_that_is_not() {
    let mut rig = Rig::policy(FALLBACK);
    let hot = || NodeFacts { health: Health::Paused("too hot".to_owned()), ..board("one") };
    rig.nodes(vec![board("one")]);
    let mut alice = rig.submit("hello").await;
    let first = rig.run().await;
    first.stage(Stage::Waiting("on one: too hot".to_owned()));
    alice.hears("too hot").await;
    rig.nodes(vec![hot(), board("two")]);
    let second = rig.run().await;
    assert_eq!(rig.view(&second.id()).node.as_deref(), Some("two"));
    second.succeeds();
    assert!(alice.result().await.is_success());
}

#[tokio::test]
async fn a_busy_native_node_is_waited_for_and_then_no_longer() {
    let mut rig = Rig::policy(Policy { native_wait: Some(SHORTLY), ..FALLBACK });
    rig.nodes(vec![emulator("arm"), NodeFacts { slots: 1, ..board("riscv") }]);
    let _alice = rig.submit("a").await;
    let first = rig.run().await;
    assert_eq!(rig.view(&first.id()).node.as_deref(), Some("riscv"));
    let mut bob = rig.submit("b").await;
    bob.hears("are busy (riscv)").await;
    let second = rig.run().await;
    assert_eq!(rig.view(&second.id()).node.as_deref(), Some("arm"));
    second.succeeds();
    assert!(bob.result().await.is_success());
}

#[tokio::test]
async fn an_emulated_build_is_begun_anew_natively_where_history_says_that_it_pays() {
    let mut rig = Rig::policy(Policy { emulation: Emulation::WhenFaster, native_wait: None });
    let riscv = |health| NodeFacts { health, ..board("riscv") };
    rig.tells("riscv", "x-1.0", How::Native, 10);
    rig.tells("arm", "x-1.1", How::Emulated, 1000);
    rig.nodes(vec![emulator("arm"), riscv(away())]);
    let alice = rig.submit("x-2.0").await;
    let emulated = rig.run().await;
    emulated.stage(building("arm"));
    until(|| rig.view(&alice.id()).reason.contains("building on arm")).await;
    rig.nodes(vec![emulator("arm"), riscv(Health::Ready)]);
    let native = rig.run().await;
    assert_eq!(rig.view(&native.id()).node.as_deref(), Some("riscv"));
    emulated.dropped().await;
}
