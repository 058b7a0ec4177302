//! The builder that stock Nix sees: one worker-protocol server that stands for the whole fleet.
//!
//! Nix's build hook asks which inputs are there, sends those that are not, sends the derivation,
//! and fetches the outputs. The store it asks for is this machine's own as far as inputs go: what
//! is valid here is called valid, and is copied from here straight to the board that gets the job.
//! Outputs come from that board.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix_compat::{
    nix_daemon::{
        BuildMode, NixError, PathInfo, ProtocolVersion, Request, ServerHello, StderrMessage,
        client::{ClientError, Discard},
        server,
    },
    store_path::StorePath,
    wire::{self, WireError},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{
    deliveries::Deliveries,
    fetch::{Fetch, FetchError, Whereabouts},
};
use crate::{
    execute::{
        Queries,
        nix::{self, NixClient},
    },
    model::{Builds, Client, Demand, JobEvent, Mode, Payload, Submission, realised_paths},
};

/// A hook that has been started speaks at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// Upload frames are read in pieces of this size.
const BUFFER: usize = 64 << 10;

/// Why a session ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client broke the protocol, or vanished.
    #[error("the client: {0}")]
    Client(#[from] WireError),
    /// The client said nothing.
    #[error("the client did not greet within {} s", GREETING_TIMEOUT.as_secs())]
    Silent,
    /// The client hung up while it waited for a build, which goes on.
    #[error("the client went away while its build was under way")]
    Gone,
    /// Writing to the client failed.
    #[error("the client: {0}")]
    Io(#[from] std::io::Error),
    /// The board stopped in the middle of an output.
    #[error("only a part of {path} could be fetched: {why}; ask again")]
    Board {
        /// The output.
        path: StorePath,
        /// What happened, in words.
        why: String,
    },
}

/// Where a client's derivations are to be built, by path, system and required features.
pub type Demands = Arc<dyn Fn(&StorePath, &str, &BTreeSet<String>) -> Demand + Send + Sync>;

/// A session with one build hook.
pub struct Session<B, R, W> {
    /// What builds.
    pub builds: B,
    /// Where outputs are.
    pub whereabouts: Arc<dyn Whereabouts>,
    /// How long a board that has outputs and is away is waited for.
    pub patience: Duration,
    /// What has been built and is being fetched, in this and all other sessions.
    pub deliveries: Deliveries,
    /// Asks the local nix-daemon.
    pub queries: Queries,
    /// The local nix-daemon, for uploads.
    pub socket: PathBuf,
    /// Who asks.
    pub client: Client,
    /// Where what it asks for is to be built.
    pub demand: Demands,
    /// What the client sends.
    pub reader: BufReader<R>,
    /// What the client receives.
    pub writer: W,
}

/// What a session knows from one request to the next.
struct Memory {
    /// The local store, for uploads: its temporary roots hold what was uploaded.
    local: Option<NixClient>,
    /// The version of the protocol that client and we speak.
    version: ProtocolVersion,
}

/// Why a request was not carried out: said to the client, and the session goes on.
struct Failed(NixError);

impl Failed {
    fn new(text: impl Into<String>) -> Self {
        Self(NixError::new(text.into()))
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Nix(error) => Self(error),
            other => Self::new(format!("roost: {other}")),
        }
    }
}

impl From<WireError> for Failed {
    fn from(error: WireError) -> Self {
        Self::new(format!("roost: {error}"))
    }
}

impl<B: Builds, R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send> Session<B, R, W> {
    /// Speaks with the client until it goes.
    ///
    /// # Errors
    /// [`ConnectError`]. The client has been told, where it could be.
    pub async fn run(mut self) -> Result<(), ConnectError> {
        let greeting = timeout(GREETING_TIMEOUT, self.greet()).await;
        let version = greeting.map_err(|_| ConnectError::Silent)??;
        let mut memory = Memory { local: None, version };
        loop {
            if self.reader.fill_buf().await?.is_empty() {
                return Ok(());
            }
            let request = match Request::read(&mut self.reader, memory.version).await {
                Ok(request) => request,
                Err(error) => {
                    // What follows in the stream makes no sense any more.
                    self.say(&StderrMessage::Error(NixError::new(format!("roost: {error}"))))
                        .await?;
                    return Err(error.into());
                }
            };
            if let Err(Failed(error)) = self.answer(request, &mut memory).await? {
                self.say(&StderrMessage::Error(error)).await?;
            }
        }
    }

