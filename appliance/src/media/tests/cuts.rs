//! The power is cut at every point of a change.

use std::io::Write;

use fatfs::FatType;

use super::{
    super::{MediaError, volume_of, window::SECTOR},
    disk::{Disk, KINDS, Lost, library, seed_disks, seed_fat, volume},
};

fn read(disk: &mut Disk) -> Option<Vec<u8>> {
    volume(disk).read().unwrap().map(|seed| seed.to_vec())
}

/// A seed whose every sector has words that no other seed has.
fn seed(word: u8, len: usize) -> Vec<u8> {
    let words = words(word);
    let mut seed = words.iter().copied().cycle().take(len).collect::<Vec<u8>>();
    if let Some(last) = seed.last_mut() {
        *last = b'\n';
    }
    seed
}

/// Sixteen bytes, so that none are in two sectors.
fn words(word: u8) -> [u8; 16] {
    let mut words = *b"token = 's3cr3t'";
    words[..5].fill(word);
    words
}

/// A volume with files before the place where the seed's entry goes.
fn with_files(kind: FatType, files: &[&str]) -> Disk {
    let mut disk = seed_fat(kind);
    let fs = library(&mut disk);
    for name in files {
        fs.root_dir().create_file(name).unwrap().write_all(b"not ours").unwrap();
    }
    drop(fs);
    disk
}

/// How many writes a change takes.
fn writes(start: &Disk, change: impl Fn(&mut Disk) -> Result<(), MediaError>) -> usize {
    let mut disk = start.clone().cut_after(usize::MAX, Lost::Nothing);
    change(&mut disk).unwrap();
    disk.writes
}

/// Cuts a change short at every write, and looks at what is left each time.
fn cut_everywhere(
    start: &Disk,
    change: impl Fn(&mut Disk) -> Result<(), MediaError>,
    look: impl Fn(Disk, &str),
) {
    let all = writes(start, &change);
    assert!(all > 2, "{all}");
    for lost in [Lost::Nothing, Lost::Unsynced] {
        for after in 0..all {
            let mut disk = start.clone().cut_after(after, lost);
            let error = change(&mut disk).unwrap_err().to_string();
            assert!(error.contains("the power is cut"), "{error}");
            look(disk.powered_again(), &format!("cut after {after} of {all} writes, {lost:?}"));
        }
    }
}

/// Replacing a seed can be cut anywhere, done again, and leaves nothing that erasing does not find.
fn check_replacing(start: &Disk, old_len: usize, new_len: usize) {
    let mut start = start.clone();
    let (old, new, third) = (seed(b'A', old_len), seed(b'B', new_len), seed(b'C', new_len));
    if old_len > 0 {
        volume(&mut start).write(&old).unwrap();
    }
    let change = |disk: &mut Disk| volume(disk).write(&new);
    cut_everywhere(&start, change, |mut disk, when| {
        let left = read(&mut disk);
        assert!(left.is_none_or(|left| left == old || left == new), "{when}");

        let mut erased = disk.clone();
        volume(&mut erased).erase().unwrap();
        assert!(read(&mut erased).is_none(), "{when}");
        assert!(!erased.holds(&words(b'A')) && !erased.holds(&words(b'B')), "{when}");

        volume(&mut disk).write(&third).unwrap();
        assert!(read(&mut disk).as_ref() == Some(&third), "{when}");
        assert!(!disk.holds(&words(b'A')) && !disk.holds(&words(b'B')), "{when}");
        volume(&mut disk).erase().unwrap();
        assert!(!disk.holds(&words(b'C')), "{when}");
    });
}

#[test]
fn a_first_seed_is_there_or_not_wherever_the_power_is_cut() {
    for kind in KINDS {
        check_replacing(&seed_fat(kind), 0, 2000);
        check_replacing(&seed_fat(kind), 0, 30);
    }
}

#[test]
fn one_seed_is_replaced_by_another_wherever_the_power_is_cut() {
    for kind in KINDS {
        check_replacing(&seed_fat(kind), 5000, 700);
        check_replacing(&seed_fat(kind), SECTOR, 3 * SECTOR);
    }
}

#[test]
fn an_entry_that_crosses_a_sector_survives_a_cut() {
    // Label and files take 15 of the 16 entries of the first sector, which on FAT32 is also the whole
    // cluster of the directory.
    let files = ["a file of three.txt", "b file of three.txt", "c file of three.txt", "D", "E"];
    for kind in KINDS {
        let start = with_files(kind, &files);
        check_replacing(&start, 0, 1500);
        check_replacing(&start, 1500, 800);
    }
}

#[test]
fn a_chain_that_crosses_sectors_of_the_table_survives_a_cut() {
    // A sector of the table has the numbers of 128 clusters on FAT32, of 256 on FAT16, and of 341 and
    // a third on FAT12.
    for (kind, taken) in [(FatType::Fat12, 338), (FatType::Fat16, 251), (FatType::Fat32, 123)] {
        let mut start = seed_fat(kind);
        let clusters = vec![0; taken * SECTOR];
        library(&mut start).root_dir().create_file("F").unwrap().write_all(&clusters).unwrap();
        check_replacing(&start, 4 * SECTOR, 8 * SECTOR);
        check_replacing(&start, 8 * SECTOR, 4 * SECTOR);
    }
}

#[test]
fn erasing_can_be_cut_anywhere_and_done_again() {
    for kind in KINDS {
        let mut start = seed_fat(kind);
        let old = seed(b'A', 3000);
        volume(&mut start).write(&old).unwrap();
        cut_everywhere(
            &start,
            |disk| volume(disk).erase(),
            |mut disk, when| {
                assert!(read(&mut disk).is_none_or(|left| left == old), "{when}");
                volume(&mut disk).erase().unwrap();
                assert!(read(&mut disk).is_none(), "{when}");
                assert!(!disk.holds(&words(b'A')), "{when}");
                volume(&mut disk).write(&seed(b'B', 3000)).unwrap();
            },
        );
    }
}

#[test]
fn an_image_can_be_seeded_through_its_table_wherever_the_power_was_cut() {
    let path = std::path::Path::new("card");
    for (name, start) in seed_disks(None) {
        let change = |disk: &mut Disk| volume_of(disk, path)?.write(&seed(b'A', 700));
        cut_everywhere(&start, change, |mut disk, when| {
            volume_of(&mut disk, path).unwrap().write(&seed(b'B', 700)).unwrap();
            let found = volume_of(&mut disk, path).unwrap().read().unwrap();
            assert!(found.is_some_and(|found| *found == seed(b'B', 700)), "{name}: {when}");
        });
    }
}
