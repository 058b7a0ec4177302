//! Garbage-collection roots: what a waiting job needs and what nobody has fetched yet.
//!
//! Below one folder of Nix's `gcroots` there is a folder a job, `<dir>/<job id>/inputs/` or
//! `<dir>/<job id>/outputs/`, with a symbolic link to each held store path, named like the path.
//! Nix walks folders below `gcroots` recursively and takes every link into the store as a root
//! (with the whole closure behind it), so only the paths given are linked.
//!
//! Everything here blocks on the file system: call it through `spawn_blocking`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use nix_compat::store_path::StorePath;

use crate::{durable::sync_folder, model::JobId};

const INPUTS: &str = "inputs";
const OUTPUTS: &str = "outputs";

/// Why roots could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A path is not directly in the store: nothing a root could hold.
    #[error("{path:?} is not a path in {store}, so it cannot be held against garbage collection", store = .store.display())]
    NotInStore {
        /// The path.
        path: String,
        /// The store's folder.
        store: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}; check that it is writable and has space (garbage-collection roots)", path = .path.display())]
    File {
        /// What was tried, such as `create`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The folder with everything that is held. One owner at a time, like the queue.
#[derive(Clone, Debug)]
pub struct Roots {
    dir: PathBuf,
    store: PathBuf,
}

impl Roots {
    /// Uses `dir`, creating it if its parent exists; `store` is the store's folder, `/nix/store`.
    ///
    /// # Errors
    ///
    /// [`RootsError::File`], also if the parent is missing: then Nix is not installed there.
    pub fn open(dir: &Path, store: &Path) -> Result<Self, RootsError> {
        create_dir(dir)?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
        Ok(Self { dir: dir.to_owned(), store: store.to_owned() })
    }

    /// Holds what a job needs. Durable when it returns: call it before the job is accepted.
    /// Repeating it adds paths.
    ///
    /// # Errors
    ///
    /// [`RootsError`]; some of the paths may be held then, until [`Roots::release`].
    pub fn hold_inputs<'p>(
        &self,
        id: &JobId,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<(), RootsError> {
        self.hold(id, INPUTS, paths)
    }

    /// Holds what a job has made, durably, and lets go of what it needed.
    ///
    /// # Errors
    ///
    /// [`RootsError`]; the inputs are let go of only when all outputs are held.
    pub fn hold_outputs<'p>(
        &self,
        id: &JobId,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<(), RootsError> {
        self.hold(id, OUTPUTS, paths)?;
        remove_dir(&self.job_dir(id).join(INPUTS))
    }

    /// Lets go of everything held for a job. Harmless if there is nothing. Not synced: a root that
    /// power loss brings back is found by [`Roots::sweep`].
    ///
    /// # Errors
    ///
    /// [`RootsError::File`].
    pub fn release(&self, id: &JobId) -> Result<(), RootsError> {
        remove_dir(&self.job_dir(id))
    }

    /// Removes the folders of all jobs but `keep` and returns their names. To be called when the
    /// queue was opened. A name is that of a job whose removal was cut short, or that was about
    /// to be accepted, or that a damaged queue has lost.
    ///
    /// # Errors
    ///
    /// [`RootsError::File`]; nothing is held too little then.
    pub fn sweep(&self, keep: &BTreeSet<JobId>) -> Result<Vec<String>, RootsError> {
        let mut removed = Vec::new();
        let entries = fs::read_dir(&self.dir).map_err(failed("read", &self.dir))?;
        for entry in entries {
            let name = entry.map_err(failed("read", &self.dir))?.file_name();
            let kept = name.to_str().is_some_and(|name| keep.iter().any(|id| id.as_str() == name));
            if !kept {
                remove_any(&self.dir.join(&name))?;
                removed.push(name.to_string_lossy().into_owned());
            }
        }
        removed.sort();
        Ok(removed)
    }

    fn job_dir(&self, id: &JobId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    fn hold<'p>(
        &self,
        id: &JobId,
        kind: &str,
        paths: impl IntoIterator<Item = &'p StorePath>,
    ) -> Result<(), RootsError> {
        let names = paths
            .into_iter()
            .map(|path| self.name_in_store(&path.to_string()))
            .collect::<Result<BTreeSet<_>, _>>()?;
        let job_dir = self.job_dir(id);
        let dir = job_dir.join(kind);
        create_dir(&job_dir)?;
        create_dir(&dir)?;
        for name in names {
            link(&self.store.join(&name), &dir.join(&name))?;
        }
        // Children first: a folder that is found again is then complete.
        sync_dir(&dir)?;
        sync_dir(&job_dir)?;
        sync_dir(&self.dir)
    }

    /// The one path component below the store.
    fn name_in_store(&self, path: &str) -> Result<String, RootsError> {
        let name =
            Path::new(path).strip_prefix(&self.store).ok().and_then(Path::to_str).filter(|name| {
                !name.is_empty()
                    && !name.starts_with('.')
                    && !name.contains(['/', '\0'])
                    && path.ends_with(name)
            });
        name.map(str::to_owned).ok_or_else(|| RootsError::NotInStore {
            path: path.to_owned(),
            store: self.store.clone(),
        })
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootsError {
    let path = path.to_owned();
    move |source| RootsError::File { doing, path, source }
}

fn create_dir(dir: &Path) -> Result<(), RootsError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("create", dir)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn link(target: &Path, link: &Path) -> Result<(), RootsError> {
    match symlink(target, link) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Only we write here, and a link's name tells its target.
            if fs::read_link(link).is_ok_and(|found| found == target) {
                return Ok(());
            }
            remove_any(link)?;
            symlink(target, link).map_err(failed("create", link))
        }
        Err(error) => Err(failed("create", link)(error)),
    }
}

/// Removes a folder and what is in it, never following a link.
fn remove_dir(dir: &Path) -> Result<(), RootsError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_any(path: &Path) -> Result<(), RootsError> {
    let metadata = path.symlink_metadata().map_err(failed("look at", path))?;
    if metadata.is_dir() {
        remove_dir(path)
    } else {
        fs::remove_file(path).map_err(failed("remove", path))
    }
}

fn sync_dir(dir: &Path) -> Result<(), RootsError> {
    sync_folder(dir).map_err(failed("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobKey, Mode, Site};

    fn path(text: &str) -> StorePath {
        serde_json::from_value(serde_json::Value::from(text)).unwrap()
    }

    fn numbered(number: u32) -> StorePath {
        path(&format!("/nix/store/{number:032}-thing"))
    }

    fn id(number: u32) -> JobId {
        let drv_path = path(&format!("/nix/store/{number:032}-job.drv"));
        JobKey { drv_path, outputs: BTreeSet::new(), mode: Mode::Normal, site: Site::Here }.id()
    }

    fn roots() -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::open(&dir.path().join("roost"), Path::new("/nix/store")).unwrap();
        (dir, roots)
    }

    /// Every link below the folder, as Nix would find them.
    fn targets(roots: &Roots) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![roots.dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() {
                    found.insert(fs::read_link(path).unwrap());
                } else {
                    folders.push(path);
                }
            }
        }
        found
    }

    fn paths(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<PathBuf> {
        numbers.into_iter().map(|number| PathBuf::from(numbered(number).to_string())).collect()
    }

    #[test]
    fn inputs_are_held_until_outputs_are_until_released() {
        let (_dir, roots) = roots();
        roots.hold_inputs(&id(1), [&numbered(1), &numbered(2)]).unwrap();
        roots.hold_inputs(&id(2), [&numbered(2)]).unwrap();
        assert_eq!(targets(&roots), paths([1, 2]));
        roots.hold_outputs(&id(1), [&numbered(3)]).unwrap();
        assert_eq!(targets(&roots), paths([2, 3]));
        roots.release(&id(1)).unwrap();
        assert_eq!(targets(&roots), paths([2]));
        roots.release(&id(1)).unwrap();
    }

    #[test]
    fn holding_twice_adds_and_repairs() {
        let (_dir, roots) = roots();
        roots.hold_inputs(&id(1), [&numbered(1)]).unwrap();
        let link = roots.job_dir(&id(1)).join(INPUTS).join(format!("{:032}-thing", 1));
        fs::remove_file(&link).unwrap();
        symlink("/etc/passwd", &link).unwrap();
        roots.hold_inputs(&id(1), [&numbered(1), &numbered(2)]).unwrap();
        assert_eq!(targets(&roots), paths([1, 2]));
    }

    #[test]
    fn a_sweep_removes_what_no_job_holds_and_never_follows_links() {
        let (dir, roots) = roots();
        fs::create_dir(dir.path().join("precious")).unwrap();
        fs::write(dir.path().join("precious/file"), "").unwrap();
        roots.hold_inputs(&id(1), [&numbered(1)]).unwrap();
        roots.hold_inputs(&id(2), [&numbered(2)]).unwrap();
        symlink(dir.path().join("precious"), roots.dir.join("link")).unwrap();
        symlink(dir.path().join("precious"), roots.job_dir(&id(2)).join("link")).unwrap();
        fs::write(roots.dir.join("file"), "").unwrap();
        let removed = roots.sweep(&[id(1)].into()).unwrap();
        assert_eq!(removed.len(), 3);
        assert_eq!(targets(&roots), paths([1]));
        assert!(dir.path().join("precious/file").exists());
        assert_eq!(roots.sweep(&[id(1)].into()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_paths_directly_in_the_store_can_be_held() {
        let (_dir, roots) = roots();
        for bad in [
            "/nix/store/..",
            "/nix/store",
            "/nix/store/",
            "/nix/store/a/b",
            "/etc/x",
            "/nix/store/../x",
            "a",
            "",
            "/nix/store/a/..",
            "/nix/store/.links",
        ] {
            // Some of these no StorePath can be: then there is nothing to hold.
            let Ok(bad) = serde_json::from_value(serde_json::Value::from(bad)) else { continue };
            let held = roots.hold_inputs(&id(1), [&bad]);
            assert!(matches!(held, Err(RootsError::NotInStore { .. })), "{bad}: {held:?}");
        }
        assert_eq!(targets(&roots), paths([]));
    }

    #[test]
    fn without_nix_the_error_names_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let error = Roots::open(&dir.path().join("no/roost"), Path::new("/nix/store")).unwrap_err();
        assert!(error.to_string().contains("no/roost"), "{error}");
    }
}