    async fn greet(&mut self) -> Result<ProtocolVersion, ConnectError> {
        let hello = ServerHello {
            version: ProtocolVersion::MAX,
            nix_version: format!("roost {}", env!("CARGO_PKG_VERSION")),
            trusted: Some(true),
        };
        let agreed = server::accept(&mut self.reader, &mut self.writer, &hello, &[]).await?;
        Ok(agreed.version)
    }

    async fn say(&mut self, message: &StderrMessage) -> std::io::Result<()> {
        self.writer.write_all(&message.encode()).await?;
        self.writer.flush().await
    }

    /// The end of the log messages, and the reply.
    async fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> std::io::Result<()> {
        let mut bytes = StderrMessage::Last.encode();
        write(&mut bytes);
        self.writer.write_all(&bytes).await?;
        self.writer.flush().await
    }

    async fn answer(
        &mut self,
        request: Request,
        memory: &mut Memory,
    ) -> Result<Result<(), Failed>, ConnectError> {
        match request {
            Request::SetOptions(_) => self.reply(|_| ()).await?,
            Request::QueryValidPaths { paths, .. } => match self.valid(&paths).await {
                Ok(valid) => self.reply(|out| wire::write_store_path_set(out, &valid)).await?,
                Err(failed) => return Ok(Err(failed)),
            },
            Request::IsValidPath(path) => match self.valid(&BTreeSet::from([path])).await {
                Ok(valid) => self.reply(|out| wire::write_bool(out, !valid.is_empty())).await?,
                Err(failed) => return Ok(Err(failed)),
            },
            upload @ (Request::AddMultipleToStore { .. } | Request::AddToStoreNar { .. }) => {
                return self.upload(&upload, memory).await;
            }
            Request::BuildDerivation { drv_path, drv, mode } => {
                let mode = match mode {
                    BuildMode::Normal => Mode::Normal,
                    BuildMode::Repair => Mode::Repair,
                    BuildMode::Check => Mode::Check,
                };
                let features = drv.required_system_features();
                let demand = (self.demand)(&drv_path, &drv.platform, &features);
                let client = self.client.clone();
                let submission = Submission::elsewhere(drv_path, drv, mode, client, demand);
                return self.build(submission, memory.version).await;
            }
            Request::QueryPathInfo(path) => return self.path_info(&path).await,
            Request::NarFromPath(path) => return self.nar(&path).await,
            other => {
                let name = other.operation();
                return Ok(Err(Failed::new(format!(
                    "roost stands here for a build machine, and does not offer {name:?}; it builds \
                     what Nix's build hook sends"
                ))));
            }
        }
        Ok(Ok(()))
    }

    async fn valid(&self, paths: &BTreeSet<StorePath>) -> Result<BTreeSet<StorePath>, Failed> {
        self.queries.valid(paths).await.map_err(|error| Failed::new(format!("roost: {error}")))
    }

    /// Inputs that the local store lacks: the user builds in another store. They are taken into
    /// this one, from where they are shipped like all others.
    async fn upload(
        &mut self,
        request: &Request,
        memory: &mut Memory,
    ) -> Result<Result<(), Failed>, ConnectError> {
        let mut frames =
            BufReader::with_capacity(BUFFER, wire::FramedReader::new(&mut self.reader));
        let taken = take_in(&self.socket, &mut memory.local, request, &mut frames).await;
        // Whatever has become of it, the next request comes after its end.
        frames.get_mut().drain().await?;
        if taken.is_ok() {
            self.reply(|_| ()).await?;
        }
        Ok(taken)
    }

    async fn build(
        &mut self,
        submission: Submission,
        version: ProtocolVersion,
    ) -> Result<Result<(), Failed>, ConnectError> {
        let known: BTreeSet<_> = match &submission.payload {
            Payload::Derivation(derivation) => {
                derivation.outputs.values().filter_map(|output| output.path.clone()).collect()
            }
            Payload::Target(_) => BTreeSet::new(),
        };
        let mut ticket = match self.builds.submit(submission).await {
            Ok(ticket) => ticket,
            Err(refusal) => return Ok(Err(Failed::new(format!("roost: {refusal}")))),
        };
        loop {
            let event = tokio::select! {
                event = ticket.events.recv() => event,
                gone = hang_up(&mut self.reader) => {
                    gone?;
                    return Err(ConnectError::Gone);
                }
            };
            match event {
                Some(JobEvent::Message(message)) => self.say(&message).await?,
                Some(JobEvent::Finished(result)) => {
                    let mut outputs = realised_paths(&result);
                    outputs.extend(known);
                    if result.is_success() {
                        self.deliveries.begin(ticket.id, outputs);
                    }
                    self.reply(|out| result.write(out, version)).await?;
                    return Ok(Ok(()));
                }
                None => {
                    return Ok(Err(Failed::new(
                        "roost: the daemon is stopping; the job goes on when it is back: ask again",
                    )));
                }
            }
        }
    }

