//! Whether a block device is mounted. A volume that is mounted is in the kernel's memory, too, and
//! writing past that destroys it.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{MediaError, failed};

/// A block device by the kernel's names for it: `sda1`, and `8:1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Device {
    name: String,
    number: String,
}

/// What a block device, or a part of it, is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The kernel's name of the device or the part, such as `sda1`.
        device: String,
        /// Where, as mountinfo has it.
        at: String,
    },
    /// Memory is swapped out to it.
    Swap {
        /// The kernel's name of the device or the part.
        device: String,
    },
    /// Something is built upon it, such as a RAID, a volume group or an opened encrypted volume.
    Held {
        /// The kernel's name of the device or the part.
        device: String,
        /// The kernel's name of what is built.
        by: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => write!(f, "{device} on {at}"),
            Self::Swap { device } => write!(f, "{device} as swap space"),
            Self::Held { device, by } => write!(f, "{device} as a part of {by}"),
        }
    }
}

/// Where the kernel tells of block devices.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// A folder for each device and partition, by its name (sysfs-block of the kernel's ABI
    /// documentation).
    pub class: PathBuf,
    /// What is mounted (proc_pid_mountinfo(5)).
    pub mountinfo: PathBuf,
    /// Swap space (proc_swaps(5)).
    pub swaps: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            class: "/sys/class/block".into(),
            mountinfo: "/proc/self/mountinfo".into(),
            swaps: "/proc/swaps".into(),
        }
    }
}

impl Kernel {
    /// What the device of this number, such as `8:0`, its partitions, and what is built upon any of
    /// them are used for.
    ///
    /// # Errors
    ///
    /// [`MediaError::File`].
    pub fn uses(&self, number: &str) -> Result<Vec<Use>, MediaError> {
        let read = |path: &Path| fs::read_to_string(path).map_err(failed("read", path));
        let mountinfo = read(&self.mountinfo)?;
        // A kernel without swapping has no such file.
        let swaps = match fs::read_to_string(&self.swaps) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            swaps => swaps.map_err(failed("read", &self.swaps))?,
        };
        let family = family(&self.class, number).map_err(failed("read", &self.class))?;
        let mut uses = mounts(&mountinfo, &family);
        uses.extend(swap_spaces(&swaps, &family));
        for Device { name, .. } in &family {
            let holders = names(&self.class.join(name).join("holders"));
            let holders = holders.map_err(failed("read", &self.class))?;
            uses.extend(holders.into_iter().map(|by| Use::Held { device: name.clone(), by }));
        }
        Ok(uses)
    }
}

/// Refuses a block device that is mounted, or one of whose partitions is, or something that is built
/// upon one of them, such as an opened encrypted volume; swap space counts, too. Anything else is let
/// pass.
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
    let mut uses = Kernel::default().uses(&format!("{major}:{minor}"))?;
    uses.retain(|it| !matches!(it, Use::Held { .. }));
    if uses.is_empty() {
        return Ok(());
    }
    let uses = uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(MediaError::Mounted { path: path.to_owned(), uses })
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

/// The mounts of any of these devices in mountinfo. A line has the device's number, or, for file
/// systems that number themselves, its path as the source.
fn mounts(mountinfo: &str, devices: &BTreeSet<Device>) -> Vec<Use> {
    let mounted = |line: &str| {
        let mut fields = line.split(' ');
        let (number, point) = (fields.nth(2)?, fields.nth(1)?);
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1));
        let name = source.and_then(|source| source.strip_prefix("/dev/"));
        let of = |device: &&Device| device.number == number || Some(device.name.as_str()) == name;
        let device = devices.iter().find(of)?.name.clone();
        Some(Use::Mounted { device, at: point.to_owned() })
    };
    mountinfo.lines().filter_map(mounted).collect()
}

/// Those of these devices that are swap space: a line begins with the path.
fn swap_spaces(swaps: &str, devices: &BTreeSet<Device>) -> Vec<Use> {
    let name =
        |line: &str| line.split_whitespace().next()?.strip_prefix("/dev/").map(str::to_owned);
    let is_one = |name: &String| devices.iter().any(|device| device.name == *name);
    let names = swaps.lines().filter_map(name).filter(is_one);
    names.map(|device| Use::Swap { device }).collect()
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

    fn text(uses: &[Use]) -> String {
        uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

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
        let uses = "mmcblk0p2 on /home, mmcblk0p1 on /media/a\\040card";
        assert_eq!(text(&mounts(MOUNTINFO, &card)), uses);
        assert_eq!(text(&mounts(MOUNTINFO, &[device("sda", "8:0")].into())), "sda on /");
    }

    #[test]
    fn swap_space_and_what_is_built_upon_a_part_are_uses() {
        let (class, texts) = (class(), tempfile::tempdir().unwrap());
        let file = |name: &str, text: &str| {
            let path = texts.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let swaps =
            "Filename Type Size Used Priority\n/dev/mmcblk0p1 partition 9 0 -2\n/swap file 9";
        let kernel = |swaps: PathBuf| Kernel {
            class: class.path().to_owned(),
            mountinfo: file("mountinfo", ""),
            swaps,
        };
        let uses = kernel(file("swaps", swaps)).uses("179:0").unwrap();
        assert_eq!(text(&uses), "mmcblk0p1 as swap space, mmcblk0p2 as a part of dm-0");
        let without = kernel(class.path().join("nowhere")).uses("179:1").unwrap();
        assert_eq!(text(&without), "");
        assert_eq!(kernel(file("swaps", swaps)).uses("8:0").unwrap(), []);
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
