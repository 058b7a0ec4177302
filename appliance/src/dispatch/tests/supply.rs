//! Jobs go where their inputs are, if that is sooner.

use std::time::Duration;

use nix_compat::store_path::StorePath;

use super::rig::*;

const MIB: u64 = 1 << 20;

/// A workstation with two boards that are equal but for their names, and what jobs need: it is small, and
/// refers to something large.
fn fleet() -> (Rig, StorePath, StorePath) {
    let rig = Rig::workstation();
    rig.nodes(vec![board("a"), board("b")]);
    let (stdenv, gcc) = (path("stdenv"), path("gcc"));
    rig.stores(&stdenv, 100, &[&gcc]);
    rig.stores(&gcc, 200 * MIB, &[]);
    (rig, stdenv, gcc)
}

#[tokio::test]
async fn a_job_goes_to_the_board_that_has_its_inputs() {
    let (mut rig, stdenv, gcc) = fleet();
    rig.has("a", &[]);
    rig.has("b", &[&gcc]);
    let _alice = rig.submit_with("hello", &stdenv).await;
    let run = rig.run().await;
    assert_eq!(rig.view(&run.id()).node.as_deref(), Some("b"));
    let why = rig.dispatcher.why(run.id().as_str()).unwrap();
    let told: Vec<_> = why.candidates.iter().map(|it| (&*it.node, &*it.reason)).collect();
    assert_eq!(told, [("b", ""), ("a", "lacks 200 MiB of its inputs (about 17 s)")]);
}

#[tokio::test]
async fn what_was_sent_once_is_there_for_the_next_job() {
    let (mut rig, stdenv, _) = fleet();
    rig.has("a", &[]);
    rig.has("b", &[]);
    let _alice = rig.submit_with("hello", &stdenv).await;
    let first = rig.run().await;
    assert_eq!(rig.view(&first.id()).node.as_deref(), Some("a"), "no board has it");
    first.is_supplied(200 * MIB, Duration::from_secs(20));
    first.builds();
    until(|| rig.view(&first.id()).reason.contains("building")).await;
    // The other board has more slots free.
    let _bob = rig.submit_with("bye", &stdenv).await;
    let second = rig.run().await;
    assert_eq!(rig.view(&second.id()).node.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_board_that_does_not_say_what_it_has_holds_no_job_up() {
    let (mut rig, stdenv, _) = fleet();
    rig.has("b", &[]);
    for name in ["hello", "bye"] {
        let _alice = rig.submit_with(name, &stdenv).await;
        rig.run().await;
    }
}
