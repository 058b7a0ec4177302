//! What is written to: a block device or a file that nobody else has open.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Advice, FlockOperation, OFlags, fadvise, fcntl_getfl, fcntl_setfl, flock},
    io::Errno,
};

use super::{Asked, Disk, FlashError, Image, disks::disk_of, error::failed, judge};
use crate::{
    durable::sync_folder,
    media::{Kernel, OpenedDisk},
    sys,
};

/// What reads past the page cache are aligned to, in bytes: no device has larger blocks.
const ALIGNMENT: usize = 4096;

/// What a target is before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file that is not there yet.
    New,
    /// A file.
    File {
        /// Its size.
        size_bytes: u64,
    },
    /// A block device.
    Device(Box<Disk>),
}

/// Looks at what a path names, and changes nothing.
///
/// # Errors
///
/// [`FlashError`]: it can be no target.
pub fn look(kernel: &Kernel, path: &Path) -> Result<Place, FlashError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A file in the place of a device that was mistyped would take the memory of this machine.
            let folder = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let is_device = folder.starts_with("/dev") && !folder.starts_with("/dev/shm");
            return match is_device {
                true => Err(FlashError::NoDevice { path: path.to_owned() }),
                false => Ok(Place::New),
            };
        }
        metadata => metadata.map_err(failed("look at", path))?,
    };
    if metadata.is_file() {
        return Ok(Place::File { size_bytes: metadata.len() });
    }
    if !metadata.file_type().is_block_device() {
        return Err(FlashError::NotATarget { path: path.to_owned() });
    }
    let disk = disk_of(kernel, &number(&metadata))?;
    let disk = disk.ok_or_else(|| FlashError::NoDevice { path: path.to_owned() })?;
    Ok(Place::Device(Box::new(disk)))
}

impl Place {
    /// Refuses a disk that may not be written to; see [`judge`].
    ///
    /// # Errors
    ///
    /// [`FlashError::Refused`].
    pub fn refuse(&self, path: &Path, asked: Asked) -> Result<(), FlashError> {
        let Self::Device(disk) = self else { return Ok(()) };
        judge(disk, asked).map_err(|why| FlashError::Refused { target: path.to_owned(), why })
    }
}

