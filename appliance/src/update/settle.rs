//! Keeps a system that was started if the board works with it, and goes back if it does not.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::{
    HEALTHY_WITHIN, Held, Machine, UpdateError,
    decide::{Settle, settling},
    state::{Progress, Update},
};

/// How often a system on trial is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(2);

/// Looks after a system on trial, up to its end or to a restart with the previous one.
///
/// # Errors
/// [`UpdateError`]: to be started again.
pub async fn settle(held: &Held<'_>, machine: &impl Machine) -> Result<(), UpdateError> {
    let boot = machine.boot().map_err(UpdateError::Again)?;
    let booted = machine.booted();
    let Some(mut update) = held.read()? else { return held.clear_all() };
    loop {
        let next = match settling(&update, &boot, booted.as_deref()) {
            Settle::Leave => return held.clear(&update.progress),
            Settle::Become(progress) => progress,
            Settle::Watch => watch(&update, machine).await,
            Settle::Undo(progress) => {
                undo(&update, machine).await?;
                progress
            }
            Settle::Restart => {
                let Err(why) = machine.restart().await;
                return Err(UpdateError::Again(why));
            }
        };
        update = update.at(next);
        held.write(&update)?;
        match &update.progress {
            Progress::Kept => info!("the board works with {}, and keeps it", update.order.system),
            Progress::Undoing { reason, .. } => info!("going back: {reason}"),
            _ => {}
        }
    }
}

/// What came of a trial.
async fn watch(update: &Update, machine: &impl Machine) -> Progress {
    let Progress::Trying { previous, .. } = &update.progress else {
        return update.progress.clone();
    };
    loop {
        let Err(why) = machine.health().await else { return Progress::Kept };
        if machine.uptime() >= HEALTHY_WITHIN {
            let limit_s = HEALTHY_WITHIN.as_secs();
            return Progress::Undoing {
                previous: previous.clone(),
                reason: format!("{limit_s} s after it was started, {why}"),
                tried: true,
            };
        }
        sleep(ASK_INTERVAL).await;
    }
}

async fn undo(update: &Update, machine: &impl Machine) -> Result<(), UpdateError> {
    let Progress::Undoing { previous, .. } = &update.progress else { return Ok(()) };
    let again = |why| UpdateError::Again(format!("cannot go back to {previous}: {why}"));
    machine.install(previous).await.map_err(again)
}
