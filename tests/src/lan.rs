//! The LAN itself: one process that owns a bridge, and everything else inside its namespaces.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{fs::FlockOperation, process::Pid};

use crate::{
    Host, HostSpec,
    clock::{INTERVAL, poll_every},
    error::{Error, Result, file},
    host::HostInner,
    process::{Process, content, readable, run, scratch},
    root,
};

/// How long the LAN and each host may take to come up, and the LAN to go.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A LAN: a bridge that hosts are plugged into. When the last handle of it and of its hosts is
/// dropped, or the process ends in whatever way, all of it is gone.
#[derive(Clone)]
pub struct Lan {
    inner: Arc<LanInner>,
}

pub(crate) struct LanInner {
    /// Its standard input is what keeps the LAN alive.
    lifeline: Option<ChildStdin>,
    holder: Process,
    pub(crate) holder_pid: Pid,
    /// On the machine: logs, and the disks that are not in memory.
    pub(crate) folder: PathBuf,
    next_host: AtomicU8,
    hosts: Mutex<Vec<Weak<HostInner>>>,
    /// Locked as long as this process lives: the folder is in use.
    _lock: fs::File,
}

impl Lan {
    /// Makes an empty LAN: about 20 ms, or 30 s when a root has to be built first.
    ///
    /// # Errors
    ///
    /// Not root; the namespaces or the bridge could not be made.
    pub fn new() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let (folder, lock) = new_folder()?;
        let errors = scratch(b"").map_err(file("make a memory file for", &folder))?;
        let copy = errors.try_clone().map_err(file("make a memory file for", &folder))?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--", "/bin/sh", "-c"])
            .args([include_str!("scripts/holder.sh"), "lab-holder"])
            .args([&folder, &cgroup_of(&folder)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(copy);
        let mut holder = Process::start("lan", "unshare", &mut command)?;
        let lifeline = holder.child().stdin.take();
        let holder_pid =
            announced_pid(&mut holder).ok_or_else(|| Error::Lan { why: content(&errors) })?;
        Ok(Self {
            inner: Arc::new(LanInner {
                lifeline,
                holder,
                holder_pid,
                folder,
                next_host: AtomicU8::new(10),
                hosts: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Describes a host of that name, with Debian 13's Nix and all base services; nothing starts
    /// before [`HostSpec::start`] or [`Lan::start`]. A LAN has addresses for 245 hosts.
    pub fn host(&self, name: &str) -> HostSpec {
        let index = self.inner.next_host.fetch_add(1, Ordering::Relaxed);
        HostSpec::new(&self.inner, name, index)
    }

    /// Starts several hosts at once.
    ///
    /// # Errors
    ///
    /// The first host's that could not be started.
    pub fn start<const N: usize>(&self, specs: [HostSpec; N]) -> Result<[Host; N]> {
        thread::scope(|scope| {
            let threads = specs.map(|spec| scope.spawn(move || spec.start()));
            let mut failed = None;
            let hosts = threads.map(|thread| match thread.join() {
                Ok(Ok(host)) => Some(host),
                Ok(Err(error)) => {
                    failed.get_or_insert(error);
                    None
                }
                Err(panic) => std::panic::resume_unwind(panic),
            });
            match failed {
                Some(error) => Err(error),
                None => Ok(hosts.map(invariant_started)),
            }
        })
    }

    /// Waits until a condition holds, looking at it every 10 ms.
    ///
    /// # Errors
    ///
    /// [`Error::Condition`] with the end of every service's log if it does not hold in time.
    pub fn wait_until(
        &self,
        timeout: Duration,
        what: &str,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        self.wait_for(timeout, what, || condition().then_some(()))
    }

    /// Waits until a condition gives something, looking at it every 10 ms.
    ///
    /// # Errors
    ///
    /// [`Error::Condition`] with the end of every service's log if nothing comes in time.
    pub fn wait_for<T>(
        &self,
        timeout: Duration,
        what: &str,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        self.wait_for_every(INTERVAL, timeout, what, condition)
    }

    /// As [`Lan::wait_for`], for conditions that cost something to look at: with a pause between two looks.
    ///
    /// # Errors
    ///
    /// As [`Lan::wait_for`].
    pub fn wait_for_every<T>(
        &self,
        interval: Duration,
        timeout: Duration,
        what: &str,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        poll_every(interval, timeout, condition).ok_or_else(|| Error::Condition {
            what: what.to_owned(),
            timeout,
            logs: self.logs(),
        })
    }

    /// Makes a tap device of that name (tuntap.rst of the kernel's documentation) and plugs it into the
    /// bridge: the cable of a machine that is emulated by a [`crate::Beside`].
    ///
    /// # Errors
    ///
    /// The kernel has no tun devices, or there is one of that name.
    pub fn tap(&self, name: &str) -> Result<()> {
        self.inner.ip(&format!(
            "tuntap add dev {name} mode tap\nlink set {name} master lan\nlink set {name} up\n"
        ))
    }

    /// A folder on the machine's disk that goes with the LAN.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// What runs a program of the machine in the LAN's namespaces of networks and processes.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--pid", "--target", &self.inner.holder_pid.to_string(), "--"]);
        command
    }

    /// The end of every service's log on every host, for people.
    #[must_use]
    pub fn logs(&self) -> String {
        let hosts = self.inner.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().filter_map(Weak::upgrade).map(|host| host.logs()).collect()
    }
}

/// `Lan::start` has looked at every result: none is missing.
#[expect(clippy::expect_used, reason = "called only when no start failed")]
fn invariant_started(host: Option<Host>) -> Host {
    host.expect("every host has started")
}

impl LanInner {
    /// Makes a host known, so that its logs are shown when something fails.
    pub(crate) fn register(&self, host: &Arc<HostInner>) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.push(Arc::downgrade(host));
    }

    /// A host by its name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<HostInner>> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().filter_map(Weak::upgrade).find(|host| host.name() == name)
    }

    /// Runs `ip` commands, one a line, where the bridge is.
    pub(crate) fn ip(&self, batch: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder_pid.to_string()]);
        command.args(["ip", "-batch", "-"]);
        let name = format!("ip -batch <<< '{}'", batch.trim().replace('\n', "; "));
        run("lan", &name, &mut command, batch.as_bytes(), START_TIMEOUT)?.ok().map(drop)
    }
}

impl Drop for LanInner {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if self.holder.wait(START_TIMEOUT).is_none() {
            self.holder.kill();
        }
        // Already removed by the holder unless that was killed.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where the cgroups of a LAN's hosts are, for those whose init is systemd: in the hierarchy of
/// version 2, wherever the machine has it.
pub(crate) fn cgroup_of(folder: &Path) -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let hierarchy = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
    let name = folder.file_name().unwrap_or_default();
    hierarchy.join(format!("roost-lab-{}", name.to_string_lossy()))
}

/// The process id that a script says on its standard output when it is ready.
pub(crate) fn announced_pid(process: &mut Process) -> Option<Pid> {
    let stdout = process.child().stdout.take()?;
    if !readable(&stdout, START_TIMEOUT) {
        return None;
    }
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).ok()?;
    Pid::from_raw(line.trim().parse().ok()?)
}

/// A folder of our own for a LAN, locked; folders that nobody holds any more are removed.
fn new_folder() -> Result<(PathBuf, fs::File)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let all = root::cache().join("run");
    fs::create_dir_all(&all).map_err(file("create", &all))?;
    let guard = open_locked(&all.join(".lock"), FlockOperation::LockExclusive)?;
    for entry in fs::read_dir(&all).map_err(file("list", &all))?.flatten() {
        let lock = entry.path().join("lock");
        if lock.exists() && open_locked(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = all.join(format!("{}-{number}", std::process::id()));
    fs::create_dir_all(folder.join("mnt")).map_err(file("create", &folder))?;
    let lock = open_locked(&folder.join("lock"), FlockOperation::LockExclusive)?;
    drop(guard);
    Ok((folder, lock))
}

fn open_locked(path: &Path, operation: FlockOperation) -> Result<fs::File> {
    let lock = fs::File::create(path).map_err(file("create", path))?;
    rustix::fs::flock(&lock, operation).map_err(|errno| file("lock", path)(errno.into()))?;
    Ok(lock)
}
