use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::MAX_MESSAGE;

/// A reader that gives at most [`MAX_MESSAGE`] bytes of one request or reply, and an error after
/// that ([`WireError::TooLong`](super::WireError::TooLong)). Single items are bounded, but a million
/// of them would not be.
#[derive(Debug)]
pub struct Bounded<'r, R> {
    inner: &'r mut R,
    left: u64,
}

impl<'r, R: AsyncRead + Unpin> Bounded<'r, R> {
    /// At the start of a request or reply.
    pub const fn new(inner: &'r mut R) -> Self {
        Self { inner, left: MAX_MESSAGE }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<'_, R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = usize::try_from(this.left).unwrap_or(usize::MAX).min(buf.remaining());
        if most == 0 && buf.remaining() > 0 {
            return Poll::Ready(Err(io::Error::other(OverLimit)));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut *this.inner).poll_read(cx, &mut part))?;
        let n = part.filled().len();
        buf.advance(n);
        this.left -= n as u64;
        Poll::Ready(Ok(()))
    }
}

/// What [`Bounded`] reports, inside an [`io::Error`].
#[derive(Debug)]
struct OverLimit;

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MAX_MESSAGE} bytes")
    }
}

impl std::error::Error for OverLimit {}

/// Whether a read failed because of [`Bounded`].
pub(super) fn is_over_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<OverLimit>)
}
