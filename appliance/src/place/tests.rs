use super::*;

fn node(name: &str, system: &str, slots: u32, assigned: u32) -> NodeFacts {
    NodeFacts {
        id: format!("id-{name}"),
        name: name.to_owned(),
        here: false,
        systems: vec![system.to_owned()],
        features: BTreeSet::from(["big-parallel".to_owned()]),
        slots,
        ahead: 2,
        assigned,
        busy: assigned,
        health: Health::Ready,
    }
}

fn place(system: &str, features: &[&str], nodes: &[NodeFacts]) -> Decision {
    let features = features.iter().map(|&f| f.to_owned()).collect();
    decide(&JobFacts { system, features: &features, here: false }, nodes)
}

fn chosen_node(decision: Decision) -> String {
    match decision {
        Decision::Run { node, .. } => node,
        other => panic!("expected a node, got {other:?}"),
    }
}

fn words(decision: Decision) -> String {
    match decision {
        Decision::Run { reason, .. } | Decision::Wait { reason, .. } => reason,
        Decision::Refuse { reason } => reason,
    }
}

#[test]
fn a_job_goes_to_the_least_loaded_node_of_its_system() {
    let nodes = [
        node("a", "aarch64-linux", 4, 2),
        node("b", "aarch64-linux", 4, 1),
        node("c", "riscv64-linux", 4, 0),
    ];
    assert_eq!(chosen_node(place("aarch64-linux", &[], &nodes)), "id-b");
}

#[test]
fn a_free_slot_comes_before_a_shorter_queue() {
    let mut busy_elsewhere = node("a", "aarch64-linux", 1, 0);
    busy_elsewhere.busy = 1;
    let nodes = [busy_elsewhere, node("b", "aarch64-linux", 8, 7)];
    assert_eq!(chosen_node(place("aarch64-linux", &[], &nodes)), "id-b");
}

#[test]
fn equal_nodes_are_taken_in_the_order_of_their_names() {
    let nodes = [node("b", "aarch64-linux", 2, 0), node("a", "aarch64-linux", 2, 0)];
    assert_eq!(chosen_node(place("aarch64-linux", &[], &nodes)), "id-a");
}

#[test]
fn a_builtin_derivation_runs_anywhere() {
    assert_eq!(chosen_node(place("builtin", &[], &[node("a", "riscv64-linux", 1, 0)])), "id-a");
}

#[test]
fn a_full_node_is_given_a_few_jobs_ahead_and_then_no_more() {
    let full = |assigned| place("aarch64-linux", &[], &[node("a", "aarch64-linux", 2, assigned)]);
    assert!(matches!(full(3), Decision::Run { .. }));
    assert_eq!(
        full(4),
        Decision::Wait {
            on: WaitFor::Slot,
            reason: "all 2 slots for aarch64-linux are busy (a)".to_owned()
        }
    );
}

#[test]
fn drained_and_absent_nodes_get_nothing() {
    let mut drained = node("a", "aarch64-linux", 2, 0);
    drained.health = Health::Draining;
    let mut away = node("b", "aarch64-linux", 2, 0);
    away.health = Health::Away("no answer".to_owned());
    assert_eq!(
        chosen_node(place(
            "aarch64-linux",
            &[],
            &[drained.clone(), away.clone(), node("c", "aarch64-linux", 1, 2)]
        )),
        "id-c"
    );
    assert!(matches!(
        place("aarch64-linux", &[], &[drained, away.clone()]),
        Decision::Wait { on: WaitFor::Resume, .. }
    ));
    let decision = place("aarch64-linux", &[], &[away]);
    assert!(matches!(decision, Decision::Wait { on: WaitFor::Return, .. }));
    assert_eq!(words(decision), "every node known for aarch64-linux is away: b (no answer)");
}

#[test]
fn a_refusal_names_what_is_missing() {
    let nodes = [node("a", "aarch64-linux", 1, 0)];
    assert_eq!(
        words(place("riscv64-linux", &[], &nodes)),
        "no node builds riscv64-linux; known are: aarch64-linux"
    );
    assert_eq!(
        words(place("aarch64-linux", &["kvm", "big-parallel"], &nodes)),
        "no node offers the features it needs: a is the closest for aarch64-linux, and lacks kvm"
    );
    assert!(matches!(place("x86_64-linux", &[], &[]), Decision::Refuse { .. }));
}

#[test]
fn a_node_without_slots_is_never_chosen() {
    let nodes = [node("a", "aarch64-linux", 0, 0)];
    assert!(matches!(place("aarch64-linux", &[], &nodes), Decision::Wait { .. }));
}

#[test]
fn a_job_of_this_nodes_own_nix_goes_elsewhere_and_one_of_others_stays() {
    let here = NodeFacts { here: true, ..node("here", "aarch64-linux", 9, 0) };
    let nodes = [here, node("board", "aarch64-linux", 1, 1)];
    let features = BTreeSet::new();
    let job = |here| JobFacts { system: "aarch64-linux", features: &features, here };
    assert_eq!(chosen_node(decide(&job(false), &nodes)), "id-board");
    assert_eq!(chosen_node(decide(&job(true), &nodes)), "id-here");
    let alone = decide(&job(false), &nodes[..1]);
    assert!(matches!(&alone, Decision::Refuse { .. }), "{alone:?}");
}
