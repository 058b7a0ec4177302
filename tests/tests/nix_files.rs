//! Every Nix file of the repository parses, by Nix itself, and is formatted; so does what the
//! documentation shows.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files with this ending, outside hidden folders and Cargo's.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name.as_encoded_bytes().starts_with(b".") || name == "target";
        // A link is neither: `result` is one into the store.
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && !skipped => found.extend(files(&path, ending)),
            kind if kind.is_file() && path.extension().is_some_and(|it| it == ending) => {
                found.push(path);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_nix_file_is_formatted() {
    let files = files(&repository(), "nix");
    assert!(files.iter().any(|file| file.ends_with("flake.nix")));
    let ill_formatted: Vec<_> = files
        .iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            nixpkgs_fmt::reformat_string(&text) != text
        })
        .collect();
    assert!(
        ill_formatted.is_empty(),
        "format them with nixpkgs-fmt (cargo install): {ill_formatted:#?}"
    );
}

/// Has Nix parse files, or texts after `--expr`.
fn parse(arguments: &[PathBuf]) {
    let output = Command::new(repository().join("scripts/nix.sh"))
        .args(["nix-instantiate", "--parse"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_nix_file_parses() {
    parse(&files(&repository(), "nix"));
}

#[test]
fn what_the_documentation_shows_parses_and_is_formatted() {
    let mut shown = vec![PathBuf::from("--expr")];
    for page in files(&repository(), "md") {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```nix\n").skip(1) {
            let block = block.split("```").next().unwrap();
            assert_eq!(nixpkgs_fmt::reformat_string(block), block, "{}", page.display());
            shown.push(block.into());
        }
    }
    assert!(shown.len() > 3);
    parse(&shown);
}
