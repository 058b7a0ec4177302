//! Copying between a client and nix-daemon.

use nix_compat::wire::{FrameScanner, Scan, WireError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::OwnedWriteHalf,
};

use crate::wire::{
    local_nix::Replies,
    session::SessionError,
    stream::{Incoming, Outgoing, next_bytes},
};

/// Copies replies to the client until one of them is gone, and returns which. Cancel safe: what has
/// been read and not written stays in the reader.
pub(super) async fn pump(replies: Option<&mut Replies>, output: &mut Outgoing) -> SessionError {
    let Some(replies) = replies else {
        output.hung_up().await;
        return SessionError::client_gone();
    };
    loop {
        let bytes = tokio::select! {
            bytes = replies.reader.fill_buf() => bytes,
            () = output.hung_up() => return SessionError::client_gone(),
        };
        let written = match bytes {
            Ok([]) => return SessionError::DaemonLost(WireError::HungUp),
            Ok(bytes) => output.write(bytes).await.map_err(SessionError::writing),
            Err(error) => return SessionError::reading_reply(error),
        };
        match written {
            Ok(n) => {
                replies.has_begun = true;
                replies.reader.consume(n);
            }
            Err(error) => return error,
        }
    }
}

/// Reads a framed upload to its end, and copies it as long as somebody takes it.
pub(super) async fn copy_upload(
    input: &mut BufReader<Incoming>,
    mut requests: Option<&mut OwnedWriteHalf>,
) -> Result<(), SessionError> {
    let mut frames = FrameScanner::new();
    while !frames.is_done() {
        let bytes = next_bytes(input).await?;
        let len = frames.feed(bytes).map_err(SessionError::Client)?;
        if let Some(taker) = requests.take() {
            // Why it is not taken any more comes with the replies.
            requests = taker.write_all(&bytes[..len]).await.is_ok().then_some(taker);
        }
        input.consume(len);
    }
    Ok(())
}
