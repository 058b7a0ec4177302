use std::collections::{BTreeMap, BTreeSet};

use tokio::io::AsyncRead;

use super::{BuildMode, ClientOptions, CollectGarbage, Operation, Request};
use crate::{
    derivation::BasicDerivation,
    nix_daemon::{PathInfo, ProtocolVersion, Realisation},
    store_path::StorePath,
    wire::{
        Bounded, MAX_TEXT, MAX_WORD, WireError, read_bool, read_bytes, read_count, read_store_path,
        read_store_path_set, read_string, read_string_list, read_string_set, read_u64_or_hang_up,
    },
};

impl Request {
    /// Reads a request; its shape is the same in all versions spoken here. A framed stream that belongs to it is left unread.
    ///
    /// # Errors
    /// [`WireError`]: [`WireError::HungUp`] if the peer hangs up before a request, and
    /// [`WireError::UnknownOperation`] for one that this crate does not know. After any error the
    /// stream is of no further use, since the end of the request is not known.
    pub async fn read<R: AsyncRead + Unpin>(
        r: &mut R,
        _version: ProtocolVersion,
    ) -> Result<Self, WireError> {
        let operation = Operation::from_u64(read_u64_or_hang_up(r, "an operation").await?)?;
        read_shape(&mut Bounded::new(r), operation).await
    }
}

async fn read_shape<R: AsyncRead + Unpin>(r: &mut R, op: Operation) -> Result<Request, WireError> {
    Ok(match op {
        Operation::IsValidPath => Request::IsValidPath(path(r).await?),
        Operation::QueryReferrers => Request::QueryReferrers(path(r).await?),
        Operation::AddToStore => add_to_store(r).await?,
        Operation::AddTextToStore => add_text_to_store(r).await?,
        Operation::BuildPaths => build_paths(r).await?,
        Operation::EnsurePath => Request::EnsurePath(path(r).await?),
        Operation::AddTempRoot => Request::AddTempRoot(path(r).await?),
        Operation::AddIndirectRoot => Request::AddIndirectRoot(word(r, "a root").await?),
        Operation::SyncWithGc => Request::SyncWithGc,
        Operation::FindRoots => Request::FindRoots,
        Operation::QueryDeriver => Request::QueryDeriver(path(r).await?),
        Operation::SetOptions => Request::SetOptions(Box::new(ClientOptions::read(r).await?)),
        Operation::CollectGarbage => Request::CollectGarbage(CollectGarbage::read(r).await?),
        Operation::QuerySubstitutablePathInfo => {
            Request::QuerySubstitutablePathInfo(path(r).await?)
        }
        Operation::QueryDerivationOutputs => Request::QueryDerivationOutputs(path(r).await?),
        Operation::QueryAllValidPaths => Request::QueryAllValidPaths,
        Operation::QueryPathInfo => Request::QueryPathInfo(path(r).await?),
        Operation::QueryDerivationOutputNames => {
            Request::QueryDerivationOutputNames(path(r).await?)
        }
        Operation::QueryPathFromHashPart => {
            Request::QueryPathFromHashPart(word(r, "a hash").await?)
        }
        Operation::QuerySubstitutablePathInfos => substitutable_path_infos(r).await?,
        Operation::QueryValidPaths => query_valid_paths(r).await?,
        Operation::QuerySubstitutablePaths => Request::QuerySubstitutablePaths(paths(r).await?),
        Operation::QueryValidDerivers => Request::QueryValidDerivers(path(r).await?),
        Operation::OptimiseStore => Request::OptimiseStore,
        Operation::VerifyStore => verify_store(r).await?,
        Operation::BuildDerivation => build_derivation(r).await?,
        Operation::AddSignatures => add_signatures(r).await?,
        Operation::NarFromPath => Request::NarFromPath(path(r).await?),
        Operation::AddToStoreNar => add_to_store_nar(r).await?,
        Operation::QueryMissing => Request::QueryMissing(targets(r).await?),
        Operation::QueryDerivationOutputMap => Request::QueryDerivationOutputMap(path(r).await?),
        Operation::RegisterDrvOutput => Request::RegisterDrvOutput(realisation(r).await?),
        Operation::QueryRealisation => Request::QueryRealisation(word(r, "an output id").await?),
        Operation::AddMultipleToStore => add_multiple_to_store(r).await?,
        Operation::AddBuildLog => Request::AddBuildLog(word(r, "the name of a derivation").await?),
        Operation::BuildPathsWithResults => build_paths_with_results(r).await?,
        Operation::AddPermRoot => add_perm_root(r).await?,
    })
}

