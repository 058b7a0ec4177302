use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::MessageSink;
use crate::{
    nix_daemon::{NixError, StderrMessage},
    wire::WireError,
};

/// A reader whose message can be read again from its start after the future that read it was
/// dropped half way, as happens to the loser of a `select`.
///
/// What was read of the message is held until [`Resume::forget`].
#[derive(Debug)]
pub(super) struct Resume<R> {
    inner: R,
    held: Vec<u8>,
    read: usize,
}

impl<R: AsyncRead + Unpin> Resume<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, held: Vec::new(), read: 0 }
    }

    /// Waits for the reply to be announced, or an error in its place. Safe to drop and call again.
    pub(super) async fn await_reply(
        &mut self,
        sink: &mut impl MessageSink,
    ) -> Result<Result<(), NixError>, WireError> {
        loop {
            self.read = 0;
            let outcome = match StderrMessage::read(self).await? {
                StderrMessage::Last => Some(Ok(())),
                StderrMessage::Error(error) => Some(Err(error)),
                message => {
                    sink.message(message).await;
                    None
                }
            };
            self.forget();
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// The message has been dealt with.
    fn forget(&mut self) {
        self.held.clear();
        self.read = 0;
    }

    /// The reader itself. Nothing is held between messages.
    pub(super) const fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Resume<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.read < this.held.len() {
            let n = buf.remaining().min(this.held.len() - this.read);
            buf.put_slice(&this.held[this.read..this.read + n]);
        } else {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            this.held.extend_from_slice(&buf.filled()[before..]);
        }
        this.read += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}
