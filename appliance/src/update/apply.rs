//! Makes an ordered system the one that is started next, and restarts the machine.

use tracing::info;

use super::{
    Held, Machine, UpdateError,
    decide::{Apply, applying},
    state::{Progress, Update},
};

/// Goes on with an update up to the restart, from wherever a process before was ended.
///
/// # Errors
/// [`UpdateError`]: to be started again.
pub async fn apply(held: &Held<'_>, machine: &impl Machine) -> Result<(), UpdateError> {
    let boot = machine.boot().map_err(UpdateError::Again)?;
    let Some(mut update) = held.read()? else { return held.clear_all() };
    loop {
        let next = match applying(&update.progress, &boot) {
            Apply::Leave => return held.clear(&update.progress),
            Apply::Prepare => prepare(&update, &boot, machine).await,
            Apply::Install => install(&update, &boot, machine).await,
            Apply::Restart => restart(&update, machine).await,
            Apply::Undo => undo(&update, machine).await?,
        };
        update = update.at(next);
        held.write(&update)?;
        if let Progress::Failed { reason } = &update.progress {
            info!("the update to {} failed: {reason}", update.order.system);
            machine.resume().await;
        }
    }
}

async fn prepare(update: &Update, boot: &str, machine: &impl Machine) -> Progress {
    if !update.order.now {
        machine.drain().await;
    }
    match machine.next() {
        Ok(previous) => Progress::Applying { previous, boot: boot.to_owned() },
        Err(reason) => Progress::Failed { reason },
    }
}

async fn install(update: &Update, boot: &str, machine: &impl Machine) -> Progress {
    let Progress::Applying { previous, .. } = &update.progress else {
        return update.progress.clone();
    };
    let previous = previous.clone();
    match machine.install(&update.order.system).await {
        Ok(()) => Progress::Trying { previous, boot: boot.to_owned(), boots: 0 },
        Err(reason) => Progress::Undoing { previous, reason, tried: false },
    }
}

async fn restart(update: &Update, machine: &impl Machine) -> Progress {
    let Progress::Trying { previous, .. } = &update.progress else {
        return update.progress.clone();
    };
    info!("the machine is restarted with {}", update.order.system);
    let Err(reason) = machine.restart().await;
    Progress::Undoing { previous: previous.clone(), reason, tried: false }
}

async fn undo(update: &Update, machine: &impl Machine) -> Result<Progress, UpdateError> {
    let Progress::Undoing { previous, reason, .. } = &update.progress else {
        return Ok(update.progress.clone());
    };
    let again = |why| UpdateError::Again(format!("cannot go back to {previous}: {why}"));
    machine.install(previous).await.map_err(again)?;
    Ok(Progress::Failed { reason: reason.clone() })
}
