//! Which of several nodes, and which of several jobs first.

use std::{collections::HashMap, sync::Arc};

use super::*;
use crate::model::{ANYWHERE, Has, Input, Supply};

const SYSTEM: &str = "riscv64-linux";

static NO_FEATURES: BTreeSet<String> = BTreeSet::new();

/// A board with one slot.
fn board(name: &str, speed: f64) -> NodeFacts {
    let view = NodeView {
        id: name.to_owned(),
        name: name.to_owned(),
        systems: vec![SYSTEM.to_owned()],
        slots: 1,
        ..NodeView::default()
    };
    NodeFacts { speed, ahead: 2, ..NodeFacts::of(&view, Health::Ready) }
}

/// The same, with one job that needs so much longer.
fn busy(name: &str, speed: f64, left_s: f64, then_s: f64) -> NodeFacts {
    NodeFacts { assigned: 1, jobs: vec![Given { left_s, then_s }], ..board(name, speed) }
}

/// A job that takes so long at speed 1.
fn job(work_s: Option<u64>) -> JobFacts<'static> {
    JobFacts {
        system: SYSTEM,
        features: &NO_FEATURES,
        among: Among::Others,
        demand: &ANYWHERE,
        policy: Policy::default(),
        waited: Duration::ZERO,
        times: Times { native: work_s.map(Duration::from_secs), emulated: None },
        client: "somebody",
        big: false,
        path_s: 0.0,
        avoid: None,
        misses: 0,
        inputs: &[],
    }
}

#[track_caller]
fn assert_runs(decision: &Decision, on: &str) {
    assert!(matches!(decision, Decision::Run { node, .. } if node == on), "{decision:?}");
}

