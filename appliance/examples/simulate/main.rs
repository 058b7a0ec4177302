//! Placement in virtual time on the graphs of real packages, beside a model of stock Nix: `make simulate`.
//!
//! The code that places is the daemon's. Results go to `bench/simulation.json` in the target folder, and a
//! chart of one run beside it; the exit status is 1 if a figure is missed.

#![expect(clippy::expect_used, reason = "a graph that cannot be scheduled is a defect here")]

mod cluster;
mod graph;
mod random;
mod report;
mod stock;
mod timings;

use std::{fs, io, path::PathBuf, process::ExitCode};

use cluster::Cluster;
use graph::Graph;
use random::Random;
use report::{Report, Row};
use roost::place::{Span, Timing, forecast};
use timings::{Known, Learning};

/// Histories that are off, and by how much: the standard deviation of the factor's logarithm.
const SEEDS: u64 = 20;
const SIGMA: f64 = 1.0;

fn main() -> io::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut drawn = String::new();
    for (name, graph) in Graph::all() {
        for cluster in Cluster::all() {
            eprintln!("{name} on {}", cluster.name);
            let bound_s = graph.bound_s(&cluster.speeds());
            let exact = run(&graph, &cluster, &mut exactly(&graph, &cluster));
            if drawn.is_empty() {
                drawn = report::chart(&graph, &cluster, &exact);
            }
            let learning = run(&graph, &cluster, &mut Learning::new(&graph, &cluster));
            let noisy = (1..=SEEDS).map(|seed| {
                let mut random = Random::new(seed);
                let factors = std::iter::repeat_with(|| random.lognormal(SIGMA));
                end_s(&run(&graph, &cluster, &mut Known::off_by(&graph, &cluster, factors)))
            });
            let noisy: Vec<f64> = noisy.collect();
            #[expect(clippy::cast_precision_loss, reason = "twenty")]
            let mean_s = noisy.iter().sum::<f64>() / SEEDS as f64;
            rows.push(Row {
                graph: name,
                cluster: cluster.name,
                bound_s,
                with_history: end_s(&exact) / bound_s,
                without_history: end_s(&learning) / bound_s,
                noisy: mean_s / bound_s,
                noisy_worst: noisy.iter().copied().fold(0.0, f64::max) / bound_s,
                stock: stock::makespan_s(&graph, &cluster.machines) / bound_s,
            });
        }
    }
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let report = Report::of(rows);
    report.write(&folder.join("simulation.json"))?;
    fs::write(folder.join("simulation.svg"), drawn)?;
    let met = report.print();
    println!("\n{0}/simulation.json\n{0}/simulation.svg", folder.display());
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn exactly<'g>(graph: &'g Graph, cluster: &Cluster) -> Known<'g> {
    Known::off_by(graph, cluster, std::iter::repeat(1.0))
}

fn run(graph: &Graph, cluster: &Cluster, timing: &mut impl Timing) -> Vec<Span> {
    forecast(&graph.tasks(), &cluster.nodes(), timing)
        .expect("every machine could have every build")
}

fn end_s(spans: &[Span]) -> f64 {
    spans.iter().map(|span| span.end_s).fold(0.0, f64::max)
}

/// Where results go: beside those of other benchmarks.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"));
    target.join("bench")
}
