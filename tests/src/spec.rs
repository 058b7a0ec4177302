//! What a host shall be, before it starts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Host, Release, Service, error::Result, lan::LanInner};

/// Which addresses a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// An IPv4 address and an IPv6 link-local one.
    #[default]
    Dual,
    /// Only an IPv4 address.
    V4Only,
    /// Only an IPv6 link-local address, which needs a scope to be used.
    V6Only,
}

/// Where a host's disk is: its changes to the root, and its Nix store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// In memory, of this size in MiB. fsync costs nothing there.
    Memory(u32),
    /// On the machine's disk, for measurements: an ext4 of its own, as a board has one.
    Real,
}

/// How a host runs programs of another architecture than the machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Not at all.
    #[default]
    Never,
    /// By qemu-user, which binfmt_misc shows: architectures as QEMU names them.
    Emulated(Vec<String>),
    /// As if its CPU did it.
    Native(Vec<String>),
}

impl Foreign {
    /// What `boot.sh` is told of it.
    pub(crate) fn arguments(&self) -> [String; 2] {
        let (how, architectures) = match self {
            Self::Never => ("", &[][..]),
            Self::Emulated(architectures) => ("emulates", &architectures[..]),
            Self::Native(architectures) => ("runs", &architectures[..]),
        };
        [how.to_owned(), architectures.join(" ")]
    }

    /// Whether entries of binfmt_misc have to be kept apart from the machine's.
    pub(crate) fn needs_user_namespace(&self) -> bool {
        *self != Self::Never
    }
}

/// Whether hosts of this machine can run programs of other architectures: from Linux 6.7 on, which
/// keeps binfmt_misc apart for each user namespace.
#[must_use]
pub fn runs_foreign_programs() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 7)
}

/// The architectures of systems: `riscv64` of `riscv64-linux`.
fn architectures<const N: usize>(systems: [&str; N]) -> Vec<String> {
    systems.iter().map(|system| system.trim_end_matches("-linux").to_owned()).collect()
}

/// What a host's first process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Init {
    /// One that only reaps: the lab itself starts the host's services.
    #[default]
    Reaper,
    /// systemd, which starts the units of the host.
    Systemd,
}

/// A file of a host.
#[derive(Clone, Debug)]
pub(crate) struct FileSpec {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// What a host shall be. Made by [`crate::Lan::host`].
#[must_use]
pub struct HostSpec {
    pub(crate) lan: Arc<LanInner>,
    pub(crate) name: String,
    /// The last byte of its addresses.
    pub(crate) index: u8,
    pub(crate) addressing: Addressing,
    pub(crate) release: Release,
    pub(crate) disk: Disk,
    pub(crate) services: Vec<Service>,
    pub(crate) foreign: Foreign,
    pub(crate) nix_conf: Vec<String>,
    pub(crate) files: Vec<FileSpec>,
    pub(crate) installs: Vec<(PathBuf, String)>,
    pub(crate) trees: Vec<PathBuf>,
    pub(crate) scripts: Vec<String>,
    pub(crate) init: Init,
}

impl HostSpec {
    pub(crate) fn new(lan: &Arc<LanInner>, name: &str, index: u8) -> Self {
        Self {
            lan: Arc::clone(lan),
            name: name.to_owned(),
            index,
            addressing: Addressing::default(),
            release: Release::default(),
            disk: Disk::Memory(4096),
            services: Service::BASE.to_vec(),
            foreign: Foreign::default(),
            nix_conf: Vec::new(),
            files: Vec::new(),
            installs: Vec::new(),
            trees: Vec::new(),
            scripts: Vec::new(),
            init: Init::default(),
        }
    }

    /// Which addresses it has; both by default.
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// Which Debian and Nix it has; [`Release::Trixie`] by default.
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Where its disk is; 4 GiB of memory, taken as it fills, by default.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// What it runs, in order; [`Service::BASE`] by default.
    pub fn services(mut self, services: &[Service]) -> Self {
        self.services = services.to_vec();
        self
    }

    /// The system its Nix builds for, such as `aarch64-linux`: plays another architecture.
    pub fn system(self, system: &str) -> Self {
        // What the machine's real CPU runs besides would be offered, too.
        self.nix_conf(&format!("system = {system}")).nix_conf("extra-platforms =")
    }

    /// Emulates further systems, `riscv64-linux` or `aarch64-linux`, by qemu-user and binfmt_misc,
    /// set up as Debian does it, and its Nix builds for them. Its user namespace is then its own;
    /// all ids are the machine's. To be called after [`HostSpec::system`].
    pub fn emulates<const N: usize>(mut self, systems: [&str; N]) -> Self {
        self.foreign = Foreign::Emulated(architectures(systems));
        self.nix_conf(&format!("extra-platforms = {}", systems.join(" ")))
    }

    /// Plays hardware that runs programs of these systems: qemu-user does it, and nothing that can
    /// be seen in the host says so. Instead of [`HostSpec::emulates`].
    pub fn runs<const N: usize>(mut self, systems: [&str; N]) -> Self {
        self.foreign = Foreign::Native(architectures(systems));
        self
    }

    /// How many builds its Nix runs at once.
    pub fn max_jobs(self, max_jobs: u32) -> Self {
        self.nix_conf(&format!("max-jobs = {max_jobs}"))
    }

    /// A further line of its nix.conf; the last one about a setting counts.
    pub fn nix_conf(mut self, line: &str) -> Self {
        self.nix_conf.push(line.to_owned());
        self
    }

    /// A file, written before its services first start. Folders are made.
    pub fn file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.push(FileSpec { path: path.to_owned(), mode, content: content.into() });
        self
    }

    /// A program of the machine, copied there before its services first start.
    pub fn install(mut self, program: &Path, path: &str) -> Self {
        self.installs.push((program.to_owned(), path.to_owned()));
        self
    }

    /// Everything below a folder of the machine, copied to the same place below `/`, before its other
    /// files are written.
    pub fn tree(mut self, folder: &Path) -> Self {
        self.trees.push(folder.to_owned());
        self
    }

    /// A bash script, run once when all files are there and nothing is started yet.
    pub fn prepare(mut self, script: &str) -> Self {
        self.scripts.push(script.to_owned());
        self
    }

    /// Its init is systemd: what runs there are Debian's own units and those that the host's files
    /// bring along, and none of [`HostSpec::services`]. Needs a cgroup hierarchy of version 2, and
    /// [`Release::Trixie`].
    pub fn systemd(mut self) -> Self {
        self.init = Init::Systemd;
        self.services = Vec::new();
        self
    }

    /// Starts it: about half a second, some seconds with systemd.
    ///
    /// # Errors
    ///
    /// It could not be started, or one of its services did not become ready.
    pub fn start(self) -> Result<Host> {
        Host::start(self)
    }
}
