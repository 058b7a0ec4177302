//! What the local Nix is told to build by itself.

use std::time::Duration;

use super::rig::*;
use crate::{
    model::{Advice, Asker, Client, Inquiry},
    place::NodeFacts,
};

/// The local Nix, with two slots of its own and none taken, asks for a derivation of this name.
fn ask(rig: &Rig, name: &str) -> Advice {
    ask_while(rig, name, 0)
}

/// The same, while so many of its builds run.
fn ask_while(rig: &Rig, name: &str, running: u32) -> Advice {
    let asker = Asker { pid: 7, willing: running < 2, slots: 2, running };
    rig.dispatcher.advise(&inquiry(&submission(name).key.drv_path.to_string(), asker))
}

fn inquiry(drv_path: &str, asker: Asker) -> Inquiry {
    Inquiry {
        demand: crate::model::Demand::default(),
        drv_path: drv_path.to_owned(),
        system: SYSTEM.to_owned(),
        features: [].into(),
        client: Client { label: "me".to_owned() },
        asker,
    }
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
    assert_eq!(rig.dispatcher.advise(&inquiry("../a", Asker::default())), Advice::Elsewhere);
}

#[tokio::test(start_paused = true)]
async fn what_nix_was_told_to_begin_takes_its_slots_before_it_runs() {
    let rig = rig();
    // Its one slot is taken, and it is ready for one more.
    rig.nodes(vec![NodeFacts { slots: 1, ahead: 1, busy: 1, ..board("board") }]);
    // Nix asks for all that can be built, and begins then.
    let told: Vec<_> = ["a", "b", "c", "d"].map(|name| ask(&rig, name)).into();
    assert_eq!(told, [Advice::Local, Advice::Local, Advice::Elsewhere, Advice::Local]);
    // What has waited for Nix, and what is new, may have the slots that have become free.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ask_while(&rig, "d", 1), Advice::Local);
    assert_eq!(ask_while(&rig, "e", 2), Advice::Local, "nobody has room for it");
}
