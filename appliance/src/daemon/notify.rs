//! What systemd is told (sd_notify(3)). Without systemd, nobody.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        warn!("systemd could not be told of our state: {error}");
    }
}

pub(super) fn ready() {
    tell(NotifyState::Ready);
}

pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells systemd twice in each of its watchdog's intervals that the runtime still turns.
pub(super) async fn watchdog() {
    let mut usec = 0;
    if !sd_notify::watchdog_enabled(false, &mut usec) {
        return;
    }
    let mut ticks = tokio::time::interval(Duration::from_micros((usec / 2).max(1)));
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}
