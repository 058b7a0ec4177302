//! Disks in memory as the parts of this module take them.

#[path = "../../../tests/fixtures/disk.rs"]
mod made;

use std::io;

use super::super::{
    seed::SeedVolume,
    window::{Medium, Window},
};
pub(crate) use made::*;

impl Medium for Disk {
    fn sync(&mut self) -> io::Result<()> {
        self.synced();
        Ok(())
    }
}

/// The volume for seeds at a place on a disk.
pub(super) fn volume_at(disk: &mut Disk, offset: u64, len: u64) -> SeedVolume<'_> {
    SeedVolume::new(Window::new(disk, offset, len), "a test".to_owned())
}

/// The volume for seeds that a disk is.
pub(super) fn volume(disk: &mut Disk) -> SeedVolume<'_> {
    let len = disk.len();
    volume_at(disk, 0, len)
}
