//! FAT volumes: which parts of a disk are one, and what they are called.

use std::{fmt, io};

use fatfs::{Date, DateTime, FileSystem, FsOptions, Time, TimeProvider};

use super::{
    SEED_LABEL,
    guard::guarded,
    table::{self, Part},
    window::{Medium, Window},
};

/// The date of every file that is written: FAT's first day. A board has no clock when it looks.
#[derive(Debug)]
struct FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time { hour: 0, min: 0, sec: 0, millis: 0 },
        }
    }
}

/// Runs what works on a FAT volume.
pub(super) fn with_fat<'m, T>(
    window: &mut Window<'m>,
    work: impl FnOnce(&FileSystem<&mut Window<'m>>) -> io::Result<T>,
) -> io::Result<T> {
    window.rewind();
    guarded(|| {
        let volume = FileSystem::new(window, FsOptions::new().time_provider(&FirstDay))?;
        let result = work(&volume)?;
        volume.unmount()?;
        Ok(result)
    })
}

/// What a part of a disk is.
#[derive(Debug)]
enum Content {
    /// A FAT volume, and its label if it has one.
    Fat(Option<String>),
    /// Something else, or a volume that cannot be read.
    Other(io::Error),
}

/// A part of a disk, looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) part: Part,
    content: Content,
}

impl Found {
    fn look(disk: &mut dyn Medium, part: Part) -> Self {
        let mut window = Window::new(disk, part.offset, part.len);
        let content = with_fat(&mut window, |volume| {
            let label = match volume.read_volume_label_from_root_dir()? {
                Some(label) => label,
                None => volume.volume_label(),
            };
            let label = label.trim_end_matches([' ', '\0']);
            Ok((!label.is_empty() && label != "NO NAME").then(|| label.to_owned()))
        });
        Self { part, content: content.map_or_else(Content::Other, Content::Fat) }
    }

    fn is_fat(&self) -> bool {
        matches!(self.content, Content::Fat(_))
    }

    /// Whether it is a volume for seeds.
    pub(super) fn is_for_seeds(&self) -> bool {
        matches!(&self.content, Content::Fat(Some(label)) if label == SEED_LABEL)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.part)?;
        match &self.content {
            Content::Fat(Some(label)) => write!(f, "FAT labelled {label:?}"),
            Content::Fat(None) => write!(f, "FAT without a label"),
            Content::Other(error) => write!(f, "no usable FAT ({error})"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "partition {number}"),
            None => write!(f, "the whole of it"),
        }
    }
}

/// What there is on a disk: itself if it is one volume, or else its partitions.
///
/// A boot sector of FAT has the signature of a partition table, and often text where the records
/// would be. The other way round there is no mistake: FAT's own fields have to make sense.
pub(super) fn look(disk: &mut dyn Medium) -> io::Result<Vec<Found>> {
    let whole = table::whole(disk)?;
    let whole = Found::look(disk, whole);
    if whole.is_fat() {
        return Ok(vec![whole]);
    }
    let parts = table::partitions(disk)?;
    if parts.is_empty() {
        return Ok(vec![whole]);
    }
    Ok(parts.into_iter().map(|part| Found::look(disk, part)).collect())
}
