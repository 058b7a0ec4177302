//! Keeps what stock Nix reads in step with the fleet: the machines file and the links it names.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// The folder of machines files of single boards.
    pub only_dir: PathBuf,
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
        let members: Vec<_> = fleet.members().iter().map(|board| board.node()).collect();
        let only = only(places, &members);
        let boards: Vec<_> = members.into_iter().chain(places.own.iter().cloned()).collect();
        let lines = machines::lines(&boards, &*places.emulates, places.mem_mib, places.max_jobs);
        let all = Files { lines, only };
        if written.as_ref() != Some(&all) {
            match write(places, &all) {
                Ok(()) => {
                    let lines = all.lines.len();
                    info!(lines, file = %places.machines.display(), "machines written");
                    fleet.published(&all.lines);
                    written = Some(all);
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

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    /// The machines file.
    lines: Vec<Line>,
    /// The machines files of single boards, by file name.
    only: BTreeMap<String, Vec<Line>>,
}

/// The machines files of single boards: each by its id, and by its name if no other board has that.
fn only(places: &Places, boards: &[NodeView]) -> BTreeMap<String, Vec<Line>> {
    let mut files = BTreeMap::new();
    let named = |name: &str| boards.iter().filter(|it| it.id == name || it.name == name).count();
    for board in boards {
        let lines = machines::lines_of(board, &*places.emulates, places.mem_mib, places.max_jobs);
        if named(&board.name) == 1 && is_tame(&board.name) {
            files.insert(board.name.clone(), lines.clone());
        }
        if is_tame(&board.id) {
            files.insert(board.id.clone(), lines);
        }
    }
    files
}

/// Whether a name can be a file's: boards choose theirs.
fn is_tame(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

/// Links first, then the lines that name them, then what nothing names any more is removed.
fn write(places: &Places, files: &Files) -> io::Result<()> {
    fs::create_dir_all(&places.connect_dir)?;
    fs::create_dir_all(&places.only_dir)?;
    let all = files.lines.iter().chain(files.only.values().flatten());
    let selectors: BTreeSet<_> = all.map(|line| line.selector.as_str()).collect();
    for selector in &selectors {
        let link = places.connect_dir.join(selector);
        if fs::read_link(&link).ok().as_deref() != Some(&places.program) {
            let _ = fs::remove_file(&link);
            symlink(&places.program, &link)?;
        }
    }
    replace(&places.machines, machines::render(&files.lines).as_bytes())?;
    for (name, lines) in &files.only {
        replace(&places.only_dir.join(name), machines::render(lines).as_bytes())?;
    }
    remove_others(&places.connect_dir, |name| selectors.contains(name))?;
    remove_others(&places.only_dir, |name| files.only.contains_key(name))
}

/// Removes the files of a folder that are not to be there.
fn remove_others(folder: &Path, belongs: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&belongs) {
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

    fn board(name: &str, system: &str) -> NodeView {
        let (id, name) = (format!("id-{name}"), name.to_owned());
        NodeView { id, name, systems: vec![system.to_owned()], slots: 1, ..NodeView::default() }
    }

    fn places(folder: &Path) -> Places {
        Places {
            machines: folder.join("machines"),
            connect_dir: folder.join("connect"),
            only_dir: folder.join("only"),
            program: "/usr/bin/roost".into(),
            mem_mib: 1024,
            own: Vec::new(),
            max_jobs: None,
            emulates: Arc::new(|_| true),
        }
    }

    fn publish_all(places: &Places, boards: &[NodeView]) {
        let lines = machines::lines(boards, |_| true, 1024, None);
        write(places, &Files { lines, only: only(places, boards) }).unwrap();
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn links_follow_the_lines_and_the_files_are_readable_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        publish_all(&places, &[board("rock5", "aarch64-linux")]);
        publish_all(&places, &[board("vf2", "riscv64-linux")]);
        assert_eq!(
            names(&places.connect_dir),
            ["only-id-vf2-1".to_owned(), "riscv64-linux".to_owned()].into()
        );
        let link = fs::read_link(places.connect_dir.join("riscv64-linux")).unwrap();
        assert_eq!(link, Path::new("/usr/bin/roost"));
        assert_eq!(names(&places.only_dir), ["id-vf2".to_owned(), "vf2".to_owned()].into());
        for file in [places.machines, places.only_dir.join("vf2")] {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "{}", file.display());
            assert!(fs::read_to_string(&file).unwrap().contains("riscv64-linux - "));
        }
    }

    #[test]
    fn a_board_is_named_in_its_file_only_if_the_name_is_its_own_and_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let twin = NodeView { id: "id-twin".to_owned(), ..board("vf2", "riscv64-linux") };
        let boards = [
            board("vf2", "riscv64-linux"),
            twin,
            board("../x", "riscv64-linux"),
            NodeView { name: "id-vf2".to_owned(), ..board("thief", "aarch64-linux") },
        ];
        let files = only(&places(folder.path()), &boards);
        assert_eq!(Vec::from_iter(files.keys()), ["id-thief", "id-twin", "id-vf2"]);
        assert_eq!(files["id-vf2"][0].system, "riscv64-linux");
    }
}
