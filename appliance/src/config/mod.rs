//! The configuration file, [`names::CONFIG_FILE`].
//!
//! One file and one program for every node: what a node does follows from the sections it enables.
//! Without a file a node is a workstation that offers no slots. Every key has a default, and every
//! key that is unknown, of the wrong type or out of range is an error that names the file, the line
//! and the key: a setting that is silently ignored is worse than a daemon that does not start.

mod checks;
mod error;
mod glob;
mod placement;
mod rules;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fs, io, num::NonZeroU32, path::Path};

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use placement::{Admission, Placement, SystemPlacement};
pub use rules::Rule;

use checks::{feature_set, labels, name_opt, speed_opt, system_list, within, within_opt};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// What it offers to others.
    pub board: Board,
    /// What it takes from boards.
    pub workstation: Workstation,
    /// The jobs it holds.
    pub queue: Queue,
    /// Where jobs go.
    pub placement: Placement,
    /// When it starts no more builds.
    pub admission: Admission,
    /// Where single jobs go: `[[rule]]`.
    #[serde(deserialize_with = "rules::all", skip_serializing_if = "Vec::is_empty")]
    pub rule: Vec<Rule>,
}

/// `[node]`: who this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Stable id, 1 to 63 of `a-z`, `0-9` and `-`. Unset: derived from the machine id, so that two
    /// boards written from one image differ.
    #[serde(deserialize_with = "name_opt")]
    pub id: Option<String>,
    /// Name shown to people and on the network, 1 to 63 of `a-z`, `0-9` and `-`, one label of a
    /// host name (RFC 1123). Unset: the host name.
    #[serde(deserialize_with = "name_opt")]
    pub name: Option<String>,
    /// Words by which people tell nodes apart, such as `fast`: at most 16 of
    /// 32 bytes.
    #[serde(deserialize_with = "labels")]
    pub labels: BTreeSet<String>,
}

/// `[board]`: what this node offers to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Board {
    /// Offers build slots. Off by default: a machine does not become a builder by having a package
    /// installed.
    pub enable: bool,
    /// Builds at once, 1 to 256. Unset: [`Board::slots_for`].
    #[serde(deserialize_with = "within_opt::<_, _, 1, 256>")]
    pub slots: Option<u32>,
    /// Systems to offer, such as `aarch64-linux`. Unset: what the local Nix says it builds
    /// (`system` and `extra-platforms`). Others are not offered: it would refuse to build for them.
    #[serde(deserialize_with = "system_list")]
    pub systems: Option<Vec<String>>,
    /// System features to offer, such as `big-parallel`. Unset: what the local Nix says
    /// (`system-features`). Others are not offered: it refuses a derivation that needs them.
    #[serde(deserialize_with = "feature_set")]
    pub features: Option<BTreeSet<String>>,
    /// Cores that one build may use, Nix's `cores`; 0 is all of them. Unset: the machine's cores
    /// divided by its slots, rounded up. Builds that ask for many (`big-parallel`) or are known to be
    /// long get all.
    #[serde(deserialize_with = "within_opt::<_, _, 0, 4096>")]
    pub cores_per_build: Option<u32>,
    /// How fast builds are here compared with other nodes, 0.01 to 1000, like Nix's speed factor. Unset:
    /// measured when the daemon starts. It counts until builds have shown better.
    #[serde(deserialize_with = "speed_opt")]
    pub speed: Option<f64>,
    /// Longest time a build may take; 0 is no limit. The default, two days, is above what the
    /// largest packages need on the slowest boards, and ends what would hold a slot for ever.
    #[serde(deserialize_with = "within::<_, _, 0, 31_536_000>")]
    pub timeout_s: u64,
    /// Longest time a build may print nothing; 0 is no limit. The default, four hours, leaves room
    /// for one link step of a browser on a small board.
    #[serde(deserialize_with = "within::<_, _, 0, 31_536_000>")]
    pub max_silent_s: u64,
    /// The port sshd listens on: it is announced, not opened, by roost.
    #[serde(deserialize_with = "within::<_, _, 1, 65_535>")]
    pub port: u16,
    /// Announces the board on the local network. Off: only those who know the address use it.
    pub announce: bool,
    /// The command that has sshd read its configuration anew, after the board was given a host
    /// certificate; empty: none is needed.
    pub reload_sshd: Vec<String>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            enable: false,
            slots: None,
            systems: None,
            features: None,
            cores_per_build: None,
            speed: None,
            timeout_s: 2 * 24 * 3600,
            max_silent_s: 4 * 3600,
            port: 22,
            announce: true,
            reload_sshd: ["systemctl", "try-reload-or-restart", "sshd.service"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

impl Board {
    /// Memory that one build should have: about what one C++ compiler and its linker take.
    const MIB_PER_SLOT: u64 = 1536;
    /// Cores that one build keeps busy: half of a build is serial (configure, link, install), so
    /// fewer cores a build and more builds finish sooner.
    const CORES_PER_SLOT: u32 = 2;

    /// Builds at once on a machine of so many cores and so much memory: the configured number, else
    /// as many as both allow, at least one.
    #[must_use]
    pub fn slots_for(&self, cores: NonZeroU32, mem_mib: u64) -> u32 {
        let by_cores = cores.get().div_ceil(Self::CORES_PER_SLOT);
        let by_memory = u32::try_from(mem_mib / Self::MIB_PER_SLOT).unwrap_or(u32::MAX);
        self.slots.unwrap_or_else(|| by_cores.min(by_memory).clamp(1, 256))
    }

    /// Nix's `cores` for each build on such a machine; 0 is all of them.
    #[must_use]
    pub fn cores_for(&self, cores: NonZeroU32, mem_mib: u64) -> u32 {
        let slots = self.slots_for(cores, mem_mib).max(1);
        self.cores_per_build.unwrap_or_else(|| cores.get().div_ceil(slots))
    }
}

/// `[workstation]`: what this node takes from boards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workstation {
    /// Looks for boards and gives the local Nix one builder that is all of them.
    pub enable: bool,
    /// Lets a board fetch inputs from its own substituters before they are sent to it. Off by
    /// default: on a local network the workstation's copy is nearer than any cache.
    pub substitute_on_boards: bool,
    /// Has the local Nix build by itself what is for its own system, when no board could begin it. Takes
    /// Nix's build hook to be `roost hook`; without it Nix gives to boards what it can.
    pub build_here: bool,
    /// Emulates on this machine, in a second store below the state folder, what binfmt_misc has an
    /// interpreter for: one more executor, under the rules of `[placement]`. Its inputs are copied,
    /// so a closure that is built against takes its size on the disk once more.
    pub emulate_here: bool,
    /// How long a job waits for a board that is known but away before it fails.
    #[serde(deserialize_with = "within::<_, _, 0, 604_800>")]
    pub away_timeout_s: u64,
    /// Jobs that one line of the machines file promises, 1 to 200: Nix opens one lock file for each
    /// whenever it tries the line. Unset: as many as memory comfortably holds.
    #[serde(deserialize_with = "within_opt::<_, _, 1, 200>")]
    pub max_jobs_per_line: Option<u32>,
}

