//! Images and the disks that are made of them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Arch, Start,
    error::{Error, Result, file},
};

/// The size of a guest's disk in MiB: more than any image, which then has something to grow into.
pub const DISK_MIB: u64 = 4096;

/// An image, and what starts it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its architecture.
    pub arch: Arch,
    /// As it is flashed: raw, or packed with zstd.
    pub file: PathBuf,
    /// UEFI or U-Boot for QEMU's machine.
    pub firmware: PathBuf,
    /// The kernel and what goes with it, if they are known apart from the image.
    pub direct: Option<Start>,
}

impl Image {
    /// An image of the project that was made elsewhere.
    ///
    /// # Errors
    ///
    /// It is not there; Debian's firmware is not installed.
    pub fn of(arch: Arch, path: &Path) -> Result<Self> {
        let path = fs::canonicalize(path).map_err(file("find", path))?;
        Ok(Self { arch, file: path, firmware: firmware(arch)?, direct: None })
    }

    /// Debian images with roost compiled for them, made where that is necessary: minutes for the first
    /// time, then seconds.
    ///
    /// # Errors
    ///
    /// A script of ours failed, with what it said.
    pub fn build(archs: &[Arch], pages_by: &Path) -> Result<Vec<Self>> {
        let names: Vec<&str> = archs.iter().map(|arch| arch.name()).collect();
        let programs = script("cross/build.sh", &names)?;
        let programs: Vec<PathBuf> = programs.lines().map(PathBuf::from).collect();
        if programs.len() != archs.len() {
            let output = format!("{programs:?}");
            return Err(Error::Command { command: "cross/build.sh".to_owned(), output });
        }
        // Each is Debian's packages unpacked: as fast as the network, so all at once.
        std::thread::scope(|scope| {
            let builds: Vec<_> = archs
                .iter()
                .zip(&programs)
                .map(|(arch, program)| scope.spawn(|| Self::build_one(*arch, program, pages_by)))
                .collect();
            builds
                .into_iter()
                .map(|build| build.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn build_one(arch: Arch, program: &Path, pages_by: &Path) -> Result<Self> {
        let (program, pages_by) = (program.to_string_lossy(), pages_by.to_string_lossy());
        let args = [arch.name(), "--program", &program, "--pages-by", &pages_by];
        let folder = PathBuf::from(script("guest/build.sh", &args)?.trim());
        let cmdline = folder.join("cmdline");
        let append = fs::read_to_string(&cmdline).map_err(file("read", cmdline))?;
        Ok(Self {
            arch,
            file: folder.join("image.img"),
            firmware: folder.join("firmware"),
            direct: Some(Start::Kernel {
                kernel: folder.join("kernel"),
                initrd: Some(folder.join("initrd")),
                append: append.trim().to_owned(),
            }),
        })
    }

    /// Makes a disk of it, as people make a card: `roost flash`, with a seed if there is one, which is a secret.
    ///
    /// # Errors
    ///
    /// The disk cannot be made, or `roost flash` failed.
    pub fn flash(&self, roost: &Path, disk: &Path, seed: Option<&str>) -> Result<()> {
        let made = fs::File::create(disk).and_then(|made| made.set_len(DISK_MIB * 1024 * 1024));
        made.map_err(file("create", disk))?;
        let mut command = Command::new(roost);
        command.args(["flash", "--yes", "--board", self.arch.board(), "--image"]).arg(&self.file);
        match seed {
            Some(_) => command.args(["--from", "-"]),
            None => command.arg("--no-seed"),
        };
        command.arg(disk).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let flashed = command.spawn().and_then(|mut child| {
            if let (Some(mut stdin), Some(seed)) = (child.stdin.take(), seed) {
                // Smaller than a pipe: this waits for nobody. Whoever does not read it says why.
                let _ = stdin.write_all(seed.as_bytes());
            }
            child.wait_with_output()
        });
        let output = flashed.map_err(file("run", roost))?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(Error::Command { command: format!("{command:?}"), output })
    }

    /// What starts it: its firmware, or else its kernel.
    ///
    /// # Errors
    ///
    /// Its kernel is asked for, and is only inside of it.
    pub fn start(&self, direct: bool) -> Result<Start> {
        if !direct {
            return Ok(Start::Firmware(self.firmware.clone()));
        }
        self.direct.clone().ok_or_else(|| {
            Error::Wrong(format!(
                "the kernel of {} is known to its boot loader only; leave out --direct",
                self.file.display()
            ))
        })
    }
}

/// Debian's firmware for QEMU's machine.
///
/// # Errors
///
/// It is not installed.
pub fn firmware(arch: Arch) -> Result<PathBuf> {
    let path = arch.firmware();
    if path.exists() {
        return Ok(path.to_owned());
    }
    let what = format!("{}, which starts {arch} machines", path.display());
    Err(Error::Missing { what, package: arch.firmware_package() })
}

/// Runs one of this folder's scripts; gives what it printed. What it tells on the way is shown.
fn script(name: &str, args: &[&str]) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut command = Command::new(&path);
    command.args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(file("run", &path))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let output = format!("{}; the reason is above", output.status);
    Err(Error::Command { command: format!("{command:?}"), output })
}
