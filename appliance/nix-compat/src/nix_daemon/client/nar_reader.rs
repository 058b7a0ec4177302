use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

use super::State;
use crate::{
    nar::NarScanner,
    wire::{Scan, WireError},
};

/// A NAR that a server sends, up to its end. Read all of it: the connection can be used again only
/// then.
#[derive(Debug)]
pub struct NarReader<'c, R> {
    pub(super) reader: &'c mut BufReader<R>,
    pub(super) state: &'c mut State,
    pub(super) scanner: NarScanner,
    /// Bytes in the reader's buffer that the scanner has found to belong to the NAR.
    pub(super) scanned: usize,
}

impl<R: AsyncRead + Unpin> AsyncBufRead for NarReader<'_, R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.scanned == 0 {
            if this.scanner.is_done() {
                return Poll::Ready(Ok(&[]));
            }
            let bytes = ready!(Pin::new(&mut *this.reader).poll_fill_buf(cx))?;
            if bytes.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            this.scanned = this.scanner.feed(bytes).map_err(invalid)?;
        }
        Poll::Ready(Ok(&this.reader.buffer()[..this.scanned]))
    }

    fn consume(self: Pin<&mut Self>, n: usize) {
        let this = self.get_mut();
        Pin::new(&mut *this.reader).consume(n);
        this.scanned -= n;
        if this.scanned == 0 && this.scanner.is_done() {
            *this.state = State::Idle;
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for NarReader<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
