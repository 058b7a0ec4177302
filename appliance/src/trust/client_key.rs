//! This node's SSH key, and public keys in files.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey, rand_core::OsRng};

use crate::durable::write_atomically;

/// Why a key could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file holds no such key.
    #[error("{path} holds no usable {what} ({source}); move it away to have a new one made, or restore it", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
        /// What is wrong with it.
        source: ssh_key::Error,
    },
    /// No key could be made.
    #[error("cannot make an Ed25519 key: {source}")]
    Make {
        /// Why not.
        source: ssh_key::Error,
    },
}

/// The private key with which this node logs in to boards, `id_ed25519` in `dir`; made, with
/// `id_ed25519.pub` beside it, if it is not there. The folder is created for its owner only.
///
/// # Errors
///
/// [`KeyError`]. A key that is there and cannot be used is never overwritten.
pub fn client_key(dir: &Path) -> Result<PathBuf, KeyError> {
    let path = dir.join("id_ed25519");
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
    let key = match fs::read(&path) {
        Ok(bytes) => PrivateKey::from_openssh(&bytes).map_err(|source| KeyError::Format {
            path: path.clone(),
            what: "private key",
            source,
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path)?,
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let public = dir.join("id_ed25519.pub");
    let text = key.public_key().to_openssh().map_err(|source| KeyError::Make { source })?;
    write_atomically(&public, format!("{text}\n").as_bytes(), 0o644)
        .map_err(failed("write", &public))?;
    Ok(path)
}

fn make(path: &Path) -> Result<PrivateKey, KeyError> {
    let made = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).and_then(|mut key| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        key.set_comment(format!("roost@{host}"));
        let text = key.to_openssh(LineEnding::LF)?;
        Ok((key, text))
    });
    let (key, text) = made.map_err(|source| KeyError::Make { source })?;
    write_atomically(path, text.as_bytes(), 0o600).map_err(failed("write", path))?;
    Ok(key)
}

/// A public key file, such as this board's own `/etc/ssh/ssh_host_ed25519_key.pub`; without its comment.
///
/// # Errors
///
/// [`KeyError`].
pub fn public_key_of(path: &Path) -> Result<PublicKey, KeyError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    let key = PublicKey::from_openssh(text.trim()).map_err(|source| KeyError::Format {
        path: path.to_owned(),
        what: "public key",
        source,
    })?;
    Ok(PublicKey::from(key.key_data().clone()))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = dir.path().join("state/ssh");
        let path = client_key(&ssh).unwrap();
        let made = fs::read(&path).unwrap();
        assert_eq!((mode(&path), mode(&ssh)), (0o600, 0o700));
        assert_eq!(client_key(&ssh).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), made);
        let key = PrivateKey::from_openssh(&made).unwrap();
        assert!(key.comment().starts_with("roost@"), "{}", key.comment());
        assert_eq!(key.algorithm(), Algorithm::Ed25519);
        let left: Vec<_> = fs::read_dir(&ssh).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let public = public_key_of(&ssh.join("id_ed25519.pub")).unwrap();
        assert_eq!(public.key_data(), key.public_key().key_data());
    }

    #[test]
    fn two_keys_differ() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let read = |dir: &tempfile::TempDir| fs::read(client_key(dir.path()).unwrap()).unwrap();
        assert_ne!(read(&one), read(&other));
    }

    #[test]
    fn a_broken_key_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id_ed25519");
        fs::write(&path, "secret garbage").unwrap();
        let error = client_key(dir.path()).unwrap_err().to_string();
        assert!(error.contains("id_ed25519"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"secret garbage");
    }

    #[test]
    fn a_missing_or_broken_host_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh_host_ed25519_key.pub");
        assert!(public_key_of(&path).unwrap_err().to_string().contains("ssh_host"));
        fs::write(&path, "ssh-ed25519 AAAA").unwrap();
        assert!(public_key_of(&path).unwrap_err().to_string().contains("ssh_host"));
    }
}
