//! Which disks are found in a tree of sysfs, and which of them may be written to.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::media::{Kernel, Use};

const GIB: u64 = 1 << 30;

/// A machine as the kernel shows it.
struct Machine {
    root: TempDir,
    mountinfo: String,
    swaps: String,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("class")).unwrap();
        Self { root, mountinfo: String::new(), swaps: String::new() }
    }

    /// A device at a place in the tree, with files below it.
    fn add(&self, place: &str, number: &str, size_gib: u64, files: &[(&str, &str)]) {
        let folder = self.root.path().join("devices").join(place);
        fs::create_dir_all(&folder).unwrap();
        let size = (size_gib * GIB / 512).to_string();
        for (file, text) in [("dev", number), ("size", &size)].iter().chain(files) {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let name = folder.file_name().unwrap();
        symlink(&folder, self.root.path().join("class").join(name)).unwrap();
    }

    fn mount(&mut self, number: &str, at: &str) {
        self.mountinfo += &format!("30 1 {number} / {at} rw - ext4 /dev/x rw\n");
    }

    fn kernel(&self) -> Kernel {
        let file = |name: &str, text: &str| -> PathBuf {
            let path = self.root.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        Kernel {
            class: self.root.path().join("class"),
            mountinfo: file("mountinfo", &self.mountinfo),
            swaps: file("swaps", &self.swaps),
        }
    }

    fn judged(&self, asked: Asked) -> Vec<(String, Result<(), Refusal>)> {
        let disks = disks(&self.kernel()).unwrap();
        disks.iter().map(|disk| (disk.name.clone(), judge(disk, asked))).collect()
    }

    /// The one disk there is.
    fn only(&self, asked: Asked) -> Result<(), String> {
        let [(_, verdict)] = <[_; 1]>::try_from(self.judged(asked)).unwrap();
        verdict.map_err(|why| why.to_string())
    }
}

const PART: (&str, &str) = ("partition", "1");
const USB: &str = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
const ANY: Asked = Asked { size_bytes: None, force: false };

/// A laptop: an NVMe disk with the system, a card in its reader, a stick, and what Linux adds.
fn laptop() -> Machine {
    let mut laptop = Machine::new();
    let nvme = "pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1";
    laptop.add(nvme, "259:0", 512, &[("device/model", "FAST 512"), ("removable", "0")]);
    laptop.add(&format!("{nvme}/nvme0n1p1"), "259:1", 1, &[PART, ("uevent", "PARTNAME=ESP")]);
    laptop.add(&format!("{nvme}/nvme0n1p2"), "259:2", 500, &[PART]);
    let card = "pci0000:00/0000:3b:00.0/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0";
    let sd = [("device/type", "SD"), ("device/name", "SC32G"), ("removable", "0")];
    laptop.add(card, "179:0", 32, &sd);
    let stick = [("device/vendor", "Acme    "), ("device/model", "Stick   "), ("removable", "1")];
    laptop.add(USB, "8:16", 16, &stick);
    laptop.add("virtual/block/loop0", "7:0", 1, &[]);
    laptop.add("virtual/block/zram0", "253:0", 4, &[]);
    laptop.mount("259:2", "/");
    laptop
}

#[test]
fn disks_are_found_with_what_they_are() {
    let found = disks(&laptop().kernel()).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|disk| (&*disk.name, disk.bus, disk.size_bytes / GIB, disk.model.as_deref()))
        .collect();
    let expected = [
        ("mmcblk0", Bus::SdCard, 32, Some("SC32G")),
        ("nvme0n1", Bus::Nvme, 512, Some("FAST 512")),
        ("sdb", Bus::Usb, 16, Some("Acme Stick")),
    ];
    assert_eq!(told, expected);
    let parts: Vec<_> =
        found[1].partitions.iter().map(|part| (&*part.name, part.label.as_deref())).collect();
    assert_eq!(parts, [("nvme0n1p1", Some("ESP")), ("nvme0n1p2", None)]);
    let mounted = Use::Mounted { device: "nvme0n1p2".into(), at: "/".into() };
    assert_eq!(found[1].uses, [mounted]);
    assert_eq!(found[1].path(), Path::new("/dev/nvme0n1"));
}

#[test]
fn a_card_and_a_stick_are_taken_and_the_disk_of_the_system_never() {
    for force in [false, true] {
        let judged = laptop().judged(Asked { size_bytes: Some(16 * GIB), force });
        let uses = "nvme0n1p2 on /".to_owned();
        let expected = [
            ("mmcblk0".to_owned(), Ok(())),
            ("nvme0n1".to_owned(), Err(Refusal::System { uses })),
            ("sdb".to_owned(), Ok(())),
        ];
        assert_eq!(judged, expected);
    }
}

