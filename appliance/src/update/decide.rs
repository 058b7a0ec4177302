//! What comes next, from facts alone.

use super::{
    LAST_BOOT,
    state::{Progress, Update},
};
use crate::trust::Order;

/// Why an order that is signed well is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was given before, or a later one was.
    #[error("the order {ordered} is not newer than the last one, {last}: it was given before")]
    Old {
        /// Its number.
        ordered: u64,
        /// The number of the last one.
        last: u64,
    },
    /// One update at a time.
    #[error("an update to {0} is under way")]
    UnderWay(String),
    /// The system is not there, or is none.
    #[error("{0}")]
    Unusable(String),
}

/// Whether an order may be taken after the last update.
pub(super) fn admit(last: Option<&Update>, order: &Order) -> Result<(), Refusal> {
    match last {
        Some(last) if order.number <= last.order.number => {
            Err(Refusal::Old { ordered: order.number, last: last.order.number })
        }
        Some(last) if !last.progress.is_over() => {
            Err(Refusal::UnderWay(last.order.system.to_string()))
        }
        _ => Ok(()),
    }
}

/// What whoever applies an update does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Apply {
    /// Lets builds end, and notes what is started now.
    Prepare,
    /// Makes the system what is started next.
    Install,
    /// Restarts the machine.
    Restart,
    /// Undoes what was done of it.
    Undo,
    /// Nothing.
    Leave,
}

/// What is to be done, in this boot, by whoever applies updates.
pub(super) fn applying(progress: &Progress, boot: &str) -> Apply {
    match progress {
        Progress::Ordered => Apply::Prepare,
        Progress::Applying { .. } => Apply::Install,
        Progress::Trying { boot: applied, boots: 0, .. } if applied == boot => Apply::Restart,
        Progress::Undoing { tried: false, .. } => Apply::Undo,
        Progress::Trying { .. }
        | Progress::Undoing { tried: true, .. }
        | Progress::Undone { .. }
        | Progress::Kept
        | Progress::RolledBack { .. }
        | Progress::Failed { .. } => Apply::Leave,
    }
}

/// What whoever looks at a system that was started does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// Notes that there is a new state, and goes on from it.
    Become(Progress),
    /// Waits until the board works, or the time is over.
    Watch,
    /// Makes the previous system what is started next, and goes on from this state.
    Undo(Progress),
    /// Restarts the machine.
    Restart,
    /// Nothing.
    Leave,
}

/// What is to be done, in this boot, which is of the system `booted` if that is known.
pub(super) fn settling(update: &Update, boot: &str, booted: Option<&str>) -> Settle {
    let ordered = update.order.system.as_str();
    match &update.progress {
        Progress::Trying { boot: applied, boots: 0, .. } if applied == boot => Settle::Leave,
        // The power failed while it was applied, and it was started all the same.
        Progress::Applying { previous, boot: applied }
            if applied != boot && booted == Some(ordered) =>
        {
            let (previous, boot) = (previous.clone(), boot.to_owned());
            Settle::Become(Progress::Trying { previous, boot, boots: 1 })
        }
        Progress::Trying { previous, boot: last, boots } if last != boot => {
            Settle::Become(Progress::Trying {
                previous: previous.clone(),
                boot: boot.to_owned(),
                boots: boots.saturating_add(1),
            })
        }
        Progress::Trying { previous, boots, .. } => {
            let undo = |reason: String| {
                let previous = previous.clone();
                Settle::Become(Progress::Undoing { previous, reason, tried: true })
            };
            match booted {
                Some(other) if other != ordered => undo(format!(
                    "the board started {other} instead: its boot loader, or somebody at its console, chose it"
                )),
                _ if *boots >= LAST_BOOT => undo(format!(
                    "the board was started {boots} times with it, and worked no time within the time limit"
                )),
                _ => Settle::Watch,
            }
        }
        Progress::Undoing { reason, tried: true, .. } => {
            let reason = reason.clone();
            Settle::Undo(match booted {
                // It does not run, so nothing is gained by a restart.
                Some(booted) if booted != ordered => Progress::RolledBack { reason },
                _ => Progress::Undone { reason, boot: boot.to_owned() },
            })
        }
        Progress::Undone { boot: undone, .. } if undone == boot => Settle::Restart,
        Progress::Undone { reason, .. } => {
            let reason = match booted {
                Some(booted) if booted == ordered => format!(
                    "{reason}; and the board still runs it: its boot loader does not start the previous system"
                ),
                _ => reason.clone(),
            };
            Settle::Become(Progress::RolledBack { reason })
        }
        Progress::Ordered
        | Progress::Applying { .. }
        | Progress::Undoing { tried: false, .. }
        | Progress::Kept
        | Progress::RolledBack { .. }
        | Progress::Failed { .. } => Settle::Leave,
    }
}
