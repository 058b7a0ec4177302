//! The TXT record of a board's DNS-SD service (RFC 6763, section 6).

use core::{fmt, fmt::Write as _};

use heapless::{String, Vec};

use crate::{
    announcement::{Announcement, HostKeyHash},
    word::{Kind, List, Word, WordError},
};

/// An [`Announcement`] as a TXT record: strings `key=value`, each behind its length in one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    wire: Vec<u8, { Record::MAX_LEN }>,
}

/// Keys that may be left out of a record to keep it short.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dropped {
    Nothing,
    Features,
    FeaturesAndEmulated,
}

impl Record {
    /// Longest record that is written, in bytes on the wire: with its other records, the service
    /// then fits one Ethernet frame.
    pub const MAX_LEN: usize = 400;
    /// Longest record that is read, in bytes on the wire (RFC 6763, section 6.2).
    pub const MAX_READ_LEN: usize = 1300;
    /// Most strings that are read.
    pub const MAX_READ_ENTRIES: usize = 64;

    /// Writes a record. If it were longer than [`Self::MAX_LEN`], features are left out, then
    /// emulated systems too, and `more=1` says so. Numbers out of bounds are written as the bound.
    #[must_use]
    pub fn encode(announcement: &Announcement) -> Self {
        let fitting = [Dropped::Nothing, Dropped::Features, Dropped::FeaturesAndEmulated]
            .into_iter()
            .find_map(|dropped| Self::fill(announcement, dropped).ok());
        // The shortest form fits by the bounds of its parts (see the test of the longest one).
        fitting.unwrap_or(Self { wire: Vec::new() })
    }

    fn fill(from: &Announcement, dropped: Dropped) -> Result<Self, fmt::Error> {
        let mut record = Self { wire: Vec::new() };
        let slots = from.slots.clamp(1, Announcement::MAX_SLOTS);
        let cores = from.cores.clamp(1, Announcement::MAX_CORES);
        record.push("txtvers", format_args!("1"))?;
        record.push("id", format_args!("{}", from.id))?;
        record.push("sys", format_args!("{}", from.systems.as_str()))?;
        record.push("slots", format_args!("{slots}"))?;
        record.push("cores", format_args!("{cores}"))?;
        record.push("memg", format_args!("{}", from.memory_gib))?;
        record.push("hk", format_args!("{}", from.host_key))?;
        if let Some(board) = &from.board {
            record.push("board", format_args!("{board}"))?;
        }
        if let Some(fleet) = &from.fleet {
            record.push("fleet", format_args!("{fleet}"))?;
        }
        if let Some(proof) = &from.proof {
            record.push("proof", format_args!("{proof}"))?;
        }
        if dropped != Dropped::FeaturesAndEmulated && !from.emulated.is_empty() {
            record.push("emu", format_args!("{}", from.emulated.as_str()))?;
        }
        if dropped == Dropped::Nothing && !from.features.is_empty() {
            record.push("feat", format_args!("{}", from.features.as_str()))?;
        }
        if from.more || dropped != Dropped::Nothing {
            record.push("more", format_args!("1"))?;
        }
        Ok(record)
    }

    fn push(&mut self, key: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        let mut entry = String::<255>::new();
        write!(entry, "{key}={value}")?;
        let len = u8::try_from(entry.len()).map_err(|_| fmt::Error)?;
        self.wire.push(len).map_err(|_| fmt::Error)?;
        self.wire.extend_from_slice(entry.as_bytes()).map_err(|()| fmt::Error)
    }

    /// The record's bytes in a DNS message.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// The record's strings, in order.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire.as_slice();
        core::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            let (entry, tail) = tail.split_at_checked(usize::from(len))?;
            rest = tail;
            Some(entry)
        })
    }

    /// Reads the strings of a record. Unknown keys are ignored, keys compare without case, and of
    /// a key that comes twice the first counts (RFC 6763, section 6.4). A key without a value is
    /// as good as none.
    ///
    /// # Errors
    ///
    /// If the record is too large, of another version, lacks `id`, `sys` or `hk`, or has a value
    /// that is not what it should be.
    pub fn decode<'a>(
        entries: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Announcement, DecodeError> {
        let fields = Fields::gather(entries)?;
        match fields.text(Key::Version)? {
            Some("1") => {}
            _ => return Err(DecodeError::Version),
        }
        Ok(Announcement {
            id: fields.word(Key::Id)?.ok_or(DecodeError::Missing { key: "id" })?,
            systems: match fields.list(Key::Systems)? {
                systems if systems.is_empty() => return Err(DecodeError::Missing { key: "sys" }),
                systems => systems,
            },
            emulated: fields.list(Key::Emulated)?,
            features: fields.list(Key::Features)?,
            slots: fields.number(Key::Slots, 1, Announcement::MAX_SLOTS)?,
            cores: fields.number(Key::Cores, 1, Announcement::MAX_CORES)?,
            memory_gib: fields.number(Key::Memory, 0, u16::MAX)?,
            board: fields.word(Key::Board)?,
            host_key: fields
                .text(Key::Hash)?
                .map(|text| HostKeyHash::parse(text).ok_or(DecodeError::HostKey))
                .ok_or(DecodeError::Missing { key: "hk" })??,
            fleet: fields.word(Key::Fleet)?,
            proof: fields.word(Key::Proof)?,
            more: fields.text(Key::More)? == Some("1"),
        })
    }
}

