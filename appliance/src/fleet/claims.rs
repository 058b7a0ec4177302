//! Boards that say they belong to the fleet and that nobody here knows. One that does shows a
//! certificate; anyone may say so, so few are tried at once, and one that failed waits longer and longer.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::discover::BoardKey;

/// Claims that are tried at once.
const MAX_TRIES: usize = 4;
/// Pauses after a claim that came to nothing: doubling, from one to the other.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_secs(3600);

/// How a claim stands.
#[derive(Clone, Debug)]
enum Claim {
    /// It is being tried, after so many failures.
    Trying { failures: u32 },
    /// It came to nothing: why, and when it is tried again.
    Failed { failures: u32, why: String, again: Instant },
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    all: HashMap<BoardKey, Claim>,
    /// Whether one could not be tried for want of room.
    waiting: bool,
}

impl Claims {
    /// Whether this claim is tried now; else why not.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn admit(&mut self, key: &BoardKey) -> Result<(), String> {
        let now = Instant::now();
        let failures = match self.all.get(key) {
            Some(Claim::Trying { .. }) => return Ok(()),
            Some(Claim::Failed { why, again, .. }) if now < *again => return Err(why.clone()),
            Some(Claim::Failed { failures, .. }) => *failures,
            None => 0,
        };
        let tried = self.all.values().filter(|claim| matches!(claim, Claim::Trying { .. })).count();
        if tried >= MAX_TRIES {
            self.waiting = true;
            return Err("it says that it belongs to this fleet, and waits to be tried".to_owned());
        }
        self.all.insert(key.clone(), Claim::Trying { failures });
        Ok(())
    }

    /// Notes that a claim came to nothing.
    pub(super) fn failed(&mut self, key: &BoardKey, why: &str) {
        let Some(Claim::Trying { failures }) = self.all.get(key).cloned() else { return };
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LAST_PAUSE);
        let why = format!(
            "it says that it belongs to this fleet, and does not prove it ({why}); if it is yours, \
             `roost fleet approve` or a new seed lets it in"
        );
        let failures = failures.saturating_add(1);
        self.all
            .insert(key.clone(), Claim::Failed { failures, why, again: Instant::now() + pause });
    }

    /// Forgets a claim that is none, or was proved: it takes no room.
    pub(super) fn settled(&mut self, key: &BoardKey) {
        self.all.remove(key);
    }

    /// Whether one waits for room; asking clears it.
    pub(super) fn is_waiting(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }

    /// When the next one is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let again = self.all.values().filter_map(|claim| match claim {
            Claim::Failed { again, .. } => Some(*again),
            Claim::Trying { .. } => None,
        });
        again.min()
    }

    /// Forgets the claims of boards that are not seen any more.
    pub(super) fn retain(&mut self, mut seen: impl FnMut(&BoardKey) -> bool) {
        self.all.retain(|key, _| seen(key));
    }
}

#[cfg(test)]
mod tests {
    use board_support::{HostKeyHash, NodeId};
    use tokio::time::advance;

    use super::*;

    fn key(id: &str) -> BoardKey {
        BoardKey { id: NodeId::new(id).unwrap(), host_key: HostKeyHash([7; 32]) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_failed_waits_twice_as_long_each_time() {
        let mut claims = Claims::default();
        for pause in [30, 60, 120] {
            claims.admit(&key("a")).unwrap();
            // Looked at again while it is tried, it goes on being tried.
            claims.admit(&key("a")).unwrap();
            claims.failed(&key("a"), "no certificate");
            assert!(claims.admit(&key("a")).unwrap_err().contains("no certificate"));
            assert_eq!(claims.next_try(), Some(Instant::now() + Duration::from_secs(pause)));
            advance(Duration::from_secs(pause)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_tried_at_once_and_the_next_when_one_has_failed() {
        let mut claims = Claims::default();
        let keys: Vec<_> = (0..=MAX_TRIES).map(|n| key(&format!("b{n}"))).collect();
        let admitted = keys.iter().filter(|key| claims.admit(key).is_ok()).count();
        assert_eq!(admitted, MAX_TRIES);
        assert!(claims.is_waiting() && !claims.is_waiting());
        claims.failed(&keys[0], "no");
        assert!(claims.admit(&keys[MAX_TRIES]).is_ok());
        claims.settled(&keys[1]);
        assert!(claims.admit(&key("another")).is_ok(), "one that was proved takes no room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_of_a_board_that_left_is_forgotten() {
        let mut claims = Claims::default();
        claims.admit(&key("a")).unwrap();
        claims.failed(&key("a"), "no");
        claims.retain(|_| false);
        assert_eq!(claims.next_try(), None);
        claims.admit(&key("a")).unwrap();
    }
}
