//! When a node's slots are free: what is expected of the jobs that it has.

use std::time::Duration;

use super::NodeFacts;

/// What a job of which nothing is known is expected to take on any node, in seconds, and what is left of
/// one that has just begun. Most derivations of a graph are small, and nodes are kept busy with those.
pub(super) const UNKNOWN_S: f64 = 1.0;

/// A build is expected to go on at least for this share of what it has taken, or of what was expected: those
/// that were misjudged were misjudged by far.
const OVERRUN: f64 = 0.5;

/// How much longer a build is expected to run, in seconds, if it was expected to take `expected` and has
/// run for `elapsed`. One of which nothing is known goes on for as long as it has run.
#[must_use]
pub fn left_s(expected: Option<Duration>, elapsed: Duration) -> f64 {
    let elapsed_s = elapsed.as_secs_f64();
    match expected.map(|expected| expected.as_secs_f64()) {
        Some(expected_s) => (expected_s - elapsed_s).max(elapsed_s.min(expected_s) * OVERRUN),
        None => elapsed_s.max(UNKNOWN_S),
    }
}

/// One slot, and when it is free.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// In so many seconds,
    known_s: f64,
    /// and so many jobs of which nothing is known.
    unknown: u32,
}

impl Slot {
    fn free_s(self, unknown_s: f64) -> f64 {
        self.known_s + f64::from(self.unknown) * unknown_s
    }

    fn add(&mut self, takes_s: Option<f64>) {
        match takes_s {
            Some(takes_s) => self.known_s += takes_s,
            None => self.unknown += 1,
        }
    }
}

/// A node's slots during one round.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Jobs that it has from here.
    pub(super) assigned: u32,
    /// Those of them that get all cores, and those that wait for a slot of it.
    pub(super) big: u32,
    /// Jobs that it has from everyone.
    pub(super) busy: u32,
}

impl Slots {
    pub(super) fn of(node: &NodeFacts) -> Self {
        let slots = vec![Slot::default(); node.slots as usize];
        let NodeFacts { assigned, big, busy, .. } = *node;
        let mut this = Self { slots, assigned, big, busy: busy.max(assigned) };
        for job in node.jobs.iter().take(this.busy as usize) {
            this.add(Some(job.left_s), UNKNOWN_S);
        }
        for _ in node.jobs.len()..this.busy as usize {
            this.add(None, UNKNOWN_S);
        }
        this
    }

    /// In how many seconds the first slot is free, if a job of which nothing is known takes as long as
    /// `like` takes; never if there is none.
    pub(super) fn free_s(&self, like: Option<f64>) -> f64 {
        let unknown_s = like.unwrap_or(UNKNOWN_S);
        self.slots.iter().map(|slot| slot.free_s(unknown_s)).fold(f64::INFINITY, f64::min)
    }

    /// In how many seconds the first slot is free once a job that takes so long has been given the first one
    /// that is free now.
    pub(super) fn free_after_s(&self, takes_s: f64) -> f64 {
        let (mut first, mut second) = (f64::INFINITY, f64::INFINITY);
        for slot in &self.slots {
            let free_s = slot.free_s(takes_s);
            if free_s < first {
                (first, second) = (free_s, first);
            } else {
                second = second.min(free_s);
            }
        }
        second.min(first + takes_s)
    }

    /// Whether a job could begin at once.
    pub(super) fn has_free(&self) -> bool {
        self.busy < self.len()
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Jobs a slot, in thousandths.
    pub(super) fn load(&self) -> u64 {
        u64::from(self.busy) * 1000 / u64::from(self.len().max(1))
    }

    /// Has a job wait for the first free slot, which waits for its inputs, which come after `sent_s`.
    pub(super) fn reserve(&mut self, takes_s: Option<f64>, sent_s: f64) {
        let unknown_s = takes_s.unwrap_or(UNKNOWN_S);
        let Some(slot) = self.first(unknown_s) else { return };
        let idle_s = (sent_s - slot.free_s(unknown_s)).max(0.0);
        slot.known_s += idle_s;
        slot.add(takes_s);
    }

    /// Has a job take the first free slot.
    fn add(&mut self, takes_s: Option<f64>, unknown_s: f64) {
        if let Some(slot) = self.first(unknown_s) {
            slot.add(takes_s);
        }
    }

    fn first(&mut self, unknown_s: f64) -> Option<&mut Slot> {
        let slots = self.slots.iter_mut();
        slots.min_by(|a, b| a.free_s(unknown_s).total_cmp(&b.free_s(unknown_s)))
    }
}
