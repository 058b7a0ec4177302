//! The seed's file on a FAT volume.
//!
//! The steps of a change are made in memory first. So a volume that is full or damaged is not touched,
//! and each step can reach the medium in the order that leaves a usable volume wherever the power is
//! cut: what takes space is marked as taken before the file refers to it, and the file is gone before
//! its space is free. What is secret is only ever where the file's name leads to, or else no later
//! erasing would find it.
//!
//! Therefore there is no second name either: the library renames by deleting and making an entry, and
//! between the two nothing leads to the content. The first sector is what decides instead. It is the
//! last to be written and the first to be overwritten, and while it begins with a zero byte there is no
//! seed.

use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{Dir, DirEntry, FileSystem, ReadWriteSeek};
use zeroize::Zeroizing;

use super::{
    MAX_SEED_BYTES, MediaError, SEED_FILE, is_seed, unfinished,
    volume::with_fat,
    window::{Order, SECTOR, Window},
};

/// A volume for seeds.
pub(super) struct SeedVolume<'m> {
    window: Window<'m>,
    /// What messages call it.
    place: String,
}

impl<'m> SeedVolume<'m> {
    pub(super) fn new(window: Window<'m>, place: String) -> Self {
        Self { window, place }
    }

    pub(super) fn read(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
        Ok(self.read_file(SEED_FILE)?.filter(|content| is_seed(content)))
    }

    /// The content of a file in the root directory, if it is there.
    pub(super) fn read_file(
        &mut self,
        file: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
        let Some(size) = self.size("read", file, file)? else { return Ok(None) };
        let content =
            self.content(file, size).map_err(|source| self.failed("read", file, source))?;
        Ok(Some(content))
    }

    pub(super) fn write(mut self, seed: &[u8]) -> Result<(), MediaError> {
        self.plan_erasing("write")?;
        self.plan_writing(seed).map_err(|source| self.failed("write", SEED_FILE, source))?;
        if self.read()?.is_none_or(|found| *found != seed) {
            let source = io::Error::other("it does not read back");
            return Err(self.failed("write", SEED_FILE, source));
        }
        self.commit()
    }

    pub(super) fn erase(mut self) -> Result<(), MediaError> {
        self.plan_erasing("erase")?;
        self.commit()
    }

    /// The size of a file in bytes, if it is there; `file` is what messages call it.
    fn size(
        &mut self,
        doing: &'static str,
        file: &'static str,
        name: &str,
    ) -> Result<Option<u64>, MediaError> {
        let found = with_fat(&mut self.window, |volume| {
            let entry = entry(&volume.root_dir(), name)?;
            Ok(entry.map(|entry| (entry.is_file(), entry.len())))
        });
        match found.map_err(|source| self.failed(doing, file, source))? {
            Some((false, _)) => Err(MediaError::NotAFile { file, place: self.place.clone() }),
            Some((true, size_bytes)) if size_bytes > MAX_SEED_BYTES as u64 => {
                Err(MediaError::TooLarge { file, place: self.place.clone(), size_bytes })
            }
            found => Ok(found.map(|(_, size)| size)),
        }
    }

    fn content(&mut self, file: &str, size: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        with_fat(&mut self.window, |volume| {
            let mut content = Zeroizing::new(vec![0; size as usize]);
            volume.root_dir().open_file(file)?.read_exact(&mut content)?;
            Ok(content)
        })
    }

    /// Plans to erase the seed, and one that was never finished.
    fn plan_erasing(&mut self, doing: &'static str) -> Result<(), MediaError> {
        for name in [SEED_FILE, &unfinished()] {
            if let Some(size) = self.size(doing, SEED_FILE, name)? {
                self.plan_erasing_of(name, size)
                    .map_err(|source| self.failed(doing, SEED_FILE, source))?;
            }
        }
        Ok(())
    }

    fn plan_erasing_of(&mut self, name: &str, size: u64) -> io::Result<()> {
        for size in [size.min(SECTOR as u64), size] {
            self.step(Order::Forward, |volume| {
                let mut file = volume.root_dir().open_file(name)?;
                write_zeros(&mut file, size as usize)
            })?;
        }
        self.step(Order::Reverse, |volume| volume.root_dir().remove(name))
    }

    fn plan_writing(&mut self, seed: &[u8]) -> io::Result<()> {
        let (head, tail) = seed.split_at(seed.len().min(SECTOR));
        self.step(Order::Reverse, |volume| volume.root_dir().create_file(SEED_FILE)?.flush())?;
        self.step(Order::Forward, |volume| {
            let mut file = volume.root_dir().open_file(SEED_FILE)?;
            write_zeros(&mut file, seed.len())
        })?;
        self.step(Order::Forward, |volume| {
            let mut file = volume.root_dir().open_file(SEED_FILE)?;
            file.seek(SeekFrom::Start(head.len() as u64))?;
            file.write_all(tail)?;
            file.flush()
        })?;
        self.step(Order::Forward, |volume| {
            let mut file = volume.root_dir().open_file(SEED_FILE)?;
            file.write_all(head)?;
            file.flush()
        })
    }

    fn step(
        &mut self,
        order: Order,
        work: impl FnOnce(&FileSystem<&mut Window<'m>>) -> io::Result<()>,
    ) -> io::Result<()> {
        with_fat(&mut self.window, work)?;
        self.window.end_step(order);
        Ok(())
    }

    fn commit(self) -> Result<(), MediaError> {
        let Self { window, place } = self;
        window.commit().map_err(|source| MediaError::Medium { place, source })
    }

    fn failed(&self, doing: &'static str, file: &'static str, source: io::Error) -> MediaError {
        MediaError::Fat { doing, file, place: self.place.clone(), source }
    }
}

/// A file's entry in the root directory; FAT's names have no case.
fn entry<'v, T: ReadWriteSeek>(
    root: &Dir<'v, T>,
    name: &str,
) -> io::Result<Option<DirEntry<'v, T>>> {
    for entry in root.iter() {
        let entry = entry?;
        if entry.file_name().eq_ignore_ascii_case(name) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn write_zeros(file: &mut impl Write, size: usize) -> io::Result<()> {
    file.write_all(&vec![0; size])?;
    file.flush()
}
