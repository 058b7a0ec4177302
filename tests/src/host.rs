//! A host: namespaces of its own over the shared root, with a disk that outlives its power.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command as Outside, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal};

use crate::{
    Addressing, Command, Disk, HostSpec, Output, Running, Service,
    clock::poll,
    error::{Error, Result, file},
    lan::{START_TIMEOUT, announced_pid, cgroup_of},
    process::{Process, content, scratch},
    spec::Init,
    supervise::Services,
};

/// The first process of a host; it starts itself again in the host's namespaces.
const BOOT: &str = include_str!("scripts/boot.sh");

/// A host of a LAN. Cheap to clone; all clones are the same host.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<HostInner>,
}

pub(crate) struct HostInner {
    pub(crate) spec: HostSpec,
    power: Mutex<Power>,
    pub(crate) services: Mutex<Services>,
    /// What starts with the host.
    pub(crate) enabled: Mutex<Vec<Service>>,
}

/// Whether a host runs.
enum Power {
    Off,
    On {
        /// Its init, as the machine numbers it.
        init: Pid,
        /// The process outside that ends when all of the host has ended.
        outside: Process,
    },
}

impl HostInner {
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its init, as the machine numbers it.
    pub(crate) fn init(&self) -> Result<Pid> {
        match &*self.power() {
            Power::On { init, .. } => Ok(*init),
            Power::Off => Err(Error::Off { host: self.name().to_owned() }),
        }
    }

    /// The name of its cable's end at the bridge.
    fn port(&self) -> String {
        format!("port{}", self.spec.index)
    }

    /// A file of the running host, as the machine sees it. Never for writing: an absolute link on
    /// the way would lead out of the host.
    pub(crate) fn outside_path(&self, path: &str) -> Result<PathBuf> {
        let root = format!("/proc/{}/root", self.init()?);
        Ok(Path::new(&root).join(path.trim_start_matches('/')))
    }

    /// Where its logs are on the machine.
    pub(crate) fn log_folder(&self) -> PathBuf {
        self.spec.lan.folder.join("log").join(self.name())
    }

    /// The end of every service's log, for people.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        let mut files: Vec<_> =
            fs::read_dir(self.log_folder()).into_iter().flatten().flatten().collect();
        files.sort_by_key(fs::DirEntry::file_name);
        for entry in files {
            let name = entry.file_name();
            let log = tail(&entry.path());
            text += &format!("=== {}: {}\n{log}", self.name(), name.to_string_lossy());
        }
        if self.spec.init == Init::Systemd {
            let journal = self
                .enter(&["journalctl", "--boot", "--no-pager", "--output=short", "--lines=100"])
                .and_then(|mut command| command.output().map_err(file("read", "the journal")));
            let journal = journal.map(|output| output.stdout).unwrap_or_default();
            let journal = String::from_utf8_lossy(&journal);
            text += &format!("=== {}: the journal\n{journal}", self.name());
        }
        text
    }
}

/// The last 100 lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(100)..].iter().flat_map(|line| [line, "\n"]).collect()
}

impl Drop for HostInner {
    fn drop(&mut self) {
        let _ = cut_power(self);
    }
}

/// Kills everything that runs there, at once, and waits until it is gone.
fn cut_power(host: &HostInner) -> Result<()> {
    let Power::On { init, mut outside } = std::mem::replace(&mut *host.power(), Power::Off) else {
        return Ok(());
    };
    // First the cable: a machine without power says nothing more, while a killed process's kernel
    // still closes its connections.
    let _ = host.spec.lan.ip(&format!("link set {} down\n", host.port()));
    let _ = rustix::process::kill_process(init, Signal::KILL);
    outside.wait(START_TIMEOUT);
    outside.kill();
    host.services.lock().unwrap_or_else(PoisonError::into_inner).clear();
    // The kernel removes the cable some time after the namespace: do it now, unless it was faster.
    let lan = &host.spec.lan;
    let deleted = lan.ip(&format!("link delete {}\n", host.port()));
    let remains = || lan.ip(&format!("link show {}\n", host.port())).is_ok();
    if deleted.is_err() && remains() { deleted } else { Ok(()) }
}

