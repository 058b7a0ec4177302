//! What builds are expected to take that nobody has seen.

use std::time::Duration;

use super::{Estimates, Package};
use crate::model::{How, Size};

/// What one is expected to take while too little has been built to tell.
const UNSEEN: Duration = Duration::from_secs(30);
/// Packages from which on what they take on average says something of others.
const ENOUGH: usize = 5;
/// Packages that take less, in logarithms of milliseconds, are downloads and the like, and say nothing of
/// what is compiled.
const TRIVIAL_LN_MS: f64 = 7.6;
/// How far the mean may be above the median, in logarithms: a single giant does not make giants of all.
const MOST_LN: f64 = 1.0;

/// What is not known is expected to take this many times the average: to have given a giant to a slow node
/// costs more than to have kept a dwarf from it.
const CAUTION: f64 = 1.75;

impl Size {
    /// How much of an ordinary build it is.
    fn share(self) -> f64 {
        match self {
            Self::Small => 0.1,
            Self::Ordinary => 1.0,
            Self::Big => 10.0,
        }
    }
}

impl Estimates {
    /// What a native build takes at speed 1.0, by earlier builds of its package, else by what packages of
    /// this fleet take on average; nothing while there are too few of those.
    #[must_use]
    pub fn likely(&self, package: &Package<'_>, size: Size) -> Option<Duration> {
        let known = self.work(package).map(|work| work.typical);
        known.or_else(|| Some(self.mean?.mul_f64(size.share() * CAUTION)))
    }

    /// The same, or a guess: for weighing paths.
    #[must_use]
    pub fn weight(&self, package: &Package<'_>, size: Size) -> Duration {
        self.likely(package, size).unwrap_or_else(|| UNSEEN.mul_f64(size.share()))
    }

    /// What a package takes on average: times of packages are log-normal, more or less, so the mean is well
    /// above the median.
    pub(super) fn mean(&self) -> Option<Duration> {
        let native = self.rows.iter().filter(|row| row.how == How::Native);
        let logs: Vec<f64> =
            native.map(|row| row.work).filter(|work| *work >= TRIVIAL_LN_MS).collect();
        if logs.len() < ENOUGH {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "some thousand packages")]
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / count;
        let seconds = (mean + (variance / 2.0).min(MOST_LN)).exp() / 1000.0;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}
