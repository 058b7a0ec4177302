//! What is kept of the builds of one package on one node.

use serde::{Deserialize, Serialize};

use super::Package;

/// Build times kept: the last ones.
const TIMES: usize = 8;
/// Peaks of memory kept: of the last builds for which one is known.
const PEAKS: usize = 4;

/// From the median absolute deviation to the standard deviation, for a normal distribution.
pub(super) const MAD_TO_DEVIATION: f64 = 1.4826;

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Well.
    Built {
        /// How long it took, in milliseconds.
        ms: u64,
        /// The most memory that it had, in MiB, if that is known.
        peak_mib: Option<u32>,
        /// The size of the NARs of its outputs together, in bytes, if that is known.
        output_bytes: Option<u64>,
    },
    /// By the builder's failure, or because it went beyond a limit.
    Failed,
}

/// A build that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Of what.
    pub package: Package<'a>,
    /// How.
    pub ending: Ending,
    /// When, in seconds since 1970.
    pub at_s: u64,
}

/// The builds of a package on a node. Stored and sent: what is not known is left out, and what later
/// versions add is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    #[serde(rename = "t", skip_serializing_if = "heapless::Vec::is_empty")]
    times_ms: heapless::Vec<u32, TIMES>,
    #[serde(rename = "m", skip_serializing_if = "heapless::Vec::is_empty")]
    peaks_mib: heapless::Vec<u32, PEAKS>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
    #[serde(rename = "b")]
    builds: u32,
    #[serde(rename = "f", skip_serializing_if = "is_zero")]
    failures: u32,
    #[serde(rename = "l")]
    last_s: u64,
    #[serde(rename = "v")]
    revision: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The times of a record as placement reckons with them: in logarithms, for what is twice as slow is
/// as far off as what is twice as fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Logs {
    /// Of the median time, in milliseconds.
    pub(super) median: f64,
    /// The standard deviation, by the median absolute deviation; 0 for a single time.
    pub(super) spread: f64,
    /// How many times there are.
    pub(super) count: u8,
}

impl Record {
    /// Adds a build that has ended.
    pub(super) fn add(&mut self, ending: Ending, at_s: u64, revision: u64) {
        match ending {
            Ending::Built { ms, peak_mib, output_bytes } => {
                // A time of nothing has no logarithm.
                push(&mut self.times_ms, u32::try_from(ms).unwrap_or(u32::MAX).max(1));
                if let Some(peak_mib) = peak_mib {
                    push(&mut self.peaks_mib, peak_mib);
                }
                self.output_bytes = output_bytes.or(self.output_bytes);
                self.builds = self.builds.saturating_add(1);
            }
            Ending::Failed => self.failures = self.failures.saturating_add(1),
        }
        self.last_s = at_s;
        self.revision = revision;
    }

    /// The median of the last build times, in milliseconds.
    #[must_use]
    pub fn median_ms(&self) -> Option<u64> {
        self.logs().map(|logs| logs.median.exp().round() as u64)
    }

    /// Builds that ended well.
    #[must_use]
    pub fn builds(&self) -> u32 {
        self.builds
    }

    /// Builds that failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The most memory that one of the last builds had, in MiB, if that is known.
    #[must_use]
    pub fn peak_mib(&self) -> Option<u32> {
        self.peaks_mib.iter().copied().max()
    }

    /// The size of the NARs of its outputs together, in bytes, if that is known.
    #[must_use]
    pub fn output_bytes(&self) -> Option<u64> {
        self.output_bytes
    }

    /// When the last build ended, in seconds since 1970.
    #[must_use]
    pub fn last_s(&self) -> u64 {
        self.last_s
    }

    /// The table's revision when it was changed last.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn logs(&self) -> Option<Logs> {
        let mut times = self.times_ms.clone();
        times.sort_unstable();
        // Another node may have sent a time of nothing.
        let times: heapless::Vec<f64, TIMES> =
            times.iter().map(|&ms| f64::from(ms.max(1))).collect();
        let median = middle(&times)?;
        // The logarithm of a median is the median of the logarithms, and needs to be taken once.
        let mut ratios: heapless::Vec<f64, TIMES> =
            times.iter().map(|&ms| (ms / median).max(median / ms)).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let spread = MAD_TO_DEVIATION * middle(&ratios)?.ln();
        let count = u8::try_from(times.len()).unwrap_or(u8::MAX);
        Some(Logs { median: median.ln(), spread, count })
    }
}

/// Adds a number, instead of the oldest one if there is no room.
fn push<const N: usize>(numbers: &mut heapless::Vec<u32, N>, number: u32) {
    if numbers.is_full() {
        numbers.remove(0);
    }
    // There is room now.
    let _ = numbers.push(number);
}

/// The median of sorted numbers above zero; of two in the middle, what is as far from both.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len() % 2 == 0 { sorted[sorted.len() / 2 - 1] } else { upper };
    Some((lower * upper).sqrt())
}
