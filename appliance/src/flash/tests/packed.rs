//! Images packed with zstd, and what else is packed.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{
    super::{image::Reader, unpack::Unpacker},
    *,
};
use crate::media::tests::disk::{Disk, seed_disks};

/// What `zstd -19` makes of [`text`]: from a file, with size and check sum; from a pipe, with neither.
const FROM_FILE: &str = "28b52ffd64460445030082440e13a01d0ec0f06cd2471b5505b3db480a857e4f8dffffffbf6ddbb6ddb66ddb1e46410cc25da0694c62c42005f14a39de64c762f230a0394b1328a811f0ebff1b80334a0f113404ff3f43f0f90127617fa595ab4ce529a51c25949f74729152f5324280a806339b51c1";
const FROM_PIPE: &str = "28b52ffd006845030082440e13a01d0ec0f06cd2471b5505b3db480a857e4f8dffffffbf6ddbb6ddb66ddb1e46410cc25da0694c62c42005f14a39de64c762f230a0394b1328a811f0ebff1b80334a0f113404ff3f43f0f90127617fa595ab4ce529a51c25949f74729152f5324280a806";

fn text() -> Vec<u8> {
    (0..40).map(|n| format!("line {n} of a text that packs well\n")).collect::<String>().into()
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// The size an image says or has, and its content.
fn unpack(packed: &[u8]) -> Result<(Option<u64>, Vec<u8>), FlashError> {
    let file = file(packed);
    let mut image = Image::open(file.path())?;
    let says = image.size_bytes();
    let mut reader = image.reader()?;
    let mut content = vec![0; 1 << 21];
    let filled = reader.fill(&mut content)?;
    content.truncate(filled);
    assert_eq!(image.measure(&mut Watcher::default())?, filled as u64);
    Ok((says, content))
}

fn error(packed: &[u8]) -> String {
    unpack(packed).unwrap_err().to_string()
}

#[test]
fn frames_of_the_real_program_are_unpacked() {
    assert_eq!(unpack(&bytes(FROM_FILE)).unwrap(), (Some(1350), text()));
    assert_eq!(unpack(&bytes(FROM_PIPE)).unwrap(), (None, text()));
}

#[test]
fn frames_follow_one_another_with_what_is_to_be_skipped_between_them() {
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let [one, zeros] = [&b"one"[..], &[0; 300_000][..]];
    let all = |says_size| {
        let frames =
            [frame(one, says_size), skippable.clone(), frame(zeros, true), bytes(FROM_FILE)];
        unpack(&frames.concat()).unwrap()
    };
    let content = [one, zeros, &text()].concat();
    assert_eq!(all(true), (Some(content.len() as u64), content.clone()));
    assert_eq!(all(false), (None, content));
}

#[test]
fn a_packed_image_that_is_cut_short_says_where() {
    let whole = [frame(&[7; 200_000], true), bytes(FROM_FILE)].concat();
    // Eight bytes are what tells a packed image from a raw one.
    for len in 8..whole.len() {
        if len == frame(&[7; 200_000], true).len() {
            continue;
        }
        let error = error(&whole[..len]);
        let at = format!("damaged at byte {len}: it ends too early");
        assert!(error.contains(&at), "{len}: {error}");
    }
}

#[test]
fn what_is_damaged_is_an_error_that_says_where() {
    let whole = bytes(FROM_FILE);
    let trailing = [&whole[..], b"\n"].concat();
    assert!(error(&trailing).contains("damaged at byte 119: it ends too early"));
    let trailing = [&whole[..], b"garbage"].concat();
    let told = error(&trailing);
    assert!(told.contains("damaged at byte 118: what follows is not packed with zstd"), "{told}");
    let mut sum = whole.clone();
    sum[116] ^= 1;
    assert!(error(&sum).contains("damaged at byte 118: its check sum"), "{}", error(&sum));
    let mut size = frame(&[7; 3000], true);
    size[6] ^= 1;
    assert!(error(&size).contains("its size"), "{}", error(&size));
    let reserved = [&frame(b"", true)[..], &[0x07, 0, 0]].concat();
    assert!(error(&reserved).contains("there is no such block"), "{}", error(&reserved));
}

#[test]
fn memory_that_a_packed_image_takes_is_bounded() {
    let mut large = frame(b"content", true);
    // 128 MiB, as `zstd --long` has it.
    large[5] = 0x88;
    let error = error(&large);
    assert!(error.contains("128 MiB") && error.contains("64 MiB"), "{error}");
}

proptest! {
    #[test]
    fn no_damage_goes_unnoticed_or_ends_the_program(at in 4_usize..118, bit in 0_u8..8) {
        let mut damaged = bytes(FROM_FILE);
        damaged[at] ^= 1 << bit;
        // A flag, a reserved bit or the check sum may be what was hit: then the content is the same.
        if let Ok((_, content)) = unpack(&damaged) {
            prop_assert_eq!(content, text());
        }
    }

    #[test]
    fn any_bytes_after_the_magic_are_unpacked_or_refused(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = unpack(&[&[0x28, 0xb5, 0x2f, 0xfd], &rest[..]].concat());
    }
}

#[test]
fn other_packings_are_refused_with_what_unpacks_them() {
    for (start, command) in [(&b"\xfd7zXZ\0"[..], "unxz"), (b"\x1f\x8b\x08", "gunzip")] {
        assert!(error(start).contains(command), "{}", error(start));
    }
    assert!(error(b"").contains("is empty"));
    assert!(error(&frame(b"", true)[..10]).contains("too early"));
    let folder = tempfile::tempdir().unwrap();
    let error = Image::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no file with an image"), "{error}");
}

#[test]
fn unpacking_reads_no_further_than_it_must() {
    let packed = file(&[frame(&[1; 100], true), frame(&[2; 1 << 20], true)].concat());
    let mut unpacker = Unpacker::open(packed.path()).unwrap();
    assert_eq!(unpacker.read(&mut [0; 1000]).unwrap(), 100);
    assert_eq!(unpacker.packed_at(), frame(&[1; 100], true).len() as u64);
    assert!(std::mem::size_of::<Reader>() < 200, "what is large is on the heap");
}

fn label(image: &[u8]) -> Says {
    let file = file(image);
    label_of(&Image::open(file.path()).unwrap(), &Watcher::default()).unwrap()
}

fn raw(disk: &Disk) -> Vec<u8> {
    std::fs::read(disk.image().path()).unwrap()
}

#[test]
fn an_image_names_its_board_on_every_kind_of_disk_packed_or_not() {
    let text = br#"{"board": "visionfive-2", "version": "0.1.0", "later": [1]}"#;
    for (name, disk) in seed_disks(Some((IMAGE_FILE, text))) {
        let image = raw(&disk);
        for packed in [image.clone(), frame(&image, true), frame(&image, false)] {
            let Says::Label(label) = label(&packed) else { panic!("{name}: no label") };
            assert_eq!((&*label.board, &*label.version), ("visionfive-2", "0.1.0"), "{name}");
        }
    }
}

#[test]
fn an_image_without_a_label_or_without_a_volume_is_told_from_one_with_both() {
    for (name, disk) in seed_disks(None) {
        for image in [raw(&disk), frame(&raw(&disk), true)] {
            assert!(matches!(label(&image), Says::Nothing), "{name}");
        }
    }
    for image in [vec![0; 3 << 20], frame(&vec![0; 3 << 20], false)] {
        assert!(matches!(label(&image), Says::NoSeedVolume(_)));
    }
}

#[test]
fn a_label_that_makes_no_sense_is_an_error() {
    let (_, disk) = seed_disks(Some((IMAGE_FILE, b"{}"))).swap_remove(0);
    let image = disk.image();
    let image = Image::open(image.path()).unwrap();
    let error = label_of(&image, &Watcher::default()).unwrap_err().to_string();
    assert!(error.contains(IMAGE_FILE) && error.contains("board"), "{error}");
}
