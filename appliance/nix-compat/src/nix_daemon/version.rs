use std::fmt;

use crate::wire::WireError;

const MAJOR: u64 = 1;

/// A version of the worker protocol: 1 and this minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    minor: u8,
}

impl ProtocolVersion {
    /// Nix 2.15 to 2.19, and Lix.
    pub const V1_35: Self = Self { minor: 35 };
    /// Nix 2.20 to 2.23.
    pub const V1_37: Self = Self { minor: 37 };
    /// Since Nix 2.24.
    pub const V1_38: Self = Self { minor: 38 };

    /// The oldest version this crate speaks.
    pub const MIN: Self = Self::V1_35;
    /// The newest version this crate speaks.
    pub const MAX: Self = Self::V1_38;

    /// The version `1.minor`.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`], if it is older than [`ProtocolVersion::MIN`].
    pub fn new(minor: u8) -> Result<Self, WireError> {
        Self::from_wire(MAJOR << 8 | u64::from(minor))
    }

    /// Takes major times 256 and minor, the form on the wire. It may be newer than
    /// [`ProtocolVersion::MAX`]; the smaller of both ends' versions counts.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`], if it is older than [`ProtocolVersion::MIN`] or of another
    /// major version.
    pub fn from_wire(found: u64) -> Result<Self, WireError> {
        match (found >> 8, (found & 0xff) as u8) {
            (MAJOR, minor) if minor >= Self::MIN.minor => Ok(Self { minor }),
            _ => Err(WireError::UnsupportedVersion {
                what: "the worker protocol",
                found,
                oldest: "1.35",
            }),
        }
    }

    /// Major times 256 and minor.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        MAJOR << 8 | self.minor as u64
    }

    /// The minor version.
    #[must_use]
    pub const fn minor(self) -> u8 {
        self.minor
    }

    /// Whether a build's result tells the CPU time it took.
    pub(super) fn has_cpu_times(self) -> bool {
        self >= Self::V1_37
    }

    /// Whether the handshake exchanges features.
    pub(super) fn has_features(self) -> bool {
        self >= Self::V1_38
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAJOR}.{}", self.minor)
    }
}
