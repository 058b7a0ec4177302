//! The derivation graphs of real packages, and what their builds take.

use std::collections::BTreeSet;

use roost::{
    model::{ANYWHERE, Size},
    place::{Policy, Task},
};
use serde::Deserialize;

/// What all of them are built for.
pub(crate) const SYSTEM: &str = "aarch64-linux";

/// A graph: derivations in topological order.
#[derive(Deserialize)]
pub(crate) struct Graph {
    /// What it is.
    pub(crate) title: String,
    pub(crate) nodes: Vec<Derivation>,
}

#[derive(Deserialize)]
pub(crate) struct Derivation {
    pub(crate) name: String,
    /// How long it takes on a machine of speed 1.
    pub(crate) ms: u32,
    /// The derivations it needs, by their places.
    #[serde(default)]
    pub(crate) needs: Vec<usize>,
    #[serde(default)]
    pub(crate) features: BTreeSet<String>,
    /// `preferLocalBuild`.
    #[serde(default)]
    pub(crate) small: bool,
    /// It has a fixed output: a download.
    #[serde(default)]
    pub(crate) fetch: bool,
}

impl Derivation {
    pub(crate) fn seconds(&self) -> f64 {
        f64::from(self.ms) / 1e3
    }

    /// What its derivation alone says of how long it takes.
    pub(crate) fn size(&self) -> Size {
        Size::of(self.fetch, self.small, &self.features)
    }
}

impl Graph {
    pub(crate) fn all() -> Vec<(&'static str, Self)> {
        [
            ("git-2026", include_str!("graphs/git-2026.json")),
            ("python3-2026", include_str!("graphs/python3-2026.json")),
            ("nixos-1803", include_str!("graphs/nixos-1803.json")),
        ]
        .map(|(name, text)| {
            (name, serde_json::from_str(text).expect("a graph that is part of the source"))
        })
        .into()
    }

    /// The longest remaining path from each derivation, itself included, by weights of each.
    pub(crate) fn paths(&self, weigh: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut longest = vec![0.0_f64; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().rev() {
            longest[at] += weigh(at);
            for &need in &node.needs {
                longest[need] = longest[need].max(longest[at]);
            }
        }
        longest
    }

    /// What no schedule can beat on machines of these speeds, one for each slot: all the work shared
    /// evenly, and the longest chain on the fastest.
    pub(crate) fn bound_s(&self, speeds: &[f64]) -> f64 {
        let work: f64 = self.nodes.iter().map(Derivation::seconds).sum();
        let chain = self.paths(|at| self.nodes[at].seconds()).into_iter().fold(0.0, f64::max);
        let fastest = speeds.iter().copied().fold(0.0, f64::max);
        (work / speeds.iter().sum::<f64>()).max(chain / fastest)
    }

    pub(crate) fn tasks(&self) -> Vec<Task<'_>> {
        let mut tasks = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            tasks.push(Task {
                system: SYSTEM,
                features: &node.features,
                client: "somebody",
                needs: node.needs.clone(),
                policy: Policy::default(),
                demand: &ANYWHERE,
            });
        }
        tasks
    }
}
