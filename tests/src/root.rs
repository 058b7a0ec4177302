//! The cached root file systems that hosts are laid over.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use crate::error::{Error, Result};

/// Which Debian, and by that which Nix, a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// Debian 13, with Nix 2.26.
    #[default]
    Trixie,
    /// Debian's newest, with Nix 2.34 or later.
    Sid,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// Its root file system: built by `tests/root/build.sh` when there is none, about 25 s.
    ///
    /// # Errors
    ///
    /// [`Error::Root`] with what the script said.
    pub fn root(self) -> Result<PathBuf> {
        static ROOTS: Mutex<BTreeMap<Release, PathBuf>> = Mutex::new(BTreeMap::new());
        let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = roots.get(&self) {
            return Ok(root.clone());
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("root/build.sh");
        let failed = |output| Error::Root { release: self.name(), output };
        let output = Command::new(script)
            .arg(self.name())
            .arg(cache())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        roots.insert(self, root.clone());
        Ok(root)
    }
}

/// The folder that Cargo builds into.
#[must_use]
pub fn target_folder() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => absolute(Path::new(&folder)),
        None => absolute(Path::new(env!("CARGO_MANIFEST_DIR"))).with_file_name("target"),
    }
}

/// Where roots and running LANs are kept: `ROOST_LAB_CACHE`, or `lab` in the target folder.
pub(crate) fn cache() -> PathBuf {
    match env::var_os("ROOST_LAB_CACHE") {
        Some(folder) => absolute(Path::new(&folder)),
        None => target_folder().join("lab"),
    }
}

fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
