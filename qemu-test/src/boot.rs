//! Starting a machine and reading its console until it says something.

use std::{
    io::{self, Write},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::{Instant, timeout},
};

use super::Machine;

/// Console text kept for looking at: more than any boot prints between two looks.
const KEPT: usize = 64 * 1024;

/// Console text that an error shows.
const SHOWN: usize = 2 * 1024;

/// A machine that said what was waited for. It has been ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booted {
    /// How long it took.
    pub after: Duration,
}

/// Why a machine did not say what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// QEMU could not be started.
    #[error("cannot start {program}: {source}; install the Debian package {package}")]
    Start {
        /// The program.
        program: String,
        /// Where it is from.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Its console could not be read or passed on.
    #[error("cannot read the console: {0}")]
    Console(#[from] io::Error),
    /// It ended before.
    #[error("the machine ended ({status}) before it said \"{wait_for}\"; its last words:\n{last}")]
    Ended {
        /// How QEMU ended.
        status: ExitStatus,
        /// What was waited for.
        wait_for: String,
        /// The end of what it said.
        last: String,
    },
    /// It went on and did not say it.
    #[error("the machine did not say \"{wait_for}\" within {timeout_s} s; its last words:\n{last}")]
    TimedOut {
        /// What was waited for.
        wait_for: String,
        /// How long.
        timeout_s: u64,
        /// The end of what it said.
        last: String,
    },
}

/// Boots a machine, copies its console to `echo`, and ends it as soon as it has said `wait_for`.
///
/// Dropping the future ends the machine too.
///
/// # Errors
///
/// [`BootError`], with the end of the console.
pub async fn boot(
    machine: &Machine,
    wait_for: &str,
    timeout_s: u64,
    echo: &mut impl Write,
) -> Result<Booted, BootError> {
    let mut command = Command::new(machine.arch.program());
    command.args(machine.args());
    watch(command, wait_for, timeout_s, echo).await.map_err(|error| match error {
        BootError::Start { program, source, .. } => {
            BootError::Start { program, package: machine.arch.debian_package(), source }
        }
        other => other,
    })
}

async fn watch(
    mut command: Command,
    wait_for: &str,
    timeout_s: u64,
    echo: &mut impl Write,
) -> Result<Booted, BootError> {
    let started = Instant::now();
    // QEMU's own complaints go where ours go.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| BootError::Start {
        program: command.as_std().get_program().to_string_lossy().into_owned(),
        package: "",
        source,
    })?;
    let mut console =
        child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let mut said = Vec::new();
    let wait_for = wait_for.to_owned();
    let listening = listen(&mut console, wait_for.as_bytes(), &mut said, echo);
    let heard = match timeout(Duration::from_secs(timeout_s), listening).await {
        Ok(heard) => heard?,
        Err(_) => {
            child.kill().await?;
            return Err(BootError::TimedOut { wait_for, timeout_s, last: last(&said) });
        }
    };
    if heard {
        child.kill().await?;
        return Ok(Booted { after: started.elapsed() });
    }
    Err(BootError::Ended { status: child.wait().await?, wait_for, last: last(&said) })
}

/// Reads until `wait_for` was said (true) or the console ends (false).
async fn listen(
    console: &mut (impl AsyncRead + Unpin),
    wait_for: &[u8],
    said: &mut Vec<u8>,
    echo: &mut impl Write,
) -> io::Result<bool> {
    let mut part = [0; 4096];
    loop {
        let length = console.read(&mut part).await?;
        if length == 0 {
            return Ok(false);
        }
        echo.write_all(&part[..length])?;
        // It may have begun in the part before.
        let from = said.len().saturating_sub(wait_for.len());
        said.extend_from_slice(&part[..length]);
        if wait_for.is_empty() || said[from..].windows(wait_for.len()).any(|w| w == wait_for) {
            return Ok(true);
        }
        if said.len() > 2 * KEPT {
            said.drain(..said.len() - KEPT);
        }
    }
}

fn last(said: &[u8]) -> String {
    String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN)..]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_machine_is_ended_when_it_has_said_it() {
        let mut echo = Vec::new();
        let script = "printf 'booting\\nlog'; printf 'in: '; exec sleep 600";
        watch(shell(script), "login: ", 60, &mut echo).await.unwrap();
        assert_eq!(echo, b"booting\nlogin: ");
    }

    #[tokio::test]
    async fn a_machine_that_ends_first_is_quoted() {
        let died = watch(shell("echo Kernel panic; exit 3"), "login: ", 60, &mut Vec::new()).await;
        let error = died.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("Kernel panic"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_hangs_is_ended_in_time() {
        let hung = watch(shell("exec sleep 600"), "login: ", 60, &mut Vec::new()).await;
        assert!(matches!(hung, Err(BootError::TimedOut { timeout_s: 60, .. })), "{hung:?}");
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let missing = watch(Command::new("/nonexistent/qemu"), "x", 60, &mut Vec::new()).await;
        assert!(matches!(missing, Err(BootError::Start { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn words_are_found_across_any_two_reads_and_memory_is_bounded() {
        let filler = vec![b'.'; 3 * KEPT];
        let console = [&filler[..], b"ready"].concat();
        let mut said = Vec::new();
        let heard = listen(&mut &console[..], b"ready", &mut said, &mut io::sink()).await;
        assert!(heard.unwrap());
        assert!(said.len() <= 2 * KEPT + 4096);
    }
}
