//! The ways ahead, of graphs that are made up.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    super::{ClientId, Graph, MAX_NODES, NotAdded},
    rig::{drv, drv_path, key, output_path},
};
use crate::model::Ahead;

/// Weights are whole numbers, so that sums are the same in any order.
fn weight(n: u32) -> f32 {
    (n % 7) as f32
}

fn number(name: &str) -> u32 {
    name.trim_start_matches("step-").parse().unwrap()
}

const OUTPUTS: [&[&str]; 3] = [&["out"], &["dev"], &["out", "dev"]];

/// Derivations by number; the inputs of each have smaller numbers.
#[derive(Clone, Debug)]
struct Made {
    inputs: BTreeMap<u32, BTreeMap<u32, usize>>,
    there: BTreeSet<(u32, bool)>,
}

fn made() -> impl Strategy<Value = Made> {
    (2u32..14).prop_flat_map(|count| {
        let edge = (0..count, 0..count, 0usize..3);
        let edges = proptest::collection::vec(edge, 0..40);
        let there = proptest::collection::btree_set((0..count, any::<bool>()), 0..12);
        (edges, there).prop_map(move |(edges, there)| {
            let mut inputs: BTreeMap<u32, BTreeMap<u32, usize>> =
                (0..count).map(|n| (n, BTreeMap::new())).collect();
            for (a, b, outputs) in edges.into_iter().filter(|(a, b, _)| a != b) {
                inputs.get_mut(&a.max(b)).unwrap().insert(a.min(b), outputs);
            }
            Made { inputs, there }
        })
    })
}

impl Made {
    fn graph(&self, order: impl Iterator<Item = u32>) -> (Graph, ClientId) {
        let mut graph = Graph::default();
        let client = graph.enter();
        for n in order {
            let inputs = self.inputs[&n].iter().map(|(input, of)| (*input, OUTPUTS[*of]));
            graph.add(client, &drv_path(n), &drv(n, inputs)).unwrap();
        }
        graph.look(0, |path| self.there.iter().any(|(n, dev)| path == output(*n, *dev)));
        (graph, client)
    }

    fn has(&self, n: u32, name: &str) -> bool {
        self.there.contains(&(n, name == "dev"))
    }

    /// The same by the definition, without regard to how long it takes.
    fn naive(&self, n: u32) -> Option<Ahead> {
        let dependents: Vec<_> = self.inputs.iter().filter(|(_, of)| of.contains_key(&n)).collect();
        let unbuilt: Vec<(Ahead, usize)> = dependents
            .iter()
            .filter_map(|(dependent, of)| Some((self.naive(**dependent)?, of[&n])))
            .collect();
        let built = if !unbuilt.is_empty() {
            unbuilt.iter().all(|(_, of)| OUTPUTS[*of].iter().all(|name| self.has(n, name)))
        } else if dependents.is_empty() {
            self.has(n, "out") && self.has(n, "dev")
        } else {
            self.has(n, "out") || self.has(n, "dev")
        };
        let longest = unbuilt.iter().map(|(ahead, _)| (ahead.work, ahead.steps));
        let (work, steps) = longest.fold((0.0, 0), |a, b| if b > a { b } else { a });
        (!built).then(|| Ahead { steps: steps + 1, work: work + f64::from(weight(n)) })
    }
}

fn output(n: u32, dev: bool) -> String {
    output_path(n, if dev { "dev" } else { "out" }).to_string()
}

proptest! {
    #[test]
    fn ways_are_those_of_the_definition(made in made(), backwards: bool) {
        let count = u32::try_from(made.inputs.len()).unwrap();
        let (graph, _) = match backwards {
            true => made.graph((0..count).rev()),
            false => made.graph(0..count),
        };
        let remaining = graph.remaining(|node| weight(number(node.name)));
        for n in 0..count {
            prop_assert_eq!(remaining.of(key(n)), made.naive(n), "{}", n);
        }
    }

    #[test]
    fn what_the_last_client_leaves_is_gone_and_the_rest_as_if_it_had_never_come(
        made in made(), shared in proptest::collection::vec(any::<bool>(), 14)
    ) {
        let count = u32::try_from(made.inputs.len()).unwrap();
        let (mut graph, first) = made.graph(0..count);
        let second = graph.enter();
        let kept: Vec<u32> = (0..count).filter(|n| shared[*n as usize]).collect();
        for n in &kept {
            prop_assert!(graph.join(second, key(*n)));
        }
        graph.leave(first);
        let (alone, _) = made.graph(kept.iter().copied());
        prop_assert_eq!(graph.len(), kept.len());
        prop_assert_eq!(graph.remaining(|_| 1.0), alone.remaining(|_| 1.0));
        graph.leave(second);
        prop_assert!(graph.is_empty());
        prop_assert_eq!(graph.size_bytes(), 0);
    }
}

