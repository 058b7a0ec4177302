use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::wire::{WireError, read_magic, read_u64, write_u64};

const CLIENT_MAGIC: u64 = 0x390c_9deb;
const SERVER_MAGIC: u64 = 0x5452_eecb;
const PROTOCOL: &str = "Nix's serve protocol";
const MAJOR: u64 = 2;

/// A version of the serve protocol: 2 and this minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServeVersion {
    minor: u8,
}

impl ServeVersion {
    /// Nix 2.1 to 2.3.
    pub const V2_5: Self = Self { minor: 5 };
    /// Realisations in build results.
    pub const V2_6: Self = Self { minor: 6 };
    /// Keeping failed builds.
    pub const V2_7: Self = Self { minor: 7 };

    /// The oldest version this crate speaks.
    pub const MIN: Self = Self::V2_5;
    /// The newest version this crate speaks.
    pub const MAX: Self = Self::V2_7;

    /// Takes major times 256 and minor, the form on the wire. It may be newer than
    /// [`ServeVersion::MAX`]; the smaller of both ends' versions counts.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`], if it is older than [`ServeVersion::MIN`] or of another
    /// major version.
    pub fn from_wire(found: u64) -> Result<Self, WireError> {
        match (found >> 8, (found & 0xff) as u8) {
            (MAJOR, minor) if minor >= Self::MIN.minor => Ok(Self { minor }),
            _ => Err(WireError::UnsupportedVersion { what: PROTOCOL, found, oldest: "2.5" }),
        }
    }

    /// Major times 256 and minor.
    #[must_use]
    pub const fn to_wire(self) -> u64 {
        MAJOR << 8 | self.minor as u64
    }

    pub(super) fn has_realisations(self) -> bool {
        self >= Self::V2_6
    }

    pub(super) fn has_keep_failed(self) -> bool {
        self >= Self::V2_7
    }
}

impl fmt::Display for ServeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAJOR}.{}", self.minor)
    }
}

/// The server's end of the handshake, offering [`ServeVersion::MAX`]. Returns the version agreed on.
///
/// # Errors
/// [`WireError`]: [`WireError::BadMagic`] if the client speaks something else, and
/// [`WireError::UnsupportedVersion`] if it is too old. The protocol has no way to tell it.
pub async fn accept<R, W>(r: &mut R, w: &mut W) -> Result<ServeVersion, WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    read_magic(r, PROTOCOL, CLIENT_MAGIC).await?;
    greet(w, SERVER_MAGIC).await?;
    let clients = ServeVersion::from_wire(read_u64(r, "the client's version").await?)?;
    Ok(clients.min(ServeVersion::MAX))
}

/// The client's end of the handshake. Returns the version agreed on.
///
/// # Errors
/// [`WireError`], as [`accept`].
pub async fn handshake<R, W>(r: &mut R, w: &mut W) -> Result<ServeVersion, WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    greet(w, CLIENT_MAGIC).await?;
    read_magic(r, PROTOCOL, SERVER_MAGIC).await?;
    let servers = ServeVersion::from_wire(read_u64(r, "the server's version").await?)?;
    Ok(servers.min(ServeVersion::MAX))
}

async fn greet<W: AsyncWrite + Unpin>(w: &mut W, magic: u64) -> Result<(), WireError> {
    let what = "the handshake";
    let mut out = Vec::new();
    write_u64(&mut out, magic);
    write_u64(&mut out, ServeVersion::MAX.to_wire());
    w.write_all(&out).await.map_err(WireError::writing(what))?;
    w.flush().await.map_err(WireError::writing(what))
}
