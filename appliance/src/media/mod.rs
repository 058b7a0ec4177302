//! Where the seed of a board is put: a small file on the FAT volume that its image has for it.
//!
//! The volume is found in a disk image, on a device such as a card, or it is mounted somewhere. Images
//! and devices are read and written as they are, without mounting, so an image takes no root. A file
//! that is empty or begins with a zero byte is what an interrupted change leaves: there is no seed.

mod error;
mod folder;
mod guard;
mod in_use;
mod opened;
mod seed;
mod table;
mod volume;
mod window;

#[cfg(test)]
pub(crate) mod tests;

pub use error::MediaError;
pub use in_use::{Kernel, Use, refuse_mounted};
pub use opened::OpenedDisk;

pub(crate) use guard::guarded;

pub use crate::names::{SEED_FILE, SEED_LABEL};

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};
use zeroize::Zeroizing;

use seed::SeedVolume;
use table::Part;
use window::{Medium, Window};

/// What a seed has at most, in bytes.
pub const MAX_SEED_BYTES: usize = 64 << 10;

/// What an image is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// A file's first bytes.
    magic: &'static [u8],
    /// The format, such as `zstd`.
    pub format: &'static str,
    /// What unpacks it.
    pub command: &'static str,
}

/// The format that images of boards come in (RFC 8878, section 3.1.1).
pub const ZSTD: Packing =
    Packing { magic: &[0x28, 0xb5, 0x2f, 0xfd], format: "zstd", command: "unzstd" };

const PACKED: [Packing; 3] = [
    ZSTD,
    Packing { magic: &[0xfd, b'7', b'z', b'X', b'Z', 0], format: "xz", command: "unxz" },
    Packing { magic: &[0x1f, 0x8b], format: "gzip", command: "gunzip" },
];

impl Packing {
    /// What a file with these first bytes is packed with, if it is; eight bytes are enough.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        PACKED.into_iter().find(|packing| start.starts_with(packing.magic))
    }
}

/// Where the seed of an image, a device or a folder is.
#[derive(Debug)]
pub struct SeedPlace {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    Image,
    Device,
}

impl SeedPlace {
    /// Finds the volume in a raw disk image or on a block device, by its label; a folder is taken to
    /// be one that is mounted. Nothing is written, nor ever will be until asked for.
    ///
    /// # Errors
    ///
    /// [`MediaError`]; if not exactly one volume has the label, with what is there instead.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        let file_type = fs::metadata(path).map_err(failed("open", path))?.file_type();
        let kind = if file_type.is_dir() {
            Kind::Folder
        } else if file_type.is_file() {
            Kind::Image
        } else if file_type.is_block_device() {
            Kind::Device
        } else {
            return Err(MediaError::NotAMedium { path: path.to_owned() });
        };
        let place = Self { path: path.to_owned(), kind };
        if kind != Kind::Folder {
            find(&mut place.open_disk(false)?, &place.path)?;
        }
        Ok(place)
    }

    /// The seed, if there is one.
    ///
    /// # Errors
    ///
    /// [`MediaError`], also if it has more than [`MAX_SEED_BYTES`].
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
        match self.kind {
            Kind::Folder => folder::read(&self.path),
            Kind::Image | Kind::Device => {
                volume_of(&mut self.open_disk(false)?, &self.path)?.read()
            }
        }
    }

    /// Puts a seed there, in place of the one that is. If the power is cut there is the old one, the
    /// new one or none, and what there was of either is still within reach of [`Self::erase`].
    ///
    /// # Errors
    ///
    /// [`MediaError`]. If the volume is full or damaged, nothing has been changed.
    pub fn write(&self, seed: &[u8]) -> Result<(), MediaError> {
        check_seed(seed, &self.path)?;
        match self.kind {
            Kind::Folder => folder::write(&self.path, seed),
            Kind::Image | Kind::Device => {
                volume_of(&mut self.open_disk(true)?, &self.path)?.write(seed)
            }
        }
    }

    /// Overwrites the seed where it is, and then removes it. Harmless if there is none. Copies that
    /// other programs left behind, such as an editor on another machine, are not reached.
    ///
    /// # Errors
    ///
    /// [`MediaError`].
    pub fn erase(&self) -> Result<(), MediaError> {
        match self.kind {
            Kind::Folder => folder::erase(&self.path),
            Kind::Image | Kind::Device => {
                volume_of(&mut self.open_disk(true)?, &self.path)?.erase()
            }
        }
    }

    fn open_disk(&self, write: bool) -> Result<File, MediaError> {
        let mut flags = OFlags::NONBLOCK;
        if write && self.kind == Kind::Device {
            refuse_mounted(&self.path)?;
            // The kernel refuses what is in use in any other way, and mounting while this is open.
            flags |= OFlags::EXCL;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(flags.bits() as i32);
        let mut file = options.open(&self.path).map_err(|error| self.open_error(error))?;
        if write {
            flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|error| self.open_error(error.into()))?;
        }
        refuse_packed(&mut file, &self.path)?;
        Ok(file)
    }

    fn open_error(&self, error: io::Error) -> MediaError {
        let busy = [Errno::BUSY, Errno::WOULDBLOCK].map(|error| Some(error.raw_os_error()));
        if busy.contains(&error.raw_os_error()) {
            return MediaError::Busy { path: self.path.clone() };
        }
        failed("open", &self.path)(error)
    }
}

