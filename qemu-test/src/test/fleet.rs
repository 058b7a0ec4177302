//! A workstation and emulated boards on one LAN, as people set them up.

use std::{fs, path::PathBuf, time::Duration};

use roost_lab::{
    Command, Host, Lan, Service,
    fixtures::{
        fleet::{self, Job},
        roost, trust,
    },
};
use serde_json::Value;

use super::report::Figure;
use crate::{
    Arch, Guest, GuestSpec, Image,
    error::{Error, Result, ensure, file},
};

/// For whatever takes a machine a moment, be it emulated and the machine under it busy.
pub(super) const SOON: Duration = Duration::from_secs(120);

/// How long a board may take to start and to be there, be it slow.
pub(super) const BOOT: Duration = Duration::from_secs(600);

/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long a build may take with all that it needs.
pub(super) const BUILD: Duration = Duration::from_secs(600);

/// Where the workstation has the sources of what is built.
pub(super) const SOURCES: &str = "/srv/graph";

/// The key by which root logs in to the boards, as their seeds say.
const KEY: &str = "/root/console";

/// The LAN's addresses, given out by the workstation.
const DHCP: Service = Service {
    name: "dhcp",
    argv: &["/usr/bin/busybox", "udhcpd", "-f", "/etc/udhcpd.conf"],
    env: &[],
    ready: roost_lab::Ready::Spawned,
};

/// Boards are named after their architecture; what they are is roost's business.
fn ssh_config() -> String {
    format!(
        "Host aarch64-* riscv64-*
  HostName %h.local
  User root
  IdentityFile {KEY}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 20
"
    )
}

const DHCP_CONFIG: &str = "interface eth0
start 10.42.0.200
end 10.42.0.250
lease_file /var/lib/udhcpd.leases
option subnet 255.255.255.0
";

/// A board's hardware address, by its number, and the address that it is given without looking first whether
/// anyone has it.
fn lease(index: u8) -> (String, String) {
    (format!("02:00:0a:2a:01:{index:02x}"), format!("10.42.0.{}", 200 + index))
}

/// What is built, by the compiler of the boards' images.
const GRAPH: [(&str, &str); 5] = [
    ("graph.nix", include_str!("../../graph/graph.nix")),
    ("include/work.h", include_str!("../../graph/include/work.h")),
    ("main.c", include_str!("../../graph/main.c")),
    ("primes.c", include_str!("../../graph/primes.c")),
    ("sha256.c", include_str!("../../graph/sha256.c")),
];

/// What a fleet of guests is made of.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    /// A board each.
    pub images: Vec<Image>,
    /// Start kernels without boot loaders.
    pub direct: bool,
    /// CPUs of each board.
    pub cpus: u32,
    /// Memory of each board in MiB.
    pub mem_mib: u32,
    /// Where consoles, journals and network traffic are kept.
    pub results: PathBuf,
}

impl FleetSpec {
    /// The same for another fleet, whose results are in a folder below.
    pub(super) fn below(&self, folder: &str) -> Self {
        Self { results: self.results.join(folder), ..self.clone() }
    }
}

/// A workstation, which holds the fleet's key, and boards.
pub struct Fleet {
    pub(super) lan: Lan,
    pub(super) ws: Host,
    pub(super) boards: Vec<Board>,
    pub(super) results: PathBuf,
}

/// A board of a fleet.
pub struct Board {
    pub(super) guest: Guest,
}

impl Board {
    pub(super) fn name(&self) -> &str {
        self.guest.name()
    }

    pub(super) fn arch(&self) -> Arch {
        self.guest.arch()
    }

    pub(super) fn system(&self) -> &'static str {
        self.arch().system()
    }
}

