//! A disk in memory, and what is on it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use gpt::{
    GptConfig,
    disk::LogicalBlockSize,
    mbr::{PartRecord, ProtectiveMBR},
};
use tempfile::NamedTempFile;

use super::super::{
    seed::SeedVolume,
    window::{Medium, SECTOR, Window},
};

pub(super) const MIB: u64 = 1 << 20;

/// What else is lost when the power is cut, besides what is not written yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    Nothing,
    /// Everything since the last sync but the very last write, which the medium had put first.
    Unsynced,
}

/// A disk that keeps the sectors that are not zero, and can lose power.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    len: u64,
    at: u64,
    sectors: BTreeMap<u64, [u8; SECTOR]>,
    cut: Option<(usize, Lost)>,
    pub(super) writes: usize,
    unsynced: Vec<(u64, [u8; SECTOR])>,
}

impl Disk {
    pub(super) fn new(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// The power is cut after so many more writes.
    pub(super) fn cut_after(mut self, writes: usize, lost: Lost) -> Self {
        (self.cut, self.writes) = (Some((writes, lost)), 0);
        self.unsynced.clear();
        self
    }

    pub(super) fn powered_again(mut self) -> Self {
        self.cut = None;
        self
    }

    pub(super) fn sector(&self, number: u64) -> [u8; SECTOR] {
        self.sectors.get(&number).copied().unwrap_or([0; SECTOR])
    }

    pub(super) fn put(&mut self, number: u64, bytes: [u8; SECTOR]) {
        if bytes == [0; SECTOR] {
            self.sectors.remove(&number);
        } else {
            self.sectors.insert(number, bytes);
        }
    }

    /// The sectors that are not zero.
    pub(super) fn used(&self) -> Vec<u64> {
        self.sectors.keys().copied().collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether words that do not cross sectors are anywhere on it.
    pub(super) fn holds(&self, words: &[u8]) -> bool {
        let in_sector = |bytes: &[u8; SECTOR]| bytes.windows(words.len()).any(|some| some == words);
        self.sectors.values().any(in_sector)
    }

    /// Lays another disk's content over this one.
    pub(super) fn lay(&mut self, offset: u64, other: &Self) {
        let first = offset / SECTOR as u64;
        self.sectors.extend(other.sectors.iter().map(|(number, bytes)| (first + number, *bytes)));
    }

    /// As a sparse file.
    pub(super) fn image(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.as_file().set_len(self.len).unwrap();
        for (number, bytes) in &self.sectors {
            file.seek(SeekFrom::Start(number * SECTOR as u64)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    /// The disk that an image is of.
    pub(super) fn from_image(file: &mut NamedTempFile) -> Self {
        let mut disk = Self::new(file.as_file().metadata().unwrap().len());
        file.rewind().unwrap();
        for number in 0..disk.len / SECTOR as u64 {
            let mut bytes = [0; SECTOR];
            file.read_exact(&mut bytes).unwrap();
            if bytes != [0; SECTOR] {
                disk.sectors.insert(number, bytes);
            }
        }
        disk
    }

    fn reach(&self, wanted: usize) -> (u64, usize, usize) {
        let within = (self.at % SECTOR as u64) as usize;
        let left = self.len.saturating_sub(self.at).min((SECTOR - within) as u64) as usize;
        (self.at / SECTOR as u64, within, wanted.min(left))
    }

    fn lose_power(&mut self) {
        if let Some((_, Lost::Unsynced)) = self.cut {
            self.unsynced.pop();
            for (number, before) in std::mem::take(&mut self.unsynced) {
                self.put(number, before);
            }
        }
    }
}

impl Read for Disk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (number, within, len) = self.reach(buf.len());
        buf[..len].copy_from_slice(&self.sector(number)[within..within + len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for Disk {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.cut.is_some_and(|(writes, _)| self.writes == writes) {
            self.lose_power();
            return Err(io::Error::other("the power is cut"));
        }
        let (number, within, len) = self.reach(buf.len());
        let before = self.sector(number);
        let mut bytes = before;
        bytes[within..within + len].copy_from_slice(&buf[..len]);
        self.put(number, bytes);
        self.unsynced.push((number, before));
        self.writes += 1;
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
            SeekFrom::End(by) => self.len.checked_add_signed(by).unwrap(),
        };
        Ok(self.at)
    }
}

impl Medium for Disk {
    fn sync(&mut self) -> io::Result<()> {
        self.unsynced.clear();
        Ok(())
    }
}

pub(super) const KINDS: [FatType; 3] = [FatType::Fat12, FatType::Fat16, FatType::Fat32];

/// An empty FAT volume of the smallest clusters.
pub(super) fn fat(kind: FatType, label: Option<&[u8; 11]>) -> Disk {
    let mut disk = Disk::new(match kind {
        FatType::Fat12 => MIB,
        FatType::Fat16 => 4 * MIB,
        FatType::Fat32 => 36 * MIB,
    });
    let options = FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(512);
    let options = label.into_iter().fold(options, |options, label| options.volume_label(*label));
    format_volume(&mut disk, options).unwrap();
    assert_eq!(library(&mut disk).fat_type(), kind);
    disk
}

/// The volume that a disk is, as the FAT library sees it.
pub(super) fn library(disk: &mut Disk) -> FileSystem<&mut Disk> {
    disk.at = 0;
    FileSystem::new(disk, FsOptions::new()).unwrap()
}

/// An empty FAT volume for seeds.
pub(super) fn seed_fat(kind: FatType) -> Disk {
    fat(kind, Some(b"ROOST_SEED "))
}

/// The volume for seeds at a place on a disk.
pub(super) fn volume_at(disk: &mut Disk, offset: u64, len: u64) -> SeedVolume<'_> {
    SeedVolume::new(Window::new(disk, offset, len), "a test".to_owned())
}

/// The volume for seeds that a disk is.
pub(super) fn volume(disk: &mut Disk) -> SeedVolume<'_> {
    let len = disk.len;
    volume_at(disk, 0, len)
}

/// A disk with a GPT and these volumes as its partitions.
pub(super) fn gpt_disk(block: LogicalBlockSize, volumes: &[&Disk]) -> Disk {
    let len = 2 * MIB + volumes.iter().map(|volume| volume.len + MIB).sum::<u64>();
    let mut disk = Disk::new(len);
    let blocks = u32::try_from(len / block.as_u64() - 1).unwrap();
    ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(&mut disk).unwrap();
    let config = GptConfig::new().writable(true).logical_block_size(block);
    let mut table = config.create_from_device(&mut disk, None).unwrap();
    for volume in volumes {
        let kind = gpt::partition_types::LINUX_FS;
        table.add_partition("a part", volume.len, kind, 0, None).unwrap();
    }
    let parts = table.partitions().clone();
    table.write().unwrap();
    for (part, volume) in parts.values().zip(volumes) {
        disk.lay(part.bytes_start(block).unwrap(), volume);
    }
    disk
}

/// A disk with an MBR: some volumes as primary partitions, others as logical ones.
pub(super) fn mbr_disk(primary: &[&Disk], logical: &[&Disk]) -> Disk {
    let sectors = |len: u64| u32::try_from(len / SECTOR as u64).unwrap();
    let len = primary.iter().chain(logical).map(|volume| volume.len + MIB).sum::<u64>() + 2 * MIB;
    let (mut disk, mut at) = (Disk::new(len), MIB);
    let record = |os_type, start: u64, len: u64| PartRecord {
        os_type,
        lb_start: sectors(start),
        lb_size: sectors(len),
        ..PartRecord::zero()
    };
    let table = |records: &[PartRecord]| {
        let mut table = ProtectiveMBR::new();
        for at in 0..4 {
            table.set_partition(at, records.get(at).copied().unwrap_or(PartRecord::zero()));
        }
        table.to_bytes()
    };
    let mut records = Vec::new();
    for volume in primary {
        records.push(record(0x0c, at, volume.len));
        disk.lay(at, volume);
        at += volume.len + MIB;
    }
    let start = at;
    if !logical.is_empty() {
        records.push(record(0x0f, start, len - start));
    }
    disk.put(0, table(&records));
    for (number, volume) in logical.iter().enumerate() {
        let next = at + volume.len + MIB;
        let mut records = vec![record(0x0c, MIB / 2, volume.len)];
        if number + 1 < logical.len() {
            records.push(record(0x05, next - start, MIB));
        }
        disk.put(at / SECTOR as u64, table(&records));
        disk.lay(at + MIB / 2, volume);
        at = next;
    }
    disk
}
