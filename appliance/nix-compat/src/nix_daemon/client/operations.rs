use std::collections::BTreeSet;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Client, ClientError, MessageSink, NarReader, resume::Resume, send};
use crate::{
    derivation::BasicDerivation,
    nar::{NarScanner, copy_nar},
    nix_daemon::{
        BuildMode, BuildResult, ClientOptions, CollectGarbage, Missing, PathInfo, Realisation,
        Request, read_keyed_results, read_realisations,
    },
    store_path::StorePath,
    wire::{
        Bounded, MAX_TEXT, WireError, read_bool, read_count, read_store_path_set, read_string,
        read_u64,
    },
};

/// Most requests sent ahead of their replies.
const PIPELINED: usize = 256;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Client<R, W> {
    /// Changes settings for the rest of the connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_options(
        &mut self,
        options: &ClientOptions,
        sink: &mut impl MessageSink,
    ) -> Result<(), ClientError> {
        self.call(&Request::SetOptions(Box::new(options.clone())), sink).await?;
        self.finish(Ok(()))
    }

    /// Whether the path is in the store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn is_valid_path(
        &mut self,
        path: &StorePath,
        sink: &mut impl MessageSink,
    ) -> Result<bool, ClientError> {
        let r = self.call(&Request::IsValidPath(path.clone()), sink).await?;
        let valid = read_bool(r, "whether a path is valid").await?;
        self.finish(Ok(valid))
    }

    /// Which of these are in the store; with `substitute`, after trying to fetch the others.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query_valid_paths(
        &mut self,
        paths: &BTreeSet<StorePath>,
        substitute: bool,
        sink: &mut impl MessageSink,
    ) -> Result<BTreeSet<StorePath>, ClientError> {
        let request = Request::QueryValidPaths { paths: paths.clone(), substitute };
        let r = self.call(&request, sink).await?;
        let valid = read_store_path_set(&mut Bounded::new(r), "the valid paths").await?;
        self.finish(Ok(valid))
    }

    /// What the store knows of a path, if it has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query_path_info(
        &mut self,
        path: &StorePath,
        sink: &mut impl MessageSink,
    ) -> Result<Option<PathInfo>, ClientError> {
        let r = self.call(&Request::QueryPathInfo(path.clone()), sink).await?;
        let info = PathInfo::read_reply(r, path.clone()).await?;
        self.finish(Ok(info))
    }

    /// [`Client::query_path_info`] of many paths: requests are sent ahead of replies, which saves a
    /// round trip for each. In the order of `paths`.
    ///
    /// # Errors
    /// [`ClientError`]; the first, if several requests fail.
    pub async fn query_path_infos(
        &mut self,
        paths: &[StorePath],
        sink: &mut impl MessageSink,
    ) -> Result<Vec<Option<PathInfo>>, ClientError> {
        let mut infos = Vec::with_capacity(paths.len());
        for paths in paths.chunks(PIPELINED) {
            self.begin()?;
            let encode =
                |path: &StorePath| Request::QueryPathInfo(path.clone()).encode(self.version);
            let requests: Vec<u8> = paths.iter().flat_map(encode).collect();
            // At the same time, for the server may stop reading until its replies are read.
            let ((), replies) = tokio::try_join!(
                send(&mut self.writer, &requests),
                read_path_infos(&mut self.reader, paths, sink),
            )?;
            infos.extend(self.finish(replies)?);
        }
        Ok(infos)
    }

    /// Builds a derivation that need not be in the store, for a trusted client (or one whose outputs
    /// are content-addressed). A build that fails is a result, not an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn build_derivation(
        &mut self,
        drv_path: &StorePath,
        drv: &BasicDerivation,
        mode: BuildMode,
        sink: &mut impl MessageSink,
    ) -> Result<BuildResult, ClientError> {
        let (version, drv) = (self.version, Box::new(drv.clone()));
        let request = Request::BuildDerivation { drv_path: drv_path.clone(), drv, mode };
        let r = self.call(&request, sink).await?;
        let result = BuildResult::read(r, version).await?;
        self.finish(Ok(result))
    }

    /// Builds targets: store paths, or derivations with `!` and output names or `!*`. A build that
    /// fails is a result, not an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn build_paths_with_results(
        &mut self,
        targets: &[String],
        mode: BuildMode,
        sink: &mut impl MessageSink,
    ) -> Result<Vec<(String, BuildResult)>, ClientError> {
        let version = self.version;
        let request = Request::BuildPathsWithResults { targets: targets.to_vec(), mode };
        let r = self.call(&request, sink).await?;
        let results = read_keyed_results(r, version).await?;
        self.finish(Ok(results))
    }

    /// Copies the NAR of a path to `w`. Returns its length.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is of no further use if `w` fails.
    pub async fn nar_from_path(
        &mut self,
        path: &StorePath,
        w: &mut (impl AsyncWrite + Unpin),
        sink: &mut impl MessageSink,
    ) -> Result<u64, ClientError> {
        let r = self.call(&Request::NarFromPath(path.clone()), sink).await?;
        let copied = copy_nar(r, w).await?;
        self.finish(Ok(copied))
    }

    /// Opens the NAR of a path, to be read to its end: say, to upload it elsewhere.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_nar(
        &mut self,
        path: &StorePath,
        sink: &mut impl MessageSink,
    ) -> Result<NarReader<'_, R>, ClientError> {
        self.call(&Request::NarFromPath(path.clone()), sink).await?;
        let (reader, state) = (self.reader.get_mut(), &mut self.state);
        Ok(NarReader { reader, state, scanner: NarScanner::new(), scanned: 0 })
    }

    /// Makes a path valid by fetching it from a binary cache, if it is not.
    ///
    /// # Errors
    /// [`ClientError::Nix`] if it cannot be had.
    pub async fn ensure_path(
        &mut self,
        path: &StorePath,
        sink: &mut impl MessageSink,
    ) -> Result<(), ClientError> {
        self.acknowledged(&Request::EnsurePath(path.clone()), sink).await
    }

    /// Protects a path from garbage collection while the connection lasts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_temp_root(
        &mut self,
        path: &StorePath,
        sink: &mut impl MessageSink,
    ) -> Result<(), ClientError> {
        self.acknowledged(&Request::AddTempRoot(path.clone()), sink).await
    }

    /// What building targets would take.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query_missing(
        &mut self,
        targets: &[String],
        sink: &mut impl MessageSink,
    ) -> Result<Missing, ClientError> {
        let r = self.call(&Request::QueryMissing(targets.to_vec()), sink).await?;
        let missing = Missing::read(r).await?;
        self.finish(Ok(missing))
    }

    /// The realisations of an output, `sha256:…!out`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query_realisation(
        &mut self,
        output_id: &str,
        sink: &mut impl MessageSink,
    ) -> Result<Vec<Realisation>, ClientError> {
        let r = self.call(&Request::QueryRealisation(output_id.to_owned()), sink).await?;
        let realisations = read_realisations(r).await?;
        self.finish(Ok(realisations))
    }

    /// Tells the store which path an output has that was built elsewhere. The path must be valid.
    ///
    /// # Errors
    /// [`ClientError::Nix`] if the store does not take it: it needs `ca-derivations`.
    pub async fn register_drv_output(
        &mut self,
        realisation: &Realisation,
        sink: &mut impl MessageSink,
    ) -> Result<(), ClientError> {
        self.call(&Request::RegisterDrvOutput(realisation.clone()), sink).await?;
        self.finish(Ok(()))
    }

    /// Deletes what nothing needs, up to so many bytes. Returns how many bytes that freed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn collect_garbage(
        &mut self,
        max_freed: u64,
        sink: &mut impl MessageSink,
    ) -> Result<u64, ClientError> {
        const DELETE_DEAD: u64 = 2;
        let paths = BTreeSet::new();
        let request =
            CollectGarbage { action: DELETE_DEAD, paths, ignore_liveness: false, max_freed };
        let r = self.call(&Request::CollectGarbage(request), sink).await?;
        let deleted = read_count(r, "the deleted paths").await?;
        for _ in 0..deleted {
            read_string(r, "a deleted path", MAX_TEXT).await?;
        }
        let freed = read_u64(r, "the bytes freed").await?;
        read_u64(r, "an obsolete field").await?;
        self.finish(Ok(freed))
    }

    /// A request whose reply is a number that means nothing.
    async fn acknowledged(
        &mut self,
        request: &Request,
        sink: &mut impl MessageSink,
    ) -> Result<(), ClientError> {
        let r = self.call(request, sink).await?;
        read_u64(r, "an acknowledgement").await?;
        self.finish(Ok(()))
    }
}

/// Reads all replies, whether or not one of them is a refusal.
async fn read_path_infos<R: AsyncRead + Unpin>(
    reader: &mut Resume<R>,
    paths: &[StorePath],
    sink: &mut impl MessageSink,
) -> Result<Result<Vec<Option<PathInfo>>, ClientError>, WireError> {
    let mut infos = Ok(Vec::with_capacity(paths.len()));
    for path in paths {
        match reader.await_reply(sink).await? {
            Ok(()) => {
                let info = PathInfo::read_reply(reader.get_mut(), path.clone()).await?;
                if let Ok(infos) = &mut infos {
                    infos.push(info);
                }
            }
            Err(error) if infos.is_ok() => infos = Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(infos)
}
