//! The processes whose temporary roots are read.

use std::fs;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys::Events;

/// A process that has Nix build things: nix-daemon's for one client, or a Nix without a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    /// When it was started, in clock ticks since boot: another process may get its id later.
    pub started: u64,
}

impl Worker {
    /// The process that has this id now, if there is one.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Returns when it has ended; never if the kernel does not tell.
    pub(super) async fn ended(self) {
        let pidfd = Pid::from_raw(self.pid).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
        // Looked at with the descriptor open: from here on it cannot be another one.
        if !self.is_alive() {
            return;
        }
        if let Some(Ok(pidfd)) = pidfd {
            // A descriptor of a process is readable when it has ended (pidfd_open(2)).
            if let Ok(watch) = Events::new(pidfd) {
                if watch.readable().await.is_ok() {
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }
}

/// `starttime` of `/proc/<pid>/stat`, its 22nd field (proc(5)), unless the process has ended and only
/// its parent has not asked for it yet. The second field is a name in parentheses that may have anything
/// in it.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let runs = !matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_start_is_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(started(stat), Some(4242));
        assert_eq!(started(&stat.replace("S 1", "Z 1")), None, "it has ended");
        assert_eq!(started("7 (a) S 1"), None);
        assert_eq!(started(""), None);
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let worker = Worker::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(worker.is_alive());
        drop(child.stdin.take());
        worker.ended().await;
        assert!(!worker.is_alive());
        child.wait().unwrap();
        worker.ended().await;
    }
}
