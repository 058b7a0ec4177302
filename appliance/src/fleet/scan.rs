//! Asks an SSH server for its host key, to hold it against the hash that was announced.

use std::{io, process::Stdio, time::Duration};

use ssh_key::PublicKey;
use tokio::{process::Command, time::timeout};

use crate::trust::{Fingerprint, fingerprint, fingerprint_of};

/// How long a host may take. ssh-keyscan's own limit is for each step.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no such key.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    /// OpenSSH's program cannot be run.
    #[error("cannot run ssh-keyscan: {0}; OpenSSH's client is needed")]
    Run(io::Error),
    /// Nobody answers, or not as an SSH server with such a key.
    #[error("{address} shows no Ed25519 host key")]
    Silent {
        /// Where.
        address: String,
    },
    /// It has another key.
    #[error("{address} has the host key {found} and not the announced one, {announced}")]
    Other {
        /// Where.
        address: String,
        /// What it has.
        found: String,
        /// What was announced.
        announced: String,
    },
}

/// The host key with this fingerprint, if the server has it. Whether it holds the private half is for
/// ssh to find out.
pub(super) async fn host_key(
    address: &str,
    port: u16,
    announced: &Fingerprint,
) -> Result<PublicKey, ScanError> {
    let scan = Command::new("ssh-keyscan")
        .args(["-t", "ed25519", "-T", "5", "-p", &port.to_string(), "--", address])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let silent = || ScanError::Silent { address: address.to_owned() };
    let output = timeout(TIMEOUT, scan).await.map_err(|_| silent())?.map_err(ScanError::Run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let keys = text.lines().filter_map(|line| {
        let (_, key) = line.split_once(' ')?;
        PublicKey::from_openssh(key).ok()
    });
    let keys: Vec<_> = keys.collect();
    if let Some(key) = keys.iter().find(|key| fingerprint(key) == *announced) {
        return Ok(key.clone());
    }
    let other = keys.first().ok_or_else(silent)?;
    Err(ScanError::Other {
        address: address.to_owned(),
        found: fingerprint_of(&fingerprint(other)),
        announced: fingerprint_of(announced),
    })
}
