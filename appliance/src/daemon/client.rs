//! Who is behind a build hook: the user and processes that asked Nix for the build, and the Nix that builds
//! it. For fairness, placement and display, never for access control.

use std::{fs, path::Path};

use crate::{
    graph::Worker,
    model::{Asker, Client},
};

/// roost's parent is Nix's build hook, whose parent is nix-daemon's process for one client.
const GENERATIONS: usize = 6;

/// Who has a build hook come.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    /// For people.
    pub(super) client: Client,
    /// The process that started the hook, and that has the client's temporary roots.
    pub(super) worker: Option<Worker>,
}

/// Who is behind the `roost connect` with this process id.
#[must_use]
pub(super) fn behind(pid: i32) -> Behind {
    Behind { client: of(pid), worker: worker(pid) }
}

/// The parent of the build hook above `pid`, and of ours before it, if there is one: nix-daemon's process for
/// one client, or a Nix without a daemon.
#[must_use]
pub(super) fn worker(pid: i32) -> Option<Worker> {
    let mut here = pid;
    let mut hooked = false;
    for _ in 0..GENERATIONS {
        let process = Process::read(here)?;
        if hooked && !process.is_hook {
            return Worker::of(here);
        }
        hooked = process.is_hook;
        here = process.parent;
    }
    None
}

/// The name of a hook's process.
const HOOK: &str = "roost";

/// The client of the `roost connect` with this process id: nix-daemon names its client's process id
/// in its own first argument; without a daemon the hook's own user is the client.
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

/// The Nix whose build hook has this process id. By its own account it has so many slots, and is `willing`
/// to build by itself.
#[must_use]
pub(super) fn asker(hook: i32, willing: bool, slots: u32) -> Asker {
    let pid = Process::read(hook).map_or(0, |hook| hook.parent);
    // What has no slots has no builds, but perhaps hundreds of hooks.
    let running = if slots == 0 { 0 } else { builds_of(Path::new("/proc"), pid) };
    Asker { pid, willing, slots, running }
}

/// The builds that are children of this process of Nix. They are started by the thread that it began with
/// (proc(5); not every kernel tells).
fn builds_of(proc: &Path, pid: i32) -> u32 {
    let children = fs::read_to_string(proc.join(format!("{pid}/task/{pid}/children")));
    let children = children.unwrap_or_default();
    // Its other children are hooks.
    let is_build = |child: &&str| {
        let name = fs::read_to_string(proc.join(child).join("comm"));
        name.is_ok_and(|name| name.trim_end() != HOOK)
    };
    u32::try_from(children.split_whitespace().filter(is_build).count()).unwrap_or(u32::MAX)
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
    /// Whether it is Nix's build hook, or ours before it.
    is_hook: bool,
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
            is_hook: is_hook(&command),
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

/// `nix __build-remote <verbosity>`, or `roost hook …`.
fn is_hook(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0);
    match (words.next(), words.next()) {
        (Some(_), Some(b"__build-remote")) => true,
        (Some(program), Some(b"hook")) => program.ends_with(HOOK.as_bytes()),
        _ => false,
    }
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
    fn the_build_hook_is_known_by_its_first_argument() {
        assert!(is_hook(b"/usr/bin/nix\x00__build-remote\x003\x00"));
        assert!(is_hook(b"/usr/bin/roost\x00hook\x00nix\x00__build-remote\x003\x00"));
        assert!(!is_hook(b"/usr/bin/git\x00hook\x00"));
        assert!(!is_hook(b"nix\x00build\x00__build-remote\x00"));
        assert!(!is_hook(b"__build-remote\x00"));
        assert!(!is_hook(b""));
    }

    #[test]
    fn builds_are_the_children_of_nix_but_its_hooks() {
        let proc = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = proc.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("7/task/7/children", "11 12 13 14 ");
        for (pid, name) in [(11, "roost"), (12, "sh"), (13, "bash")] {
            write(&format!("{pid}/comm"), &format!("{name}\n"));
        }
        assert_eq!(builds_of(proc.path(), 7), 2, "14 has ended meanwhile");
        assert_eq!(builds_of(proc.path(), 8), 0);
    }

    #[test]
    fn an_asker_is_the_parent_of_its_hook() {
        // This process plays the hook.
        let asker = asker(i32::try_from(std::process::id()).unwrap(), true, 3);
        assert_eq!(asker.pid, i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert!(asker.willing && asker.slots == 3, "{asker:?}");
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
