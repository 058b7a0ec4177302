//! Where whoever asks wants a job to be built, and who asks for that.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// What is asked of a job's place: all of it together. Empty is nothing, which any node meets.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Demand(BTreeSet<Wish>);

/// One thing that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wish {
    /// Who asks.
    pub origin: Origin,
    /// How it is meant.
    pub want: Want,
    /// Nodes: each an id, a name, or a label that several may have.
    pub nodes: BTreeSet<String>,
}

/// How a [`Wish`] is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// On one of these nodes, or not at all.
    Require,
    /// On none of them.
    Avoid,
    /// On one of them before others that are as free.
    Prefer,
}

/// Who asks for a [`Wish`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A `[[rule]]` of the configuration: its number, and what it is about.
    Rule(String),
    /// `roost build --on`.
    On,
    /// The machines file of one board, by this name.
    Only(String),
}

/// Asks for nothing.
pub static ANYWHERE: Demand = Demand(BTreeSet::new());

impl Demand {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it asks for.
    pub fn wishes(&self) -> impl Iterator<Item = &Wish> {
        self.0.iter()
    }

    /// Asks for this, too.
    pub fn add(&mut self, wish: Wish) {
        self.0.insert(wish);
    }

    /// Asks for everything that either of both does.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }
}

impl From<Wish> for Demand {
    fn from(wish: Wish) -> Self {
        Self([wish].into())
    }
}

impl FromIterator<Wish> for Demand {
    fn from_iter<I: IntoIterator<Item = Wish>>(wishes: I) -> Self {
        Self(wishes.into_iter().collect())
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, wish) in self.0.iter().enumerate() {
            write!(f, "{}{wish}", if i == 0 { "" } else { ", and " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names in a sentence; the others are counted.
        const SHOWN: usize = 8;
        let verb = match self.want {
            Want::Require => "asks for",
            Want::Avoid => "avoids",
            Want::Prefer => "prefers",
        };
        let shown: Vec<_> = self.nodes.iter().take(SHOWN).map(String::as_str).collect();
        let between = if self.want == Want::Avoid { " and " } else { " or " };
        write!(f, "{} {verb} {}", self.origin, shown.join(between))?;
        match self.nodes.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "{between}{more} more"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(title) => f.write_str(title),
            Self::On => f.write_str("--on"),
            Self::Only(board) => write!(f, "only/{board}"),
        }
    }
}
