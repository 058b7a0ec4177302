//! The commands that programs start, told apart before anything else is set up.
//!
//! Two of them run for every build that waits, so they must cost next to nothing: no argument
//! parser, no runtime, no logging.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::ExitCode,
};

use crate::{
    names, trust,
    wire::{handover, hook},
};

/// A command of which many run at once, and nothing else of the program should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Early {
    /// sshd's forced command on a board.
    Serve,
    /// Started by Nix on a workstation, as the remote program of a line of the machines file.
    Connect {
        /// Which line: the name of the link in [`names::CONNECT_DIR`].
        selector: String,
    },
    /// Started by Nix on a workstation, as its build hook.
    Hook {
        /// The stock hook's command, if it is not the one of the Nix that runs, and the verbosity.
        words: Vec<OsString>,
    },
}

impl Early {
    /// What the arguments ask for, if it is one of these.
    ///
    /// A program called by a link in [`names::CONNECT_DIR`] connects, whatever else it is told: Nix
    /// adds `--stdio`, and arguments of its own where a user configured some.
    #[must_use]
    pub fn of<S: AsRef<OsStr>>(args: &[S]) -> Option<Self> {
        let words: Vec<&OsStr> = args.iter().take(4).map(AsRef::as_ref).collect();
        let program = Path::new(words.first()?);
        if program.parent() == Some(Path::new(names::CONNECT_DIR)) {
            return Some(Self::Connect { selector: text(program.file_name()?)? });
        }
        match words[1..] {
            [command, ..] if command == "hook" => {
                let words = args[2..].iter().map(|word| word.as_ref().to_owned()).collect();
                Some(Self::Hook { words })
            }
            [command] if command == "serve" => Some(Self::Serve),
            [command, option, selector] if command == "connect" && option == "--selector" => {
                Some(Self::Connect { selector: text(selector)? })
            }
            _ => None,
        }
    }

    /// Hands the standard streams to the daemon and waits, or stands before the stock build hook; gives
    /// the exit code that it is told, or 1 with the reason on standard error.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let socket = Path::new(names::SOCKET);
        let done = match self {
            Self::Connect { selector } => {
                handover::connect(socket, selector).map_err(|error| error.to_string())
            }
            Self::Hook { words } => hook::run(socket, words).map_err(|error| error.to_string()),
            Self::Serve => {
                // Both are set by sshd (ssh(1), ENVIRONMENT); the connection starts with the
                // client's address.
                let variable = |name| env::var_os(name).map(|v| v.to_string_lossy().into_owned());
                let connection = variable("SSH_CONNECTION").unwrap_or_default();
                let peer = connection.split(' ').next().unwrap_or_default();
                let command = variable("SSH_ORIGINAL_COMMAND");
                handover::serve(socket, command.as_deref(), peer, login_key())
                    .map_err(|error| error.to_string())
            }
        };
        done.map_or_else(
            |error| {
                let text = format!("roost: {error}");
                match self {
                    Self::Connect { .. } | Self::Hook { .. } => handover::tell_hook(&text),
                    Self::Serve => eprintln!("{text}"),
                }
                ExitCode::FAILURE
            },
            ExitCode::from,
        )
    }
}

/// The fingerprint of the key that the client has logged in with: sshd writes it to a file for this
/// session (sshd_config(5), ExposeAuthInfo).
fn login_key() -> Option<String> {
    let path = env::var_os("SSH_USER_AUTH")?;
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(trust::login_key)
}

/// As text; what is not UTF-8 is left to the argument parser to refuse.
fn text(word: &OsStr) -> Option<String> {
    std::str::from_utf8(word.as_bytes()).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Early> {
        Early::of(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn connect(selector: &str) -> Option<Early> {
        Some(Early::Connect { selector: selector.to_owned() })
    }

    #[test]
    fn a_link_among_the_selectors_connects_whatever_it_is_told() {
        assert_eq!(of("/run/roost/connect/aarch64-kvm --stdio"), connect("aarch64-kvm"));
        assert_eq!(of("/run/roost/connect/riscv64"), connect("riscv64"));
        assert_eq!(of("/run/roost/connect/riscv64 serve"), connect("riscv64"));
        assert_eq!(of("/run/roost/connect/riscv64 --stdio --store /x y z"), connect("riscv64"));
    }

    #[test]
    fn plumbing_is_known_by_its_exact_form() {
        assert_eq!(of("roost serve"), Some(Early::Serve));
        assert_eq!(of("/usr/bin/roost connect --selector riscv64"), connect("riscv64"));
        let hook = |line: &str| {
            let words = line.split_whitespace().map(OsString::from).collect();
            Some(Early::Hook { words })
        };
        assert_eq!(of("roost hook 3"), hook("3"));
        assert_eq!(
            of("roost hook /opt/nix __build-remote -v 3"),
            hook("/opt/nix __build-remote -v 3")
        );
    }

    #[test]
    fn everything_else_is_for_people() {
        for line in [
            "roost",
            "",
            "roost status",
            "roost serve --help",
            "roost connect",
            "roost connect --selector",
            "roost connect --selector=a",
            "/run/roost/connect --stdio",
            "connect/riscv64 --stdio",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
