//! Why a seed's place could not be found, read or written.

use std::{io, path::PathBuf};

use super::{MAX_SEED_BYTES, SEED_FILE, SEED_LABEL};

/// Why a seed's place could not be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
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
    /// The path is neither a file, a block device nor a folder.
    #[error("{path} is no disk image, block device or folder", path = .path.display())]
    NotAMedium {
        /// What was given.
        path: PathBuf,
    },
    /// The image is compressed.
    #[error("{path} is packed with {format}; unpack it first: {command} {path}", path = .path.display())]
    Packed {
        /// The image.
        path: PathBuf,
        /// What packed it, such as `zstd`.
        format: &'static str,
        /// What unpacks it.
        command: &'static str,
    },
    /// The partition table cannot be read.
    #[error("cannot read the partition table of {path}: {source}; `sfdisk --verify` says more", path = .path.display())]
    Table {
        /// The image or device.
        path: PathBuf,
        /// What is wrong with the table.
        source: io::Error,
    },
    /// No volume has the label.
    #[error("{path} has no FAT volume labelled {SEED_LABEL}, only {found}; take an image that was made for roost, or label the partition that is to hold the seed with `fatlabel`", path = .path.display())]
    NoVolume {
        /// The image or device.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Several volumes have the label.
    #[error("{path} has more than one FAT volume labelled {SEED_LABEL}: {found}; rename all but one with `fatlabel`, or name the partition's own device", path = .path.display())]
    SeveralVolumes {
        /// The image or device.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The FAT library refused, before anything was changed.
    #[error(
        "cannot {doing} {file} on {place}: {source}; nothing was changed, and `fsck.vfat` tells whether the volume is damaged"
    )]
    Fat {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// On which file of the volume.
        file: &'static str,
        /// The volume.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// The medium failed while it was changed.
    #[error(
        "{place} failed while {SEED_FILE} was changed: {source}; try again, or take another medium"
    )]
    Medium {
        /// The volume.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The name is taken by something else.
    #[error("{file} on {place} is no plain file; remove it")]
    NotAFile {
        /// The name.
        file: &'static str,
        /// The volume or folder.
        place: String,
    },
    /// There is more than any seed has.
    #[error(
        "{file} for {place} has {size_bytes} bytes, more than the {MAX_SEED_BYTES} that it may have; give or leave a smaller one"
    )]
    TooLarge {
        /// The file.
        file: &'static str,
        /// The volume or folder.
        place: String,
        /// How much there is.
        size_bytes: u64,
    },
    /// What is to be written would read as no seed at all.
    #[error("a seed must not be empty, nor begin with a zero byte: both mean that there is none")]
    NotASeed,
    /// The device or a part of it is mounted.
    #[error("{path} is in use: {uses}; unmount it first", path = .path.display())]
    Mounted {
        /// The device.
        path: PathBuf,
        /// What is mounted where.
        uses: String,
    },
    /// Another process works on it.
    #[error("{path} is in use by another process; let that finish first", path = .path.display())]
    Busy {
        /// The image or device.
        path: PathBuf,
    },
}
