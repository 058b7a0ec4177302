//! Requests, their shapes and their numbers.

mod operation;
mod options;
mod read;
mod write;

pub use operation::Operation;
pub use options::{BuildMode, ClientOptions, CollectGarbage};

use std::collections::{BTreeMap, BTreeSet};

use super::{PathInfo, Realisation};
use crate::{derivation::BasicDerivation, store_path::StorePath};

/// A request, without the framed stream that follows some ([`Request::has_framed_payload`]).
///
/// Targets are derived paths as text: a store path, or a derivation's with `!` and output names
/// separated by commas, or `!*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whether a path is valid. Reply: truth value.
    IsValidPath(StorePath),
    /// Reply: set of paths.
    QueryReferrers(StorePath),
    /// Adds a file system object; it follows framed. Reply: keyed path info.
    AddToStore {
        /// Name of the path.
        name: String,
        /// Content address method, such as `fixed:r:sha256`.
        method: String,
        /// What it refers to.
        references: BTreeSet<StorePath>,
        /// Replace it if it is there.
        repair: bool,
    },
    /// Adds a text file. Reply: path.
    AddTextToStore {
        /// Name of the path.
        name: String,
        /// Its content.
        text: Vec<u8>,
        /// What it refers to.
        references: BTreeSet<StorePath>,
    },
    /// Builds targets. Reply: 1.
    BuildPaths {
        /// What to build.
        targets: Vec<String>,
        /// How.
        mode: BuildMode,
    },
    /// Makes a path valid by fetching it. Reply: 1.
    EnsurePath(StorePath),
    /// Protects a path while the connection lasts. Reply: 1.
    AddTempRoot(StorePath),
    /// Registers a symbolic link outside the store as a root. Reply: 1.
    AddIndirectRoot(String),
    /// Reply: 1.
    SyncWithGc,
    /// Reply: count times link, path.
    FindRoots,
    /// Reply: path or empty.
    QueryDeriver(StorePath),
    /// Settings for the connection. No reply.
    SetOptions(Box<ClientOptions>),
    /// Reply: list of paths, bytes freed, 0.
    CollectGarbage(CollectGarbage),
    /// Reply: 0, or 1, deriver, references, download size, NAR size.
    QuerySubstitutablePathInfo(StorePath),
    /// Reply: set of paths.
    QueryDerivationOutputs(StorePath),
    /// Reply: set of paths.
    QueryAllValidPaths,
    /// Reply: 0, or 1 and unkeyed path info.
    QueryPathInfo(StorePath),
    /// Reply: set of strings.
    QueryDerivationOutputNames(StorePath),
    /// Reply: path or empty.
    QueryPathFromHashPart(String),
    /// What binary caches know of paths with these content addresses (or empty). Reply: count times
    /// path, deriver, references, download size, NAR size.
    QuerySubstitutablePathInfos(BTreeMap<StorePath, String>),
    /// Which of these are valid. Reply: set of paths.
    QueryValidPaths {
        /// The paths asked for.
        paths: BTreeSet<StorePath>,
        /// Fetch those that are not, if possible.
        substitute: bool,
    },
    /// Reply: set of paths.
    QuerySubstitutablePaths(BTreeSet<StorePath>),
    /// Reply: set of paths.
    QueryValidDerivers(StorePath),
    /// Reply: 1.
    OptimiseStore,
    /// Reply: whether there were errors.
    VerifyStore {
        /// Compute all hashes.
        check_contents: bool,
        /// Fix what is wrong.
        repair: bool,
    },
    /// Builds a derivation that need not be in the store. Reply: build result.
    BuildDerivation {
        /// Its path.
        drv_path: StorePath,
        /// The derivation itself.
        drv: Box<BasicDerivation>,
        /// How.
        mode: BuildMode,
    },
    /// Reply: 1.
    AddSignatures {
        /// The path.
        path: StorePath,
        /// Signatures to add.
        signatures: BTreeSet<String>,
    },
    /// Reply: the NAR, without a length.
    NarFromPath(StorePath),
    /// Adds a path; its NAR follows framed. No reply.
    AddToStoreNar {
        /// The path.
        info: Box<PathInfo>,
        /// Replace it if it is there.
        repair: bool,
        /// Do without signatures; for trusted clients.
        dont_check_sigs: bool,
    },
    /// What building targets would take. Reply: [`Missing`](super::Missing).
    QueryMissing(Vec<String>),
    /// Reply: count times output name, path or empty.
    QueryDerivationOutputMap(StorePath),
    /// No reply.
    RegisterDrvOutput(Realisation),
    /// Realisations of `sha256:…!out`. Reply: [`read_realisations`](super::read_realisations).
    QueryRealisation(String),
    /// Adds paths; count times keyed path info and NAR follow framed. No reply.
    AddMultipleToStore {
        /// Replace those that are there.
        repair: bool,
        /// Do without signatures; for trusted clients.
        dont_check_sigs: bool,
    },
    /// Adds the log of a derivation, named without its directory; it follows framed. Reply: 1.
    AddBuildLog(String),
    /// Builds targets. Reply: [`read_keyed_results`](super::read_keyed_results).
    BuildPathsWithResults {
        /// What to build.
        targets: Vec<String>,
        /// How.
        mode: BuildMode,
    },
    /// Makes a root. Reply: the link.
    AddPermRoot {
        /// The path.
        path: StorePath,
        /// Where to put the symbolic link.
        link: String,
    },
}

