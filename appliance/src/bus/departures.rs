//! Callers that are kept in mind until they leave the bus.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt as _;
use zbus::{
    Connection, MatchRule, MessageStream, fdo::DBusProxy, message::Type, names::UniqueName,
};

use super::{
    control::{Caller, NodeControl},
    link::in_time,
};

/// Those whose departure is waited for.
#[derive(Default)]
pub(super) struct Departures(Arc<Mutex<BTreeSet<String>>>);

impl Departures {
    /// Has a daemon forget a caller when it leaves the bus, or when the bus or our connection to it
    /// ends. Nothing happens here before that.
    pub(super) async fn watch<C: NodeControl>(
        &self,
        connection: &Connection,
        name: &UniqueName<'_>,
        control: &C,
    ) -> zbus::Result<()> {
        if !lock(&self.0).insert(name.to_string()) {
            return Ok(());
        }
        let watching = Watching { name: name.to_string(), all: self.0.clone() };
        let mut changes = in_time(owner_changes(connection, name)).await?;
        let bus = in_time(DBusProxy::new(connection)).await?;
        let control = control.clone();
        tokio::spawn(async move {
            let watching = watching;
            let there = match watching.name.as_str().try_into() {
                Ok(name) => in_time(async { Ok(bus.name_has_owner(name).await?) }).await,
                Err(_) => Ok(false),
            };
            // It may have gone before its departure would have been told.
            if there.unwrap_or(false) {
                // A unique name has one owner and is never given again: any change is its end.
                let _ = changes.next().await;
            }
            control.forget(&watching.name);
        });
        Ok(())
    }
}

impl Departures {
    /// Whether a caller's departure is still to come.
    pub(super) fn is_watched(&self, name: &str) -> bool {
        lock(&self.0).contains(name)
    }
}

/// A caller whose departure is waited for.
struct Watching {
    name: String,
    all: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.name);
    }
}

fn lock(all: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bus's signals that a name has another owner.
async fn owner_changes(
    connection: &Connection,
    name: &UniqueName<'_>,
) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")?
        .interface("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .arg(0, name.as_str())?
        .build();
    MessageStream::for_match_rule(rule, connection, None).await
}

/// Who has a name on the bus.
pub(super) async fn caller(connection: &Connection, name: &UniqueName<'_>) -> zbus::Result<Caller> {
    let bus = DBusProxy::new(connection).await?;
    let credentials = bus.get_connection_credentials(name.to_owned().into()).await?;
    // Who is in another process namespace has no process id here.
    let pid = credentials.process_id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    let uid = credentials.unix_user_id().unwrap_or(u32::MAX);
    Ok(Caller { name: name.to_string(), pid, uid })
}
