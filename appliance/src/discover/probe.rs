//! Asking Avahi what it is and whether it lets us publish, once.

use super::{
    announce::AnnounceState,
    avahi::{Daemon, ENTRY_GROUP},
    presence::current_owner,
};
use crate::bus::SystemBus;

/// What Avahi answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its name and version, such as `avahi 0.8`.
    pub version: String,
    /// Whether it lets us publish services; if not, the state's text says what to do.
    pub publishing: Result<(), AnnounceState>,
}

/// Asks Avahi, without publishing anything.
///
/// # Errors
///
/// The state that an announcement would be in: there is no bus, no Avahi, or an old one.
pub async fn probe(bus: &SystemBus) -> Result<Probe, AnnounceState> {
    let no_bus = |error: zbus::Error| AnnounceState::NoBus(error.to_string());
    let connection = bus.connect().await.map_err(no_bus)?;
    let owner = current_owner(&connection).await.map_err(no_bus)?.ok_or(AnnounceState::NoAvahi)?;
    let daemon = Daemon::new(connection, owner);
    let version = daemon.version().await.map_err(|error| AnnounceState::of(&error))?;
    let publishing = match daemon.new_group().await {
        Ok(group) => daemon.free(&group, ENTRY_GROUP).await,
        Err(error) => Err(error),
    };
    Ok(Probe { version, publishing: publishing.map_err(|error| AnnounceState::of(&error)) })
}
