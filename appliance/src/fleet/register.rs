//! The durable list of the fleet's boards: a JSON file, replaced whole, and only when it changes.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::model::NodeView;

/// What can go wrong with the register.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It is there and cannot be read.
    #[error("cannot read the fleet register {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is no register.
    #[error("the fleet register {} is damaged: {source}; move it away, and boards will be found again as they announce themselves", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("cannot write the fleet register {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// What lasts of a board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Its description.
    #[serde(flatten)]
    pub(super) view: NodeView,
    /// The host key it proved, as `ssh-ed25519 AAAA…`: it is no member with another one.
    pub(super) host_key: Option<String>,
}

pub(super) struct Register {
    path: PathBuf,
    written: Mutex<Vec<Known>>,
}

impl Register {
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<Known>), RegisterError> {
        let known: Vec<Known> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| RegisterError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(RegisterError::Read { path, source }),
        };
        Ok((Self { path, written: Mutex::new(known.clone()) }, known))
    }

    /// Saves what lasts of each description.
    pub(super) fn save(&self, known: Vec<Known>) -> Result<(), RegisterError> {
        let lasting: Vec<_> = known.into_iter().map(lasting).collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == lasting {
            return Ok(());
        }
        let write = |source| RegisterError::Write { path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(&lasting).map_err(|error| write(error.into()))?;
        replace(&self.path, &text).map_err(write)?;
        *written = lasting;
        Ok(())
    }
}

/// What does not change from one minute to the next.
fn lasting(Known { view, host_key }: Known) -> Known {
    let (paused, trouble) = (String::new(), String::new());
    let view = NodeView {
        running: 0,
        queued: 0,
        temperature_mc: None,
        draining: false,
        paused,
        trouble,
        history: 0,
        ..view
    };
    Known { view, host_key }
}

/// Replaces a file whole, durably.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str) -> NodeView {
        NodeView { id: id.to_owned(), slots: 2, ..NodeView::default() }
    }

    fn known(view: NodeView) -> Known {
        Known { view, host_key: Some("ssh-ed25519 AAAA".to_owned()) }
    }

    #[test]
    fn boards_are_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.json");
        let (register, none) = Register::open(path.clone()).unwrap();
        assert_eq!(none, []);
        let busy = NodeView { running: 3, ..view("a") };
        register.save(vec![known(busy), known(view("b"))]).unwrap();
        assert_eq!(Register::open(path).unwrap().1, [known(view("a")), known(view("b"))]);
    }

    #[test]
    fn what_passes_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.json");
        let (register, _) = Register::open(path.clone()).unwrap();
        register.save(vec![known(view("a"))]).unwrap();
        fs::remove_file(&path).unwrap();
        register.save(vec![known(NodeView { queued: 7, ..view("a") })]).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_register_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.json");
        fs::write(&path, "[{").unwrap();
        let error = Register::open(path).err().unwrap().to_string();
        assert!(
            error.contains("fleet.json is damaged") && error.contains("move it away"),
            "{error}"
        );
    }
}
