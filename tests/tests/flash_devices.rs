//! `roost flash` as people run it, on files and on real loop devices. Takes root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "the tests of a part use the rest")]
#[path = "../../appliance/tests/fixtures/disk.rs"]
mod disk;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use disk::{MIB, seed_disks};
use roost_lab::fixtures::roost::program;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, Signal, kill_process},
};
use tempfile::{NamedTempFile, TempDir, tempdir};

const IMAGE_FILE: &str = "roost-image.json";
const LABEL: &[u8] = br#"{"board": "visionfive-2", "version": "0.1.0"}"#;

/// A loop device, detached when it is dropped.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path, options: &[&str]) -> Self {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show"]).args(options).arg(file);
        Self(PathBuf::from(succeed(&mut losetup).trim()))
    }

    /// Over a sparse file of this size.
    fn new(folder: &TempDir, size: u64) -> Self {
        let path = folder.path().join(format!("disk-{size}"));
        File::create(&path).unwrap().set_len(size).unwrap();
        Self::attach(&path, &[])
    }

    fn read(&self, at: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        File::open(&self.0).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.0).status();
        assert!(detached.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn roost(args: &[&str]) -> Output {
    Command::new(program().unwrap()).arg("flash").args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command that failed has told.
#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "it says of nothing that it is done: {output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A seed, as `roost fleet token` prints one.
const SEED: &str = "\
version = 1
authority = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\"
made_s = 1790000000
";

/// The text of a seed, in a file.
fn seed_file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(SEED.as_bytes()).unwrap();
    file
}

/// Whether roost finds a seed there, and it is this one.
fn is_seeded(target: &Path, seed: &NamedTempFile) -> bool {
    let mut again = Command::new(program().unwrap());
    again.args(["seed", "--from"]).arg(seed.path()).arg(target);
    let refused = String::from_utf8(again.output().unwrap().stderr).unwrap();
    let content = fs::read(target).unwrap();
    let is_there = content.windows(SEED.len()).any(|bytes| bytes == SEED.as_bytes());
    refused.contains("has a seed that no board has taken") && is_there
}

/// Packed with zstd: a frame of blocks that are one byte, repeated, or not compressed (RFC 8878).
fn packed(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let blocks = content.chunks(1 << 17).collect::<Vec<_>>();
    for (number, block) in blocks.iter().enumerate() {
        let is_last = u32::from(number + 1 == blocks.len());
        let is_one = block.iter().all(|byte| *byte == block[0]);
        let header = (block.len() as u32) << 3 | u32::from(is_one) << 1 | is_last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(if is_one { &block[..1] } else { block });
    }
    frame
}

/// Content that is nowhere zero, nor the same in two chunks.
fn filling(len: u64) -> Vec<u8> {
    (0..len / 8).flat_map(|n| (n | 1 << 63).to_le_bytes()).collect()
}

/// An image for a board, of 160 MiB without a hole after its seed's volume.
fn large_image() -> NamedTempFile {
    let (_, disk) = seed_disks(Some((IMAGE_FILE, LABEL))).swap_remove(2);
    let image = disk.image();
    image.as_file().write_all_at(&filling(160 * MIB - disk.len()), disk.len()).unwrap();
    image
}

#[test]
fn every_kind_of_image_is_written_to_a_device_and_seeded() {
    let (folder, seed) = (tempdir().unwrap(), seed_file());
    let device = Loop::new(&folder, 64 * MIB);
    for (name, disk) in seed_disks(Some((IMAGE_FILE, LABEL))) {
        let image = disk.image();
        let content = fs::read(image.path()).unwrap();
        // Of what was there before nothing is left at either end.
        let before = File::options().write(true).open(&device.0).unwrap();
        for at in [0, 63 * MIB] {
            before.write_all_at(&filling(MIB), at).unwrap();
        }
        drop(before);
        let raw = ["--board", "visionfive2", "--image", text(image.path()), "--no-seed", "--yes"];
        let told = done(&roost(&[&raw[..], &[text(&device.0)]].concat()));
        assert!(
            told.contains("Wrote and verified") && told.contains("roost seed"),
            "{name}: {told}"
        );
        assert!(device.read(0, disk.len()) == content, "{name}");
        assert!(device.read(63 * MIB, MIB).iter().all(|byte| *byte == 0), "{name}");

        let file = folder.path().join("packed.img.zst");
        fs::write(&file, packed(&content)).unwrap();
        let from = ["--image", text(&file), "--from", text(seed.path()), "--yes"];
        let told = done(&roost(&[&from[..], &[text(&device.0)]].concat()));
        assert!(told.contains("StarFive VisionFive 2"), "{name}: {told}");
        assert!(
            told.contains(
                "https://github.com/roost-builders/roost/blob/main/docs/boards/visionfive-2.md"
            ),
            "{name}: {told}"
        );
        assert!(is_seeded(&device.0, &seed), "{name}");
    }
}

#[test]
fn a_file_is_a_target_too_and_takes_no_room_for_holes() {
    let (folder, seed) = (tempdir().unwrap(), seed_file());
    let (_, disk) = seed_disks(Some((IMAGE_FILE, LABEL))).swap_remove(0);
    let image = disk.image();
    let card = folder.path().join("card.img");
    let args = ["--json", "--image", text(image.path()), "--from", text(seed.path()), text(&card)];
    let told: serde_json::Value = serde_json::from_str(&done(&roost(&args))).unwrap();
    for (key, value) in [
        ("board", "visionfive-2".into()),
        ("version", "0.1.0".into()),
        ("target", text(&card).into()),
        ("size_bytes", disk.len().into()),
        ("verified", true.into()),
        ("seeded", true.into()),
        ("token", serde_json::Value::Null),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    assert!(is_seeded(&card, &seed));

    // It is there now, and nobody is at a terminal.
    let again = refused(&roost(&args));
    assert!(again.contains("--yes") && again.contains("nothing was done"), "{again}");
    assert!(is_seeded(&card, &seed));
    done(&roost(&[&args[..], &["--yes"]].concat()));
}

#[test]
fn an_image_for_another_board_or_without_a_place_for_a_seed_is_refused() {
    let folder = tempdir().unwrap();
    let (_, disk) = seed_disks(Some((IMAGE_FILE, LABEL))).swap_remove(0);
    let image = disk.image();
    let card = folder.path().join("card.img");
    let of = |board: &str, image: &Path, more: &[&str]| {
        let args = ["--board", board, "--image", text(image), text(&card)];
        roost(&[&args[..], more].concat())
    };
    let told = refused(&of("rock-5b", image.path(), &["--no-seed"]));
    assert!(told.contains("visionfive-2") && told.contains("rock-5b"), "{told}");
    let unknown = of("toaster", image.path(), &["--no-seed"]);
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("visionfive-2"), "{unknown:?}");

    let other = folder.path().join("other.img");
    fs::write(&other, filling(MIB)).unwrap();
    let seed = seed_file();
    let told = refused(&of("rock-5b", &other, &["--from", text(seed.path())]));
    assert!(told.contains("ROOST_SEED") && told.contains("--no-seed"), "{told}");
    assert!(!card.exists());
    let taken = of("rock-5b", &other, &["--no-seed"]);
    assert!(done(&taken).contains("ROCK 5B"));
    assert!(fs::read(&card).unwrap() == filling(MIB));
}

#[test]
fn devices_that_are_used_or_too_small_or_cannot_be_written_are_refused() {
    let folder = tempdir().unwrap();
    let (_, disk) = seed_disks(Some((IMAGE_FILE, LABEL))).swap_remove(2);
    let image = disk.image();
    let refusal = |device: &Path, more: &[&str]| {
        let args = ["--yes", "--no-seed", "--image", text(image.path()), text(device)];
        refused(&roost(&[&args[..], more].concat()))
    };
    let small = Loop::new(&folder, 2 * MIB);
    assert!(refusal(&small.0, &[]).contains("it has 2 MiB"));
    let fixed = folder.path().join("fixed");
    File::create(&fixed).unwrap().set_len(64 * MIB).unwrap();
    let read_only = Loop::attach(&fixed, &["--read-only"]);
    assert!(refusal(&read_only.0, &["--force"]).contains("read-only"));

    let used = Loop::new(&folder, 64 * MIB);
    succeed(Command::new("mkfs.ext4").arg("-q").arg(&used.0));
    let before = used.read(0, MIB);
    // In a mount namespace of its own, which the kernel ends with the shell.
    let mounted = r#"mount "$1" /mnt && shift && exec "$@""#;
    let mut here = Command::new("unshare");
    here.args(["--mount", "sh", "-c", mounted, "sh"]).arg(&used.0).arg(program().unwrap());
    here.args(["flash", "--yes", "--no-seed", "--image"])
        .arg(image.path())
        .arg(&used.0)
        .stdin(Stdio::null());
    let told = refused(&here.output().unwrap());
    assert!(told.contains(&format!("{} on /mnt", used.name())), "{told}");

    // Mounted where nobody here sees it.
    let held = r#"mount "$1" /mnt && echo mounted && read -r wait"#;
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--mount", "sh", "-c", held, "sh"]).arg(&used.0);
    let mut elsewhere = elsewhere.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 8];
    elsewhere.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let told = refusal(&used.0, &[]);
    drop(elsewhere.stdin.take());
    elsewhere.wait().unwrap();
    assert!(told.contains("in use by the system"), "{told}");
    assert!(used.read(0, 1024) == before[..1024]);
}

