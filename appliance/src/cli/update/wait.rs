//! Waiting for the end of an update, in bounded time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{super::error::CommandError, way::Way};
use crate::{
    model::{BoardView, UpdatePhase, UpdateView},
    update::DRAIN_WITHIN,
};

/// How long an update may take once the board's builds have ended: two restarts and a trial.
const WITHIN: Duration = Duration::from_secs(600);
/// How often the board is asked. Each is an ssh connection, and a sign of life for the board.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often it is said that it goes on.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// An update that was ordered.
pub(super) struct Waiting<'a> {
    pub(super) board: &'a BoardView,
    pub(super) number: u64,
    pub(super) now_s: u64,
}

/// What was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Over(UpdateView),
    Phase(UpdatePhase),
    Gone,
    Other(u64),
}

impl Waiting<'_> {
    /// Waits until it is over.
    ///
    /// # Errors
    /// It is not in time, or another one came after it.
    pub(super) async fn end(&self) -> Result<UpdateView, CommandError> {
        let name = &self.board.node.name;
        let begun = Instant::now();
        let mut until = begun + WITHIN;
        let mut told: Option<(&str, Instant)> = None;
        loop {
            let seen = seen(Way::look(self.board, self.now_s).await.ok(), self.number);
            let word = match seen {
                Seen::Over(view) => return Ok(view),
                Seen::Other(number) => {
                    return Err(CommandError::Refused(format!(
                        "{name} was given another update meanwhile (order {number}); `roost update {name}` \
                         shows how it went"
                    )));
                }
                Seen::Gone => "restarting",
                Seen::Phase(phase) => {
                    if phase == UpdatePhase::Ordered && begun.elapsed() < DRAIN_WITHIN {
                        until = Instant::now() + WITHIN;
                    }
                    word(phase)
                }
            };
            let now = Instant::now();
            if told.is_none_or(|(before, at)| before != word || now - at >= TELL_INTERVAL) {
                eprintln!("{name}: {word} ({} s)", begun.elapsed().as_secs());
                told = Some((word, now));
            }
            if now >= until {
                return Err(CommandError::Refused(format!(
                    "{name} is not through after {} s (last seen: {word}); `roost update {name}` shows how it \
                     went when it is back. If it does not come back, choose the previous generation in its \
                     boot menu",
                    begun.elapsed().as_secs()
                )));
            }
            sleep(INTERVAL).await;
        }
    }
}

fn seen(look: Option<Option<UpdateView>>, number: u64) -> Seen {
    match look {
        None => Seen::Gone,
        Some(Some(view)) if view.number == number => match view.phase.is_over() {
            true => Seen::Over(view),
            false => Seen::Phase(view.phase),
        },
        Some(other) => Seen::Other(other.map_or(0, |view| view.number)),
    }
}

fn word(phase: UpdatePhase) -> &'static str {
    match phase {
        UpdatePhase::Ordered => "waiting for its builds",
        UpdatePhase::Applying => "about to restart",
        UpdatePhase::Trial => "on trial, for 5 min at most",
        UpdatePhase::RollingBack => "going back",
        UpdatePhase::Kept | UpdatePhase::RolledBack | UpdatePhase::Failed => "done",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_is_away_restarts_and_one_that_was_ordered_otherwise_is_not_waited_for() {
        let view = |number, phase| {
            let (system, reason) = ("/nix/store/x".to_owned(), String::new());
            Some(Some(UpdateView { number, system, phase, reason }))
        };
        assert_eq!(seen(None, 7), Seen::Gone);
        assert_eq!(seen(view(7, UpdatePhase::Trial), 7), Seen::Phase(UpdatePhase::Trial));
        assert!(matches!(seen(view(7, UpdatePhase::RolledBack), 7), Seen::Over(_)));
        assert_eq!(seen(view(8, UpdatePhase::Kept), 7), Seen::Other(8));
        assert_eq!(seen(Some(None), 7), Seen::Other(0));
    }
}
