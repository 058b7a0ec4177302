//! Entries of binfmt_misc: which programs the kernel gives to an interpreter
//! (`Documentation/admin-guide/binfmt-misc.rst`), and so which Nix systems are emulated.
//!
//! The kernel compares the start of a program with an entry's magic wherever its mask has ones. So
//! what an entry runs is decided here by what its mask demands and nothing else: an entry whose
//! mask leaves the machine open matches any machine's programs, and runs none as far as anyone can
//! tell.

/// Where things are at the start of an ELF file (elf(5)).
mod elf {
    pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";
    /// `EI_CLASS`: 1 is 32 bits, 2 is 64.
    pub(super) const CLASS: usize = 4;
    /// `EI_DATA`: 1 is little-endian, 2 big-endian.
    pub(super) const DATA: usize = 5;
    /// `EI_VERSION`, always 1.
    pub(super) const VERSION: usize = 6;
    /// `EI_OSABI`: 0 on most Linux programs, 3 on some.
    pub(super) const OS_ABI: usize = 7;
    /// `e_type`: 2 is a program, 3 a position-independent one.
    pub(super) const TYPE: usize = 16;
    /// `e_machine`.
    pub(super) const MACHINE: usize = 18;
    /// `e_version`, four bytes, always 1.
    pub(super) const FILE_VERSION: usize = 20;
    /// Bytes of the larger of the two headers.
    pub(super) const LEN: usize = 64;
}

/// What distinguishes the programs of an architecture.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ident {
    class: u8,
    data: u8,
    machine: u16,
}

const LITTLE: u8 = 1;
const BIG: u8 = 2;

const fn ident(bits: u8, data: u8, machine: u16) -> Ident {
    Ident { class: bits / 32, data, machine }
}

/// Architectures that nixpkgs knows on Linux (`lib/systems`), by what their programs have in their
/// headers. The versions of 32-bit ARM are not told apart there, nor are those of x86.
const ARCHITECTURES: [(Ident, &[&str]); 22] = [
    (ident(64, LITTLE, 0xb7), &["aarch64-linux"]),
    (ident(64, BIG, 0xb7), &["aarch64_be-linux"]),
    (ident(32, LITTLE, 0x28), &["armv7l-linux", "armv7a-linux", "armv6l-linux", "armv5tel-linux"]),
    (ident(64, LITTLE, 0xf3), &["riscv64-linux"]),
    (ident(32, LITTLE, 0xf3), &["riscv32-linux"]),
    (ident(64, LITTLE, 0x3e), &["x86_64-linux"]),
    (ident(32, LITTLE, 0x03), &["i686-linux"]),
    (ident(32, LITTLE, 0x06), &["i686-linux"]),
    (ident(64, LITTLE, 0x15), &["powerpc64le-linux"]),
    (ident(64, BIG, 0x15), &["powerpc64-linux"]),
    (ident(32, BIG, 0x14), &["powerpc-linux"]),
    (ident(64, BIG, 0x16), &["s390x-linux"]),
    (ident(32, BIG, 0x16), &["s390-linux"]),
    (ident(64, LITTLE, 0x08), &["mips64el-linux"]),
    (ident(64, BIG, 0x08), &["mips64-linux"]),
    (ident(32, LITTLE, 0x08), &["mipsel-linux"]),
    (ident(32, BIG, 0x08), &["mips-linux"]),
    (ident(64, LITTLE, 0x102), &["loongarch64-linux"]),
    (ident(32, BIG, 0x04), &["m68k-linux"]),
    (ident(64, BIG, 0x2b), &["sparc64-linux"]),
    (ident(32, BIG, 0xbaab), &["microblaze-linux"]),
    (ident(32, LITTLE, 0xbaab), &["microblazeel-linux"]),
];

/// Every system that an entry can be found to run.
pub fn systems() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().flat_map(|(_, systems)| systems.iter().copied())
}

/// An entry, as a file of `/proc/sys/fs/binfmt_misc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whether it is used.
    pub enabled: bool,
    /// The program that runs what matches.
    pub interpreter: &'a str,
    /// Letters, such as `F`: the interpreter was opened when the entry was made, so that it works
    /// in a sandbox which lacks it.
    pub flags: &'a str,
    /// What has to match; none if programs are recognised by the extension of their name.
    pattern: Option<Pattern<'a>>,
}

/// Bytes that the start of a program must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern<'a> {
    offset: usize,
    magic: Hex<'a>,
    mask: Option<Hex<'a>>,
}

