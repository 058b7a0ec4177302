//! Keeps what stock Nix reads in step with the fleet: the machines file and the links it names.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{info, warn};

use super::{
    Fleet,
    machines::{self, Line},
};
use crate::model::NodeView;

/// Where the builder is published, and what of the fleet.
#[derive(Clone)]
pub struct Places {
    /// The machines file.
    pub machines: PathBuf,
    /// The folder of links.
    pub connect_dir: PathBuf,
    /// What the links point to: this program.
    pub program: PathBuf,
    /// Memory of this machine.
    pub mem_mib: u64,
    /// Nodes that are no boards, and take what Nix asks for all the same.
    pub own: Vec<NodeView>,
    /// Jobs each line promises, if configured.
    pub max_jobs: Option<u32>,
    /// Whether jobs for a system may be emulated.
    pub emulates: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Publishes the fleet, now and whenever it changes.
pub async fn publish(fleet: &Fleet, places: &Places) {
    let mut changes = fleet.changes();
    let mut written = None;
    loop {
        changes.borrow_and_update();
        let boards = fleet.members();
        let boards = boards.iter().map(|board| board.node()).chain(places.own.iter().cloned());
        let boards: Vec<_> = boards.collect();
        let lines = machines::lines(&boards, &*places.emulates, places.mem_mib, places.max_jobs);
        if written.as_ref() != Some(&lines) {
            match write(places, &lines) {
                Ok(()) => {
                    info!(lines = lines.len(), file = %places.machines.display(), "machines written");
                    written = Some(lines);
                }
                Err(error) => warn!("cannot write {}: {error}", places.machines.display()),
            }
        }
        fleet.remember();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Links first, then the lines that name them, then the links that nothing names any more.
fn write(places: &Places, lines: &[Line]) -> io::Result<()> {
    fs::create_dir_all(&places.connect_dir)?;
    let selectors: BTreeSet<_> = lines.iter().map(|line| line.selector.as_str()).collect();
    for selector in &selectors {
        let link = places.connect_dir.join(selector);
        if fs::read_link(&link).ok().as_deref() != Some(&places.program) {
            let _ = fs::remove_file(&link);
            symlink(&places.program, &link)?;
        }
    }
    replace(&places.machines, machines::render(lines).as_bytes())?;
    for entry in fs::read_dir(&places.connect_dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !selectors.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Replaces a file whole, readable for everyone. It is made anew at every start: no fsync.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(system: &str) -> Vec<Line> {
        let board = NodeView { systems: vec![system.to_owned()], slots: 1, ..NodeView::default() };
        machines::lines(&[board], |_| true, 1024, None)
    }

    #[test]
    fn links_follow_the_lines_and_the_file_is_readable_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            machines: folder.path().join("machines"),
            connect_dir: folder.path().join("connect"),
            program: "/usr/bin/roost".into(),
            mem_mib: 1024,
            own: Vec::new(),
            max_jobs: None,
            emulates: Arc::new(|_| true),
        };
        write(&places, &lines_of("aarch64-linux")).unwrap();
        write(&places, &lines_of("riscv64-linux")).unwrap();
        let links: Vec<_> = fs::read_dir(&places.connect_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(links, ["riscv64-linux"]);
        let link = fs::read_link(places.connect_dir.join("riscv64-linux")).unwrap();
        assert_eq!(link, Path::new("/usr/bin/roost"));
        let mode = fs::metadata(&places.machines).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert!(fs::read_to_string(&places.machines).unwrap().contains("riscv64-linux - "));
    }
}
