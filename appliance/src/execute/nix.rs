//! Connections to a nix-daemon, near or far, as a client.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use nix_compat::{
    nix_daemon::{
        ProtocolVersion, ServerHello,
        client::{Client, ClientError, Discard},
    },
    store_path::StorePath,
    wire::WireError,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::wire::local_nix::{LocalNixError, dial};

/// A worker-protocol connection over whatever carries it.
pub type NixClient = Client<Reader, Writer>;
/// The reading end.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing end.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Longest wait for an answer that takes no work, only look-ups in the store's database.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for the answer to a request, but not for ever. The connection is of no further use when
/// the time is over.
///
/// # Errors
/// What the request's error is, or [`ClientError::Wire`] when there is no answer in time.
pub async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(limit, request).await.unwrap_or_else(|_| {
        let why = format!("nothing came within {} s", limit.as_secs());
        let source = io::Error::new(io::ErrorKind::TimedOut, why);
        Err(WireError::Io { doing: "read", what: "an answer", source }.into())
    })
}

/// Those of `paths` that are valid in the store of `nix`; nothing is fetched for that.
///
/// # Errors
/// [`ClientError`].
pub async fn valid(
    nix: &mut NixClient,
    paths: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, ClientError> {
    within(ANSWER_TIMEOUT, nix.query_valid_paths(paths, false, &mut Discard)).await
}

/// Greets a daemon at the other end of two streams.
///
/// # Errors
/// If it is no nix-daemon, too old, or gone.
pub async fn greet(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(NixClient, ServerHello), ClientError> {
    let (reader, writer): (Reader, Writer) = (Box::new(reader), Box::new(writer));
    Client::handshake(reader, writer, ProtocolVersion::MAX).await
}

/// Connects to the nix-daemon at `socket`.
///
/// # Errors
/// [`LocalNixError`].
pub async fn connect(socket: &Path) -> Result<(NixClient, ServerHello), LocalNixError> {
    dial(socket, greet).await
}
