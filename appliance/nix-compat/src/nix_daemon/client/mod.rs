//! The client's end of a session.
//!
//! Every request waits for its reply, and gives what the server says meanwhile to a
//! [`MessageSink`]. A server's refusal ([`ClientError::Nix`]) leaves the connection usable; anything
//! else that fails, or a future that is dropped half way, does not, and later requests say so
//! ([`ClientError::Busy`]).

mod nar_reader;
mod operations;
mod resume;
mod sink;
mod upload;

pub use nar_reader::NarReader;
pub use sink::{Discard, MessageSink};
pub use upload::AddMultiple;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use self::resume::Resume;
use super::{
    NixError, ProtocolVersion, Request, ServerHello,
    handshake::{CLIENT_MAGIC, PROTOCOL, SERVER_MAGIC, read_trust},
};
use crate::wire::{
    MAX_WORD, WireError, read_magic, read_string, read_string_set, read_u64, write_u64,
};

/// What can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or the server said something that cannot be understood.
    #[error("the connection to the Nix daemon failed: {0}")]
    Wire(#[from] WireError),
    /// The server refused or the operation failed.
    #[error("{0}")]
    Nix(#[from] NixError),
    /// The NAR to upload could not be read. The server has been told that there is no more of it.
    #[error("the NAR to upload could not be read: {0}")]
    Source(#[source] WireError),
    /// An earlier request was not finished, so nothing can be sent.
    #[error("an earlier request on this connection was not finished; open another connection")]
    Busy,
}

impl ClientError {
    /// Whether the connection is of no further use because an end of it is gone, rather than the
    /// server refusing.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Wire(error) => error.is_disconnect(),
            Self::Busy => true,
            Self::Nix(_) | Self::Source(_) => false,
        }
    }
}

/// A connection to a server. `W` should not buffer, or little: requests are written at once.
#[derive(Debug)]
pub struct Client<R, W> {
    reader: Resume<BufReader<R>>,
    writer: W,
    version: ProtocolVersion,
    state: State,
}

/// Whether a request can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// In a request, or left there.
    Busy,
}

/// Bytes buffered of what the server sends: also the size of the pieces in which NARs are copied.
const BUFFER: usize = 64 << 10;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Client<R, W> {
    /// The handshake, with at most this version and without features.
    ///
    /// # Errors
    /// [`ClientError::Wire`] if there is no server of version 1.35 or newer at the other end, or
    /// [`ClientError::Nix`] if it refuses the connection.
    pub async fn handshake(
        r: R,
        mut w: W,
        max_version: ProtocolVersion,
    ) -> Result<(Self, ServerHello), ClientError> {
        let mut reader = Resume::new(BufReader::with_capacity(BUFFER, r));
        let mut out = Vec::new();
        write_u64(&mut out, CLIENT_MAGIC);
        write_u64(&mut out, max_version.to_wire());
        send(&mut w, &out).await?;

        let r = reader.get_mut();
        read_magic(r, PROTOCOL, SERVER_MAGIC).await?;
        let servers = ProtocolVersion::from_wire(read_u64(r, "the server's version").await?)?;
        let version = servers.min(max_version);

        let mut out = Vec::new();
        if version.has_features() {
            const NO_FEATURES: u64 = 0;
            write_u64(&mut out, NO_FEATURES);
        }
        // Obsolete: no CPU affinity, nothing to reserve.
        write_u64(&mut out, 0);
        write_u64(&mut out, 0);
        send(&mut w, &out).await?;
        if version.has_features() {
            read_string_set(r, "the server's features").await?;
        }
        let nix_version = read_string(r, "the server's version of Nix", MAX_WORD).await?;
        let trusted = read_trust(r).await?;
        reader.await_reply(&mut Discard).await??;
        let client = Self { reader, writer: w, version, state: State::Idle };
        Ok((client, ServerHello { version, nix_version, trusted }))
    }

    /// The version agreed on.
    pub const fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether another request can be sent.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The reader, to read what this type does not know. Leave it between two replies.
    pub const fn reader_mut(&mut self) -> &mut BufReader<R> {
        self.reader.get_mut()
    }

    /// The writer, to write what this type does not know. Leave it between two requests.
    pub const fn writer_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    /// Both at once.
    pub const fn parts_mut(&mut self) -> (&mut BufReader<R>, &mut W) {
        (self.reader.get_mut(), &mut self.writer)
    }

    /// Both, with what has been read ahead.
    pub fn into_parts(self) -> (BufReader<R>, W) {
        (self.reader.into_inner(), self.writer)
    }

    /// Sends a request. The reply is up to the caller, and [`Client::finish`] after it.
    async fn start(&mut self, request: &Request) -> Result<(), ClientError> {
        self.begin()?;
        Ok(send(&mut self.writer, &request.encode(self.version)).await?)
    }

    /// Sends a request and waits until the reply can be read.
    async fn call(
        &mut self,
        request: &Request,
        sink: &mut impl MessageSink,
    ) -> Result<&mut BufReader<R>, ClientError> {
        self.start(request).await?;
        if let Err(error) = self.reader.await_reply(sink).await? {
            return self.finish(Err(error.into()));
        }
        Ok(self.reader.get_mut())
    }

    fn begin(&mut self) -> Result<(), ClientError> {
        match std::mem::replace(&mut self.state, State::Busy) {
            State::Idle => Ok(()),
            State::Busy => Err(ClientError::Busy),
        }
    }

    /// The reply has been read.
    fn finish<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        self.state = State::Idle;
        result
    }
}

async fn send<W: AsyncWrite + Unpin>(w: &mut W, bytes: &[u8]) -> Result<(), WireError> {
    let what = "a request";
    w.write_all(bytes).await.map_err(WireError::writing(what))?;
    w.flush().await.map_err(WireError::writing(what))
}
