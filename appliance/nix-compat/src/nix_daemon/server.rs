//! The server's end of a session: the handshake.
//!
//! Whoever passes a session on to a nix-daemon takes it in steps, because some clients (Nix up to
//! 2.22, Lix) wait for the server's version before they tell theirs: [`read_client_magic`]; then ask
//! the nix-daemon for its version and [`negotiate`] with that; if the client's is smaller, connect to
//! the nix-daemon again with it as the maximum; and [`welcome`] the client. [`accept`] is all of it
//! for a server in its own right.

use std::collections::BTreeSet;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    NixError, ProtocolVersion, ServerHello, StderrMessage,
    handshake::{CLIENT_MAGIC, PROTOCOL, SERVER_MAGIC, write_trust},
};
use crate::wire::{
    WireError, read_magic, read_string_set, read_u64, write_bytes, write_string_list, write_u64,
};

/// What both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The smaller of both ends' versions.
    pub version: ProtocolVersion,
    /// The features that both ends have.
    pub features: BTreeSet<String>,
}

/// The handshake of a server that offers `hello.version` and `features`.
///
/// # Errors
/// [`WireError`]: [`WireError::BadMagic`] if the client speaks something else, and
/// [`WireError::UnsupportedVersion`] if it is too old; it has been told so then.
pub async fn accept<R, W>(
    r: &mut R,
    w: &mut W,
    hello: &ServerHello,
    features: &[&str],
) -> Result<Agreement, WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    read_client_magic(r).await?;
    let agreement = negotiate(r, w, hello.version, features).await?;
    welcome(r, w, &hello.nix_version, hello.trusted).await?;
    Ok(agreement)
}

/// The first step: the client says which protocol it speaks.
///
/// # Errors
/// [`WireError`]; [`WireError::BadMagic`] if it is another one.
pub async fn read_client_magic<R: AsyncRead + Unpin>(r: &mut R) -> Result<(), WireError> {
    read_magic(r, PROTOCOL, CLIENT_MAGIC).await
}

/// The second step: offers a version, and features if the version has them. Features change the
/// encoding of some operations; offer only those that whatever handles the session understands.
///
/// # Errors
/// [`WireError`]; [`WireError::UnsupportedVersion`] if the client is too old; it has been told so
/// then.
pub async fn negotiate<R, W>(
    r: &mut R,
    w: &mut W,
    offer: ProtocolVersion,
    features: &[&str],
) -> Result<Agreement, WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut out = Vec::new();
    write_u64(&mut out, SERVER_MAGIC);
    write_u64(&mut out, offer.to_wire());
    send(w, &out).await?;
    let clients = read_u64(r, "the client's version").await?;
    let version = match ProtocolVersion::from_wire(clients) {
        Ok(version) => version.min(offer),
        Err(error) => {
            send(w, &refusal(clients, &error)).await?;
            return Err(error);
        }
    };
    if !version.has_features() {
        return Ok(Agreement { version, features: BTreeSet::new() });
    }
    let mut common = read_string_set(r, "the client's features").await?;
    common.retain(|feature| features.contains(&feature.as_str()));
    let mut out = Vec::new();
    write_string_list(&mut out, features);
    send(w, &out).await?;
    Ok(Agreement { version, features: common })
}

/// The last step: tells the client the version of Nix, and whether it is trusted.
///
/// # Errors
/// [`WireError`].
pub async fn welcome<R, W>(
    r: &mut R,
    w: &mut W,
    nix_version: &str,
    trusted: Option<bool>,
) -> Result<(), WireError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Obsolete: whether a CPU affinity follows, and how much to reserve. Nix 2.23 sends its version
    // again where the former is expected, and gets by because a number follows that.
    if read_u64(r, "an obsolete greeting").await? != 0 {
        read_u64(r, "an obsolete greeting").await?;
    }
    read_u64(r, "an obsolete greeting").await?;
    let mut out = Vec::new();
    write_bytes(&mut out, nix_version);
    write_trust(&mut out, trusted);
    StderrMessage::Last.write(&mut out);
    send(w, &out).await
}

/// An error as a client of that version understands it.
fn refusal(version: u64, error: &WireError) -> Vec<u8> {
    const HAS_NIX_VERSION: u64 = 0x121;
    const HAS_STRUCTURED_ERRORS: u64 = 0x11a;
    let mut out = Vec::new();
    if version >= HAS_NIX_VERSION {
        write_bytes(&mut out, "");
    }
    let message = error.to_string();
    if version >= HAS_STRUCTURED_ERRORS {
        StderrMessage::Error(NixError::new(message)).write(&mut out);
    } else {
        StderrMessage::write_old_error(&mut out, &message);
    }
    out
}

async fn send<W: AsyncWrite + Unpin>(w: &mut W, bytes: &[u8]) -> Result<(), WireError> {
    let what = "the handshake";
    w.write_all(bytes).await.map_err(WireError::writing(what))?;
    w.flush().await.map_err(WireError::writing(what))
}
