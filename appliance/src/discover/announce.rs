//! Publishing this node, and keeping it published.

use std::{fmt, time::Duration};

use board_support::{Announcement, Record};
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use zbus::{MessageStream, zvariant::OwnedObjectPath};

use super::{
    avahi::{Complaint, Daemon, ENTRY_GROUP, GroupState, ServerState},
    presence::Presence,
};
use crate::{
    bus::link::{Backoff, hung_up},
    names::SERVICE_TYPE,
};

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name that people see, usually the host name; cut after 63 bytes. If another host has
    /// it, Avahi's next alternative is taken (`name #2`).
    pub instance: String,
    /// sshd's port.
    pub port: u16,
    /// The TXT record, and the subtypes: one for each native system (see [`subtype`]).
    pub announcement: Announcement,
}

/// The DNS-SD subtype for boards with this native system: `_` becomes `-`, which DNS labels know,
/// so `x86_64-linux` is browsed for as `_x86-64-linux._sub._nix-builder._tcp`.
#[must_use]
pub fn subtype(system: &str) -> String {
    format!("_{}._sub.{SERVICE_TYPE}", system.replace('_', "-"))
}

/// As much of a name as a DNS label holds (RFC 6763, section 4.1.1).
fn label(name: &str) -> &str {
    let end = (0..=name.len().min(63)).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}

/// Where publishing stands. Its text says what to do if something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnounceState {
    /// Nothing is known yet.
    Starting,
    /// The system bus cannot be reached, for this reason. Tried again.
    NoBus(String),
    /// avahi-daemon is not running. Published as soon as it is.
    NoAvahi,
    /// Avahi is making sure that no other host has the name.
    Registering,
    /// Published under this name.
    Published(String),
    /// Avahi's configuration lets nobody publish services. Tried again when Avahi is restarted.
    NotPermitted,
    /// This Avahi has not got the methods that are used here. Tried again when it is restarted.
    TooOld,
    /// Something else is wrong. Tried again after a growing pause.
    Failed(String),
    /// Taken back: the last state.
    Withdrawn,
}

impl AnnounceState {
    /// Where publishing stands when Avahi has answered with an error.
    pub(super) fn of(error: &zbus::Error) -> Self {
        match Complaint::of(error) {
            Some(Complaint::NotPermitted) => Self::NotPermitted,
            Some(Complaint::TooOld) => Self::TooOld,
            Some(Complaint::Collision) | None => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for AnnounceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::NoBus(reason) => write!(
                f,
                "the system bus cannot be reached ({reason}); start it with: systemctl start dbus"
            ),
            Self::NoAvahi => {
                f.write_str("Avahi is not running; start it with: systemctl start avahi-daemon")
            }
            Self::Registering => f.write_str("Avahi is registering the service"),
            Self::Published(name) => write!(f, "published as {name:?}"),
            Self::NotPermitted => f.write_str(
                "Avahi does not permit to publish services; set \
                 disable-user-service-publishing=no and disable-publishing=no in section \
                 [publish] of /etc/avahi/avahi-daemon.conf and restart avahi-daemon (NixOS: \
                 services.avahi.publish.enable = true and \
                 services.avahi.publish.userServices = true)",
            ),
            Self::TooOld => f.write_str(
                "this Avahi has no org.freedesktop.Avahi.Server2; install version 0.8 or later",
            ),
            Self::Failed(reason) => {
                write!(f, "Avahi could not publish the service ({reason}); trying again")
            }
            Self::Withdrawn => f.write_str("withdrawn"),
        }
    }
}

/// A published service. Withdrawn when dropped; to wait until it is, use [`Self::withdraw`].
#[derive(Debug)]
pub struct Announcer {
    /// None once it is to be withdrawn.
    service: watch::Sender<Option<Service>>,
    state: watch::Receiver<AnnounceState>,
}