impl Fleet {
    /// Starts the workstation, makes a fleet, and flashes a disk for each board with a seed of its own. The
    /// boards are off.
    ///
    /// # Errors
    ///
    /// Something of it failed.
    pub fn new(spec: &FleetSpec) -> Result<Self> {
        let lan = Lan::new()?;
        let leases = (1..).zip(&spec.images).map(|(index, _)| lease(index));
        let leases: String =
            leases.map(|(mac, address)| format!("static_lease {mac} {address}\n")).collect();
        let mut ws = roost::workstation(lan.host("ws"), "")?
            .nix_conf("builders = @/run/roost/machines")
            .file("/etc/udhcpd.conf", 0o644, DHCP_CONFIG.to_owned() + &leases)
            .file("/var/lib/udhcpd.leases", 0o644, "");
        for (name, text) in GRAPH {
            ws = ws.file(&format!("{SOURCES}/{name}"), 0o644, text);
        }
        let ws = ws.start()?;
        ws.enable_service(DHCP)?;
        trust::found(&ws)?;
        ws.check(&format!("ssh-keygen -q -t ed25519 -N '' -f {KEY}"))?;
        ws.write("/root/.ssh/config", 0o600, ssh_config())?;
        ws.enable_service(Service::ROOST)?;
        let mut fleet = Self { lan, ws, boards: Vec::new(), results: spec.results.clone() };
        for (image, index) in spec.images.iter().zip(1..) {
            let guest = fleet.flash(spec, image, index)?;
            fleet.boards.push(Board { guest });
        }
        Ok(fleet)
    }

    /// Makes a disk as people make a card, with a seed of the workstation's.
    fn flash(&self, spec: &FleetSpec, image: &Image, index: u8) -> Result<Guest> {
        let name = format!("{}-{index}", image.arch);
        let seed = self.ws.check(&format!(
            "roost fleet token --hostname {name} --console-key {KEY}.pub 2>/dev/null"
        ))?;
        let disk = self.lan.folder().join(format!("{name}.disk"));
        image.flash(&roost::program()?, &disk, Some(&(seed + "\n")))?;
        let spec = GuestSpec {
            folder: spec.results.join(&name),
            name,
            arch: image.arch,
            start: image.start(spec.direct)?,
            disk,
            cpus: spec.cpus,
            mem_mib: spec.mem_mib,
            mac: lease(index).0,
        };
        Guest::new(&self.lan, spec)
    }

    /// Switches the boards on, and waits until they have enrolled themselves; gives how long each took.
    ///
    /// # Errors
    ///
    /// One did not.
    pub fn enrol(&mut self) -> Result<Vec<Figure>> {
        self.each(|desk, board| {
            board.guest.power_on()?;
            desk.wait_reach(board.name(), "up", BOOT)?;
            let took_s = board.guest.console()?.age().as_secs_f64();
            Ok(Figure::new(board.arch(), "power-on to enrolled", took_s, "s"))
        })
    }

    /// The workstation.
    #[must_use]
    pub fn workstation(&self) -> &Host {
        &self.ws
    }

    /// What is done on a workstation and with boards from several threads at once.
    pub(super) fn desk(&self) -> Desk {
        Desk { lan: self.lan.clone(), ws: self.ws.clone() }
    }

    /// Does something with each board at once; gives what came out, in the boards' order.
    ///
    /// # Errors
    ///
    /// The first board's that failed.
    pub(super) fn each<T: Send>(
        &mut self,
        what: impl Fn(&Desk, &mut Board) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let desk = self.desk();
        let (desk, what) = (&desk, &what);
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .boards
                .iter_mut()
                .map(|board| scope.spawn(move || what(desk, board)))
                .collect();
            let ended: Vec<Result<T>> = threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect();
            ended.into_iter().collect()
        })
    }

    /// Keeps what tells why something failed: the boards' journals, as far as they answer, and what the
    /// workstation's services said. Consoles and network traffic are kept in any case.
    pub fn keep_evidence(&mut self) {
        let kept = self.each(|desk, board| {
            let journal =
                desk.ssh(board.name(), "journalctl --boot --no-pager --output=short-precise");
            let text = journal.unwrap_or_else(|error| error.to_string());
            let path = board.guest.folder().join("journal.log");
            fs::write(&path, text).map_err(file("write", path))
        });
        let path = self.results.join("workstation.log");
        let written =
            kept.and_then(|_| fs::write(&path, self.lan.logs()).map_err(file("write", path)));
        if let Err(error) = written {
            eprintln!("roost-qemu: {error}");
        }
    }
}

