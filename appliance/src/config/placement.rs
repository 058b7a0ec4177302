//! `[placement]`: when jobs may be emulated. `[admission]`: when this node starts no more builds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checks::{by_system, within, within_opt};
use crate::model::Emulation;

/// `[placement]`: where jobs go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    /// When a job may be emulated. Native hardware that is alive always comes first.
    pub emulation: Emulation,
    /// How long a job waits for a native node that is alive and busy before emulation is
    /// considered. Unset: as long as one is alive.
    #[serde(deserialize_with = "within_opt::<_, _, 0, 604_800>")]
    pub native_wait_s: Option<u64>,
    /// Other rules for single systems: `[placement.systems.riscv64-linux]`.
    #[serde(deserialize_with = "by_system")]
    pub systems: BTreeMap<String, SystemPlacement>,
}

/// What differs for one system; what is left out is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SystemPlacement {
    /// As [`Placement::emulation`].
    pub emulation: Option<Emulation>,
    /// As [`Placement::native_wait_s`].
    #[serde(deserialize_with = "within_opt::<_, _, 0, 604_800>")]
    pub native_wait_s: Option<u64>,
}

impl Placement {
    /// When jobs for a system may be emulated.
    #[must_use]
    pub fn emulation(&self, system: &str) -> Emulation {
        self.systems.get(system).and_then(|own| own.emulation).unwrap_or(self.emulation)
    }

    /// How long such a job waits for a busy native node; none is as long as one is alive.
    #[must_use]
    pub fn native_wait_s(&self, system: &str) -> Option<u64> {
        self.systems.get(system).and_then(|own| own.native_wait_s).or(self.native_wait_s)
    }
}

/// `[admission]`: when this node starts no more builds. Those that run go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Degrees Celsius below its last passive trip point, from which on the kernel slows the machine
    /// down as far as it can before it switches it off, at which a node starts nothing more; it goes on at twice as many below. A
    /// build that is slowed down takes longer than one that waited.
    #[serde(deserialize_with = "within::<_, _, 0, 50>")]
    pub heat_margin_c: u32,
    /// Share of the last 10 s in which some task waited for memory, in percent, above which nothing
    /// more is started; 100 is never. A machine that swaps finishes nothing.
    #[serde(deserialize_with = "within::<_, _, 1, 100>")]
    pub max_memory_pressure_percent: u32,
    /// Memory that must be available for a build to start, if another one runs.
    #[serde(deserialize_with = "within::<_, _, 0, 1_048_576>")]
    pub min_memory_mib: u64,
}

impl Default for Admission {
    fn default() -> Self {
        Self { heat_margin_c: 5, max_memory_pressure_percent: 20, min_memory_mib: 256 }
    }
}
