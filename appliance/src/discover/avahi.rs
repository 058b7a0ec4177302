//! Avahi's D-Bus API (avahi 0.8, `org.freedesktop.Avahi.*.xml`), as far as it is used.

use serde::{Serialize, de::DeserializeOwned};
use zbus::{
    Connection, MatchRule, MessageStream,
    message::Type,
    names::OwnedUniqueName,
    zvariant::{DynamicType, ObjectPath, OwnedObjectPath, Type as DBusType},
};

/// Avahi's well-known name.
pub(super) const NAME: &str = "org.freedesktop.Avahi";
/// Interface of an entry group: services that are published together.
pub(super) const ENTRY_GROUP: &str = "org.freedesktop.Avahi.EntryGroup";
/// Interface of a service browser.
pub(super) const SERVICE_BROWSER: &str = "org.freedesktop.Avahi.ServiceBrowser";
/// Interface of a service resolver.
pub(super) const SERVICE_RESOLVER: &str = "org.freedesktop.Avahi.ServiceResolver";
/// Interface of the server itself; `Server2` has what came with version 0.8.
const SERVER: &str = "org.freedesktop.Avahi.Server2";

/// Every interface, or every protocol (`AVAHI_IF_UNSPEC`, `AVAHI_PROTO_UNSPEC`).
pub(super) const ANY: i32 = -1;

/// Set on what this host's own Avahi publishes (`AVAHI_LOOKUP_RESULT_LOCAL`).
pub(super) const LOOKUP_RESULT_LOCAL: u32 = 8;

/// `AvahiServerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerState {
    /// Its host name is not settled: being registered, or taken by another host.
    Unsettled,
    /// Services may be published.
    Running,
    /// It failed, or says what we do not know.
    Failed,
}

impl From<i32> for ServerState {
    fn from(state: i32) -> Self {
        match state {
            1 | 3 => Self::Unsettled,
            2 => Self::Running,
            _ => Self::Failed,
        }
    }
}

/// `AvahiEntryGroupState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    /// Not committed, or being probed for.
    Unsettled,
    /// Published.
    Established,
    /// The name is taken by another host.
    Collision,
    /// It failed, or says what we do not know.
    Failed,
}

impl From<i32> for GroupState {
    fn from(state: i32) -> Self {
        match state {
            0 | 1 => Self::Unsettled,
            2 => Self::Established,
            3 => Self::Collision,
            _ => Self::Failed,
        }
    }
}

/// Arguments of `ItemNew` and `ItemRemove`: interface, protocol, name, type, domain, flags.
pub(super) type Item = (i32, i32, String, String, String, u32);

/// Arguments of `Found`: interface, protocol, name, type, domain, host, address protocol, address,
/// port, TXT strings, flags.
pub(super) type Found =
    (i32, i32, String, String, String, String, i32, String, u16, Vec<Vec<u8>>, u32);

/// One run of avahi-daemon: calls go to it and never to its successor, which knows nothing of the
/// objects made here.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    connection: Connection,
    owner: OwnedUniqueName,
}

impl Daemon {
    pub(super) const fn new(connection: Connection, owner: OwnedUniqueName) -> Self {
        Self { connection, owner }
    }

    async fn call<R: DeserializeOwned + DBusType>(
        &self,
        path: &ObjectPath<'_>,
        interface: &str,
        method: &str,
        arguments: &(impl Serialize + DynamicType + Sync),
    ) -> zbus::Result<R> {
        let reply = self
            .connection
            .call_method(Some(&self.owner), path, Some(interface), method, arguments)
            .await?;
        reply.body().deserialize()
    }

    async fn ask<R: DeserializeOwned + DBusType>(
        &self,
        method: &str,
        arguments: &(impl Serialize + DynamicType + Sync),
    ) -> zbus::Result<R> {
        self.call(&ObjectPath::from_static_str_unchecked("/"), SERVER, method, arguments).await
    }

