//! Sightings folded into boards.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use board_support::{Announcement, HostKeyHash, NodeId};

use super::sighting::{Seen, Sighting, Source, rank};

/// What makes two sightings the same board. The host key is part of it, so that whoever announces
/// another board's id without its key is listed beside that board and not in its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoardKey {
    /// The announced id.
    pub id: NodeId,
    /// The announced hash of its host key.
    pub host_key: HostKeyHash,
}

impl BoardKey {
    /// Of a board that announces itself.
    #[must_use]
    pub fn of(announcement: &Announcement) -> Self {
        Self { id: announcement.id.clone(), host_key: announcement.host_key }
    }
}

/// A board, wherever it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name on the LAN, as last heard; any text.
    pub instance: String,
    /// What it says of itself, as last heard.
    pub announcement: Announcement,
    /// Where its sshd listens, best first, at most [`Directory::MAX_ADDRESSES`]: routable
    /// addresses, then link-local ones.
    pub addresses: Vec<SocketAddr>,
}

/// What a sighting changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A board was seen for the first time.
    Appeared(BoardKey),
    /// A board says other things of itself, or has other addresses.
    Updated(BoardKey),
    /// A board was seen nowhere any more.
    Gone(BoardKey),
}

/// The boards of the LAN, from sightings alone: no I/O, no clock, bounded memory.
#[derive(Debug, Default)]
pub struct Directory {
    boards: BTreeMap<BoardKey, Entry>,
    keys: HashMap<Source, BoardKey>,
    full: bool,
}

#[derive(Debug)]
struct Entry {
    board: Board,
    /// Addresses of each source, in the order in which the sources were found.
    sources: Vec<(Source, Vec<SocketAddr>)>,
}

impl Directory {
    /// Most boards. While there are as many, new ones are ignored.
    pub const MAX_BOARDS: usize = 1024;
    /// Most addresses of a board. The best are kept.
    pub const MAX_ADDRESSES: usize = 16;
    /// Most sources of a board. While there are as many, a new one takes the place of the oldest: who
    /// copies what a board announces cannot keep it out.
    pub const MAX_SOURCES: usize = 32;

    /// A directory without boards.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a sighting, and tells what it changed: nothing, one board, or two if the
    /// source has turned from one into another.
    pub fn apply(&mut self, sighting: Sighting) -> Vec<Change> {
        match sighting {
            Sighting::Seen(seen) => self.seen(*seen),
            Sighting::Gone(source) => self.gone(&source).into_iter().collect(),
        }
    }

    /// The boards, by id.
    pub fn boards(&self) -> impl Iterator<Item = (&BoardKey, &Board)> {
        self.boards.iter().map(|(key, entry)| (key, &entry.board))
    }

    /// One board.
    #[must_use]
    pub fn get(&self, key: &BoardKey) -> Option<&Board> {
        self.boards.get(key).map(|entry| &entry.board)
    }

    fn seen(&mut self, seen: Seen) -> Vec<Change> {
        let Seen { source, announcement, addresses, port: _ } = seen;
        let key = BoardKey::of(&announcement);
        let mut changes = Vec::new();
        if self.keys.get(&source).is_some_and(|before| *before != key) {
            changes.extend(self.gone(&source));
        }
        if !self.boards.contains_key(&key) && !self.has_room(&key) {
            return changes;
        }
        let instance = source.instance.clone();
        let board = Board { instance, announcement, addresses: Vec::new() };
        let appeared = !self.boards.contains_key(&key);
        let entry = self
            .boards
            .entry(key.clone())
            .or_insert_with(|| Entry { board: board.clone(), sources: Vec::new() });
        match entry.sources.iter().position(|(known, _)| *known == source) {
            Some(at) => entry.sources[at].1 = addresses,
            None => {
                if entry.sources.len() >= Self::MAX_SOURCES {
                    let (oldest, _) = entry.sources.remove(0);
                    self.keys.remove(&oldest);
                }
                entry.sources.push((source.clone(), addresses));
                self.keys.insert(source, key.clone());
            }
        }
        let board = Board { addresses: merged(&entry.sources), ..board };
        if appeared {
            changes.push(Change::Appeared(key));
        } else if entry.board != board {
            changes.push(Change::Updated(key));
        }
        entry.board = board;
        changes
    }

    /// Whether there is room for one more board; says once when there is none.
    fn has_room(&mut self, newcomer: &BoardKey) -> bool {
        let full = self.boards.len() >= Self::MAX_BOARDS;
        if full && !self.full {
            tracing::warn!(
                boards = self.boards.len(),
                ignored = %newcomer.id,
                "too many boards announce themselves; new ones are ignored until some are gone"
            );
        }
        self.full = full;
        !full
    }

    fn gone(&mut self, source: &Source) -> Option<Change> {
        let key = self.keys.remove(source)?;
        let entry = self.boards.get_mut(&key)?;
        entry.sources.retain(|(known, _)| known != source);
        if entry.sources.is_empty() {
            self.boards.remove(&key);
            return Some(Change::Gone(key));
        }
        let addresses = merged(&entry.sources);
        let changed = entry.board.addresses != addresses;
        entry.board.addresses = addresses;
        changed.then_some(Change::Updated(key))
    }
}

/// The usable addresses of all sources, each once, best first.
fn merged(sources: &[(Source, Vec<SocketAddr>)]) -> Vec<SocketAddr> {
    let all = sources.iter().flat_map(|(_, addresses)| addresses);
    let mut ranked: Vec<_> = all.filter_map(|address| Some((rank(address)?, *address))).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.truncate(Directory::MAX_ADDRESSES);
    ranked.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests;
