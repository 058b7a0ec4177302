//! Lines of the log that the LAN can provoke, and so must not be able to fill it with.

use std::time::Duration;

use tokio::time::Instant;

/// Lets so many lines a minute pass, with how many were left out before.
#[derive(Debug)]
pub struct Complaints {
    a_minute: u32,
    begun: Option<Instant>,
    passed: u32,
    left_out: u64,
}

impl Complaints {
    const MINUTE: Duration = Duration::from_secs(60);

    /// Lets `a_minute` of them pass.
    #[must_use]
    pub fn new(a_minute: u32) -> Self {
        Self { a_minute, begun: None, passed: 0, left_out: 0 }
    }

    /// Warns, or counts a warning that is left out.
    pub fn warn(&mut self, text: impl FnOnce() -> String) {
        if let Some(suffix) = self.suffix() {
            tracing::warn!("{}{suffix}", text());
        }
    }

    /// Tells, or counts what is left out.
    pub fn info(&mut self, text: impl FnOnce() -> String) {
        if let Some(suffix) = self.suffix() {
            tracing::info!("{}{suffix}", text());
        }
    }

    fn suffix(&mut self) -> Option<String> {
        match self.admit(Instant::now())? {
            0 => Some(String::new()),
            left_out => Some(format!(" ({left_out} like it left out before)")),
        }
    }

    /// How many were left out before, if one may pass now.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= Self::MINUTE) {
            (self.begun, self.passed) = (Some(now), 0);
        }
        if self.passed >= self.a_minute {
            self.left_out += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(a_minute: u32, seconds: &[u64]) -> Vec<Option<u64>> {
        let mut complaints = Complaints::new(a_minute);
        let start = Instant::now();
        seconds.iter().map(|s| complaints.admit(start + Duration::from_secs(*s))).collect()
    }

    #[test]
    fn one_a_minute_passes_and_tells_of_the_others() {
        let passed = passed(1, &[0, 1, 59, 60, 61, 200]);
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn several_a_minute_pass() {
        assert_eq!(
            passed(2, &[0, 1, 2, 60, 61, 62]),
            [Some(0), Some(0), None, Some(1), Some(0), None]
        );
    }
}
