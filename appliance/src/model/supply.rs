//! What a node lacks of a job's inputs.

use std::sync::Arc;

/// What is assumed of a way over which nothing has been sent yet, in bytes a second: 100 Mbit/s.
pub const ASSUMED_BYTES_PER_S: f64 = 12.5e6;

/// An input that takes a moment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its number among those that are known here.
    pub number: u32,
    /// The size of its NAR.
    pub bytes: u64,
}

/// Which inputs a node lacks, and how fast they get there.
#[derive(Clone, Debug, PartialEq)]
pub struct Supply {
    /// By the numbers of inputs: whether the node lacks it, as far as known.
    pub lacks: Arc<Vec<bool>>,
    /// How fast inputs get there.
    pub bytes_per_s: f64,
}

impl Default for Supply {
    /// Of a node that is not known to lack anything.
    fn default() -> Self {
        Self { lacks: Arc::default(), bytes_per_s: ASSUMED_BYTES_PER_S }
    }
}

impl Supply {
    /// Whether the node is known to lack an input.
    #[must_use]
    pub fn lacks(&self, input: Input) -> bool {
        self.lacks.get(input.number as usize).copied().unwrap_or_default()
    }

    /// The bytes of those of some inputs that the node lacks.
    #[must_use]
    pub fn missing_bytes(&self, inputs: &[Input]) -> u64 {
        let missing = inputs.iter().filter(|input| self.lacks(**input));
        missing.fold(0, |sum: u64, input| sum.saturating_add(input.bytes))
    }

    /// How long it takes until the node has all of them, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn takes_s(&self, inputs: &[Input]) -> f64 {
        self.missing_bytes(inputs) as f64 / self.bytes_per_s
    }
}