impl Announcer {
    /// Longest wait of [`Self::withdraw`].
    const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);

    pub(super) fn start(presence: watch::Receiver<Presence>, service: Service) -> Self {
        let (service, wanted) = watch::channel(Some(service));
        let (tell, state) = watch::channel(AnnounceState::Starting);
        tokio::spawn(async move {
            keep_published(presence, wanted, &tell).await;
            tell.send_replace(AnnounceState::Withdrawn);
        });
        Self { service, state }
    }

    /// Publishes this from now on, unless it was withdrawn. Nothing is sent if it is the same as before.
    pub fn update(&self, service: Service) {
        self.service.send_if_modified(|current| match current {
            Some(current) if *current != service => {
                *current = service;
                true
            }
            Some(_) | None => false,
        });
    }

    /// Where publishing stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AnnounceState> {
        self.state.clone()
    }

    /// Takes the service back, and waits until Avahi has done so, at most 2 s.
    pub async fn withdraw(&self) {
        self.service.send_replace(None);
        let mut state = self.state.clone();
        let withdrawn = state.wait_for(|state| *state == AnnounceState::Withdrawn);
        if timeout(Self::WITHDRAW_TIMEOUT, withdrawn).await.is_err() {
            tracing::warn!("Avahi has not withdrawn the service in time; it will when we are gone");
        }
    }
}

/// Why a publication ended.
enum End {
    /// The service is no longer wanted.
    Stopped,
    /// It could not be published.
    Trouble(AnnounceState),
}

impl From<zbus::Error> for End {
    fn from(error: zbus::Error) -> Self {
        Self::Trouble(AnnounceState::of(&error))
    }
}

