//! The seed: what a board is given on its image to join a fleet, as a small TOML file.
//!
//! ```toml
//! version = 1
//! authority = "ssh-ed25519 AAAA…"
//! token = "…"
//! made_s = 1790000000
//! hostname = "rock5"
//!
//! [wifi]
//! ssid = "workshop"
//! passphrase = "…"
//! ```

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;
use zeroize::Zeroizing;

use super::{Secret, Token};

const VERSION: u32 = 1;
/// The longest seed that is read.
pub const MAX_BYTES: usize = 64 << 10;

/// A seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The version of this format.
    pub(super) version: u32,
    /// The fleet's key.
    pub authority: PublicKey,
    /// The one-time token, 43 characters of base64url. Without it the board waits to be approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Secret>,
    /// When it was made, in seconds since 1970: a clock that is behind that is wrong.
    pub made_s: u64,
    /// The board's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Who may log in as root on the board, as a line of authorized_keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_key: Option<PublicKey>,
    /// The wireless network to join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi: Option<Wifi>,
}

/// A wireless network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// Its name, 1 to 32 bytes.
    pub ssid: String,
    /// WPA passphrase, 8 to 63 printable ASCII characters.
    pub passphrase: Secret,
}

/// Why a file is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seed is not usable: {0}; `roost seed` writes a new one")]
pub struct BadSeed(String);

impl BadSeed {
    /// What is wrong, without what to do.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.0
    }
}

impl Seed {
    /// A seed of this fleet.
    #[must_use]
    pub fn new(authority: PublicKey, token: Option<&Token>, made_s: u64) -> Self {
        Self {
            version: VERSION,
            authority,
            token: token.map(|token| token.to_text().into()),
            made_s,
            hostname: None,
            console_key: None,
            wifi: None,
        }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(self, token: &Token) -> Self {
        Self { token: Some(token.to_text().into()), ..self }
    }

    /// Reads a seed, and checks every value of it.
    ///
    /// # Errors
    /// [`BadSeed`], which never quotes a secret.
    pub fn parse(text: &[u8]) -> Result<Self, BadSeed> {
        let bad = |why: &str| Err(BadSeed(why.to_owned()));
        if text.len() > MAX_BYTES {
            return bad("it is too long");
        }
        let text = std::str::from_utf8(text).map_err(|_| BadSeed("it is no text".to_owned()))?;
        let seed: Self = toml::from_str(text).map_err(|error| BadSeed(reason(&error, text)))?;
        if seed.version != VERSION {
            return bad(&format!("it has version {} instead of {VERSION}", seed.version));
        }
        if seed.token.as_ref().is_some_and(|text| Token::parse(text).is_none()) {
            return bad("`token` is not 43 characters of base64url");
        }
        seed.checked()?;
        Ok(seed)
    }

    /// Whether what people chose can be used.
    ///
    /// # Errors
    /// [`BadSeed`], naming the key.
    pub fn checked(&self) -> Result<(), BadSeed> {
        let bad = |why: &str| Err(BadSeed(why.to_owned()));
        if self.hostname.as_deref().is_some_and(|name| !is_host_name(name)) {
            return bad("`hostname` is not 1 to 63 of [a-z0-9-] without - at an end");
        }
        if self.console_key.as_ref().is_some_and(|it| it.comment().contains(char::is_control)) {
            return bad("`console_key` is not one line");
        }
        if let Some(Wifi { ssid, passphrase }) = &self.wifi {
            if !(1..=32).contains(&ssid.len()) || ssid.chars().any(char::is_control) {
                return bad("`wifi.ssid` is not 1 to 32 bytes of text");
            }
            let printable = |c: char| (' '..='~').contains(&c);
            if !(8..=63).contains(&passphrase.len()) || !passphrase.chars().all(printable) {
                return bad("`wifi.passphrase` is not 8 to 63 printable ASCII characters");
            }
        }
        Ok(())
    }

    /// As TOML.
    ///
    /// # Errors
    /// [`BadSeed`] if a value cannot be written as it is.
    pub fn to_toml(&self) -> Result<Zeroizing<String>, BadSeed> {
        self.checked()?;
        let text = toml::to_string(self).map_err(|error| BadSeed(error.to_string()))?;
        Ok(Zeroizing::new(format!("# A roost board takes this on its first boot.\n{text}")))
    }

    /// Whether another seed is this one, whose token may have been dropped since.
    pub(super) fn is_followed_by(&self, other: &Self) -> bool {
        let same_token = self.token.is_none() || self.token == other.token;
        self.made_s == other.made_s && self.authority == other.authority && same_token
    }

    /// The token, if it has one.
    #[must_use]
    pub fn token(&self) -> Option<Token> {
        Token::parse(self.token.as_ref()?)
    }
}

/// What is wrong and in which line, without what is there: that may be a secret.
fn reason(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line = before.matches('\n').count() + 1;
        format!("line {line}: ")
    });
    let message = error.message();
    // serde quotes a value of the wrong type, between these two.
    let message = match (message.starts_with("invalid "), message.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!("not {expected}, as it should be"),
        _ => message.to_owned(),
    };
    line.unwrap_or_default() + &message
}

/// A DNS label (RFC 1123, section 2.1), in lower case.
fn is_host_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
