//! Disks as people and programs read them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::{human, render};
use crate::flash::{Asked, Disk, Place, judge};

/// A disk, as JSON.
#[derive(Serialize)]
pub(super) struct Shown {
    device: PathBuf,
    size_bytes: u64,
    model: Option<String>,
    bus: &'static str,
    has_removable_medium: bool,
    read_only: bool,
    /// What is mounted, swap space, or a part of something else.
    uses: Vec<String>,
    usable: bool,
    /// Why it is not usable.
    reason: Option<String>,
}

impl Shown {
    pub(super) fn of(disk: &Disk, asked: Asked) -> Self {
        let verdict = judge(disk, asked);
        Self {
            device: disk.path(),
            size_bytes: disk.size_bytes,
            model: disk.model.clone(),
            bus: disk.bus.as_str(),
            has_removable_medium: disk.has_removable_medium,
            read_only: disk.is_read_only,
            uses: disk.uses.iter().map(ToString::to_string).collect(),
            usable: verdict.is_ok(),
            reason: verdict.err().map(|why| why.to_string()),
        }
    }
}

/// A line a disk.
pub(super) fn table(disks: &[Shown]) -> String {
    if disks.is_empty() {
        return "There are no disks. Plug in a card or a USB stick.\n".to_owned();
    }
    let mut table = render::table(&["DEVICE", "SIZE", "BUS", "MODEL", "FOR FLASHING"]);
    for disk in disks {
        let verdict = disk.reason.as_ref().map_or("yes".to_owned(), |why| format!("no: {why}"));
        table.add_row([
            disk.device.display().to_string(),
            human::memory(disk.size_bytes >> 20),
            disk.bus.to_owned(),
            disk.model.clone().unwrap_or_else(|| "-".to_owned()),
            verdict,
        ]);
    }
    render::lines(&table)
}

/// What is lost when this is written to, as a question; none if nothing is.
pub(super) fn question(target: &Path, place: &Place) -> Option<String> {
    let path = target.display();
    match place {
        Place::New | Place::File { size_bytes: 0 } => None,
        Place::File { size_bytes } => {
            let size = human::memory(size_bytes >> 20);
            Some(format!("{path} is a file of {size}, and will be overwritten. Go on?"))
        }
        Place::Device(disk) => {
            let model = disk.model.as_deref().unwrap_or("no model given");
            let size = human::memory(disk.size_bytes >> 20);
            let mut text = format!("{path}: {model}, {size}, {}\n", disk.bus.as_str());
            for part in &disk.partitions {
                let label = part.label.as_ref().map_or(String::new(), |it| format!(" {it:?}"));
                let size = human::memory(part.size_bytes >> 20);
                text += &format!("  {}: {size}{label}\n", part.name);
            }
            if disk.partitions.is_empty() {
                text += "  no partitions\n";
            }
            Some(text + "All of it will be erased. Go on?")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{Bus, Partition};

    fn stick() -> Disk {
        let part = |name: &str, label: Option<&str>| Partition {
            name: name.to_owned(),
            size_bytes: 512 << 20,
            label: label.map(str::to_owned),
        };
        Disk {
            name: "sdb".to_owned(),
            number: "8:16".to_owned(),
            size_bytes: 32 << 30,
            model: Some("Acme Stick".to_owned()),
            bus: Bus::Usb,
            has_removable_medium: true,
            is_read_only: false,
            part_of: None,
            uses: Vec::new(),
            partitions: vec![part("sdb1", Some("ESP")), part("sdb2", None)],
        }
    }

    #[test]
    fn disks_are_listed_with_a_verdict() {
        let empty = Disk { name: "sdc".into(), size_bytes: 0, model: None, ..stick() };
        let shown = [stick(), empty].map(|disk| Shown::of(&disk, Asked::default()));
        let expected = "\
DEVICE    SIZE      BUS  MODEL       FOR FLASHING
/dev/sdb  32.0 GiB  usb  Acme Stick  yes
/dev/sdc  0 MiB     usb  -           no: there is no medium in it
";
        let text = table(&shown);
        assert!(text == expected, "--- printed\n{text}--- expected\n{expected}");
        assert!(table(&[]).contains("Plug in"));
    }

    #[test]
    fn what_will_be_lost_is_shown_before_it_is_asked_for() {
        let of = |place| question("/dev/sdb".as_ref(), &place);
        let expected = "\
/dev/sdb: Acme Stick, 32.0 GiB, usb
  sdb1: 512 MiB \"ESP\"
  sdb2: 512 MiB
All of it will be erased. Go on?";
        assert_eq!(of(Place::Device(Box::new(stick()))).as_deref(), Some(expected));
        let empty = Disk { partitions: Vec::new(), ..stick() };
        assert!(of(Place::Device(Box::new(empty))).unwrap().contains("no partitions"));
        assert!(of(Place::File { size_bytes: 3 << 30 }).unwrap().contains("3.0 GiB"));
        assert_eq!((of(Place::New), of(Place::File { size_bytes: 0 })), (None, None));
    }
}
