//! The stock build hook's command.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::getppid;

/// Nix's program.
const NIX: &str = "nix";

/// Nix's own hook, as an argument of `nix`.
const BUILD_REMOTE: &str = "__build-remote";

/// What the kernel adds to the name of a program whose file has gone, as after an upgrade (proc(5)).
const DELETED: &[u8] = b" (deleted)";

/// The stock hook's command for these arguments of `roost hook`: its words and the verbosity, or the
/// verbosity alone. None if there is not even that.
pub(super) fn command(words: &[OsString]) -> Option<Command> {
    match words {
        [] => None,
        [verbosity] => {
            let mut command = Command::new(running_nix(Path::new("/proc")));
            // By its own name, as Nix does it.
            command.arg0(NIX).arg(BUILD_REMOTE).arg(verbosity);
            Some(command)
        }
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments);
            Some(command)
        }
    }
}

/// The `nix` that has started this program, by the process that runs: the very program, even if its file
/// was replaced since. What is found on the PATH, if that is another program with Nix inside.
fn running_nix(proc: &Path) -> PathBuf {
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let exe = proc.join(parent.to_string()).join("exe");
    let is_nix = fs::read_link(&exe).is_ok_and(|target| is_nix(target.as_os_str()));
    if is_nix { exe } else { PathBuf::from(NIX) }
}

/// `nix-daemon` and the like are links to `nix`.
fn is_nix(program: &OsStr) -> bool {
    let path = program.as_bytes();
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    Path::new(OsStr::from_bytes(path)).file_name() == Some(OsStr::new(NIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn line(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_stock_hook_that_is_named_is_called_as_nix_would() {
        assert_eq!(line(&command(&words("/opt/hook a b 3")).unwrap()), "/opt/hook a b 3");
        assert!(command(&[]).is_none());
    }

    #[test]
    fn without_one_it_is_the_nix_that_runs_or_the_one_on_the_path() {
        // Tests are not started by nix.
        assert_eq!(line(&command(&words("0")).unwrap()), "nix __build-remote 0");
        let proc = tempfile::tempdir().unwrap();
        let parent = getppid().unwrap().as_raw_nonzero().get();
        let folder = proc.path().join(parent.to_string());
        fs::create_dir(&folder).unwrap();
        let exe = folder.join("exe");
        for (target, ours) in [
            ("/usr/bin/nix", true),
            ("/nix/store/x/bin/nix (deleted)", true),
            ("/usr/bin/hydra-queue-runner", false),
        ] {
            std::os::unix::fs::symlink(target, &exe).unwrap();
            let found = running_nix(proc.path());
            assert_eq!(found == exe, ours, "{target} gave {}", found.display());
            fs::remove_file(&exe).unwrap();
        }
    }
}