#[test]
fn a_disk_that_is_used_is_refused_with_what_for() {
    let stick = || {
        let stick = Machine::new();
        stick.add(USB, "8:16", 16, &[("removable", "1")]);
        stick.add(&format!("{USB}/sdb1"), "8:17", 16, &[PART]);
        stick
    };
    assert_eq!(stick().only(ANY), Ok(()));
    for (at, why) in [
        ("/media/me/STICK", "sdb1 on /media/me/STICK); unmount it"),
        ("/nix", "the running system is on it (sdb1 on /nix)"),
        ("/boot/efi", "the running system is on it (sdb1 on /boot/efi)"),
    ] {
        let mut stick = stick();
        stick.mount("8:17", at);
        let told = stick.only(Asked { force: true, ..ANY }).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    let mut swapping = stick();
    swapping.swaps = "Filename Type Size Used Priority\n/dev/sdb1 partition 9 0 -2\n".to_owned();
    assert!(swapping.only(ANY).unwrap_err().contains("sdb1 as swap space"));

    // An opened volume on a part: by itself, and with the root on it.
    let mut built = stick();
    built.add("virtual/block/dm-0", "254:0", 15, &[]);
    let holders = built.root.path().join("class/sdb1/holders/dm-0");
    fs::create_dir_all(holders).unwrap();
    assert!(built.only(ANY).unwrap_err().contains("sdb1 as a part of dm-0"));
    built.mount("254:0", "/");
    assert!(built.only(ANY).unwrap_err().contains("system is on it (dm-0 on /)"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let stick = |size_gib, files: &[(&str, &str)]| {
        let stick = Machine::new();
        stick.add(USB, "8:16", size_gib, files);
        stick
    };
    assert!(stick(0, &[]).only(ANY).unwrap_err().contains("no medium"));
    assert!(stick(16, &[("ro", "1")]).only(ANY).unwrap_err().contains("read-only"));
    let exact = Asked { size_bytes: Some(16 * GIB), ..ANY };
    assert_eq!(stick(16, &[]).only(exact), Ok(()));
    let told = stick(16, &[]).only(Asked { size_bytes: Some(16 * GIB + 1), ..ANY }).unwrap_err();
    assert!(told.contains("16384 MiB") && told.contains("16385 MiB"), "{told}");
    // A stick whose case does not open is one all the same.
    assert_eq!(stick(16, &[("removable", "0")]).only(ANY), Ok(()));
}

#[test]
fn fixed_disks_take_force() {
    let emmc = "platform/fe2e0000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
    for (place, bus, files) in [
        ("pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda", "ata", &[][..]),
        ("pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1", "nvme", &[]),
        ("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme", &[]),
        ("pci0000:00/0000:00:04.0/virtio1/block/vdb", "virtio", &[("device/vendor", "0x1af4")]),
        ("platform/soc/1d84000.ufshc/host0/block/sda", "other", &[]),
        (emmc, "emmc", &[("device/type", "MMC")]),
    ] {
        let machine = Machine::new();
        machine.add(place, "8:0", 64, files);
        assert_eq!(disks(&machine.kernel()).unwrap()[0].model, None, "{place}");
        let told = machine.only(ANY).unwrap_err();
        assert!(told.contains(&format!("({bus})")) && told.contains("--force"), "{told}");
        assert_eq!(machine.only(Asked { force: true, ..ANY }), Ok(()), "{place}");
    }
    // The boot areas of an eMMC are not disks.
    let machine = Machine::new();
    machine.add(emmc, "179:0", 64, &[("device/type", "MMC")]);
    machine.add(&format!("{emmc}/mmcblk0boot0"), "179:8", 1, &[]);
    assert_eq!(machine.judged(ANY).len(), 1);
}

#[test]
fn what_is_named_is_judged_whatever_it_is() {
    let laptop = laptop();
    let named = |number: &str| {
        let disk = super::super::disks::disk_of(&laptop.kernel(), number).unwrap().unwrap();
        judge(&disk, ANY)
    };
    assert_eq!(named("7:0"), Ok(()), "a loop device");
    assert_eq!(named("253:0"), Err(Refusal::Virtual));
    assert_eq!(named("259:1"), Err(Refusal::Part { of: "nvme0n1".into() }));
    assert_eq!(super::super::disks::disk_of(&laptop.kernel(), "9:9").unwrap(), None);
}