    /// The signals of one object, or of all objects with this interface.
    pub(super) async fn signals(
        &self,
        interface: &'static str,
        path: Option<&ObjectPath<'_>>,
    ) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(&self.owner)?
            .interface(interface)?;
        let rule = match path {
            Some(path) => rule.path(path)?,
            None => rule,
        };
        MessageStream::for_match_rule(rule.build(), &self.connection, None).await
    }

    /// Changes of the server's state. They come from the interface `Server` even to those that use
    /// `Server2`, so the object alone tells them.
    pub(super) async fn server_signals(&self) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(&self.owner)?
            .path("/")?
            .member("StateChanged")?
            .build();
        MessageStream::for_match_rule(rule, &self.connection, None).await
    }

    /// The server's state now.
    pub(super) async fn server_state(&self) -> zbus::Result<ServerState> {
        self.ask::<i32>("GetState", &()).await.map(ServerState::from)
    }

    /// The server's name and version, such as `avahi 0.8`.
    pub(super) async fn version(&self) -> zbus::Result<String> {
        self.ask("GetVersionString", &()).await
    }

    /// The name to try when `name` is taken: `name #2`, and so on.
    pub(super) async fn alternative_name(&self, name: &str) -> zbus::Result<String> {
        self.ask("GetAlternativeServiceName", &(name,)).await
    }

    /// A new, empty entry group.
    pub(super) async fn new_group(&self) -> zbus::Result<OwnedObjectPath> {
        self.ask("EntryGroupNew", &()).await
    }

    /// A browser for services of a type in the default domain, on every interface; to be started.
    pub(super) async fn prepare_browser(&self, service: &str) -> zbus::Result<OwnedObjectPath> {
        self.ask("ServiceBrowserPrepare", &(ANY, ANY, service, "", 0u32)).await
    }

    /// A resolver for a service that a browser found; to be started. It asks for addresses of the
    /// protocol over which the service was found.
    pub(super) async fn prepare_resolver(
        &self,
        (interface, protocol): (i32, i32),
        (name, service, domain): (&str, &str, &str),
    ) -> zbus::Result<OwnedObjectPath> {
        let arguments = (interface, protocol, name, service, domain, protocol, 0u32);
        self.ask("ServiceResolverPrepare", &arguments).await
    }

    /// Starts a browser or a resolver.
    pub(super) async fn start(
        &self,
        path: &ObjectPath<'_>,
        interface: &'static str,
    ) -> zbus::Result<()> {
        self.call(path, interface, "Start", &()).await
    }

    /// Frees a group, a browser or a resolver.
    pub(super) async fn free(
        &self,
        path: &ObjectPath<'_>,
        interface: &'static str,
    ) -> zbus::Result<()> {
        self.call(path, interface, "Free", &()).await
    }

    /// Adds a service of this host to a group.
    pub(super) async fn add_service(
        &self,
        group: &ObjectPath<'_>,
        (name, service): (&str, &str),
        port: u16,
        txt: &[&[u8]],
    ) -> zbus::Result<()> {
        let arguments = (ANY, ANY, 0u32, name, service, "", "", port, txt);
        self.call(group, ENTRY_GROUP, "AddService", &arguments).await
    }

    /// Adds a subtype to a service that was added to a group.
    pub(super) async fn add_subtype(
        &self,
        group: &ObjectPath<'_>,
        (name, service): (&str, &str),
        subtype: &str,
    ) -> zbus::Result<()> {
        let arguments = (ANY, ANY, 0u32, name, service, "", subtype);
        self.call(group, ENTRY_GROUP, "AddServiceSubtype", &arguments).await
    }

    /// Replaces the TXT record of a published service.
    pub(super) async fn update_txt(
        &self,
        group: &ObjectPath<'_>,
        (name, service): (&str, &str),
        txt: &[&[u8]],
    ) -> zbus::Result<()> {
        let arguments = (ANY, ANY, 0u32, name, service, "", txt);
        self.call(group, ENTRY_GROUP, "UpdateServiceTxt", &arguments).await
    }

    /// Publishes what was added to a group.
    pub(super) async fn commit(&self, group: &ObjectPath<'_>) -> zbus::Result<()> {
        self.call(group, ENTRY_GROUP, "Commit", &()).await
    }

    /// Takes back everything that was added to a group.
    pub(super) async fn reset(&self, group: &ObjectPath<'_>) -> zbus::Result<()> {
        self.call(group, ENTRY_GROUP, "Reset", &()).await
    }
}

/// Errors that Avahi answers and that have a meaning here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Its configuration lets nobody publish services.
    NotPermitted,
    /// A service of this host has the name already.
    Collision,
    /// It has no such method: it is older than 0.8.
    TooOld,
}

impl Complaint {
    /// What `error` means, if it means something here.
    pub(super) fn of(error: &zbus::Error) -> Option<Self> {
        let zbus::Error::MethodError(name, ..) = error else { return None };
        match name.as_str() {
            "org.freedesktop.Avahi.NotPermittedError" => Some(Self::NotPermitted),
            "org.freedesktop.Avahi.CollisionError" => Some(Self::Collision),
            "org.freedesktop.DBus.Error.UnknownMethod"
            | "org.freedesktop.DBus.Error.UnknownInterface" => Some(Self::TooOld),
            _ => None,
        }
    }
}
