//! What can go wrong with what this node trusts.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    certificate::BadCertificate, order::BadOrder, roster::BadRoster, token::NoRandomness,
    tokens::Refusal,
};

/// What can go wrong with keys, certificates, tokens and the roster.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of ours is not what it should be.
    #[error("{path} is damaged: {reason}; restore it from a backup, or move it away and enrol anew", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a fleet already.
    #[error("{path} is there already: this machine holds a fleet's key. `roost fleet show` tells which; to begin anew, move that file away, and seed every board again", path = .path.display())]
    FleetExists {
        /// The key's file.
        path: PathBuf,
    },
    /// There is none.
    #[error("this machine does not hold a fleet's key ({path}): `roost fleet init` makes one, and a copy of the fleet's own key is to be put there if there is one", path = .path.display())]
    NoFleet {
        /// Where the key would be.
        path: PathBuf,
    },
    /// A key could not be made or used.
    #[error("cannot {doing}: {source}")]
    Key {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: ssh_key::Error,
    },
    /// No random numbers.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A token lets nobody in.
    #[error(transparent)]
    Token(#[from] Refusal),
    /// A certificate is not to be used.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// A roster is not to be believed.
    #[error(transparent)]
    Roster(#[from] BadRoster),
    /// An order to update is not to be followed.
    #[error(transparent)]
    Order(#[from] BadOrder),
    /// Tokens are bounded.
    #[error(
        "there are {max} tokens already, the most there can be; `roost fleet list --tokens` shows them, and unused ones end by themselves"
    )]
    TooManyTokens {
        /// How many.
        max: usize,
    },
    /// Another node has this id.
    #[error(
        "the id {id} belongs to {name} of this fleet, with another key; look at {name} first: only if that is the machine that was set up anew, `roost fleet revoke {name}` makes room for it"
    )]
    IdTaken {
        /// The id.
        id: String,
        /// Whose it is.
        name: String,
    },
    /// Another node has this key.
    #[error(
        "its client key is that of {name} ({id}) of this fleet; each machine has to have its own: move \
         {folder} away on the one that was copied, and start its daemon again",
        folder = crate::names::SSH_DIR
    )]
    KeyTaken {
        /// Whose it is.
        id: String,
        /// What that one is called.
        name: String,
    },
    /// The machine that holds the fleet's key is to be sent away.
    #[error("{name} is this machine, which holds the fleet's key, and cannot send itself away")]
    Own {
        /// Its name.
        name: String,
    },
    /// This machine belongs to a fleet already.
    #[error("this machine belongs to the fleet {fleet} already; {instead}")]
    InFleet {
        /// Its key's fingerprint.
        fleet: String,
        /// What can be done.
        instead: String,
    },
    /// An invitation is for another machine.
    #[error(
        "the invitation is for {invited}, and this machine is {own}; `roost fleet join` here prints the \
         request to make one from"
    )]
    OtherMachine {
        /// The id it is for.
        invited: String,
        /// This machine's.
        own: String,
    },
    /// Whoever asks is revoked.
    #[error("{name} was revoked; it comes back with new keys and a new seed only")]
    Revoked {
        /// Who.
        name: String,
    },
    /// Nobody is called like that.
    #[error("no node of this fleet is called {0}; `roost fleet list` shows them")]
    Unknown(String),
    /// Several are.
    #[error("{count} nodes are called {called}; say which by its id: {ids}")]
    Ambiguous {
        /// Their name.
        called: String,
        /// How many.
        count: usize,
        /// Their ids.
        ids: String,
    },
    /// A token is to be dropped that is still needed.
    #[error("this node has no certificate yet, and keeps its token until it has")]
    NotCertified,
    /// The key is being replaced.
    #[error("{0}")]
    Rotation(String),
}

impl TrustError {
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(super) fn format<E: ToString>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self::Format { path, reason: error.to_string() }
    }

    pub(super) fn key(doing: &'static str) -> impl FnOnce(ssh_key::Error) -> Self {
        move |source| Self::Key { doing, source }
    }
}
