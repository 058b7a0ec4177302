use crate::wire::{Scan, WireError, padding};

/// Deepest nesting of directories. Linux paths are at most 4096 bytes.
pub const MAX_DEPTH: usize = 2048;

/// Longest name of a directory entry, as on Linux.
pub const MAX_NAME: u64 = 255;

/// Longest target of a symbolic link, as on Linux.
pub const MAX_TARGET: u64 = 4095;

/// Longest keyword.
const MAX_KEYWORD: u64 = 16;

const WORD: usize = 8;

/// A malformed NAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed NAR: {fault} at offset {offset}")]
pub struct NarError {
    /// Where in the NAR, in bytes: the end of the item found to be wrong.
    pub offset: u64,
    /// What is wrong.
    pub fault: NarFault,
}

/// What is wrong with a NAR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarFault {
    /// Another string than the format wants here.
    #[error("{0} expected")]
    Expected(&'static str),
    /// A name or target is too long.
    #[error("{what} of {len} bytes, and at most {max} are accepted")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// The bytes after a string are not zero.
    #[error("padding that is not zero")]
    BadPadding,
    /// A name that no directory entry can have: empty, `.`, `..`, or with a slash or a zero.
    #[error("a name that no directory entry can have")]
    BadName,
    /// A target that no symbolic link can have: empty, or with a zero.
    #[error("a target that no symbolic link can have")]
    BadTarget,
    /// The entries of a directory are not in order, or one is there twice.
    #[error("directory entries out of order")]
    Unsorted,
    /// Directories are nested too deep.
    #[error("directories nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// The string that comes next, after what has been seen. In the order of the format:
/// `nix-archive-1` node, where node is `(` `type` and
/// `regular` \[`executable` ``\] `contents` bytes, `symlink` `target` bytes, or
/// `directory` (`entry` `(` `name` bytes `node` node `)`)*, and `)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Magic,
    NodeOpen,
    Type,
    Kind,
    ExecutableOrContents,
    ExecutableMark,
    Contents,
    ContentBytes,
    Target,
    TargetBytes,
    NodeClose,
    EntryOrClose,
    EntryOpen,
    Name,
    NameBytes,
    Node,
    EntryClose,
}

impl Expect {
    const fn describe(self) -> &'static str {
        match self {
            Self::Magic => "\"nix-archive-1\"",
            Self::NodeOpen | Self::EntryOpen => "\"(\"",
            Self::Type => "\"type\"",
            Self::Kind => "\"regular\", \"symlink\" or \"directory\"",
            Self::ExecutableOrContents => "\"executable\" or \"contents\"",
            Self::ExecutableMark => "\"\"",
            Self::Contents => "\"contents\"",
            Self::ContentBytes => "the contents of a file",
            Self::Target => "\"target\"",
            Self::TargetBytes => "the target of a symbolic link",
            Self::NodeClose | Self::EntryClose => "\")\"",
            Self::EntryOrClose => "\"entry\" or \")\"",
            Self::Name => "\"name\"",
            Self::NameBytes => "the name of a directory entry",
            Self::Node => "\"node\"",
        }
    }
}

/// Where in a string one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// In its length; the bytes seen are in `NarScanner::held`.
    Length,
    /// In a string that is held and looked at, with its whole length; it goes on with its padding.
    Held { len: usize },
    /// In the contents of a file, with so many bytes to come (not 0), and the padding after that.
    Passed { left: u64, padding: usize },
    /// In the padding after the contents of a file.
    Padding { len: usize },
    /// After the last string.
    End,
}

/// Finds the end of a NAR that is fed to it in pieces of any size, and checks its structure.
///
/// Holds one name for each level of directories and one string at most.
#[derive(Clone, Debug)]
pub struct NarScanner {
    expect: Expect,
    part: Part,
    /// The current string as far as seen, if it is looked at.
    held: Vec<u8>,
    /// The latest name in each directory one is in, the outermost first.
    names: Vec<Vec<u8>>,
    offset: u64,
}

