//! The derivation graph of a real package on boards of unequal speed, with builders that sleep.

use std::fs;

use roost_lab::{Error, Lan, Result, fixtures::roost, target_folder};
use serde::Deserialize;

use crate::{
    fleet::SYSTEM,
    measure::{Rounds, Side, Times, alternate, timed},
    paced::{self, Pace, Paced, SCRIPT},
    scenario::FILE,
};

/// The graph of git in the package set of August 2026: what each derivation needs, and how long it takes.
const GIT: &str = include_str!("../../../../appliance/examples/simulate/graphs/git-2026.json");

/// Where the workstation's Nix reads it.
const GRAPH: &str = "/root/graph.json";

/// What each takes is divided by this.
const SCALE: u32 = 40;

const BOARDS: [Pace; 4] = [
    Pace { name: "board1", slots: 1, percent: 100 },
    Pace { name: "board2", slots: 1, percent: 100 },
    Pace { name: "board3", slots: 1, percent: 50 },
    Pace { name: "board4", slots: 1, percent: 50 },
];

/// Starts the boards, and a workstation of another system.
pub(crate) fn start() -> Result<Paced> {
    let lan = Lan::new()?;
    let workstation = roost::workstation(lan.host("ws").disk(roost_lab::Disk::Real), "")?;
    paced::start(lan, roost::hooked(workstation), &BOARDS, SYSTEM)
}

/// What was measured: one run without history, and runs of both sides afterwards, beside what no
/// schedule beats.
pub(crate) struct Measured {
    pub(crate) first_s: f64,
    pub(crate) times: Times,
}

/// Builds the whole graph: once by roost as it knows nothing, then by both sides.
pub(crate) fn measure(fleet: &Paced, rounds: Rounds) -> Result<Measured> {
    let ws = &fleet.workstation;
    ws.write(GRAPH, 0o644, GIT)?;
    let run = |side, salt: &str| {
        ws.write(FILE, 0o644, expr(salt))?;
        timed(ws, 1, &fleet.nix_build(side, FILE))
    };
    let mut first = alternate("graph, first", &[Side::Roost], Rounds::ONE, run)?;
    let mut times = alternate("graph", &[Side::Roost, Side::Stock], rounds, run)?;
    times.ideal.push(bound_s()?);
    Ok(Measured { first_s: first.roost.pop().unwrap_or(f64::NAN), times })
}

/// Keeps the last run as a picture.
pub(crate) fn draw(fleet: &Paced) -> Result<()> {
    // As many jobs as the last run had.
    let jobs = graph()?.nodes.len();
    let svg = fleet.workstation.check(&format!("roost timeline --last {jobs} --svg -"))?;
    let path = target_folder().join("bench/graph-timeline.svg");
    let write = || {
        fs::create_dir_all(path.with_file_name(""))?;
        fs::write(&path, svg)
    };
    write().map_err(|source| Error::File { what: "write", path: path.clone(), source })
}

/// The last derivation of the graph, in the Nix language; all others are needed for it.
fn expr(salt: &str) -> String {
    format!(
        r#"let
  nodes = (builtins.fromJSON (builtins.readFile {GRAPH})).nodes;
  derivations = map make nodes;
  make = node: derivation {{
    inherit (node) name;
    system = "{SYSTEM}";
    builder = "${{/usr/lib/lab}}/bin/sh";
    args = [ "-euc" "{SCRIPT}" ];
    us = toString (node.ms * 1000 / {SCALE});
    preferLocalBuild = node.small or false;
    inputs = map (builtins.elemAt derivations) (node.needs or [ ]);
    salt = "{salt}";
  }};
in
builtins.elemAt derivations (builtins.length nodes - 1)
"#
    )
}

#[derive(Deserialize)]
struct Graph {
    /// In topological order.
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    /// At speed 1.
    ms: u32,
    #[serde(default)]
    needs: Vec<usize>,
}

fn graph() -> Result<Graph> {
    serde_json::from_str(GIT).map_err(|source| Error::File {
        what: "understand",
        path: "git-2026.json".into(),
        source: source.into(),
    })
}