/// The workstation, as it is used.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) lan: Lan,
    pub(super) ws: Host,
}

impl Desk {
    /// Runs a script as root on a board; gives what it said.
    ///
    /// # Errors
    ///
    /// The board does not let root in, or the script failed.
    pub(super) fn ssh(&self, board: &str, script: &str) -> Result<String> {
        let output = self.ws.command(["ssh", "-o", "BatchMode=yes", board, script]).timeout(BUILD);
        Ok(output.run()?.ok()?.stdout.trim_end().to_owned())
    }

    /// Waits until something that a command tells gives something; the machine's CPUs are needed for more than
    /// asking.
    ///
    /// # Errors
    ///
    /// It does not in time; what the workstation's services say is told.
    pub(super) fn wait_for<T>(
        &self,
        timeout: Duration,
        what: &str,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        Ok(self.lan.wait_for_every(LOOK, timeout, what, condition)?)
    }

    /// Waits until something that a command tells holds.
    ///
    /// # Errors
    ///
    /// As [`Desk::wait_for`].
    pub(super) fn wait_until(
        &self,
        timeout: Duration,
        what: &str,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        self.wait_for(timeout, what, || condition().then_some(()))
    }

    /// Waits until the workstation calls a board `up`, `away` or the like.
    ///
    /// # Errors
    ///
    /// Not in time.
    pub(super) fn wait_reach(&self, board: &str, reach: &str, timeout: Duration) -> Result<()> {
        let is = || fleet::shown(&self.ws, board).is_some_and(|it| it["reach"] == reach);
        self.wait_until(timeout, &format!("{board} is {reach}"), is)
    }

    /// `nix build` of an attribute of the graph for a system, which prints the outputs' paths.
    pub(super) fn nix_build(&self, attribute: &str, system: &str, salt: &str) -> Command {
        self.nix_build_with(attribute, system, salt, &[])
    }

    /// As [`Desk::nix_build`], with further options.
    pub(super) fn nix_build_with(
        &self,
        attribute: &str,
        system: &str,
        salt: &str,
        options: &[&str],
    ) -> Command {
        let file = format!("{SOURCES}/graph.nix");
        let words = ["nix", "build", "-L", "--no-link", "--print-out-paths", "--file", &file];
        let args = ["--argstr", "system", system, "--argstr", "salt", salt, attribute];
        let argv = words.into_iter().chain(args).chain(options.iter().copied());
        self.ws.command(argv).timeout(BUILD)
    }

    /// The newest job of that name and system that fits.
    pub(super) fn wait_job(
        &self,
        (name, system): (&str, &str),
        what: &str,
        fits: impl Fn(&Job) -> bool,
    ) -> Result<Job> {
        let found = || {
            let jobs = fleet::jobs(&self.ws).ok()?;
            jobs.into_iter().find(|job| job.name == name && job.system == system && fits(job))
        };
        self.wait_for(BUILD, &format!("{name} for {system} is {what}"), found)
    }

    /// What `roost status --json` of the workstation shows of a board.
    ///
    /// # Errors
    ///
    /// It shows nothing.
    pub(super) fn shown(&self, board: &str) -> Result<Value> {
        let shown = fleet::shown(&self.ws, board);
        shown.ok_or_else(|| Error::Wrong(format!("roost status does not show {board}")))
    }
}

/// Fails unless an output of the workstation's store has a content.
///
/// # Errors
///
/// It has another one.
pub(super) fn ensure_content(ws: &Host, path: &str, content: &str) -> Result<()> {
    let found = ws.read(path)?;
    ensure(found == content, || format!("{path} is to hold\n{content}and holds\n{found}"))
}