async fn add_to_store<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddToStore {
        name: word(r, "the name of a path").await?,
        method: word(r, "a content address method").await?,
        references: paths(r).await?,
        repair: repair(r).await?,
    })
}

async fn add_text_to_store<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddTextToStore {
        name: word(r, "the name of a path").await?,
        text: read_bytes(r, "a text to store", MAX_TEXT).await?,
        references: paths(r).await?,
    })
}

async fn build_paths<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::BuildPaths { targets: targets(r).await?, mode: BuildMode::read(r).await? })
}

async fn build_paths_with_results<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::BuildPathsWithResults {
        targets: targets(r).await?,
        mode: BuildMode::read(r).await?,
    })
}

async fn build_derivation<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::BuildDerivation {
        drv_path: path(r).await?,
        drv: Box::new(BasicDerivation::read(r).await?),
        mode: BuildMode::read(r).await?,
    })
}

async fn substitutable_path_infos<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    let mut addresses = BTreeMap::new();
    for _ in 0..read_count(r, "the paths of a request").await? {
        let path = path(r).await?;
        addresses.insert(path, word(r, "a content address").await?);
    }
    Ok(Request::QuerySubstitutablePathInfos(addresses))
}

async fn query_valid_paths<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::QueryValidPaths {
        paths: paths(r).await?,
        substitute: read_bool(r, "whether to substitute").await?,
    })
}

async fn verify_store<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::VerifyStore {
        check_contents: read_bool(r, "whether to check contents").await?,
        repair: repair(r).await?,
    })
}

async fn add_signatures<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddSignatures {
        path: path(r).await?,
        signatures: read_string_set(r, "the signatures of a path").await?,
    })
}

async fn add_to_store_nar<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddToStoreNar {
        info: Box::new(PathInfo::read(r).await?),
        repair: repair(r).await?,
        dont_check_sigs: dont_check_sigs(r).await?,
    })
}

async fn add_multiple_to_store<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddMultipleToStore {
        repair: repair(r).await?,
        dont_check_sigs: dont_check_sigs(r).await?,
    })
}

async fn add_perm_root<R: AsyncRead + Unpin>(r: &mut R) -> Result<Request, WireError> {
    Ok(Request::AddPermRoot { path: path(r).await?, link: word(r, "a root").await? })
}

async fn path<R: AsyncRead + Unpin>(r: &mut R) -> Result<StorePath, WireError> {
    read_store_path(r, "the path of a request").await
}

async fn paths<R: AsyncRead + Unpin>(r: &mut R) -> Result<BTreeSet<StorePath>, WireError> {
    read_store_path_set(r, "the paths of a request").await
}

async fn targets<R: AsyncRead + Unpin>(r: &mut R) -> Result<Vec<String>, WireError> {
    read_string_list(r, "the targets of a request").await
}

async fn word<R: AsyncRead + Unpin>(r: &mut R, what: &'static str) -> Result<String, WireError> {
    read_string(r, what, MAX_WORD).await
}

async fn realisation<R: AsyncRead + Unpin>(r: &mut R) -> Result<Realisation, WireError> {
    Ok(Realisation(read_string(r, "a realisation", MAX_TEXT).await?))
}

async fn repair<R: AsyncRead + Unpin>(r: &mut R) -> Result<bool, WireError> {
    read_bool(r, "whether to repair").await
}

async fn dont_check_sigs<R: AsyncRead + Unpin>(r: &mut R) -> Result<bool, WireError> {
    read_bool(r, "whether to do without signatures").await
}
