//! Who is behind a build hook: the user and processes that asked Nix for the build. For fairness,
//! display and where they want it to be built, never for access control.

use std::fs;

use crate::model::Client;

/// roost's parent is Nix's build hook, whose parent is nix-daemon's process for one client.
const GENERATIONS: usize = 6;

/// The client of the `roost connect` with this process id: nix-daemon names its client's process id
/// in its own first argument; without a daemon the hook's own user is the client.
#[must_use]
pub(super) fn of(pid: i32) -> Client {
    let mut here = pid;
    for _ in 0..GENERATIONS {
        let Some(process) = Process::read(here) else { break };
        if let Some(asker) = process.nix_client {
            let user = Process::read(asker).map(|process| process.user);
            let user = user.unwrap_or_else(|| "somebody".to_owned());
            return Client { label: format!("{user} (pid {asker})") };
        }
        if process.parent <= 1 {
            return Client { label: format!("{} (pid {here})", process.user) };
        }
        here = process.parent;
    }
    Client { label: format!("local (pid {pid})") }
}

/// The processes that a build was asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ancestry {
    /// From the build hook to the first process: the client of nix-daemon, and who has started it.
    Known(Vec<i32>),
    /// nix-daemon does not say who its client is, or some of them have ended.
    Unknown,
}

/// More generations than any session has.
const MAX_ANCESTORS: usize = 64;

/// The ancestry of the `roost connect` with this process id.
#[must_use]
pub(super) fn ancestry(pid: i32) -> Ancestry {
    trace(pid, |pid| {
        let process = Process::read(pid)?;
        match process.nix_client {
            Some(client) => Some(client),
            None if process.is_nix_daemon => None,
            None => Some(process.parent),
        }
    })
}

/// Follows processes to whoever they come from, as `asker` says; none if it does not know.
fn trace(pid: i32, asker: impl Fn(i32) -> Option<i32>) -> Ancestry {
    let (mut here, mut processes) = (pid, Vec::new());
    while here > 1 && processes.len() < MAX_ANCESTORS {
        processes.push(here);
        match asker(here) {
            Some(next) => here = next,
            None => return Ancestry::Unknown,
        }
    }
    Ancestry::Known(processes)
}

struct Process {
    parent: i32,
    user: String,
    nix_client: Option<i32>,
    is_nix_daemon: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Self {
            parent: field(&status, "PPid:")?.parse().ok()?,
            user: user_name(field(&status, "Uid:")?),
            nix_client: nix_client(&command),
            is_nix_daemon: is_nix_daemon(&command).is_some(),
        })
    }
}

/// The first word of a line of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// `nix-daemon <pid of the client>`, as nix-daemon writes over its own command line.
fn nix_client(command: &[u8]) -> Option<i32> {
    let words = is_nix_daemon(command)?;
    std::str::from_utf8(words.split(|byte| *byte == 0).next()?)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
}

/// The arguments of a nix-daemon.
fn is_nix_daemon(command: &[u8]) -> Option<&[u8]> {
    let end = command.iter().position(|byte| *byte == 0)?;
    command[..end].ends_with(b"nix-daemon").then(|| &command[end + 1..])
}

fn user_name(uid: &str) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_daemon_names_its_client_in_its_first_argument() {
        assert_eq!(nix_client(b"nix-daemon\x004711\x00"), Some(4711));
        assert_eq!(nix_client(b"/usr/bin/nix-daemon\x004711\x00"), Some(4711));
        assert_eq!(nix_client(b"nix-daemon\x00--stdio\x00"), None);
        assert_eq!(nix_client(b"nix\x004711\x00"), None);
        assert_eq!(nix_client(b"\xff\xfe"), None);
        assert_eq!(nix_client(b""), None);
    }

    #[test]
    fn ancestors_are_followed_through_nix_daemon_to_the_first_process() {
        // roost connect (9), its hook (8), nix-daemon's process (7) for nix (5) of roost build (4).
        let asker = |pid| {
            Some(match pid {
                9 => 8,
                8 => 7,
                7 => 5,
                5 => 4,
                _ => 1,
            })
        };
        assert_eq!(trace(9, asker), Ancestry::Known(vec![9, 8, 7, 5, 4]));
        let silent = |pid| (pid != 7).then_some(pid - 1);
        assert_eq!(trace(9, silent), Ancestry::Unknown);
        let circle = |pid: i32| Some(pid);
        assert!(matches!(trace(9, circle), Ancestry::Known(all) if all.len() == MAX_ANCESTORS));
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(ancestry(own), Ancestry::Known(all) if all[0] == own));
    }

    #[test]
    fn a_process_without_nix_above_it_still_has_a_name() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(of(pid).label.contains("(pid "), "{}", of(pid).label);
    }
}
