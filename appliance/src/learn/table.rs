//! What one node has built.

use serde::{Deserialize, Serialize};

use super::{
    Package, PackageKey,
    packages::Packages,
    record::{Logs, Outcome, Record},
};

/// Packages kept of one node, at most.
const MAX_PACKAGES: usize = 2000;

/// The record of a package, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The package.
    #[serde(rename = "p")]
    pub key: PackageKey,
    /// Its record.
    #[serde(rename = "r")]
    pub record: Record,
}

impl Entry {
    /// Whether it is of a package that Nix could have.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.key.package().is_valid()
    }
}

/// What a build has changed in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The record that is new or another now.
    pub changed: Option<Entry>,
    /// Packages that there was no more room for.
    pub gone: Vec<PackageKey>,
}

/// The records of one node: of 2000 packages at most, those that were built last.
///
/// Each change has a number, the revision, which only grows. It is the time in seconds, or more if
/// there was more than one change in a second: so a node that has lost its last changes in a power cut
/// does not give their numbers to others.
#[derive(Clone, Debug, Default)]
pub struct Table {
    records: Packages<Known>,
    revision: u64,
}

/// A record, and what is reckoned with of it: that is asked for more often than it changes.
#[derive(Clone, Debug, Default)]
struct Known {
    record: Record,
    logs: Option<Logs>,
}

impl Table {
    /// The number of the last change; 0 if there has been none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many packages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a package.
    #[must_use]
    pub fn get(&self, package: &Package<'_>) -> Option<&Record> {
        self.records.get(package).map(|known| &known.record)
    }

    /// Takes in a build that has ended.
    pub fn learn(&mut self, outcome: &Outcome<'_>) -> Changes {
        let Outcome { package, ending, at_s } = outcome;
        if !package.is_valid() {
            return Changes::default();
        }
        self.revision = self.revision.saturating_add(1).max(*at_s);
        let known = self.records.get_or_insert(package, Known::default);
        known.record.add(*ending, *at_s, self.revision);
        known.logs = known.record.logs();
        let changed = Some(Entry { key: (*package).into(), record: known.record.clone() });
        Changes { changed, gone: self.trim() }
    }

    /// What has changed since a revision, in the order of the changes: whoever was sent the first of them
    /// asks for the rest with the revision of the last one that he has.
    #[must_use]
    pub fn since(&self, revision: u64) -> Vec<Entry> {
        let new = self.records.iter().filter(|(_, known)| known.record.revision() > revision);
        let mut new: Vec<_> = new
            .map(|(package, known)| Entry { key: package.into(), record: known.record.clone() })
            .collect();
        new.sort_unstable_by_key(|entry| entry.record.revision());
        new
    }

    /// Takes in records of the same node, instead of older ones; returns the packages that there was no
    /// room for. What no Nix could have sent is left out.
    pub fn merge(&mut self, entries: impl IntoIterator<Item = Entry>) -> Vec<PackageKey> {
        for entry in entries.into_iter().filter(Entry::is_valid) {
            self.revision = self.revision.max(entry.record.revision());
            let known = self.records.get_or_insert(&entry.key.package(), Known::default);
            *known = Known { logs: entry.record.logs(), record: entry.record };
        }
        self.trim()
    }

    /// Each package that was built, with its times.
    pub(super) fn times(&self) -> impl Iterator<Item = (Package<'_>, Logs)> {
        self.records.iter().filter_map(|(package, known)| Some((package, known.logs?)))
    }

    /// Lets go of what was built least recently, if there is too much.
    fn trim(&mut self) -> Vec<PackageKey> {
        let mut excess = self.len().saturating_sub(MAX_PACKAGES);
        if excess == 0 {
            return Vec::new();
        }
        let mut revisions: Vec<_> =
            self.records.iter().map(|(_, known)| known.record.revision()).collect();
        let (_, &mut last, _) = revisions.select_nth_unstable(excess - 1);
        self.records.retain(|known| {
            // Of those with the same number, which a node never has, no more than there are too many.
            let kept = excess == 0 || known.record.revision() > last;
            excess -= usize::from(!kept);
            kept
        })
    }
}