#[test]
fn of_two_ways_the_one_with_more_work_counts_and_not_the_one_with_more_steps() {
    let mut graph = Graph::default();
    let client = graph.enter();
    let out: &[&str] = &["out"];
    graph.add(client, &drv_path(9), &drv(9, [(5, out), (1, out)])).unwrap();
    graph.add(client, &drv_path(5), &drv(5, [(0, out)])).unwrap();
    graph.add(client, &drv_path(1), &drv(1, [(2, out)])).unwrap();
    graph.add(client, &drv_path(2), &drv(2, [(0, out)])).unwrap();
    graph.add(client, &drv_path(0), &drv(0, [])).unwrap();
    let weights = |n| if n == 5 { 10.0 } else { 1.0 };
    let remaining = graph.remaining(|node| weights(number(node.name)));
    assert_eq!(remaining.of(key(0)), Some(Ahead { steps: 3, work: 12.0 }));
    // What is built cuts the way.
    graph.ended(key(5), true);
    let remaining = graph.remaining(|node| weights(number(node.name)));
    assert_eq!(remaining.of(key(0)), Some(Ahead { steps: 4, work: 4.0 }));
    assert_eq!(remaining.of(key(5)), None);
    // Somebody asks for it: it is not there after all.
    graph.asked(key(5));
    assert_eq!(graph.remaining(|_| 1.0).of(key(5)), Some(Ahead { steps: 2, work: 2.0 }));
}

#[test]
fn a_weight_that_makes_no_sense_counts_for_nothing() {
    let mut graph = Graph::default();
    let client = graph.enter();
    graph.add(client, &drv_path(0), &drv(0, [])).unwrap();
    for weight in [f32::NAN, -1.0, f32::NEG_INFINITY] {
        let remaining = graph.remaining(|_| weight);
        assert_eq!(remaining.of(key(0)), Some(Ahead { steps: 1, work: 0.0 }));
    }
}

#[test]
fn circles_are_broken_and_what_they_need_has_its_way() {
    let mut graph = Graph::default();
    let client = graph.enter();
    let out: &[&str] = &["out"];
    graph.add(client, &drv_path(1), &drv(1, [(2, out), (0, out)])).unwrap();
    graph.add(client, &drv_path(2), &drv(2, [(1, out)])).unwrap();
    graph.add(client, &drv_path(3), &drv(3, [(3, out)])).unwrap();
    graph.add(client, &drv_path(0), &drv(0, [])).unwrap();
    let remaining = graph.remaining(|_| 1.0);
    assert_eq!(remaining.len(), 4);
    assert!(remaining.of(key(0)).is_some_and(|ahead| ahead.steps >= 2), "{remaining:?}");
    graph.leave(client);
    assert!(graph.is_empty());
}

/// A hundred layers of a thousand; each derivation has eight inputs in the layer below.
#[test]
fn a_hundred_thousand_derivations_fit_and_one_more_does_not() {
    const LAYER: u32 = 1000;
    let max = u32::try_from(MAX_NODES).unwrap();
    let mut graph = Graph::default();
    let client = graph.enter();
    let out: &[&str] = &["out"];
    for n in 0..max {
        let below = n.checked_sub(LAYER).map(|n| n - n % LAYER);
        let inputs = below
            .into_iter()
            .flat_map(|start| (0..8).map(move |i| (start + (n % LAYER + i * 31) % LAYER, out)));
        graph.add(client, &drv_path(n), &drv(n, inputs)).unwrap();
    }
    let more = graph.add(client, &drv_path(max), &drv(max, []));
    assert_eq!(more, Err(NotAdded::Full));
    assert_eq!(graph.len(), MAX_NODES);
    graph.look(0, |_| false);
    let remaining = graph.remaining(|_| 1.0);
    for n in [0, LAYER, max - LAYER, max - 1] {
        let steps = (max - n).div_ceil(LAYER);
        let ahead = Ahead { steps, work: f64::from(steps) };
        assert_eq!(remaining.of(key(n)), Some(ahead), "{n}");
    }
    let each = graph.size_bytes() / MAX_NODES;
    assert!(each < 220, "{each} bytes a derivation");
    graph.leave(client);
    assert_eq!(graph.size_bytes(), 0, "with the memory");
}
