//! The services of a host: plain data, run without a service manager.

/// How a service shows that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It sends `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// A Unix stream socket accepts connections there.
    Socket(&'static str),
    /// A TCP port is listened on.
    Port(u16),
    /// As soon as it runs.
    Spawned,
}

/// A service: what to run and how it shows that it is ready. Its standard streams go to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique on a host.
    pub name: &'static str,
    /// What to run, in the foreground; an absolute path first.
    pub argv: &'static [&'static str],
    /// Further variables of its environment.
    pub env: &'static [(&'static str, &'static str)],
    /// How it shows that it is ready.
    pub ready: Ready,
}

impl Service {
    /// The system message bus.
    pub const DBUS: Self = Self {
        name: "dbus",
        argv: &["/usr/bin/dbus-daemon", "--system", "--nofork", "--nopidfile"],
        env: &[],
        ready: Ready::Socket("/run/dbus/system_bus_socket"),
    };

    /// Multicast DNS. Ready when it can be asked; its own name is probed for about a second more.
    pub const AVAHI: Self = Self {
        name: "avahi",
        argv: &["/usr/sbin/avahi-daemon", "--no-rlimits"],
        env: &[],
        ready: Ready::Socket("/run/avahi-daemon/socket"),
    };

    /// The SSH server.
    pub const SSHD: Self = Self {
        name: "sshd",
        argv: &["/usr/sbin/sshd", "-D", "-e"],
        env: &[],
        ready: Ready::Port(22),
    };

    /// Nix's daemon.
    pub const NIX_DAEMON: Self = Self {
        name: "nix-daemon",
        argv: &["/usr/bin/nix-daemon", "--daemon"],
        env: &[],
        ready: Ready::Socket("/nix/var/nix/daemon-socket/socket"),
    };

    /// roost's daemon, with the folders that its unit and tmpfiles.d file make. See
    /// [`crate::fixtures::roost`].
    pub const ROOST: Self = Self {
        name: "roost",
        argv: &[
            "/bin/sh",
            "-euc",
            "mkdir -p /run/roost/connect /var/lib/roost; systemd-tmpfiles --create roost.conf; \
             exec /usr/bin/roost daemon",
        ],
        env: &[],
        ready: Ready::Notify,
    };

    /// What every host runs unless told otherwise.
    pub const BASE: &'static [Self] = &[Self::DBUS, Self::AVAHI, Self::SSHD, Self::NIX_DAEMON];
}
