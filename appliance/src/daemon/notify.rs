//! What systemd is told (sd_notify(3)). Without systemd, nobody.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use sd_notify::NotifyState;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinSet,
};
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

/// Tells systemd twice in each of its watchdog's intervals that the runtime still turns, if it wants to
/// know.
///
/// # Errors
/// There is no timer.
pub(super) fn serve_watchdog(tasks: &mut JoinSet<()>) -> io::Result<()> {
    let mut usec = 0;
    if sd_notify::watchdog_enabled(false, &mut usec) {
        let timer = Timer::new(Duration::from_micros((usec / 2).max(1)))?;
        tasks.spawn(async move {
            tell(NotifyState::Watchdog);
            while timer.tick().await.is_ok() {
                tell(NotifyState::Watchdog);
            }
        });
    }
    Ok(())
}

/// A timer of the kernel's: for a sleep as long as this one's, tokio's own wake up three times.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new(every: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = Timespec::try_from(every).map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd does own what it names")]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Returns when it has ticked since the last time, however often.
    async fn tick(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match read(ready.get_inner(), &mut [0; 8]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_ticks_again_and_again() {
        let timer = Timer::new(Duration::from_millis(1)).unwrap();
        for _ in 0..3 {
            timer.tick().await.unwrap();
        }
    }
}
