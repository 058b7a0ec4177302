//! The commands.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
use roost_lab::fixtures::roost;
use roost_qemu::{
    Arch, Disk, Error, Image, Machine, Result, Start, boot, firmware,
    test::{self, Fleet, FleetSpec, Options, Report, STEPS, Step},
};

/// What is booted.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// An image, which is started as a board starts it: by UEFI, or by OpenSBI and U-Boot
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// A kernel
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Examples:
  roost-qemu boot --arch riscv64 --image image.img --wait-for 'login: '
  roost-qemu boot --arch aarch64 --kernel Image --initrd initrd --append 'panic=-1' --wait-for 'Run /init'")]
pub(crate) struct Boot {
    /// The machine's architecture
    #[arg(long, value_enum)]
    arch: Arch,
    #[command(flatten)]
    what: What,
    /// What starts the image, instead of Debian's UEFI (aarch64) or U-Boot (riscv64) for QEMU
    #[arg(long, requires = "image", value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The kernel's initial RAM disk
    #[arg(long, requires = "kernel", value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// A raw disk image for the kernel; it is not changed, and neither is --image
    #[arg(long, requires = "kernel", value_name = "FILE")]
    disk: Option<PathBuf>,
    /// The kernel's command line; the console is added
    #[arg(long, requires = "kernel", default_value = "")]
    append: String,
    /// CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    mem_mib: u32,
    /// What the console has to say
    #[arg(long, value_name = "TEXT")]
    wait_for: String,
    /// How long it may take
    #[arg(long, default_value_t = 300)]
    timeout_s: u64,
}

impl Boot {
    fn machine(&self) -> Result<Machine> {
        let absolute = |path: &Path| {
            fs::canonicalize(path).map_err(|source| Error::File {
                doing: "find",
                path: path.to_owned(),
                source,
            })
        };
        let start = match &self.what.kernel {
            None => match &self.firmware {
                Some(firmware) => Start::Firmware(absolute(firmware)?),
                None => Start::Firmware(firmware(self.arch)?),
            },
            Some(kernel) => Start::Kernel {
                kernel: absolute(kernel)?,
                initrd: self.initrd.as_deref().map(absolute).transpose()?,
                append: self.append.clone(),
            },
        };
        let disk = self.what.image.as_deref().or(self.disk.as_deref());
        Ok(Machine {
            cpus: self.cpus,
            mem_mib: self.mem_mib,
            disk: disk.map(absolute).transpose()?.map(Disk::Snapshot),
            once: true,
            accelerator: roost_qemu::accelerator(self.arch),
            ..Machine::new(self.arch, start)
        })
    }

    /// True if it said what was waited for.
    pub(crate) fn run(&self) -> Result<bool> {
        let timeout = Duration::from_secs(self.timeout_s);
        match boot(&self.machine()?, &self.wait_for, timeout, io::stdout()) {
            Ok(after) => {
                eprintln!(
                    "roost-qemu: said \"{}\" after {:.1} s",
                    self.wait_for,
                    after.as_secs_f64()
                );
                Ok(true)
            }
            Err(error @ Error::Console { .. }) => {
                eprintln!("roost-qemu: {error}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Which boards there are.
#[derive(Args)]
struct Boards {
    /// A board of this architecture; may be given more than once [default: one of each]
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// The board's image, instead of one that is made of Debian's packages; once for each --arch, in the
    /// same order
    #[arg(long, requires = "arch", value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Start the kernel without the boot loader
    #[arg(long, conflicts_with = "image")]
    direct: bool,
    /// CPUs of each board
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory of each board in MiB
    #[arg(long, default_value_t = 1024)]
    mem_mib: u32,
    /// Where consoles, journals and network traffic are put; what is there is removed
    #[arg(long, value_name = "FOLDER", default_value = "target/qemu/results")]
    results: PathBuf,
}

impl Boards {
    /// Makes what has to be made for them.
    fn spec(&self) -> Result<FleetSpec> {
        let archs = if self.arch.is_empty() { Arch::ALL.to_vec() } else { self.arch.clone() };
        install_tools(&archs)?;
        let images = if self.image.is_empty() {
            Image::build(&archs, &roost::program()?)?
        } else if self.image.len() == archs.len() {
            let both = archs.iter().zip(&self.image);
            both.map(|(arch, path)| Image::of(*arch, path)).collect::<Result<_>>()?
        } else {
            let (images, archs) = (self.image.len(), archs.len());
            return Err(Error::Wrong(format!(
                "there are {images} --image and {archs} --arch; give one image for each architecture"
            )));
        };
        clear(&self.results)?;
        Ok(FleetSpec {
            images,
            direct: self.direct,
            cpus: self.cpus,
            mem_mib: self.mem_mib,
            results: self.results.clone(),
        })
    }
}

/// Installs QEMU and the like where they are missing.
fn install_tools(archs: &[Arch]) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/need.sh");
    let mut command = Command::new(&script);
    command.arg("nbdkit");
    for arch in archs {
        command.arg(format!("{}={}", arch.program(), arch.debian_package()));
        if !arch.firmware().exists() {
            command.arg(format!("firmware-of-{arch}={}", arch.firmware_package()));
        }
    }
    // What it says is for people, and standard output may be for programs.
    command.stdout(io::stderr());
    let failed = |output| Error::Command { command: "scripts/need.sh".to_owned(), output };
    let status = command.status().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed("the reason is above".to_owned())) }
}

/// Makes a folder that is empty.
fn clear(folder: &Path) -> Result<()> {
    let failed = |doing| {
        let path = folder.to_owned();
        move |source| Error::File { doing, path, source }
    };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove")(error));
        }
        _ => {}
    }
    fs::create_dir_all(folder).map_err(failed("create"))
}

