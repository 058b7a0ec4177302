//! Where a job is wanted.

use super::*;
use crate::model::{Origin, Want, Wish};

fn wishes(wishes: &[(Want, &[&str])]) -> Demand {
    let wish = |(want, nodes): &(Want, &[&str])| Wish {
        origin: Origin::On,
        want: *want,
        nodes: nodes.iter().map(|&word| word.to_owned()).collect(),
    };
    wishes.iter().map(wish).collect()
}

fn wanted(demand: &Demand, nodes: &[NodeFacts]) -> Decision {
    decide(&JobFacts { demand, ..job(Emulation::Fallback) }, nodes)
}

#[test]
fn a_job_is_built_where_it_is_wanted_whatever_the_load() {
    let fast = NodeFacts { labels: ["fast".to_owned()].into(), ..native("b", 2) };
    let nodes = [native("a", 0), fast];
    for word in ["b", "id-b", "fast"] {
        let decision = wanted(&wishes(&[(Want::Require, &[word])]), &nodes);
        assert!(
            matches!(&decision, Decision::Run { node, reason, .. }
                if node == "id-b" && reason.ends_with(&format!("(--on asks for {word})"))),
            "{decision:?}"
        );
    }
    assert_eq!(chosen_node(wanted(&wishes(&[(Want::Avoid, &["a"])]), &nodes)), "id-b");
    assert_eq!(chosen_node(wanted(&wishes(&[]), &nodes)), "id-a");
}

#[test]
fn what_is_preferred_comes_before_what_is_less_busy_while_it_has_a_slot() {
    let demand = wishes(&[(Want::Prefer, &["b"])]);
    assert_eq!(chosen_node(wanted(&demand, &[native("a", 0), native("b", 1)])), "id-b");
    assert_eq!(chosen_node(wanted(&demand, &[native("a", 0), native("b", 2)])), "id-a");
    assert_eq!(chosen_node(wanted(&demand, &[native("a", 1)])), "id-a");
    let here = NodeFacts { here: true, ..native("here", 0) };
    let job = JobFacts { among: Among::All, demand: &demand, ..job(Emulation::Fallback) };
    let decision = decide(&job, &[here.clone(), native("a", 0), native("b", 0)]);
    assert_eq!(chosen_node(decision), "id-b", "though nothing would have to be sent");
    assert_eq!(chosen_node(decide(&job, &[here, native("a", 0)])), "id-here");
}

#[test]
fn a_job_waits_for_the_node_that_it_is_wanted_on() {
    let demand = wishes(&[(Want::Require, &["b"])]);
    let decision = wanted(&demand, &[native("a", 0), with(away(), native("b", 0))]);
    assert!(matches!(decision, Decision::Wait { on: WaitFor::Return, .. }), "{decision:?}");
    assert_eq!(
        words(decision),
        "every node known for riscv64-linux is away: b (no answer) (--on asks for b)"
    );
    let busy = wanted(&demand, &[native("a", 0), native("b", 4)]);
    assert!(matches!(busy, Decision::Wait { on: WaitFor::Slot, .. }), "{busy:?}");
}

#[test]
fn a_native_node_that_is_not_wanted_does_not_keep_a_job_from_being_emulated() {
    let demand = wishes(&[(Want::Require, &["arm"])]);
    let decision = wanted(&demand, &[native("a", 0), emulator("arm", 0)]);
    assert!(matches!(&decision, Decision::Run { how: How::Emulated, .. }), "{decision:?}");
    let Decision::Run { reason, .. } = decision else { return };
    assert!(reason.contains("no node that may have it runs it natively"), "{reason}");
}

#[test]
fn a_refusal_says_what_is_asked_for_and_why_nobody_meets_it() {
    let here = NodeFacts { here: true, ..native("desk", 0) };
    let nodes = [native("a", 0), node("arm", "aarch64-linux", 2, 0), here];
    let refused = |demand: &[(Want, &[&str])]| match wanted(&wishes(demand), &nodes) {
        Decision::Refuse { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&[(Want::Require, &["nosuch"])]),
        "--on asks for nosuch, and none of the known nodes (a, arm) may have it then"
    );
    assert_eq!(
        refused(&[(Want::Require, &["arm"])]),
        "--on asks for arm, and of the nodes that remain no node builds riscv64-linux; known are: \
         aarch64-linux"
    );
    let own = refused(&[(Want::Require, &["desk"])]);
    assert!(own.starts_with("--on asks for desk, and desk is this machine"), "{own}");
    let both = refused(&[(Want::Require, &["a"]), (Want::Avoid, &["a"])]);
    assert!(both.starts_with("--on asks for a, and --on avoids a, and none of"), "{both}");
}

#[test]
fn a_job_is_not_taken_back_for_a_node_that_it_is_not_wanted_on() {
    let nodes = [with(hot(), native("a", 1)), native("b", 0)];
    let recalled =
        |demand| recall(&JobFacts { demand, ..job(Emulation::Fallback) }, "id-a", &nodes).is_some();
    assert!(recalled(&ANYWHERE));
    assert!(!recalled(&wishes(&[(Want::Require, &["a"])])));
}
