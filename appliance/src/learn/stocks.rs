//! Which inputs of jobs are at which nodes, and how fast they get there.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use nix_compat::store_path::StorePath;

use crate::model::{ASSUMED_BYTES_PER_S, Input, Supply};

/// Smaller inputs are not counted: they are with a node in a moment.
const MIN_BYTES: u64 = 1 << 20;

/// Paths whose sizes are known at most: about 150 bytes each. Those beyond are not counted.
const MAX_PATHS: usize = 20_000;

/// What a node has said is believed for so many seconds: it gets paths from others, too, and deletes some.
const BELIEVED_S: u64 = 600;

/// Less tells of the time that a connection takes, and not of the way.
const TELLING_BYTES: u64 = 1 << 20;

/// How much a transfer counts beside those before it.
const NEWEST: f64 = 0.3;

/// A transfer is never slower, as far as expectations go: those that are broken off are.
const SLOWEST_BYTES_PER_S: f64 = 10e3;

/// See the module. Bounded in memory.
#[derive(Debug)]
pub struct Stocks {
    max_paths: usize,
    /// The numbers of those that count.
    paths: HashMap<StorePath, Option<u32>>,
    /// By their numbers.
    inputs: Vec<(StorePath, u64)>,
    nodes: HashMap<String, Node>,
}

/// What is known of a node.
#[derive(Debug)]
struct Node {
    supply: Supply,
    /// By numbers of inputs: whether it is known if the node has it.
    known: Vec<bool>,
    since_s: u64,
    /// Whether a question to it is under way.
    asked: bool,
}

impl Default for Stocks {
    fn default() -> Self {
        Self {
            max_paths: MAX_PATHS,
            paths: HashMap::new(),
            inputs: Vec::new(),
            nodes: HashMap::new(),
        }
    }
}

impl Stocks {
    /// Those of `paths` whose sizes are not known, as many as there is room for.
    #[must_use]
    pub fn unsized_of(&self, paths: &BTreeSet<StorePath>) -> Vec<StorePath> {
        let new = paths.iter().filter(|path| !self.paths.contains_key(path));
        new.take(self.max_paths.saturating_sub(self.paths.len())).cloned().collect()
    }

    /// Whether none of `paths` counts, and nothing is to be found out of them.
    #[must_use]
    pub fn are_small(&self, paths: &BTreeSet<StorePath>) -> bool {
        let is_full = self.paths.len() >= self.max_paths;
        paths.iter().all(|path| self.paths.get(path).map_or(is_full, Option::is_none))
    }

    /// Learns the size of a path's NAR.
    pub fn sized(&mut self, path: StorePath, bytes: u64) {
        if self.paths.contains_key(&path) || self.paths.len() >= self.max_paths {
            return;
        }
        let number = u32::try_from(self.inputs.len()).ok().filter(|_| bytes >= MIN_BYTES);
        if number.is_some() {
            self.inputs.push((path.clone(), bytes));
        }
        self.paths.insert(path, number);
    }

    /// Those of `paths` that count.
    #[must_use]
    pub fn inputs(&self, paths: &BTreeSet<StorePath>) -> Vec<Input> {
        let numbers = paths.iter().filter_map(|path| *self.paths.get(path)?);
        numbers
            .filter_map(|number| {
                let bytes = self.inputs.get(number as usize)?.1;
                Some(Input { number, bytes })
            })
            .collect()
    }

    /// Those of `inputs` of which a node should be asked now whether it has them. While a question is under
    /// way, until [`Stocks::told`], it should not.
    pub fn ask(&mut self, node: &str, inputs: &[Input], now_s: u64) -> BTreeSet<StorePath> {
        let node = self.node(node, now_s);
        if now_s.saturating_sub(node.since_s) >= BELIEVED_S {
            node.forget(now_s);
        }
        let known = |input: &&Input| node.asked || at(&node.known, input.number);
        let unknown: Vec<_> = inputs.iter().filter(|it| !known(it)).map(|it| it.number).collect();
        node.asked |= !unknown.is_empty();
        let path = |number| self.inputs.get(number as usize).map(|(path, _)| path.clone());
        unknown.into_iter().filter_map(path).collect()
    }

    /// Learns from a node which of the paths that it was asked for it has; none if it did not answer.
    pub fn told(
        &mut self,
        node: &str,
        asked: &BTreeSet<StorePath>,
        has: Option<&BTreeSet<StorePath>>,
    ) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.asked = false;
        let Some(has) = has else { return };
        for path in asked {
            if let Some(Some(number)) = self.paths.get(path) {
                node.learn(*number, !has.contains(path));
            }
        }
    }

    /// Learns that a node has all of some inputs; of them, so many bytes were `sent` in this time.
    pub fn arrived(
        &mut self,
        node: &str,
        inputs: &[Input],
        sent: Option<(u64, Duration)>,
        now_s: u64,
    ) {
        let node = self.node(node, now_s);
        for input in inputs {
            node.learn(input.number, false);
        }
        if let Some((bytes, took)) = sent.filter(|(bytes, _)| *bytes >= TELLING_BYTES) {
            node.sent(bytes, took);
        }
    }

    /// What is known of a node.
    #[must_use]
    pub fn supply(&self, node: &str) -> Supply {
        self.nodes.get(node).map(|node| node.supply.clone()).unwrap_or_default()
    }

    /// Forgets all paths if there is no room for more: for a moment at which no job is open, since the
    /// numbers of inputs are given anew.
    pub fn make_room(&mut self, now_s: u64) {
        if self.paths.len() >= self.max_paths {
            self.paths.clear();
            self.inputs.clear();
            self.nodes.values_mut().for_each(|node| node.forget(now_s));
        }
    }

    fn node(&mut self, id: &str, now_s: u64) -> &mut Node {
        let new =
            || Node { supply: Supply::default(), known: Vec::new(), since_s: now_s, asked: false };
        self.nodes.entry(id.to_owned()).or_insert_with(new)
    }
}

