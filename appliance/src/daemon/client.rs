//! Who is behind a build hook: the user and process that asked Nix for the build. For fairness and
//! display, never for access control.

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

struct Process {
    parent: i32,
    user: String,
    nix_client: Option<i32>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Self {
            parent: field(&status, "PPid:")?.parse().ok()?,
            user: user_name(field(&status, "Uid:")?),
            nix_client: nix_client(&command),
        })
    }
}

/// The first word of a line of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// `nix-daemon <pid of the client>`, as nix-daemon writes over its own command line.
fn nix_client(command: &[u8]) -> Option<i32> {
    let mut words = command.split(|byte| *byte == 0);
    let program = std::str::from_utf8(words.next()?).ok()?;
    if !program.ends_with("nix-daemon") {
        return None;
    }
    std::str::from_utf8(words.next()?).ok()?.trim().parse().ok().filter(|pid| *pid > 0)
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
    fn a_process_without_nix_above_it_still_has_a_name() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(of(pid).label.contains("(pid "), "{}", of(pid).label);
    }
}
