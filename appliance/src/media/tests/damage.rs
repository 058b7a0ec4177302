//! Nothing that is on a disk makes the libraries take the program with them, or reach where they
//! should not.

use gpt::disk::LogicalBlockSize;
use proptest::prelude::*;

use super::{
    super::{volume::look, window::SECTOR},
    disk::{Disk, KINDS, gpt_disk, mbr_disk, seed_fat, volume, volume_at},
};

/// What damages a disk: a sector among those in use, or else the first, a place in it, and new bytes.
type Damage = Vec<(Option<prop::sample::Index>, usize, Vec<u8>)>;

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        Just(vec![0xff; 4]),
        Just(vec![0; 4]),
    ];
    let sector = any::<prop::sample::Index>().prop_map(Some);
    prop::collection::vec((sector, 0..SECTOR - 4, bytes), 1..8)
}

/// The fields of FAT's boot sector are where most of the sense is.
fn boot_damage() -> impl Strategy<Value = Damage> {
    let bytes = prop::collection::vec(any::<u8>(), 1..4);
    prop::collection::vec((Just(None), 11..70_usize, bytes), 1..4)
}

fn apply(disk: &mut Disk, damage: &Damage) {
    let used = disk.used();
    for (index, at, bytes) in damage {
        let number = index.map_or(0, |index| used[index.index(used.len())]);
        let mut sector = disk.sector(number);
        sector[*at..at + bytes.len()].copy_from_slice(bytes);
        disk.put(number, sector);
    }
}

fn volume_with_seed(kind: usize) -> Disk {
    let mut disk = seed_fat(KINDS[kind]);
    volume(&mut disk).write(&[b'a'; 3000]).unwrap();
    disk
}

/// Tries everything on a volume. What succeeds and what fails is left open; that it ends is not.
fn try_everything(disk: &mut Disk, start: u64, len: u64) {
    let _ = volume_at(disk, start, len).read();
    let written = volume_at(disk, start, len).write(&[b'b'; 2000]);
    if written.is_ok() {
        let seed = volume_at(disk, start, len).read().unwrap();
        assert_eq!(**seed.unwrap(), [b'b'; 2000]);
    }
    if volume_at(disk, start, len).erase().is_ok() {
        assert!(volume_at(disk, start, len).read().unwrap().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_volume_is_used_or_refused(
        kind in 0..3_usize,
        damage in prop_oneof![damage(), boot_damage()],
    ) {
        let mut disk = volume_with_seed(kind);
        let (before, len) = (1 << 20, disk.len());
        apply(&mut disk, &damage);
        // Words before and behind the volume that have to stay.
        let mut whole = Disk::new(len + 2 * before);
        whole.lay(before, &disk);
        let fence = [before / SECTOR as u64 - 1, (before + len) / SECTOR as u64];
        for number in fence {
            whole.put(number, [b'#'; SECTOR]);
        }
        try_everything(&mut whole, before, len);
        let used = whole.used();
        prop_assert!(used.first() >= Some(&fence[0]) && used.last() <= Some(&fence[1]));
        prop_assert!(fence.iter().all(|number| whole.sector(*number) == [b'#'; SECTOR]));
    }

    #[test]
    fn a_damaged_table_is_used_or_refused(is_gpt: bool, damage in damage()) {
        let small = seed_fat(KINDS[0]);
        let mut disk = match is_gpt {
            true => gpt_disk(LogicalBlockSize::Lb512, &[&small, &small]),
            false => mbr_disk(&[&small], &[&small, &small]),
        };
        apply(&mut disk, &damage);
        if let Ok(found) = look(&mut disk) {
            for found in found {
                prop_assert!(found.part.offset.saturating_add(found.part.len) <= disk.len()
                    || found.part.len == 0);
            }
        }
    }
}

#[test]
fn a_directory_that_runs_in_a_circle_is_refused() {
    // On FAT32 the root directory is a chain of clusters. Full of entries, and followed by itself.
    let mut disk = seed_fat(KINDS[2]);
    let boot = disk.sector(0);
    let fat = u64::from(u16::from_le_bytes([boot[14], boot[15]]));
    let fat_len = u64::from(u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]]));
    let mut table = disk.sector(fat);
    table[8..12].copy_from_slice(&2_u32.to_le_bytes());
    disk.put(fat, table);
    let mut full = [b'A'; SECTOR];
    full.chunks_mut(32).for_each(|entry| entry[11] = 0);
    disk.put(fat + 2 * fat_len, full);
    let error = volume(&mut disk).read().unwrap_err().to_string();
    assert!(error.contains("it never ends"), "{error}");
}

#[test]
fn a_gpt_with_odd_or_countless_entries_is_refused() {
    type Change = fn(&mut gpt::header::Header);
    let changes: [(Change, &str); 2] = [
        (|header| header.part_size = 256, "it makes no sense"),
        (|header| header.num_parts = 8192, "it never ends"),
    ];
    for (change, words) in changes {
        let block = LogicalBlockSize::Lb512;
        let mut disk = gpt_disk(block, &[&seed_fat(KINDS[0])]);
        let mut header = gpt::header::read_header_from_arbitrary_device(&mut disk, block).unwrap();
        change(&mut header);
        header.write_primary(&mut disk, block).unwrap();
        let error = look(&mut disk).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
