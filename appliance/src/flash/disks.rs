//! Which disks there are, as sysfs has them (sysfs-block of the kernel's ABI documentation).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{FlashError, error::failed};
use crate::media::{Kernel, Use};

/// What the kernel counts sizes in, whatever the disk's own blocks are, in bytes.
const SECTOR: u64 = 512;

/// How a disk is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// USB.
    Usb,
    /// An SD card in a reader of its own kind.
    SdCard,
    /// eMMC: the same bus as an SD card, and soldered mostly.
    Emmc,
    /// NVMe.
    Nvme,
    /// SATA, or its predecessor.
    Ata,
    /// A virtual machine's.
    Virtio,
    /// A file that plays a disk.
    Loop,
    /// No hardware: RAID, device mapper, memory.
    Virtual,
    /// Something else.
    Other,
}

impl Bus {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usb => "usb",
            Self::SdCard => "sd",
            Self::Emmc => "emmc",
            Self::Nvme => "nvme",
            Self::Ata => "ata",
            Self::Virtio => "virtio",
            Self::Loop => "loop",
            Self::Virtual => "virtual",
            Self::Other => "other",
        }
    }
}

/// A disk, or what the kernel shows as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// Its number, such as `8:0`.
    pub number: String,
    /// Its size; 0 without a medium.
    pub size_bytes: u64,
    /// Vendor and model, if it tells.
    pub model: Option<String>,
    /// How it is connected.
    pub bus: Bus,
    /// Whether the kernel says that its medium can be taken out. It says so of most USB sticks and of no
    /// SD card.
    pub has_removable_medium: bool,
    /// Whether it cannot be written to.
    pub is_read_only: bool,
    /// The disk that it is a part of.
    pub part_of: Option<String>,
    /// What it is used for.
    pub uses: Vec<Use>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// A partition, as far as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name, such as `sda1`.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its name in a GPT.
    pub label: Option<String>,
}

impl Disk {
    /// The path of its device.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// Every disk there is, by name; neither partitions nor what is no hardware.
///
/// # Errors
///
/// [`FlashError::File`] and [`FlashError::Media`].
pub fn disks(kernel: &Kernel) -> Result<Vec<Disk>, FlashError> {
    let mut disks = Vec::new();
    for name in names(&kernel.class).map_err(failed("read", &kernel.class))? {
        let Some(disk) = disk(kernel, &name)? else { continue };
        let is_virtual = matches!(disk.bus, Bus::Loop | Bus::Virtual);
        if disk.part_of.is_none() && !is_virtual {
            disks.push(disk);
        }
    }
    Ok(disks)
}

/// The disk or partition of this number, if it is there.
///
/// # Errors
///
/// As [`disks`].
pub(super) fn disk_of(kernel: &Kernel, number: &str) -> Result<Option<Disk>, FlashError> {
    let class = &kernel.class;
    for name in names(class).map_err(failed("read", class))? {
        if text(&class.join(&name).join("dev")).as_deref() == Some(number) {
            return disk(kernel, &name);
        }
    }
    Ok(None)
}

/// Nothing if it vanished meanwhile.
fn disk(kernel: &Kernel, name: &str) -> Result<Option<Disk>, FlashError> {
    let folder = kernel.class.join(name);
    let Some(number) = text(&folder.join("dev")) else { return Ok(None) };
    // The class has links into the tree of devices.
    let device = fs::canonicalize(&folder).map_err(failed("read", &folder))?;
    let file = |file: &str| text(&device.join(file));
    let is_partition = device.join("partition").exists();
    let parent = device.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let is_part = is_partition || kernel.class.join(&*parent).exists();
    let is_one = |file: &str| text(&device.join(file)).as_deref() == Some("1");
    let mut partitions = Vec::new();
    for part in names(&device).map_err(failed("read", &device))? {
        let part_device = device.join(&part);
        if part_device.join("partition").exists() {
            let label = property(&part_device.join("uevent"), "PARTNAME");
            partitions.push(Partition { size_bytes: size(&part_device), name: part, label });
        }
    }
    let words = [file("device/vendor"), file("device/model"), file("device/name")];
    // Of virtio disks, the vendor is a number.
    let words = words.into_iter().flatten().filter(|word| !word.starts_with("0x"));
    let model = words.collect::<Vec<_>>().join(" ");
    Ok(Some(Disk {
        name: name.to_owned(),
        uses: kernel.uses(&number)?,
        number,
        size_bytes: size(&device),
        model: Some(model).filter(|model| !model.is_empty()),
        bus: bus(name, &device, file("device/type").as_deref()),
        has_removable_medium: is_one("removable"),
        is_read_only: is_one("ro"),
        part_of: is_part.then(|| parent.into_owned()),
        partitions,
    }))
}

/// How it is connected: the path of a device names what it hangs on, from the root to the disk.
fn bus(name: &str, device: &Path, kind: Option<&str>) -> Bus {
    let parts: Vec<_> = device.iter().map(|part| part.to_string_lossy()).collect();
    let has = |start: &str| {
        let numbered = |part: &str| {
            let rest = part.strip_prefix(start);
            rest.is_some_and(|rest| rest.bytes().next().is_none_or(|byte| byte.is_ascii_digit()))
        };
        parts.iter().any(|part| numbered(part))
    };
    if name.starts_with("loop") {
        Bus::Loop
    } else if has("usb") {
        Bus::Usb
    } else if has("mmc") {
        if kind == Some("SD") { Bus::SdCard } else { Bus::Emmc }
    } else if has("nvme") || has("nvme-subsystem") {
        Bus::Nvme
    } else if has("ata") {
        Bus::Ata
    } else if has("virtio") {
        Bus::Virtio
    } else if has("virtual") {
        Bus::Virtual
    } else {
        Bus::Other
    }
}

fn size(device: &Path) -> u64 {
    let sectors = text(&device.join("size")).and_then(|text| text.parse::<u64>().ok());
    sectors.unwrap_or(0).saturating_mul(SECTOR)
}

/// A file's text without blanks around it; nothing if it is empty or cannot be read, which some of
/// these files never can.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A line `KEY=value`.
fn property(path: &Path, key: &str) -> Option<String> {
    let text = text(path)?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