#[test]
fn a_partition_is_no_target() {
    let (_, disk) = seed_disks(Some((IMAGE_FILE, LABEL))).swap_remove(2);
    let image = disk.image();
    let whole = Loop::attach(image.path(), &["--partscan"]);
    // A kernel may know no partition tables by itself.
    succeed(Command::new("partx").arg("--update").arg(&whole.0));
    // A node of its own: who makes those in /dev may be slow, or not there.
    let folder = tempdir().unwrap();
    let part = folder.path().join("part");
    let class = Path::new("/sys/class/block").join(format!("{}p1", whole.name()));
    let number = fs::read_to_string(class.join("dev")).unwrap();
    let (major, minor) = number.trim().split_once(':').unwrap();
    succeed(Command::new("mknod").arg(&part).args(["b", major, minor]));
    let args = ["--yes", "--no-seed", "--image", text(image.path()), text(&part)];
    let told = refused(&roost(&args));
    assert!(told.contains(&format!("a part of {}", whole.name())), "{told}");
}

#[test]
fn a_device_that_fails_half_way_is_never_done() {
    // A sparse file larger than the memory it is in: what does not fit gives EIO. The file system ends
    // with the device.
    let on_memory = r#"mount -t tmpfs -o size=24m none /mnt && truncate -s 200M /mnt/disk &&
        exec losetup --find --show /mnt/disk"#;
    let mut attach = Command::new("unshare");
    attach.args(["--mount", "sh", "-c", on_memory]);
    let device = Loop(PathBuf::from(succeed(&mut attach).trim()));
    let image = large_image();
    let args = ["--yes", "--no-seed", "--image", text(image.path()), text(&device.0)];
    let told = refused(&roost(&args));
    assert!(told.contains(&format!("cannot write to {}", text(&device.0))), "{told}");
    assert!(told.contains("Input/output error") && told.contains("is failing"), "{told}");
    assert!(device.read(0, MIB).iter().all(|byte| *byte == 0), "no partition table");
}

