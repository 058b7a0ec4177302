//! What earlier builds tell of those to come. Pure: no I/O, no clock.
//!
//! A node keeps a [`Table`] of what it has built itself: a [`Record`] for each package. Nodes that use it
//! are sent what is new in it. From the tables of several nodes [`Estimates`] follow: how fast each node is,
//! how much work a package is, and how long a node takes for it.

mod estimates;
mod guess;
mod packages;
mod record;
mod stocks;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use estimates::{Estimates, Source, Work};
pub use record::{Ending, Outcome, Record};
pub use stocks::{Closure, Stocks};
pub use table::{Changes, Entry, Table};

use crate::model::How;

/// A build that is known to take so long is long: it is worth waiting for a better node.
pub const LONG: Duration = Duration::from_secs(600);

/// Longest name of a derivation, in bytes: a store path's is not longer.
const MAX_NAME: usize = 211;
/// Longest name of a system, in bytes; Nix's own are below 20.
const MAX_SYSTEM: usize = 64;

/// What builds have in common that take about as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package<'a> {
    /// The derivation's name without its version.
    pub name: &'a str,
    /// Nix's word for what it runs on.
    pub system: &'a str,
    /// How it is run.
    pub how: How,
}

impl<'a> Package<'a> {
    /// The package of a derivation, given its name without `.drv`.
    #[must_use]
    pub fn of(derivation: &'a str, system: &'a str, how: How) -> Self {
        Self { name: unversioned(derivation), system, how }
    }

    /// Whether its words are of the kind that Nix has: others are not kept.
    fn is_valid(&self) -> bool {
        let word = |text: &str, max: usize, more: &[u8]| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            (1..=max).contains(&text.len()) && text.bytes().all(known)
        };
        word(self.name, MAX_NAME, b"+-._?=") && word(self.system, MAX_SYSTEM, b"-_.")
    }
}

/// A [`Package`] with words of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageKey(Box<str>, Box<str>, How);

impl PackageKey {
    /// The package.
    #[must_use]
    pub fn package(&self) -> Package<'_> {
        Package { name: &self.0, system: &self.1, how: self.2 }
    }
}

impl From<Package<'_>> for PackageKey {
    fn from(package: Package<'_>) -> Self {
        Self(package.name.into(), package.system.into(), package.how)
    }
}

/// A derivation's name without its version, which begins after the first dash that no letter
/// follows, as Nix divides names (`builtins.parseDrvName`).
fn unversioned(name: &str) -> &str {
    let version = name
        .match_indices('-')
        .find(|(at, _)| name[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic()));
    version.map_or(name, |(at, _)| &name[..at])
}
