//! What runs in a host, seen through the host's own /proc.

use std::{fs, path::Path};

use crate::{
    Host,
    error::{Error, Result, file},
};

/// A process of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id in the host.
    pub pid: i32,
    /// Its parent's id in the host; 0 if that is outside.
    pub ppid: i32,
    /// Its arguments; for a process without any, its name in brackets.
    pub argv: Vec<String>,
    /// Resident memory in KiB (VmRSS).
    pub rss_kib: u64,
}

impl ProcessInfo {
    /// Its arguments with blanks between.
    #[must_use]
    pub fn command(&self) -> String {
        self.argv.join(" ")
    }
}

impl Host {
    /// All processes of the host, those of Nix's sandboxes included.
    ///
    /// # Errors
    ///
    /// The host is off.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>> {
        let proc = self.inner.outside_path("/proc")?;
        let entries = fs::read_dir(&proc).map_err(file("list", &proc))?;
        // What ends while we look is not there.
        Ok(entries.flatten().filter_map(|entry| read_process(&entry.path())).collect())
    }

    /// Sends a signal, such as `KILL` or `STOP`, to every process that fits; gives their ids.
    ///
    /// # Errors
    ///
    /// [`Error::NoProcess`] if none fits; the host is off.
    pub fn signal_matching(
        &self,
        signal: &str,
        what: &str,
        fits: impl Fn(&ProcessInfo) -> bool,
    ) -> Result<Vec<i32>> {
        let processes = self.processes()?;
        let pids: Vec<i32> = processes.iter().filter(|p| fits(p)).map(|p| p.pid).collect();
        if pids.is_empty() {
            return Err(Error::NoProcess {
                host: self.name().to_owned(),
                what: what.to_owned(),
                processes: processes
                    .iter()
                    .map(|p| format!("{} {}\n", p.pid, p.command()))
                    .collect(),
            });
        }
        let list: String = pids.iter().map(|pid| format!(" {pid}")).collect();
        // One that has ended meanwhile is no failure.
        self.sh(&format!("kill -{signal} {list}"))?;
        Ok(pids)
    }

    /// The memory that a process shares with nobody plus its share of the rest, in KiB (Pss), and
    /// what is resident, in KiB (Rss), from smaps_rollup.
    ///
    /// # Errors
    ///
    /// No such process; the host is off.
    pub fn memory_kib(&self, pid: i32) -> Result<Memory> {
        let path = self.inner.outside_path(&format!("/proc/{pid}/smaps_rollup"))?;
        let rollup = fs::read_to_string(&path).map_err(file("read", &path))?;
        let field = |name| kib(&rollup, name).unwrap_or(0);
        Ok(Memory { rss_kib: field("Rss:"), pss_kib: field("Pss:") })
    }
}

/// The memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident, in KiB.
    pub rss_kib: u64,
    /// Resident, with what is shared divided among those who share it, in KiB.
    pub pss_kib: u64,
}

fn read_process(folder: &Path) -> Option<ProcessInfo> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let cmdline = fs::read(folder.join("cmdline")).ok()?;
    let cmdline = String::from_utf8_lossy(&cmdline);
    let mut argv: Vec<String> = cmdline.split_terminator('\0').map(str::to_owned).collect();
    if argv.is_empty() {
        argv.push(format!("[{}]", field("Name:")?.trim()));
    }
    let ppid = field("PPid:")?.trim().parse().ok()?;
    Some(ProcessInfo { pid, ppid, argv, rss_kib: kib(&status, "VmRSS:").unwrap_or(0) })
}

/// A line such as `VmRSS:   1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
