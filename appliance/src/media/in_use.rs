//! Whether a block device is mounted. A volume that is mounted is in the kernel's memory, too, and
//! writing past that destroys it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{MediaError, failed};

/// A block device by the kernel's names for it: `sda1`, and `8:1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Device {
    name: String,
    number: String,
}

/// Refuses a block device that is mounted, or one of whose partitions is, or something that is built
/// upon one of them, such as an opened encrypted volume. Anything else is let pass.
///
/// # Errors
///
/// [`MediaError::Mounted`], with what is mounted where; [`MediaError::File`] if that cannot be found
/// out.
pub fn refuse_mounted(path: &Path) -> Result<(), MediaError> {
    let metadata = fs::metadata(path).map_err(failed("open", path))?;
    if !metadata.file_type().is_block_device() {
        return Ok(());
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let table = Path::new("/proc/self/mountinfo");
    let mountinfo = fs::read_to_string(table).map_err(failed("read", table))?;
    let class = Path::new("/sys/class/block");
    let family = family(class, &format!("{major}:{minor}")).map_err(failed("read", class))?;
    let uses = mounts(&mountinfo, &family);
    if uses.is_empty() {
        return Ok(());
    }
    Err(MediaError::Mounted { path: path.to_owned(), uses: uses.join(", ") })
}

/// The device of this number, its partitions, and what is built upon any of them.
fn family(class: &Path, number: &str) -> io::Result<BTreeSet<Device>> {
    let mut waiting = Vec::new();
    for name in names(class)? {
        if read_number(class, &name)? == number {
            waiting.push(name);
        }
    }
    let mut family = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let number = read_number(class, &name)?;
        if family.insert(Device { name: name.clone(), number }) {
            let folder = class.join(&name);
            let partition = |part: &String| folder.join(part).join("partition").exists();
            waiting.extend(names(&folder)?.into_iter().filter(partition));
            waiting.extend(names(&folder.join("holders"))?);
        }
    }
    Ok(family)
}

/// What is in a folder; nothing if it is not there.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// A device's number, as in its `dev`; empty for one that vanished meanwhile.
fn read_number(class: &Path, name: &str) -> io::Result<String> {
    match fs::read_to_string(class.join(name).join("dev")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        number => Ok(number?.trim().to_owned()),
    }
}

/// The mounts of any of these devices in mountinfo (proc_pid_mountinfo(5)), such as `sda1 on /mnt`. A
/// line has the device's number, or, for file systems that number themselves, its path as the source.
fn mounts(mountinfo: &str, devices: &BTreeSet<Device>) -> Vec<String> {
    let mounted = |line: &str| {
        let mut fields = line.split(' ');
        let (number, point) = (fields.nth(2)?, fields.nth(1)?);
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let name = source.and_then(|source| source.strip_prefix("/dev/"));
        let of = |device: &&Device| device.number == number || Some(device.name.as_str()) == name;
        Some(format!("{} on {point}", devices.iter().find(of)?.name))
    };
    mountinfo.lines().filter_map(mounted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, number: &str) -> Device {
        Device { name: name.to_owned(), number: number.to_owned() }
    }

    /// A card with two partitions, the second of which is an opened encrypted volume, and a disk.
    fn class() -> tempfile::TempDir {
        let class = tempfile::tempdir().unwrap();
        let add = |path: &str, number: &str, is_partition: bool| {
            let folder = class.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
            if is_partition {
                fs::write(folder.join("partition"), "1\n").unwrap();
            }
        };
        for (path, number) in
            [("mmcblk0", "179:0"), ("mmcblk0/mmcblk0boot0", "179:8"), ("dm-0", "253:0")]
        {
            add(path, number, false);
        }
        for (name, number) in [("mmcblk0p1", "179:1"), ("mmcblk0p2", "179:2")] {
            add(&format!("mmcblk0/{name}"), number, true);
            add(name, number, true);
        }
        add("sda", "8:0", false);
        fs::create_dir_all(class.path().join("mmcblk0p2/holders/dm-0")).unwrap();
        class
    }

    const MOUNTINFO: &str = "\
22 1 8:0 / / rw,relatime shared:1 - ext4 /dev/sda rw
29 22 0:26 / /run rw,nosuid - tmpfs tmpfs rw,size=1k
41 22 0:44 /home /home rw - btrfs /dev/mmcblk0p2 rw,subvol=/home
42 22 179:1 / /media/a\\040card rw,nosuid shared:2 master:1 - vfat /dev/mmcblk0p1 rw";

    #[test]
    fn a_device_comes_with_its_partitions_and_what_is_built_upon_them() {
        let class = class();
        let whole = family(class.path(), "179:0").unwrap();
        let expected = [
            device("dm-0", "253:0"),
            device("mmcblk0", "179:0"),
            device("mmcblk0p1", "179:1"),
            device("mmcblk0p2", "179:2"),
        ];
        assert_eq!(whole, expected.into());
        let part = family(class.path(), "179:1").unwrap();
        assert_eq!(part, [device("mmcblk0p1", "179:1")].into());
        assert_eq!(family(class.path(), "7:7").unwrap(), BTreeSet::new());
    }

    #[test]
    fn what_is_mounted_is_named_with_its_place() {
        let card = [device("mmcblk0p1", "179:1"), device("mmcblk0p2", "179:2")].into();
        let uses = ["mmcblk0p2 on /home", "mmcblk0p1 on /media/a\\040card"];
        assert_eq!(mounts(MOUNTINFO, &card), uses);
        assert_eq!(mounts(MOUNTINFO, &[device("sda", "8:0")].into()), ["sda on /"]);
    }

    #[test]
    fn what_is_not_mounted_or_makes_no_sense_is_let_pass() {
        assert!(
            mounts(MOUNTINFO, &[device("sdb", "8:16"), device("sda1", "8:1")].into()).is_empty()
        );
        assert!(mounts("8:0\n\n - \n1 2 8:0", &[device("sda", "8:0")].into()).is_empty());
        let file = tempfile::NamedTempFile::new().unwrap();
        refuse_mounted(file.path()).unwrap();
        let missing = refuse_mounted(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent"), "{missing}");
    }
}
