//! What placement is told of builds, and what they really take.

use std::time::Duration;

use roost::{
    learn::{Ending, Estimates, Outcome, Package, Source, Table},
    model::How,
    place::{Times, Timing},
};

use crate::{
    cluster::Cluster,
    graph::{Graph, SYSTEM},
};

/// Every build's time is known before, right or wrong.
pub(crate) struct Known<'g> {
    graph: &'g Graph,
    speeds: Vec<f64>,
    expected_s: Vec<f64>,
    paths_s: Vec<f64>,
}

impl<'g> Known<'g> {
    /// A history that is off by these factors.
    pub(crate) fn off_by(
        graph: &'g Graph,
        cluster: &Cluster,
        factors: impl Iterator<Item = f64>,
    ) -> Self {
        let times = graph.nodes.iter().zip(factors);
        let expected_s: Vec<f64> = times.map(|(node, factor)| node.seconds() * factor).collect();
        let paths_s = graph.paths(|at| expected_s[at]);
        Self { graph, speeds: cluster.machine_speeds(), expected_s, paths_s }
    }
}

impl Timing for Known<'_> {
    fn times(&self, task: usize) -> Times {
        Times { native: Some(Duration::from_secs_f64(self.expected_s[task])), emulated: None }
    }

    fn path_s(&self, task: usize) -> f64 {
        self.paths_s[task]
    }

    fn takes_s(&self, task: usize, node: usize, _: How) -> f64 {
        self.graph.nodes[task].seconds() / self.speeds[node]
    }
}

/// Nothing is known at first; what ends is learned from, as the daemon does.
pub(crate) struct Learning<'g> {
    graph: &'g Graph,
    names: Vec<String>,
    speeds: Vec<f64>,
    tables: Vec<Table>,
    estimates: Estimates,
    paths_s: Vec<f64>,
}

impl<'g> Learning<'g> {
    pub(crate) fn new(graph: &'g Graph, cluster: &Cluster) -> Self {
        let names = cluster.machines.iter().map(|machine| machine.name.clone()).collect();
        let speeds = cluster.machine_speeds();
        let tables = speeds.iter().map(|_| Table::default()).collect();
        let mut this = Self {
            graph,
            names,
            speeds,
            tables,
            estimates: Estimates::default(),
            paths_s: Vec::new(),
        };
        this.reckon();
        this
    }

    fn reckon(&mut self) {
        let nodes = self.names.iter().zip(&self.speeds).zip(&self.tables);
        let sources: Vec<_> = nodes
            .map(|((name, speed), table)| Source {
                nodes: vec![name.clone()],
                hint: *speed,
                table: std::sync::Arc::new(table.clone()),
            })
            .collect();
        self.estimates = Estimates::of(&sources);
        self.paths_s = self.graph.paths(|at| self.weight_s(at));
    }

    fn package(&self, task: usize) -> Package<'_> {
        Package::of(&self.graph.nodes[task].name, SYSTEM, How::Native)
    }

    fn weight_s(&self, task: usize) -> f64 {
        let node = &self.graph.nodes[task];
        self.estimates.weight(&self.package(task), node.size()).as_secs_f64()
    }
}

impl Timing for Learning<'_> {
    fn times(&self, task: usize) -> Times {
        let node = &self.graph.nodes[task];
        Times { native: self.estimates.likely(&self.package(task), node.size()), emulated: None }
    }

    fn path_s(&self, task: usize) -> f64 {
        self.paths_s[task]
    }

    fn takes_s(&self, task: usize, node: usize, _: How) -> f64 {
        self.graph.nodes[task].seconds() / self.speeds[node]
    }

    fn ended(&mut self, task: usize, node: usize, took_s: f64) {
        let ms = Duration::from_secs_f64(took_s).as_millis();
        let ending = Ending::Built {
            ms: u64::try_from(ms).unwrap_or(u64::MAX),
            peak_mib: None,
            output_bytes: None,
        };
        let package = Package::of(&self.graph.nodes[task].name, SYSTEM, How::Native);
        self.tables[node].learn(&Outcome { package, ending, at_s: 0 });
        self.reckon();
    }
}
