use std::collections::BTreeMap;

use crate::wire::write_bytes;

/// A file system object in memory, to make small NARs of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    Regular {
        /// Whether it can be executed.
        executable: bool,
        /// What is in it.
        contents: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A directory, by name.
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Node {
    /// A regular file that cannot be executed.
    #[must_use]
    pub fn file(contents: impl Into<Vec<u8>>) -> Self {
        Self::Regular { executable: false, contents: contents.into() }
    }

    /// Its NAR.
    #[must_use]
    pub fn to_nar(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_bytes(&mut out, "nix-archive-1");
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        let words = |out: &mut Vec<u8>, words: &[&str]| {
            words.iter().for_each(|word| write_bytes(out, word));
        };
        words(out, &["(", "type"]);
        match self {
            Self::Regular { executable, contents } => {
                words(out, &["regular"]);
                if *executable {
                    words(out, &["executable", ""]);
                }
                words(out, &["contents"]);
                write_bytes(out, contents);
            }
            Self::Symlink { target } => {
                words(out, &["symlink", "target"]);
                write_bytes(out, target);
            }
            Self::Directory(entries) => {
                words(out, &["directory"]);
                for (name, node) in entries {
                    words(out, &["entry", "(", "name"]);
                    write_bytes(out, name);
                    words(out, &["node"]);
                    node.write(out);
                    words(out, &[")"]);
                }
            }
        }
        words(out, &[")"]);
    }
}