/// Publishes with every Avahi that comes, until the sender of `wanted` is gone.
async fn keep_published(
    mut presence: watch::Receiver<Presence>,
    mut wanted: watch::Receiver<Option<Service>>,
    tell: &watch::Sender<AnnounceState>,
) {
    let mut backoff = Backoff::new();
    while wanted.borrow().is_some() {
        let now = presence.borrow_and_update().clone();
        let trouble = match now {
            Presence::Unknown => AnnounceState::Starting,
            Presence::NoBus(reason) => AnnounceState::NoBus(reason),
            Presence::NoAvahi => AnnounceState::NoAvahi,
            Presence::Up(daemon) => tokio::select! {
                end = publish(&daemon, &mut wanted, tell, &mut backoff) => match end {
                    End::Stopped => return,
                    End::Trouble(state) => state,
                },
                changed = presence.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            },
        };
        let pause = matches!(trouble, AnnounceState::Failed(_)).then(|| backoff.step());
        if !matches!(trouble, AnnounceState::Starting) {
            tracing::warn!("not announced: {trouble}");
        }
        tell.send_replace(trouble);
        tokio::select! {
            changed = presence.changed() => if changed.is_err() { return },
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Publishes with one Avahi.
async fn publish(
    daemon: &Daemon,
    wanted: &mut watch::Receiver<Option<Service>>,
    tell: &watch::Sender<AnnounceState>,
    backoff: &mut Backoff,
) -> End {
    let group = match daemon.new_group().await {
        Ok(group) => group,
        Err(error) => return error.into(),
    };
    let Some(service) = wanted.borrow_and_update().clone() else { return End::Stopped };
    let name = label(&service.instance).to_owned();
    let server = ServerState::Unsettled;
    let mut publication = Publication { daemon, group, service, name, server, renames: 0 };
    let end = match publication.follow(wanted, tell, backoff).await {
        Ok(()) => End::Stopped,
        Err(end) => end,
    };
    if let Err(error) = daemon.free(&publication.group, ENTRY_GROUP).await {
        tracing::debug!(%error, "Avahi did not free the entry group; it goes with our connection");
    }
    end
}

/// Our entry group at one Avahi.
struct Publication<'a> {
    daemon: &'a Daemon,
    group: OwnedObjectPath,
    service: Service,
    /// The wanted name, or an alternative to it.
    name: String,
    server: ServerState,
    renames: u32,
}

impl Publication<'_> {
    /// Names that are tried one after another before there is a pause.
    const MAX_RENAMES: u32 = 16;

    async fn follow(
        &mut self,
        wanted: &mut watch::Receiver<Option<Service>>,
        tell: &watch::Sender<AnnounceState>,
        backoff: &mut Backoff,
    ) -> Result<(), End> {
        let mut server = self.daemon.server_signals().await?;
        let mut group = self.daemon.signals(ENTRY_GROUP, Some(&self.group)).await?;
        tell.send_replace(AnnounceState::Registering);
        self.on_server(self.daemon.server_state().await?).await?;
        loop {
            tokio::select! {
                state = next_state(&mut server) => {
                    tell.send_replace(AnnounceState::Registering);
                    self.on_server(state?.into()).await?;
                }
                state = next_state(&mut group) => match state?.into() {
                    GroupState::Unsettled => {}
                    GroupState::Established => {
                        backoff.reset();
                        tracing::info!(name = self.name, "announced");
                        tell.send_replace(AnnounceState::Published(self.name.clone()));
                    }
                    GroupState::Collision => {
                        tell.send_replace(AnnounceState::Registering);
                        self.rename().await?;
                        self.republish().await?;
                    }
                    GroupState::Failed => return Err(failed("the entry group failed")),
                },
                changed = wanted.changed() => match changed {
                    Ok(()) => {
                        let service = wanted.borrow_and_update().clone();
                        let Some(service) = service else { return Ok(()) };
                        self.update(service).await?;
                    }
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    async fn on_server(&mut self, state: ServerState) -> Result<(), End> {
        self.server = state;
        match state {
            ServerState::Unsettled => Ok(self.daemon.reset(&self.group).await?),
            ServerState::Running => self.republish().await,
            ServerState::Failed => Err(failed("the server failed")),
        }
    }

    /// Adds and commits everything anew, under another name if a service of this host has it.
    async fn republish(&mut self) -> Result<(), End> {
        loop {
            self.daemon.reset(&self.group).await?;
            match self.add().await {
                Ok(()) => return Ok(self.daemon.commit(&self.group).await?),
                Err(error) if Complaint::of(&error) == Some(Complaint::Collision) => {
                    self.rename().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn add(&self) -> zbus::Result<()> {
        let record = Record::encode(&self.service.announcement);
        let txt: Vec<_> = record.entries().collect();
        let named = (self.name.as_str(), SERVICE_TYPE);
        self.daemon.add_service(&self.group, named, self.service.port, &txt).await?;
        for system in self.service.announcement.systems.iter() {
            self.daemon.add_subtype(&self.group, named, &subtype(system)).await?;
        }
        Ok(())
    }

    async fn rename(&mut self) -> Result<(), End> {
        self.renames += 1;
        if self.renames > Self::MAX_RENAMES {
            return Err(failed("every name that was tried is taken"));
        }
        let name = self.daemon.alternative_name(&self.name).await?;
        tracing::info!(taken = self.name, name, "another service has the name");
        self.name = name;
        Ok(())
    }

    async fn update(&mut self, service: Service) -> Result<(), End> {
        let before = std::mem::replace(&mut self.service, service);
        let same_but_txt = before.instance == self.service.instance
            && before.port == self.service.port
            && before.announcement.systems == self.service.announcement.systems;
        if before.instance != self.service.instance {
            label(&self.service.instance).clone_into(&mut self.name);
        }
        match self.server {
            ServerState::Running if same_but_txt => {
                let record = Record::encode(&self.service.announcement);
                let txt: Vec<_> = record.entries().collect();
                let named = (self.name.as_str(), SERVICE_TYPE);
                Ok(self.daemon.update_txt(&self.group, named, &txt).await?)
            }
            ServerState::Running => self.republish().await,
            ServerState::Unsettled | ServerState::Failed => Ok(()),
        }
    }
}

fn failed(reason: &str) -> End {
    End::Trouble(AnnounceState::Failed(reason.to_owned()))
}

/// The state in the next `StateChanged` signal.
async fn next_state(signals: &mut MessageStream) -> zbus::Result<i32> {
    let signal = signals.next().await.ok_or_else(hung_up)??;
    let (state, _error): (i32, String) = signal.body().deserialize()?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtype_is_a_dns_label() {
        assert_eq!(subtype("riscv64-linux"), "_riscv64-linux._sub._nix-builder._tcp");
        assert_eq!(subtype("x86_64-linux"), "_x86-64-linux._sub._nix-builder._tcp");
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_characters() {
        assert_eq!(label("board"), "board");
        assert_eq!(label(&"x".repeat(64)).len(), 63);
        assert_eq!(label(&"ü".repeat(40)), "ü".repeat(31));
    }

    #[test]
    fn a_refusal_tells_the_fix() {
        let text = AnnounceState::NotPermitted.to_string();
        assert!(text.contains("disable-user-service-publishing=no"));
        assert!(text.contains("services.avahi.publish.userServices = true"));
    }
}