impl Default for Workstation {
    fn default() -> Self {
        Self {
            enable: true,
            substitute_on_boards: false,
            build_here: true,
            emulate_here: false,
            away_timeout_s: 300,
            max_jobs_per_line: None,
        }
    }
}

/// `[queue]`: the jobs this node holds, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Jobs waiting or running; one more is refused with a transient error. 2000 fit the largest
    /// evaluations people build at once, in some tens of MiB of disk.
    #[serde(deserialize_with = "within::<_, _, 1, 100_000>")]
    pub max_jobs: u32,
    /// How long the record and the log of an ended job are kept.
    #[serde(deserialize_with = "within::<_, _, 0, 31_536_000>")]
    pub done_age_s: u64,
    /// Ended jobs kept; the oldest go first.
    #[serde(deserialize_with = "within::<_, _, 0, 100_000>")]
    pub max_done: u32,
    /// Size of one job's log; what follows is cut off, and the log says so.
    #[serde(deserialize_with = "within::<_, _, 1, 4096>")]
    pub log_mib: u32,
    /// Size of all logs together; the oldest go first.
    #[serde(deserialize_with = "within::<_, _, 1, 1_048_576>")]
    pub logs_total_mib: u32,
    /// How long a job that nobody waits for goes on before it is cancelled: an interrupted client
    /// looks just like one that will be back.
    #[serde(deserialize_with = "within::<_, _, 0, 604_800>")]
    pub orphan_grace_s: u64,
    /// How long outputs that nobody fetched are held against garbage collection.
    #[serde(deserialize_with = "within::<_, _, 0, 31_536_000>")]
    pub output_grace_s: u64,
    /// Free space the store needs for a build to start.
    #[serde(deserialize_with = "within::<_, _, 0, 1_048_576>")]
    pub min_free_mib: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_jobs: 2000,
            done_age_s: 7 * 24 * 3600,
            max_done: 1000,
            log_mib: 64,
            logs_total_mib: 512,
            orphan_grace_s: 600,
            output_grace_s: 3600,
            min_free_mib: 1024,
        }
    }
}

impl Config {
    /// Reads a configuration from text; `path` is for messages only.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] for the first thing wrong in it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::invalid(path, text, &error))
    }

    /// Loads a file that must exist.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`] if it cannot be read, [`ConfigError::Invalid`] if it makes no sense.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Loads a file, or gives the defaults if there is none. A file that is there and cannot be
    /// read is an error: defaults would not be what its owner wrote.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_or_default(path: &Path) -> Result<Self, ConfigError> {
        match Self::load(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            other => other,
        }
    }
}
