//! Whom this node believes, and what it has to show.
//!
//! A fleet is those who trust one SSH certificate authority, the fleet's key. The machine that holds it
//! ([`Registrar`]) gives each node certificates; every node keeps them, and what it knows of the fleet,
//! in its [`Membership`]. A board that is new shows with a one-time [`Token`] that it was given a
//! [`Seed`] by that machine. The [`Roster`] says who belongs to the fleet and who no longer does. An [`Order`] has a board run another
//! system.
//!
//! What a board announces is a hint; [`Verdict`] says what it has to prove. [`SshFiles`] ties all that
//! into an `ssh_config` for each board, so that `ssh` accepts what was meant and nothing else.
//!
//! Private keys are made here, never leave their folder and are never logged.

mod authority;
mod certificate;
mod client_key;
mod error;
mod invitation;
mod judge;
mod membership;
mod order;
mod registrar;
mod roster;
mod secret;
mod seed;
mod shared;
mod signature;
mod ssh_files;
mod token;
mod tokens;
mod watch;

#[cfg(test)]
mod tests;

pub use authority::{Authority, fingerprint_text, fleet_tag};
pub use certificate::{BadCertificate, Checked, LIFETIME_S, Purpose};
pub use client_key::{KeyError, client_key, public_key_of};
pub use error::TrustError;
pub use invitation::{BadInvitation, BadRequest, Invitation, JoinRequest};
pub use judge::{Verdict, judge};
pub use membership::{Enrolment, Membership, Own};
pub use order::{BadOrder, Order, SignedOrder};
pub use registrar::{Certificates, Registrar};
pub use roster::{
    BadRoster, MAX_BYTES as ROSTER_MAX_BYTES, Member, Revoked, Role, Roster, SignedRoster,
};
pub use secret::Secret;
pub use seed::{BadSeed, MAX_BYTES as SEED_MAX_BYTES, Seed, Wifi};
pub use shared::{Places, Trust, Trusted};
pub use ssh_files::{BoardFiles, Expected, SshFiles, SshFilesError};
pub use ssh_key::PublicKey;
pub use token::{NoRandomness, Token, TokenId, TokenKey};
pub use tokens::{Holder, Refusal, TokenView, Tokens};
pub use watch::FileWatch;

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path};

use ssh_key::HashAlg;

/// SHA-256 of a host key in SSH's wire encoding, as announced and as `ssh-keygen -l` shows it.
pub type Fingerprint = [u8; 32];

/// A key's fingerprint.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> Fingerprint {
    // The hash that is asked for is the one that comes.
    key.fingerprint(HashAlg::Sha256).sha256().unwrap_or_default()
}

/// A fingerprint as people compare it: `SHA256:…`.
#[must_use]
pub fn fingerprint_of(fingerprint: &Fingerprint) -> String {
    ssh_key::Fingerprint::Sha256(*fingerprint).to_string()
}

/// The fingerprint, as `SHA256:…`, of the key in a line of what sshd tells of a login
/// (`publickey ssh-ed25519-cert-v01@openssh.com AAAA…`); of a certificate, it is that of its key.
#[must_use]
pub fn login_key(line: &str) -> Option<String> {
    let key = line.strip_prefix("publickey ")?;
    let key = match ssh_key::Certificate::from_openssh(key) {
        Ok(certificate) => PublicKey::from(certificate.public_key().clone()),
        Err(_) => PublicKey::from_openssh(key).ok()?,
    };
    Some(fingerprint_text(&key))
}

/// A fingerprint from what [`fingerprint_of`] gives.
#[must_use]
pub fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    text.parse::<ssh_key::Fingerprint>().ok()?.sha256()
}

/// A key as in a known-hosts file, without a comment.
#[must_use]
pub fn key_text(key: &PublicKey) -> Option<String> {
    PublicKey::from(key.key_data().clone()).to_openssh().ok()
}

/// Makes a folder for its owner only, unless it is there.
fn private_folder(path: &Path) -> Result<(), TrustError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(TrustError::file("create", path))
}
