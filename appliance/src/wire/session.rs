//! The session of a client that speaks one of Nix's protocols to this node.

use std::io;

use nix_compat::{
    nix_daemon::{NixError, client::ClientError},
    wire::WireError,
};

use super::{
    command::Command,
    door::{Request, Visit},
    local_nix::{LocalNix, LocalNixError},
    relay::{Lifetime, Relay},
    serve::Serve,
};
use crate::model::{Builds, Client};

/// Why a session ended before its client hung up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The client said something wrong, or is gone.
    #[error("cannot serve this client: {0}")]
    Client(WireError),
    /// There is no nix-daemon to serve it with.
    #[error(transparent)]
    LocalNix(#[from] LocalNixError),
    /// It refused, and the client's protocol has no room for that.
    #[error(transparent)]
    Refused(NixError),
    /// The connection to nix-daemon broke.
    #[error(
        "lost the connection to nix-daemon: {0}; ask again, and if it stays like that, see \
         `journalctl -u nix-daemon` on that machine"
    )]
    DaemonLost(WireError),
}

impl SessionError {
    /// The client is gone.
    pub(super) const fn client_gone() -> Self {
        Self::Client(WireError::HungUp)
    }

    /// Reading from the client failed.
    pub(super) const fn reading(source: io::Error) -> Self {
        Self::Client(WireError::Io { doing: "read", what: "a request", source })
    }

    /// Writing to the client failed.
    pub(super) const fn writing(source: io::Error) -> Self {
        Self::Client(WireError::Io { doing: "write", what: "a reply", source })
    }

    /// The peer took too long over `what`.
    pub(super) fn timed_out(what: &'static str) -> WireError {
        WireError::Io { doing: "read", what, source: io::ErrorKind::TimedOut.into() }
    }

    /// Reading from nix-daemon failed.
    pub(super) const fn reading_reply(source: io::Error) -> Self {
        Self::DaemonLost(WireError::Io { doing: "read", what: "a reply", source })
    }

    /// Copying from nix-daemon to the client failed.
    pub(super) fn copying(error: WireError) -> Self {
        match error {
            WireError::Io { doing: "write", .. } => Self::Client(error),
            _ => Self::DaemonLost(error),
        }
    }

    /// A request of ours to nix-daemon failed.
    pub(super) fn asking(error: ClientError) -> Self {
        match error {
            ClientError::Wire(error) => Self::copying(error),
            ClientError::Nix(error) => Self::Refused(error),
            ClientError::Source(error) => Self::Client(error),
            ClientError::Busy => Self::DaemonLost(WireError::HungUp),
        }
    }

    /// Whether the client hung up, which is how sessions end.
    pub(super) fn is_hang_up(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_disconnect())
    }
}

/// Serves a visit that came through sshd and speaks one of Nix's protocols, to its end. Requests
/// that build go to `builds`, the others to `nix`. Other visits are turned away.
///
/// When this is dropped, the client is let go; the jobs it asked for go on.
pub async fn attend<B: Builds>(visit: Visit, nix: &LocalNix, builds: &B) {
    let Visit { request, input, output, mut lifeline, mut notes, .. } = visit;
    let session = async {
        let Request::Serve { command, peer, .. } = request else { return Ok(false) };
        let client = Client { label: format!("ssh from {peer}") };
        let lifetime = match command {
            Command::Worker => Lifetime::Session,
            Command::PeerWorker => Lifetime::Job,
            Command::Serve { write } => {
                let serve = Serve::open(input, output, &mut notes, nix, builds, client, write);
                return serve.await?.run().await.map(|()| true);
            }
            Command::PeerControl | Command::PeerTrust => return Ok(false),
        };
        let relay = Relay::open(input, output, nix, builds, client, lifetime).await?;
        relay.run().await.map(|()| true)
    };
    let ended = tokio::select! {
        ended = session => ended,
        () = lifeline.gone() => return,
    };
    let complaint = match ended {
        Ok(true) => return notes.end(0).await,
        Err(error) if error.is_hang_up() => return notes.end(0).await,
        Ok(false) => "this is not served here".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::info!("ended a session: {complaint}");
    notes.text(format!("roost: {complaint}\n")).await;
    notes.end(1).await;
}
