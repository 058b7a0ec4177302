//! Programs of the machine that take part in a LAN without being one of its hosts: emulators of whole
//! machines, and what serves them.

use std::{
    os::fd::OwnedFd,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{Lan, error::Result, process::Process};

/// How long a killed program may take to be gone.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a program reads, writes, and complains to.
pub struct Streams {
    /// Its standard input.
    pub stdin: OwnedFd,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// A running program of the machine. Dropping it kills it.
pub struct Beside {
    process: Process,
    /// Whether it is the child of the process that was started.
    entered: bool,
}

impl Beside {
    /// Starts a program in a folder: in the namespaces of a LAN, where it ends with the LAN, however that
    /// ends, or in the machine's own.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Spawn`].
    pub fn start(
        lan: Option<&Lan>,
        folder: &Path,
        argv: &[String],
        streams: Streams,
    ) -> Result<Self> {
        let (mut command, place) = match lan {
            Some(lan) => (lan.enter(), "lan"),
            None => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]);
                (command, "the machine")
            }
        };
        command
            .args(argv)
            .current_dir(folder)
            .stdin(Stdio::from(streams.stdin))
            .stdout(Stdio::from(streams.stdout))
            .stderr(Stdio::from(streams.stderr));
        let name = argv.first().map_or("", String::as_str);
        let process = Process::start(place, name, &mut command)?;
        Ok(Self { process, entered: lan.is_some() })
    }

    /// Its end, waited for; `None` if it has not ended in time.
    pub fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        self.process.wait(timeout)
    }

    /// Kills it, as a power cut does, and waits until it is gone.
    pub fn kill(&mut self) {
        // The process outside ends after its child, which may take a while to give back its memory; killed
        // together, it would not wait.
        if self.entered && self.process.signal(Signal::KILL) {
            self.process.wait(GONE_TIMEOUT);
        }
        self.process.kill();
    }
}
