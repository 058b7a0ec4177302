//! Which services are looked at when there are more than can be: no I/O, no clock of its own.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{directory::BoardKey, sighting::Source};

/// Services that wait for a place; more are ignored.
const MAX_WAITING: usize = 8192;
/// Places that one board keeps: one for each of its interfaces and protocols. Who copies what a board
/// announces gets no more of them than that.
const MAX_PLACES: usize = 8;
/// A service that was not resolved for so long makes room for others.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a service that has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is being resolved.
    New,
    /// It is nobody's that matters.
    Stranger,
    /// It is a board's that matters.
    Kept,
}

#[derive(Debug)]
struct Place {
    ticket: u64,
    since: Instant,
    standing: Standing,
    board: Option<BoardKey>,
}

/// The places, and who waits for one.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    held: HashMap<Source, Place>,
    waiting: VecDeque<Source>,
}

impl Places {
    /// So many of them.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Gives a new service a place, or has it wait; false if it can do neither.
    pub(super) fn ask(&mut self, source: Source) -> bool {
        if self.held.contains_key(&source) || self.waiting.contains(&source) {
            return true;
        }
        let room = self.waiting.len() < MAX_WAITING;
        if room {
            self.waiting.push_back(source);
        }
        room
    }

    /// The next service that gets a place, and the one that has to make room for it.
    pub(super) fn next(&mut self, ticket: u64, now: Instant) -> Option<(Source, Option<Source>)> {
        self.waiting.front()?;
        let leaves = match self.held.len() < self.most {
            true => None,
            false => Some(self.first_to_leave(now)?),
        };
        if let Some(source) = &leaves {
            self.held.remove(source);
        }
        let source = self.waiting.pop_front()?;
        let place = Place { ticket, since: now, standing: Standing::New, board: None };
        self.held.insert(source.clone(), place);
        Some((source, leaves))
    }

    /// Strangers first, the oldest of them; then those that nobody could resolve.
    fn first_to_leave(&self, now: Instant) -> Option<Source> {
        let may_leave = |place: &Place| match place.standing {
            Standing::Stranger => true,
            Standing::New => now.duration_since(place.since) >= PATIENCE,
            Standing::Kept => false,
        };
        let leavers = self.held.iter().filter(|(_, place)| may_leave(place));
        let first =
            leavers.min_by_key(|(_, place)| (place.standing == Standing::New, place.ticket));
        first.map(|(source, _)| source.clone())
    }

    /// When one that waits gets a place at the latest, if nothing else happens.
    pub(super) fn next_room(&self) -> Option<Instant> {
        self.waiting.front()?;
        let new = self.held.values().filter(|place| place.standing == Standing::New);
        new.map(|place| place.since + PATIENCE).min()
    }

    /// Notes what a service turned out to be: the board that matters, if it is one's.
    pub(super) fn note(&mut self, source: &Source, board: Option<BoardKey>) {
        let others = self.held.iter().filter(|(other, place)| {
            *other != source && place.standing == Standing::Kept && place.board == board
        });
        let kept = board.is_some() && others.count() < MAX_PLACES;
        if let Some(place) = self.held.get_mut(source) {
            place.standing = if kept { Standing::Kept } else { Standing::Stranger };
            place.board = board;
        }
    }

    /// Forgets a service.
    pub(super) fn leave(&mut self, source: &Source) {
        self.held.remove(source);
        self.waiting.retain(|waiting| waiting != source);
    }
}

#[cfg(test)]
mod tests {
    use board_support::{HostKeyHash, NodeId};

    use super::*;
    use crate::discover::sighting::Protocol;

    fn source(name: &str) -> Source {
        Source {
            instance: name.to_owned(),
            domain: "local".to_owned(),
            interface: 2,
            protocol: Protocol::Ipv4,
        }
    }

    fn board(id: &str) -> Option<BoardKey> {
        Some(BoardKey { id: NodeId::new(id).unwrap(), host_key: HostKeyHash([1; 32]) })
    }

    fn admit(places: &mut Places, name: &str, now: Instant) -> Option<Option<Source>> {
        assert!(places.ask(source(name)));
        let (given, leaves) = places.next(0, now)?;
        assert_eq!(given, source(name));
        Some(leaves)
    }

    #[test]
    fn while_there_is_room_everybody_gets_a_place_at_once() {
        let (mut places, now) = (Places::new(2), Instant::now());
        assert_eq!(admit(&mut places, "a", now), Some(None));
        assert_eq!(admit(&mut places, "b", now), Some(None));
        assert_eq!(places.next_room(), None);
    }

    #[test]
    fn a_stranger_makes_room_and_a_board_that_matters_does_not() {
        let (mut places, now) = (Places::new(2), Instant::now());
        admit(&mut places, "stranger", now);
        admit(&mut places, "member", now);
        places.note(&source("stranger"), None);
        places.note(&source("member"), board("m"));
        assert_eq!(admit(&mut places, "new", now), Some(Some(source("stranger"))));
        places.note(&source("new"), board("n"));
        assert_eq!(admit(&mut places, "late", now), None);
        places.leave(&source("member"));
        assert_eq!(places.next(0, now), Some((source("late"), None)));
    }

    #[test]
    fn one_that_nobody_can_resolve_makes_room_after_a_while() {
        let (mut places, now) = (Places::new(1), Instant::now());
        admit(&mut places, "silent", now);
        assert_eq!(admit(&mut places, "new", now), None);
        let later = places.next_room().unwrap();
        assert_eq!(later, now + PATIENCE);
        assert_eq!(places.next(0, later), Some((source("new"), Some(source("silent")))));
    }

    #[test]
    fn copies_of_what_a_board_announces_get_no_more_than_its_places() {
        let (mut places, now) = (Places::new(100), Instant::now());
        for n in 0..100 {
            let name = format!("copy {n}");
            admit(&mut places, &name, now);
            places.note(&source(&name), board("m"));
        }
        for n in 0..100 - MAX_PLACES {
            assert!(admit(&mut places, &format!("new {n}"), now).is_some(), "{n}");
            places.note(&source(&format!("new {n}")), board(&format!("n{n}")));
        }
        assert_eq!(admit(&mut places, "more", now), None);
    }

    #[test]
    fn who_waits_is_bounded() {
        let mut places = Places::new(0);
        let asked = (0..MAX_WAITING + 1).filter(|n| places.ask(source(&n.to_string()))).count();
        assert_eq!(asked, MAX_WAITING);
    }
}
