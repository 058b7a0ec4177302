//! What a node lacks of a job's inputs.

use std::{sync::Arc, time::Duration};

/// What is assumed of a way over which nothing has been sent yet, in bytes a second: 100 Mbit/s.
const ASSUMED_BYTES_PER_S: f64 = 12.5e6;

/// An input that takes a moment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its number among those that are known here.
    pub number: u32,
    /// The size of its NAR.
    pub bytes: u64,
}

/// Inputs that were sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The size of their NARs together.
    pub bytes: u64,
    /// How long that took.
    pub took: Duration,
}

/// Whether a node has something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Has {
    /// It has not said.
    #[default]
    Unknown,
    /// It has.
    Yes,
    /// It lacks it.
    No,
}

/// Which inputs a node has, and how fast others get there. By default nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Supply {
    /// By the numbers of inputs; of those beyond the last one it is not known.
    pub has: Arc<Vec<Has>>,
    /// How fast inputs get there, in bytes a second; none if none were sent yet.
    pub bytes_per_s: Option<f64>,
}

impl Supply {
    /// Whether the node has an input.
    #[must_use]
    pub fn has(&self, number: u32) -> Has {
        self.has.get(number as usize).copied().unwrap_or_default()
    }

    /// The bytes of those of some inputs that the node is known to lack.
    #[must_use]
    pub fn missing_bytes(&self, inputs: &[Input]) -> u64 {
        let missing = inputs.iter().filter(|input| self.has(input.number) == Has::No);
        missing.fold(0, |sum: u64, input| sum.saturating_add(input.bytes))
    }

    /// How long it takes until the node has all of them, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn takes_s(&self, inputs: &[Input]) -> f64 {
        self.missing_bytes(inputs) as f64 / self.bytes_per_s.unwrap_or(ASSUMED_BYTES_PER_S)
    }
}
