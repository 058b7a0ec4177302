//! Whose turn it is: clients share the slots, and each client's jobs come by their remaining path.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

/// A second of waiting counts as this much of remaining path: nothing waits for ever behind what is more
/// urgent.
const AGEING: f64 = 0.05;

/// What the order of waiting jobs goes by.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Who asks.
    pub client: &'a str,
    /// As [`super::JobFacts::path_s`].
    pub path_s: f64,
    /// How long it has waited.
    pub waited: Duration,
    /// Its place in the order of acceptance.
    pub accepted: u64,
}

impl Turn<'_> {
    /// The longest path first, then the oldest.
    fn urgency(&self, other: &Self) -> Ordering {
        let weight = |turn: &Self| turn.path_s + turn.waited.as_secs_f64() * AGEING;
        weight(other).total_cmp(&weight(self)).then(self.accepted.cmp(&other.accepted))
    }
}

/// The places of waiting jobs in `turns`, in the order in which they should be placed. The client with the
/// fewest jobs comes next: `running` is how many each has with nodes already.
#[must_use]
pub fn order<'a>(turns: &[Turn<'a>], running: &HashMap<&'a str, u32>) -> Vec<usize> {
    let mut clients: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, turn) in turns.iter().enumerate() {
        clients.entry(turn.client).or_default().push(index);
    }
    let mut queues: Vec<(&str, Vec<usize>)> = clients.into_iter().collect();
    for (_, queue) in &mut queues {
        // The most urgent one is taken from the end.
        queue.sort_unstable_by(|a, b| turns[*b].urgency(&turns[*a]));
    }
    // Whoever has waited longest comes first among equals.
    let first = |queue: &[usize]| queue.last().map_or(u64::MAX, |index| turns[*index].accepted);
    let mut next: BinaryHeap<Reverse<(u32, u64, usize)>> = queues
        .iter()
        .enumerate()
        .map(|(at, (client, queue))| {
            Reverse((running.get(client).copied().unwrap_or(0), first(queue), at))
        })
        .collect();
    let mut order = Vec::with_capacity(turns.len());
    while let Some(Reverse((has, _, at))) = next.pop() {
        let queue = &mut queues[at].1;
        order.extend(queue.pop());
        if !queue.is_empty() {
            next.push(Reverse((has.saturating_add(1), first(queue), at)));
        }
    }
    order
}