impl Node {
    fn learn(&mut self, number: u32, lacks: bool) {
        set(&mut self.known, number, true);
        // The last round of placement may hold on to what was known before.
        set(Arc::make_mut(&mut self.supply.lacks), number, lacks);
    }

    fn forget(&mut self, now_s: u64) {
        self.known = Vec::new();
        self.supply.lacks = Arc::default();
        self.since_s = now_s;
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn sent(&mut self, bytes: u64, took: Duration) {
        let now = (bytes as f64 / took.as_secs_f64().max(1e-3)).max(SLOWEST_BYTES_PER_S);
        let before = &mut self.supply.bytes_per_s;
        // The first one counts alone.
        let first = (*before - ASSUMED_BYTES_PER_S).abs() < f64::EPSILON;
        *before = if first { now } else { *before * (1.0 - NEWEST) + now * NEWEST };
    }
}

fn at(bits: &[bool], number: u32) -> bool {
    bits.get(number as usize).copied().unwrap_or_default()
}

fn set(bits: &mut Vec<bool>, number: u32, bit: bool) {
    let number = number as usize;
    if bits.len() <= number {
        bits.resize(number + 1, false);
    }
    bits[number] = bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn paths(names: &[&str]) -> BTreeSet<StorePath> {
        let path = |name: &&str| {
            let path = format!("{}/{}-{name}", nix_compat::store_path::STORE_DIR, "0".repeat(32));
            StorePath::parse(&path).unwrap()
        };
        names.iter().map(path).collect()
    }

    fn with(sizes: &[(&str, u64)]) -> Stocks {
        let mut stocks = Stocks::default();
        for (name, bytes) in sizes {
            stocks.sized(paths(&[name]).pop_first().unwrap(), *bytes);
        }
        stocks
    }

    #[test]
    fn a_node_lacks_what_it_says_it_has_not_until_it_is_sent() {
        let now = 1_000_000;
        let mut stocks = with(&[("gcc", 200 * MIB), ("glibc", 50 * MIB), ("setup.sh", 100)]);
        let all = paths(&["gcc", "glibc", "setup.sh", "new"]);
        assert_eq!(stocks.unsized_of(&all), Vec::from_iter(paths(&["new"])));
        let small = ["setup.sh", "new", "gcc"].map(|name| stocks.are_small(&paths(&[name])));
        assert_eq!(small, [true, false, false]);
        let inputs = stocks.inputs(&all);
        assert_eq!(inputs.len(), 2, "small ones and those of no known size are not counted");
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 0, "nothing is known");
        let asked = stocks.ask("board", &inputs, now);
        assert_eq!(asked, paths(&["gcc", "glibc"]));
        assert_eq!(stocks.ask("board", &inputs, now), BTreeSet::new(), "one question at a time");
        stocks.told("board", &asked, None);
        assert_eq!(stocks.ask("board", &inputs, now), asked, "it has not answered");
        stocks.told("board", &asked, Some(&paths(&["glibc"])));
        assert_eq!(stocks.ask("board", &inputs, now), BTreeSet::new(), "it is asked once");
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 200 * MIB);
        assert_eq!(stocks.supply("other").missing_bytes(&inputs), 0);
        stocks.arrived("board", &inputs, None, now);
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 0);
    }

    #[test]
    fn what_a_node_said_long_ago_is_asked_again() {
        let now = 1_000_000;
        let mut stocks = with(&[("gcc", 200 * MIB)]);
        let inputs = stocks.inputs(&paths(&["gcc"]));
        let asked = stocks.ask("board", &inputs, now);
        stocks.told("board", &asked, Some(&BTreeSet::new()));
        assert_eq!(stocks.ask("board", &inputs, now + BELIEVED_S), asked);
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 0);
    }

    #[test]
    fn the_speed_of_a_way_is_that_of_what_was_sent_the_latest_counting_more() {
        let now = 1_000_000;
        let mut stocks = Stocks::default();
        let mut send = |bytes, s| {
            let sent = Some((bytes, Duration::from_secs(s)));
            stocks.arrived("board", &[], sent, now);
            stocks.supply("board").bytes_per_s
        };
        assert!((send(TELLING_BYTES - 1, 60) - ASSUMED_BYTES_PER_S).abs() < 1.0, "too little");
        assert!((send(100_000_000, 100) - 1e6).abs() < 1.0);
        assert!((send(200_000_000, 100) - 1.3e6).abs() < 1.0);
    }

    #[test]
    fn there_is_a_bound_and_room_is_made_when_no_job_is_open() {
        let now = 1_000_000;
        let mut stocks = Stocks { max_paths: 2, ..with(&[("a", MIB), ("b", MIB)]) };
        let inputs = stocks.inputs(&paths(&["a"]));
        let asked = stocks.ask("board", &inputs, now);
        stocks.told("board", &asked, Some(&BTreeSet::new()));
        stocks.sized(paths(&["c"]).pop_first().unwrap(), MIB);
        assert_eq!(stocks.inputs(&paths(&["a", "b", "c"])).len(), 2);
        assert_eq!(stocks.unsized_of(&paths(&["c"])), [], "it would not be kept");
        assert!(stocks.are_small(&paths(&["c"])));
        stocks.make_room(now);
        stocks.sized(paths(&["c"]).pop_first().unwrap(), MIB);
        let inputs = stocks.inputs(&paths(&["a", "b", "c"]));
        assert_eq!(inputs, [Input { number: 0, bytes: MIB }]);
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 0, "that was another one");
    }
}
