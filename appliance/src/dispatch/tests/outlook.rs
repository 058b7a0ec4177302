//! What would become of builds that nobody has asked for yet.

use super::rig::*;
use crate::{
    dispatch::NoOutlook,
    model::{How, Outlook, Planned},
    place::{Health, NodeFacts},
};

const SYSTEM: &str = "riscv64-linux";

fn planned(name: &str, needs: &[u32]) -> Planned {
    Planned {
        drv_path: path(&format!("{name}.drv")).to_string(),
        system: SYSTEM.to_owned(),
        features: [].into(),
        fixed_output: false,
        prefer_local: false,
        needs: needs.to_vec(),
    }
}

/// Each build's node, whether it is known, and when it begins and ends in whole seconds.
fn told(outlook: &Outlook) -> Vec<(&str, bool, f64, f64)> {
    let name = |node: u32| outlook.nodes[node as usize].0.as_str();
    let told = outlook.builds.iter();
    told.map(|it| (name(it.node), it.known, it.start_s.round(), it.end_s.round())).collect()
}

/// A workstation with these boards, of one slot each.
fn rig(boards: &[&str]) -> Rig {
    let rig = Rig::workstation();
    rig.nodes(boards.iter().map(|id| NodeFacts { slots: 1, ..board(id) }).collect());
    rig
}

#[tokio::test]
async fn a_graph_is_placed_by_what_earlier_builds_took_and_nothing_is_built() {
    let mut rig = rig(&["one", "two"]);
    rig.tells("one", "first", How::Native, 100);
    rig.tells("one", "beside", How::Native, 60);
    rig.tells("one", "last", How::Native, 10);
    let all = [planned("last-1", &[1, 2]), planned("first-1", &[]), planned("beside-1", &[])];
    let outlook = rig.dispatcher.outlook(&all, 0).unwrap();
    let [last, first, beside] = told(&outlook).try_into().unwrap();
    assert_eq!([first.2, first.3, beside.2, beside.3], [0.0, 100.0, 0.0, 60.0]);
    assert_ne!(first.0, beside.0, "each board has one");
    assert_eq!([last.2, last.3], [100.0, 110.0]);
    assert!(last.1 && first.1 && beside.1);
    assert_eq!(outlook.nodes, [("one".to_owned(), 1), ("two".to_owned(), 1)]);
    assert_eq!((outlook.by_work_s.round(), outlook.by_chain_s.round()), (85.0, 110.0));
    assert!(rig.dispatcher.jobs().is_empty() && rig.is_idle());
}

#[tokio::test]
async fn what_was_never_built_is_guessed_and_said_to_be() {
    let rig = rig(&["one"]);
    let outlook = rig.dispatcher.outlook(&[planned("new-1", &[])], 0).unwrap();
    let (node, known, start_s, end_s) = told(&outlook)[0];
    assert_eq!((node, known, start_s), ("one", false, 0.0));
    assert!(end_s > 0.0);
}

#[tokio::test]
async fn the_local_nix_is_one_more_node_where_it_builds() {
    let rig = rig(&["one"]);
    rig.tells("one", "work", How::Native, 60);
    let all: Vec<_> = (0..3).map(|n| planned(&format!("work-{n}"), &[])).collect();
    let outlook = rig.dispatcher.outlook(&all, 2).unwrap();
    assert!(outlook.nodes.contains(&("this machine".to_owned(), 2)));
    assert!(outlook.builds.iter().all(|it| it.start_s <= 0.0), "{outlook:?}");
    let most = rig.dispatcher.outlook(&all, u32::MAX).unwrap();
    assert!(most.nodes.contains(&("this machine".to_owned(), 4096)), "{:?}", most.nodes);
    let outlook = rig.dispatcher.outlook(&all, 0).unwrap();
    assert_eq!(outlook.nodes, [("one".to_owned(), 1)]);
    assert!(outlook.builds.iter().any(|it| it.start_s > 100.0), "{outlook:?}");
}

#[tokio::test]
async fn what_boards_have_to_do_already_comes_first() {
    let mut rig = rig(&["one"]);
    rig.tells("one", "work", How::Native, 60);
    let _waiter = rig.submit("work").await;
    let run = rig.run().await;
    let outlook = rig.dispatcher.outlook(&[planned("work-2", &[])], 0).unwrap();
    assert_eq!(told(&outlook), [("one", true, 60.0, 120.0)]);
    run.succeeds();
}

#[tokio::test]
async fn rules_hold_for_a_plan_too() {
    let rig = rig(&["other", "shunned"]);
    let all = [planned("avoider", &[]), planned("avoider", &[0])];
    let outlook = rig.dispatcher.outlook(&all, 0).unwrap();
    assert!(told(&outlook).iter().all(|it| it.0 == "other"), "{outlook:?}");
}

#[tokio::test]
async fn what_cannot_be_built_is_named_with_the_reason() {
    let rig = rig(&["one"]);
    let foreign = Planned { system: "sparc-linux".to_owned(), ..planned("foreign-1", &[]) };
    let refused = rig.dispatcher.outlook(&[planned("a", &[]), foreign], 2).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("foreign-1: ") && text.contains("sparc-linux"), "{text}");
    rig.nodes(vec![NodeFacts { health: Health::Away("no route".to_owned()), ..board("one") }]);
    let waits = rig.dispatcher.outlook(&[planned("a", &[]), planned("b", &[0])], 0).unwrap_err();
    let text = waits.to_string();
    assert!(text.starts_with("2 of the builds would not begin, a for one: "), "{text}");
    assert!(text.contains("no route"), "{text}");
}

#[tokio::test]
async fn a_graph_that_makes_no_sense_is_an_error() {
    let rig = rig(&["one"]);
    let outlook = |all: &[Planned]| rig.dispatcher.outlook(all, 0);
    let tangled = |name: &str| Err(NoOutlook::Tangled(name.to_owned()));
    assert_eq!(outlook(&[planned("a", &[1]), planned("b", &[0])]), tangled("a"));
    assert_eq!(outlook(&[planned("a", &[0])]), tangled("a"));
    assert_eq!(outlook(&[planned("a", &[7])]), tangled("a"));
    let text = Planned { drv_path: "/etc/passwd".to_owned(), ..planned("a", &[]) };
    assert!(matches!(outlook(&[text]), Err(NoOutlook::NoDerivation(_))));
    assert_eq!(outlook(&vec![planned("a", &[]); 20_001]), Err(NoOutlook::TooMany(20_001)));
    assert_eq!(outlook(&[]).unwrap().builds, []);
}
