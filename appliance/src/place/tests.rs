mod wanted;

use super::*;
use crate::model::{ANYWHERE, Supply};

fn node(name: &str, system: &str, slots: u32, assigned: u32) -> NodeFacts {
    NodeFacts {
        id: format!("id-{name}"),
        name: name.to_owned(),
        here: false,
        systems: vec![system.to_owned()],
        emulated: Vec::new(),
        features: BTreeSet::from(["big-parallel".to_owned()]),
        labels: BTreeSet::new(),
        slots,
        speed: 1.0,
        ahead: 2,
        assigned,
        big: 0,
        busy: assigned,
        jobs: Vec::new(),
        supply: Supply::default(),
        health: Health::Ready,
    }
}

/// A node of 2 slots that emulates riscv64-linux.
fn emulator(name: &str, assigned: u32) -> NodeFacts {
    NodeFacts {
        emulated: vec!["riscv64-linux".to_owned()],
        ..node(name, "aarch64-linux", 2, assigned)
    }
}

/// A node of 2 slots that runs riscv64-linux.
fn native(name: &str, assigned: u32) -> NodeFacts {
    node(name, "riscv64-linux", 2, assigned)
}

fn with(health: Health, node: NodeFacts) -> NodeFacts {
    NodeFacts { health, ..node }
}

fn away() -> Health {
    Health::Away("no answer".to_owned())
}

fn hot() -> Health {
    Health::Paused("it is too hot".to_owned())
}

static NO_FEATURES: BTreeSet<String> = BTreeSet::new();

/// A job for riscv64-linux that has just come.
fn job(emulation: Emulation) -> JobFacts<'static> {
    JobFacts {
        system: "riscv64-linux",
        features: &NO_FEATURES,
        among: Among::Others,
        demand: &ANYWHERE,
        policy: Policy { emulation, native_wait: None },
        waited: Duration::ZERO,
        times: Times::default(),
        client: "somebody",
        big: false,
        path_s: 0.0,
        avoid: None,
        misses: 0,
        inputs: &[],
    }
}

/// So many seconds on native hardware of speed 1.
fn native_s(seconds: u64) -> Times {
    Times { native: Some(Duration::from_secs(seconds)), emulated: None }
}

