//! Which boards are believed, and the keys.
//!
//! A board proves who it is with its SSH host key; an announcement only hints. [`KnownHosts`] is
//! the list of keys that are believed, [`client_key`] is this node's own key, and [`SshFiles`]
//! ties both into an `ssh_config` for each board, so that `ssh` accepts that one key and no other.
//!
//! Private keys are made here, never leave their folder and are never logged.

mod client_key;
mod known_hosts;
mod ssh_files;
mod watch;

pub use client_key::{KeyError, client_key, host_key_fingerprint_of};
pub use known_hosts::{KnownHosts, KnownHostsError};
pub use ssh_files::{BoardFiles, SshFiles, SshFilesError};
pub use watch::FileWatch;

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// SHA-256 of a host key in SSH's wire encoding, as announced and as `ssh-keygen -l` shows it.
pub type Fingerprint = [u8; 32];

/// Writes a whole file durably or not at all, and not if it has this content already: an SD card
/// wears out.
fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}
