//! The only place of the lab that reads a clock and sleeps: the lab waits for real programs.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

/// A point in time until which something may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start: Instant,
    timeout: Duration,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { start: now(), timeout }
    }

    /// What remains; zero if it has passed.
    pub(crate) fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.start.elapsed())
    }

    /// Whether nothing remains.
    pub(crate) fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

/// The time now, for measuring how long real programs take.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the lab measures real programs")]
pub fn now() -> Instant {
    Instant::now()
}

/// Looks at a condition until it gives something, and gives up at the deadline. The condition is
/// looked at least once, and once more when the deadline has passed.
pub fn poll<T>(timeout: Duration, condition: impl FnMut() -> Option<T>) -> Option<T> {
    poll_every(INTERVAL, timeout, condition)
}

/// As [`poll`], for conditions that cost something to look at: with a pause between two looks.
pub(crate) fn poll_every<T>(
    interval: Duration,
    timeout: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Deadline::after(timeout);
    loop {
        let last = deadline.passed();
        if let Some(found) = condition() {
            return Some(found);
        }
        if last {
            return None;
        }
        pause(interval.min(deadline.remaining()).max(INTERVAL));
    }
}

/// Waits until it is worth looking again.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps: between two looks")]
fn pause(interval: Duration) {
    std::thread::sleep(interval);
}