impl fmt::Display for SeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// What a seed is called in a folder until it is complete. A cut can leave it on a volume that is then
/// changed without mounting.
fn unfinished() -> String {
    format!("{SEED_FILE}.new")
}

/// Whether the content of the seed's file is one.
fn is_seed(content: &[u8]) -> bool {
    content.first().is_some_and(|first| *first != 0)
}

fn refuse_packed(file: &mut File, path: &Path) -> Result<(), MediaError> {
    let mut start = Vec::new();
    let read = file.by_ref().take(8).read_to_end(&mut start).and_then(|_| file.rewind());
    read.map_err(failed("read", path))?;
    match Packing::of(&start) {
        Some(Packing { format, command, .. }) => {
            Err(MediaError::Packed { path: path.to_owned(), format, command })
        }
        None => Ok(()),
    }
}

/// The volume for seeds on a disk that messages call by this path.
fn volume_of<'m>(disk: &'m mut dyn Medium, path: &Path) -> Result<SeedVolume<'m>, MediaError> {
    let part = find(disk, path)?;
    let window = Window::new(disk, part.offset, part.len);
    Ok(SeedVolume::new(window, format!("{part} of {}", path.display())))
}

fn find(disk: &mut dyn Medium, path: &Path) -> Result<Part, MediaError> {
    let path = path.to_owned();
    let found = match volume::look(disk) {
        Ok(found) => found,
        Err(source) => return Err(MediaError::Table { path, source }),
    };
    let listed = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut matching = found.into_iter().filter(volume::Found::is_for_seeds);
    match (matching.next(), matching.next()) {
        (Some(found), None) => Ok(found.part),
        (Some(_), Some(_)) => Err(MediaError::SeveralVolumes { path, found: listed }),
        (None, _) => Err(MediaError::NoVolume { path, found: listed }),
    }
}

/// Refuses what would read as no seed, or not at all.
fn check_seed(seed: &[u8], place: &Path) -> Result<(), MediaError> {
    if seed.len() > MAX_SEED_BYTES {
        let (place, size_bytes) = (place.display().to_string(), seed.len() as u64);
        return Err(MediaError::TooLarge { file: SEED_FILE, place, size_bytes });
    }
    if is_seed(seed) { Ok(()) } else { Err(MediaError::NotASeed) }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MediaError {
    let path = path.to_owned();
    move |source| MediaError::File { doing, path, source }
}