impl Default for NarScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl NarScanner {
    /// At the start of a NAR.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            expect: Expect::Magic,
            part: Part::Length,
            held: Vec::new(),
            names: Vec::new(),
            offset: 0,
        }
    }

    /// Bytes seen so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes some of the next bytes and returns how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, NarFault> {
        match self.part {
            Part::Length => {
                let n = self.hold(bytes, WORD);
                if let Ok(length) = <[u8; WORD]>::try_from(self.held.as_slice()) {
                    self.held.clear();
                    self.begin(u64::from_le_bytes(length))?;
                }
                Ok(n)
            }
            Part::Held { len } => {
                let n = self.hold(bytes, len + padding(len as u64));
                self.take_if_whole(len)?;
                Ok(n)
            }
            Part::Passed { left, padding } => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.part = match left - n as u64 {
                    0 => Part::Padding { len: padding },
                    left => Part::Passed { left, padding },
                };
                self.finish_padding()?;
                Ok(n)
            }
            Part::Padding { len } => {
                let n = self.hold(bytes, len);
                self.finish_padding()?;
                Ok(n)
            }
            Part::End => Ok(0),
        }
    }

    /// Holds bytes until there are `upto`; returns how many it took.
    fn hold(&mut self, bytes: &[u8], upto: usize) -> usize {
        let n = bytes.len().min(upto - self.held.len());
        self.held.extend_from_slice(&bytes[..n]);
        n
    }

    /// A string of `len` bytes begins.
    fn begin(&mut self, len: u64) -> Result<(), NarFault> {
        let what = self.expect.describe();
        let max = match self.expect {
            Expect::ContentBytes => {
                self.part = match (len, padding(len)) {
                    (0, padding) => Part::Padding { len: padding },
                    (left, padding) => Part::Passed { left, padding },
                };
                return self.finish_padding();
            }
            Expect::NameBytes => MAX_NAME,
            Expect::TargetBytes => MAX_TARGET,
            _ if len > MAX_KEYWORD => return Err(NarFault::Expected(what)),
            _ => MAX_KEYWORD,
        };
        if len > max {
            return Err(NarFault::TooLong { what, len, max });
        }
        self.part = Part::Held { len: len as usize };
        self.take_if_whole(len as usize)
    }

    /// Goes on to the next string if the contents of a file are over with their padding.
    fn finish_padding(&mut self) -> Result<(), NarFault> {
        if self.part == (Part::Padding { len: self.held.len() }) {
            if self.held.iter().any(|zero| *zero != 0) {
                return Err(NarFault::BadPadding);
            }
            self.expect(Expect::NodeClose);
        }
        Ok(())
    }

    /// Goes on to the next string if the one looked at is there with its padding.
    fn take_if_whole(&mut self, len: usize) -> Result<(), NarFault> {
        if self.held.len() < len + padding(len as u64) {
            return Ok(());
        }
        if self.held[len..].iter().any(|zero| *zero != 0) {
            return Err(NarFault::BadPadding);
        }
        self.held.truncate(len);
        self.take()
    }

    fn expect(&mut self, next: Expect) {
        self.held.clear();
        self.expect = next;
        self.part = Part::Length;
    }

    /// The string that was expected is in `held`.
    fn take(&mut self) -> Result<(), NarFault> {
        let next = match (self.expect, self.held.as_slice()) {
            (Expect::Magic, b"nix-archive-1") => Expect::NodeOpen,
            (Expect::NodeOpen, b"(") => Expect::Type,
            (Expect::Type, b"type") => Expect::Kind,
            (Expect::Kind, b"regular") => Expect::ExecutableOrContents,
            (Expect::Kind, b"symlink") => Expect::Target,
            (Expect::Kind, b"directory") => {
                if self.names.len() == MAX_DEPTH {
                    return Err(NarFault::TooDeep);
                }
                self.names.push(Vec::new());
                Expect::EntryOrClose
            }
            (Expect::ExecutableOrContents, b"executable") => Expect::ExecutableMark,
            (Expect::ExecutableMark, b"") => Expect::Contents,
            (Expect::ExecutableOrContents | Expect::Contents, b"contents") => Expect::ContentBytes,
            (Expect::Target, b"target") => Expect::TargetBytes,
            (Expect::TargetBytes, target) if target.is_empty() || target.contains(&0) => {
                return Err(NarFault::BadTarget);
            }
            (Expect::TargetBytes, _) => Expect::NodeClose,
            (Expect::NodeClose, b")") => {
                self.close_node();
                return Ok(());
            }
            (Expect::EntryOrClose, b"entry") => Expect::EntryOpen,
            (Expect::EntryOrClose, b")") => {
                self.names.pop();
                self.close_node();
                return Ok(());
            }
            (Expect::EntryOpen, b"(") => Expect::Name,
            (Expect::Name, b"name") => Expect::NameBytes,
            (Expect::NameBytes, _) => {
                self.take_name()?;
                Expect::Node
            }
            (Expect::Node, b"node") => Expect::NodeOpen,
            (Expect::EntryClose, b")") => Expect::EntryOrClose,
            (expected, _) => return Err(NarFault::Expected(expected.describe())),
        };
        self.expect(next);
        Ok(())
    }

    /// A node ends: the archive's own, or one of a directory.
    fn close_node(&mut self) {
        self.expect(Expect::EntryClose);
        if self.names.is_empty() {
            self.part = Part::End;
        }
    }

    fn take_name(&mut self) -> Result<(), NarFault> {
        let name = self.held.as_slice();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|c| matches!(c, 0 | b'/')) {
            return Err(NarFault::BadName);
        }
        match self.names.last_mut() {
            Some(latest) if latest.as_slice() < name => {
                latest.clear();
                latest.extend_from_slice(name);
                Ok(())
            }
            _ => Err(NarFault::Unsorted),
        }
    }
}

impl Scan for NarScanner {
    const WHAT: &'static str = "a NAR";

    fn feed(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        let mut rest = bytes;
        while !rest.is_empty() && self.part != Part::End {
            let offset = self.offset;
            let n = self.step(rest).map_err(|fault| NarError { offset, fault })?;
            self.offset += n as u64;
            rest = &rest[n..];
        }
        Ok(bytes.len() - rest.len())
    }

    fn is_done(&self) -> bool {
        self.part == Part::End
    }
}