impl Host {
    pub(crate) fn start(spec: HostSpec) -> Result<Self> {
        let (lan, enabled) = (Arc::clone(&spec.lan), spec.services.clone());
        let host = Self {
            inner: Arc::new(HostInner {
                spec,
                power: Mutex::new(Power::Off),
                services: Mutex::default(),
                enabled: Mutex::new(enabled),
            }),
        };
        lan.register(&host.inner);
        let log = host.inner.log_folder();
        fs::create_dir_all(&log).map_err(file("create", log))?;
        host.boot(Init::Reaper)?;
        host.furnish()?;
        if host.inner.spec.init == Init::Reaper {
            host.start_all()?;
        } else {
            host.power_off()?;
            host.power_on()?;
        }
        Ok(host)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Another host of the same LAN, by its name.
    #[must_use]
    pub fn neighbour(&self, name: &str) -> Option<Self> {
        self.inner.spec.lan.named(name).map(|inner| Self { inner })
    }

    /// Its IPv4 address, unless it is [`Addressing::V6Only`].
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::new(10, 42, 0, self.inner.spec.index);
        (self.inner.spec.addressing != Addressing::V6Only).then_some(address)
    }

    /// Its IPv6 link-local address, unless it is [`Addressing::V4Only`].
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        // From its hardware address, as RFC 4291 appendix A has it.
        let index = u16::from(self.inner.spec.index);
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0000, 0x0aff, 0xfe2a, index);
        (self.inner.spec.addressing != Addressing::V4Only).then_some(address)
    }

    /// An address that another host of the LAN can give to ssh: the IPv4 one, or else the IPv6
    /// one with the scope that is right on every host.
    #[must_use]
    pub fn address(&self) -> String {
        match (self.ipv4(), self.ipv6()) {
            (Some(address), _) => address.to_string(),
            (None, Some(address)) => format!("{address}%eth0"),
            (None, None) => String::new(),
        }
    }

    /// A command to run there.
    pub fn command<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        Command::new(&self.inner, argv)
    }

    /// Runs a command to its end, whatever its status.
    ///
    /// # Errors
    ///
    /// As [`Command::run`].
    pub fn run<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Result<Output> {
        self.command(argv).run()
    }

    /// Runs a bash script to its end, whatever its status.
    ///
    /// # Errors
    ///
    /// As [`Command::run`].
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(["bash", "-c", script])
    }

    /// Runs a bash script that must succeed; gives its standard output, without the last newline.
    ///
    /// # Errors
    ///
    /// As [`Command::run`], and [`Error::Failed`].
    pub fn check(&self, script: &str) -> Result<String> {
        Ok(self.sh(script)?.ok()?.stdout.trim_end_matches('\n').to_owned())
    }

    /// Starts a bash script and leaves it running.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub fn spawn(&self, script: &str) -> Result<Running> {
        self.command(["bash", "-c", script]).spawn()
    }

    /// Opens a shell there for whoever runs this program, and waits for its end.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn shell(&self) -> Result<ExitStatus> {
        let mut command = self.inner.enter(&["bash", "-l"])?;
        if let Some(terminal) = std::env::var_os("TERM") {
            command.env("TERM", terminal);
        }
        command.env("NIX_REMOTE", "daemon").status().map_err(|source| Error::Spawn {
            host: self.name().to_owned(),
            command: "bash".to_owned(),
            source,
        })
    }

    /// Writes a file; folders are made.
    ///
    /// # Errors
    ///
    /// As [`Command::run`], and [`Error::Failed`].
    pub fn write(&self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<()> {
        let script = r#"mkdir -p "$(dirname "$1")" && rm -f "$1" && cat >"$1" && chmod "$2" "$1""#;
        let mode = format!("{mode:o}");
        let command = self.command(["sh", "-c", script, "write", path, &mode]).stdin(content);
        command.run()?.ok().map(drop)
    }

    /// Reads a text file.
    ///
    /// # Errors
    ///
    /// As [`Command::run`], and [`Error::Failed`].
    pub fn read(&self, path: &str) -> Result<String> {
        Ok(self.run(["cat", path])?.ok()?.stdout)
    }

    /// Copies a program of the machine into the host.
    ///
    /// # Errors
    ///
    /// The program cannot be read; as [`Host::write`].
    pub fn install(&self, program: &Path, path: &str) -> Result<()> {
        let content = fs::read(program).map_err(file("read", program))?;
        self.write(path, 0o755, content)
    }

    /// Adds a file or folder of the host to its store; gives the store path.
    ///
    /// # Errors
    ///
    /// As [`Command::run`], and [`Error::Failed`].
    pub fn add_to_store(&self, path: &str) -> Result<String> {
        let output = self.run(["nix-store", "--add", path])?.ok()?;
        Ok(output.stdout.trim().to_owned())
    }

    /// Pulls its network cable.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn cut_link(&self) -> Result<()> {
        self.inner.spec.lan.ip(&format!("link set {} down\n", self.inner.port()))
    }

    /// Plugs its network cable in again.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn restore_link(&self) -> Result<()> {
        self.inner.spec.lan.ip(&format!("link set {} up\n", self.inner.port()))
    }

    /// Kills everything that runs there, at once; keeps its disk. Waits until all is gone.
    ///
    /// # Errors
    ///
    /// Its end of the cable could not be removed.
    pub fn power_off(&self) -> Result<()> {
        cut_power(&self.inner)
    }

    /// Starts it again on its disk, with the services of its description and
    /// those enabled since.
    ///
    /// # Errors
    ///
    /// As [`HostSpec::start`].
    pub fn power_on(&self) -> Result<()> {
        let init = self.inner.spec.init;
        self.boot(init)?;
        match init {
            Init::Reaper => self.start_all(),
            Init::Systemd => self.wait_booted(),
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.init().is_ok()
    }

    /// Fills its disk to the last byte; see [`HostSpec::disk`], and make it small.
    ///
    /// # Errors
    ///
    /// The disk is not [`Disk::Memory`]; as [`Command::run`].
    pub fn fill_disk(&self) -> Result<()> {
        if self.inner.spec.disk == Disk::Real {
            let why = "its disk is the machine's and shall not be filled".to_owned();
            return Err(Error::Boot { host: self.name().to_owned(), why });
        }
        // Ends with "no space left", and that is the point.
        self.check("dd if=/dev/zero of=/var/tmp/ballast bs=1M 2>/dev/null || true").map(drop)
    }

    /// Undoes [`Host::fill_disk`].
    ///
    /// # Errors
    ///
    /// As [`Command::run`].
    pub fn free_disk(&self) -> Result<()> {
        self.check("rm -f /var/tmp/ballast").map(drop)
    }

    /// Waits until systemd has nothing left to start.
    fn wait_booted(&self) -> Result<()> {
        let state = || {
            let output = self.run(["systemctl", "is-system-running"]).ok()?;
            let state = output.stdout.trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(())
        };
        poll(START_TIMEOUT, state).ok_or_else(|| Error::Boot {
            host: self.name().to_owned(),
            why: format!("systemd did not come to the end of it\n{}", self.inner.logs()),
        })
    }

    /// Makes its namespaces and file systems, and plugs it in.
    fn boot(&self, init: Init) -> Result<()> {
        let HostInner { spec, .. } = &*self.inner;
        let cgroup = match init {
            Init::Reaper => PathBuf::new(),
            Init::Systemd => cgroup_of(&spec.lan.folder).join(&spec.name),
        };
        let root = spec.release.root()?;
        let place = spec.lan.folder.join("mnt").join(&spec.name);
        let disk = place.join("disk");
        let medium = match spec.disk {
            Disk::Memory(mib) => PathBuf::from(mib.to_string()),
            Disk::Real => spec.lan.folder.join("disk").join(format!("{}.ext4", spec.name)),
        };
        let errors = scratch(b"").map_err(file("make a memory file for", &disk))?;
        let copy = errors.try_clone().map_err(file("make a memory file for", &disk))?;
        let mut command = Outside::new("nsenter");
        command
            .args(["--mount", "--net", "--pid", "--target", &spec.lan.holder_pid.to_string()])
            .args(["--", "/bin/sh", "-c", BOOT, "lab-boot", "disk"])
            .arg(&spec.name)
            .args([&medium, &root, &disk, &place.join("root")])
            .args(spec.foreign.arguments())
            .arg(&cgroup)
            .env("LAB_BOOT", BOOT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(copy);
        let mut outside = Process::start(&spec.name, "boot", &mut command)?;
        let Some(init) = announced_pid(&mut outside) else {
            outside.kill();
            return Err(Error::Boot { host: spec.name.clone(), why: content(&errors) });
        };
        *self.inner.power() = Power::On { init, outside };
        self.plug_in(init)
    }

    /// Connects it to the bridge.
    fn plug_in(&self, init: Pid) -> Result<()> {
        let spec = &self.inner.spec;
        let port = self.inner.port();
        spec.lan.ip(&format!(
            "link add {port} type veth peer name eth0 address 02:00:0a:2a:00:{:02x} netns {init}\n\
             link set {port} master lan\n\
             link set {port} up\n",
            spec.index,
        ))?;
        let v6 = match spec.addressing {
            // Addresses are unique by construction: no second of detecting duplicates.
            Addressing::Dual | Addressing::V6Only => "echo 0 >$conf/accept_dad",
            Addressing::V4Only => "echo 1 >$conf/disable_ipv6",
        };
        let v4 = match self.ipv4() {
            Some(address) => format!("ip address add {address}/24 dev eth0"),
            None => ":".to_owned(),
        };
        self.check(&format!(
            "set -e; conf=/run/lab/proc/sys/net/ipv6/conf/eth0; {v6}; ip link set lo up; {v4}
             ip link set eth0 up"
        ))?;
        let up = || self.check("cat /sys/class/net/eth0/operstate").is_ok_and(|s| s == "up");
        poll(START_TIMEOUT, || up().then_some(())).ok_or_else(|| Error::Boot {
            host: self.name().to_owned(),
            why: "its network interface did not come up".to_owned(),
        })
    }

    /// Writes what makes it this host, on its first start.
    fn furnish(&self) -> Result<()> {
        let spec = &self.inner.spec;
        let nix_conf = [
            "build-users-group = nixbld",
            "experimental-features = nix-command",
            "substituters =",
            "trusted-users = root roost builder",
            "sandbox = true",
        ];
        let nix_conf: String = nix_conf
            .into_iter()
            .chain(spec.nix_conf.iter().map(String::as_str))
            .flat_map(|line| [line, "\n"])
            .collect();
        self.write("/etc/nix/nix.conf", 0o644, nix_conf)?;
        self.check(&format!(
            "set -e
             echo {name} >/etc/hostname
             printf '127.0.0.1 localhost\\n::1 localhost\\n127.0.1.1 {name}\\n' >/etc/hosts
             echo {name} | md5sum | cut -c1-32 >/etc/machine-id
             ssh-keygen -q -t ed25519 -N '' -C {name} -f /etc/ssh/ssh_host_ed25519_key",
            name = spec.name,
        ))?;
        spec.trees.iter().try_for_each(|tree| self.unpack(tree))?;
        for file in &spec.files {
            self.write(&file.path, file.mode, file.content.clone())?;
        }
        spec.installs.iter().try_for_each(|(program, path)| self.install(program, path))?;
        spec.scripts.iter().try_for_each(|script| self.check(script).map(drop))
    }

    /// Copies everything below a folder of the machine to the same place below `/`.
    fn unpack(&self, folder: &Path) -> Result<()> {
        let pack = Outside::new("tar").arg("-C").arg(folder).args(["-c", "."]).output();
        let archive = pack.map_err(file("pack", folder))?.stdout;
        let unpack = ["tar", "-C", "/", "--no-same-owner", "--no-overwrite-dir", "-x"];
        self.command(unpack).stdin(archive).run()?.ok().map(drop)
    }
}
