//! What can go wrong in the lab: always on which host, in which command, with its output.

use std::{fmt, io, path::PathBuf, time::Duration};

use crate::Output;

/// Why the lab could not do something. Its debug form is its message, so that `unwrap` in a test
/// prints something readable.
#[derive(thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("a LAN needs namespaces, mounts and interfaces of its own: run the test as root")]
    NotRoot,
    /// The cached root could not be built.
    #[error("the {release} root of the lab could not be built:\n{output}")]
    Root {
        /// Debian's name of it.
        release: &'static str,
        /// What its script said.
        output: String,
    },
    /// The LAN's namespaces or bridge could not be made.
    #[error("the LAN could not be made: {why}")]
    Lan {
        /// What the holder said.
        why: String,
    },
    /// A host did not come up.
    #[error("{host}: could not be started: {why}")]
    Boot {
        /// Its name.
        host: String,
        /// What its first process said.
        why: String,
    },
    /// Something was asked of a host that is off.
    #[error("{host}: is powered off; call power_on first")]
    Off {
        /// Its name.
        host: String,
    },
    /// A command could not be started.
    #[error("{host}: `{command}` could not be started: {source}")]
    Spawn {
        /// Where.
        host: String,
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command failed that must not.
    #[error("{0}")]
    Failed(Box<Output>),
    /// A command did not end in time, and was killed.
    #[error("not within {} s, and killed: {output}", timeout.as_secs_f64())]
    Timeout {
        /// How long it had.
        timeout: Duration,
        /// What it said until then.
        output: Box<Output>,
    },
    /// A service did not become ready, or ended at once.
    #[error("{host}: service {service} {why}; its log:\n{log}")]
    Service {
        /// Where.
        host: String,
        /// Its name.
        service: &'static str,
        /// What happened.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// A condition was not met in time.
    #[error("not within {} s: {what}\n{logs}", timeout.as_secs_f64())]
    Condition {
        /// The condition.
        what: String,
        /// How long it had.
        timeout: Duration,
        /// The ends of all services' logs.
        logs: String,
    },
    /// No process fits.
    #[error("{host}: no process {what}; there are:\n{processes}")]
    NoProcess {
        /// Where.
        host: String,
        /// What was looked for.
        what: String,
        /// What runs.
        processes: String,
    },
    /// A file of the machine or of a host.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A result of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns an I/O error into one that names the file.
pub(crate) fn file(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { what, path, source }
}