impl<'a> Entry<'a> {
    /// Reads an entry's file. Lines that are not known are passed over, as are flags. None if it
    /// does not tell whether it is enabled or what its interpreter is, or contradicts itself.
    #[must_use]
    pub fn parse(file: &'a [u8]) -> Option<Self> {
        let text = core::str::from_utf8(file).ok()?;
        let mut lines = text.lines();
        let enabled = status(lines.next()?)?;
        let (mut interpreter, mut flags, mut offset) = (None, "", 0);
        let (mut magic, mut mask) = (None, None);
        for (key, value) in lines.map(|line| line.split_once(' ').unwrap_or((line, ""))) {
            let value = value.trim();
            match key {
                "interpreter" => interpreter = Some(value),
                "flags:" => flags = value,
                "offset" => offset = value.parse().ok()?,
                "magic" => magic = Some(Hex::new(value)?),
                "mask" => mask = Some(Hex::new(value)?),
                _ => {}
            }
        }
        let pattern = match (magic, mask) {
            (None, _) => None,
            (Some(magic), Some(mask)) if mask.len() != magic.len() => return None,
            (Some(magic), mask) => Some(Pattern { offset, magic, mask }),
        };
        let interpreter = interpreter.filter(|path| !path.is_empty())?;
        Some(Self { enabled, interpreter, flags, pattern })
    }

    /// The systems whose programs it runs when it is enabled: none, or those of one architecture.
    #[must_use]
    pub fn systems(&self) -> &'static [&'static str] {
        let Some(pattern) = &self.pattern else { return &[] };
        let mut matching = ARCHITECTURES.iter().filter(|(ident, _)| pattern.names(*ident));
        match (matching.next(), matching.next()) {
            (Some((_, systems)), None) => systems,
            _ => &[],
        }
    }
}

/// Whether `text`, the first line of an entry or what the file `status` has, says that it is
/// enabled; none if it says neither.
#[must_use]
pub fn status(text: &str) -> Option<bool> {
    match text.trim_end() {
        "enabled" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

impl Pattern<'_> {
    /// The bits that are compared of the byte at `at` in the file, and their value.
    fn wants(&self, at: usize) -> (u8, u8) {
        let Some(index) = at.checked_sub(self.offset) else { return (0, 0) };
        let mask = self.mask.map_or(Some(0xff), |mask| mask.byte(index));
        match (self.magic.byte(index), mask) {
            (Some(magic), Some(mask)) => (mask, magic & mask),
            _ => (0, 0),
        }
    }

    fn accepts(&self, at: usize, byte: u8) -> bool {
        let (mask, value) = self.wants(at);
        byte & mask == value
    }

    /// The only one of two values that is accepted at `at`; none if both are, or neither.
    fn only(&self, at: usize, values: [u8; 2]) -> Option<u8> {
        match values.map(|value| self.accepts(at, value)) {
            [true, false] => Some(values[0]),
            [false, true] => Some(values[1]),
            _ => None,
        }
    }

    /// Whether it demands to see what tells these programs from others, and accepts them. The upper
    /// byte of the machine may be left open, as some entries do: it is zero for all common ones.
    fn names(&self, ident: Ident) -> bool {
        let demands = |at, byte| self.wants(at) == (0xff, byte);
        let low = elf::MACHINE + usize::from(ident.data == BIG);
        let headers = [(2, 0), (3, 0), (2, 3), (3, 3)].map(|(kind, os)| ident.header(kind, os));
        elf::MAGIC.iter().enumerate().all(|(at, byte)| demands(at, *byte))
            && self.only(elf::CLASS, [1, 2]) == Some(ident.class)
            && self.only(elf::DATA, [LITTLE, BIG]) == Some(ident.data)
            && demands(low, ident.machine.to_le_bytes()[0])
            && headers.iter().any(|header| self.matches(header))
    }

    /// Whether the kernel takes a file with this header for a match. What comes later in the file is
    /// not known and taken for one.
    fn matches(&self, header: &[u8; elf::LEN]) -> bool {
        header.iter().enumerate().all(|(at, byte)| self.accepts(at, *byte))
    }
}

impl Ident {
    /// The header of such a program: of its type (2 or 3), for this `EI_OSABI`, with zeros for what
    /// differs from program to program.
    fn header(self, kind: u8, os_abi: u8) -> [u8; elf::LEN] {
        let mut header = [0; elf::LEN];
        header[..4].copy_from_slice(&elf::MAGIC);
        header[elf::CLASS] = self.class;
        header[elf::DATA] = self.data;
        header[elf::VERSION] = 1;
        header[elf::OS_ABI] = os_abi;
        let low = usize::from(self.data == BIG);
        header[elf::TYPE + low] = kind;
        let machine = match self.data {
            LITTLE => self.machine.to_le_bytes(),
            _ => self.machine.to_be_bytes(),
        };
        header[elf::MACHINE..elf::FILE_VERSION].copy_from_slice(&machine);
        header[elf::FILE_VERSION + 3 * low] = 1;
        header
    }
}

/// Bytes as pairs of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hex<'a>(&'a [u8]);

impl<'a> Hex<'a> {
    fn new(text: &'a str) -> Option<Self> {
        let whole = !text.is_empty() && text.len() % 2 == 0;
        (whole && text.bytes().all(|c| c.is_ascii_hexdigit())).then_some(Self(text.as_bytes()))
    }

    fn len(self) -> usize {
        self.0.len() / 2
    }

    fn byte(self, index: usize) -> Option<u8> {
        let digit = |at: usize| char::from(*self.0.get(at)?).to_digit(16);
        let at = index.checked_mul(2)?;
        u8::try_from(digit(at)? << 4 | digit(at + 1)?).ok()
    }
}

#[cfg(test)]
mod tests;
