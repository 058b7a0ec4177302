//! What is still to be told of what is seen: the latest, once.

use std::collections::{HashMap, HashSet, VecDeque};

use super::sighting::{Seen, Sighting, Source};

/// What is seen now, and what of it the receiver has been told. A slow receiver makes nothing
/// grow: of one source, only the latest is kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sources: HashMap<Source, Entry>,
    /// Sources that the receiver knows an older state of, each once.
    untold: VecDeque<Source>,
}

#[derive(Debug)]
struct Entry {
    now: Option<Box<Seen>>,
    told: Option<Box<Seen>>,
    /// Whether it stands in the queue.
    queued: bool,
}

impl Outbox {
    /// Takes note of what is seen at a source now: a board, or none.
    pub(super) fn set(&mut self, source: &Source, now: Option<Box<Seen>>) {
        if now.is_none() && !self.sources.contains_key(source) {
            return;
        }
        let entry = self.sources.entry(source.clone()).or_insert(Entry {
            now: None,
            told: None,
            queued: false,
        });
        entry.now = now;
        if !entry.queued && entry.now != entry.told {
            entry.queued = true;
            self.untold.push_back(source.clone());
        }
    }

    /// Takes note that only these sources are there.
    pub(super) fn keep(&mut self, present: &HashSet<Source>) {
        let gone: Vec<_> =
            self.sources.keys().filter(|at| !present.contains(*at)).cloned().collect();
        for source in gone {
            self.set(&source, None);
        }
    }

    /// Whether there may be something to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.untold.is_empty()
    }

    /// The next thing to tell.
    pub(super) fn next(&mut self) -> Option<Sighting> {
        while let Some(source) = self.untold.pop_front() {
            let Some(entry) = self.sources.get_mut(&source) else { continue };
            entry.queued = false;
            if entry.now == entry.told {
                if entry.now.is_none() {
                    self.sources.remove(&source);
                }
                continue;
            }
            entry.told.clone_from(&entry.now);
            return Some(match entry.now.clone() {
                Some(seen) => Sighting::Seen(seen),
                None => {
                    self.sources.remove(&source);
                    Sighting::Gone(source)
                }
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use board_support::{Announcement, HostKeyHash, List};

    use super::*;
    use crate::discover::sighting::Protocol;

    fn source(name: &str) -> Source {
        let instance = name.to_owned();
        Source { instance, domain: "local".into(), interface: 2, protocol: Protocol::Ipv4 }
    }

    fn seen(name: &str, slots: u16) -> Option<Box<Seen>> {
        let announcement = Announcement {
            id: "a".parse().unwrap(),
            systems: List::of(["riscv64-linux"]),
            emulated: List::new(),
            features: List::new(),
            slots,
            cores: 4,
            memory_gib: 8,
            board: None,
            host_key: HostKeyHash([0; 32]),
            fleet: None,
            proof: None,
            more: false,
        };
        let addresses = vec!["10.0.0.1:22".parse().unwrap()];
        Some(Box::new(Seen { source: source(name), announcement, addresses, port: 22 }))
    }

    fn slots(sighting: Option<Sighting>) -> Option<u16> {
        match sighting {
            Some(Sighting::Seen(seen)) => Some(seen.announcement.slots),
            Some(Sighting::Gone(_)) | None => None,
        }
    }

    #[test]
    fn tells_the_latest_and_only_once() {
        let mut outbox = Outbox::default();
        for number in 1..100 {
            outbox.set(&source("a"), seen("a", number));
        }
        assert_eq!(slots(outbox.next()), Some(99));
        assert_eq!(outbox.next(), None);
        outbox.set(&source("a"), seen("a", 99));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_came_and_went_untold_is_not_told_and_not_kept() {
        let mut outbox = Outbox::default();
        outbox.set(&source("a"), seen("a", 1));
        outbox.set(&source("a"), None);
        assert_eq!(outbox.next(), None);
        assert!(outbox.sources.is_empty());
    }

    #[test]
    fn what_was_told_is_taken_back() {
        let mut outbox = Outbox::default();
        outbox.set(&source("a"), seen("a", 1));
        outbox.set(&source("b"), seen("b", 1));
        assert!(outbox.next().is_some() && outbox.next().is_some());
        outbox.keep(&HashSet::from([source("b")]));
        assert_eq!(outbox.next(), Some(Sighting::Gone(source("a"))));
        assert_eq!(outbox.next(), None);
        assert_eq!(outbox.sources.len(), 1);
    }
}
