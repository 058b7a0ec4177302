//! Which parts a disk has: the partitions of a GPT or MBR table.

use std::io::{self, Read, Seek, SeekFrom};

use gpt::{
    GptConfig, GptError,
    disk::LogicalBlockSize,
    mbr::{PartRecord, ProtectiveMBR},
};

use super::{
    guard::guarded,
    window::{Medium, SECTOR, Window},
};

/// MBR types (<https://www.win.tue.nl/~aeb/partitions/partition_types-1.html>): a GPT is there, and a
/// container for logical partitions.
const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// How many logical partitions are looked for; Linux has no more device numbers for a disk's.
const MAX_LOGICAL: u32 = 60;

/// Reads of a GPT: a table of the usual 128 entries takes less than two hundred.
const MAX_GPT_CALLS: u32 = 1024;

/// A part of a disk that may hold a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The partition's number as Linux counts, or none for the whole disk.
    pub(super) number: Option<u32>,
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// How much of it is there, in bytes.
    pub(super) len: u64,
}

/// The disk as one part.
pub(super) fn whole(disk: &mut dyn Medium) -> io::Result<Part> {
    Ok(Part { number: None, offset: 0, len: disk.seek(SeekFrom::End(0))? })
}

/// The partitions of a disk; none if it has no table.
pub(super) fn partitions(disk: &mut dyn Medium) -> io::Result<Vec<Part>> {
    let len = whole(disk)?.len;
    let Some(records) = records(disk, len, 0)? else { return Ok(Vec::new()) };
    let found = if records.iter().any(|record| record.os_type == PROTECTIVE) {
        of_gpt(disk, len)?
    } else {
        of_mbr(disk, len, records)?
    };
    Ok(found.into_iter().map(|part| clipped(part, len)).collect())
}

/// A partition as far as it is on the disk.
fn clipped(part: Part, disk_len: u64) -> Part {
    Part { len: part.len.min(disk_len.saturating_sub(part.offset)), ..part }
}

fn of_gpt(disk: &mut dyn Medium, len: u64) -> io::Result<Vec<Part>> {
    let small = gpt_with(disk, len, LogicalBlockSize::Lb512);
    small.or_else(|error| gpt_with(disk, len, LogicalBlockSize::Lb4096).map_err(|_| error))
}

fn gpt_with(disk: &mut dyn Medium, len: u64, block: LogicalBlockSize) -> io::Result<Vec<Part>> {
    let window = Window::new(disk, 0, len).allowing(MAX_GPT_CALLS);
    guarded(|| {
        let table = GptConfig::new().logical_block_size(block).open_from_device(window);
        let table = table.map_err(|error| match error {
            GptError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        let used = table.partitions().iter().filter(|(_, partition)| partition.is_used());
        let part = |(number, partition): (&u32, &gpt::partition::Partition)| Part {
            number: Some(*number),
            // One that overflows or ends before it begins has nothing on the disk.
            offset: partition.bytes_start(block).unwrap_or(u64::MAX),
            len: partition.bytes_len(block).unwrap_or(0),
        };
        Ok(used.map(part).collect())
    })
}

fn of_mbr(disk: &mut dyn Medium, len: u64, records: [PartRecord; 4]) -> io::Result<Vec<Part>> {
    let (mut parts, mut logical) = (Vec::new(), Vec::new());
    for (number, record) in (1..).zip(records) {
        if EXTENDED.contains(&record.os_type) {
            logical.extend(of_chain(disk, len, record.lb_start.into())?);
        } else if record.os_type != 0 {
            parts.push(part(number, 0, &record));
        }
    }
    // The numbers of logical partitions begin at 5, whatever the table has before.
    let numbered = (5..).zip(logical).map(|(number, part)| Part { number: Some(number), ..part });
    parts.extend(numbered);
    Ok(parts)
}

/// The logical partitions of an extended one: each has a table with itself, relative to that table,
/// and the next table, relative to the extended partition.
fn of_chain(disk: &mut dyn Medium, len: u64, start: u64) -> io::Result<Vec<Part>> {
    let (mut parts, mut at) = (Vec::new(), start);
    for number in 0..MAX_LOGICAL {
        let Some([own, next, ..]) = records(disk, len, at)? else { break };
        if own.os_type != 0 {
            parts.push(part(number, at, &own));
        }
        if !EXTENDED.contains(&next.os_type) || next.lb_start == 0 {
            break;
        }
        at = start + u64::from(next.lb_start);
    }
    Ok(parts)
}

fn part(number: u32, from: u64, record: &PartRecord) -> Part {
    Part {
        number: Some(number),
        offset: (from + u64::from(record.lb_start)) * SECTOR as u64,
        len: u64::from(record.lb_size) * SECTOR as u64,
    }
}

/// The four records of the table in a sector; none if the sector is not there or holds no table.
fn records(disk: &mut dyn Medium, len: u64, number: u64) -> io::Result<Option<[PartRecord; 4]>> {
    let mut window = Window::new(disk, 0, len);
    let mut sector = [0; SECTOR];
    window.seek(SeekFrom::Start(number * SECTOR as u64))?;
    match window.read_exact(&mut sector) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let table = ProtectiveMBR::from_bytes(&sector, LogicalBlockSize::Lb512);
    let record = |table: &ProtectiveMBR, at| table.partition(at).unwrap_or(PartRecord::zero());
    Ok(table.ok().map(|table| [0, 1, 2, 3].map(|at| record(&table, at))))
}
