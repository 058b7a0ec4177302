//! The nix-daemon of this machine.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix_compat::{
    nix_daemon::{
        ProtocolVersion, Request, ServerHello, StderrMessage,
        client::{Client, ClientError},
    },
    store_path::STORE_DIR,
    wire::WireError,
};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, timeout},
};

use super::{session::SessionError, unfetched::Unfetched};
use crate::names;

/// What is copied at once.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// What is on its way to nix-daemon.
const SOCKET_BYTES: usize = 1 << 20;

/// How long connecting and the handshake may take.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may serve one job after the other. It holds temporary roots of all of them, which
/// are not to be held for ever; opening one has nix-daemon fork, open its database and find out what the
/// kernel allows.
pub const USED_AGAIN: Duration = Duration::from_secs(60);

/// How long one is kept that nobody uses: it is a process of nix-daemon's.
pub const KEPT_IDLE: Duration = Duration::from_secs(10);

/// Where the local Nix is.
#[derive(Clone, Debug)]
pub struct LocalNix {
    /// nix-daemon's socket.
    pub socket: PathBuf,
    /// The folder that is its store directory, `/nix/store`.
    pub store_dir: PathBuf,
    /// Why it could not be reached when that was last tried; empty if it could.
    pub trouble: Arc<Mutex<String>>,
    /// Outputs in its store that clients have yet to fetch.
    pub unfetched: Unfetched,
    /// Systems that it builds natively, on a node where others can be built otherwise: emulated, or
    /// by a peer. Empty where no difference is to be made.
    pub native: Arc<BTreeSet<String>>,
}

/// Why nix-daemon could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalNixError {
    /// It does not take connections.
    #[error("cannot connect to nix-daemon ({socket}: {source}); {FIX}")]
    Connect {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not answer.
    #[error("nix-daemon ({0}) did not answer within {wait} s; {FIX}", wait = OPEN_TIMEOUT.as_secs())]
    Timeout(PathBuf),
    /// It does not answer as it should.
    #[error("nix-daemon ({socket}) did not let us in: {source}; {FIX}")]
    Handshake {
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        source: ClientError,
    },
    /// It was replaced by an older one during the session.
    #[error("nix-daemon ({socket}) now speaks protocol {now} instead of {before}; connect again")]
    Older {
        /// Its socket.
        socket: PathBuf,
        /// At the start of the session.
        before: ProtocolVersion,
        /// Now.
        now: ProtocolVersion,
    },
}

const FIX: &str = "on that machine, see `systemctl status nix-daemon.socket nix-daemon`";

impl Default for LocalNix {
    /// Where Nix puts it.
    fn default() -> Self {
        Self {
            socket: names::NIX_DAEMON_SOCKET.into(),
            store_dir: STORE_DIR.into(),
            trouble: Arc::default(),
            unfetched: Unfetched::default(),
            native: Arc::default(),
        }
    }
}

impl LocalNix {
    /// Whether a system needs neither a peer nor an emulator, as far as known.
    pub(super) fn is_native(&self, system: &str) -> bool {
        system == "builtin" || self.native.contains(system)
    }

    /// Opens a connection that speaks `at_most` this version of the protocol.
    ///
    /// # Errors
    /// [`LocalNixError`], which names the socket and what to do.
    pub(super) async fn open(&self, at_most: ProtocolVersion) -> Result<Daemon, LocalNixError> {
        let (client, hello) = self.connect(at_most).await?;
        let (reader, requests) = client.into_parts();
        let replies = Replies { reader, has_begun: false };
        Ok(Daemon { hello, requests, replies, opened: Instant::now() })
    }

    /// As [`LocalNix::open`], for requests of our own.
    ///
    /// # Errors
    /// [`LocalNixError`].
    pub(super) async fn connect(
        &self,
        at_most: ProtocolVersion,
    ) -> Result<(DaemonClient, ServerHello), LocalNixError> {
        let greet = |read, write| DaemonClient::handshake(read, write, at_most);
        let opened = dial(&self.socket, greet).await;
        let trouble = opened.as_ref().err().map(ToString::to_string).unwrap_or_default();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        opened
    }

    /// Opens a connection that speaks exactly this version of the protocol, as an earlier one did.
    ///
    /// # Errors
    /// As [`LocalNix::open`], and [`LocalNixError::Older`].
    pub(super) async fn open_as(&self, before: ProtocolVersion) -> Result<Daemon, LocalNixError> {
        let daemon = self.open(before).await?;
        let now = daemon.hello.version;
        if now == before {
            Ok(daemon)
        } else {
            Err(LocalNixError::Older { socket: self.socket.clone(), before, now })
        }
    }
}

/// Connects to the nix-daemon that listens at `socket`, and greets it.
///
/// # Errors
/// [`LocalNixError`], but for [`LocalNixError::Older`].
pub async fn dial<T, G>(
    socket: &Path,
    greet: impl FnOnce(OwnedReadHalf, OwnedWriteHalf) -> G,
) -> Result<T, LocalNixError>
where
    G: Future<Output = Result<T, ClientError>>,
{
    let name = || socket.to_owned();
    let opening = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| LocalNixError::Connect { socket: name(), source })?;
        // Best effort: fewer, larger steps, as far as net.core.wmem_max allows.
        let _ = set_socket_send_buffer_size(&stream, SOCKET_BYTES);
        let (read, write) = stream.into_split();
        greet(read, write)
            .await
            .map_err(|source| LocalNixError::Handshake { socket: name(), source })
    };
    let opened = timeout(OPEN_TIMEOUT, opening).await;
    opened.unwrap_or_else(|_| Err(LocalNixError::Timeout(name())))
}

/// The client's end of a connection.
pub(super) type DaemonClient = Client<OwnedReadHalf, OwnedWriteHalf>;

/// A connection to nix-daemon: a process of its own at the other end.
pub(super) struct Daemon {
    /// What it said of itself.
    pub(super) hello: ServerHello,
    /// To it.
    pub(super) requests: OwnedWriteHalf,
    /// From it.
    pub(super) replies: Replies,
    /// Since when it is open.
    pub(super) opened: Instant,
}

/// What nix-daemon sends.
pub(super) struct Replies {
    /// Where it comes from.
    pub(super) reader: BufReader<OwnedReadHalf>,
    /// Whether something of the reply to the last request has been passed on.
    pub(super) has_begun: bool,
}

impl Daemon {
    /// Sends a request, without a framed stream that may belong to it.
    ///
    /// # Errors
    /// [`SessionError::DaemonLost`].
    pub(super) async fn send(&mut self, request: &Request) -> Result<(), SessionError> {
        self.replies.has_begun = false;
        let bytes = request.encode(self.hello.version);
        self.requests.write_all(&bytes).await.map_err(|source| {
            SessionError::DaemonLost(WireError::Io { doing: "write", what: "a request", source })
        })
    }

    /// Reads one message. After [`StderrMessage::Last`] the reply follows, after
    /// [`StderrMessage::Error`] there is none.
    ///
    /// # Errors
    /// [`SessionError::DaemonLost`].
    pub(super) async fn message(&mut self) -> Result<StderrMessage, SessionError> {
        StderrMessage::read(&mut self.replies.reader).await.map_err(SessionError::DaemonLost)
    }
}
