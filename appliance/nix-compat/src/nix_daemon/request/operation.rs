use crate::wire::WireError;

/// An operation, with its number on the wire. Those that Nix has removed are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Operation {
    IsValidPath = 1,
    QueryReferrers = 6,
    AddToStore = 7,
    AddTextToStore = 8,
    BuildPaths = 9,
    EnsurePath = 10,
    AddTempRoot = 11,
    AddIndirectRoot = 12,
    SyncWithGc = 13,
    FindRoots = 14,
    QueryDeriver = 18,
    SetOptions = 19,
    CollectGarbage = 20,
    QuerySubstitutablePathInfo = 21,
    QueryDerivationOutputs = 22,
    QueryAllValidPaths = 23,
    QueryPathInfo = 26,
    QueryDerivationOutputNames = 28,
    QueryPathFromHashPart = 29,
    QuerySubstitutablePathInfos = 30,
    QueryValidPaths = 31,
    QuerySubstitutablePaths = 32,
    QueryValidDerivers = 33,
    OptimiseStore = 34,
    VerifyStore = 35,
    BuildDerivation = 36,
    AddSignatures = 37,
    NarFromPath = 38,
    AddToStoreNar = 39,
    QueryMissing = 40,
    QueryDerivationOutputMap = 41,
    RegisterDrvOutput = 42,
    QueryRealisation = 43,
    AddMultipleToStore = 44,
    AddBuildLog = 45,
    BuildPathsWithResults = 46,
    AddPermRoot = 47,
}

impl Operation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 37] = [
        Self::IsValidPath,
        Self::QueryReferrers,
        Self::AddToStore,
        Self::AddTextToStore,
        Self::BuildPaths,
        Self::EnsurePath,
        Self::AddTempRoot,
        Self::AddIndirectRoot,
        Self::SyncWithGc,
        Self::FindRoots,
        Self::QueryDeriver,
        Self::SetOptions,
        Self::CollectGarbage,
        Self::QuerySubstitutablePathInfo,
        Self::QueryDerivationOutputs,
        Self::QueryAllValidPaths,
        Self::QueryPathInfo,
        Self::QueryDerivationOutputNames,
        Self::QueryPathFromHashPart,
        Self::QuerySubstitutablePathInfos,
        Self::QueryValidPaths,
        Self::QuerySubstitutablePaths,
        Self::QueryValidDerivers,
        Self::OptimiseStore,
        Self::VerifyStore,
        Self::BuildDerivation,
        Self::AddSignatures,
        Self::NarFromPath,
        Self::AddToStoreNar,
        Self::QueryMissing,
        Self::QueryDerivationOutputMap,
        Self::RegisterDrvOutput,
        Self::QueryRealisation,
        Self::AddMultipleToStore,
        Self::AddBuildLog,
        Self::BuildPathsWithResults,
        Self::AddPermRoot,
    ];

    /// The operation with this number.
    ///
    /// # Errors
    /// [`WireError::UnknownOperation`], if there is none, or none any more.
    pub fn from_u64(number: u64) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.to_u64() == number)
            .ok_or(WireError::UnknownOperation(number))
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self as u64
    }

    /// Whether the request goes on with a framed stream.
    #[must_use]
    pub const fn has_framed_payload(self) -> bool {
        matches!(
            self,
            Self::AddToStore | Self::AddToStoreNar | Self::AddMultipleToStore | Self::AddBuildLog
        )
    }
}
