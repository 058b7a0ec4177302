//! Asks Nix.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// The longest time, in seconds, that one evaluation may take: a whole nixpkgs on a small board needs a
/// minute or two.
const PATIENCE_S: &str = "900";

/// Memory of one evaluation of a NixOS configuration; as many run at once as there is memory for.
const EVALUATION_MIB: u64 = 1024;

/// What is evaluated with what.
pub(crate) struct Evaluator {
    pub(crate) nixpkgs: PathBuf,
    pub(crate) hardware: Option<PathBuf>,
}

/// One output.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Its derivation, or its verdict; else what Nix said.
    pub(crate) value: Result<String, String>,
    pub(crate) took: Duration,
}

impl Evaluator {
    /// The names of all that there is.
    pub(crate) fn rows(&self) -> Result<Vec<String>, String> {
        let json = self.nix("rows", None)?;
        serde_json::from_str(&json).map_err(|error| format!("the names of the outputs: {error}"))
    }

    /// Evaluates all, some at once, and says how far it is on standard error.
    pub(crate) fn all(&self, names: &[String]) -> Vec<Row> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..workers().min(names.len()) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let row = self.one(name);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.push(row);
                        if let Some(row) = done.last() {
                            progress(row, done.len(), names.len());
                        }
                    }
                });
            }
        });
        let mut rows = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_by(|a: &Row, b| a.name.cmp(&b.name));
        rows
    }

    fn one(&self, name: &str) -> Row {
        let start = roost_lab::now();
        let value = self.nix("get", Some(name)).and_then(|json| {
            serde_json::from_str(&json).map_err(|error| format!("it is no text: {error}"))
        });
        Row { name: name.to_owned(), value, took: start.elapsed() }
    }

    /// An attribute of `tests/nix/eval.nix` as JSON, or the function there called with a name.
    fn nix(&self, attribute: &str, name: Option<&str>) -> Result<String, String> {
        let repository = repository();
        let mut command = Command::new("timeout");
        command.arg(PATIENCE_S).arg(repository.join("scripts/nix.sh"));
        command.arg("--see").arg(&self.nixpkgs);
        if let Some(hardware) = &self.hardware {
            command.arg("--see").arg(hardware);
        }
        command.args(["nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode"]);
        command.args(["--argstr", "name", name.unwrap_or_default()]);
        command.args(["--argstr", "attribute", attribute]);
        command.arg("--argstr").arg("nixpkgs").arg(&self.nixpkgs);
        let hardware = self.hardware.as_deref().unwrap_or(Path::new(""));
        command.arg("--argstr").arg("nixosHardware").arg(hardware);
        command.arg("--argstr").arg("eval").arg(repository.join("tests/nix/eval.nix"));
        command.args(["--expr", EXPRESSION]);
        let output = command.output().map_err(|error| format!("cannot run timeout: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if output.status.code() == Some(124) {
            return Err(format!("not within {PATIENCE_S} s"));
        }
        Err(complaint(&String::from_utf8_lossy(&output.stderr)))
    }
}

const EXPRESSION: &str = "{ eval, attribute, name, nixpkgs, nixosHardware }: \
    let it = (import eval { inherit nixpkgs nixosHardware; }).${attribute}; \
    in if name == \"\" then it else it name";

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// How many evaluations run at once.
fn workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free_kib = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok()
        })
        .unwrap_or(0_u64);
    let room = usize::try_from(free_kib / 1024 / EVALUATION_MIB).unwrap_or(usize::MAX);
    cores.min(room).max(1)
}

fn progress(row: &Row, done: usize, all: usize) {
    let word = if row.value.is_ok() { "ok" } else { "FAILED" };
    eprintln!("[{done:3}/{all}] {word:6} {:6.1} s  {}", row.took.as_secs_f64(), row.name);
}

/// What was wrong, of what Nix says: its last error and where that is, without colours.
fn complaint(stderr: &str) -> String {
    let plain: Vec<String> = stderr.lines().map(without_colours).collect();
    let last = plain.iter().rposition(|line| line.trim_start().starts_with("error:")).unwrap_or(0);
    let told: Vec<&str> = plain.iter().skip(last).map(|line| line.trim()).collect();
    let told: Vec<&str> = told.into_iter().filter(|line| !line.is_empty()).take(12).collect();
    told.join("\n").trim_start_matches("error: ").to_owned()
}

/// A line without ANSI's sequences for colours: ESC, `[`, and what ends with a letter.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain + part.get(end..).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_people_are_told() {
        let stderr = "\u{1b}[31;1merror:\u{1b}[0m\n  … while calling\n\n   \
            \u{1b}[31;1merror:\u{1b}[0m attribute 'x' missing\n   at /a.nix:1:2:\n   1| a\n";
        assert_eq!(complaint(stderr), "attribute 'x' missing\nat /a.nix:1:2:\n1| a");
    }

    #[test]
    fn what_is_no_error_of_nix_is_told_as_it_is() {
        assert_eq!(complaint("build.sh: needs root\n"), "build.sh: needs root");
        assert_eq!(complaint(""), "");
    }
}
