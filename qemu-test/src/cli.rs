//! The commands.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
#[cfg(test)]
use clap::FromArgMatches;
use indicatif::{ProgressBar, ProgressStyle};
use roost_lab::fixtures::roost;
use roost_qemu::{
    Arch, Disk, Error, Image, Machine, Result, Start, boot, firmware,
    test::{self, Audience, Fleet, FleetSpec, Options, Ran, Report, STEPS, Step},
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
    /// A board of this architecture; may be given for each [default: one of each]
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
    /// Where consoles, journals and network traffic are put; those of an earlier run are removed
    #[arg(long, value_name = "FOLDER", default_value = "target/qemu/results")]
    results: PathBuf,
}

impl Boards {
    fn archs(&self) -> Vec<Arch> {
        if self.arch.is_empty() { Arch::ALL.to_vec() } else { self.arch.clone() }
    }

    /// Makes what has to be made for them.
    fn spec(&self) -> Result<FleetSpec> {
        let archs = self.archs();
        if archs.iter().collect::<BTreeSet<_>>().len() < archs.len() {
            let why = "two boards of one architecture: a build could be on either of them";
            return Err(Error::Wrong(why.to_owned()));
        }
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

/// The file by which a folder is known as one for results.
const MARK: &str = ".roost-qemu";

/// Makes a folder for results that is empty. One that was not made here is left alone.
fn clear(folder: &Path) -> Result<()> {
    let failed = |doing| {
        let path = folder.to_owned();
        move |source| Error::File { doing, path, source }
    };
    let mark = folder.join(MARK);
    if mark.exists() {
        fs::remove_dir_all(folder).map_err(failed("remove"))?;
    }
    fs::create_dir_all(folder).map_err(failed("create"))?;
    if fs::read_dir(folder).map_err(failed("list"))?.next().is_some() {
        return Err(Error::Wrong(format!(
            "{} is not empty, and nothing here has made it; name another folder for the results",
            folder.display()
        )));
    }
    fs::write(mark, "").map_err(failed("write to"))
}

#[derive(Args)]
#[command(
    after_help = "In the results' folder are report.json, junit.xml, and for each board its console and its network
traffic (pcap); its journal, too, if something failed.

Examples:
  roost-qemu test                                both architectures, with images made of Debian's packages
  roost-qemu test --arch riscv64
  roost-qemu test --arch riscv64 --image roost-0.1.0-qemu-riscv64-virt.img.zst --skip graph,power-cut,native,update
  roost-qemu test --only enrol --repeat 10       ten boots in a row"
)]
pub(crate) struct Test {
    #[command(flatten)]
    boards: Boards,
    /// Run these steps only; those that go on from others take enrol, the first one, too
    #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = step)]
    only: Vec<&'static Step>,
    /// Leave these steps out; graph, power-cut, native and update are for Debian's guests
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
        let archs = self.boards.archs();
        let chosen = |step: &&Step| {
            step.needs.iter().all(|arch| archs.contains(arch))
                && (self.only.is_empty() || named(&self.only, step))
                && !named(&self.skip, step)
        };
        let mut steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
        let first = &STEPS[0];
        if steps.iter().any(|step| step.is_in_order()) && !named(&steps, first) {
            steps.insert(0, first);
        }
        steps
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
        let (steps, mut report) = (self.steps(), Report::default());
        for _ in 0..self.repeat {
            let teller = &mut Teller::new(self.json);
            report.steps.extend(test::run(&spec, &steps, &options, teller)?.steps);
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
        tell(self.json, &format!("\nroost-qemu: {passed} passed, {failed} failed"));
        Ok(report.passed())
    }
}

/// Tells people, while standard output may be for programs.
fn tell(aside: bool, text: &str) {
    if aside {
        eprintln!("{text}");
    } else {
        println!("{text}");
        let _ = io::stdout().flush();
    }
}

/// Tells how the steps ended, and on a terminal what is going on.
struct Teller {
    aside: bool,
    going_on: ProgressBar,
}

impl Teller {
    fn new(aside: bool) -> Self {
        Self { aside, going_on: ProgressBar::hidden() }
    }
}

impl Audience for Teller {
    fn begins(&mut self, step: &Step) {
        self.going_on.finish_and_clear();
        // It shows itself on a terminal only.
        self.going_on = ProgressBar::new_spinner().with_message(step.name);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            self.going_on.set_style(style);
        }
        self.going_on.enable_steady_tick(Duration::from_secs(1));
    }

    fn ended(&mut self, ran: &Ran) {
        self.going_on.finish_and_clear();
        tell(self.aside, &ran.to_string());
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
        eprintln!(
            "roost-qemu: the boards are starting; consoles are in {}",
            spec.results.display()
        );
        if let Err(error) = fleet.enrol() {
            fleet.keep_evidence();
            return Err(error);
        }
        Ok(fleet.workstation().shell()?.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_an_earlier_run_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (results, kept) = (folder.path().join("results"), folder.path().join("kept"));
        clear(&results).unwrap();
        fs::write(results.join("junit.xml"), "").unwrap();
        clear(&results).unwrap();
        assert!(!results.join("junit.xml").exists());
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("thesis.tex"), "").unwrap();
        let error = clear(&kept).unwrap_err().to_string();
        assert!(error.contains("is not empty") && kept.join("thesis.tex").exists(), "{error}");
    }

    #[test]
    fn steps_that_go_on_from_others_take_the_first_one_along() {
        let names = |args: &[&str]| -> Vec<&str> {
            let argv = ["test"].iter().chain(args);
            let command = Test::augment_args(clap::Command::new("test"));
            let matches = command.try_get_matches_from(argv).unwrap();
            let test = Test::from_arg_matches(&matches).unwrap();
            test.steps().iter().map(|step| step.name).collect()
        };
        assert_eq!(names(&[]).len(), STEPS.len());
        assert_eq!(names(&["--only", "link,graph"]), ["enrol", "graph", "link"]);
        assert_eq!(names(&["--only", "idle"]), ["idle"]);
        let some = names(&["--skip", "graph,power-cut,native,update"]);
        assert_eq!(some, ["enrol", "grow", "link", "drain", "idle"]);
        let one_kind = names(&["--arch", "riscv64"]);
        assert_eq!(one_kind.len(), STEPS.len() - 1, "{one_kind:?}");
    }
}
