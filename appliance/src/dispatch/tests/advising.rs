//! What the local Nix is told to build by itself.

use std::time::Duration;

use super::rig::*;
use crate::{
    model::{Advice, Client, Inquiry},
    place::NodeFacts,
};

/// The local Nix asks for a derivation of this name.
fn ask(rig: &Rig, name: &str) -> Advice {
    rig.dispatcher.advise(&Inquiry {
        drv_path: submission(name).key.drv_path.to_string(),
        system: SYSTEM.to_owned(),
        features: [].into(),
        client: Client { label: "me".to_owned() },
    })
}

/// A workstation with one board of one slot.
fn rig() -> Rig {
    let rig = Rig::workstation();
    rig.nodes(vec![NodeFacts { slots: 1, ..board("board") }]);
    rig
}

#[tokio::test]
async fn boards_are_filled_first_and_what_they_have_no_slot_for_is_built_here() {
    let mut rig = rig();
    assert_eq!(ask(&rig, "a"), Advice::Elsewhere);
    // Its job is on its way, and takes the slot.
    assert_eq!(ask(&rig, "b"), Advice::Local);
    let _waiter = rig.submit("a").await;
    let run = rig.run().await;
    assert_eq!(ask(&rig, "b"), Advice::Local);
    run.succeeds();
    until(|| ask(&rig, "b") == Advice::Elsewhere).await;
}

#[tokio::test]
async fn whoever_comes_back_for_a_job_finds_it() {
    let mut rig = rig();
    let first = rig.submit("a").await;
    let run = rig.run().await;
    drop(first);
    assert_eq!(ask(&rig, "b"), Advice::Local);
    assert_eq!(ask(&rig, "a"), Advice::Elsewhere, "its job runs on a board");
    run.fails("wrong");
    until(|| rig.view(&run.id()).state == "failed").await;
    rig.nodes(vec![NodeFacts { slots: 1, busy: 1, ..board("board") }]);
    assert_eq!(ask(&rig, "a"), Advice::Elsewhere, "nobody has heard of its failure");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_never_comes_takes_no_slot_for_long() {
    let rig = rig();
    assert_eq!(ask(&rig, "a"), Advice::Elsewhere);
    assert_eq!(ask(&rig, "a"), Advice::Elsewhere, "asked again, as when Nix postpones");
    assert_eq!(ask(&rig, "b"), Advice::Local);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(ask(&rig, "b"), Advice::Elsewhere);
}

#[tokio::test]
async fn what_is_no_derivation_is_left_to_nix() {
    let rig = rig();
    rig.nodes(vec![]);
    let inquiry = Inquiry {
        drv_path: "../a".to_owned(),
        system: SYSTEM.to_owned(),
        features: [].into(),
        client: Client { label: "me".to_owned() },
    };
    assert_eq!(rig.dispatcher.advise(&inquiry), Advice::Elsewhere);
}
