//! Why a command failed, and the exit status for it.

use std::{io, path::PathBuf, process::ExitCode};

use crate::{
    bus::{ClientError, ControlError},
    config::ConfigError,
    daemon::DaemonError,
    first_boot::FirstBootError,
    flash::FlashError,
    media::MediaError,
    trust::{BadInvitation, BadRequest, BadSeed, TrustError},
    update::UpdateError,
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
    /// This node's id, or a key of its own.
    #[error(transparent)]
    Node(DaemonError),
    /// What this node trusts.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Where a seed is put.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A seed.
    #[error(transparent)]
    Seed(#[from] BadSeed),
    /// A request to be invited.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// An invitation.
    #[error(transparent)]
    Invitation(#[from] BadInvitation),
    /// What a board does first.
    #[error(transparent)]
    FirstBoot(#[from] FirstBootError),
    /// An update of this machine.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// Writing an image.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// Writing an image was stopped by a signal.
    #[error("{why}")]
    Stopped {
        /// What is left.
        why: FlashError,
        /// The signal's number.
        signal: u8,
    },
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// An image was written, and no seed.
    #[error("{target} was written and verified, but has no seed: {why}\n`roost seed {target}` puts one there", target = .target.display())]
    NoSeed {
        /// What was written.
        target: PathBuf,
        /// What failed.
        why: Box<CommandError>,
    },
    /// The user is not root.
    #[error("only root may do this: keys and tokens are root's alone; run it with sudo")]
    NotRoot,
    /// There is no such board, or more than one.
    #[error("{0}")]
    NoBoard(String),
    /// A file that was named.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file, or `standard input`.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file that was named.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was asked for makes no sense: why, and what does.
    #[error("{0}")]
    Refused(String),
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
    /// Man pages and completions.
    #[error("cannot write the pages: {0}")]
    Pages(#[source] io::Error),
    /// tokio.
    #[error("cannot wait for input and output: {0}")]
    Runtime(#[source] io::Error),
    /// Nix.
    #[error("cannot run nix: {0}; is it on the PATH?")]
    NoNix(#[source] io::Error),
    /// Printing.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl CommandError {
    /// 3 if the daemon does not answer, 4 if there is no such job or board, 128 and more after a signal, else 1. (2 is wrong use,
    /// and the argument parser's.)
    pub(super) fn status(&self) -> ExitCode {
        let status = match self {
            Self::Ask(ClientError::NoBus(_) | ClientError::NoDaemon | ClientError::NoAnswer(_)) => {
                3
            }
            Self::Ask(ClientError::Refused(ControlError::NotFound(_)))
            | Self::Trust(TrustError::Unknown(_) | TrustError::Ambiguous { .. })
            | Self::NoBoard(_) => 4,
            Self::Stopped { signal, .. } => signal.saturating_add(128),
            Self::Ask(ClientError::Denied | ClientError::Refused(ControlError::Failed(_)))
            | Self::Start(_)
            | Self::Config(_)
            | Self::Node(_)
            | Self::Trust(_)
            | Self::Media(_)
            | Self::Seed(_)
            | Self::Request(_)
            | Self::Invitation(_)
            | Self::FirstBoot(_)
            | Self::Update(_)
            | Self::Flash(_)
            | Self::Signals(_)
            | Self::NoSeed { .. }
            | Self::NotRoot
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Refused(_)
            | Self::NoNix(_)
            | Self::Machines { .. }
            | Self::Pages(_)
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
