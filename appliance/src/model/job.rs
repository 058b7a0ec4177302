//! One derivation to build, from the moment a node accepts it to its result.

use std::{collections::BTreeSet, fmt, str::FromStr};

use nix_compat::{
    derivation::BasicDerivation, nix_daemon::BuildResult, nixbase32, store_path::StorePath,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Course, Demand};

/// How a job is built. A check never shares a result with a normal build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Build what is missing.
    Normal,
    /// Rebuild invalid or corrupt outputs.
    Repair,
    /// Build again and compare (`--rebuild`).
    Check,
}

/// Where a job may be built: where it was asked for, so that a job is handed on once at most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Site {
    /// The outputs are to be in this node's store, where whoever asks will fetch them: built here,
    /// or on another node and brought here.
    #[default]
    Here,
    /// In another store: this node's own Nix asks, and holds the locks of the outputs in its store
    /// while it waits. A build in the same store would wait for those locks for ever.
    Elsewhere,
}

/// How a system's programs are executed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By the CPU.
    #[default]
    Native,
    /// By an interpreter that the kernel hands them to (binfmt_misc).
    Emulated,
}

impl How {
    /// Whether a feature that a machine has is there for programs run this way, too: `kvm` and the
    /// instruction sets of `gccarch-` are its CPU's.
    #[must_use]
    pub fn has(self, feature: &str) -> bool {
        let of_the_cpu = matches!(feature, "kvm" | "nixos-test") || feature.starts_with("gccarch-");
        self == Self::Native || !of_the_cpu
    }
}

/// What a derivation by itself says of how long its build takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// A download, or one that asks to be built locally since it is hardly worth sending.
    Small,
    /// Nothing.
    #[default]
    Ordinary,
    /// One that asks for many cores (`big-parallel`).
    Big,
}

impl Size {
    /// The feature of those that ask for many cores.
    pub const BIG: &str = "big-parallel";

    /// What these say: whether the output is fixed, whether it prefers to be built locally, and what
    /// features it requires.
    #[must_use]
    pub fn of(fixed_output: bool, prefer_local: bool, features: &BTreeSet<String>) -> Self {
        if features.contains(Self::BIG) {
            Self::Big
        } else if fixed_output || prefer_local {
            Self::Small
        } else {
            Self::Ordinary
        }
    }
}

/// Which of a node's cores a build may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// As many as are one build's share.
    #[default]
    Share,
    /// All of them.
    All,
}

impl Cores {
    /// What a build gets where it is built: all, if its derivation asks for many, or if such builds are
    /// known to be `long` there. Those are what others wait for; small ones run beside them.
    #[must_use]
    pub fn of(size: Size, long: bool) -> Self {
        if size == Size::Big || long { Self::All } else { Self::Share }
    }
}

/// When a job may be emulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emulation {
    /// Never: it waits for native hardware, or fails.
    Never,
    /// If no native hardware is there, or none was free for long enough.
    #[default]
    Fallback,
    /// Also if it ends sooner than on native hardware, by the durations of earlier builds.
    WhenFaster,
}

impl Emulation {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Fallback => "fallback",
            Self::WhenFaster => "when-faster",
        }
    }
}

/// What makes two requests the same job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// The derivation.
    pub drv_path: StorePath,
    /// Names of the wanted outputs, such as `out`; [`JobKey::ALL_OUTPUTS`] alone stands
    /// for all of them.
    pub outputs: BTreeSet<String>,
    /// How it is built.
    pub mode: Mode,
    /// Where it may be built.
    #[serde(default)]
    pub site: Site,
}

impl JobKey {
    /// Stands alone for all outputs of a derivation.
    pub const ALL_OUTPUTS: &str = "*";

    /// The same job, on the node that was asked to build it.
    #[must_use]
    pub fn over_there(&self) -> Self {
        Self { site: Site::Here, ..self.clone() }
    }

    /// The short name of this job: the first 80 bits of a SHA-256 over the key, in nixbase32.
    #[must_use]
    pub fn id(&self) -> JobId {
        let mut hash = Sha256::new();
        hash.update(self.drv_path.to_string());
        for output in &self.outputs {
            hash.update([0]);
            hash.update(output);
        }
        hash.update([0, self.mode as u8]);
        if self.site == Site::Elsewhere {
            hash.update(b"elsewhere");
        }
        JobId(nixbase32::encode(&hash.finalize()[..10]))
    }
}