impl Request {
    /// Which operation it asks for.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::IsValidPath(_) => Operation::IsValidPath,
            Self::QueryReferrers(_) => Operation::QueryReferrers,
            Self::AddToStore { .. } => Operation::AddToStore,
            Self::AddTextToStore { .. } => Operation::AddTextToStore,
            Self::BuildPaths { .. } => Operation::BuildPaths,
            Self::EnsurePath(_) => Operation::EnsurePath,
            Self::AddTempRoot(_) => Operation::AddTempRoot,
            Self::AddIndirectRoot(_) => Operation::AddIndirectRoot,
            Self::SyncWithGc => Operation::SyncWithGc,
            Self::FindRoots => Operation::FindRoots,
            Self::QueryDeriver(_) => Operation::QueryDeriver,
            Self::SetOptions(_) => Operation::SetOptions,
            Self::CollectGarbage(_) => Operation::CollectGarbage,
            Self::QuerySubstitutablePathInfo(_) => Operation::QuerySubstitutablePathInfo,
            Self::QueryDerivationOutputs(_) => Operation::QueryDerivationOutputs,
            Self::QueryAllValidPaths => Operation::QueryAllValidPaths,
            Self::QueryPathInfo(_) => Operation::QueryPathInfo,
            Self::QueryDerivationOutputNames(_) => Operation::QueryDerivationOutputNames,
            Self::QueryPathFromHashPart(_) => Operation::QueryPathFromHashPart,
            Self::QuerySubstitutablePathInfos(_) => Operation::QuerySubstitutablePathInfos,
            Self::QueryValidPaths { .. } => Operation::QueryValidPaths,
            Self::QuerySubstitutablePaths(_) => Operation::QuerySubstitutablePaths,
            Self::QueryValidDerivers(_) => Operation::QueryValidDerivers,
            Self::OptimiseStore => Operation::OptimiseStore,
            Self::VerifyStore { .. } => Operation::VerifyStore,
            Self::BuildDerivation { .. } => Operation::BuildDerivation,
            Self::AddSignatures { .. } => Operation::AddSignatures,
            Self::NarFromPath(_) => Operation::NarFromPath,
            Self::AddToStoreNar { .. } => Operation::AddToStoreNar,
            Self::QueryMissing(_) => Operation::QueryMissing,
            Self::QueryDerivationOutputMap(_) => Operation::QueryDerivationOutputMap,
            Self::RegisterDrvOutput(_) => Operation::RegisterDrvOutput,
            Self::QueryRealisation(_) => Operation::QueryRealisation,
            Self::AddMultipleToStore { .. } => Operation::AddMultipleToStore,
            Self::AddBuildLog(_) => Operation::AddBuildLog,
            Self::BuildPathsWithResults { .. } => Operation::BuildPathsWithResults,
            Self::AddPermRoot { .. } => Operation::AddPermRoot,
        }
    }

    /// Whether the request goes on with a framed stream.
    #[must_use]
    pub const fn has_framed_payload(&self) -> bool {
        self.operation().has_framed_payload()
    }
}
