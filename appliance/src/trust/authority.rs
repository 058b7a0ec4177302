//! The fleet's own key: an SSH certificate authority.

use std::{fs, path::Path};

use board_support::FleetTag;
use data_encoding::BASE64URL_NOPAD;
use ssh_key::{
    Algorithm, Certificate, HashAlg, LineEnding, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    rand_core::{OsRng, RngCore},
};

use super::{
    TrustError,
    certificate::{LIFETIME_S, Purpose},
    fingerprint,
    order::{Order, SignedOrder},
    private_folder,
    roster::{Roster, SignedRoster},
};
use crate::{durable::write_atomically, names};

/// Bytes of the fingerprint that boards announce.
const TAG_BYTES: usize = 12;

/// The private key, in the memory of the machine that holds it.
#[derive(Debug)]
pub struct Authority(PrivateKey);

impl Authority {
    /// Makes a fleet's key at `path`, for its owner only.
    ///
    /// # Errors
    /// [`TrustError::FleetExists`]: a key is never overwritten; or another [`TrustError`].
    pub fn init(path: &Path) -> Result<Self, TrustError> {
        if path.exists() {
            return Err(TrustError::FleetExists { path: path.to_owned() });
        }
        private_folder(path.parent().unwrap_or(Path::new("/")))?;
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)
            .map_err(TrustError::key("make an Ed25519 key"))?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        key.set_comment(format!("roost fleet, made on {host}"));
        let text = key.to_openssh(LineEnding::LF).map_err(TrustError::key("encode a key"))?;
        write_atomically(path, text.as_bytes(), 0o600).map_err(TrustError::file("write", path))?;
        Ok(Self(key))
    }

    /// Reads the key, if this machine holds it.
    ///
    /// # Errors
    /// [`TrustError`]: it is there and cannot be used.
    pub fn load(path: &Path) -> Result<Option<Self>, TrustError> {
        match fs::read(path).map(zeroize::Zeroizing::new) {
            Ok(bytes) => {
                let key = PrivateKey::from_openssh(bytes.as_slice());
                Ok(Some(Self(key.map_err(TrustError::format(path))?)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TrustError::file("read", path)(error)),
        }
    }

    /// The public half, without a comment.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from(self.0.public_key().key_data().clone())
    }

    /// A certificate for a board's host key, with the board's id as its only principal.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn certify_host(
        &self,
        key: &PublicKey,
        id: &str,
        now_s: u64,
    ) -> Result<String, TrustError> {
        self.certify(Purpose::Host, key, id, id, now_s)
    }

    /// A certificate for a node's client key, which lets it log in to boards as roost's user.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn certify_user(
        &self,
        key: &PublicKey,
        id: &str,
        now_s: u64,
    ) -> Result<String, TrustError> {
        self.certify(Purpose::User, key, id, names::USER, now_s)
    }

    fn certify(
        &self,
        purpose: Purpose,
        key: &PublicKey,
        key_id: &str,
        principal: &str,
        now_s: u64,
    ) -> Result<String, TrustError> {
        let kind = match purpose {
            Purpose::Host => CertType::Host,
            Purpose::User => CertType::User,
        };
        let make = || -> Result<Certificate, ssh_key::Error> {
            // No beginning: boards without a clock boot in the past.
            let until_s = now_s.saturating_add(LIFETIME_S);
            let key = key.key_data().clone();
            let mut builder = Builder::new_with_random_nonce(&mut OsRng, key, 0, until_s)?;
            builder.serial(OsRng.next_u64())?.cert_type(kind)?;
            builder.key_id(key_id)?.valid_principal(principal)?;
            builder.sign(&self.0)
        };
        let certificate = make().map_err(TrustError::key("sign a certificate"))?;
        certificate.to_openssh().map_err(TrustError::key("encode a certificate"))
    }

    /// Signs what the fleet is.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn sign(&self, roster: &Roster) -> Result<SignedRoster, TrustError> {
        SignedRoster::new(roster, &[&self.0])
    }

    /// As [`Authority::sign`], by an earlier key of the fleet, too.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn sign_with(&self, other: &Self, roster: &Roster) -> Result<SignedRoster, TrustError> {
        SignedRoster::new(roster, &[&self.0, &other.0])
    }

    /// Signs an order, by an earlier key of the fleet, too, if there is one.
    ///
    /// # Errors
    /// [`TrustError::Key`].
    pub fn sign_order(
        &self,
        other: Option<&Self>,
        order: &Order,
    ) -> Result<SignedOrder, TrustError> {
        let keys: Vec<_> = [Some(self), other].into_iter().flatten().map(|it| &it.0).collect();
        SignedOrder::new(order, &keys)
    }
}

/// The first characters of a fleet key's fingerprint, as boards announce it.
#[must_use]
pub fn fleet_tag(authority: &PublicKey) -> Option<FleetTag> {
    FleetTag::new(&BASE64URL_NOPAD.encode(&fingerprint(authority)[..TAG_BYTES])).ok()
}

/// A key's fingerprint as people compare it: `SHA256:…`.
#[must_use]
pub fn fingerprint_text(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
