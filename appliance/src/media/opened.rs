//! The volume for seeds of a disk that somebody holds open, so that nobody gets in between.

use std::{fs::File, path::Path};

use zeroize::Zeroizing;

use super::{MediaError, check_seed, table, volume_of};

/// A raw disk image or a block device that is open.
#[derive(Debug)]
pub struct OpenedDisk<'d> {
    disk: &'d mut File,
    path: &'d Path,
}

impl<'d> OpenedDisk<'d> {
    /// `path` is what messages call it.
    pub fn new(disk: &'d mut File, path: &'d Path) -> Self {
        Self { disk, path }
    }

    /// Where its partitions end, in bytes, in order; nothing if it has no table.
    ///
    /// # Errors
    ///
    /// [`MediaError::Table`].
    pub fn partition_ends(&mut self) -> Result<Vec<u64>, MediaError> {
        let parts = table::partitions(self.disk)
            .map_err(|source| MediaError::Table { path: self.path.to_owned(), source })?;
        let mut ends: Vec<u64> =
            parts.iter().map(|part| part.offset.saturating_add(part.len)).collect();
        ends.sort_unstable();
        Ok(ends)
    }

    /// A file in the root folder of the volume for seeds, if it is there.
    ///
    /// # Errors
    ///
    /// [`MediaError`], also if it has more than [`super::MAX_SEED_BYTES`].
    pub fn read_file(
        &mut self,
        file: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
        volume_of(self.disk, self.path)?.read_file(file)
    }

    /// The seed, if there is one.
    ///
    /// # Errors
    ///
    /// As [`super::SeedPlace::read`].
    pub fn read_seed(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, MediaError> {
        volume_of(self.disk, self.path)?.read()
    }

    /// Puts a seed there, as [`super::SeedPlace::write`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_seed(&mut self, seed: &[u8]) -> Result<(), MediaError> {
        check_seed(seed, self.path)?;
        volume_of(self.disk, self.path)?.write(seed)
    }
}
