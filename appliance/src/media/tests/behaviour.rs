//! Seeds in images, volumes and folders as a user sees them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use fatfs::FatType;
use gpt::disk::LogicalBlockSize;

use super::{
    super::{MAX_SEED_BYTES, SEED_FILE, SeedPlace},
    disk::{Disk, KINDS, MIB, fat, gpt_disk, library, mbr_disk, seed_fat},
};

const OLD: &[u8] = b"network = 'old-secret'\n";

fn read(path: &Path) -> Option<Vec<u8>> {
    SeedPlace::open(path).unwrap().read().unwrap().map(|seed| seed.to_vec())
}

fn refusal(path: &Path) -> String {
    SeedPlace::open(path).unwrap_err().to_string()
}

/// Writes, replaces and erases a seed.
fn check_all(path: &Path) {
    let place = SeedPlace::open(path).unwrap();
    assert_eq!(read(path), None);
    place.erase().unwrap();
    place.write(OLD).unwrap();
    assert_eq!(read(path).as_deref(), Some(OLD));
    let long: Vec<u8> = b"long-secret ".repeat(MAX_SEED_BYTES / 12);
    place.write(&long).unwrap();
    assert_eq!(read(path), Some(long));
    place.write(b"x").unwrap();
    assert_eq!(read(path).as_deref(), Some(&b"x"[..]));
    place.erase().unwrap();
    assert_eq!(read(path), None);
}

/// The same in an image, which keeps its size and nothing of the seeds, and takes no room for zeros.
fn check_image(disk: &Disk) {
    let mut image = disk.image();
    let size = |image: &tempfile::NamedTempFile| {
        let metadata = image.as_file().metadata().unwrap();
        (metadata.len(), metadata.blocks())
    };
    let before = size(&image);
    check_all(image.path());
    let after = size(&image);
    assert_eq!(after.0, before.0);
    assert!(after.1 <= before.1 + 512, "{before:?} {after:?}");
    let disk = Disk::from_image(&mut image);
    for secret in ["secret", "long-secret", "old-secret"] {
        assert!(!disk.holds(secret.as_bytes()), "{secret}");
    }
}

#[test]
fn a_seed_is_written_replaced_and_erased_on_every_kind_of_volume() {
    for kind in KINDS {
        check_image(&seed_fat(kind));
    }
}

#[test]
fn a_seed_is_written_replaced_and_erased_on_every_kind_of_disk() {
    let (seed, other) = (seed_fat(FatType::Fat16), fat(FatType::Fat12, Some(b"FIRMWARE   ")));
    let nothing = Disk::new(MIB);
    for block in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        check_image(&gpt_disk(block, &[&other, &nothing, &seed]));
    }
    check_image(&mbr_disk(&[&other, &seed], &[]));
    check_image(&mbr_disk(&[&nothing], &[&other, &nothing, &seed]));
    check_image(&mbr_disk(&[], &[&seed, &other]));
}

#[test]
fn a_seed_is_written_replaced_and_erased_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    check_all(folder.path());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn other_files_on_the_volume_stay_as_they_are() {
    let mut disk = seed_fat(FatType::Fat16);
    let fs = library(&mut disk);
    fs.root_dir().create_file("config.txt").unwrap().write_all(&[7; 5000]).unwrap();
    drop(fs);
    let mut image = disk.image();
    check_all(image.path());
    let mut after = Disk::from_image(&mut image);
    let fs = library(&mut after);
    let names: Vec<_> = fs.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["config.txt"]);
    let mut content = Vec::new();
    fs.root_dir().open_file("config.txt").unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, [7; 5000]);
}

#[test]
fn the_label_in_the_directory_counts_before_the_one_in_the_boot_sector() {
    let relabelled = |in_boot: &[u8; 11], in_directory: Option<&[u8; 11]>| {
        let mut disk = fat(FatType::Fat12, in_directory);
        let mut boot = disk.sector(0);
        boot[43..54].copy_from_slice(in_boot);
        disk.put(0, boot);
        SeedPlace::open(disk.image().path()).is_ok()
    };
    assert!(relabelled(b"ROOST_SEED ", None));
    assert!(relabelled(b"NO NAME    ", Some(b"ROOST_SEED ")));
    assert!(!relabelled(b"ROOST_SEED ", Some(b"FIRMWARE   ")));
    assert!(!relabelled(b"NO NAME    ", None));
}