fn place(system: &str, features: &[&str], nodes: &[NodeFacts]) -> Decision {
    let features = features.iter().map(|&f| f.to_owned()).collect();
    decide(&JobFacts { system, features: &features, ..job(Emulation::Fallback) }, nodes)
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
fn two_that_get_all_cores_are_rather_not_on_one_node() {
    let mut nodes = [native("a", 1), native("b", 1)];
    nodes[0].big = 1;
    let big = JobFacts { big: true, ..job(Emulation::Never) };
    let timed = JobFacts { times: native_s(100), ..big.clone() };
    assert_eq!(chosen_node(decide(&job(Emulation::Never), &nodes)), "id-a", "small ones may");
    for job in [&big, &timed] {
        assert_eq!(chosen_node(decide(job, &nodes)), "id-b");
    }
    // Those of the same round count.
    let nodes = [native("a", 0), node("b", "riscv64-linux", 4, 3)];
    for (job, second) in [(&big, "id-b"), (&timed, "id-b")] {
        let mut plan = Plan::new(&nodes);
        assert_eq!(chosen_node(plan.place(job)), "id-a");
        assert_eq!(chosen_node(plan.place(job)), second);
    }
    // It is no reason to wait, or to take a slow one.
    let mut slow = native("b", 0);
    slow.speed = 0.5;
    let nodes = [NodeFacts { big: 1, ..native("a", 1) }, slow];
    assert_eq!(chosen_node(decide(&timed, &nodes)), "id-a");
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
            reason: "all 2 slots for aarch64-linux are busy (a)".to_owned(),
            again: None,
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
fn a_job_of_this_nodes_own_nix_goes_elsewhere() {
    let here = NodeFacts { here: true, ..node("here", "riscv64-linux", 9, 0) };
    let nodes = [here, node("board", "riscv64-linux", 1, 1)];
    assert_eq!(chosen_node(decide(&job(Emulation::Fallback), &nodes)), "id-board");
    let alone = decide(&job(Emulation::Fallback), &nodes[..1]);
    assert!(matches!(&alone, Decision::Refuse { .. }), "{alone:?}");
}

/// What is expected of a decision, and a part of its reason.
enum Expected {
    Native(&'static str, &'static str),
    Emulated(&'static str, &'static str),
    Waits(WaitFor, &'static str),
    Refused(&'static str),
}

#[track_caller]
fn assert_decision(case: &str, decision: &Decision, expected: &Expected) {
    let words = match (decision, expected) {
        (Decision::Run { node, how: How::Native, reason }, Expected::Native(name, words))
        | (Decision::Run { node, how: How::Emulated, reason }, Expected::Emulated(name, words))
            if *node == format!("id-{name}") =>
        {
            reason.contains(words)
        }
        (Decision::Wait { on, reason, .. }, Expected::Waits(expected, words)) if on == expected => {
            reason.contains(words)
        }
        (Decision::Refuse { reason }, Expected::Refused(words)) => reason.contains(words),
        _ => false,
    };
    assert!(words, "{case}: {decision:?}");
}

#[test]
fn native_comes_before_emulated_and_policy_says_the_rest() {
    use Emulation::{Fallback, Never, WhenFaster};
    use Expected::{Emulated, Native, Refused, Waits};
    let (emu, riscv) = (|n| emulator("emu", n), |n| native("riscv", n));
    let cases: &[(&str, Emulation, Vec<NodeFacts>, Expected)] = &[
        (
            "native is taken, however busy beside an idle emulator",
            Fallback,
            vec![emu(0), riscv(3)],
            Native("riscv", "its queue is the shortest"),
        ),
        (
            "a full native node is waited for",
            Fallback,
            vec![emu(0), riscv(4)],
            Waits(WaitFor::Slot, "all 2 slots for riscv64-linux are busy (riscv)"),
        ),
        (
            "a hot native node is waited for",
            Fallback,
            vec![emu(0), with(hot(), riscv(0))],
            Waits(WaitFor::Slot, "riscv starts nothing now: it is too hot"),
        ),
        (
            "native away, fallback",
            Fallback,
            vec![emu(0), with(away(), riscv(0))],
            Emulated("emu", "no native node takes it now, riscv (no answer)"),
        ),
        (
            "native drained, fallback",
            Fallback,
            vec![emu(0), with(Health::Draining, riscv(0))],
            Emulated("emu", "riscv (draining)"),
        ),
        ("nothing native, fallback", Fallback, vec![emu(0)], Emulated("emu", "no node is known")),
        (
            "nothing native, emulators full",
            Fallback,
            vec![emu(4), with(away(), riscv(0))],
            Waits(WaitFor::Slot, "all 2 slots for riscv64-linux are busy (emu)"),
        ),
        (
            "native away, never",
            Never,
            vec![emu(0), with(away(), riscv(0))],
            Waits(WaitFor::Return, "placement.emulation = \"never\""),
        ),
        ("nothing native, never", Never, vec![emu(0)], Refused("emu could emulate it")),
        (
            "without history when-faster is fallback",
            WhenFaster,
            vec![emu(0), riscv(4)],
            Waits(WaitFor::Slot, "(riscv)"),
        ),
        ("no node at all", Fallback, vec![], Refused("no node is known that builds anything")),
    ];
    for (case, emulation, nodes, expected) in cases {
        assert_decision(case, &decide(&job(*emulation), nodes), expected);
    }
}

#[test]
fn a_busy_native_node_is_waited_for_as_long_as_the_policy_says() {
    let nodes = [emulator("emu", 0), native("riscv", 4)];
    let policy =
        Policy { emulation: Emulation::Fallback, native_wait: Some(Duration::from_secs(60)) };
    let waited =
        |s| JobFacts { policy, waited: Duration::from_secs(s), ..job(Emulation::Fallback) };
    match decide(&waited(10), &nodes) {
        Decision::Wait { again, .. } => assert_eq!(again, Some(Duration::from_secs(50))),
        other => panic!("{other:?}"),
    }
    let expected = Expected::Emulated("emu", "free for 60 s (placement.native_wait_s), on riscv");
    assert_decision("waited enough", &decide(&waited(60), &nodes), &expected);
    // Time changes nothing where emulation is forbidden.
    let never = Policy { emulation: Emulation::Never, ..policy };
    match decide(&JobFacts { policy: never, ..waited(10) }, &nodes) {
        Decision::Wait { again, .. } => assert_eq!(again, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn emulation_that_ends_sooner_is_chosen_only_where_the_policy_says_so() {
    let times = |native, emulated| Times {
        native: Some(Duration::from_secs(native)),
        emulated: Some(Duration::from_secs(emulated)),
    };
    let nodes = [emulator("emu", 0), native("riscv", 4)];
    let decided = |emulation, times| decide(&JobFacts { times, ..job(emulation) }, &nodes);
    // Three turns of 100 s in the native node's queue.
    let faster = decided(Emulation::WhenFaster, times(100, 250));
    assert_decision(
        "faster",
        &faster,
        &Expected::Emulated(
            "emu",
            "took 250 s so, and native nodes, where jobs wait, are expected to be done in 300 s",
        ),
    );
    for (case, emulation, times) in [
        ("slower", Emulation::WhenFaster, times(100, 310)),
        ("not asked for", Emulation::Fallback, times(100, 250)),
        ("half a history", Emulation::WhenFaster, Times { native: None, ..times(1, 2) }),
    ] {
        let expected = Expected::Waits(WaitFor::Slot, "riscv");
        assert_decision(case, &decided(emulation, times), &expected);
    }
    // There is no turn to be sooner than.
    let away = [emulator("emu", 0), with(away(), native("riscv", 0))];
    let job = JobFacts { times: times(100, 250), ..job(Emulation::WhenFaster) };
    let expected = Expected::Emulated("emu", "no native node takes it now, riscv (no answer)");
    assert_decision("native away", &decide(&job, &away), &expected);
}

#[test]
fn what_needs_the_cpu_is_not_emulated() {
    let features = BTreeSet::from(["kvm".to_owned()]);
    let with_kvm = |node: NodeFacts| NodeFacts { features: features.clone(), ..node };
    let nodes = [with_kvm(emulator("emu", 0)), with_kvm(with(away(), native("riscv", 0)))];
    let job = JobFacts { features: &features, ..job(Emulation::Fallback) };
    let waits = Expected::Waits(WaitFor::Return, "riscv (no answer)");
    assert_decision("native away", &decide(&job, &nodes), &waits);
    let refused = Expected::Refused("emu is the closest for riscv64-linux, and lacks kvm");
    assert_decision("nothing native", &decide(&job, &nodes[..1]), &refused);
}

#[test]
fn a_job_that_was_sent_here_is_built_here_or_refused() {
    let here = NodeFacts { here: true, ..emulator("here", 0) };
    let nodes = [here, native("riscv", 0)];
    let asked = |among, emulation| decide(&JobFacts { among, ..job(emulation) }, &nodes);
    let sent_on = Expected::Native("riscv", "here would have to emulate it");
    assert_decision("asked here", &asked(Among::All, Emulation::Never), &sent_on);
    let emulated = Expected::Emulated("here", "no node is known that runs it natively");
    assert_decision("sent here", &asked(Among::Here, Emulation::Fallback), &emulated);
    let refused = Expected::Refused("here could emulate it");
    assert_decision("sent here", &asked(Among::Here, Emulation::Never), &refused);
}

#[test]
fn what_this_node_runs_natively_it_builds_itself_unless_it_is_drained() {
    let here = |health| NodeFacts { here: true, health, ..native("here", 2) };
    let asked = |health| {
        let nodes = [here(health), native("other", 0)];
        decide(&JobFacts { among: Among::All, ..job(Emulation::Fallback) }, &nodes)
    };
    assert_decision("full", &asked(Health::Ready), &Expected::Native("here", "queue"));
    assert_decision("hot", &asked(hot()), &Expected::Waits(WaitFor::Slot, "too hot"));
    let other = Expected::Native("other", "natively");
    assert_decision("drained", &asked(Health::Draining), &other);
}

#[test]
fn a_job_that_waits_is_taken_back_only_for_a_node_that_could_begin_it() {
    let job = job(Emulation::Fallback);
    let recalled = |nodes: &[NodeFacts]| recall(&job, "id-a", nodes);
    // It is among the three that `a` has.
    let why = recalled(&[native("a", 3), native("b", 1)]).unwrap();
    assert!(why.contains("taken back from a") && why.contains("b is free"), "{why}");
    for (case, nodes) in [
        ("its turn is next", vec![native("a", 2), native("b", 0)]),
        ("the other is busy", vec![native("a", 3), native("b", 2)]),
        ("the other is away", vec![native("a", 3), with(away(), native("b", 0))]),
        ("the other emulates", vec![native("a", 3), emulator("b", 0)]),
        ("there is no other", vec![native("a", 3)]),
    ] {
        assert_eq!(recalled(&nodes), None, "{case}");
    }
    for health in [Health::Draining, hot(), away()] {
        assert!(recalled(&[with(health, native("a", 1)), native("b", 0)]).is_some());
    }
    assert!(recalled(&[with(away(), native("a", 1)), emulator("b", 0)]).is_some());
    assert!(recalled(&[emulator("a", 3), native("b", 0)]).is_some());
}

#[test]
fn an_emulated_build_is_begun_anew_only_if_that_ends_sooner() {
    let nodes = [emulator("emu", 1), native("riscv", 0)];
    let times =
        Times { native: Some(Duration::from_secs(100)), emulated: Some(Duration::from_secs(1000)) };
    let job = JobFacts { times, ..job(Emulation::WhenFaster) };
    let after = |elapsed_s| restart(&job, Duration::from_secs(elapsed_s), &nodes);
    assert!(after(10).is_some_and(|why| why.contains("riscv is free")));
    assert_eq!(after(950), None);
    let fallback = Policy { emulation: Emulation::Fallback, native_wait: None };
    let unasked = JobFacts { policy: fallback, ..job.clone() };
    assert_eq!(restart(&unasked, Duration::ZERO, &nodes), None);
    let busy = [emulator("emu", 1), native("riscv", 2)];
    assert_eq!(restart(&job, Duration::from_secs(10), &busy), None);
}
