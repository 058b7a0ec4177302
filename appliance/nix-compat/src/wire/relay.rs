use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::WireError;

/// Finds the end of something in a byte stream that is fed to it in pieces of any size.
pub trait Scan {
    /// What is scanned, for messages.
    const WHAT: &'static str;

    /// Looks at the next bytes and returns how many of them belong to it: all of them unless
    /// [`Scan::is_done`] afterwards.
    ///
    /// # Errors
    /// A [`WireError`] if they cannot belong to it. The scanner is of no further use then.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, WireError>;

    /// Whether the end has been seen.
    fn is_done(&self) -> bool;
}

/// Copies what `scanner` recognises from `r` to `w`, and nothing after it. Holds no more than `r`
/// buffers; gives `w` pieces of that size (a `BufReader` of 64 KiB is a good choice). Does not flush
/// `w`. Returns the bytes copied.
///
/// # Errors
/// [`WireError`], if reading or writing fails, `r` ends too early or the scanner objects. What came
/// before has been written by then.
pub async fn copy_scanned<R, W, S>(r: &mut R, w: &mut W, scanner: &mut S) -> Result<u64, WireError>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
    S: Scan,
{
    let mut copied = 0;
    while !scanner.is_done() {
        let bytes = r.fill_buf().await.map_err(WireError::reading(S::WHAT))?;
        if bytes.is_empty() {
            return Err(WireError::Truncated { what: S::WHAT });
        }
        let n = scanner.feed(bytes)?;
        w.write_all(&bytes[..n]).await.map_err(WireError::writing(S::WHAT))?;
        r.consume(n);
        copied += n as u64;
    }
    Ok(copied)
}

/// [`copy_scanned`], and flushes `w`.
pub(crate) async fn copy_and_flush<R, W, S>(
    r: &mut R,
    w: &mut W,
    mut scanner: S,
) -> Result<u64, WireError>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
    S: Scan,
{
    let copied = copy_scanned(r, w, &mut scanner).await?;
    w.flush().await.map_err(WireError::writing(S::WHAT))?;
    Ok(copied)
}
