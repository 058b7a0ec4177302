//! What `roost doctor` knows of a machine.

use std::collections::BTreeMap;

use crate::{
    config::Config,
    discover::{AnnounceState, Probe},
    model::{BoardView, NodeView},
    observe::{Machine, vitals::Heat},
};

/// A fact that could not be had is a text that says why.
pub(crate) type Seen<T> = Result<T, String>;

/// Everything the checks look at.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The configuration, or what is wrong with it.
    pub config: Seen<Config>,
    /// Whether we are root: some facts are only root's to see.
    pub root: bool,
    /// Seconds since 1970, as this machine believes.
    pub clock_s: u64,
    /// Whether the system bus accepts us.
    pub system_bus: Seen<()>,
    /// Avahi; if it cannot be asked, what announcing would stay at.
    pub avahi: Result<Probe, AnnounceState>,
    /// The roost daemon, as it describes itself.
    pub daemon: Seen<NodeView>,
    /// The boards that the roost daemon knows.
    pub boards: Seen<Vec<BoardView>>,
    /// The second store as the roost daemon shows it, if it has one.
    pub second_store: Seen<Option<NodeView>>,
    /// The way to a nix-daemon for it; none if the configuration wants no such store.
    pub second_nix: Option<SecondWay>,
    /// What this machine is.
    pub machine: Seen<Machine>,
    /// How hot it is, if it can tell.
    pub heat: Option<Heat>,
    /// The clock rate of its fastest CPU now, and the most it could have, in MHz, if it can tell.
    pub clock_mhz: Option<(u32, u32)>,
    /// The local nix-daemon.
    pub nix: Seen<NixDaemon>,
    /// Nix's settings, by name, as text.
    pub nix_settings: Seen<BTreeMap<String, String>>,
    /// Whether bash is on nix-daemon's PATH.
    pub nix_has_bash: Seen<bool>,
    /// Whether nix-daemon was started with our build hook in its environment.
    pub nix_asks: Seen<bool>,
    /// What sshd does with our user: its effective settings, by name in lower case.
    pub sshd: Seen<BTreeMap<String, String>>,
    /// Whether our user can log in at all.
    pub user: Seen<User>,
}

/// A nix-daemon that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NixDaemon {
    /// Its version.
    pub version: String,
    /// Whether it trusts the user that asked; none if it is too old to say.
    pub trusted: Option<bool>,
}

/// How our user stands in the user database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Its shell runs commands: it is not `nologin` or `false`.
    pub shell: bool,
    /// Its password field starts with `!`: without PAM, sshd takes the whole account as locked.
    pub locked: bool,
}

/// The way to a nix-daemon for the second store, gone as the roost daemon goes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecondWay {
    /// Whether systemd starts services here. What it lets roost's do is not enough for a sandbox.
    pub systemd: bool,
    /// Whether somebody listens at the socket.
    pub listens: bool,
    /// The version of the nix-daemon that answered.
    pub nix: Seen<String>,
}