/// Keys that are known.
#[derive(Clone, Copy)]
enum Key {
    Version,
    Id,
    Systems,
    Emulated,
    Features,
    Slots,
    Cores,
    Memory,
    Board,
    Hash,
    Fleet,
    Proof,
    More,
}

impl Key {
    const NAMES: [&'static str; 13] = [
        "txtvers", "id", "sys", "emu", "feat", "slots", "cores", "memg", "board", "hk", "fleet",
        "proof", "more",
    ];

    const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The first value of each known key.
struct Fields<'a> {
    values: [Option<&'a [u8]>; Key::NAMES.len()],
}

impl<'a> Fields<'a> {
    fn gather(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, DecodeError> {
        let mut values = [None; Key::NAMES.len()];
        let mut size = 0;
        for (seen, entry) in entries.into_iter().enumerate() {
            size += 1 + entry.len();
            if seen >= Record::MAX_READ_ENTRIES || size > Record::MAX_READ_LEN {
                return Err(DecodeError::TooLarge);
            }
            let (key, value) = match entry.iter().position(|&c| c == b'=') {
                Some(at) => (&entry[..at], &entry[at + 1..]),
                None => (entry, &[][..]),
            };
            let known =
                Key::NAMES.iter().position(|name| key.eq_ignore_ascii_case(name.as_bytes()));
            if let Some(place) = known.map(|at| &mut values[at]) {
                place.get_or_insert(value);
            }
        }
        Ok(Self { values })
    }

    fn text(&self, key: Key) -> Result<Option<&'a str>, DecodeError> {
        let value = self.values[key as usize].filter(|value| !value.is_empty());
        value
            .map(|value| {
                core::str::from_utf8(value).map_err(|_| DecodeError::NotUtf8 { key: key.name() })
            })
            .transpose()
    }

    fn word<K: Kind, const N: usize>(&self, key: Key) -> Result<Option<Word<K, N>>, DecodeError> {
        let word = self.text(key)?.map(Word::new).transpose();
        word.map_err(|error| DecodeError::Word { key: key.name(), error })
    }

    fn list<K: Kind, const N: usize>(&self, key: Key) -> Result<List<K, N>, DecodeError> {
        List::parse(self.text(key)?.unwrap_or_default())
            .map_err(|error| DecodeError::Word { key: key.name(), error })
    }

    /// The number of a key, or the least one if the key is not there.
    fn number(&self, key: Key, min: u16, max: u16) -> Result<u16, DecodeError> {
        let Some(text) = self.text(key)? else { return Ok(min) };
        let digits = text.bytes().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && (min..=max).contains(&number) => Ok(number),
            _ => Err(DecodeError::Number { key: key.name(), min, max }),
        }
    }
}

/// Why a TXT record is not an [`Announcement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More than [`Record::MAX_READ_LEN`] bytes or [`Record::MAX_READ_ENTRIES`] strings.
    TooLarge,
    /// `txtvers` is not `1`, or is not there.
    Version,
    /// A key that must be there is not, or has no value.
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is not UTF-8.
    NotUtf8 {
        /// Its key.
        key: &'static str,
    },
    /// A value is not the word or the list of words it should be.
    Word {
        /// Its key.
        key: &'static str,
        /// What is wrong with it.
        error: WordError,
    },
    /// A value is no number, or out of bounds.
    Number {
        /// Its key.
        key: &'static str,
        /// The least one that is accepted.
        min: u16,
        /// The greatest one that is accepted.
        max: u16,
    },
    /// `hk` is not 32 bytes in base64url without padding.
    HostKey,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the record is larger than {} bytes", Record::MAX_READ_LEN),
            Self::Version => f.write_str("`txtvers` is not 1, the only version known here"),
            Self::Missing { key } => write!(f, "`{key}` is missing"),
            Self::NotUtf8 { key } => write!(f, "the value of `{key}` is not UTF-8"),
            Self::Word { key, error } => write!(f, "the value of `{key}` is {error}"),
            Self::Number { key, min, max } => {
                write!(f, "the value of `{key}` is not a number from {min} to {max}")
            }
            Self::HostKey => {
                f.write_str("the value of `hk` is not 32 bytes in base64url without padding")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
