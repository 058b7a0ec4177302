//! The key with which sshd proves who this board is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

use crate::{durable::write_atomically, trust::KeyError};

/// Makes an Ed25519 host key at `path`, with its public half beside it, unless it is there: as sshd's own
/// start does, but before anybody asks for its fingerprint. An empty file is what a power cut leaves of
/// a key, and counts as none.
///
/// # Errors
/// [`KeyError`]. A key that is there and cannot be used is never overwritten.
pub fn make(path: &Path) -> Result<(), KeyError> {
    let key = match fs::read(path).map(zeroize::Zeroizing::new) {
        Ok(bytes) if !bytes.is_empty() => {
            PrivateKey::from_openssh(bytes.as_slice()).map_err(|source| KeyError::Format {
                path: path.to_owned(),
                what: "private key",
                source,
            })?
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("read", path)(error));
        }
        Ok(_) | Err(_) => {
            let made = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).and_then(|mut key| {
                key.set_comment(format!("root@{}", host_name()));
                let text = key.to_openssh(LineEnding::LF)?;
                Ok((key, text))
            });
            let (key, text) = made.map_err(|source| KeyError::Make { source })?;
            write_atomically(path, text.as_bytes(), 0o600).map_err(failed("write", path))?;
            key
        }
    };
    let public = path.with_extension("pub");
    if fs::metadata(&public).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let text = key.public_key().to_openssh().map_err(|source| KeyError::Make { source })?;
    write_atomically(&public, format!("{text}\n").as_bytes(), 0o644)
        .map_err(failed("write", &public))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path: PathBuf = path.to_owned();
    move |source| KeyError::File { doing, path, source }
}
