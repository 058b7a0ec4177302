//! What lets another workstation use a fleet: two texts that are carried there and back, no secrets.

use board_support::NodeId;
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::roster::SignedRoster;

const VERSION: u32 = 1;

/// A machine that asks to be invited: to be carried to the one that holds the fleet's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The version of this format.
    version: u32,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The key with which it logs in.
    pub key: PublicKey,
}

impl JoinRequest {
    /// For this machine.
    #[must_use]
    pub fn new(id: String, name: String, key: PublicKey) -> Self {
        Self { version: VERSION, id, name, key }
    }

    /// Reads a request, and checks every value of it.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let request: Self =
            toml::from_str(text).map_err(|error| BadRequest(error.message().to_owned()))?;
        if request.version != VERSION {
            let version = request.version;
            return Err(BadRequest(format!("it has version {version} instead of {VERSION}")));
        }
        if NodeId::new(&request.id).is_err() {
            return Err(BadRequest("`id` is not 1 to 63 of [a-z0-9-]".to_owned()));
        }
        if request.name.is_empty()
            || request.name.len() > 63
            || request.name.chars().any(char::is_control)
        {
            return Err(BadRequest("`name` is not 1 to 63 bytes of text".to_owned()));
        }
        Ok(request)
    }

    /// As TOML.
    ///
    /// # Errors
    /// [`BadRequest`] if a value cannot be written as it is.
    pub fn to_toml(&self) -> Result<String, BadRequest> {
        toml::to_string(self).map_err(|error| BadRequest(error.to_string()))
    }
}

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the request is not usable: {0}; `roost fleet join` on the machine that asks prints a new one"
)]
pub struct BadRequest(String);

/// An invitation: to be carried to the machine whose key it certifies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The version of this format.
    version: u32,
    /// The fleet's key.
    pub authority: PublicKey,
    /// The invited machine's id.
    pub id: String,
    /// The certificate of its key.
    pub certificate: String,
    /// The fleet as it is.
    pub roster: SignedRoster,
}

/// Why a text is no invitation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the invitation is not usable: {0}; `roost fleet invite` makes a new one")]
pub struct BadInvitation(String);

impl Invitation {
    /// For the machine with this id.
    #[must_use]
    pub fn new(
        authority: PublicKey,
        id: String,
        certificate: String,
        roster: SignedRoster,
    ) -> Self {
        Self { version: VERSION, authority, id, certificate, roster }
    }

    /// Reads an invitation.
    ///
    /// # Errors
    /// [`BadInvitation`].
    pub fn parse(text: &str) -> Result<Self, BadInvitation> {
        let invitation: Self =
            toml::from_str(text).map_err(|error| BadInvitation(error.message().to_owned()))?;
        if invitation.version != VERSION {
            let version = invitation.version;
            return Err(BadInvitation(format!("it has version {version} instead of {VERSION}")));
        }
        Ok(invitation)
    }

    /// As TOML.
    ///
    /// # Errors
    /// [`BadInvitation`] if a value cannot be written as it is.
    pub fn to_toml(&self) -> Result<String, BadInvitation> {
        toml::to_string(self).map_err(|error| BadInvitation(error.to_string()))
    }
}
