//! Where jobs are wanted, by who asks and by rules.

use super::rig::*;
use crate::{
    dispatch::{Asked, Foresight},
    model::{Builds as _, Demand, Origin, Want, Wish},
    place::{Health, NodeFacts},
};

fn on(node: &str) -> Demand {
    Wish { origin: Origin::On, want: Want::Require, nodes: [node.to_owned()].into() }.into()
}

/// Asks for a job on a node.
async fn submit(rig: &Rig, name: &str, node: &str) -> Waiter {
    let mut submission = submission(name);
    submission.key.site = crate::model::Site::Elsewhere;
    submission.demand = on(node);
    Waiter::new(soon(rig.dispatcher.submit(submission)).await.unwrap())
}

fn away(node: NodeFacts) -> NodeFacts {
    NodeFacts { health: Health::Away("no answer".to_owned()), ..node }
}

#[tokio::test]
async fn a_job_waits_for_its_board_and_says_so_and_the_record_keeps_that() {
    let mut rig = Rig::workstation();
    rig.nodes(vec![board("board"), away(board("vf2"))]);
    let mut waiter = submit(&rig, "a", "vf2").await;
    waiter.hears("vf2 (no answer) (--on asks for vf2)").await;
    assert!(rig.is_idle(), "another board is free, and not wanted");
    let kept = rig.on_disk().await;
    assert_eq!(kept[0].demand, on("vf2"));
}

#[tokio::test]
async fn a_job_is_given_to_its_board_when_that_is_back() {
    let mut rig = Rig::workstation();
    rig.nodes(vec![board("board"), away(board("vf2"))]);
    let waiter = submit(&rig, "a", "vf2").await;
    rig.nodes(vec![board("board"), board("vf2")]);
    let run = rig.run().await;
    assert_eq!(rig.view(&waiter.id()).node.as_deref(), Some("vf2"));
    run.succeeds();
}

#[tokio::test]
async fn a_job_that_nobody_waits_for_any_more_goes_where_the_next_one_wants_it() {
    let mut rig = Rig::workstation();
    rig.nodes(vec![board("board"), away(board("vf2"))]);
    let waiter = submit(&rig, "a", "vf2").await;
    let id = waiter.id();
    let by_others = submit(&rig, "a", "board").await;
    assert!(rig.is_idle(), "somebody waits for it to be built on vf2");
    drop((waiter, by_others));
    until(|| rig.view(&id).attached == 0).await;
    assert!(rig.dispatcher.too_late(|_| true, &on("board")).is_empty());
    let again = rig.submit("a").await;
    rig.run().await.succeeds();
    assert_eq!(rig.view(&again.id()).node.as_deref(), Some("board"));
}

#[tokio::test]
async fn a_rule_counts_for_jobs_that_it_names() {
    let mut rig = Rig::workstation();
    rig.nodes(vec![board("shunned")]);
    let refused = rig.submit("avoider").await.result().await;
    assert!(text(&refused).contains("rule 1 (name avoider) avoids shunned"), "{}", text(&refused));
    let waiter = rig.submit("other").await;
    rig.run().await.succeeds();
    assert_eq!(rig.view(&waiter.id()).node.as_deref(), Some("shunned"));
}

#[tokio::test]
async fn what_somebody_has_asked_for_before_is_left_where_it_is_and_that_is_told() {
    let mut rig = Rig::workstation();
    let waiter = rig.submit("a").await;
    let run = rig.run().await;
    rig.nodes(vec![board("board"), board("vf2")]);
    let too_late = rig.dispatcher.too_late(|drv| *drv == path("a.drv"), &on("vf2"));
    assert_eq!(
        Vec::from_iter(too_late),
        ["a is with board already, asked for by alice (pid 4711): it is left as it is"]
    );
    assert!(rig.dispatcher.too_late(|_| true, &on("board")).is_empty(), "it is there");
    let again = submit(&rig, "a", "vf2").await;
    assert_eq!(again.id(), waiter.id());
    let notes = rig.dispatcher.why("a").unwrap().notes;
    assert!(notes.iter().any(|(_, note)| note.contains("--on asks for vf2")), "{notes:?}");
    run.succeeds();
}

#[tokio::test]
async fn what_would_become_of_a_job_is_told_before_it_is_asked_for() {
    let rig = Rig::workstation();
    rig.nodes(vec![board("board"), away(board("vf2"))]);
    let features = std::collections::BTreeSet::new();
    let of = |name, system| Asked { name, system, features: &features };
    let jobs = [of("a", "riscv64-linux"), of("b", "aarch64-linux"), of("c", "riscv64-linux")];
    let foreseen = rig.dispatcher.foresee(&jobs, &on("board"));
    let [Foresight::Built, Foresight::Refused(why), Foresight::Built] = &foreseen[..] else {
        panic!("{foreseen:?}");
    };
    assert!(why.contains("no node builds aarch64-linux"), "{why}");
    let foreseen = rig.dispatcher.foresee(&jobs[..1], &on("vf2"));
    assert!(
        matches!(&foreseen[..], [Foresight::Waits(why)] if why.contains("vf2 (no answer)")),
        "{foreseen:?}"
    );
}
