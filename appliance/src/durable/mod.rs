//! Files that outlast a power cut, and folders that one process changes at a time.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Writes a whole file durably or not at all, and not if it has this content already: an SD card
/// wears out.
///
/// # Errors
/// The file is as it was, unless its folder could not be synced.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Returns when what was made, renamed or removed in a folder is on the medium.
///
/// # Errors
/// It may not be.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A folder that everybody else who locks it leaves alone until this is dropped (flock(2)).
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Waits for the folder.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub fn wait_for(folder: &Path) -> io::Result<Self> {
        Self::new(folder, FlockOperation::LockExclusive)
    }

    /// Has the folder now.
    ///
    /// # Errors
    /// It cannot be opened or locked; [`io::ErrorKind::WouldBlock`] if somebody else has the lock.
    pub fn at_once(folder: &Path) -> io::Result<Self> {
        Self::new(folder, FlockOperation::NonBlockingLockExclusive)
    }

    fn new(folder: &Path, how: FlockOperation) -> io::Result<Self> {
        // The folder itself: a file that is closed after it was open for writing would look to those who watch
        // the folder as if something had changed.
        let lock = File::open(folder)?;
        flock(&lock, how)?;
        Ok(Self(lock))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // To close it is not enough: a child that is between fork and exec has the same open file.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_though_a_child_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let locked = Locked::at_once(folder.path()).unwrap();
        let of_child = locked.0.try_clone().unwrap();
        let refused = Locked::at_once(folder.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(locked);
        Locked::at_once(folder.path()).unwrap();
        drop(of_child);
    }
}
