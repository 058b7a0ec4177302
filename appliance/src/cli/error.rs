//! Why a command failed, and the exit status for it.

use std::{io, path::PathBuf, process::ExitCode};

use crate::{
    bus::{ClientError, ControlError},
    config::ConfigError,
    daemon::DaemonError,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The daemon that was asked.
    #[error(transparent)]
    Ask(#[from] ClientError),
    /// The daemon that this process was to be.
    #[error("the daemon cannot start: {0}")]
    Start(#[from] DaemonError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file that Nix reads.
    #[error(
        "cannot read {}: {source}; the roost daemon of a workstation writes it when it starts",
        path.display()
    )]
    Machines {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// tokio.
    #[error("cannot wait for input and output: {0}")]
    Runtime(#[source] io::Error),
    /// Printing.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl CommandError {
    /// 3 if the daemon does not answer, 4 if there is no such job or board, else 1. (2 is wrong use,
    /// and the argument parser's.)
    pub(super) fn status(&self) -> ExitCode {
        let status = match self {
            Self::Ask(ClientError::NoBus(_) | ClientError::NoDaemon | ClientError::NoAnswer(_)) => {
                3
            }
            Self::Ask(ClientError::Refused(ControlError::NotFound(_))) => 4,
            Self::Ask(ClientError::Denied | ClientError::Refused(ControlError::Failed(_)))
            | Self::Start(_)
            | Self::Config(_)
            | Self::Machines { .. }
            | Self::Runtime(_)
            | Self::Print(_) => 1,
        };
        ExitCode::from(status)
    }

    /// Whether whoever reads our output has seen enough, which is no failure.
    pub(super) fn reader_left(&self) -> bool {
        matches!(self, Self::Print(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
