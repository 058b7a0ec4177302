//! What the tables of several nodes say together.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use super::{
    LONG, Package, Table,
    packages::Packages,
    record::{Logs, MAD_TO_DEVIATION},
};
use crate::model::{How, NodeView};

/// Packages that a node has to have in common with others for its speed to be learned.
const MIN_COMMON: usize = 3;
/// Rounds of the median polish; it hardly changes anything after the third.
const ROUNDS: usize = 6;
/// A change of a logarithm that is none.
const SETTLED: f64 = 0.005;
/// The spread of builds of which nothing is known, and how many times that opinion counts as.
const PRIOR_SPREAD: f64 = 0.5;
const PRIOR_TIMES: f64 = 2.0;
/// How much more one of a node's own times says of that node than all the others do together.
const OWN_WEIGHT: f64 = 2.0;

/// What one node has told.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its ids; a node that builds in two stores has two.
    pub nodes: Vec<String>,
    /// How fast it is, 1.0 being the reference, as far as it knows itself; 0 if it does not.
    pub hint: f64,
    /// What it has built.
    pub table: Arc<Table>,
}

/// How much work a package is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// How long it takes on a node of speed 1.0, typically.
    pub typical: Duration,
    /// How far single builds are from that: the standard deviation of the time's natural logarithm.
    /// 0.1 is about 10 %.
    pub spread: f64,
}

/// A package that one node or more has built.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) how: How,
    /// Its times, in order of their columns.
    cells: Vec<Cell>,
    /// The logarithm of its time in milliseconds at speed 1.0.
    pub(super) work: f64,
    spread: f64,
}

/// The builds of a package by one node.
#[derive(Clone, Copy, Debug)]
struct Cell {
    column: usize,
    times: Logs,
}

/// How fast nodes are and how long builds take, by the tables of several nodes.
///
/// A native build's time is the package's work divided by the node's speed. Both are found by median
/// polish (Tukey) of the times' logarithms, over packages that several nodes have built. Nodes that never
/// built the same cannot be compared so: the level of each group that can is that of its hints.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    stamp: u64,
    columns: HashMap<String, usize>,
    /// The logarithm of each column's speed.
    speeds: Vec<f64>,
    packages: Packages<usize>,
    pub(super) rows: Vec<Row>,
    pub(super) mean: Option<Duration>,
}

impl Estimates {
    /// What `sources` say together.
    #[must_use]
    pub fn of(sources: &[Source]) -> Self {
        let mut this = Self { stamp: stamp(sources), ..Self::default() };
        for (column, source) in sources.iter().enumerate() {
            this.columns.extend(source.nodes.iter().map(|node| (node.clone(), column)));
            for (package, times) in source.table.times() {
                this.row(&package).cells.push(Cell { column, times });
            }
        }
        this.speeds = this.polish(&hints(sources));
        this.weigh();
        this.mean = this.mean();
        this
    }

    /// Whether these are the sources that it was made of: with the same revisions.
    #[must_use]
    pub fn is_of(&self, sources: &[Source]) -> bool {
        self.stamp == stamp(sources)
    }

    /// How fast a node is, 1.0 being the reference; that if nothing is known of it.
    #[must_use]
    pub fn speed(&self, node: &str) -> f64 {
        self.columns.get(node).map_or(1.0, |column| self.speeds[*column].exp())
    }

    /// How much work a package is, if one of the nodes has built it. What is emulated is a package of its
    /// own, with the speed of the node that emulates.
    #[must_use]
    pub fn work(&self, package: &Package<'_>) -> Option<Work> {
        let row = &self.rows[*self.packages.get(package)?];
        Some(Work { typical: duration(row.work), spread: row.spread })
    }

