//! Writing to files.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::*;
use crate::media::Kernel;

const MIB: usize = 1 << 20;

/// An image with a start, 40 MiB of nothing, some content, and an end that fills no sector.
fn content() -> Vec<u8> {
    let mut content = vec![0; 50 * MIB + 700];
    for (at, len) in [(0, 600), (45 * MIB - 3, 5 * MIB), (50 * MIB, 700)] {
        content[at..at + len].fill(at as u8 | 1);
    }
    content
}

fn write_to(image: &[u8], path: &Path, watch: &mut Watcher) -> Result<(), FlashError> {
    let file = file(image);
    let mut image = Image::open(file.path())?;
    let size = image.measure(watch)?;
    let place = look(&Kernel::default(), path)?;
    let target = Target::open(path, &place, &image, size)?;
    write(&image, size, &target, watch)?;
    target.finish()
}

#[test]
fn a_new_file_has_the_image_and_its_holes() {
    let (folder, content) = (tempfile::tempdir().unwrap(), content());
    for (name, image) in [("raw", content.clone()), ("packed", super::frame(&content, false))] {
        let (path, mut watch) = (folder.path().join(name), Watcher::default());
        write_to(&image, &path, &mut watch).unwrap();
        assert!(fs::read(&path).unwrap() == content, "{name}");
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.blocks() * 512 < 16 * MIB as u64, "{name}: {metadata:?}");
        let size = content.len() as u64;
        let last = &watch.seen[watch.seen.len() - 2..];
        assert_eq!(last, [(Phase::Writing, size), (Phase::Verifying, size)], "{name}");
        assert_eq!(watch.at, Some((Phase::Verifying, size)), "{name}");
    }
}

#[test]
fn a_small_image_is_written_and_a_larger_file_keeps_its_size_and_nothing_else() {
    let target = super::file(&vec![9; 3 * MIB]);
    write_to(b"small", target.path(), &mut Watcher::default()).unwrap();
    let written = fs::read(target.path()).unwrap();
    assert_eq!((written.len(), &written[..5]), (3 * MIB, &b"small"[..]));
    assert!(written[5..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_stopped_has_no_start_and_a_new_file_is_removed() {
    let (folder, content) = (tempfile::tempdir().unwrap(), content());
    let path = folder.path().join("new");
    for (phase, bytes) in [(Phase::Writing, 0), (Phase::Writing, 9 << 20), (Phase::Verifying, 1)] {
        let stop = || Watcher { stop: Some((phase, bytes)), ..Watcher::default() };
        let error = write_to(&content, &path, &mut stop()).unwrap_err();
        assert!(error.is_stop() && error.to_string().contains("it was removed"), "{error}");
        assert!(!path.exists());

        let old = super::file(&content);
        let error = write_to(&content, old.path(), &mut stop()).unwrap_err();
        assert!(error.is_stop() && error.to_string().contains("no partition table"), "{error}");
        assert!(fs::read(old.path()).unwrap()[..MIB].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn an_image_that_turns_out_to_be_damaged_or_shorter_leaves_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let content = content();
    let mut packed = super::frame(&content, true);
    let len = packed.len();
    // The size that the frame gives, in its last bytes but the highest.
    packed[6] ^= 0x10;
    let error = write_to(&packed, &path, &mut Watcher::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("damaged at byte {len}")), "{error}");
    assert!(!path.exists());

    // Gone before anything is written.
    let image = super::file(&content);
    let opened = Image::open(image.path()).unwrap();
    let target = Target::open(&path, &Place::New, &opened, content.len() as u64).unwrap();
    drop(image);
    let written = write(&opened, content.len() as u64, &target, &mut Watcher::default());
    assert!(written.unwrap_err().to_string().starts_with("cannot open"));
    assert!(!path.exists());

    let image = super::file(&content);
    let opened = Image::open(image.path()).unwrap();
    image.as_file().set_len(20 << 20).unwrap();
    let target = Target::open(&path, &Place::New, &opened, content.len() as u64).unwrap();
    let written = write(&opened, content.len() as u64, &target, &mut Watcher::default());
    let error = written.unwrap_err().to_string();
    assert!(error.contains("the image changed"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_target_that_is_in_use_or_the_image_itself_or_no_target_is_refused() {
    let image = super::file(&[1; 5000]);
    let opened = Image::open(image.path()).unwrap();
    let open = |path: &Path| {
        let place = look(&Kernel::default(), path)?;
        Target::open(path, &place, &opened, 5000)
    };
    let error = open(image.path()).unwrap_err().to_string();
    assert!(error.contains("the image itself"), "{error}");
    assert_eq!(fs::read(image.path()).unwrap(), [1; 5000]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let first = open(&path).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    drop(first);
    open(&path).unwrap();

    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("neither a block device nor a file"), "{error}");
    let error = open(Path::new("/dev/sd-that-was-mistyped")).unwrap_err().to_string();
    assert!(error.contains("no device /dev/sd-that-was-mistyped"), "{error}");
    assert!(open(Path::new("/dev/null")).is_err());
}
