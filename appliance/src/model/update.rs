//! How the last update of a board went, as it tells others.

use serde::{Deserialize, Serialize};

/// An update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateView {
    /// The number of its order: orders count up.
    pub number: u64,
    /// The system that was ordered, a store path.
    pub system: String,
    /// How far it is.
    pub phase: UpdatePhase,
    /// Why it was rolled back or failed, in plain words, in several lines at times; else empty.
    pub reason: String,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdatePhase {
    /// Accepted: builds that run are waited for.
    Ordered,
    /// It becomes what the board starts next; the board restarts then.
    Applying,
    /// It is to show that the board works with it.
    Trial,
    /// It did not, or could not be applied: the board goes back to the previous system.
    RollingBack,
    /// The board runs it, and stays with it.
    Kept,
    /// The board was restarted with it, and is back at the previous system.
    RolledBack,
    /// It could not be applied; the board was not restarted.
    Failed,
}

impl UpdatePhase {
    /// Whether nothing more happens.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Kept | Self::RolledBack | Self::Failed)
    }
}
