use std::io;

use super::{MAX_MESSAGE, bounded::is_over_limit};
use crate::{nar::NarError, nixhash::HashError, store_path::StorePathError};

/// What can go wrong when reading from a peer or writing to it. `what` names the item concerned.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer hung up between two requests: the ordinary end of a session.
    #[error("the peer hung up")]
    HungUp,
    /// The peer hung up in the middle of something.
    #[error("the peer hung up in the middle of {what}")]
    Truncated {
        /// Being read.
        what: &'static str,
    },
    /// Reading or writing failed.
    #[error("cannot {doing} {what}: {source}")]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The item.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// More than is accepted.
    #[error("{what} is too long: {len}, and at most {max} is accepted")]
    TooLong {
        /// Being read.
        what: &'static str,
        /// Bytes or items announced; or one more than the limit if a whole message is meant.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// The bytes after a string are not zero.
    #[error("the padding after {what} is not zero")]
    BadPadding {
        /// Being read.
        what: &'static str,
    },
    /// Text is not UTF-8 where it has to be.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// Being read.
        what: &'static str,
    },
    /// Not a store path.
    #[error("{what}: {source}")]
    BadStorePath {
        /// Being read.
        what: &'static str,
        /// The reason.
        source: StorePathError,
    },
    /// Not a hash.
    #[error("{what}: {source}")]
    BadHash {
        /// Being read.
        what: &'static str,
        /// The reason.
        source: HashError,
    },
    /// A number that stands for nothing, such as a truth value of 2.
    #[error("{what} cannot be {tag}")]
    UnknownTag {
        /// Being read.
        what: &'static str,
        /// The number.
        tag: u64,
    },
    /// An operation or command this crate does not know.
    #[error("operation {0} is not known; a newer protocol or a removed operation")]
    UnknownOperation(u64),
    /// An operation or message that is known and deliberately not spoken.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it is.
        what: &'static str,
    },
    /// The first number is not the protocol's.
    #[error("the peer does not speak {what}: its first number is {found:#x}")]
    BadMagic {
        /// The protocol.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// The peer is too old, or of another major version.
    #[error("the peer speaks {what} {}.{}, and at least {} is needed; a newer Nix there helps", .found >> 8, .found & 0xff, .oldest)]
    UnsupportedVersion {
        /// The protocol.
        what: &'static str,
        /// As on the wire: major times 256, and minor.
        found: u64,
        /// The oldest version accepted.
        oldest: &'static str,
    },
    /// A NAR is malformed.
    #[error(transparent)]
    Nar(#[from] NarError),
}

impl WireError {
    /// Whether the other end is gone, rather than saying something wrong.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        match self {
            Self::HungUp | Self::Truncated { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            ),
            _ => false,
        }
    }

    /// For `map_err` of a read.
    pub(crate) fn reading(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated { what },
            _ if is_over_limit(&source) => {
                Self::TooLong { what, len: MAX_MESSAGE + 1, max: MAX_MESSAGE }
            }
            _ => Self::Io { doing: "read", what, source },
        }
    }

    /// For `map_err` of a write.
    pub(crate) fn writing(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: "write", what, source }
    }
}