#[derive(Args)]
#[command(
    after_help = "In the results' folder are report.json, junit.xml, and for each board its console and its network
traffic (pcap); its journal, too, if something failed.

Examples:
  roost-qemu test                                both architectures, with images made of Debian's packages
  roost-qemu test --arch riscv64
  roost-qemu test --arch riscv64 --image roost-0.1.0-qemu-riscv64-virt.img.zst --skip graph,update
  roost-qemu test --only enrol --repeat 10       ten boots in a row"
)]
pub(crate) struct Test {
    #[command(flatten)]
    boards: Boards,
    /// Run these steps only; the first one, enrol, always
    #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = step)]
    only: Vec<&'static Step>,
    /// Leave these steps out; graph and update need a C compiler in the sandbox of the boards' Nix
    #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = step)]
    skip: Vec<&'static Step>,
    /// Do all of it so many times, each with a new fleet and new disks
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u32,
    /// How long idle boards are watched
    #[arg(long, default_value_t = 300)]
    idle_s: u32,
    /// List the steps
    #[arg(long)]
    list: bool,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

fn step(name: &str) -> Result<&'static Step, String> {
    let found = STEPS.iter().find(|step| step.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        format!("the steps are {}", names.join(", "))
    })
}

impl Test {
    fn steps(&self) -> Vec<&'static Step> {
        let named = |list: &[&Step], step: &Step| list.iter().any(|it| it.name == step.name);
        let chosen = |step: &&Step| {
            step.name == STEPS[0].name
                || (self.only.is_empty() || named(&self.only, step)) && !named(&self.skip, step)
        };
        STEPS.iter().filter(chosen).collect()
    }

    /// True if all of it passed.
    pub(crate) fn run(&self) -> Result<bool> {
        if self.list {
            for step in STEPS {
                println!("{:10}{}", step.name, step.shows);
            }
            return Ok(true);
        }
        let spec = self.boards.spec()?;
        let options = Options { idle: Duration::from_secs(self.idle_s.into()) };
        let mut report = Report::default();
        for _ in 0..self.repeat {
            self.run_once(&spec, &options, &mut report)?;
        }
        let results = &self.boards.results;
        report.write_junit(&results.join("junit.xml"))?;
        let (json, text) = (results.join("report.json"), report.json());
        fs::write(&json, &text).map_err(|source| Error::File {
            doing: "write",
            path: json,
            source,
        })?;
        let (passed, failed) = report.counts();
        if self.json {
            println!("{text}");
        }
        if !report.passed() {
            eprintln!("roost-qemu: what there is to look at is in {}", results.display());
        }
        self.tell(&format!("\nroost-qemu: {passed} passed, {failed} failed"));
        Ok(report.passed())
    }

    fn run_once(&self, spec: &FleetSpec, options: &Options, report: &mut Report) -> Result<()> {
        let mut fleet = Fleet::new(spec)?;
        let ran = test::run(&mut fleet, &self.steps(), options, |ran| self.tell(&ran.to_string()));
        if !ran.passed() {
            fleet.keep_evidence();
        }
        report.steps.extend(ran.steps);
        Ok(())
    }

    /// Tells people, while standard output may be for programs.
    fn tell(&self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
            let _ = io::stdout().flush();
        }
    }
}

#[derive(Args)]
#[command(
    after_help = "Root on the workstation logs in to a board by its name: ssh aarch64-1. The boards and the LAN are gone when
the shell ends."
)]
pub(crate) struct Shell {
    #[command(flatten)]
    boards: Boards,
}

impl Shell {
    /// True if the shell ended well.
    pub(crate) fn run(&self) -> Result<bool> {
        let spec = self.boards.spec()?;
        let mut fleet = Fleet::new(&spec)?;
        let enrol = [&STEPS[0]];
        let options = Options { idle: Duration::ZERO };
        eprintln!(
            "roost-qemu: the boards are starting; consoles are in {}",
            spec.results.display()
        );
        let report = test::run(&mut fleet, &enrol, &options, |ran| eprintln!("{ran}"));
        if !report.passed() {
            fleet.keep_evidence();
            return Ok(false);
        }
        Ok(fleet.workstation().shell()?.success())
    }
}
