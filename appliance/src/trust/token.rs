//! One-time tokens: what a board and the workstation that made its seed know, and nobody else.
//!
//! The token itself is on the board only. The workstation keeps the key that is derived from it, by
//! which it checks proofs.

use std::fmt;

use board_support::Proof;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use ssh_key::rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

use super::Fingerprint;

const TOKEN_BYTES: usize = 32;
const ID_BYTES: usize = 6;
const MAC_BYTES: usize = 32;

/// What each derived value is for; a change makes tokens that are on their way worthless.
const FOR_ID: &[u8] = b"roost token id 1";
const FOR_KEY: &[u8] = b"roost token key 1";
const FOR_PROOF: &[u8] = b"roost proof 1\0";

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random numbers ({0}); try again later")]
pub struct NoRandomness(ssh_key::rand_core::Error);

/// 256 random bits. Wiped from memory when dropped, and shown by nothing but [`Token::to_text`].
pub struct Token(Zeroizing<[u8; TOKEN_BYTES]>);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        OsRng.try_fill_bytes(bytes.as_mut()).map_err(NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads 43 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// As 43 characters of base64url, for a seed.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.0.as_ref()))
    }

    /// What proofs are made and checked with.
    #[must_use]
    pub fn key(&self) -> TokenKey {
        let derive = |purpose: &[u8]| Zeroizing::new(mac(self.0.as_ref(), &[purpose]));
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derive(FOR_ID)[..ID_BYTES]);
        TokenKey { id: TokenId(id), key: derive(FOR_KEY) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Which token: derived from it, and public.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; ID_BYTES]);

impl TokenId {
    /// Reads 12 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The token that a proof says it was made with.
    #[must_use]
    pub fn of(proof: &Proof) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(proof.as_str().as_bytes()).ok()?;
        if bytes.len() != ID_BYTES + MAC_BYTES {
            return None;
        }
        bytes[..ID_BYTES].try_into().ok().map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

/// What a workstation keeps of a token: good for proofs, and not to be turned back into the token.
#[derive(Clone)]
pub struct TokenKey {
    id: TokenId,
    key: Zeroizing<[u8; MAC_BYTES]>,
}

impl TokenKey {
    /// Of this token.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// From what [`TokenKey::to_text`] gave.
    #[must_use]
    pub fn parse(id: TokenId, text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
        Some(Self { id, key: Zeroizing::new(bytes.as_slice().try_into().ok()?) })
    }

    /// The secret, for a file that only root can read.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.key.as_ref()))
    }

    /// What a board announces: that whoever holds `host_key` and calls itself `id` knows the token.
    #[must_use]
    pub fn proof(&self, id: &str, host_key: &Fingerprint) -> Option<Proof> {
        let mac = mac(self.key.as_ref(), &[FOR_PROOF, host_key, id.as_bytes()]);
        Proof::new(&BASE64URL_NOPAD.encode(&[&self.id.0[..], &mac].concat())).ok()
    }

    /// Whether a proof is good for this id and host key. Takes the same time for every wrong one.
    #[must_use]
    pub fn verify(&self, id: &str, host_key: &Fingerprint, proof: &Proof) -> bool {
        let Ok(bytes) = BASE64URL_NOPAD.decode(proof.as_str().as_bytes()) else { return false };
        let Some((given, mac)) = bytes.split_at_checked(ID_BYTES) else { return false };
        given == self.id.0
            && keyed(self.key.as_ref(), &[FOR_PROOF, host_key, id.as_bytes()])
                .verify_slice(mac)
                .is_ok()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, ..)", self.id)
    }
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes keys of every length (RFC 2104, section 3).
    #[expect(clippy::expect_used, reason = "no length of a key is an error")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    keyed(key, parts).finalize().into_bytes().into()
}
