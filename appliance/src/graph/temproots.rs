//! The file of a process's temporary roots: store paths, each followed by a zero byte, appended
//! (`LocalStore::addTempRoot`, gc.cc).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix_compat::store_path::{MAX_LEN, StorePath};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// One such file, and how far it has been read.
#[derive(Debug)]
pub struct TempRoots {
    file: PathBuf,
    inode: u64,
    /// The end of the last whole path that was read, in bytes.
    offset: u64,
}

impl TempRoots {
    /// The file of a process, in the folder of all of them. It need not be there yet.
    #[must_use]
    pub fn of(folder: &Path, pid: i32) -> Self {
        Self { file: folder.join(pid.to_string()), inode: 0, offset: 0 }
    }

    /// Reads what has been added since the last time, and gives each derivation in it to `take`, until
    /// that says that it is enough, or there is no more. Tells whether there may be more. What is no
    /// store path is passed over, and a file that was replaced is read from its beginning.
    ///
    /// # Errors
    /// If the file is there, and cannot be read.
    pub fn read(&mut self, mut take: impl FnMut(&StorePath) -> Enough) -> io::Result<bool> {
        let mut file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let now = file.metadata()?;
        if now.ino() != self.inode || now.len() < self.offset {
            (self.inode, self.offset) = (now.ino(), 0);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            (&mut file).take(CHUNK as u64).read_to_end(&mut bytes)?;
            let is_end = bytes.len() == before;
            let mut used = 0;
            while let Some(length) = bytes[used..].iter().position(|byte| *byte == 0) {
                let path = drv(&bytes[used..used + length]);
                used += length + 1;
                if path.is_some_and(|path| take(&path) == Enough::Yes) {
                    self.offset += used as u64;
                    return Ok(true);
                }
            }
            // Too long for a path: its end does not matter.
            if bytes.len() - used > MAX_LEN {
                used = bytes.len();
            }
            self.offset += used as u64;
            bytes.drain(..used);
            if is_end {
                return Ok(false);
            }
        }
    }
}

/// Whether a reader has enough for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// It goes on later.
    Yes,
    /// It takes the next one.
    NotYet,
}

fn drv(bytes: &[u8]) -> Option<StorePath> {
    if !bytes.ends_with(b".drv") {
        return None;
    }
    StorePath::parse(std::str::from_utf8(bytes).ok()?).ok()
}
