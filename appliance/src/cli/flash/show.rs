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
