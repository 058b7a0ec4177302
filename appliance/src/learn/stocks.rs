//! Which inputs of jobs are at which nodes, and how fast they get there.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use nix_compat::store_path::StorePath;

use crate::model::{Has, Input, Sent, Supply};

/// Smaller inputs are not counted: they are with a node in a moment.
const MIN_BYTES: u64 = 1 << 20;

/// Paths whose sizes are known at most. Those beyond are not counted.
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
    /// The numbers of paths.
    numbers: HashMap<StorePath, u32>,
    /// By their numbers.
    paths: Vec<Known>,
    nodes: HashMap<String, Node>,
}

/// What is known of a path.
#[derive(Debug)]
struct Known {
    path: StorePath,
    /// The size of its NAR; none of one that others refer to, and no more is known.
    bytes: Option<u64>,
    references: Vec<u32>,
}

/// What is known of a node.
#[derive(Debug)]
struct Node {
    supply: Supply,
    /// Since when, in seconds since 1970.
    since_s: u64,
    /// Whether a question to it is under way.
    asked: bool,
}

/// What is known of the closure of some paths.
#[derive(Debug, Default, PartialEq)]
pub struct Closure {
    /// Those of which no size is known yet, nor what they refer to.
    pub unknown: Vec<StorePath>,
    /// Those that count.
    pub inputs: Vec<Input>,
}

impl Default for Stocks {
    fn default() -> Self {
        Self {
            max_paths: MAX_PATHS,
            numbers: HashMap::new(),
            paths: Vec::new(),
            nodes: HashMap::new(),
        }
    }
}

impl Stocks {
    /// The closure of `paths`, as far as it is known.
    #[must_use]
    pub fn closure<'p>(&self, paths: impl IntoIterator<Item = &'p StorePath>) -> Closure {
        let mut closure = Closure::default();
        let mut reached = vec![false; self.paths.len()];
        let mut next = Vec::new();
        for path in paths {
            match self.numbers.get(path) {
                Some(number) => next.push(*number),
                None if self.paths.len() + closure.unknown.len() < self.max_paths => {
                    closure.unknown.push(path.clone());
                }
                // It would not be kept.
                None => {}
            }
        }
        while let Some(number) = next.pop() {
            let known = self.paths.get(number as usize);
            let Some((known, reached)) = known.zip(reached.get_mut(number as usize)) else {
                continue;
            };
            if std::mem::replace(reached, true) {
                continue;
            }
            next.extend(&known.references);
            match known.bytes {
                None => closure.unknown.push(known.path.clone()),
                Some(bytes) if bytes >= MIN_BYTES => closure.inputs.push(Input { number, bytes }),
                Some(_) => {}
            }
        }
        closure
    }

    /// Learns the size of a path's NAR, and what it refers to.
    pub fn learn<'p>(
        &mut self,
        path: &StorePath,
        bytes: u64,
        references: impl IntoIterator<Item = &'p StorePath>,
    ) {
        let Some(number) = self.number(path) else { return };
        let references = references.into_iter().filter_map(|path| self.number(path)).collect();
        if let Some(known) = self.paths.get_mut(number as usize) {
            known.bytes = Some(bytes);
            known.references = references;
        }
    }

    /// The number of a path; none if there is no room for another one.
    fn number(&mut self, path: &StorePath) -> Option<u32> {
        if let Some(number) = self.numbers.get(path) {
            return Some(*number);
        }
        let number = u32::try_from(self.paths.len()).ok();
        let number = number.filter(|_| !self.is_full())?;
        self.paths.push(Known { path: path.clone(), bytes: None, references: Vec::new() });
        self.numbers.insert(path.clone(), number);
        Some(number)
    }

    /// Those of `inputs` of which a node should be asked now whether it has them. While a question is under
    /// way, until [`Stocks::told`], it should not.
    pub fn ask(&mut self, node: &str, inputs: &[Input], now_s: u64) -> BTreeSet<StorePath> {
        let node = self.node(node, now_s);
        if now_s.saturating_sub(node.since_s) >= BELIEVED_S {
            node.forget(now_s);
        }
        if node.asked {
            return BTreeSet::new();
        }
        let numbers = inputs.iter().map(|input| input.number);
        let unknown: Vec<_> =
            numbers.filter(|number| node.supply.has(*number) == Has::Unknown).collect();
        node.asked = !unknown.is_empty();
        let path = |number| self.paths.get(number as usize).map(|known| known.path.clone());
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
            if let Some(number) = self.numbers.get(path) {
                node.learn(*number, if has.contains(path) { Has::Yes } else { Has::No });
            }
        }
    }

    /// Learns that a node has all of some inputs, and what had to be sent for that.
    pub fn arrived(&mut self, node: &str, inputs: &[Input], sent: Option<Sent>, now_s: u64) {
        let node = self.node(node, now_s);
        for input in inputs {
            node.learn(input.number, Has::Yes);
        }
        if let Some(sent) = sent.filter(|sent| sent.bytes >= TELLING_BYTES) {
            node.sent(sent);
        }
    }

    /// What is known of a node.
    #[must_use]
    pub fn supply(&self, node: &str) -> Supply {
        self.nodes.get(node).map(|node| node.supply.clone()).unwrap_or_default()
    }

    /// Whether there is no room for more paths.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.paths.len() >= self.max_paths
    }

    /// Forgets all paths: for a moment at which no job is open, since the numbers of inputs are given anew.
    pub fn make_room(&mut self, now_s: u64) {
        self.numbers.clear();
        self.paths.clear();
        self.nodes.values_mut().for_each(|node| node.forget(now_s));
    }

    fn node(&mut self, id: &str, now_s: u64) -> &mut Node {
        let new = || Node { supply: Supply::default(), since_s: now_s, asked: false };
        self.nodes.entry(id.to_owned()).or_insert_with(new)
    }
}