/// A device's number, such as `8:0`.
fn number(metadata: &fs::Metadata) -> String {
    let number = metadata.rdev();
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

/// An open target.
#[derive(Debug)]
pub struct Target {
    file: File,
    path: PathBuf,
    kind: Kind,
    size_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NewFile,
    File,
    Device,
}

impl Target {
    /// Opens what was looked at, for nobody else to write to or mount meanwhile. A file becomes as
    /// large as the image at least, and all holes.
    ///
    /// # Errors
    ///
    /// [`FlashError`]: it is in use, or not what it was.
    pub fn open(
        path: &Path,
        place: &Place,
        image: &Image,
        image_bytes: u64,
    ) -> Result<Self, FlashError> {
        let kind = match place {
            Place::New => Kind::NewFile,
            Place::File { .. } => Kind::File,
            Place::Device(_) => Kind::Device,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(kind == Kind::NewFile);
        if kind == Kind::Device {
            options.custom_flags((OFlags::EXCL | OFlags::NONBLOCK).bits() as i32);
        }
        let open_error = |error: io::Error| {
            let busy = [Errno::BUSY, Errno::WOULDBLOCK].map(|error| Some(error.raw_os_error()));
            match busy.contains(&error.raw_os_error()) {
                true => FlashError::Busy { path: path.to_owned() },
                false => failed("open", path)(error),
            }
        };
        let file = options.open(path).map_err(open_error)?;
        // udev waits for this, too (systemd's BLOCK_DEVICE_LOCKING).
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| open_error(error.into()))?;
        let metadata = file.metadata().map_err(failed("look at", path))?;
        let is_same = match place {
            Place::New | Place::File { .. } => metadata.is_file(),
            Place::Device(disk) => number(&metadata) == disk.number,
        };
        if !is_same {
            return Err(FlashError::Changed { path: path.to_owned() });
        }
        if kind != Kind::Device && image.is_file((metadata.dev(), metadata.ino())) {
            return Err(FlashError::Itself { path: path.to_owned() });
        }
        let mut target = Self { file, path: path.to_owned(), kind, size_bytes: 0 };
        target.size_bytes = match place {
            Place::Device(disk) => {
                let size = io::Seek::seek(&mut &target.file, io::SeekFrom::End(0));
                let size = size.map_err(failed("look at", path))?;
                if size != disk.size_bytes {
                    return Err(FlashError::Changed { path: path.to_owned() });
                }
                size
            }
            Place::New | Place::File { .. } => metadata.len().max(image_bytes),
        };
        Ok(target)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether what was not written reads as zeros.
    pub(super) fn is_sparse(&self) -> bool {
        self.kind != Kind::Device
    }

    /// Forgets what a file holds.
    pub(super) fn clear(&self) -> Result<(), FlashError> {
        if self.kind == Kind::Device {
            return Ok(());
        }
        let cleared = self.file.set_len(0).and_then(|()| self.file.set_len(self.size_bytes));
        cleared.map_err(failed("resize", &self.path))
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Returns when what was written is on the medium.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// From here on until the guard is dropped, reads come from the medium, not from memory, where
    /// this is possible.
    pub(super) fn past_the_cache(&self) -> PastTheCache<'_> {
        // What was synced can be forgotten. Both are requests, and either is enough.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let flags = fcntl_getfl(&self.file).ok();
        let direct = flags.filter(|flags| fcntl_setfl(&self.file, *flags | OFlags::DIRECT).is_ok());
        PastTheCache { target: self, direct, buffer: Vec::new() }
    }

    /// Removes a file that was made for this; whether it was one.
    pub(super) fn leave(&self) -> bool {
        self.kind == Kind::NewFile && fs::remove_file(&self.path).is_ok()
    }

    /// Undoes what was begun as far as possible: nothing starts from what is left. Says what that is.
    pub(super) fn abandon(&self, head_bytes: usize) -> &'static str {
        if self.leave() {
            return "it was removed";
        }
        // It was zeroed before all else. This is for a failure after it was written again.
        let zeroed = self.write(&vec![0; head_bytes], 0).and_then(|()| self.sync());
        match zeroed {
            Ok(()) => "it has no partition table, and nothing starts from it; flash it again",
            Err(_) => "it cannot be used; flash it again, or take another medium",
        }
    }

    /// Puts a seed on the volume for it, and looks whether it is there.
    ///
    /// # Errors
    ///
    /// [`FlashError::Media`], and [`FlashError::SeedDiffers`].
    pub fn seed(&mut self, seed: &[u8]) -> Result<(), FlashError> {
        OpenedDisk::new(&mut self.file, &self.path).write_seed(seed)?;
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let found = OpenedDisk::new(&mut self.file, &self.path).read_seed()?;
        match found.is_some_and(|found| *found == seed) {
            true => Ok(()),
            false => Err(FlashError::SeedDiffers { path: self.path.clone() }),
        }
    }

    /// Lets it go, when everything is on the medium and the kernel knows of the new partitions.
    ///
    /// # Errors
    ///
    /// [`FlashError::File`].
    pub fn finish(self) -> Result<(), FlashError> {
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        match self.kind {
            Kind::NewFile => {
                let folder = self.path.parent().filter(|path| *path != Path::new(""));
                let folder = folder.unwrap_or(Path::new("."));
                sync_folder(folder).map_err(failed("sync", folder))
            }
            Kind::File => Ok(()),
            Kind::Device => {
                // Whoever wants the partitions here sees them when it is plugged in again, at the latest.
                let _ = sys::reread_partition_table(&self.file);
                Ok(())
            }
        }
    }
}

/// A target that is read back.
pub(super) struct PastTheCache<'t> {
    target: &'t Target,
    /// The flags from before, if they were changed.
    direct: Option<OFlags>,
    buffer: Vec<u8>,
}

impl PastTheCache<'_> {
    /// So many bytes from there, or as many as there are. `at` is aligned.
    pub(super) fn read(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let whole = len.next_multiple_of(ALIGNMENT);
        self.buffer.resize(whole + ALIGNMENT, 0);
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let mut read = 0;
        while read < len {
            let rest = &mut self.buffer[start + read..start + whole];
            match self.target.file.read_at(rest, at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file system takes the flag and not the read.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.end_direct() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[start..start + read.min(len)])
    }

    /// Goes back to reading through memory; whether it did not before.
    fn end_direct(&mut self) -> bool {
        self.direct.take().is_some_and(|flags| fcntl_setfl(&self.target.file, flags).is_ok())
    }
}

impl Drop for PastTheCache<'_> {
    fn drop(&mut self) {
        self.end_direct();
    }
}
