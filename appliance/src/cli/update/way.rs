//! The way to a board: by the ssh configuration that the daemon keeps for it.

use std::{
    fs::{self, File},
    io::{Read, Seek},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix_compat::store_path::StorePath;
use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::super::error::CommandError;
use crate::{
    enrol::{AskError, Errand},
    execute::TRUST_COMMAND,
    model::{BoardView, UpdateView, first_line},
    names,
};

/// How long a question may take with all that leads to it.
const TALK_TIMEOUT: Duration = Duration::from_secs(40);

/// How a board is connected to.
pub(super) struct Way {
    config: PathBuf,
    destination: String,
}

/// A conversation with a board; ssh ends with it.
pub(super) struct Talk {
    errand: Errand<ChildStdout, ChildStdin>,
    _ssh: Child,
}

impl std::ops::Deref for Talk {
    type Target = Errand<ChildStdout, ChildStdin>;

    fn deref(&self) -> &Self::Target {
        &self.errand
    }
}

impl std::ops::DerefMut for Talk {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.errand
    }
}

/// What a board does not do, as an error.
pub(super) fn refused(name: &str, error: &AskError) -> CommandError {
    CommandError::Refused(format!("{name}: {error}"))
}

impl Way {
    /// Connects to a board by the first of its addresses that leads there.
    ///
    /// # Errors
    /// Why none does.
    pub(super) async fn open(board: &BoardView, now_s: u64) -> Result<(Self, Talk), CommandError> {
        let (name, id) = (&board.node.name, &board.node.id);
        let config = Path::new(names::SSH_DIR).join(format!("{id}.config"));
        let text = fs::read_to_string(&config)
            .map_err(|source| CommandError::Read { file: config.display().to_string(), source })?;
        let mut why = "its ssh configuration names no address".to_owned();
        for destination in destinations(&text) {
            let way = Self { config: config.clone(), destination: destination.to_owned() };
            match timeout(TALK_TIMEOUT, way.talk(id, now_s)).await {
                Ok(Ok(talk)) => return Ok((way, talk)),
                Ok(Err(reason)) => why = reason,
                Err(_) => why = format!("no answer within {} s", TALK_TIMEOUT.as_secs()),
            }
        }
        Err(CommandError::Refused(format!("{name} cannot be reached: {why}")))
    }

    /// Asks a board how its last update went.
    ///
    /// # Errors
    /// It cannot be reached, or does not tell.
    pub(super) async fn look(
        board: &BoardView,
        now_s: u64,
    ) -> Result<Option<UpdateView>, CommandError> {
        let (_, mut talk) = Self::open(board, now_s).await?;
        talk.last_update().await.map_err(|error| refused(&board.node.name, &error))
    }

    async fn talk(&self, id: &str, now_s: u64) -> Result<Talk, String> {
        let failed = |error: std::io::Error| format!("cannot run ssh: {error}");
        let mut words = tempfile::tempfile().map_err(failed)?;
        let mut ssh = Command::new("ssh")
            .arg("-F")
            .arg(&self.config)
            .args(["-T", &self.destination, TRUST_COMMAND])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(words.try_clone().map_err(failed)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (ssh.stdin.take(), ssh.stdout.take()) else {
            return Err("ssh has no pipes".to_owned());
        };
        match Errand::begin(stdout, stdin, id, now_s).await {
            Ok(errand) => Ok(Talk { errand, _ssh: ssh }),
            Err(error) => match said(&mut words).as_str() {
                "" => Err(error.to_string()),
                said => Err(said.to_owned()),
            },
        }
    }

    /// Copies a system with all that it needs to the board, by the Nix that is here, which shows how far
    /// it is. However long it takes: ssh ends when the board does not answer.
    ///
    /// # Errors
    /// Nix has said why.
    pub(super) async fn copy(&self, name: &str, system: &StorePath) -> Result<(), CommandError> {
        let nix = Command::new("nix")
            .args(["--extra-experimental-features", "nix-command", "copy", "--no-check-sigs"])
            .arg("--to")
            .arg(format!("ssh-ng://{}", self.destination))
            .arg(system.as_str())
            // Nix splits it at blanks; there are none in our folder's name, nor in an id.
            .env("NIX_SSHOPTS", format!("-F {}", self.config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| CommandError::Refused(format!("cannot run nix: {error}")))?;
        match nix.success() {
            true => Ok(()),
            false => Err(CommandError::Refused(format!(
                "{system} was not copied to {name} (`nix copy`: {nix}); nothing was changed there"
            ))),
        }
    }
}

/// The hosts that an ssh configuration of ours names.
fn destinations(config: &str) -> impl Iterator<Item = &str> {
    config.lines().filter_map(|line| line.strip_prefix("Host ")).filter(|host| *host != "*")
}

/// The last line that ssh said.
fn said(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(8 << 10).read_to_string(&mut text));
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    read.map_or_else(|_| String::new(), |_| first_line(last.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_a_way() {
        let config = "# x\nHost b1-0\n    HostName 1.2.3.4\nHost b1-1\n    HostName ::1\nHost *\n";
        assert_eq!(destinations(config).collect::<Vec<_>>(), ["b1-0", "b1-1"]);
    }
}