#[test]
fn without_a_volume_for_seeds_the_error_says_what_is_there() {
    let (boot, unnamed) = (fat(FatType::Fat12, Some(b"BOOT       ")), fat(FatType::Fat16, None));
    let image = gpt_disk(LogicalBlockSize::Lb512, &[&boot, &Disk::new(MIB), &unnamed]).image();
    let error = refusal(image.path());
    for words in [
        image.path().to_str().unwrap(),
        "no FAT volume labelled ROOST_SEED",
        "partition 1: FAT labelled \"BOOT\"",
        "partition 2: no usable FAT",
        "partition 3: FAT without a label",
        "fatlabel",
    ] {
        assert!(error.contains(words), "{error}");
    }
    let error = refusal(Disk::new(MIB).image().path());
    assert!(error.contains("the whole of it: no usable FAT"), "{error}");
    assert!(refusal(Disk::new(0).image().path()).contains("no usable FAT"));
}

#[test]
fn two_volumes_for_seeds_are_one_too_many() {
    let seed = seed_fat(FatType::Fat12);
    let error = refusal(mbr_disk(&[&seed], &[&seed]).image().path());
    let words =
        "partition 1: FAT labelled \"ROOST_SEED\", partition 5: FAT labelled \"ROOST_SEED\"";
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_gpt_that_lost_its_first_copy_is_read_from_the_second() {
    let seed = seed_fat(FatType::Fat12);
    let mut disk = gpt_disk(LogicalBlockSize::Lb512, &[&seed]);
    disk.put(1, [0; 512]);
    SeedPlace::open(disk.image().path()).unwrap();
    disk.put(disk.len() / 512 - 1, [0; 512]);
    let error = refusal(disk.image().path());
    assert!(error.contains("partition table"), "{error}");
}

#[test]
fn a_packed_image_is_refused_with_what_unpacks_it() {
    for (magic, words) in [
        (&b"\x28\xb5\x2f\xfd rest"[..], "zstd; unpack it first: unzstd /"),
        (b"\x1f\x8b rest", "gzip; unpack it first: gunzip /"),
        (b"\xfd7zXZ\0 rest", "xz; unpack it first: unxz /"),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(magic).unwrap();
        let error = refusal(file.path());
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_no_medium_is_refused() {
    assert!(refusal(Path::new("/dev/null")).contains("no disk image, block device or folder"));
    assert!(refusal(Path::new("/nonexistent/image")).contains("/nonexistent/image"));
}

#[test]
fn what_is_no_seed_is_not_written() {
    let image = seed_fat(FatType::Fat12).image();
    let folder = tempfile::tempdir().unwrap();
    for path in [image.path(), folder.path()] {
        let place = SeedPlace::open(path).unwrap();
        place.write(OLD).unwrap();
        for (seed, words) in [
            (vec![], "must not be empty"),
            (vec![0; 8], "begin with a zero byte"),
            (vec![b'a'; MAX_SEED_BYTES + 1], "65537 bytes"),
        ] {
            let error = place.write(&seed).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(read(path).as_deref(), Some(OLD));
    }
}

#[test]
fn a_file_that_is_too_large_or_none_is_left_alone() {
    let mut disk = seed_fat(FatType::Fat16);
    let fs = library(&mut disk);
    let large = vec![b'a'; MAX_SEED_BYTES + 1];
    fs.root_dir().create_file(SEED_FILE).unwrap().write_all(&large).unwrap();
    drop(fs);
    let mut taken = seed_fat(FatType::Fat16);
    library(&mut taken).root_dir().create_dir(SEED_FILE).unwrap();
    let (large_folder, link) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(large_folder.path().join(SEED_FILE), &large).unwrap();
    symlink("/etc/passwd", link.path().join(SEED_FILE)).unwrap();
    let (disk, taken) = (disk.image(), taken.image());
    for (path, words) in [
        (disk.path(), "65537 bytes"),
        (large_folder.path(), "65537 bytes"),
        (taken.path(), "no plain file"),
        (link.path(), "cannot open"),
    ] {
        let place = SeedPlace::open(path).unwrap();
        for error in [
            place.read().map(drop).unwrap_err(),
            place.write(OLD).unwrap_err(),
            place.erase().unwrap_err(),
        ] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[test]
fn a_full_volume_keeps_the_seed_it_has() {
    let mut disk = seed_fat(FatType::Fat12);
    let fs = library(&mut disk);
    fs.root_dir().create_file(SEED_FILE).unwrap().write_all(OLD).unwrap();
    let mut rest = fs.root_dir().create_file("rest").unwrap();
    while rest.write_all(&[1; 512]).is_ok() {}
    drop(rest);
    drop(fs);
    let mut image = disk.image();
    let error =
        SeedPlace::open(image.path()).unwrap().write(&[b'a'; 2000]).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("nothing was changed"), "{error}");
    assert_eq!(Disk::from_image(&mut image).used(), disk.used());
    assert_eq!(read(image.path()).as_deref(), Some(OLD));
}

#[test]
fn a_name_in_capitals_is_the_same_name() {
    let mut disk = seed_fat(FatType::Fat12);
    let fs = library(&mut disk);
    fs.root_dir().create_file("ROOST-SEED.TOML").unwrap().write_all(OLD).unwrap();
    drop(fs);
    let image = disk.image();
    assert_eq!(read(image.path()).as_deref(), Some(OLD));
    SeedPlace::open(image.path()).unwrap().erase().unwrap();
    assert_eq!(read(image.path()), None);
}

#[test]
fn what_a_cut_left_in_a_folder_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join("roost-seed.toml.new");
    let place = SeedPlace::open(folder.path()).unwrap();
    for seed in [&b""[..], b"\0\0\0"] {
        fs::write(folder.path().join(SEED_FILE), seed).unwrap();
        fs::write(&unfinished, "half a sec").unwrap();
        assert_eq!(read(folder.path()), None);
        // A second name shows what became of the content.
        let witness = folder.path().join("witness");
        fs::hard_link(&unfinished, &witness).unwrap();
        place.write(OLD).unwrap();
        assert_eq!(read(folder.path()).as_deref(), Some(OLD));
        assert!(!unfinished.exists());
        assert_eq!(fs::read(&witness).unwrap(), [0; 10]);
        fs::remove_file(witness).unwrap();
    }
}

#[test]
fn what_a_cut_left_on_a_mounted_volume_is_erased_without_mounting() {
    for change in [|place: &SeedPlace| place.write(b"new"), |place: &SeedPlace| place.erase()] {
        let mut disk = seed_fat(FatType::Fat16);
        let fs = library(&mut disk);
        fs.root_dir().create_file("roost-seed.toml.new").unwrap().write_all(OLD).unwrap();
        drop(fs);
        let mut image = disk.image();
        change(&SeedPlace::open(image.path()).unwrap()).unwrap();
        assert!(!Disk::from_image(&mut image).holds(b"old-secret"));
    }
}

#[test]
fn the_old_seed_of_a_folder_is_overwritten_before_it_is_replaced_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, witness) = (folder.path().join(SEED_FILE), folder.path().join("witness"));
    let place = SeedPlace::open(folder.path()).unwrap();
    for change in [|place: &SeedPlace| place.write(b"new"), |place: &SeedPlace| place.erase()] {
        place.write(OLD).unwrap();
        fs::hard_link(&path, &witness).unwrap();
        change(&place).unwrap();
        assert!(fs::read(&witness).unwrap().iter().all(|byte| *byte == 0));
        fs::remove_file(&witness).unwrap();
    }
}

#[test]
fn an_image_that_another_process_changes_is_left_alone() {
    let image = seed_fat(FatType::Fat12).image();
    let place = SeedPlace::open(image.path()).unwrap();
    let held = fs::File::open(image.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for error in [place.write(OLD).unwrap_err(), place.erase().unwrap_err()] {
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }
    drop(held);
    place.write(OLD).unwrap();
}
