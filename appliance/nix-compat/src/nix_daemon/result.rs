use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use super::{MAX_LOG_TEXT, ProtocolVersion};
use crate::{
    store_path::StorePath,
    wire::{
        Bounded, MAX_TEXT, MAX_WORD, WireError, read_bool, read_bytes, read_count, read_i64,
        read_store_path_set, read_string, read_string_map, read_u64, write_bool, write_bytes,
        write_i64, write_store_path_set, write_u64,
    },
};

/// Outcome of a build, with Nix's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum BuildStatus {
    Built = 0,
    Substituted = 1,
    AlreadyValid = 2,
    PermanentFailure = 3,
    InputRejected = 4,
    OutputRejected = 5,
    TransientFailure = 6,
    CachedFailure = 7,
    TimedOut = 8,
    MiscFailure = 9,
    DependencyFailed = 10,
    LogLimitExceeded = 11,
    NotDeterministic = 12,
    ResolvesToAlreadyValid = 13,
    NoSubstituters = 14,
}

impl BuildStatus {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Built,
        Self::Substituted,
        Self::AlreadyValid,
        Self::PermanentFailure,
        Self::InputRejected,
        Self::OutputRejected,
        Self::TransientFailure,
        Self::CachedFailure,
        Self::TimedOut,
        Self::MiscFailure,
        Self::DependencyFailed,
        Self::LogLimitExceeded,
        Self::NotDeterministic,
        Self::ResolvesToAlreadyValid,
        Self::NoSubstituters,
    ];

    /// The status with this number.
    ///
    /// # Errors
    /// [`WireError::UnknownTag`], if there is none.
    pub fn from_u64(tag: u64) -> Result<Self, WireError> {
        usize::try_from(tag)
            .ok()
            .and_then(|n| Self::ALL.get(n).copied())
            .ok_or(WireError::UnknownTag { what: "the status of a build", tag })
    }

    /// Whether the outputs are there.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(
            self,
            Self::Built | Self::Substituted | Self::AlreadyValid | Self::ResolvesToAlreadyValid
        )
    }

    /// In words, such as `timed out`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Substituted => "substituted",
            Self::AlreadyValid => "already valid",
            Self::PermanentFailure => "failed",
            Self::InputRejected => "input rejected",
            Self::OutputRejected => "output rejected",
            Self::TransientFailure => "failed, may pass",
            Self::CachedFailure => "failed before",
            Self::TimedOut => "timed out",
            Self::MiscFailure => "could not be built",
            Self::DependencyFailed => "dependency failed",
            Self::LogLimitExceeded => "log limit exceeded",
            Self::NotDeterministic => "not deterministic",
            Self::ResolvesToAlreadyValid => "resolves to already valid",
            Self::NoSubstituters => "no substituters",
        }
    }
}

/// A realisation as its JSON text, passed on unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realisation(pub String);

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// Outcome.
    pub status: BuildStatus,
    /// What failed, as text; empty on success.
    pub error_msg: Vec<u8>,
    /// Times built.
    pub times_built: u64,
    /// Whether a check found a difference.
    pub is_non_deterministic: bool,
    /// Seconds since 1970.
    pub start_time_s: u64,
    /// Seconds since 1970.
    pub stop_time_s: u64,
    /// User CPU microseconds (>= 1.37).
    pub cpu_user_us: Option<i64>,
    /// System CPU microseconds (>= 1.37).
    pub cpu_system_us: Option<i64>,
    /// Realisations by drv output id (`sha256:…!out`).
    pub built_outputs: BTreeMap<String, Realisation>,
}

impl BuildResult {
    /// A result without outputs: a failure with its reason, or a success without a text.
    pub fn failure(status: BuildStatus, error_msg: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            error_msg: error_msg.into(),
            times_built: 0,
            is_non_deterministic: false,
            start_time_s: 0,
            stop_time_s: 0,
            cpu_user_us: None,
            cpu_system_us: None,
            built_outputs: BTreeMap::new(),
        }
    }

    /// Whether the outputs are there.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Reads a result.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read<R: AsyncRead + Unpin>(
        r: &mut R,
        version: ProtocolVersion,
    ) -> Result<Self, WireError> {
        let r = &mut Bounded::new(r);
        let mut result = Self::read_outcome(r).await?;
        result.read_times(r).await?;
        if version.has_cpu_times() {
            result.cpu_user_us = read_cpu_time(r).await?;
            result.cpu_system_us = read_cpu_time(r).await?;
        }
        result.read_outputs(r).await?;
        Ok(result)
    }

    /// Appends the result.
    pub fn write(&self, out: &mut Vec<u8>, version: ProtocolVersion) {
        self.write_outcome(out);
        self.write_times(out);
        if version.has_cpu_times() {
            write_cpu_time(out, self.cpu_user_us);
            write_cpu_time(out, self.cpu_system_us);
        }
        self.write_outputs(out);
    }

    pub(crate) async fn read_outcome<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let status = BuildStatus::from_u64(read_u64(r, "the status of a build").await?)?;
        Ok(Self::failure(status, read_bytes(r, "the error of a build", MAX_LOG_TEXT).await?))
    }

    pub(crate) async fn read_times<R: AsyncRead + Unpin>(
        &mut self,
        r: &mut R,
    ) -> Result<(), WireError> {
        self.times_built = read_u64(r, "how often a derivation was built").await?;
        self.is_non_deterministic = read_bool(r, "whether a build differs").await?;
        self.start_time_s = read_u64(r, "the start of a build").await?;
        self.stop_time_s = read_u64(r, "the end of a build").await?;
        Ok(())
    }

    pub(crate) async fn read_outputs<R: AsyncRead + Unpin>(
        &mut self,
        r: &mut R,
    ) -> Result<(), WireError> {
        let outputs = read_string_map(r, "the outputs of a build", MAX_WORD).await?;
        self.built_outputs =
            outputs.into_iter().map(|(id, json)| (id, Realisation(json))).collect();
        Ok(())
    }

    pub(crate) fn write_outcome(&self, out: &mut Vec<u8>) {
        write_u64(out, self.status as u64);
        write_bytes(out, &self.error_msg);
    }

    pub(crate) fn write_times(&self, out: &mut Vec<u8>) {
        write_u64(out, self.times_built);
        write_bool(out, self.is_non_deterministic);
        write_u64(out, self.start_time_s);
        write_u64(out, self.stop_time_s);
    }

    pub(crate) fn write_outputs(&self, out: &mut Vec<u8>) {
        write_u64(out, self.built_outputs.len() as u64);
        for (id, Realisation(json)) in &self.built_outputs {
            write_bytes(out, id);
            write_bytes(out, json);
        }
    }
}

