//! Why an image could not be read, or not be written.

use std::{io, path::PathBuf};

use super::{IMAGE_FILE, Refusal};
use crate::media::MediaError;

/// Why an image could not be read, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, such as `open`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Devices, or what is on them.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The image is no regular file.
    #[error("{path} is no file with an image; download or copy it first", path = .path.display())]
    NotAnImage {
        /// What was given.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("the image {path} is empty; download or build it again", path = .path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// It is packed with something else than zstd.
    #[error(
        "{path} is packed with {format}, which roost does not read; unpack it first: {command} {path}",
        path = .path.display()
    )]
    Packing {
        /// The image.
        path: PathBuf,
        /// What packed it.
        format: &'static str,
        /// What unpacks it.
        command: &'static str,
    },
    /// A packed image is damaged.
    #[error(
        "the image {path} is damaged at byte {offset}: {why}; download or build it again",
        path = .path.display()
    )]
    Damaged {
        /// The image.
        path: PathBuf,
        /// Where in the packed file, in bytes.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// Unpacking it takes more memory than it may.
    #[error(
        "{path} is packed with a window of {mib} MiB, and roost takes {max_mib} MiB at most; pack it \
         without `--long` and `--ultra`, or unpack it first: unzstd --long=31 {path}",
        path = .path.display()
    )]
    Window {
        /// The image.
        path: PathBuf,
        /// What it takes, in MiB.
        mib: u64,
        /// What it may take, in MiB.
        max_mib: u64,
    },
    /// The image says something about itself that makes no sense.
    #[error(
        "{IMAGE_FILE} of {path} makes no sense: {source}; build the image again",
        path = .path.display()
    )]
    Label {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is not as long as it was.
    #[error("the image changed while it was written; wait until whatever writes it has ended")]
    ImageChanged,
    /// Building it failed.
    #[error("{0}")]
    Build(String),
    /// The target may not be written to.
    #[error("{target} is refused: {why}", target = .target.display())]
    Refused {
        /// The device.
        target: PathBuf,
        /// Why.
        why: Refusal,
    },
    /// The target is not there.
    #[error("there is no device {path}; `roost flash --list` shows those there are", path = .path.display())]
    NoDevice {
        /// What was given.
        path: PathBuf,
    },
    /// The target is neither a device nor a file.
    #[error("{path} is neither a block device nor a file; `roost flash --list` shows the devices", path = .path.display())]
    NotATarget {
        /// What was given.
        path: PathBuf,
    },
    /// The image would be written over itself.
    #[error("{path} is the image itself", path = .path.display())]
    Itself {
        /// The image.
        path: PathBuf,
    },
    /// Somebody else works on it.
    #[error(
        "{path} is in use by the system or another process; close whatever works on it, and try again",
        path = .path.display()
    )]
    Busy {
        /// The target.
        path: PathBuf,
    },
    /// It is not what it was when it was looked at.
    #[error("{path} is not the medium that it was a moment ago; look again, and then try again", path = .path.display())]
    Changed {
        /// The target.
        path: PathBuf,
    },
    /// The medium did not take what was written.
    #[error(
        "cannot write to {path} between {from_mib} and {to_mib} MiB: {source}; {hint}",
        path = .path.display(),
        hint = write_hint(.source)
    )]
    Write {
        /// The target.
        path: PathBuf,
        /// What was certainly written before, in MiB.
        from_mib: u64,
        /// How far writing had come, in MiB.
        to_mib: u64,
        /// Why not.
        source: io::Error,
    },
    /// The medium did not give back what was written.
    #[error(
        "cannot read back {path} at {at_mib} MiB: {source}; the medium is failing, was taken out, or is \
         smaller than it claims",
        path = .path.display()
    )]
    ReadBack {
        /// The target.
        path: PathBuf,
        /// Where, in MiB.
        at_mib: u64,
        /// Why not.
        source: io::Error,
    },
    /// The medium gave back something else than was written.
    #[error(
        "{path} does not hold what was written between byte {from} and byte {to}: the medium is failing, \
         or smaller than it claims; take another one",
        path = .path.display()
    )]
    Differs {
        /// The target.
        path: PathBuf,
        /// The first byte of what was compared.
        from: u64,
        /// The byte after the last.
        to: u64,
    },
    /// The seed did not read back.
    #[error("{path} does not hold the seed that was written; take another medium", path = .path.display())]
    SeedDiffers {
        /// The target.
        path: PathBuf,
    },
    /// Somebody wanted it to stop.
    #[error("stopped")]
    Stopped,
    /// Writing had begun when something failed.
    #[error("{cause}\n{path} is not finished: {left}", path = .path.display())]
    Unfinished {
        /// What failed.
        cause: Box<FlashError>,
        /// The target.
        path: PathBuf,
        /// What is left of it.
        left: &'static str,
    },
}

impl FlashError {
    /// Whether it failed because somebody wanted it to stop.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Unfinished { cause, .. } => cause.is_stop(),
            _ => false,
        }
    }
}

fn write_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, and try again",
        _ => "the medium is failing, was taken out, or is smaller than it claims",
    }
}

pub(super) fn failed(
    doing: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> FlashError {
    let path = path.to_owned();
    move |source| FlashError::File { doing, path, source }
}
