//! What is seen of a board, and what all boards of a fleet need.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::{
    discover::{Board as Found, BoardKey},
    enrol::Stage,
    trust::{Fingerprint, TokenId, Trust},
};

/// Where and as what a board was seen. A hint until it has proved what it must.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sight {
    /// Whom it announces to be.
    pub(super) key: BoardKey,
    /// Addresses, best first.
    pub(super) addresses: Vec<std::net::SocketAddr>,
    /// What it must prove.
    pub(super) stage: Stage,
    /// The token that lets it in.
    pub(super) token: Option<TokenId>,
}

impl Sight {
    /// What was found.
    pub(super) fn of(key: &BoardKey, found: &Found, stage: Stage, token: Option<TokenId>) -> Self {
        Self { key: key.clone(), addresses: found.addresses.clone(), stage, token }
    }

    /// The host key it announces.
    pub(super) fn host_key(&self) -> Fingerprint {
        self.key.host_key.0
    }
}

/// A board that was never part of the fleet, and has not proved that it is.
pub(super) struct Claimed {
    /// Whom it announced to be.
    pub(super) key: BoardKey,
    /// Why not.
    pub(super) why: String,
}

/// What all boards of a fleet need.
pub(super) struct Context {
    /// Where ssh configurations are written.
    pub(super) ssh_dir: PathBuf,
    /// Where masters have their sockets.
    pub(super) control_dir: PathBuf,
    /// Who may be used, and what this node has to show.
    pub(super) trust: Trust,
    /// The time, in seconds since 1970.
    pub(super) now_s: fn() -> u64,
    /// What boards show as the client.
    pub(super) client: String,
    /// Told whenever a board has changed.
    pub(super) changed: watch::Sender<()>,
}

/// What is known of where a board is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sighted {
    /// It is not seen.
    Nowhere,
    /// It is announced, and may be used if it proves what it must.
    There(Sight),
    /// It was revoked: it is no part of the fleet any more.
    Dismissed,
}

impl Sighted {
    pub(super) fn sight(&self) -> Option<&Sight> {
        match self {
            Self::There(sight) => Some(sight),
            Self::Nowhere | Self::Dismissed => None,
        }
    }
}

/// An address as ssh takes it: with its scope where it needs one.
pub(super) fn address_text(address: std::net::SocketAddr) -> String {
    match address {
        std::net::SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            format!("{}%{}", v6.ip(), v6.scope_id())
        }
        other => other.ip().to_string(),
    }
}
