//! Images, as they are or packed.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    FlashError, Phase, Watch,
    error::failed,
    go_on,
    unpack::{self, Unpacker},
};
use crate::media::{Packing, ZSTD};

/// How much is unpacked at a time while it is measured, in bytes.
const STEP: usize = 1 << 20;

/// A disk image in a file.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    is_packed: bool,
    /// Device and number of the file.
    file: (u64, u64),
    file_bytes: u64,
    size_bytes: Option<u64>,
}

impl Image {
    /// Looks at an image: raw, or packed with zstd. One that was cut short is found out here if it is
    /// packed; of a raw one nobody can tell.
    ///
    /// # Errors
    ///
    /// [`FlashError`]: no file, empty, packed otherwise, or damaged.
    pub fn open(path: &Path) -> Result<Self, FlashError> {
        let metadata = fs::metadata(path).map_err(failed("open", path))?;
        if !metadata.is_file() {
            return Err(FlashError::NotAnImage { path: path.to_owned() });
        }
        let mut start = Vec::new();
        let file = File::open(path).map_err(failed("open", path))?;
        file.take(8).read_to_end(&mut start).map_err(failed("read", path))?;
        let size_bytes = match Packing::of(&start) {
            Some(ZSTD) => unpack::check(path)?,
            Some(Packing { format, command, .. }) => {
                return Err(FlashError::Packing { path: path.to_owned(), format, command });
            }
            None => Some(metadata.len()),
        };
        if size_bytes == Some(0) {
            return Err(FlashError::Empty { path: path.to_owned() });
        }
        Ok(Self {
            path: path.to_owned(),
            is_packed: Packing::of(&start).is_some(),
            file: (metadata.dev(), metadata.ino()),
            file_bytes: metadata.len(),
            size_bytes,
        })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size on a medium, unless only unpacking it tells.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// Whether this is its file, by device and number.
    pub(super) fn is_file(&self, file: (u64, u64)) -> bool {
        self.file == file
    }

    /// Its size on a medium; unpacks it if nothing else tells.
    ///
    /// # Errors
    ///
    /// [`FlashError`]: it is damaged, or whoever watches stops it.
    pub fn measure(&mut self, watch: &mut dyn Watch) -> Result<u64, FlashError> {
        if let Some(size) = self.size_bytes {
            return Ok(size);
        }
        watch.begin(Phase::Measuring, self.file_bytes);
        let mut unpacker = Unpacker::open(&self.path)?;
        let (mut size, mut buf) = (0, vec![0; STEP]);
        loop {
            go_on(watch)?;
            match unpacker.read(&mut buf)? {
                0 => break,
                read => size += read as u64,
            }
            watch.done(unpacker.packed_at());
        }
        if size == 0 {
            return Err(FlashError::Empty { path: self.path.clone() });
        }
        self.size_bytes = Some(size);
        Ok(size)
    }

    pub(super) fn reader(&self) -> Result<Reader, FlashError> {
        let kind = if self.is_packed {
            Kind::Packed(Box::new(Unpacker::open(&self.path)?))
        } else {
            Kind::Raw(File::open(&self.path).map_err(failed("open", &self.path))?)
        };
        Ok(Reader { path: self.path.clone(), kind })
    }
}

/// An image, read from its start.
pub(super) struct Reader {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Raw(File),
    Packed(Box<Unpacker>),
}

impl Reader {
    /// Fills the buffer; gives less than that at the end only.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<usize, FlashError> {
        let mut filled = 0;
        while filled < buf.len() {
            let rest = &mut buf[filled..];
            let read = match &mut self.kind {
                Kind::Raw(file) => match file.read(rest) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    read => read.map_err(failed("read", &self.path))?,
                },
                Kind::Packed(unpacker) => unpacker.read(rest)?,
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }
}
