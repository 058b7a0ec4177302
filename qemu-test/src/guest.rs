//! A guest: a board that is emulated, with a disk that outlives its power, and a cable.

use std::{
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use roost_lab::{Beside, Lan, Streams, poll};

use crate::{
    Accelerator, Arch, Card, Console, Disk, Machine, Qmp, Start,
    error::{Error, Result, file},
};

/// How long the server of a disk may take to be there.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);

/// The socket of a guest's disk, in its folder.
const DISK_SOCKET: &str = "disk.sock";

/// A guest of a LAN. Dropping it ends it.
pub struct Guest {
    lan: Lan,
    name: String,
    arch: Arch,
    disk: PathBuf,
    machine: Machine,
    /// Where its console and its network traffic are kept.
    folder: PathBuf,
    power: Option<Power>,
}

/// What runs while a guest is on. In this order they are dropped: the disk is gone before QEMU could have
/// it keep what the machine did not ask it to, and the console ends when QEMU has.
struct Power {
    disk: Beside,
    qemu: Beside,
    qmp: Qmp,
    console: Console,
}

/// What a guest is made of.
pub struct GuestSpec {
    /// What it is called, and its cable: at most 15 bytes.
    pub name: String,
    /// Its architecture.
    pub arch: Arch,
    /// What it starts.
    pub start: Start,
    /// Its disk, a raw image that is written to.
    pub disk: PathBuf,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub mem_mib: u32,
    /// Its hardware address, unique in its LAN.
    pub mac: String,
    /// Where its console and its network traffic are kept.
    pub folder: PathBuf,
}

impl Guest {
    /// Plugs a guest into a LAN; it is off.
    ///
    /// # Errors
    ///
    /// The LAN has a cable of that name; its folder cannot be made.
    pub fn new(lan: &Lan, spec: GuestSpec) -> Result<Self> {
        fs::create_dir_all(&spec.folder).map_err(file("create", &spec.folder))?;
        let folder = fs::canonicalize(&spec.folder).map_err(file("find", &spec.folder))?;
        lan.tap(&spec.name)?;
        let machine = Machine {
            accelerator: accelerator(spec.arch),
            cpus: spec.cpus,
            mem_mib: spec.mem_mib,
            disk: Some(Disk::Nbd(DISK_SOCKET.into())),
            card: Some(Card {
                tap: spec.name.clone(),
                mac: spec.mac,
                capture: folder.join("network.pcap"),
            }),
            ..Machine::new(spec.arch, spec.start)
        };
        Ok(Self {
            lan: lan.clone(),
            name: spec.name,
            arch: spec.arch,
            disk: spec.disk,
            machine,
            folder,
            power: None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Where its console and its network traffic are kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Switches it on; it starts from its disk.
    ///
    /// # Errors
    ///
    /// QEMU or the disk's server could not be started.
    pub fn power_on(&mut self) -> Result<()> {
        self.power_off();
        let disk = self.serve_disk()?;
        // What was captured so far stays: QEMU would write over it.
        if let Some(card) = &mut self.machine.card {
            card.capture = unused(&self.folder, "network", "pcap");
        }
        let started = start(Some(&self.lan), &self.folder, &self.machine, std::io::sink())
            .map_err(|error| error.of(&self.name, &self.folder))?;
        let Started { qemu, qmp, console } = started;
        self.power = Some(Power { disk, qemu, qmp, console });
        Ok(())
    }

    /// Cuts its power: what its disk was not told to keep is lost.
    pub fn power_off(&mut self) {
        if let Some(mut power) = self.power.take() {
            power.disk.kill();
            power.qemu.kill();
        }
    }

    /// Waits so long; true if it has ended before, or is off.
    pub fn wait_for_end(&mut self, timeout: Duration) -> bool {
        self.power.as_mut().is_none_or(|power| power.qemu.wait(timeout).is_some())
    }

    /// Its console.
    ///
    /// # Errors
    ///
    /// [`Error::Off`].
    pub fn console(&self) -> Result<&Console> {
        self.power.as_ref().map(|power| &power.console).ok_or_else(|| self.off())
    }

    /// Pulls its network cable, or plugs it in.
    ///
    /// # Errors
    ///
    /// It is off, or QEMU refused.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp(|qmp| qmp.set_link(up))
    }

    /// Bytes that it has written to its disk since it was switched on.
    ///
    /// # Errors
    ///
    /// It is off, or QEMU refused.
    pub fn written_bytes(&mut self) -> Result<u64> {
        self.qmp(Qmp::written_bytes)
    }

    fn qmp<T>(
        &mut self,
        what: impl FnOnce(&mut Qmp) -> std::result::Result<T, crate::QmpError>,
    ) -> Result<T> {
        let off = self.off();
        let power = self.power.as_mut().ok_or(off)?;
        what(&mut power.qmp).map_err(|source| Error::Qemu {
            guest: self.name.clone(),
            source,
            said: said(&self.folder),
        })
    }

    fn off(&self) -> Error {
        Error::Off { guest: self.name.clone() }
    }

    /// Starts what serves its disk: a cache that hands on what the machine asks it to keep, and loses the
    /// rest with its process (nbdkit-cache-filter(1)).
    fn serve_disk(&self) -> Result<Beside> {
        let socket = self.folder.join(DISK_SOCKET);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("remove", socket)(error));
            }
            _ => {}
        }
        let disk = self.disk.to_string_lossy();
        let argv = ["nbdkit", "--foreground", "--unix", DISK_SOCKET, "--filter=cache", "file"];
        let options = [disk.as_ref(), "cache=writeback", "cache-on-read=false"];
        let argv: Vec<String> = argv.into_iter().chain(options).map(str::to_owned).collect();
        let (null, log) = (null()?, log(&self.folder)?);
        let streams = Streams { stdin: null.0, stdout: null.1, stderr: log };
        let mut server = Beside::start(Some(&self.lan), &self.folder, &argv, streams)?;
        poll(DISK_TIMEOUT, || {
            (socket.exists() || server.wait(Duration::ZERO).is_some()).then_some(())
        });
        if socket.exists() {
            return Ok(server);
        }
        let command = format!("nbdkit (Debian package nbdkit) for {disk}");
        Err(Error::Command { command, output: said(&self.folder) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// A running QEMU.
pub(crate) struct Started {
    pub(crate) qemu: Beside,
    pub(crate) qmp: Qmp,
    pub(crate) console: Console,
}

/// Why it does not run.
pub(crate) enum StartError {
    Other(Error),
    Qmp(crate::QmpError),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl StartError {
    /// The error of a machine of that name, whose complaints are in that folder.
    pub(crate) fn of(self, guest: &str, folder: &Path) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Qmp(source) => {
                Error::Qemu { guest: guest.to_owned(), source, said: said(folder) }
            }
        }
    }
}

/// Starts QEMU. Its console goes to `console.log` in the folder, its complaints to `qemu.log`.
pub(crate) fn start(
    lan: Option<&Lan>,
    folder: &Path,
    machine: &Machine,
    echo: impl Write + Send + 'static,
) -> Result<Started, StartError> {
    let program = machine.arch.program();
    let argv: Vec<String> = std::iter::once(program.to_owned())
        .chain(machine.args().iter().map(|arg| arg.to_string_lossy().into_owned()))
        .collect();
    let pair = || UnixStream::pair().map_err(file("make sockets for", program));
    let (console, its_console) = pair()?;
    let (qmp, its_qmp) = pair()?;
    let streams =
        Streams { stdin: its_console.into(), stdout: its_qmp.into(), stderr: log(folder)? };
    let qemu = Beside::start(lan, folder, &argv, streams).map_err(Error::from)?;
    let log = folder.join("console.log");
    let console = Console::read(console, &log, echo).map_err(file("write", log))?;
    let qmp = Qmp::new(qmp).map_err(StartError::Qmp)?;
    Ok(Started { qemu, qmp, console })
}

/// Boots a machine of its own, on no LAN, copies its console to `echo`, and ends it as soon as it has said a text;
/// gives when that was, since power-on.
///
/// # Errors
///
/// It did not start, or did not say it.
pub fn boot(
    machine: &Machine,
    wait_for: &str,
    timeout: Duration,
    echo: impl Write + Send + 'static,
) -> Result<Duration> {
    let name = "the machine";
    let folder = tempfile::tempdir().map_err(file("make a folder in", std::env::temp_dir()))?;
    let started = start(None, folder.path(), machine, echo);
    let Started { mut qemu, console, .. } =
        started.map_err(|error| error.of(name, folder.path()))?;
    let said = console.wait_for(wait_for, timeout);
    qemu.kill();
    said.map_err(|source| Error::Console { guest: name.to_owned(), source })
}

/// KVM where this machine has it and is of the architecture.
#[must_use]
pub fn accelerator(arch: Arch) -> Accelerator {
    let usable = || fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if arch.is_ours() && usable() { Accelerator::Kvm } else { Accelerator::Tcg }
}

/// Where the complaints of a guest's programs go.
fn log(folder: &Path) -> Result<OwnedFd> {
    let path = folder.join("qemu.log");
    let opened = fs::OpenOptions::new().create(true).append(true).open(&path);
    opened.map(OwnedFd::from).map_err(file("open", path))
}

/// Complaints so far.
fn said(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    text.trim_end().to_owned()
}

fn null() -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new("/dev/null");
    let open = || fs::OpenOptions::new().read(true).write(true).open(path);
    let both = open().and_then(|input| Ok((input.into(), open()?.into())));
    both.map_err(file("open", path))
}

/// A file that is not there yet: `network.pcap`, `network-2.pcap`.
fn unused(folder: &Path, stem: &str, extension: &str) -> PathBuf {
    let names = std::iter::once(format!("{stem}.{extension}"))
        .chain((2..).map(|number| format!("{stem}-{number}.{extension}")));
    names.map(|name| folder.join(name)).find(|path| !path.exists()).unwrap_or_default()
}
