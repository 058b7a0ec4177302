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
    pub(super) last: Mutex<Fresh<Look>>,
    /// What placement was told last of what keeps it from starting builds.
    pub(super) told: Mutex<Standing>,
}

/// What was seen a moment ago.
pub(super) struct Fresh<T>(Option<(Instant, T)>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Fresh<T> {
    /// What was seen, or what `look` sees if that is too long ago.
    pub(super) fn get(&mut self, look: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some((at, seen)) if at.elapsed() < LOOK_AGAIN => seen.clone(),
            _ => self.0.insert((Instant::now(), look())).1.clone(),
        }
    }
}

/// One look at the machine.
#[derive(Clone)]
pub(super) struct Look {
    load: Load,
    hottest_mc: Option<i32>,
    /// Whether there is room for builds, or why not.
    room: Result<(), String>,
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
        let facts = NodeFacts::of(&self.view, self.health());
        // With little memory the first build starts, and whether a second one does is seen then.
        let slots = if self.is_short() { facts.slots.min(1) } else { facts.slots };
        NodeFacts { here: true, slots, ..facts }
    }

    fn health(&self) -> Health {
        let standing = self.standing();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&standing);
        let Standing { paused, trouble } = standing;
        let draining = self.draining.load(Ordering::Relaxed);
        Health::of(&NodeView { draining, paused, trouble, ..NodeView::default() })
    }

    /// Whether there is too little memory for more than one build.
    fn is_short(&self) -> bool {
        self.limits.is_short(&self.look().load)
    }

    /// Whether placement knows that this keeps it from starting builds. What passed between two
    /// looks at the machine may have been seen by placement alone, when a job came.
    pub(super) fn has_told(&self, standing: &Standing) -> bool {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) == *standing
    }

    /// What keeps it from starting builds now.
    pub(super) fn standing(&self) -> Standing {
        let Look { load, room, .. } = self.look();
        let load = Load { builds: self.executor.builds.load(Ordering::Relaxed), ..load };
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let paused = gates.closed(&self.limits, &load).unwrap_or_default();
        Standing { paused, trouble: self.trouble(room) }
    }

    /// The machine as it is, or was a moment ago: short jobs follow each other faster than it
    /// changes.
    fn look(&self) -> Look {
        let look = || self.look_anew();
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(look)
    }

    fn look_anew(&self) -> Look {
        let root = Path::new("/");
        let heat = vitals::heat(root);
        let load = Load {
            temperature_mc: heat.map(|heat| heat.temperature_mc),
            passive_mc: heat.and_then(|heat| heat.passive_mc),
            memory_pressure_bp: vitals::memory_pressure(root).map(|it| it.some_avg10_bp),
            available_mib: vitals::available_mib(root).ok(),
            builds: 0,
        };
        let hottest_mc = vitals::temperature_mc(root);
        Look { load, hottest_mc, room: room(&self.store, self.min_free_mib) }
    }

    /// The hottest zone, in whole degrees: who watches need not hear of every tenth.
    pub(super) fn temperature_mc(&self) -> Option<i32> {
        self.look().hottest_mc.map(|mc| mc / 1000 * 1000)
    }

    fn trouble(&self, room: Result<(), String>) -> String {
        room.map_or_else(|why| why, |()| self.executor.trouble())
    }
}

/// Whether there is room for builds on the file system of `path`, or why not.
pub(super) fn room(path: &Path, min_free_mib: u64) -> Result<(), String> {
    let space = vitals::space(path).map_err(|error| error.to_string())?;
    if space.free_bytes >> 20 >= min_free_mib {
        return Ok(());
    }
    Err(format!(
        "less than {min_free_mib} MiB are free on {} (queue.min_free_mib); `nix-collect-garbage` \
         there may help",
        path.display(),
    ))
}
