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

/// All files that end in `.nix`, outside hidden folders and Cargo's.
fn nix_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name.as_encoded_bytes().starts_with(b".") || name == "target";
        // A link is neither: `result` is one into the store.
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && !skipped => files.extend(nix_files(&path)),
            kind if kind.is_file() && path.extension().is_some_and(|it| it == "nix") => {
                files.push(path);
            }
            _ => {}
        }
    }
    files
}

#[test]
fn every_nix_file_is_formatted() {
    let files = nix_files(&repository());
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
    parse(&nix_files(&repository()));
}

#[test]
fn what_the_documentation_shows_parses_and_is_formatted() {
    let mut shown = vec![PathBuf::from("--expr")];
    for page in fs::read_dir(repository().join("docs")).unwrap().map(|page| page.unwrap().path()) {
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
