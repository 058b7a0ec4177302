//! Orders to update: taken here, followed by services that may do what this sealed daemon may not.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{info, warn};

use crate::{
    execute::Queries,
    model::{UpdatePhase, UpdateView, first_line},
    trust::{FileWatch, Order, Role},
    update::{Store, UpdateError},
};

/// What the daemon knows of updates. Clones are the same.
#[derive(Clone)]
pub(super) struct Updates {
    store: Store,
    queries: Queries,
    contacted: Arc<AtomicBool>,
}

impl Updates {
    pub(super) fn new(queries: Queries) -> Self {
        Self { store: Store::system(), queries, contacted: Arc::default() }
    }

    /// Takes an order, durably; systemd sees it, and starts what follows it.
    ///
    /// # Errors
    /// Why it is not taken, in words.
    pub(super) async fn take(&self, role: Role, order: Order) -> Result<(), String> {
        if role != Role::Board {
            return Err("this node is no board (board.enable), and updates itself".to_owned());
        }
        let (system, number) = (order.system.clone(), order.number);
        let words = |error: UpdateError| error.to_string();
        let held = self.store.hold().map_err(words)?;
        let usable = async {
            let valid = self.queries.valid(&BTreeSet::from([system.clone()])).await;
            if !valid.map_err(|error| error.to_string())?.contains(&system) {
                return Err(format!("{system} is not in this board's store: copy it there before"));
            }
            let switch = Path::new(system.as_str()).join("bin/switch-to-configuration");
            let is_program = switch
                .metadata()
                .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
            let why = || format!("{system} is no system: it has no program {}", switch.display());
            is_program.then_some(()).ok_or_else(why)
        };
        held.accept(order, usable).await.map_err(words)?;
        info!("update {number} to {system} was ordered");
        Ok(())
    }

    /// How the last update went, if there was one.
    ///
    /// # Errors
    /// Why that is not known, in words.
    pub(super) fn last(&self) -> Result<Option<UpdateView>, String> {
        let last = self.store.read().map_err(|error| error.to_string())?;
        Ok(last.map(|update| update.view()))
    }

    /// What people should know of it.
    pub(super) fn note(&self) -> String {
        note(&self.last())
    }

    /// A node of the fleet has connected; whether it is the first one.
    pub(super) fn contact(&self) -> bool {
        !self.contacted.swap(true, Ordering::Relaxed)
    }

    pub(super) fn contacted(&self) -> bool {
        self.contacted.load(Ordering::Relaxed)
    }

    /// Returns when the state of an update may have changed; never, if that cannot be known.
    pub(super) async fn changed(&self, watch: &mut Option<FileWatch>) {
        if let Some(watch) = watch {
            match watch.changed().await {
                Ok(()) => return,
                Err(error) => warn!("updates are not watched any more: {error}"),
            }
        }
        *watch = None;
        std::future::pending::<()>().await;
    }

    /// Watches the state.
    pub(super) fn watch(&self) -> Option<FileWatch> {
        let watch =
            self.store.make().map_err(|error| error.to_string()).and_then(|()| {
                FileWatch::new(&self.store.file()).map_err(|error| error.to_string())
            });
        watch.inspect_err(|error| warn!("updates are not watched: {error}")).ok()
    }
}

/// What people should know of the last update.
fn note(last: &Result<Option<UpdateView>, String>) -> String {
    let view = match last {
        Ok(None) => return String::new(),
        Ok(Some(view)) => view,
        Err(why) => return format!("its last update: {}", first_line(why.as_bytes())),
    };
    let reason = first_line(view.reason.as_bytes());
    match view.phase {
        UpdatePhase::Kept => String::new(),
        UpdatePhase::Ordered => "to be updated when its builds have ended".to_owned(),
        UpdatePhase::Applying => "being updated".to_owned(),
        UpdatePhase::Trial => "on trial with a new system".to_owned(),
        UpdatePhase::RollingBack => format!("going back to its previous system: {reason}"),
        UpdatePhase::RolledBack => format!("its last update was rolled back: {reason}"),
        UpdatePhase::Failed => format!("its last update failed: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_went_well_is_no_news_and_any_other_is_a_line() {
        let view = |phase| UpdateView {
            number: 1,
            system: "/nix/store/x".to_owned(),
            phase,
            reason: "nix-env failed\n  no space".to_owned(),
        };
        let of = |phase| note(&Ok(Some(view(phase))));
        assert_eq!((note(&Ok(None)), of(UpdatePhase::Kept)), (String::new(), String::new()));
        assert_eq!(of(UpdatePhase::Failed), "its last update failed: nix-env failed");
        assert!(of(UpdatePhase::RolledBack).starts_with("its last update was rolled back: "));
        for phase in [UpdatePhase::Ordered, UpdatePhase::Applying, UpdatePhase::Trial] {
            assert!(!of(phase).is_empty() && !of(phase).contains("nix-env"));
        }
        assert!(note(&Err("it makes no sense".to_owned())).contains("makes no sense"));
    }
}
