//! The handshake with a client.

use std::time::Duration;

use nix_compat::{
    nix_daemon::{
        ProtocolVersion, ServerHello,
        server::{negotiate, read_client_magic, welcome},
    },
    wire::WireError,
};
use tokio::{io::BufReader, time::timeout};

use super::{Lifetime, Relay};
use crate::{
    model::Client,
    wire::{
        local_nix::{BUFFER_BYTES, Daemon, LocalNix, OPEN_TIMEOUT},
        session::SessionError,
        stream::{Incoming, Outgoing},
    },
};

/// How long the client may take, besides what connecting to nix-daemon takes.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

impl<'a, B> Relay<'a, B> {
    /// Lets a client in with what the local nix-daemon says of itself: its version of Nix, the
    /// smaller of both versions of the protocol, and whether it trusts us.
    ///
    /// If nix-daemon cannot be reached, the client is let in all the same: the protocol has room for
    /// the reason in the answer to its first request.
    ///
    /// # Errors
    /// [`SessionError::Client`], if it speaks another protocol, is too old, or silent.
    pub(in crate::wire) async fn open(
        input: Incoming,
        mut output: Outgoing,
        nix: &'a LocalNix,
        builds: &'a B,
        client: Client,
        lifetime: Lifetime,
    ) -> Result<Self, SessionError> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let (version, daemon) =
            timeout(CLIENT_TIMEOUT + OPEN_TIMEOUT * 2, shake_hands(&mut input, &mut output, nix))
                .await
                .unwrap_or_else(|_| Err(SessionError::timed_out("the handshake")))
                .map_err(SessionError::Client)?;
        Ok(Self {
            input,
            output,
            version,
            client,
            builds,
            nix,
            daemon,
            idle_until: None,
            lifetime,
            job_ended: false,
        })
    }
}

async fn shake_hands(
    input: &mut BufReader<Incoming>,
    output: &mut Outgoing,
    nix: &LocalNix,
) -> Result<(ProtocolVersion, Option<Daemon>), WireError> {
    read_client_magic(input).await?;
    let mut daemon = nix.open(ProtocolVersion::MAX).await;
    let hello = match &daemon {
        Ok(daemon) => daemon.hello.clone(),
        Err(error) => {
            tracing::warn!("{error}");
            let nix_version = "unknown".to_owned();
            ServerHello { version: ProtocolVersion::MAX, nix_version, trusted: None }
        }
    };
    let version = negotiate(input, output, hello.version, &[]).await?.version;
    if version < hello.version {
        daemon = nix.open(version).await;
    }
    welcome(input, output, &hello.nix_version, hello.trusted).await?;
    Ok((version, daemon.ok()))
}
