use tokio::io::AsyncRead;

use super::ProtocolVersion;
use crate::wire::{WireError, read_u64, write_u64};

/// What a client sends first.
pub(super) const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// What a server sends first.
pub(super) const SERVER_MAGIC: u64 = 0x6478_696f;
/// The protocol, for messages.
pub(super) const PROTOCOL: &str = "Nix's worker protocol";

/// What a server tells of itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version of the protocol: what a server offers, and what a client gets, the smaller of
    /// both ends'.
    pub version: ProtocolVersion,
    /// The version of Nix.
    pub nix_version: String,
    /// Whether the server trusts the client, if it says.
    pub trusted: Option<bool>,
}

pub(super) async fn read_trust<R: AsyncRead + Unpin>(r: &mut R) -> Result<Option<bool>, WireError> {
    match read_u64(r, "whether the server trusts us").await? {
        0 => Ok(None),
        1 => Ok(Some(true)),
        2 => Ok(Some(false)),
        tag => Err(WireError::UnknownTag { what: "whether the server trusts us", tag }),
    }
}

pub(super) fn write_trust(out: &mut Vec<u8>, trusted: Option<bool>) {
    let tag = match trusted {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    };
    write_u64(out, tag);
}
