//! Keeping a daemon on the system bus.

use futures_util::StreamExt;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        oneshot,
    },
    time::sleep,
};
use zbus::{Connection, MatchRule, MessageStream, fdo::RequestNameFlags, message::Type};

use super::{
    control::NodeControl,
    link::{Backoff, SystemBus, hung_up, in_time},
    node::{Node, emitter, tell_boards, tell_job, tell_node},
};
use crate::{
    model::Change,
    names::{BUS_NAME, BUS_PATH},
};

/// Serves a daemon on a bus, and comes back to it when it was away. Never ends; what goes wrong is
/// logged. Idle but for a missing bus, which is tried again after a growing pause. `tried` is dropped
/// as soon as the daemon is on the bus, or the first attempt has failed.
pub async fn serve<C: NodeControl>(bus: SystemBus, control: C, tried: oneshot::Sender<()>) {
    let mut backoff = Backoff::new();
    let mut tried = Some(tried);
    loop {
        let error = match attend(&bus, &control, &mut backoff, &mut tried).await {
            Ok(()) => hung_up(),
            Err(error) => error,
        };
        tried = None;
        let pause = backoff.step();
        tracing::warn!(%error, retry_s = pause.as_secs(), "{}", advice(&error));
        sleep(pause).await;
    }
}

/// What to do about an error of [`attend`].
fn advice(error: &zbus::Error) -> &'static str {
    match error {
        zbus::Error::NameTaken => {
            "not on D-Bus: another roost daemon runs; stop it with: systemctl stop roost"
        }
        zbus::Error::MethodError(name, ..)
            if name.as_str() == "org.freedesktop.DBus.Error.AccessDenied" =>
        {
            "not on D-Bus: its policy does not let us; run as root, and install \
             org.roost.Node1.conf in /usr/share/dbus-1/system.d"
        }
        _ => "not on D-Bus; trying again",
    }
}

/// Serves over one connection, until it ends.
async fn attend<C: NodeControl>(
    bus: &SystemBus,
    control: &C,
    backoff: &mut Backoff,
    tried: &mut Option<oneshot::Sender<()>>,
) -> zbus::Result<()> {
    // Before the first answer, so that no change is lost between the two.
    let changes = control.changes();
    let builder = bus.builder()?.serve_at(BUS_PATH, Node::new(control.clone()))?;
    let connection = in_time(builder.build()).await?;
    let mut end = in_time(name_lost(&connection)).await?;
    let flags = RequestNameFlags::DoNotQueue.into();
    in_time(connection.request_name_with_flags(BUS_NAME, flags)).await?;
    backoff.reset();
    tracing::info!(name = BUS_NAME, "on D-Bus");
    *tried = None;
    tokio::select! {
        told = tell_changes(&connection, control, changes) => told,
        _ = end.next() => Ok(()),
    }
}

/// A stream that has something, or ends, when the name or the connection is gone.
async fn name_lost(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")?
        .interface("org.freedesktop.DBus")?
        .member("NameLost")?
        .arg(0, BUS_NAME)?
        .build();
    MessageStream::for_match_rule(rule, connection, None).await
}

/// Sends a signal for each change.
pub(super) async fn tell_changes<C: NodeControl>(
    connection: &Connection,
    control: &C,
    mut changes: Receiver<Change>,
) -> zbus::Result<()> {
    let emitter = emitter(connection)?;
    let mut node = control.node().await;
    loop {
        match changes.recv().await {
            Ok(Change::Job(job)) => in_time(tell_job::<C>(&emitter, &job)).await?,
            Ok(Change::Boards) => in_time(tell_boards::<C>(&emitter)).await?,
            Ok(Change::Node(now)) => {
                in_time(tell_node(&emitter, &node, &now)).await?;
                node = now;
            }
            // So many changes at once that some were dropped: what they led to is told instead.
            Err(RecvError::Lagged(_)) => {
                let now = control.node().await;
                in_time(tell_node(&emitter, &node, &now)).await?;
                node = now;
                in_time(tell_boards::<C>(&emitter)).await?;
                for job in control.jobs().await {
                    in_time(tell_job::<C>(&emitter, &job)).await?;
                }
            }
            // The daemon is stopping: there will be no more changes, but there may be questions.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
