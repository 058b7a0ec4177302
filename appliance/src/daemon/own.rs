//! Which node this is, for the daemon and for commands that act on its files.

use std::path::Path;

use super::{DaemonError, here};
use crate::{
    config::Config,
    dispatch, names,
    trust::{Own, Places, PublicKey, Role, Trust, client_key, public_key_of},
};

/// What this node is in its fleet.
#[must_use]
pub fn role(config: &Config) -> Role {
    if config.board.enable { Role::Board } else { Role::Workstation }
}

/// What this node trusts, by its files.
///
/// # Errors
/// [`DaemonError`], naming the file.
pub fn open_trust(config: &Config) -> Result<Trust, DaemonError> {
    let (id, name) = here::who(config)?;
    let identity = client_key(names::SSH_DIR.as_ref())?;
    let client_key = public_key_of(&identity.with_extension("pub"))?;
    // Nobody connects to a node that offers nothing.
    let host_key: Option<PublicKey> = match config.board.enable {
        true => Some(public_key_of(&Path::new(names::SSH_HOST_KEY).with_extension("pub"))?),
        false => None,
    };
    let places = Places { trust: names::TRUST_DIR.into(), fleet: names::FLEET_DIR.into() };
    Ok(Trust::open(places, Own { id, name, host_key, identity, client_key }, dispatch::now_s())?)
}
