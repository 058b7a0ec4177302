//! How far an update is.

use nix_compat::store_path::StorePath;
use serde::{Deserialize, Serialize};

use crate::{
    model::{UpdatePhase, UpdateView},
    trust::Order,
};

/// The version of this format.
pub(super) const VERSION: u32 = 1;

/// The last update that was ordered. Its order's number is the highest one that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    pub(super) version: u32,
    /// What was ordered.
    pub order: Order,
    /// How far it is.
    pub progress: Progress,
}

/// How far an update is. A boot is named by the kernel's `boot_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Progress {
    /// It was accepted.
    Ordered,
    /// It becomes what is started next.
    Applying {
        /// What was started before.
        previous: StorePath,
        /// The boot in which that began.
        boot: String,
    },
    /// It is what is started next, or was started, and has to show that the board works with it.
    Trying {
        /// What was started before.
        previous: StorePath,
        /// The last boot that was counted; at first the one in which it was applied.
        boot: String,
        /// How often the machine was started since it was applied.
        boots: u32,
    },
    /// It is to be undone.
    Undoing {
        /// What is to be started again.
        previous: StorePath,
        /// Why.
        reason: String,
        /// Whether the machine was restarted with it.
        tried: bool,
    },
    /// The previous system is what is started next, and the machine is to be restarted.
    Undone {
        /// Why.
        reason: String,
        /// The boot in which that was done.
        boot: String,
    },
    /// It was started, and the board works with it.
    Kept,
    /// It was started, and the board is back at the previous one.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// It could not be applied.
    Failed {
        /// Why not.
        reason: String,
    },
}

/// Which files are there for systemd to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// There is something to apply.
    pub(super) order: bool,
    /// There is something to be looked at when the machine was started.
    pub(super) trial: bool,
}

impl Update {
    /// One that was just accepted.
    pub(super) fn new(order: Order) -> Self {
        Self { version: VERSION, order, progress: Progress::Ordered }
    }

    /// The same, further.
    pub(super) fn at(&self, progress: Progress) -> Self {
        Self { progress, ..self.clone() }
    }

    /// As it is told to others.
    #[must_use]
    pub fn view(&self) -> UpdateView {
        let (phase, reason) = match &self.progress {
            Progress::Ordered => (UpdatePhase::Ordered, ""),
            Progress::Applying { .. } | Progress::Trying { boots: 0, .. } => {
                (UpdatePhase::Applying, "")
            }
            Progress::Trying { .. } => (UpdatePhase::Trial, ""),
            Progress::Undoing { reason, .. } | Progress::Undone { reason, .. } => {
                (UpdatePhase::RollingBack, reason.as_str())
            }
            Progress::Kept => (UpdatePhase::Kept, ""),
            Progress::RolledBack { reason } => (UpdatePhase::RolledBack, reason.as_str()),
            Progress::Failed { reason } => (UpdatePhase::Failed, reason.as_str()),
        };
        let Order { number, system, .. } = &self.order;
        let (system, reason) = (system.to_string(), reason.to_owned());
        UpdateView { number: *number, system, phase, reason }
    }
}

impl Progress {
    /// Whether nothing more happens.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Kept | Self::RolledBack { .. } | Self::Failed { .. })
    }

    /// What systemd is to see.
    pub(super) fn flags(&self) -> Flags {
        let (order, trial) = match self {
            Self::Ordered | Self::Undoing { tried: false, .. } => (true, false),
            // If the power fails, the system may be started before all is done; and the machine is still to
            // be restarted, also if whoever was to do so is killed.
            Self::Applying { .. } | Self::Trying { boots: 0, .. } => (true, true),
            Self::Trying { .. } | Self::Undoing { tried: true, .. } | Self::Undone { .. } => {
                (false, true)
            }
            Self::Kept | Self::RolledBack { .. } | Self::Failed { .. } => (false, false),
        };
        Flags { order, trial }
    }
}
