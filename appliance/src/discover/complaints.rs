//! Warnings that the LAN can provoke, and so must not be able to fill the log with.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one warning a minute pass, with how many were left out before it.
#[derive(Debug, Default)]
pub(super) struct OncePerMinute {
    last: Option<Instant>,
    left_out: u64,
}

impl OncePerMinute {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Warns, or counts a warning that is left out.
    pub(super) fn warn(&mut self, text: impl FnOnce() -> String) {
        match self.admit(Instant::now()) {
            Some(0) => tracing::warn!("{}", text()),
            Some(left_out) => tracing::warn!("{} ({left_out} like it left out before)", text()),
            None => {}
        }
    }

    /// How many were left out before, if one may pass now.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < Self::PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_passes_and_tells_of_the_others() {
        let mut complaints = OncePerMinute::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let passed: Vec<_> = [0, 1, 59, 60, 61, 200].map(|s| complaints.admit(at(s))).into();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
