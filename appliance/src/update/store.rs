//! Where the state of an update is kept, and who may change it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use nix_compat::store_path::StorePath;
use tokio::time::{Instant, sleep};

use super::{
    decide::{Refusal, admit},
    state::{Flags, Progress, Update, VERSION},
};
use crate::{
    durable::{Locked, sync_folder, write_atomically},
    names,
    trust::Order,
};

const STATE: &str = "state.json";
/// More than any state: an order, two paths and a few lines.
const MAX_STATE_BYTES: u64 = 64 << 10;
/// How long another process may hold the state. The daemon does so for a moment.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Why an update cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is kept makes no sense.
    #[error(
        "{path} makes no sense ({reason}), so nothing is updated or undone; move it away when the board \
         starts the system that it should",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process is at it.
    #[error("an update is under way")]
    Busy,
    /// An order is not followed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something could not be done; it is to be tried again.
    #[error("{0}")]
    Again(String),
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpdateError {
    let path = path.to_owned();
    move |source| UpdateError::File { doing, path, source }
}

/// The files of the last update. Clones are the same.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    order: PathBuf,
    trial: PathBuf,
    root: PathBuf,
}

/// The same, for the one who may change it.
#[derive(Debug)]
pub struct Held<'a> {
    store: &'a Store,
    _lock: Locked,
}

impl Store {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        Self {
            folder: names::UPDATE_DIR.into(),
            order: names::UPDATE_ORDER_FILE.into(),
            trial: names::UPDATE_TRIAL_FILE.into(),
            root: names::UPDATE_ROOT.into(),
        }
    }

    /// One in a folder.
    #[cfg(test)]
    pub(super) fn in_folder(folder: &Path) -> Self {
        let root = folder.join("gcroot");
        let folder = folder.join("update");
        Self { order: folder.join("order"), trial: folder.join("trial"), folder, root }
    }

    /// The file with the state: whoever watches it knows when it changes.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Makes the folder, unless it is there.
    ///
    /// # Errors
    /// [`UpdateError::File`].
    pub fn make(&self) -> Result<(), UpdateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(failed("create", &self.folder))
    }

    /// The last update, if there was one.
    ///
    /// # Errors
    /// [`UpdateError::Damaged`] also of one by a version of roost that this one does not know.
    pub fn read(&self) -> Result<Option<Update>, UpdateError> {
        let path = self.file();
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let damaged = |reason: String| UpdateError::Damaged { path: path.clone(), reason };
        if length > MAX_STATE_BYTES {
            return Err(damaged(format!("it has {length} bytes")));
        }
        let text = fs::read(&path).map_err(failed("read", &path))?;
        let update: Update =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match update.version {
            VERSION => Ok(Some(update)),
            other => Err(damaged(format!("its version is {other} instead of {VERSION}"))),
        }
    }

    /// Keeps everybody else from changing it until the result is dropped.
    ///
    /// # Errors
    /// [`UpdateError::Busy`] if somebody else does.
    pub fn hold(&self) -> Result<Held<'_>, UpdateError> {
        self.make()?;
        match Locked::at_once(&self.folder) {
            Ok(lock) => Ok(Held { store: self, _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(UpdateError::Busy),
            Err(error) => Err(failed("lock", &self.folder)(error)),
        }
    }

    /// As [`Store::hold`], but waits for the other one, 60 s at most.
    ///
    /// # Errors
    /// As [`Store::hold`].
    pub async fn hold_soon(&self) -> Result<Held<'_>, UpdateError> {
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match self.hold() {
                Err(UpdateError::Busy) if Instant::now() < until => sleep(LOCK_INTERVAL).await,
                held => return held,
            }
        }
    }
}

impl Held<'_> {
    /// As [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read(&self) -> Result<Option<Update>, UpdateError> {
        self.store.read()
    }

    /// Takes an order, durably. `usable` tells why the system cannot be run, if so; it is kept from
    /// garbage collection when that is asked, and until the update is over.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] and those of [`Store::read`]: nothing has changed then.
    pub async fn accept(
        &self,
        order: Order,
        usable: impl Future<Output = Result<(), String>>,
    ) -> Result<(), UpdateError> {
        admit(self.read()?.as_ref(), &order)?;
        self.link(&order.system)?;
        if let Err(why) = usable.await {
            self.unlink()?;
            return Err(Refusal::Unusable(why).into());
        }
        self.write(&Update::new(order))
    }

    /// Writes the state. A file that systemd looks for is there before the state that needs it, and
    /// goes after the one that does: whenever this is cut short, somebody is started who goes on.
    pub(super) fn write(&self, update: &Update) -> Result<(), UpdateError> {
        let Flags { order, trial } = update.progress.flags();
        let files = [(order, &self.store.order), (trial, &self.store.trial)];
        for (_, path) in files.iter().filter(|(needed, _)| *needed) {
            write(path, b"")?;
        }
        let path = self.store.file();
        let text = serde_json::to_vec(update).map_err(|error| failed("write", &path)(error.into()));
        write(&path, &text?)?;
        self.clear(&update.progress)
    }

    /// Removes what a state does not need: this is where a process that was killed had come to.
    pub(super) fn clear(&self, progress: &Progress) -> Result<(), UpdateError> {
        if progress.is_over() {
            self.unlink()?;
        }
        let Flags { order, trial } = progress.flags();
        for (needed, path) in [(order, &self.store.order), (trial, &self.store.trial)] {
            if !needed {
                remove(path)?;
            }
        }
        Ok(())
    }

    /// There was never an update, and somebody was started for one.
    pub(super) fn clear_all(&self) -> Result<(), UpdateError> {
        remove(&self.store.order)?;
        remove(&self.store.trial)
    }

    fn link(&self, system: &StorePath) -> Result<(), UpdateError> {
        let root = &self.store.root;
        let new = root.with_extension("new");
        remove(&new)?;
        step()?;
        symlink(system.as_str(), &new)
            .and_then(|()| fs::rename(&new, root))
            .and_then(|()| sync_parent(root))
            .map_err(failed("make", root))
    }

    fn unlink(&self) -> Result<(), UpdateError> {
        remove(&self.store.root)
    }
}

/// Writes a file durably, for root.
fn write(path: &Path, content: &[u8]) -> Result<(), UpdateError> {
    step()?;
    write_atomically(path, content, 0o600).map_err(failed("write", path))
}

/// Removes a file durably. Harmless if there is none.
fn remove(path: &Path) -> Result<(), UpdateError> {
    step()?;
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map_err(failed("remove", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Each change of a file is a step before which tests kill the process.
#[cfg(not(test))]
fn step() -> Result<(), UpdateError> {
    Ok(())
}

#[cfg(test)]
fn step() -> Result<(), UpdateError> {
    match super::tests::is_killed() {
        true => Err(UpdateError::Again("killed".to_owned())),
        false => Ok(()),
    }
}
