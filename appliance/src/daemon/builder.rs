//! This node as a builder: what it offers, and whether it starts another build now.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    execute::LocalNix,
    model::NodeView,
    observe::vitals,
    place::{
        Health, NodeFacts,
        admission::{Gates, Limits, Load},
    },
};

/// How long a look at the machine is good for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// This node as a builder.
pub(super) struct Here {
    /// Its nix-daemon.
    pub(super) executor: Arc<LocalNix>,
    /// Its description; what changes in it is not looked at.
    pub(super) view: NodeView,
    /// Whether it takes jobs.
    pub(super) draining: AtomicBool,
    /// Where builds need free space.
    pub(super) store: PathBuf,
    /// How much of it, in MiB.
    pub(super) min_free_mib: u64,
    /// When it starts nothing more.
    pub(super) limits: Limits,
    /// What is closed by them.
    pub(super) gates: Mutex<Gates>,
    /// The last look at the machine.
    pub(super) last: Mutex<Option<Look>>,
    /// What placement was told last of what keeps it from starting builds.
    pub(super) told: Mutex<Standing>,
}

/// One look at the machine.
#[derive(Clone)]
pub(super) struct Look {
    at: Instant,
    load: Load,
    /// Free space for builds, or why it is not known.
    free_mib: Result<u64, String>,
}

/// What keeps a node from starting builds, in words; empty if nothing does. The same as long as the
/// reason is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It will go on by itself.
    pub(super) paused: String,
    /// It may need help.
    pub(super) trouble: String,
}

impl Here {
    pub(super) fn facts(&self) -> NodeFacts {
        NodeFacts {
            id: self.view.id.clone(),
            name: self.view.name.clone(),
            here: true,
            systems: self.view.systems.clone(),
            emulated: self.view.emulated.clone(),
            features: self.view.features.clone(),
            slots: self.view.slots,
            ahead: 0,
            assigned: 0,
            busy: 0,
            health: self.health(),
        }
    }

    fn health(&self) -> Health {
        if self.draining.load(Ordering::Relaxed) {
            return Health::Draining;
        }
        let standing = self.standing();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&standing);
        let Standing { paused, trouble } = standing;
        if !trouble.is_empty() {
            Health::Away(trouble)
        } else if !paused.is_empty() {
            Health::Paused(paused)
        } else {
            Health::Ready
        }
    }

    /// Whether placement knows that this keeps it from starting builds. What passed between two
    /// looks at the machine may have been seen by placement alone, when a job came.
    pub(super) fn has_told(&self, standing: &Standing) -> bool {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) == *standing
    }

    /// What keeps it from starting builds now.
    pub(super) fn standing(&self) -> Standing {
        let Look { load, free_mib, .. } = self.look();
        let load = Load { builds: self.executor.builds.load(Ordering::Relaxed), ..load };
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let paused = gates.closed(&self.limits, &load).unwrap_or_default();
        Standing { paused, trouble: self.trouble(free_mib) }
    }

    /// The machine as it is, or was a moment ago: short jobs follow each other faster than it
    /// changes.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < LOOK_AGAIN) {
            return look.clone();
        }
        let root = Path::new("/");
        let heat = vitals::heat(root);
        let load = Load {
            temperature_mc: heat.map(|heat| heat.temperature_mc),
            passive_mc: heat.and_then(|heat| heat.passive_mc),
            memory_pressure_bp: vitals::memory_pressure(root).map(|it| it.some_avg10_bp),
            available_mib: vitals::available_mib(root).ok(),
            builds: 0,
        };
        let free_mib = vitals::space(&self.store).map(|space| space.free_bytes >> 20);
        let free_mib = free_mib.map_err(|error| error.to_string());
        last.insert(Look { at: Instant::now(), load, free_mib }).clone()
    }

    /// The zone that is closest to slowing the machine down, in whole degrees: who watches need not
    /// hear of every tenth.
    pub(super) fn temperature_mc(&self) -> Option<i32> {
        self.look().load.temperature_mc.map(|mc| mc / 1000 * 1000)
    }

    fn trouble(&self, free_mib: Result<u64, String>) -> String {
        match free_mib {
            Ok(free_mib) if free_mib < self.min_free_mib => format!(
                "less than {} MiB are free on {} (queue.min_free_mib); `nix-collect-garbage` there \
                 may help",
                self.min_free_mib,
                self.store.display(),
            ),
            Ok(_) => self.executor.trouble(),
            Err(why) => why,
        }
    }
}