impl Node {
    fn learn(&mut self, number: u32, has: Has) {
        // The last round of placement may hold on to what was known before.
        let all = Arc::make_mut(&mut self.supply.has);
        let number = number as usize;
        if all.len() <= number {
            all.resize(number + 1, Has::Unknown);
        }
        all[number] = has;
    }

    fn forget(&mut self, now_s: u64) {
        self.supply.has = Arc::default();
        self.since_s = now_s;
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn sent(&mut self, Sent { bytes, took }: Sent) {
        let now = (bytes as f64 / took.as_secs_f64().max(1e-3)).max(SLOWEST_BYTES_PER_S);
        let before = self.supply.bytes_per_s.unwrap_or(now);
        self.supply.bytes_per_s = Some(before * (1.0 - NEWEST) + now * NEWEST);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn paths(names: &[&str]) -> BTreeSet<StorePath> {
        let path = |name: &&str| {
            let path = format!("{}/{}-{name}", nix_compat::store_path::STORE_DIR, "0".repeat(32));
            StorePath::parse(&path).unwrap()
        };
        names.iter().map(path).collect()
    }

    fn path(name: &str) -> StorePath {
        paths(&[name]).pop_first().unwrap()
    }

    /// Paths of these sizes, which refer to these.
    fn with(known: &[(&str, u64, &[&str])]) -> Stocks {
        let mut stocks = Stocks::default();
        for (name, bytes, references) in known {
            stocks.learn(&path(name), *bytes, &paths(references));
        }
        stocks
    }

    #[test]
    fn the_closure_of_what_is_needed_counts_as_far_as_it_is_known() {
        let mut stocks = with(&[
            ("stdenv", 100, &["stdenv", "gcc", "setup.sh"]),
            ("gcc", 200 * MIB, &["gcc", "glibc"]),
            ("setup.sh", 100, &[]),
        ]);
        let names =
            |closure: &Closure| -> BTreeSet<_> { closure.unknown.iter().cloned().collect() };
        let closure = stocks.closure(&paths(&["stdenv", "source"]));
        assert_eq!(names(&closure), paths(&["glibc", "source"]));
        stocks.learn(&path("glibc"), 50 * MIB, []);
        stocks.learn(&path("source"), MIB - 1, []);
        let closure = stocks.closure(&paths(&["stdenv", "source"]));
        let mut sizes: Vec<_> = closure.inputs.iter().map(|input| input.bytes).collect();
        sizes.sort_unstable();
        assert_eq!((names(&closure), sizes), (paths(&[]), vec![50 * MIB, 200 * MIB]));
        assert_eq!(stocks.closure(&paths(&["setup.sh"])), Closure::default());
    }

    #[test]
    fn a_node_lacks_what_it_says_it_has_not_until_it_is_sent() {
        let now = 1_000_000;
        let mut stocks = with(&[("gcc", 200 * MIB, &[]), ("glibc", 50 * MIB, &[])]);
        let inputs = stocks.closure(&paths(&["gcc", "glibc"])).inputs;
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
        let mut stocks = with(&[("gcc", 200 * MIB, &[])]);
        let inputs = stocks.closure(&paths(&["gcc"])).inputs;
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
            let sent = Sent { bytes, took: Duration::from_secs(s) };
            stocks.arrived("board", &[], Some(sent), now);
            stocks.supply("board").bytes_per_s
        };
        assert_eq!(send(TELLING_BYTES - 1, 60), None, "too little");
        assert!((send(100_000_000, 100).unwrap() - 1e6).abs() < 1.0);
        assert!((send(200_000_000, 100).unwrap() - 1.3e6).abs() < 1.0);
    }

    #[test]
    fn there_is_a_bound_and_room_is_made_when_no_job_is_open() {
        let now = 1_000_000;
        let mut stocks =
            Stocks { max_paths: 2, ..with(&[("a", MIB, &["b", "b"]), ("b", MIB, &[])]) };
        let inputs = stocks.closure(&paths(&["b"])).inputs;
        let asked = stocks.ask("board", &inputs, now);
        stocks.told("board", &asked, Some(&BTreeSet::new()));
        stocks.learn(&path("c"), MIB, []);
        let closure = stocks.closure(&paths(&["a", "b", "c"]));
        assert_eq!((closure.inputs.len(), closure.unknown), (2, vec![]), "there is no room for c");
        assert!(stocks.is_full());
        stocks.make_room(now);
        stocks.learn(&path("c"), MIB, []);
        let Closure { inputs, unknown } = stocks.closure(&paths(&["a", "c"]));
        assert_eq!(inputs, [Input { number: 0, bytes: MIB }]);
        assert_eq!(unknown, [path("a")]);
        assert_eq!(stocks.supply("board").missing_bytes(&inputs), 0, "that was another one");
    }
}