/// What no schedule beats: all the work shared by speed, and the longest chain on the fastest board.
fn bound_s() -> Result<f64> {
    let graph = graph()?;
    let power: f64 = BOARDS.iter().map(|board| board.power()).sum();
    let fastest = BOARDS.iter().map(|board| board.speed()).fold(0.0, f64::max);
    Ok((graph.work_s() / power).max(graph.chain_s() / fastest))
}

/// The same, counted better: it is not only all derivations that take their work shared by speed, but also
/// those alone that have so long a chain before and so long a chain after them, which come in addition.
pub(crate) fn tight_bound_s() -> Result<f64> {
    let graph = graph()?;
    let power: f64 = BOARDS.iter().map(|board| board.power()).sum();
    let fastest = BOARDS.iter().map(|board| board.speed()).fold(0.0, f64::max);
    Ok(graph.window_bound_s(power, fastest))
}

impl Graph {
    /// The chains before each derivation, and those after it, in seconds at speed 1; without itself.
    fn chains_s(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut before, mut after) =
            (vec![0.0_f64; self.nodes.len()], vec![0.0; self.nodes.len()]);
        for (at, node) in self.nodes.iter().enumerate() {
            let ends = node.needs.iter().map(|&need| before[need] + self.nodes[need].seconds());
            before[at] = ends.fold(0.0, f64::max);
        }
        for (at, node) in self.nodes.iter().enumerate().rev() {
            for &need in &node.needs {
                after[need] = f64::max(after[need], after[at] + node.seconds());
            }
        }
        (before, after)
    }

    fn window_bound_s(&self, power: f64, fastest: f64) -> f64 {
        let (before, after) = self.chains_s();
        let mut by_after: Vec<usize> = (0..self.nodes.len()).collect();
        by_after.sort_by(|&a, &b| after[b].total_cmp(&after[a]));
        let mut bound_s = 0.0_f64;
        for &least in &before {
            let mut work_s = 0.0;
            for &at in by_after.iter().filter(|&&at| before[at] >= least) {
                work_s += self.nodes[at].seconds();
                bound_s = bound_s.max((least + after[at]) / fastest + work_s / power);
            }
        }
        bound_s
    }

    fn work_s(&self) -> f64 {
        self.nodes.iter().map(Node::seconds).sum()
    }

    fn chain_s(&self) -> f64 {
        let mut ends: Vec<f64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let begins = node.needs.iter().filter_map(|&need| ends.get(need)).copied();
            ends.push(begins.fold(0.0, f64::max) + node.seconds());
        }
        ends.into_iter().fold(0.0, f64::max)
    }
}

impl Node {
    /// As it is built here, at speed 1.
    fn seconds(&self) -> f64 {
        f64::from(self.ms) / 1e3 / f64::from(SCALE)
    }
}

#[cfg(test)]
mod tests {
    use super::{Graph, bound_s, tight_bound_s};

    #[test]
    fn the_bound_is_the_longest_chain_or_all_the_work() {
        let text = r#"{"nodes":[{"ms":40000},{"ms":80000,"needs":[0]},{"ms":20000}]}"#;
        let graph: Graph = serde_json::from_str(text).unwrap();
        assert!((graph.work_s() - 3.5).abs() < 1e-9);
        assert!((graph.chain_s() - 3.0).abs() < 1e-9);
        assert!((bound_s().unwrap() - 61.08).abs() < 0.01);
    }

    #[test]
    fn what_comes_before_and_after_is_added_to_the_work_between() {
        // One, then four at once, then one.
        let text = r#"{"nodes":[{"ms":40000},{"ms":40000,"needs":[0]},{"ms":40000,"needs":[0]},
            {"ms":40000,"needs":[0]},{"ms":40000,"needs":[0]},{"ms":40000,"needs":[1,2,3,4]}]}"#;
        let graph: Graph = serde_json::from_str(text).unwrap();
        assert!((graph.window_bound_s(2.0, 1.0) - 4.0).abs() < 1e-9);
        assert!((tight_bound_s().unwrap() - 73.14).abs() < 0.01);
    }
}
