use tokio::io::AsyncRead;

use super::ServeVersion;
use crate::{
    nix_daemon::{BuildResult, MAX_LOG_TEXT, PathInfo, read_nar_hash},
    nixhash::{HashAlgo, NixHash},
    wire::{
        Bounded, MAX_WORD, WireError, read_bytes, read_optional_store_path, read_store_path_set,
        read_string, read_string_set, read_u64, write_bytes, write_optional_store_path,
        write_store_path_set, write_string_set, write_u64,
    },
};

/// Appends the reply to `QueryPathInfos`. The protocol does not carry
/// [`PathInfo::registration_time_s`] and [`PathInfo::ultimate`].
pub fn write_path_infos<'a>(out: &mut Vec<u8>, infos: impl IntoIterator<Item = &'a PathInfo>) {
    for info in infos {
        write_bytes(out, info.path.as_str());
        write_optional_store_path(out, info.deriver.as_ref());
        write_store_path_set(out, &info.references);
        // What a download would transfer: nothing is compressed.
        write_u64(out, info.nar_size);
        write_u64(out, info.nar_size);
        write_bytes(out, nar_hash_to_nix32(&info.nar_hash));
        write_bytes(out, &info.ca);
        write_string_set(out, &info.signatures);
    }
    write_bytes(out, "");
}

/// Reads the reply to `QueryPathInfos`.
///
/// # Errors
/// [`WireError`].
pub async fn read_path_infos<R: AsyncRead + Unpin>(r: &mut R) -> Result<Vec<PathInfo>, WireError> {
    let r = &mut Bounded::new(r);
    let mut infos = Vec::new();
    while let Some(info) = read_path_info(r).await? {
        infos.push(info);
    }
    Ok(infos)
}

async fn read_path_info<R: AsyncRead + Unpin>(r: &mut R) -> Result<Option<PathInfo>, WireError> {
    let Some(path) = read_optional_store_path(r, "the path of a path info").await? else {
        return Ok(None);
    };
    let deriver = read_optional_store_path(r, "the deriver of a path").await?;
    let references = read_store_path_set(r, "the references of a path").await?;
    read_u64(r, "the download size of a path").await?;
    Ok(Some(PathInfo {
        path,
        deriver,
        references,
        registration_time_s: 0,
        nar_size: read_u64(r, "the NAR size of a path").await?,
        ultimate: false,
        nar_hash: read_nar_hash(r).await?,
        ca: read_string(r, "the content address of a path", MAX_WORD).await?,
        signatures: read_string_set(r, "the signatures of a path").await?,
    }))
}

/// The notation of the serve protocol. What is no hash stays as it is; the peer will refuse it.
fn nar_hash_to_nix32(nar_hash: &str) -> String {
    NixHash::parse_any(HashAlgo::Sha256, nar_hash)
        .map_or_else(|_| nar_hash.to_owned(), |hash| hash.to_nix32())
}

/// Appends the reply to `BuildDerivation`. The protocol does not carry CPU times.
pub fn write_build_result(out: &mut Vec<u8>, result: &BuildResult, version: ServeVersion) {
    result.write_outcome(out);
    result.write_times(out);
    if version.has_realisations() {
        result.write_outputs(out);
    }
}

/// Reads the reply to `BuildDerivation`.
///
/// # Errors
/// [`WireError`].
pub async fn read_build_result<R: AsyncRead + Unpin>(
    r: &mut R,
    version: ServeVersion,
) -> Result<BuildResult, WireError> {
    let r = &mut Bounded::new(r);
    let mut result = BuildResult::read_outcome(r).await?;
    result.read_times(r).await?;
    if version.has_realisations() {
        result.read_outputs(r).await?;
    }
    Ok(result)
}

/// Why `BuildPaths` failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", String::from_utf8_lossy(.message))]
pub struct BuildFailure {
    /// The exit status `nix-store` would have, not 0: 100 for a failed build, 101 for one that timed
    /// out, 102 for a hash that is not as promised, 104 for one that is not deterministic, 1 for
    /// anything else.
    pub exit_status: u64,
    /// Text.
    pub message: Vec<u8>,
}

/// Appends the reply to `BuildPaths`.
pub fn write_build_paths_reply(out: &mut Vec<u8>, reply: &Result<(), BuildFailure>) {
    match reply {
        Ok(()) => write_u64(out, 0),
        Err(failure) => {
            write_u64(out, failure.exit_status);
            write_bytes(out, &failure.message);
        }
    }
}

/// Reads the reply to `BuildPaths`.
///
/// # Errors
/// [`WireError`].
pub async fn read_build_paths_reply<R: AsyncRead + Unpin>(
    r: &mut R,
) -> Result<Result<(), BuildFailure>, WireError> {
    match read_u64(r, "the status of a build").await? {
        0 => Ok(Ok(())),
        exit_status => {
            let message = read_bytes(r, "the error of a build", MAX_LOG_TEXT).await?;
            Ok(Err(BuildFailure { exit_status, message }))
        }
    }
}
