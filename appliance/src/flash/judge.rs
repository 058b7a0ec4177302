//! Which disks may be written to.

use super::{Bus, Disk};
use crate::media::Use;

/// Where the running system has what it cannot do without.
const SYSTEM: [&str; 7] = ["/", "/nix", "/nix/store", "/usr", "/var", "/boot", "/efi"];

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What is to be written, if that is known.
    pub size_bytes: Option<u64>,
    /// Whether a fixed disk will do, too.
    pub force: bool,
}

/// Why a disk may not be written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is a partition.
    #[error("it is a part of {of}; an image is for a whole disk")]
    Part {
        /// The disk's name.
        of: String,
    },
    /// It is no hardware.
    #[error("it is no disk, but something that the system makes of others")]
    Virtual,
    /// The system runs from it.
    #[error("the running system is on it ({uses})")]
    System {
        /// What is where.
        uses: String,
    },
    /// It is mounted.
    #[error("it is in use ({uses}); unmount it first")]
    Mounted {
        /// What is where.
        uses: String,
    },
    /// Something is built upon it.
    #[error("it is in use ({uses}); close that first")]
    Held {
        /// What is part of what.
        uses: String,
    },
    /// There is no medium in it.
    #[error("there is no medium in it")]
    NoMedium,
    /// It cannot be written to.
    #[error("it is read-only; a card may have a switch for that")]
    ReadOnly,
    /// It is a disk of this machine.
    #[error("it is a fixed disk of this machine ({bus}); --force takes it all the same")]
    Fixed {
        /// How it is connected.
        bus: &'static str,
    },
    /// The image does not fit.
    #[error("it has {has_mib} MiB, and the image takes {needs_mib} MiB; take a larger one")]
    TooSmall {
        /// What it has, in MiB.
        has_mib: u64,
        /// What the image takes, in MiB.
        needs_mib: u64,
    },
}

/// Whether a disk may be written to. What would do most harm is said first.
///
/// # Errors
///
/// Why it may not.
pub fn judge(disk: &Disk, asked: Asked) -> Result<(), Refusal> {
    let named = |wanted: fn(&Use) -> bool| {
        let uses = disk.uses.iter().filter(|it| wanted(it));
        let uses = uses.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Some(uses).filter(|uses| !uses.is_empty())
    };
    if let Some(of) = &disk.part_of {
        return Err(Refusal::Part { of: of.clone() });
    }
    if disk.bus == Bus::Virtual {
        return Err(Refusal::Virtual);
    }
    if let Some(uses) = named(is_of_system) {
        return Err(Refusal::System { uses });
    }
    if let Some(uses) = named(|it| matches!(it, Use::Mounted { .. })) {
        return Err(Refusal::Mounted { uses });
    }
    if let Some(uses) = named(|it| matches!(it, Use::Held { .. })) {
        return Err(Refusal::Held { uses });
    }
    if disk.size_bytes == 0 {
        return Err(Refusal::NoMedium);
    }
    if disk.is_read_only {
        return Err(Refusal::ReadOnly);
    }
    if !asked.force && !is_removable(disk) {
        return Err(Refusal::Fixed { bus: disk.bus.as_str() });
    }
    match asked.size_bytes {
        Some(needed) if needed > disk.size_bytes => Err(Refusal::TooSmall {
            has_mib: disk.size_bytes >> 20,
            needs_mib: needed.div_ceil(1 << 20),
        }),
        _ => Ok(()),
    }
}

fn is_of_system(it: &Use) -> bool {
    match it {
        Use::Mounted { at, .. } => SYSTEM.contains(&at.as_str()) || at.starts_with("/boot/"),
        Use::Swap { .. } => true,
        Use::Held { .. } => false,
    }
}

/// Whether it is carried around. A USB disk is, even if its medium cannot be taken out of it. A loop
/// device is a file that somebody has made one.
fn is_removable(disk: &Disk) -> bool {
    disk.has_removable_medium || matches!(disk.bus, Bus::Usb | Bus::SdCard | Bus::Loop)
}