#[test]
fn a_file_on_a_full_file_system_is_never_done_and_is_removed() {
    let image = large_image();
    let on_memory = r#"mount -t tmpfs -o size=24m none /mnt && "$@"; echo "$?"; ls /mnt"#;
    let mut full = Command::new("unshare");
    full.args(["--mount", "sh", "-c", on_memory, "sh"]).arg(program().unwrap());
    full.args(["flash", "--no-seed", "--image"]);
    let output = full.arg(image.path()).arg("/mnt/card.img").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("No space left") && told.contains("make room"), "{told}");
    assert!(told.contains("it was removed"), "{told}");
}

/// A run of `roost flash` whose standard error holds one line: it gets no further than the next line
/// until that is read.
struct Stepped {
    child: Child,
    lines: File,
}

impl Stepped {
    fn start(args: &[&str]) -> Self {
        let (lines, end) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&end, 4096).unwrap();
        let mut command = Command::new(program().unwrap());
        command.arg("flash").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(end);
        let child = command.spawn().unwrap();
        Self { child, lines: lines.into() }
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let deadline = Timespec { tv_sec: 300, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.lines, PollFlags::IN)], Some(&deadline)).unwrap();
        assert_eq!(ready, 1, "it says nothing for five minutes");
        let mut line = [0; 4096];
        let len = self.lines.read(&mut line).unwrap();
        String::from_utf8(line[..len].to_vec()).unwrap()
    }

    fn wait_for(&mut self, start: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it ended before {start:?}");
            if line.starts_with(start) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads to the end; the exit status and all that was told.
    fn end(mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            told += &line;
        }
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it is not done");
        (output.status.code(), told)
    }
}

