//! The commands that `roost serve` stands for, which are all that sshd's forced command lets in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a client that came through sshd wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Command {
    /// The worker protocol, as `ssh-ng://` speaks it: `nix-daemon --stdio`.
    Worker,
    /// The serve protocol, as `ssh://` speaks it: `nix-store --serve`.
    Serve {
        /// Whether requests that change the store are allowed: `--write`.
        write: bool,
    },
    /// The worker protocol from another node, for many jobs one after another.
    PeerWorker,
    /// What nodes tell each other besides builds.
    PeerControl,
    /// What they tell each other of trust.
    PeerTrust,
}

/// A command that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not run for you; this account accepts `nix-daemon --stdio` (ssh-ng://), \
     `nix-store --serve [--write]` (ssh://) and other roost nodes, and nothing else"
)]
pub struct NotAccepted(String);

impl FromStr for Command {
    type Err = NotAccepted;

    /// Reads the command line that sshd puts into `SSH_ORIGINAL_COMMAND`. Programs may be named by
    /// an absolute path, and words may be quoted as for a shell; no word is ever given to one.
    fn from_str(line: &str) -> Result<Self, NotAccepted> {
        let refused = || NotAccepted(shortened(line));
        let words = split_words(line).ok_or_else(refused)?;
        let mut words = words.iter().map(String::as_str);
        let program = words.next().map(base_name).ok_or_else(refused)?;
        let arguments: Vec<&str> = words.collect();
        match (program, arguments.as_slice()) {
            ("nix-daemon", ["--stdio"]) | ("nix", ["daemon", "--stdio"]) => Ok(Self::Worker),
            ("nix-store", ["--serve"]) => Ok(Self::Serve { write: false }),
            ("nix-store", ["--serve", "--write"] | ["--write", "--serve"]) => {
                Ok(Self::Serve { write: true })
            }
            ("roost", ["peer", "worker"]) => Ok(Self::PeerWorker),
            ("roost", ["peer", "control"]) => Ok(Self::PeerControl),
            ("roost", ["peer", "trust"]) => Ok(Self::PeerTrust),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "nix-daemon --stdio",
            Self::Serve { write: false } => "nix-store --serve",
            Self::Serve { write: true } => "nix-store --serve --write",
            Self::PeerWorker => "roost peer worker",
            Self::PeerControl => "roost peer control",
            Self::PeerTrust => "roost peer trust",
        })
    }
}

impl TryFrom<String> for Command {
    type Error = NotAccepted;

    fn try_from(line: String) -> Result<Self, NotAccepted> {
        line.parse()
    }
}

impl From<Command> for String {
    fn from(command: Command) -> Self {
        command.to_string()
    }
}

/// The last component of an absolute path, or the word itself.
fn base_name(program: &str) -> &str {
    match program.rsplit_once('/') {
        Some((_, name)) if program.starts_with('/') => name,
        _ => program,
    }
}

/// At most 200 characters, for a message.
fn shortened(line: &str) -> String {
    line.chars().take(200).collect()
}

/// Splits at blanks as a POSIX shell would, with its three ways of quoting. `None` if a quote is
/// not closed.
fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => word.push(chars.next()?),
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stock_clients_send_is_accepted() {
        let accepted = [
            ("nix-daemon --stdio", Command::Worker),
            ("'nix-daemon' '--stdio'", Command::Worker),
            ("/nix/var/nix/profiles/default/bin/nix-daemon --stdio", Command::Worker),
            ("nix daemon --stdio", Command::Worker),
            ("nix-store --serve", Command::Serve { write: false }),
            ("nix-store --serve --write", Command::Serve { write: true }),
            ("\"nix-store\" --serve '--write'", Command::Serve { write: true }),
            ("roost peer worker", Command::PeerWorker),
            ("roost peer control", Command::PeerControl),
            ("roost peer trust", Command::PeerTrust),
        ];
        for (line, command) in accepted {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
    }

    #[test]
    fn everything_else_is_refused_and_told_what_is_accepted() {
        let refused = [
            "",
            " ",
            "sh",
            "nix-daemon",
            "nix-daemon --stdio --store /other",
            "nix-daemon --stdio; sh",
            "nix-daemon --stdio && sh",
            "nix-daemon --stdio\nsh",
            "../nix-daemon --stdio",
            "nix-store --serve --write --store x",
            "nix-store --serve 'open",
            "nix-store --delete /nix/store/x",
            "roost peer",
            "roost peer worker --more",
            "roost daemon",
        ];
        for line in refused {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains("nix-daemon --stdio"), "{error}");
        }
    }

    #[test]
    fn a_command_reads_back_what_it_shows() {
        for command in [
            Command::Worker,
            Command::Serve { write: false },
            Command::Serve { write: true },
            Command::PeerWorker,
            Command::PeerControl,
            Command::PeerTrust,
        ] {
            assert_eq!(command.to_string().parse(), Ok(command));
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in "\\PC{0,80}") {
            let _ = line.parse::<Command>();
        }
    }
}
