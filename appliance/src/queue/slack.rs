//! Lets sled's threads sleep.
//!
//! sled 0.34 writes in a pool of seven threads, which it starts with the first database and never
//! ends. Each of them looks for work once a second, although it is woken when there is some. Nothing
//! that sled offers changes that.
//!
//! The kernel may let a thread sleep longer than it asked for, by that thread's timer slack (prctl(2)),
//! and a thread is born with the slack of the one that starts it. So sled is called with a slack of an
//! hour: its threads look in vain once an hour, and come at once when they are called. One that it adds
//! when much is to be done ends after three looks in vain, so that stays for some hours.

use std::{num::NonZeroU64, time::Duration};

use rustix::thread::set_current_timer_slack;

/// How much later than it asked for a thread of sled's may wake up.
const SLACK: Duration = Duration::from_secs(3600);

/// Does something that may have sled start a thread. No other thread is started in it, and nothing
/// waits for a time to pass: both would be as late.
pub(super) fn patient<T>(work: impl FnOnce() -> T) -> T {
    let _late = Late::new();
    work()
}

/// The calling thread has a slack of [`SLACK`] as long as this lives, panics included.
struct Late;

impl Late {
    fn new() -> Self {
        // Without it sled's threads wake up in vain.
        let slack = u64::try_from(SLACK.as_nanos()).ok().and_then(NonZeroU64::new);
        let _ = set_current_timer_slack(slack);
        Self
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // None stands for the slack that the thread was born with.
        let _ = set_current_timer_slack(None);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, panic::catch_unwind, thread};

    use rustix::thread::gettid;

    use super::*;

    /// The slack of the calling thread, in nanoseconds.
    fn slack() -> u128 {
        let file = format!("/proc/{}/timerslack_ns", gettid().as_raw_nonzero());
        fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn a_thread_started_with_patience_keeps_it_and_its_starter_does_not() {
        let before = slack();
        assert_ne!(before, SLACK.as_nanos());
        let started = patient(|| thread::spawn(slack));
        assert_eq!(started.join().unwrap(), SLACK.as_nanos());
        assert_eq!(slack(), before);
        assert!(catch_unwind(|| patient(|| panic!("as sled does"))).is_err());
        assert_eq!(slack(), before);
    }
}
