//! Whether the local Nix should build something by itself.

use std::{collections::BTreeSet, str::FromStr};

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
    /// Builds that it runs at once by itself (`max-jobs`).
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

impl Advice {
    /// As it goes over the door's socket.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl FromStr for Advice {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Local, Self::Elsewhere].into_iter().find(|it| it.word() == word).ok_or(())
    }
}