async fn read_cpu_time<R: AsyncRead + Unpin>(r: &mut R) -> Result<Option<i64>, WireError> {
    match read_bool(r, "whether a build's CPU time is known").await? {
        true => Ok(Some(read_i64(r, "the CPU time of a build").await?)),
        false => Ok(None),
    }
}

fn write_cpu_time(out: &mut Vec<u8>, time_us: Option<i64>) {
    write_bool(out, time_us.is_some());
    if let Some(time_us) = time_us {
        write_i64(out, time_us);
    }
}

/// Reads the reply to [`BuildPathsWithResults`](super::Operation::BuildPathsWithResults): targets
/// as in the request, with their results.
///
/// # Errors
/// [`WireError`].
pub async fn read_keyed_results<R: AsyncRead + Unpin>(
    r: &mut R,
    version: ProtocolVersion,
) -> Result<Vec<(String, BuildResult)>, WireError> {
    let r = &mut Bounded::new(r);
    let mut results = Vec::new();
    for _ in 0..read_count(r, "the results of builds").await? {
        let target = read_string(r, "the target of a result", MAX_WORD).await?;
        results.push((target, BuildResult::read(r, version).await?));
    }
    Ok(results)
}

/// Appends the reply to [`BuildPathsWithResults`](super::Operation::BuildPathsWithResults).
pub fn write_keyed_results(
    out: &mut Vec<u8>,
    results: &[(String, BuildResult)],
    version: ProtocolVersion,
) {
    write_u64(out, results.len() as u64);
    for (target, result) in results {
        write_bytes(out, target);
        result.write(out, version);
    }
}

/// Reads the reply to [`QueryRealisation`](super::Operation::QueryRealisation).
///
/// # Errors
/// [`WireError`].
pub async fn read_realisations<R: AsyncRead + Unpin>(
    r: &mut R,
) -> Result<Vec<Realisation>, WireError> {
    let r = &mut Bounded::new(r);
    let mut realisations = Vec::new();
    for _ in 0..read_count(r, "the realisations of an output").await? {
        realisations.push(Realisation(read_string(r, "a realisation", MAX_TEXT).await?));
    }
    Ok(realisations)
}

/// Appends the reply to [`QueryRealisation`](super::Operation::QueryRealisation).
pub fn write_realisations(out: &mut Vec<u8>, realisations: &[Realisation]) {
    write_u64(out, realisations.len() as u64);
    for Realisation(json) in realisations {
        write_bytes(out, json);
    }
}

/// What building some targets would take: the reply to
/// [`QueryMissing`](super::Operation::QueryMissing).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Derivations that would be built.
    pub will_build: BTreeSet<StorePath>,
    /// Paths that would be fetched from a binary cache.
    pub will_substitute: BTreeSet<StorePath>,
    /// Paths of which nothing is known.
    pub unknown: BTreeSet<StorePath>,
    /// What fetching would transfer, in bytes.
    pub download_size: u64,
    /// What it would unpack to, in bytes.
    pub nar_size: u64,
}

impl Missing {
    /// Reads the reply.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let r = &mut Bounded::new(r);
        Ok(Self {
            will_build: read_store_path_set(r, "the derivations to build").await?,
            will_substitute: read_store_path_set(r, "the paths to substitute").await?,
            unknown: read_store_path_set(r, "the unknown paths").await?,
            download_size: read_u64(r, "the size to download").await?,
            nar_size: read_u64(r, "the size to unpack").await?,
        })
    }

    /// Appends the reply.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_store_path_set(out, &self.will_build);
        write_store_path_set(out, &self.will_substitute);
        write_store_path_set(out, &self.unknown);
        write_u64(out, self.download_size);
        write_u64(out, self.nar_size);
    }
}
