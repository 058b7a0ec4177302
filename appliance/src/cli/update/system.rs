//! The system that a board is to be given.

use std::{fs, io::Read, path::Path};

use nix_compat::store_path::StorePath;

use super::super::error::CommandError;
use crate::model::NodeView;

/// The name of a system is a word.
const MAX_NAME: u64 = 256;
/// What looks after a system that was started.
const TRIAL: &str = "roost-update-trial.service";

/// The system at a path or a link.
///
/// # Errors
/// It is none, or none for this board.
pub(super) fn system(path: &Path, board: &NodeView) -> Result<StorePath, CommandError> {
    let read = |source| CommandError::Read { file: path.display().to_string(), source };
    let target = fs::canonicalize(path).map_err(read)?;
    let system = StorePath::parse(&target.to_string_lossy()).map_err(|error| {
        CommandError::Refused(format!("{} is not in the Nix store: {error}", path.display()))
    })?;
    check(&target, board).map_err(CommandError::Refused)?;
    Ok(system)
}

/// Why a folder is no system for a board, if so.
fn check(system: &Path, board: &NodeView) -> Result<(), String> {
    let shown = system.display();
    if !system.join("bin/switch-to-configuration").is_file() {
        return Err(format!(
            "{shown} is no NixOS system: it has no bin/switch-to-configuration; build \
             config.system.build.toplevel"
        ));
    }
    let mut name = String::new();
    // Not every system says what it is for.
    if let Ok(file) = fs::File::open(system.join("system")) {
        file.take(MAX_NAME)
            .read_to_string(&mut name)
            .map_err(|error| format!("cannot read {shown}/system: {error}"))?;
    }
    let name = name.trim();
    if !name.is_empty() && !board.systems.iter().any(|it| it == name) {
        return Err(format!(
            "{shown} is for {name}, and {} runs {}",
            board.name,
            board.systems.join(", ")
        ));
    }
    let units = system.join("etc/systemd/system");
    if units.is_dir() && !units.join(TRIAL).exists() {
        return Err(format!(
            "{shown} has no {TRIAL}, so the board could not go back by itself; enable \
             services.roost.board in its configuration"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_for_the_board_that_can_go_back_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let board = NodeView {
            systems: vec!["aarch64-linux".into()],
            name: "rock5".into(),
            ..NodeView::default()
        };
        let at = |file: &str| folder.path().join(file);
        let error = || check(folder.path(), &board).unwrap_err();
        assert!(error().contains("no bin/switch-to-configuration"));
        fs::create_dir_all(at("bin")).unwrap();
        fs::write(at("bin/switch-to-configuration"), "").unwrap();
        assert_eq!(check(folder.path(), &board), Ok(()));
        fs::write(at("system"), "x86_64-linux").unwrap();
        assert!(error().contains("is for x86_64-linux, and rock5 runs aarch64-linux"));
        fs::write(at("system"), "aarch64-linux\n").unwrap();
        assert_eq!(check(folder.path(), &board), Ok(()));
        fs::create_dir_all(at("etc/systemd/system")).unwrap();
        assert!(error().contains("could not go back"));
        fs::write(at("etc/systemd/system/roost-update-trial.service"), "").unwrap();
        assert_eq!(check(folder.path(), &board), Ok(()));
        // It has to be in the store.
        let outside = system(folder.path(), &board).unwrap_err().to_string();
        assert!(outside.contains("not in the Nix store"), "{outside}");
    }
}
