//! RISC-V instruction sets, as the kernel tells of them: by a system call ([`super::hwprobe`]), or as
//! `/proc/cpuinfo` names them.
//!
//! A name is a base, `rv32` or `rv64`, then single letters, then longer names with `_` between (ISA
//! manual, volume I, chapter "ISA Extension Naming Conventions"). The kernel writes no versions.

use super::{
    hwprobe::{self, Answers, Pair},
    pairs,
};

/// Longest name of an extension that is believed to be one.
const MAX_NAME_LEN: usize = 40;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa<'a> {
    /// Bits of an address: 32 or 64.
    pub bits: u8,
    /// What follows the base.
    names: &'a str,
}

impl<'a> Isa<'a> {
    /// Reads a name such as `rv64imafdc_zicsr_zba`.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (bits, names) = match (text.strip_prefix("rv32"), text.strip_prefix("rv64")) {
            (Some(names), _) => (32, names),
            (_, Some(names)) => (64, names),
            _ => return None,
        };
        let letters = names.split('_').next().unwrap_or_default();
        let valid = letters.bytes().all(|c| c.is_ascii_lowercase())
            && names.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        (valid && letters.starts_with(['i', 'e', 'g'])).then_some(Self { bits, names })
    }

    /// Its extensions as they are written: `i`, `m`, `zba`. A name that stands for others, such as
    /// `g`, stands for itself here. `v` is also what some cores say that have a vector unit from
    /// before the standard (T-Head C910 and C920).
    pub fn written(self) -> impl Iterator<Item = &'a str> {
        let mut parts = self.names.split('_');
        let (letters, long) = split_letters(parts.next().unwrap_or_default());
        // Old firmware adds the privilege modes S and U.
        let long = long.strip_prefix("su").map_or(long, |_| "");
        letters
            .split_inclusive(|_| true)
            .chain([long])
            .chain(parts)
            .filter(|name| (1..=MAX_NAME_LEN).contains(&name.len()))
    }

    /// Whether it has an extension, written out or as a part of one that stands for several.
    #[must_use]
    pub fn has(self, extension: &str) -> bool {
        self.written().any(|name| name == extension || stands_for(name).contains(&extension))
    }
}

/// What a name stands for.
fn stands_for(name: &str) -> &'static [&'static str] {
    match name {
        "g" => &["i", "m", "a", "f", "d", "zicsr", "zifencei"],
        "a" => &["zaamo", "zalrsc"],
        "b" => &["zba", "zbb", "zbs"],
        _ => &[],
    }
}

/// The single letters at the start, and the longer name that follows without `_`, as in
/// `imafdcxtheadc`.
fn split_letters(part: &str) -> (&str, &str) {
    let at = part.find(['z', 's', 'x']).unwrap_or(part.len());
    part.split_at(at)
}

/// What every hart of a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common<'a> {
    cpuinfo: &'a [u8],
    /// What the kernel answered when it was asked; then nothing else counts.
    answers: Option<Answers>,
}

impl<'a> Common<'a> {
    /// Of the harts that `/proc/cpuinfo` lists, which are those that are online.
    ///
    /// Clusters differ, so a hart's own `hart isa` counts where the kernel shows it (since 6.6), and
    /// else its `isa`.
    #[must_use]
    pub const fn of(cpuinfo: &'a [u8]) -> Self {
        Self { cpuinfo, answers: None }
    }

    /// By what a 64-bit kernel answered to [`hwprobe::QUESTIONS`] for all harts that are online, if it
    /// knows them (since 6.4): it tells what programs may use, whatever harts have.
    #[must_use]
    pub fn probed(self, pairs: &[Pair]) -> Self {
        Self { answers: Answers::of(pairs), ..self }
    }

    /// Whether every hart has an extension. Of no harts, or one whose name makes no sense, nothing
    /// is known.
    #[must_use]
    pub fn has(self, extension: &str) -> bool {
        if let Some(answers) = self.answers {
            return answers.has(extension);
        }
        let mut harts = self.harts().peekable();
        harts.peek().is_some() && harts.all(|isa| isa.is_some_and(|isa| isa.has(extension)))
    }

    /// Whether it executes what is compiled for `rv64gc`, the base of all Linux distributions.
    /// `zicsr` and `zifencei` were parts of `i` once, and old kernels do not name them.
    #[must_use]
    pub fn is_rv64gc(self) -> bool {
        let wide = |isa: Option<Isa<'_>>| isa.is_some_and(|isa| isa.bits == 64);
        (self.answers.is_some() || self.harts().all(wide))
            && ["i", "m", "a", "f", "d", "c"].iter().all(|name| self.has(name))
    }

    /// What compilers can be told of it: `rv64gc`, if it has that, and extensions beyond. What has no
    /// bit in the system call is left out, whichever way it is known.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let base = self.is_rv64gc().then_some("rv64gc");
        base.into_iter().chain(hwprobe::beyond_rv64gc().filter(move |name| self.has(name)))
    }

    /// Each hart's instruction set; none where it makes no sense.
    fn harts(self) -> impl Iterator<Item = Option<Isa<'a>>> {
        let own = pairs(self.cpuinfo).any(|(key, _)| key == "hart isa");
        let wanted = if own { "hart isa" } else { "isa" };
        let isa = pairs(self.cpuinfo).filter(move |(key, _)| *key == wanted);
        isa.map(|(_, name)| Isa::parse(name))
    }
}
