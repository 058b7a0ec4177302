//! `make nix-eval`: evaluates every output of `flake.nix`, and what the modules make of small
//! configurations, with a nixpkgs that lies in a folder: no flakes, no network, nothing built.
//!
//! Each output is evaluated by a Nix of its own, so that one that fails stops no other.

mod evaluate;
mod report;

use std::{path::PathBuf, process::ExitCode};

use evaluate::Evaluator;

const USAGE: &str = "\
nix-eval: evaluates the outputs of flake.nix with a nixpkgs that lies in a folder

    make nix-eval NIXPKGS=path [NIXOS_HARDWARE=path] [ONLY=prefix] [JSON=1]

NIXPKGS is a checkout of NixOS/nixpkgs, or what `nix-instantiate --find-file nixpkgs` prints; NIXOS_HARDWARE
one of NixOS/nixos-hardware, for the boards that need it. ONLY=modules. is the tests of the modules alone,
and ONLY=packages.x86_64-linux. what is built on such a machine.";

/// What was asked for.
struct Wanted {
    nixpkgs: PathBuf,
    hardware: Option<PathBuf>,
    only: String,
    json: bool,
}

/// The same from words such as `--nixpkgs=path`; those without a value say nothing, as a variable of
/// make's that is not set.
fn wanted(words: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut nixpkgs, mut hardware) = (None, None);
    let (mut only, mut json) = (String::new(), false);
    for word in words {
        match word.split_once('=') {
            Some((_, "")) => {}
            Some(("--nixpkgs", path)) => nixpkgs = Some(folder("NIXPKGS", path, "nixos/modules")?),
            Some(("--nixos-hardware", path)) => {
                hardware = Some(folder("NIXOS_HARDWARE", path, "flake.nix")?);
            }
            Some(("--only", prefix)) => prefix.clone_into(&mut only),
            Some(("--json", _)) => json = true,
            _ => return Err(format!("{word} is not known\n\n{USAGE}")),
        }
    }
    let nixpkgs = nixpkgs.ok_or_else(|| format!("NIXPKGS is not given\n\n{USAGE}"))?;
    Ok(Wanted { nixpkgs, hardware, only, json })
}

/// A folder that holds what makes it the right one.
fn folder(variable: &str, path: &str, holds: &str) -> Result<PathBuf, String> {
    let real = PathBuf::from(path)
        .canonicalize()
        .map_err(|error| format!("{variable}={path}: {error}"))?;
    match real.join(holds).exists() {
        true => Ok(real),
        false => Err(format!("{variable}={path}: there is no {holds} in it")),
    }
}

fn run() -> Result<bool, String> {
    let wanted = wanted(std::env::args().skip(1))?;
    let evaluator = Evaluator { nixpkgs: wanted.nixpkgs, hardware: wanted.hardware };
    let names = evaluator.rows()?;
    let names: Vec<_> = names.into_iter().filter(|name| name.starts_with(&wanted.only)).collect();
    if names.is_empty() {
        return Err(format!("there is nothing whose name starts with {}", wanted.only));
    }
    let rows = evaluator.all(&names);
    let text = if wanted.json { report::json(&rows) } else { report::table(&rows) };
    println!("{text}");
    Ok(rows.iter().all(|row| row.value.is_ok()))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("nix-eval: {why}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        wanted(words.iter().map(|&word| word.to_owned())).err().expect("it is refused")
    }

    #[test]
    fn without_a_nixpkgs_it_says_what_to_give() {
        for words in [&[][..], &["--nixpkgs=", "--only=modules."]] {
            let why = refused(words);
            assert!(why.starts_with("NIXPKGS is not given"), "{why}");
            assert!(why.contains("make nix-eval NIXPKGS=path"), "{why}");
        }
    }

    #[test]
    fn a_folder_that_is_none_or_the_wrong_one_is_named() {
        let why = refused(&["--nixpkgs=/no/such/folder"]);
        assert!(why.starts_with("NIXPKGS=/no/such/folder: "), "{why}");
        let why = refused(&["--nixos-hardware=/proc"]);
        assert_eq!(why, "NIXOS_HARDWARE=/proc: there is no flake.nix in it");
    }
}
