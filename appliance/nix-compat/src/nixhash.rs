//! Hashes in the notations Nix uses.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use crate::nixbase32;

/// A hash algorithm of Nix's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgo {
    /// 16 bytes; obsolete.
    Md5,
    /// 20 bytes; obsolete.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
}

impl HashAlgo {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// Nix's name, such as `sha256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algo| algo.name() == name)
    }
}

/// A hash. Displays in Nix's form `sha256:<nixbase32>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NixHash {
    algo: HashAlgo,
    digest: Vec<u8>,
}

/// A text or digest that is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The algorithm is missing or not known.
    #[error("{0:?} names no hash algorithm of Nix's: md5, sha1, sha256 or sha512")]
    UnknownAlgorithm(String),
    /// The digest has the wrong length or alphabet.
    #[error("{text:?} is not a {} digest in base 16, nixbase32 or base 64", .algo.name())]
    BadDigest {
        /// What it should have been.
        algo: HashAlgo,
        /// The text.
        text: String,
    },
}

impl NixHash {
    /// Takes a digest.
    ///
    /// # Errors
    /// [`HashError::BadDigest`], if its length is not the algorithm's.
    pub fn new(algo: HashAlgo, digest: Vec<u8>) -> Result<Self, HashError> {
        if digest.len() == algo.digest_len() {
            Ok(Self { algo, digest })
        } else {
            Err(HashError::BadDigest { algo, text: HEXLOWER_PERMISSIVE.encode(&digest) })
        }
    }

    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self { algo: HashAlgo::Sha256, digest: Sha256::digest(bytes).to_vec() }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algo(&self) -> HashAlgo {
        self.algo
    }

    /// The digest; its length is the algorithm's.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Takes `<algo>:<digest>` or the SRI form `<algo>-<base 64>`.
    ///
    /// # Errors
    /// [`HashError`], if it is neither.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let (name, digest) = text
            .split_once([':', '-'])
            .ok_or_else(|| HashError::UnknownAlgorithm(shorten(text)))?;
        let algo =
            HashAlgo::from_name(name).ok_or_else(|| HashError::UnknownAlgorithm(shorten(name)))?;
        Self::parse_digest(algo, digest)
    }

    /// Takes what [`NixHash::parse`] does, or a bare digest if the algorithm is known anyway.
    ///
    /// # Errors
    /// [`HashError`], if it is neither, or of another algorithm.
    pub fn parse_any(algo: HashAlgo, text: &str) -> Result<Self, HashError> {
        if !text.contains([':', '-']) {
            return Self::parse_digest(algo, text);
        }
        let hash = Self::parse(text)?;
        if hash.algo == algo {
            Ok(hash)
        } else {
            Err(HashError::BadDigest { algo, text: shorten(text) })
        }
    }

    /// The length tells the notation, as it does in Nix.
    fn parse_digest(algo: HashAlgo, text: &str) -> Result<Self, HashError> {
        let len = algo.digest_len();
        let digest = if text.len() == len * 2 {
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
        } else if text.len() == nixbase32::encoded_len(len) {
            nixbase32::decode(text).ok()
        } else {
            BASE64.decode(text.as_bytes()).ok()
        };
        digest
            .filter(|digest| digest.len() == len)
            .map(|digest| Self { algo, digest })
            .ok_or_else(|| HashError::BadDigest { algo, text: shorten(text) })
    }

    /// The digest in lower case base 16, without the algorithm: what the worker protocol carries.
    #[must_use]
    pub fn to_base16(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.digest)
    }

    /// `<algo>:<nixbase32>`: what the serve protocol and Nix's database carry.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        format!("{}:{}", self.algo.name(), nixbase32::encode(&self.digest))
    }

    /// The SRI form `<algo>-<base 64>`.
    #[must_use]
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algo.name(), BASE64.encode(&self.digest))
    }
}

impl fmt::Display for NixHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_nix32())
    }
}

/// What an error message shows of a text that may be anything.
fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}
