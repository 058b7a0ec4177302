//! What can go wrong around a machine, always with what to look at.

use std::{io, path::PathBuf};

use crate::{ConsoleError, QmpError};

/// Why something could not be done with a machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab's part of it.
    #[error(transparent)]
    Lab(#[from] roost_lab::Error),
    /// The machine did not say what was waited for.
    #[error("{guest}: {source}")]
    Console {
        /// The machine.
        guest: String,
        /// What happened.
        source: ConsoleError,
    },
    /// QEMU did not start, or not do what it was told.
    #[error("{guest}: {source}; QEMU said:\n{said}")]
    Qemu {
        /// The machine.
        guest: String,
        /// What happened.
        source: QmpError,
        /// QEMU's complaints.
        said: String,
    },
    /// Something was asked of a machine that is off.
    #[error("{guest} is off")]
    Off {
        /// The machine.
        guest: String,
    },
    /// A program that this needs is missing.
    #[error("cannot find {what}; install it with: apt-get install {package}")]
    Missing {
        /// What.
        what: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A command of the machine that has to succeed.
    #[error("{command} failed:\n{output}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        output: String,
    },
    /// Something is not as it has to be.
    #[error("{0}")]
    Wrong(String),
}

/// A result around a machine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns an I/O error into one that names the file.
pub(crate) fn file(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { doing, path, source }
}

/// Fails with a text unless something holds.
///
/// # Errors
///
/// [`Error::Wrong`] with the text.
pub(crate) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Wrong(why())) }
}
