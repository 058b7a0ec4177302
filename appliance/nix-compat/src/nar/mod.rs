//! The Nix archive format (NAR): a file system object as a sequence of strings.
//!
//! A NAR carries no length. [`NarScanner`] finds its end, and checks its structure on the way, in
//! bounded memory and without looking at the contents of files; [`copy_nar`] drives it.

mod scanner;
mod tree;

pub use scanner::{MAX_DEPTH, MAX_NAME, MAX_TARGET, NarError, NarFault, NarScanner};
pub use tree::Node;

use tokio::io::{AsyncBufRead, AsyncWrite};

use crate::wire::{WireError, copy_and_flush};

/// Copies exactly one NAR from `r` to `w`, in pieces of the size `r` buffers, and flushes `w`. Returns
/// its length in bytes.
///
/// # Errors
/// [`WireError::Nar`] if it is malformed; otherwise as [`copy_scanned`](crate::wire::copy_scanned).
pub async fn copy_nar<R, W>(r: &mut R, w: &mut W) -> Result<u64, WireError>
where
    R: AsyncBufRead + Unpin + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    copy_and_flush(r, w, NarScanner::new()).await
}