    /// How long a package takes on a node, by what this one and others have built: the more often it was
    /// itself, the less the others count.
    #[must_use]
    pub fn seconds(&self, package: &Package<'_>, node: &str) -> Option<Duration> {
        let row = &self.rows[*self.packages.get(package)?];
        let Some(&column) = self.columns.get(node) else { return Some(duration(row.work)) };
        let general = row.work - self.speeds[column];
        let own = row.cells.binary_search_by_key(&column, |cell| cell.column);
        Some(duration(own.map_or(general, |own| {
            let Logs { median, count, .. } = row.cells[own].times;
            let weight = OWN_WEIGHT * f64::from(count);
            (median * weight + general) / (weight + 1.0)
        })))
    }

    /// Whether a package is known to be long on a node: see [`LONG`].
    #[must_use]
    pub fn is_long(&self, package: &Package<'_>, node: &str) -> bool {
        self.seconds(package, node).is_some_and(|time| time >= LONG)
    }

    fn row(&mut self, package: &Package<'_>) -> &mut Row {
        let known = self.packages.get(package).copied();
        let row = known.unwrap_or_else(|| {
            let (how, cells) = (package.how, Vec::new());
            self.rows.push(Row { how, cells, work: 0.0, spread: PRIOR_SPREAD });
            *self.packages.get_or_insert(package, || self.rows.len() - 1)
        });
        &mut self.rows[row]
    }

    /// The logarithm of each column's speed, given those of the hints.
    fn polish(&self, hints: &[f64]) -> Vec<f64> {
        let mut shared = Shared::new(self, hints.len());
        shared.prune();
        let mut speeds = hints.to_vec();
        let mut scratch = Vec::new();
        for _ in 0..ROUNDS {
            let mut rests: Vec<Vec<f64>> = vec![Vec::new(); hints.len()];
            for row in &shared.rows {
                let cells = || row.iter().filter(|cell| shared.active[cell.column]);
                scratch.clear();
                scratch.extend(cells().map(|cell| cell.times.median + speeds[cell.column]));
                // A row of one says nothing of how nodes compare.
                if scratch.len() < 2 {
                    continue;
                }
                let Some(work) = median(&mut scratch) else { continue };
                cells().for_each(|cell| rests[cell.column].push(work - cell.times.median));
            }
            let mut change = 0.0_f64;
            for (speed, rests) in speeds.iter_mut().zip(&mut rests) {
                let Some(new) = median(rests) else { continue };
                change = change.max((new - *speed).abs());
                *speed = new;
            }
            if change < SETTLED {
                break;
            }
        }
        shared.level(&mut speeds, hints);
        // Whatever nodes tell of their builds.
        let (min, max) = (NodeView::SPEEDS.start().ln(), NodeView::SPEEDS.end().ln());
        speeds.iter().map(|speed| speed.clamp(min, max)).collect()
    }

    /// Finds the work of each package, by the speeds.
    fn weigh(&mut self) {
        let mut values = Vec::new();
        for row in &mut self.rows {
            let cells = &row.cells;
            values.clear();
            values.extend(
                cells
                    .iter()
                    .map(|cell| (cell.times.median + self.speeds[cell.column], cell.times.count)),
            );
            row.work = weighted_median(&mut values);
            let times: f64 = cells.iter().map(|cell| f64::from(cell.times.count)).sum();
            let within =
                cells.iter().map(|cell| f64::from(cell.times.count) * cell.times.spread.powi(2));
            let mut off: Vec<_> =
                values.iter().map(|(value, _)| (value - row.work).abs()).collect();
            let between = MAD_TO_DEVIATION * median(&mut off).unwrap_or_default();
            let seen = within.sum::<f64>() + times * between.powi(2);
            let prior = PRIOR_TIMES * PRIOR_SPREAD.powi(2);
            row.spread = ((seen + prior) / (times + PRIOR_TIMES)).sqrt();
        }
    }
}

/// What several nodes have built natively.
struct Shared<'a> {
    rows: Vec<&'a [Cell]>,
    /// The columns whose speed is learned.
    active: Vec<bool>,
}

impl<'a> Shared<'a> {
    fn new(estimates: &'a Estimates, columns: usize) -> Self {
        let native = estimates.rows.iter().filter(|row| row.how == How::Native);
        let rows = native.map(|row| row.cells.as_slice());
        Self { rows: rows.filter(|row| row.len() > 1).collect(), active: vec![true; columns] }
    }