#[test]
fn what_is_interrupted_or_killed_has_no_partition_table_and_can_be_flashed_again() {
    let (folder, image) = (tempdir().unwrap(), large_image());
    let device = Loop::new(&folder, 200 * MIB);
    let args = ["--yes", "--no-seed", "--image", text(image.path()), text(&device.0)];
    for (signal, code, line) in [
        (Signal::INT, Some(130), "writing: 20 %"),
        (Signal::TERM, Some(143), "writing: 100 %"),
        (Signal::HUP, Some(129), "verifying: 30 %"),
        (Signal::KILL, None, "writing: 70 %"),
    ] {
        done(&roost(&args));
        assert!(device.read(0, 512).ends_with(&[0x55, 0xaa]), "it has a table");
        let mut run = Stepped::start(&args);
        run.wait_for(line);
        run.signal(signal);
        let (status, told) = run.end();
        assert_eq!(status, code, "{told}");
        if code.is_some() {
            assert!(told.contains("stopped") && told.contains("no partition table"), "{told}");
        }
        assert!(device.read(0, MIB).iter().all(|byte| *byte == 0), "{line}");
    }
    done(&roost(&args));
    assert!(device.read(0, 160 * MIB) == fs::read(image.path()).unwrap());
}

#[test]
fn a_medium_that_does_not_hold_what_was_written_is_found_out() {
    let (folder, image) = (tempdir().unwrap(), large_image());
    let device = Loop::new(&folder, 200 * MIB);
    let args = ["--yes", "--no-seed", "--image", text(image.path()), text(&device.0)];
    let mut run = Stepped::start(&args);
    run.wait_for("writing: 100 %");
    let medium = File::options().write(true).open(folder.path().join("disk-209715200")).unwrap();
    medium.write_all_at(b"!", 130 * MIB + 17).unwrap();
    let (status, told) = run.end();
    assert_eq!(status, Some(1), "{told}");
    let from = 129 * MIB;
    let range = format!("between byte {from} and byte {}", from + 4 * MIB);
    assert!(told.contains(&range) && told.contains("smaller than it claims"), "{told}");
    assert!(device.read(0, MIB).iter().all(|byte| *byte == 0), "no partition table");
}

#[test]
fn the_list_has_disks_and_why_they_are_refused_and_nothing_that_plays_one() {
    let folder = tempdir().unwrap();
    let device = Loop::new(&folder, MIB);
    let listed: serde_json::Value =
        serde_json::from_str(&done(&roost(&["--list", "--json"]))).unwrap();
    for disk in listed.as_array().unwrap() {
        assert_ne!(disk["device"], text(&device.0));
        assert_eq!(disk["usable"] == true, disk["reason"].is_null(), "{disk}");
    }
    done(&roost(&["--list"]));
    let nowhere = roost(&["--board", "rock-5b"]);
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/dev/sdX"), "{nowhere:?}");
}
