//! Whether the local Nix should build something by itself.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{Client, Demand};

/// The local Nix has something to build, and asks where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The derivation, as an absolute path.
    pub drv_path: String,
    /// Its system.
    pub system: String,
    /// The features that it requires.
    pub features: BTreeSet<String>,
    /// What whoever asked Nix for it asks of its place.
    pub demand: Demand,
    /// Who asked Nix for it.
    pub client: Client,
    /// How the Nix that asks stands.
    pub asker: Asker,
}

/// A process of the local Nix that asks, as it was then. Each client has one of its own, and each counts
/// its own builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Its process id; 0 if unknown.
    pub pid: i32,
    /// Whether it has a slot free, by its own count.
    pub willing: bool,
    /// Builds that it runs at once by itself (`max-jobs`); 0 if it cannot build what it asks for.
    pub slots: u32,
    /// Builds that run as its children.
    pub running: u32,
}

/// What the local Nix should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Build it by itself; without a slot free, ask again when any of its builds has ended.
    Local,
    /// Whatever it would do without roost, which is to give it to its builders.
    Elsewhere,
}

/// What the build hook of the local Nix is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookReply {
    /// Nix should build it by itself.
    Local,
    /// The stock hook should be asked.
    Elsewhere,
    /// There is a job for it. The stock hook will take it, and need not be asked before the job has been
    /// given to a node.
    Taken {
        /// What Nix is to call the machine: the address in the line of the machines file.
        builder: String,
    },
}

const LOCAL: &str = "local";
const ELSEWHERE: &str = "elsewhere";
/// Before a builder's name.
const TAKEN: &str = "taken ";

impl HookReply {
    /// What follows [`HookReply::Taken`] when the job has been given to a node.
    pub const CALL: &str = "now";
}

/// As it goes over the door's socket.
impl fmt::Display for HookReply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => out.write_str(LOCAL),
            Self::Elsewhere => out.write_str(ELSEWHERE),
            Self::Taken { builder } => write!(out, "{TAKEN}{builder}"),
        }
    }
}

impl FromStr for HookReply {
    type Err = ();

    fn from_str(words: &str) -> Result<Self, ()> {
        match words {
            LOCAL => Ok(Self::Local),
            ELSEWHERE => Ok(Self::Elsewhere),
            _ => {
                let builder = words.strip_prefix(TAKEN).ok_or(())?.to_owned();
                Ok(Self::Taken { builder })
            }
        }
    }
}
