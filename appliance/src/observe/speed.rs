//! How fast a core of this machine is.

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use tokio::time::Instant;

use crate::model::NodeView;

/// Numbers that are sorted: with what is done to them, more than the first caches hold.
const NUMBERS: usize = 1 << 15;
/// Runs, of which the fastest counts: others may use the machine, too.
const RUNS: usize = 3;
/// What a run takes at speed 1.0: a round figure, which a server's core takes two thirds of. Only how nodes
/// compare matters.
const REFERENCE: Duration = Duration::from_millis(4);

/// The speed of one core, 1.0 being a round reference. It measures what compilers do much of: it sorts,
/// branches on what nobody can foresee, and goes back and forth in more memory than the first caches have;
/// nothing of it is done by special instructions. At speed 1.0 it takes a hundredth of a second.
#[must_use]
pub fn measure() -> f64 {
    let runs = (0..RUNS).map(|run| {
        let begun = Instant::now();
        black_box(work(black_box(run as u64)));
        begun.elapsed()
    });
    let fastest = runs.min().unwrap_or_default();
    speed(fastest)
}

/// The speed of what takes so long: two digits of it, the rest is chance.
fn speed(time: Duration) -> f64 {
    let speed = REFERENCE.as_secs_f64() / time.as_secs_f64().max(f64::MIN_POSITIVE);
    let (min, max) = (NodeView::SPEEDS.start(), NodeView::SPEEDS.end());
    format!("{speed:.1e}").parse().unwrap_or(speed).clamp(*min, *max)
}

fn work(seed: u64) -> u64 {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut numbers: Vec<u64> = (0..NUMBERS).map(|_| next()).collect();
    numbers.sort_unstable();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..NUMBERS / 2 {
        let wanted = next();
        let at = numbers.partition_point(|number| *number < wanted);
        *counts.entry(numbers.get(at).copied().unwrap_or_default() >> 50).or_default() += 1;
    }
    // FNV-1a over words.
    let hash = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3);
    counts.into_iter().flat_map(|(key, count)| [key, count]).fold(0xcbf2_9ce4_8422_2325, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_does_the_same_work_and_some() {
        assert_eq!(work(1), work(1));
        assert_ne!(work(1), work(2));
    }

    #[test]
    fn a_speed_is_a_number_of_two_digits_whatever_the_clock_says() {
        assert_eq!(speed(REFERENCE), 1.0);
        assert_eq!(speed(REFERENCE * 7), 0.14);
        assert_eq!(speed(Duration::ZERO), 1000.0);
        assert_eq!(speed(Duration::MAX), 0.01);
        assert!(NodeView::SPEEDS.contains(&measure()));
    }
}