    /// A path of what was just built, to be fetched.
    fn fetch(&self, path: &StorePath) -> Result<Fetch, Failed> {
        let job = self.deliveries.made(path).ok_or_else(|| {
            Failed::new(format!("roost: {path} is not an output of what was just built"))
        })?;
        Ok(Fetch::new(self.whereabouts.clone(), job, path.clone(), self.patience))
    }

    async fn path_info(&mut self, path: &StorePath) -> Result<Result<(), Failed>, ConnectError> {
        let info = match self.fetch(path) {
            Ok(mut fetch) => fetch.info(&mut self.writer).await,
            Err(failed) => return Ok(Err(failed)),
        };
        match info {
            Ok(info) => {
                self.reply(|out| PathInfo::write_reply(info.as_ref(), out)).await?;
                Ok(Ok(()))
            }
            Err(error) => unfetched(error, path).map(Err),
        }
    }

    async fn nar(&mut self, path: &StorePath) -> Result<Result<(), Failed>, ConnectError> {
        let sent = match self.fetch(path) {
            Ok(mut fetch) => fetch.nar(&mut self.writer).await,
            Err(failed) => return Ok(Err(failed)),
        };
        if let Err(error) = sent {
            return unfetched(error, path).map(Err);
        }
        if let Some(job) = self.deliveries.fetched(path) {
            self.builds.fetched(&job).await;
        }
        Ok(Ok(()))
    }
}

/// What the client is told of a path that cannot be fetched. Half a NAR cannot be taken back: that
/// ends the session.
fn unfetched(error: FetchError, path: &StorePath) -> Result<Failed, ConnectError> {
    match error {
        FetchError::Client(source) => Err(source.into()),
        FetchError::Rest(why) => Err(ConnectError::Board { path: path.clone(), why }),
        FetchError::Board(why) => Ok(Failed::new(format!(
            "roost: {path} was built, and cannot be fetched now: {why}; ask again"
        ))),
    }
}

/// Takes an upload into the local store, over the connection in `local`. It stays there, and with it
/// the temporary roots of what was uploaded, unless something fails.
async fn take_in<R: AsyncBufRead + Unpin + Send>(
    socket: &Path,
    local: &mut Option<NixClient>,
    request: &Request,
    frames: &mut R,
) -> Result<(), Failed> {
    // Before the first path comes its number. The hook sends an upload even if nothing is lacking.
    let count = match request {
        Request::AddMultipleToStore { .. } => {
            wire::read_u64(frames, "the number of uploaded paths").await?
        }
        _ => 1,
    };
    if count == 0 {
        return Ok(());
    }
    let mut connection = match local.take() {
        Some(connection) => connection,
        None => {
            let connected = nix::connect(socket).await;
            connected.map_err(|error| Failed::new(format!("roost: {error}")))?.0
        }
    };
    import(&mut connection, request, count, frames).await?;
    *local = Some(connection);
    Ok(())
}

/// Hands `count` uploaded paths to the local store.
async fn import<R: AsyncBufRead + Unpin + Send>(
    local: &mut NixClient,
    request: &Request,
    count: u64,
    frames: &mut R,
) -> Result<(), Failed> {
    match request {
        Request::AddToStoreNar { info, repair, dont_check_sigs } => {
            local.add_to_store_nar(info, frames, *repair, *dont_check_sigs, &mut Discard).await?;
        }
        Request::AddMultipleToStore { repair, dont_check_sigs } => {
            let mut upload = local.begin_add_multiple(count, *repair, *dont_check_sigs).await?;
            for _ in 0..count {
                let info = PathInfo::read(frames).await?;
                upload.add(&info, frames, &mut Discard).await?;
            }
            upload.finish(&mut Discard).await?;
        }
        other => return Err(Failed::new(format!("{:?} is no upload", other.operation()))),
    }
    Ok(())
}

/// Returns when the client has hung up. A client waits for its build in silence; should it speak,
/// what it says is kept, and it is not watched any more.
async fn hang_up<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> std::io::Result<()> {
    if reader.fill_buf().await?.is_empty() {
        return Ok(());
    }
    std::future::pending().await
}
