//! The seed's file in a folder: a FAT volume that is mounted there.
//!
//! Here the kernel renames in one go, so a new seed is complete under another name before it gets its
//! own. The old one is overwritten before that, while a name still leads to it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{MAX_SEED_BYTES, MediaError, SEED_FILE, is_seed, unfinished};

pub(super) fn read(folder: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
    let path = folder.join(SEED_FILE);
    let Some((file, size)) = open(folder, &path, false)? else { return Ok(None) };
    // With room for all of it nothing is left behind in memory that was given back.
    let mut content = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(size).read_to_end(&mut content).map_err(failed("read", &path))?;
    Ok(Some(content).filter(|content| is_seed(content)))
}

pub(super) fn write(folder: &Path, seed: &[u8]) -> Result<(), MediaError> {
    let (path, new) = (folder.join(SEED_FILE), folder.join(unfinished()));
    let old = open(folder, &path, true)?;
    discard(folder, &new)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(seed).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        discard(folder, &new)?;
        return Err(failed("write", &new)(error));
    }
    if let Some((file, size)) = old {
        overwrite(file, size).map_err(failed("overwrite", &path))?;
    }
    fs::rename(&new, &path).map_err(failed("replace", &path))?;
    sync(folder)
}

pub(super) fn erase(folder: &Path) -> Result<(), MediaError> {
    discard(folder, &folder.join(unfinished()))?;
    discard(folder, &folder.join(SEED_FILE))
}

/// Overwrites and removes a file, if it is there.
fn discard(folder: &Path, path: &Path) -> Result<(), MediaError> {
    let Some((file, size)) = open(folder, path, true)? else { return Ok(()) };
    overwrite(file, size).map_err(failed("overwrite", path))?;
    fs::remove_file(path).map_err(failed("remove", path))?;
    sync(folder)
}

fn overwrite(mut file: File, size: u64) -> io::Result<()> {
    file.rewind()?;
    file.write_all(&vec![0; size as usize])?;
    file.sync_all()
}

fn sync(folder: &Path) -> Result<(), MediaError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

/// A plain file, and its size in bytes; none if it is not there. Links are not followed, and nothing
/// that would block is waited for.
fn open(folder: &Path, path: &Path, write: bool) -> Result<Option<(File, u64)>, MediaError> {
    let place = || folder.display().to_string();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).write(write).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", path))?,
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if !metadata.is_file() {
        return Err(MediaError::NotAFile { file: SEED_FILE, place: place() });
    }
    if metadata.len() > MAX_SEED_BYTES as u64 {
        return Err(MediaError::TooLarge {
            file: SEED_FILE,
            place: place(),
            size_bytes: metadata.len(),
        });
    }
    Ok(Some((file, metadata.len())))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MediaError {
    let path = path.to_owned();
    move |source| MediaError::File { doing, path, source }
}
