//! Whether there is an Avahi to talk to, now.

use futures_util::StreamExt;
use tokio::{sync::watch, time::sleep};
use zbus::{
    Connection, MatchRule, MessageStream, fdo,
    message::Type,
    names::{BusName, OwnedUniqueName},
};

use super::avahi::{self, Daemon};
use crate::bus::link::{Backoff, SystemBus, hung_up};

/// Whether there is an Avahi to talk to.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    /// Not known yet.
    Unknown,
    /// The system bus cannot be reached.
    NoBus(String),
    /// Nobody on the bus is Avahi.
    NoAvahi,
    /// This one is.
    Up(Daemon),
}

/// Watches for Avahi, until nobody wants to know any more. Idle but for a missing bus, which is
/// tried again after a growing pause.
pub(super) async fn watch_avahi(bus: SystemBus, presence: watch::Sender<Presence>) {
    let mut backoff = Backoff::new();
    loop {
        let error = tokio::select! {
            () = presence.closed() => return,
            error = attend(&bus, &presence, &mut backoff) => error,
        };
        let pause = backoff.step();
        tracing::warn!(%error, retry_s = pause.as_secs(), "system bus not reachable");
        presence.send_replace(Presence::NoBus(error.to_string()));
        tokio::select! {
            () = presence.closed() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Watches over one connection, until it ends.
async fn attend(
    bus: &SystemBus,
    presence: &watch::Sender<Presence>,
    backoff: &mut Backoff,
) -> zbus::Error {
    match follow_owner(bus, presence, backoff).await {
        Ok(()) => hung_up(),
        Err(error) => error,
    }
}

async fn follow_owner(
    bus: &SystemBus,
    presence: &watch::Sender<Presence>,
    backoff: &mut Backoff,
) -> zbus::Result<()> {
    let connection = bus.connect().await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")?
        .interface("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .arg(0, avahi::NAME)?
        .build();
    let mut changes = MessageStream::for_match_rule(rule, &connection, None).await?;
    let owner = current_owner(&connection).await?;
    backoff.reset();
    presence.send_replace(of(&connection, owner));
    while let Some(change) = changes.next().await {
        let change = change?;
        let (_, _, new): (String, String, String) = change.body().deserialize()?;
        let owner = if new.is_empty() { None } else { Some(new.try_into()?) };
        presence.send_replace(of(&connection, owner));
    }
    Ok(())
}

/// Who is Avahi now.
pub(super) async fn current_owner(
    connection: &Connection,
) -> zbus::Result<Option<OwnedUniqueName>> {
    let name = BusName::try_from(avahi::NAME)?;
    match fdo::DBusProxy::new(connection).await?.get_name_owner(name).await {
        Ok(owner) => Ok(Some(owner)),
        Err(fdo::Error::NameHasNoOwner(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn of(connection: &Connection, owner: Option<OwnedUniqueName>) -> Presence {
    match owner {
        Some(owner) => Presence::Up(Daemon::new(connection.clone(), owner)),
        None => Presence::NoAvahi,
    }
}