/// The short name of a job: 16 characters of nixbase32, safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no job id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job id: expected 16 characters of 0-9 and a-z without e, o, t and u")]
pub struct InvalidJobId(String);

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = |c: u8| c.is_ascii_digit() || (c.is_ascii_lowercase() && !b"eotu".contains(&c));
        if text.len() == 16 && text.bytes().all(valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidJobId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// Who asked: for fairness and display, never for access control.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Client {
    /// What `roost jobs` shows, such as `alice (pid 4711)` or `ssh from 192.168.1.7`.
    pub label: String,
}

/// What is to be built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// The derivation itself, as a build hook sends it; its `.drv` need not be in the store.
    Derivation(Box<BasicDerivation>),
    /// A derived path as on the wire (`/nix/store/….drv!out`); the `.drv` is in the store.
    Target(String),
}

/// Whether a finished job's outputs are still kept from garbage collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outputs {
    /// Held: nobody has fetched them yet.
    Held,
    /// Fetched, failed, or held long enough.
    Released,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum JobState {
    /// Accepted and on disk; waits for a slot.
    Queued,
    /// Given to an executor.
    Running {
        /// The executor: this node's own id, or a board's.
        node: String,
        /// When, in seconds since 1970.
        since_s: u64,
    },
    /// Ended.
    Done {
        /// As the executor gave it.
        result: Box<BuildResult>,
        /// The executor that gave it.
        node: Option<String>,
        /// When, in seconds since 1970.
        at_s: u64,
        /// Whether the outputs are still held.
        outputs: Outputs,
    },
}

/// One line of a job's story: a decision with its reason, a death, a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// In plain words.
    pub text: String,
}

/// A job's record: what the queue keeps and everything but the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its identity.
    pub key: JobKey,
    /// The derivation's name without `.drv`.
    pub name: String,
    /// Nix's word for what it runs on, such as `riscv64-linux`.
    pub system: String,
    /// `requiredSystemFeatures`.
    pub features: BTreeSet<String>,
    /// What its derivation says of how long it takes.
    #[serde(default)]
    pub size: Size,
    /// Who asked first.
    pub client: Client,
    /// When it was accepted, in seconds since 1970.
    pub accepted_s: u64,
    /// How often an executor died under it.
    pub deaths: u32,
    /// Whether another node sent it here as its executor: then it is built here or refused, and
    /// never sent on.
    #[serde(default)]
    pub forwarded: bool,
    /// Where who asked first wants it to be built; rules of the configuration are no part of it.
    #[serde(default)]
    pub demand: Demand,
    /// How it runs, or ran last.
    #[serde(default)]
    pub how: How,
    /// How long its last build took, in milliseconds, as seen from here: without waiting and
    /// without the transfer of inputs and outputs.
    #[serde(default)]
    pub build_ms: Option<u64>,
    /// When it reached its stages.
    #[serde(default)]
    pub course: Course,
    /// Where it stands.
    pub state: JobState,
    /// Its story, oldest first, at most [`Job::MAX_NOTES`].
    pub notes: Vec<Note>,
}

impl Job {
    /// Notes kept; the oldest but the first go when there are more.
    pub const MAX_NOTES: usize = 32;

    /// Its short name.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.key.id()
    }

    /// Adds a line to the story.
    pub fn note(&mut self, at_s: u64, text: impl Into<String>) {
        if self.notes.len() >= Self::MAX_NOTES {
            self.notes.remove(1);
        }
        self.notes.push(Note { at_s, text: text.into() });
    }
}

/// The store paths that a result says were made. Realisations are JSON whose `outPath` is a path's
/// name in the store (Nix's `realisation.cc`), or the path; what cannot be read is left out.
#[must_use]
pub fn realised_paths(result: &BuildResult) -> BTreeSet<StorePath> {
    #[derive(Deserialize)]
    struct Realised {
        #[serde(rename = "outPath")]
        out_path: String,
    }
    let parse = |json: &str| {
        let Realised { out_path } = serde_json::from_str(json).ok()?;
        StorePath::from_base_name(out_path.rsplit('/').next()?).ok()
    };
    result.built_outputs.values().filter_map(|realisation| parse(&realisation.0)).collect()
}
