//! One round of placement: 10,000 jobs that are ready, on 100 nodes.

use std::{
    collections::{BTreeSet, HashMap},
    hint::black_box,
    sync::Arc,
    time::Duration,
};

use criterion::Criterion;
use roost::{
    model::{ANYWHERE, Has, Input, Supply},
    place::{Among, Given, Health, JobFacts, NodeFacts, Plan, Policy, Times, Turn, order},
};

const JOBS: u32 = 10_000;
const NODES: u32 = 100;
/// Paths that jobs need.
const INPUTS: u32 = 5_000;
const SYSTEMS: [&str; 2] = ["aarch64-linux", "riscv64-linux"];

fn nodes() -> Vec<NodeFacts> {
    let node = |at: u32| NodeFacts {
        id: format!("node-{at:03}"),
        name: format!("board{at}"),
        here: false,
        systems: vec![SYSTEMS[at as usize % SYSTEMS.len()].to_owned()],
        emulated: Vec::new(),
        features: ["benchmark".to_owned()].into(),
        labels: BTreeSet::new(),
        slots: 1 + at % 4,
        speed: 0.5 + f64::from(at % 10) / 5.0,
        ahead: 2,
        assigned: 1,
        big: 0,
        busy: 1,
        supply: Supply {
            has: Arc::new((0..INPUTS).map(|number| has(number + at)).collect()),
            ..Supply::default()
        },
        jobs: vec![Given { left_s: f64::from(at), then_s: f64::from(at * 7 % 100) }],
        health: Health::Ready,
    };
    (0..NODES).map(node).collect()
}

/// A third is not there.
fn has(number: u32) -> Has {
    if number % 3 == 0 { Has::No } else { Has::Yes }
}

/// As many of a job as count in a large package: no two jobs after each other have the same.
fn inputs(job: u32) -> Vec<Input> {
    let input =
        |at: u32| Input { number: (job * 7 + at * 13) % INPUTS, bytes: 1_u64 << (20 + at % 8) };
    (0..30).map(input).collect()
}

fn place(c: &mut Criterion) {
    let (nodes, features) = (nodes(), BTreeSet::from(["benchmark".to_owned()]));
    let clients: Vec<String> = (0..5).map(|at| format!("user{at} (pid {at})")).collect();
    let inputs: Vec<_> = (0..INPUTS).map(inputs).collect();
    let jobs = |known: bool| -> Vec<JobFacts<'_>> {
        let job = |at: u32| JobFacts {
            system: SYSTEMS[at as usize % SYSTEMS.len()],
            features: &features,
            among: Among::Others,
            demand: &ANYWHERE,
            policy: Policy::default(),
            waited: Duration::from_secs(u64::from(at)),
            times: Times {
                native: known.then(|| Duration::from_secs(u64::from(1 + at * 31 % 600))),
                emulated: None,
            },
            client: &clients[at as usize % clients.len()],
            path_s: f64::from(at * 17 % 3000),
            big: at % 50 == 0,
            avoid: None,
            misses: 0,
            inputs: &inputs[at as usize % inputs.len()],
        };
        (0..JOBS).map(job).collect()
    };
    let round = |jobs: &[JobFacts<'_>]| {
        let turns: Vec<_> = jobs
            .iter()
            .zip(0..)
            .map(|(job, accepted)| Turn {
                client: job.client,
                path_s: job.path_s,
                waited: job.waited,
                accepted,
            })
            .collect();
        let mut plan = Plan::new(&nodes);
        let decisions = order(&turns, &HashMap::new()).into_iter().map(|at| plan.place(&jobs[at]));
        decisions.map(|decision| drop(black_box(decision))).count()
    };
    for (name, known) in [("with history", true), ("without history", false)] {
        let jobs = jobs(known);
        c.bench_function(&format!("10,000 jobs on 100 nodes, {name}"), |b| {
            b.iter(|| round(black_box(&jobs)));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    place(&mut criterion);
    criterion.final_summary();
}