#[track_caller]
fn assert_waits(decision: &Decision, words: &str) {
    let reason = match decision {
        Decision::Wait { on: WaitFor::Slot, reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn a_job_waits_for_a_faster_node_if_that_is_done_first() {
    let slow = board("slow", 0.25);
    // 400 s on the slow one.
    let soon = [busy("fast", 1.0, 200.0, 0.0), slow.clone()];
    assert_waits(&decide(&job(Some(100)), &soon), "fast is busy, and still expected");
    let late = [busy("fast", 1.0, 400.0, 0.0), slow];
    assert_runs(&decide(&job(Some(100)), &late), "slow");
}

#[test]
fn who_waits_for_a_node_is_told_when_to_look_again() {
    let nodes = [busy("fast", 1.0, 62.0, 0.0), board("slow", 0.1)];
    let decision = decide(&job(Some(100)), &nodes);
    let Decision::Wait { again: Some(again), .. } = decision else { panic!("{decision:?}") };
    assert_eq!(again, Duration::from_secs(60), "two seconds ahead");
}

#[test]
fn while_nothing_is_known_the_fastest_free_node_has_it() {
    let nodes = [board("a", 0.5), board("b", 1.5), busy("c", 9.0, 1000.0, 0.0)];
    assert_runs(&decide(&job(None), &nodes), "b");
}

/// The same node, without this input, of which it gets 10 MB a second.
fn lacking(input: Input, node: NodeFacts) -> NodeFacts {
    let mut has = vec![Has::Unknown; input.number as usize];
    has.push(Has::No);
    NodeFacts { supply: Supply { has: Arc::new(has), bytes_per_s: Some(10e6) }, ..node }
}

/// An input that takes so many seconds to be sent.
fn input(sent_s: u64) -> Input {
    Input { number: 3, bytes: sent_s * 10_000_000 }
}

#[test]
fn a_node_that_lacks_inputs_is_done_later() {
    let nodes = [lacking(input(100), board("fast", 2.0)), board("slow", 1.0)];
    let large = [input(100)];
    let needs = |work_s, inputs: &[Input]| decide(&JobFacts { inputs, ..job(work_s) }, &nodes);
    // 150 s there.
    assert_runs(&needs(Some(100), &large), "slow");
    assert_runs(&needs(Some(100), &[]), "fast");
    // 300 s there, and 400 s here.
    assert_runs(&needs(Some(400), &large), "fast");
    // Most of what is not known is small.
    assert_runs(&needs(None, &large), "slow");
    assert_runs(&needs(None, &[]), "fast");
}

#[test]
fn inputs_are_sent_while_the_slot_is_busy() {
    let needs = |left_s, sent_s| {
        let nodes = [lacking(input(sent_s), busy("a", 1.0, left_s, 0.0))];
        decide(&JobFacts { inputs: &[input(sent_s)], ..job(Some(100)) }, &nodes)
    };
    assert_waits(&needs(50.0, 30), "busy");
    assert_runs(&needs(29.0, 30), "a");
    let Decision::Wait { again: Some(again), .. } = needs(50.0, 30) else { panic!("it waits") };
    assert_eq!(again, Duration::from_secs(20), "then they are sent");
}

#[test]
fn a_slot_that_waits_for_inputs_is_taken_as_far_as_the_next_job_is_concerned() {
    let nodes = [lacking(input(100), board("only", 1.0)), board("slow", 0.2)];
    let (mut plan, large) = (Plan::new(&nodes), [input(100)]);
    assert_runs(&plan.place(&JobFacts { inputs: &large, ..job(Some(100)) }), "only");
    // At 300 s there, and at 250 s here.
    assert_runs(&plan.place(&job(Some(50))), "slow");
}

#[test]
fn a_slot_that_one_job_waits_for_is_taken_as_far_as_the_next_one_is_concerned() {
    let nodes = [busy("fast", 1.0, 50.0, 0.0), board("slow", 0.5)];
    let mut plan = Plan::new(&nodes);
    let (first, second) = (job(Some(100)), job(Some(100)));
    assert_waits(&plan.place(&first), "fast is busy");
    // 250 s there by now, 200 s here.
    assert_runs(&plan.place(&second), "slow");
}

#[test]
fn equal_nodes_share_the_jobs() {
    let nodes = ["a", "b"].map(|name| NodeFacts { slots: 2, ..board(name, 1.0) });
    let mut plan = Plan::new(&nodes);
    assert_runs(&plan.place(&job(Some(100))), "a");
    assert_runs(&plan.place(&job(Some(100))), "b");
}

#[test]
fn the_fastest_node_is_left_to_what_follows_on_the_longest_path() {
    // In 10 s the job on the other node ends, and 500 s of work follow, which belong on the fast one.
    let nodes = [board("fast", 2.0), busy("other", 1.0, 10.0, 500.0), board("third", 1.0)];
    let short = JobFacts { path_s: 100.0, ..job(Some(100)) };
    assert_runs(&decide(&short, &nodes), "third");
    let urgent = JobFacts { path_s: 600.0, ..job(Some(100)) };
    assert_runs(&decide(&urgent, &nodes), "fast");
}

#[test]
fn what_is_left_of_a_build_is_what_was_expected_or_grows_with_what_it_has_taken() {
    let secs = Duration::from_secs;
    assert!((left_s(Some(secs(100)), secs(30)) - 70.0).abs() < 1e-9);
    assert!(left_s(Some(secs(100)), secs(300)) >= 50.0, "it was misjudged");
    assert!((left_s(None, secs(300)) - 300.0).abs() < 1e-9);
    assert!(left_s(None, Duration::ZERO) > 0.0);
}

/// Jobs of these clients: how urgent, and how long they have waited.
fn places(turns: &[(&'static str, f64, u64)], running: &[(&'static str, u32)]) -> Vec<usize> {
    let turns = turns.iter().zip(0..).map(|(&(client, path_s, waited_s), accepted)| Turn {
        client,
        path_s,
        waited: Duration::from_secs(waited_s),
        accepted,
    });
    order(&turns.collect::<Vec<_>>(), &running.iter().copied().collect::<HashMap<_, _>>())
}

#[test]
fn the_longest_remaining_path_comes_first_then_the_oldest() {
    let jobs = [("a", 10.0, 0), ("a", 500.0, 0), ("a", 70.0, 0), ("a", 70.0, 0)];
    assert_eq!(places(&jobs, &[]), [1, 2, 3, 0]);
}

#[test]
fn clients_take_turns_and_who_has_fewer_jobs_running_comes_first() {
    let jobs = [("a", 900.0, 0), ("a", 800.0, 0), ("b", 1.0, 0), ("b", 2.0, 0)];
    assert_eq!(places(&jobs, &[]), [0, 3, 1, 2]);
    assert_eq!(places(&jobs, &[("a", 2)]), [3, 2, 0, 1]);
}

#[test]
fn nothing_waits_for_ever_behind_what_is_more_urgent() {
    let jobs = [("a", 1000.0, 0), ("a", 10.0, 24 * 3600)];
    assert_eq!(places(&jobs, &[]), [1, 0]);
}

/// Every build takes as long as it is expected to.
struct Even(u64);

impl Timing for Even {
    fn times(&self, _: usize) -> Times {
        Times { native: Some(Duration::from_secs(self.0)), emulated: None }
    }

    fn path_s(&self, _: usize) -> f64 {
        Duration::from_secs(self.0).as_secs_f64()
    }

    fn takes_s(&self, _: usize, _: usize, _: How) -> f64 {
        Duration::from_secs(self.0).as_secs_f64()
    }
}

fn task(client: &'static str, needs: &[usize]) -> Task<'static> {
    let (needs, policy) = (needs.to_vec(), Policy::default());
    Task { system: SYSTEM, features: &NO_FEATURES, demand: &ANYWHERE, client, needs, policy }
}

#[test]
fn a_forecast_runs_everything_in_the_order_of_its_needs() {
    let tasks = [task("a", &[]), task("a", &[0]), task("a", &[0]), task("a", &[1, 2])];
    let nodes = [board("a", 1.0), board("b", 1.0)];
    let spans = forecast(&tasks, &nodes, &mut Even(10)).unwrap();
    let mut times: Vec<_> = spans.iter().map(|span| (span.task, span.start_s)).collect();
    times.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(times, [(0, 0.0), (1, 10.0), (2, 10.0), (3, 20.0)]);
}

#[test]
fn a_forecast_of_what_no_node_takes_says_why() {
    let away = NodeFacts { health: Health::Away("no answer".to_owned()), ..board("a", 1.0) };
    let tasks = [task("a", &[])];
    let stuck = forecast(&tasks, &[away], &mut Even(10)).unwrap_err();
    assert!(stuck.to_string().contains("a (no answer)"), "{stuck}");
    let refused = forecast(&tasks, &[], &mut Even(10)).unwrap_err();
    assert!(matches!(refused, Stuck::Refused { task: 0, .. }), "{refused:?}");
}

#[test]
fn a_client_with_a_few_jobs_is_not_kept_waiting_by_one_with_many() {
    let nodes: Vec<_> = ["a", "b", "c", "d"].map(|name| board(name, 1.0)).into();
    let few = |clients: &[(&'static str, usize)]| {
        let mut tasks = Vec::new();
        for &(client, count) in clients {
            // Those of the later one can begin when the first of the other has ended.
            let needs: &[usize] = if client == "few" && !tasks.is_empty() { &[0] } else { &[] };
            tasks.extend((0..count).map(|_| task(client, needs)));
        }
        let spans = forecast(&tasks, &nodes, &mut Even(60)).unwrap();
        let of_few = spans.iter().filter(|span| tasks[span.task].client == "few");
        let (mut ready_s, mut end_s) = (f64::INFINITY, 0.0_f64);
        for span in of_few {
            ready_s = ready_s.min(span.ready_s);
            end_s = end_s.max(span.end_s);
        }
        end_s - ready_s
    };
    let alone_s = few(&[("few", 5)]);
    let beside_s = few(&[("many", 500), ("few", 5)]);
    assert!(beside_s <= 3.0 * alone_s, "{beside_s} s, {alone_s} s alone");
}
