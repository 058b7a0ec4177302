//! Things that many derivations have in common, kept once and named by a small number.

use std::{collections::HashMap, hash::Hash, sync::Arc};

/// A table of at most `max` different things. What is in it stays until the table is dropped.
#[derive(Debug)]
pub(super) struct Interner<T> {
    numbers: HashMap<Arc<T>, u16>,
    things: Vec<Arc<T>>,
    max: u16,
}

impl<T: Hash + Eq> Interner<T> {
    pub(super) fn new(max: u16) -> Self {
        Self { numbers: HashMap::new(), things: Vec::new(), max }
    }

    /// The number of a thing; none if it is new and the table is full.
    pub(super) fn number(&mut self, thing: T) -> Option<u16> {
        if let Some(number) = self.numbers.get(&thing) {
            return Some(*number);
        }
        let number = u16::try_from(self.things.len()).ok().filter(|number| *number < self.max)?;
        let thing = Arc::new(thing);
        self.things.push(thing.clone());
        self.numbers.insert(thing, number);
        Some(number)
    }

    /// The thing with a number that [`Interner::number`] gave.
    pub(super) fn get(&self, number: u16) -> &T {
        &self.things[usize::from(number)]
    }
}
