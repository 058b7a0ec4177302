//! Writing an image to a card or another medium, so that a medium that is not finished never looks it.
//!
//! `disks` says which disks there are and `judge` which of them may be written to; `image` reads images,
//! packed or not, and `label` what they say of themselves; `build` has Nix build one; `write` writes and
//! verifies, to a `target` that nobody else has open.

mod build;
mod disks;
mod error;
mod image;
mod judge;
mod label;
mod target;
#[cfg(test)]
mod tests;
mod unpack;
mod write;

pub use build::build;
pub use disks::{Bus, Disk, Partition, disks};
pub use error::FlashError;
pub use image::Image;
pub use judge::{Asked, Refusal, judge};
pub use label::{Label, Says, label_of};
pub use target::{Place, Target, look};
pub use write::write;

pub use crate::names::IMAGE_FILE;

/// What takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding out how large the image is when it is unpacked.
    Measuring,
    /// Writing it.
    Writing,
    /// Reading it back.
    Verifying,
}

/// Whoever watches, and may stop it.
pub trait Watch {
    /// A phase begins that is over after so many bytes.
    fn begin(&mut self, phase: Phase, total_bytes: u64);

    /// So many bytes of the phase are done. The last few of those that were written, never more than
    /// 32 MiB, may not be on the medium yet, except at the end.
    fn done(&mut self, bytes: u64);

    /// Whether to stop here.
    fn is_stopped(&self) -> bool;
}

fn go_on(watch: &dyn Watch) -> Result<(), FlashError> {
    if watch.is_stopped() { Err(FlashError::Stopped) } else { Ok(()) }
}
