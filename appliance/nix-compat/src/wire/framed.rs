use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{Scan, WireError, relay::copy_and_flush};

/// Length of the frames that [`FramedWriter`] makes: what a receiver that takes whole frames has to
/// hold.
const FRAME: usize = 64 << 10;
const HEADER: usize = 8;
/// Longest frame that is taken for one: Nix sends what it has at hand as one frame, which no memory
/// lets come near this. Frames are never held, so this bounds no memory; it tells nonsense from data.
const MAX_FRAME: u64 = 1 << 40;

/// Where in a framed stream one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// In a frame's length, with so many bytes of it seen.
    Header { seen: usize, bytes: [u8; HEADER] },
    /// In a frame's content, with so many bytes to come (not 0).
    Content { left: u64 },
    /// After the frame of length 0.
    End,
}

impl Position {
    const START: Self = Self::Header { seen: 0, bytes: [0; HEADER] };

    /// The position after the next bytes of a header; at most as many as it lacks.
    fn after_header_bytes(
        seen: usize,
        mut bytes: [u8; HEADER],
        next: &[u8],
    ) -> Result<Self, WireError> {
        let upto = seen + next.len();
        bytes[seen..upto].copy_from_slice(next);
        if upto < HEADER {
            return Ok(Self::Header { seen: upto, bytes });
        }
        match u64::from_le_bytes(bytes) {
            0 => Ok(Self::End),
            left if left <= MAX_FRAME => Ok(Self::Content { left }),
            len => Err(WireError::TooLong { what: "a frame", len, max: MAX_FRAME }),
        }
    }

    fn after_content_bytes(left: u64, n: usize) -> Self {
        match left - n as u64 {
            0 => Self::START,
            left => Self::Content { left },
        }
    }
}

/// Finds the end of a framed stream.
#[derive(Clone, Debug)]
pub struct FrameScanner(Position);

impl FrameScanner {
    /// At the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self(Position::START)
    }
}

impl Default for FrameScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scan for FrameScanner {
    const WHAT: &'static str = "a framed stream";

    fn feed(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let n;
            (n, self.0) = match self.0 {
                Position::Header { seen, bytes } => {
                    let n = rest.len().min(HEADER - seen);
                    (n, Position::after_header_bytes(seen, bytes, &rest[..n])?)
                }
                Position::Content { left } => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    (n, Position::after_content_bytes(left, n))
                }
                Position::End => break,
            };
            rest = &rest[n..];
        }
        Ok(bytes.len() - rest.len())
    }

    fn is_done(&self) -> bool {
        self.0 == Position::End
    }
}

/// Copies a framed stream, its end included, as it is, and flushes `w`. Returns the bytes copied.
///
/// # Errors
/// As [`copy_scanned`](super::copy_scanned).
pub async fn copy_framed<R, W>(r: &mut R, w: &mut W) -> Result<u64, WireError>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    copy_and_flush(r, w, FrameScanner::new()).await
}

/// The content of a framed stream. Ends at the frame of length 0 and reads nothing after it, so the
/// stream behind it can be used again then. An end of file before that is an error.
#[derive(Debug)]
pub struct FramedReader<R> {
    inner: R,
    position: Position,
}

impl<R: AsyncRead + Unpin> FramedReader<R> {
    /// Reads frames from `inner`, which should be buffered.
    pub const fn new(inner: R) -> Self {
        Self { inner, position: Position::START }
    }

    /// Reads what is left and throws it away.
    ///
    /// # Errors
    /// [`WireError`], if reading fails or the stream ends too early.
    pub async fn drain(&mut self) -> Result<(), WireError> {
        let mut waste = [0; 4096];
        while self.read(&mut waste).await.map_err(WireError::reading(FrameScanner::WHAT))? != 0 {}
        Ok(())
    }

    /// Whether the frame of length 0 has been read.
    pub fn is_at_end(&self) -> bool {
        self.position == Position::End
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for FramedReader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.position {
                Position::End => return Poll::Ready(Ok(())),
                Position::Header { seen, bytes } => {
                    let mut next = [0; HEADER];
                    let mut header = ReadBuf::new(&mut next[seen..]);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut header))?;
                    if header.filled().is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    this.position = Position::after_header_bytes(seen, bytes, header.filled())
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                }
                Position::Content { left } => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
                    let n = part.filled().len();
                    if n == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    buf.advance(n);
                    this.position = Position::after_content_bytes(left, n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Writes a framed stream. No write is lost or cut when a future that writes is dropped: what was
/// accepted goes out with the next call, so the stream can still be ended properly.
///
/// Shutting it down ends the framed stream and flushes, but leaves the writer behind it open.
#[derive(Debug)]
pub struct FramedWriter<W> {
    inner: W,
    /// A frame: its length (filled in when it is sent) and its content.
    frame: Vec<u8>,
    state: Sending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// The frame takes more content.
    Filling,
    /// So much of the frame has gone out.
    Draining { sent: usize, last: bool },
    /// The frame of length 0 has gone out.
    Ended,
}

impl<W: AsyncWrite + Unpin> FramedWriter<W> {
    /// Writes frames to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, frame: vec![0; HEADER], state: Sending::Filling }
    }

    /// Ends the stream with the frame of length 0, and flushes. Safe to call again if it was
    /// interrupted.
    ///
    /// # Errors
    /// If writing fails.
    pub async fn finish(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Fills in the header: the frame goes out from now on.
    fn seal(&mut self, last: bool) {
        let len = (self.frame.len() - HEADER) as u64;
        self.frame[..HEADER].copy_from_slice(&len.to_le_bytes());
        if last && len != 0 {
            self.frame.extend_from_slice(&[0; HEADER]);
        }
        self.state = Sending::Draining { sent: 0, last };
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Sending::Draining { sent, last } = self.state {
            if sent == self.frame.len() {
                self.frame.truncate(HEADER);
                self.state = if last { Sending::Ended } else { Sending::Filling };
                break;
            }
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.frame[sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.state = Sending::Draining { sent: sent + n, last };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.state == Sending::Filling {
            self.seal(true);
            ready!(self.poll_drain(cx))?;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for FramedWriter<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.frame.len() == HEADER + FRAME && this.state == Sending::Filling {
            this.seal(false);
        }
        ready!(this.poll_drain(cx))?;
        if this.state == Sending::Ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(HEADER + FRAME - this.frame.len());
        this.frame.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state == Sending::Filling && this.frame.len() > HEADER {
            this.seal(false);
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_finish(cx)
    }
}
