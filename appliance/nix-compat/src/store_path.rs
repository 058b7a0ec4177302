//! Store paths: `/nix/store/<32 characters of nixbase32>-<name>`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::nixbase32;

/// The only store directory this crate knows.
pub const STORE_DIR: &str = "/nix/store";

/// Longest name of a store path, in bytes.
pub const MAX_NAME_LEN: usize = 211;

/// Longest store path, in bytes.
pub const MAX_LEN: usize = NAME_START + MAX_NAME_LEN;

const HASH_LEN: usize = 32;
const HASH_START: usize = STORE_DIR.len() + 1;
const NAME_START: usize = HASH_START + HASH_LEN + 1;

/// A path directly in `/nix/store`. Displays, sorts and serialises as the absolute path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePath(String);

/// Why a text is no store path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// Not directly in the store directory.
    #[error("{0:?} is not a store path: it does not start with {STORE_DIR}/")]
    NotInStore(String),
    /// The hash part is wrong.
    #[error(
        "{0:?} is not a store path: {STORE_DIR}/ is to be followed by 32 nixbase32 characters and a dash"
    )]
    BadHashPart(String),
    /// The name is wrong.
    #[error(
        "{0:?} is not a store path: its name is to be 1 to {MAX_NAME_LEN} letters, digits or any of + - . _ ? =, and its first part not . or .."
    )]
    BadName(String),
}

impl StorePath {
    /// Takes an absolute path.
    ///
    /// # Errors
    /// [`StorePathError`], if it is not exactly a store path (a path inside one is none).
    pub fn parse(path: &str) -> Result<Self, StorePathError> {
        check(path).map_err(|error| error(shorten(path)))?;
        Ok(Self(path.to_owned()))
    }

    /// Takes a path without its directory, such as `…-hello-2.12`.
    ///
    /// # Errors
    /// [`StorePathError`], as [`StorePath::parse`].
    pub fn from_base_name(base_name: &str) -> Result<Self, StorePathError> {
        Self::parse(&format!("{STORE_DIR}/{base_name}"))
    }

    /// The absolute path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the hash part, such as `hello-2.12`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[NAME_START..]
    }

    /// The 32 characters of nixbase32.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.0[HASH_START..HASH_START + HASH_LEN]
    }

    /// The path without its directory.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.0[HASH_START..]
    }

    /// Whether the name says that this is a derivation.
    #[must_use]
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
    }
}

fn check(path: &str) -> Result<(), fn(String) -> StorePathError> {
    let base = path
        .strip_prefix(STORE_DIR)
        .and_then(|rest| rest.strip_prefix('/'))
        .ok_or(StorePathError::NotInStore as fn(_) -> _)?
        .as_bytes();
    let (hash, rest) =
        base.split_at_checked(HASH_LEN).ok_or(StorePathError::BadHashPart as fn(_) -> _)?;
    if !hash.iter().copied().all(nixbase32::is_digit) || rest.first() != Some(&b'-') {
        return Err(StorePathError::BadHashPart);
    }
    if is_valid_name(&rest[1..]) { Ok(()) } else { Err(StorePathError::BadName) }
}

fn is_valid_name(name: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(c);
    let first_part = name.split(|c| *c == b'-').next().unwrap_or_default();
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name.iter().all(allowed)
        && first_part != b"."
        && first_part != b".."
}

/// What an error message shows of a text that may be anything.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_LEN).collect()
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Self::parse(path)
    }
}

impl TryFrom<String> for StorePath {
    type Error = StorePathError;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        check(&path).map_err(|error| error(shorten(&path)))?;
        Ok(Self(path))
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> Self {
        path.0
    }
}
