//! The table for people, the file for programs, and the chart.

use std::{fs, io, path::Path};

use roost::{
    draw::{self, Chart, End, Kind, Segment},
    place::Span,
};
use serde::Serialize;

use crate::{cluster::Cluster, graph::Graph};

/// Makespans of one graph on one cluster, over what no schedule can beat.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) graph: &'static str,
    pub(crate) cluster: &'static str,
    pub(crate) bound_s: f64,
    pub(crate) with_history: f64,
    pub(crate) without_history: f64,
    pub(crate) noisy: f64,
    pub(crate) noisy_worst: f64,
    pub(crate) stock: f64,
}

/// All of it.
#[derive(Serialize)]
pub(crate) struct Report {
    with_history: f64,
    without_history: f64,
    noisy: f64,
    stock: f64,
    /// The worst of placement's runs.
    worst: f64,
    runs: Vec<Row>,
}

impl Report {
    pub(crate) fn of(runs: Vec<Row>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a dozen")]
        let count = runs.len() as f64;
        let mean = |of: fn(&Row) -> f64| runs.iter().map(of).sum::<f64>() / count;
        let worst = |row: &Row| row.with_history.max(row.without_history).max(row.noisy_worst);
        Self {
            with_history: mean(|row| row.with_history),
            without_history: mean(|row| row.without_history),
            noisy: mean(|row| row.noisy),
            stock: mean(|row| row.stock),
            worst: runs.iter().map(worst).fold(0.0, f64::max),
            runs,
        }
    }

    /// Prints it; whether all figures are met.
    pub(crate) fn print(&self) -> bool {
        println!(
            "Makespan over the lower bound, max(work / sum of speeds, longest chain / fastest):\n"
        );
        println!(
            "{:13} {:26} {:>7} {:>8} {:>8} {:>6} {:>7} {:>6}",
            "graph", "cluster", "bound", "history", "without", "noisy", "(worst)", "stock"
        );
        for row in &self.runs {
            println!(
                "{:13} {:26} {:>5.0} s {:>8.2} {:>8.2} {:>6.2} {:>7.2} {:>6.2}",
                row.graph,
                row.cluster,
                row.bound_s,
                row.with_history,
                row.without_history,
                row.noisy,
                row.noisy_worst,
                row.stock
            );
        }
        println!();
        let figures = [
            ("with_history", self.with_history, 1.10),
            ("without_history", self.without_history, 1.25),
            ("noisy", self.noisy, 1.20),
            ("worst", self.worst, 1.50),
        ];
        for (name, value, limit) in figures {
            let verdict = if value <= limit { "met" } else { "MISSED" };
            println!("{name:<16} {value:>6.3}   at most {limit:.2}   {verdict}");
        }
        println!("{:<16} {:>6.3}   stock Nix's order, choice and polling", "stock", self.stock);
        figures.iter().all(|(_, value, limit)| value <= limit)
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, format!("{:#}\n", serde_json::to_value(self)?))
    }
}

/// Draws one run.
pub(crate) fn chart(graph: &Graph, cluster: &Cluster, spans: &[Span]) -> String {
    let rows: Vec<String> = cluster.machines.iter().map(|machine| machine.name.clone()).collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hours in milliseconds"
    )]
    let ms = |s: f64| (s * 1e3) as u64;
    let bars = spans.iter().map(|span| draw::Span {
        row: rows[span.node].clone(),
        id: span.task.to_string(),
        name: graph.nodes[span.task].name.clone(),
        start_ms: ms(span.start_s),
        segments: vec![Segment { kind: Kind::Building, end_ms: ms(span.end_s) }],
        end: End::Good,
    });
    let waits: Vec<_> = spans.iter().map(|span| ms(span.ready_s)..ms(span.start_s)).collect();
    let chart = Chart::new(&rows, bars.collect(), &waits, None);
    draw::svg(&chart.caption(vec![format!("{} on {}, simulated", graph.title, cluster.name)]))
}
