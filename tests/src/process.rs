//! Processes: started with captured output, waited for with a deadline, killed for certain.

use std::{
    fmt, fs,
    io::{Seek, SeekFrom, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt, process::CommandExt, process::ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::MemfdFlags,
    process::{Pid, PidfdFlags, Signal},
};

use crate::{
    clock::poll,
    error::{Error, Result},
};

/// How long a killed process may take to be gone.
const GRACE: Duration = Duration::from_secs(10);

/// How a command ended and what it said.
#[derive(Clone)]
pub struct Output {
    /// Where it ran.
    pub host: String,
    /// The command, as a shell would show it.
    pub command: String,
    /// Its end; `None` if it has not ended.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Its exit code, if it ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The output, if the command succeeded.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it did not.
    pub fn ok(self) -> Result<Self> {
        if self.success() { Ok(self) } else { Err(Error::Failed(Box::new(self))) }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` ", self.host, self.command)?;
        match self.status {
            None => write!(f, "has not ended")?,
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "ended with status {code}")?,
                (None, signal) => write!(f, "was ended by signal {}", signal.unwrap_or(0))?,
            },
        }
        for (name, text) in [("output", &self.stdout), ("errors", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file in memory that has no name.
pub(crate) fn scratch(content: &[u8]) -> std::io::Result<fs::File> {
    let mut file = fs::File::from(rustix::fs::memfd_create("lab", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// All of a file so far, from its start, without moving the offset that its writer shares.
pub(crate) fn content(file: &fs::File) -> String {
    let len = file.metadata().map_or(0, |meta| meta.len());
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until something can be read from a descriptor (for a process's: until it has ended).
/// False if nothing came in time.
pub(crate) fn readable(fd: &impl std::os::fd::AsFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).ok();
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    // A signal that interrupts the wait is a reason to look again, not an answer.
    loop {
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(count) => return count > 0,
            Err(_) => return false,
        }
    }
}

/// A process of the machine and, if it entered a host, its only child there. Dropping it kills
/// both with everything of their process group.
pub(crate) struct Process {
    pub(crate) host: String,
    pub(crate) command: String,
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts a command in a process group of its own.
    pub(crate) fn start(host: &str, name: &str, command: &mut Command) -> Result<Self> {
        let failed =
            |source| Error::Spawn { host: host.to_owned(), command: name.to_owned(), source };
        let child = command.process_group(0).spawn().map_err(failed)?;
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self { host: host.to_owned(), command: name.to_owned(), child, pidfd })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its end, waited for; `None` if it has not ended in time.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        if readable(&self.pidfd, timeout) { self.child.wait().ok() } else { None }
    }

    /// Kills it with its process group and waits for its end.
    pub(crate) fn kill(&mut self) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let pid = Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        self.wait(GRACE)
    }

    /// Its child in the host, as the machine and as the host number it.
    pub(crate) fn inner(&mut self) -> Option<(Pid, i32)> {
        poll(GRACE, || {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return Some(None);
            }
            child_of(self.child.id()).map(Some)
        })
        .flatten()
    }

    /// Sends a signal to its child in the host. False if that has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> bool {
        let Some((pid, _)) = self.inner() else { return false };
        let sent = rustix::process::kill_process(pid, signal).is_ok();
        // The parent outside stops together with its child, and has to be woken by itself, also to
        // notice that the child was killed.
        if matches!(signal, Signal::CONT | Signal::KILL) {
            let parent = Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(parent, Signal::CONT);
        }
        sent
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The child of a process, as the machine and as the innermost pid namespace number it.
fn child_of(parent: u32) -> Option<(Pid, i32)> {
    let parent = parent.to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        if field("PPid:")?.trim() != parent {
            return None;
        }
        let inside = field("NSpid:")?.split_whitespace().last()?.parse().ok()?;
        Some((Pid::from_raw(pid)?, inside))
    })
}

/// A running command with captured output. Dropping it kills it.
pub struct Running {
    process: Process,
    stdout: fs::File,
    stderr: fs::File,
}

impl Running {
    /// Starts a command with its output captured in memory and the given standard input.
    pub(crate) fn start(
        host: &str,
        name: &str,
        command: &mut Command,
        stdin: &[u8],
    ) -> Result<Self> {
        let failed =
            |source| Error::Spawn { host: host.to_owned(), command: name.to_owned(), source };
        let pipes = || -> std::io::Result<_> {
            let (stdin, stdout, stderr) = (scratch(stdin)?, scratch(b"")?, scratch(b"")?);
            let copies = (stdout.try_clone()?, stderr.try_clone()?);
            Ok((stdin, stdout, stderr, copies))
        };
        let (stdin, stdout, stderr, copies) = pipes().map_err(failed)?;
        command.stdin(Stdio::from(stdin)).stdout(copies.0).stderr(copies.1);
        Ok(Self { process: Process::start(host, name, command)?, stdout, stderr })
    }

    fn output(&self, status: Option<ExitStatus>) -> Output {
        Output {
            host: self.process.host.clone(),
            command: self.process.command.clone(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        content(&self.stdout)
    }

    /// Its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        content(&self.stderr)
    }

    /// Its process id in the host; `None` if it has ended.
    pub fn pid(&mut self) -> Option<i32> {
        self.process.inner().map(|(_, pid)| pid)
    }

    /// Sends it a signal. False if it has ended.
    pub fn signal(&mut self, signal: Signal) -> bool {
        self.process.signal(signal)
    }

    /// What it said, if it has ended.
    pub fn ended(&mut self) -> Option<Output> {
        let status = self.process.wait(Duration::ZERO)?;
        Some(self.output(Some(status)))
    }

    /// Waits for its end, whatever the status.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if it does not end in time; it is left running.
    pub fn wait(&mut self, timeout: Duration) -> Result<Output> {
        match self.process.wait(timeout) {
            Some(status) => Ok(self.output(Some(status))),
            None => Err(Error::Timeout { timeout, output: Box::new(self.output(None)) }),
        }
    }

    /// Kills it and its process group; gives what it said.
    pub fn kill(&mut self) -> Output {
        let status = self.process.kill();
        self.output(status)
    }

    /// Waits for its end, and kills it when the time is over.
    pub(crate) fn finish(mut self, timeout: Duration) -> Result<Output> {
        self.wait(timeout)
    }
}

/// Runs a command of the machine to its end.
pub(crate) fn run(
    host: &str,
    name: &str,
    command: &mut Command,
    stdin: &[u8],
    timeout: Duration,
) -> Result<Output> {
    Running::start(host, name, command, stdin)?.finish(timeout)
}