    /// Leaves out nodes that have too little in common with the rest of those that are left.
    fn prune(&mut self) {
        loop {
            let mut common = vec![0; self.active.len()];
            for row in &self.rows {
                let cells = || row.iter().filter(|cell| self.active[cell.column]);
                if cells().count() > 1 {
                    cells().for_each(|cell| common[cell.column] += 1);
                }
            }
            let before = self.active.iter().filter(|active| **active).count();
            for (active, common) in self.active.iter_mut().zip(common) {
                *active &= common >= MIN_COMMON;
            }
            if self.active.iter().filter(|active| **active).count() == before {
                return;
            }
        }
    }

    /// Moves the speeds of each group of nodes that can be compared to the level of their hints.
    fn level(&self, speeds: &mut [f64], hints: &[f64]) {
        let mut group: Vec<usize> = (0..speeds.len()).collect();
        let find = |group: &[usize], mut column: usize| {
            while group[column] != column {
                column = group[column];
            }
            column
        };
        for row in &self.rows {
            let mut columns = row.iter().map(|cell| cell.column).filter(|at| self.active[*at]);
            let Some(first) = columns.next() else { continue };
            for column in columns {
                let (one, other) = (find(&group, first), find(&group, column));
                let root = one.min(other);
                (group[one], group[other]) = (root, root);
            }
        }
        let roots: Vec<usize> = (0..speeds.len()).map(|column| find(&group, column)).collect();
        let mut off: HashMap<usize, Vec<f64>> = HashMap::new();
        for (column, root) in roots.iter().enumerate() {
            off.entry(*root).or_default().push(hints[column] - speeds[column]);
        }
        let off: HashMap<usize, f64> =
            off.into_iter().filter_map(|(root, mut off)| Some((root, median(&mut off)?))).collect();
        for (speed, root) in speeds.iter_mut().zip(&roots) {
            *speed += off.get(root).copied().unwrap_or_default();
        }
    }
}

/// The logarithms of the hints. What does not know is taken to be like the others.
fn hints(sources: &[Source]) -> Vec<f64> {
    let known = |hint: f64| (hint.is_finite() && hint > 0.0).then(|| hint.ln());
    let mut all: Vec<_> = sources.iter().filter_map(|source| known(source.hint)).collect();
    let usual = median(&mut all).unwrap_or_default();
    sources.iter().map(|source| known(source.hint).unwrap_or(usual)).collect()
}

/// A number that is another one whenever a source is another one, or has learned.
fn stamp(sources: &[Source]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for Source { nodes, hint, table } in sources {
        (nodes, hint.to_bits(), table.revision(), table.len()).hash(&mut hasher);
    }
    hasher.finish()
}

fn duration(ln_ms: f64) -> Duration {
    // Other nodes tell times: with the speeds, they may come to more than there is.
    Duration::try_from_secs_f64(ln_ms.exp() / 1000.0).unwrap_or(Duration::MAX)
}

/// The median; the mean of the two in the middle, if there are.
fn median(values: &mut [f64]) -> Option<f64> {
    let (half, even) = (values.len() / 2, values.len() % 2 == 0);
    if values.is_empty() {
        return None;
    }
    let (lower, middle, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    let below = lower.iter().copied().max_by(f64::total_cmp).filter(|_| even);
    Some(below.map_or(*middle, |below| f64::midpoint(below, *middle)))
}

/// The value that half of the weights are below; the mean of two, if it is just between them.
fn weighted_median(values: &mut [(f64, u8)]) -> f64 {
    values.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let half = values.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (index, (value, weight)) in values.iter().enumerate() {
        below += f64::from(*weight);
        if below > half {
            return *value;
        }
        if let Some((next, _)) = values.get(index + 1).filter(|_| below >= half) {
            return f64::midpoint(*value, *next);
        }
    }
    0.0
}
