//! What is still to be done, and how long the way is that each derivation is the beginning of.

use super::{
    Graph, Key,
    store::{Body, Node, Told},
};
use crate::model::Ahead;

/// The way ahead of each derivation that is not built, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remaining(Vec<(Key, Ahead)>);

impl Remaining {
    /// The way ahead of a derivation; none if it is built, or not known.
    #[must_use]
    pub fn of(&self, key: Key) -> Option<Ahead> {
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.0[at].1)
    }

    /// How many derivations are not built.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether everything is built.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is known of a derivation once all that depends on it has been looked at.
#[derive(Clone, Copy, Default)]
struct Above {
    /// The longest way of the unbuilt derivations that need it.
    ahead: Option<Ahead>,
    /// Whether one of them needs an output that is not in the store.
    lacks: bool,
    /// Dependents that have not been looked at.
    left: u32,
    looked_at: bool,
}

impl Graph {
    /// The way ahead of each derivation that is not built: itself and what depends on it in turn, up to
    /// something that nobody needs for anything else. Of several ways it is the one with the greatest
    /// sum of weights. A weight that is no number, or less than 0, counts as 0.
    ///
    /// A derivation is built if those outputs are in the store that unbuilt dependents name: others of
    /// it were not asked for. Of what nobody depends on all outputs are wanted. Where all dependents are
    /// built, whatever there is was enough.
    #[must_use]
    pub fn remaining(&self, weigh: impl Fn(&Node<'_>) -> f32) -> Remaining {
        let ways = self.survey(weigh);
        let unbuilt = self.slots.iter().zip(ways).filter_map(|(slot, way)| Some((slot.key, way?)));
        let mut unbuilt: Vec<_> = unbuilt.collect();
        unbuilt.sort_unstable_by_key(|(key, _)| *key);
        Remaining(unbuilt)
    }

    /// The way ahead of each slot; none of what is built or not known.
    fn survey(&self, weigh: impl Fn(&Node<'_>) -> f32) -> Vec<Option<Ahead>> {
        let left = |left| Above { left, ..Above::default() };
        let mut above: Vec<Above> = self.slots.iter().map(|slot| left(slot.referrers)).collect();
        let mut ways = vec![None; self.slots.len()];
        // What has dependents is come to from them.
        let starts = above.iter().enumerate().filter(|(_, above)| above.left == 0);
        let mut next: Vec<usize> = starts.map(|(node, _)| node).collect();
        let mut rest = 0..self.slots.len();
        loop {
            let node = match next.pop() {
                Some(node) => node,
                // What is left is in a circle, or needed by one. There is none in a store, but what is
                // read may be anything: it is broken somewhere.
                None => match rest.find(|node| !above[*node].looked_at) {
                    Some(node) => node,
                    None => return ways,
                },
            };
            if std::mem::replace(&mut above[node].looked_at, true) {
                continue;
            }
            let Some(body) = &self.slots[node].body else { continue };
            if !self.is_built(node, body, above[node]) {
                ways[node] = Some(longer(above[node].ahead, weigh(&self.node(body))));
            }
            for input in &body.inputs {
                let lacks = ways[node].is_some() && !self.is_there(*input);
                let below = &mut above[input.node()];
                below.lacks |= lacks;
                below.ahead = best(below.ahead, ways[node]);
                below.left = below.left.saturating_sub(1);
                if below.left == 0 {
                    next.push(input.node());
                }
            }
        }
    }

    fn is_built(&self, node: usize, body: &Body, above: Above) -> bool {
        match body.told {
            Told::Built => true,
            Told::Asked => false,
            Told::Nothing if above.ahead.is_some() => !above.lacks,
            Told::Nothing if self.slots[node].referrers == 0 => body.is_complete(),
            Told::Nothing => body.is_begun(),
        }
    }
}

/// A way with one step more.
fn longer(ahead: Option<Ahead>, weight: f32) -> Ahead {
    let Ahead { steps, work } = ahead.unwrap_or_default();
    // Not a number is not greater than 0 either.
    let weight = if weight > 0.0 { f64::from(weight) } else { 0.0 };
    Ahead { steps: steps + 1, work: work + weight }
}

/// The one with more work, or of the same work the one with more steps.
fn best(one: Option<Ahead>, other: Option<Ahead>) -> Option<Ahead> {
    let order = |ahead: &Ahead| (ahead.work, ahead.steps);
    match (one, other) {
        (Some(a), Some(b)) => Some(if order(&b) > order(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
