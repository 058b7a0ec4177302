//! What systemd is told (sd_notify(3)). Without systemd, nobody.

use std::{io, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tracing::warn;

use crate::sys::Events;

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

/// Tells systemd twice in each of its watchdog's intervals that the runtime still turns, if it wants to
/// know.
///
/// # Errors
/// There is no timer.
pub(super) fn serve_watchdog(tasks: &mut JoinSet<()>) -> io::Result<()> {
    let mut usec = 0;
    if sd_notify::watchdog_enabled(false, &mut usec) {
        let timer = timer(Duration::from_micros((usec / 2).max(1)))?;
        tasks.spawn(async move {
            tell(NotifyState::Watchdog);
            while timer.next().await.is_ok() {
                tell(NotifyState::Watchdog);
            }
        });
    }
    Ok(())
}

/// A timer of the kernel's: for a sleep as long as this one's, tokio's own wake up three times.
fn timer(every: Duration) -> io::Result<Events> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let every = Timespec::try_from(every).map_err(io::Error::other)?;
    let times = Itimerspec { it_interval: every, it_value: every };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Events::new(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_ticks_again_and_again() {
        let timer = timer(Duration::from_millis(1)).unwrap();
        for _ in 0..3 {
            timer.next().await.unwrap();
        }
    }
}
