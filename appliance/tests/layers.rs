//! The folders of the program depend on each other one way, and the crates that do I/O are named
//! only where their concern is.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which folder may name which others; `names` and a folder itself go without saying.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("draw", &[]),
    ("durable", &[]),
    ("media", &[]),
    ("sys", &[]),
    ("config", &["model"]),
    ("learn", &["model"]),
    ("graph", &["model", "sys"]),
    ("place", &["model"]),
    ("queue", &["durable", "learn", "model"]),
    ("observe", &["model", "sys"]),
    ("trust", &["durable", "model", "sys"]),
    ("enrol", &["model", "trust"]),
    ("update", &["durable", "model", "trust"]),
    ("first_boot", &["durable", "media", "trust"]),
    ("flash", &["durable", "media", "sys"]),
    ("bus", &["model"]),
    ("discover", &["bus", "model"]),
    ("wire", &["learn", "model", "sys"]),
    ("execute", &["model", "observe", "queue", "wire"]),
    ("dispatch", &["execute", "learn", "model", "place", "queue"]),
    ("fleet", &["discover", "enrol", "execute", "learn", "model", "place", "trust", "wire"]),
    (
        "daemon",
        &[
            "bus", "config", "discover", "dispatch", "enrol", "execute", "fleet", "graph", "learn",
            "model", "observe", "place", "queue", "sys", "trust", "update", "wire",
        ],
    ),
    (
        "cli",
        &[
            "bus",
            "config",
            "daemon",
            "discover",
            "draw",
            "enrol",
            "execute",
            "first_boot",
            "flash",
            "fleet",
            "media",
            "model",
            "observe",
            "trust",
            "update",
            "wire",
        ],
    ),
];

/// Which folders may name a crate that does I/O, or that hides it.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("sled", &["queue"]),
    ("zbus", &["bus", "discover"]),
    ("openssh", &["execute", "fleet"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("libc", &["sys"]),
    ("comfy_table", &["cli"]),
    ("fatfs", &["media"]),
    ("gpt", &["media"]),
    ("indicatif", &["cli"]),
    ("ruzstd", &["flash"]),
    ("signal_hook", &["cli"]),
    ("sd_notify", &["daemon"]),
];

/// What the folders that only think may not name. `model` may name tokio's channels, which wait and
/// do no I/O.
const PURE: &[(&str, &[&str])] = &[
    ("draw", &["tokio", "std::fs", "std::io", "std::net", "std::process", "std::time", "rustix"]),
    ("model", &["tokio::net", "tokio::fs", "tokio::process", "tokio::time", "std::fs", "std::net"]),
    ("learn", &["tokio", "std::fs", "std::net", "std::process", "std::time::SystemTime", "rustix"]),
    ("place", &["tokio", "std::fs", "std::net", "std::process", "std::time::SystemTime", "rustix"]),
];

/// The only folder with unsafe code; each use of it says why it is right.
const UNSAFE: &str = "sys";

/// The program's source files by folder, as code: without comments.
fn folders() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(src).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            let mut files = Vec::new();
            collect(&entry.path(), &mut files);
            folders.insert(entry.file_name().into_string().unwrap(), files);
        }
    }
    folders
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = |line: &&str| !line.trim_start().starts_with("//");
            files.push((path, text.lines().filter(code).collect::<Vec<_>>().join("\n")));
        }
    }
}

/// Every path that code names: what each `use` imports, and `a::b::c` wherever it stands.
fn paths(code: &str) -> BTreeSet<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("use ") {
        let tree = code[at + "use ".len()..].split(';').next().unwrap_or_default();
        expand("", tree, &mut found);
    }
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let inline = code.split(|c| !part(c)).filter(|word| word.contains("::"));
    found.extend(inline.map(|word| word.trim_matches(':').to_owned()));
    found
}

/// Adds the paths of a `use` tree (The Rust Reference, Use declarations) to `found`.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    match tree.split_once('{') {
        None => {
            let path = tree.split(" as ").next().unwrap_or_default();
            found.insert(format!("{prefix}{}", path.trim()));
        }
        Some((stem, list)) => {
            for item in top_level(list) {
                expand(&format!("{prefix}{}", stem.trim()), &item, found);
            }
        }
    }
}

/// The items of a list up to its closing brace, split at the commas that are in no inner list.
fn top_level(list: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                items.last_mut().unwrap().push(c);
            }
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// Whether `path` is `stem` or something in it.
fn within(path: &str, stem: &str) -> bool {
    path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn folders_depend_one_way() {
    let folders = folders();
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(folder, _)| *folder).collect();
    let there: BTreeSet<&str> = folders.keys().map(String::as_str).collect();
    assert_eq!(there, known, "the table has a line for each folder");
    for (folder, allowed) in MAY_USE {
        for (file, code) in &folders[*folder] {
            for path in paths(code) {
                let Some(path) = path.strip_prefix("crate::") else { continue };
                let used = path.split("::").next().unwrap_or_default();
                let fine = used == *folder || used == "names" || allowed.contains(&used);
                assert!(fine, "{} uses {used}, which {folder} may not", file.display());
            }
        }
    }
}

#[test]
fn the_table_has_no_way_back() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for (start, _) in MAY_USE {
        let (mut seen, mut next) = (BTreeSet::new(), allowed[start].to_vec());
        while let Some(folder) = next.pop() {
            assert_ne!(folder, *start, "{start} leads back to itself");
            if seen.insert(folder) {
                next.extend(allowed[folder]);
            }
        }
    }
}

#[test]
fn crates_are_named_where_their_concern_is() {
    for (folder, files) in folders() {
        for (file, code) in files {
            let paths = paths(&code);
            for (krate, allowed) in MAY_NAME {
                let named = paths.iter().any(|path| within(path, krate));
                let fine = allowed.contains(&folder.as_str()) || !named;
                assert!(fine, "{} names {krate}; only {allowed:?} may", file.display());
            }
            for (pure, banned) in PURE.iter().filter(|(pure, _)| *pure == folder) {
                let named = banned.iter().find(|what| paths.iter().any(|path| within(path, what)));
                assert_eq!(named, None, "{} does I/O, and {pure} must not", file.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_one_folder() {
    for (folder, files) in folders() {
        for (file, code) in files.iter().filter(|_| folder != UNSAFE) {
            // The lint forbids it elsewhere, unless it is named.
            let used = code.contains("unsafe_code");
            assert!(!used, "{} has unsafe code; only {UNSAFE} may", file.display());
        }
    }
}

#[test]
fn paths_are_read_from_any_form() {
    let code = "use crate::model::Job;\npub use crate::{\n  queue::{Queue, rules::{A, B},},\n  wire,\n};
        use std::{fs, io as i};\nfn f() -> sled::Result<()> { let hassled = 1; x.map(crate::place::f) }";
    let found = paths(code);
    for path in [
        "crate::model::Job",
        "crate::queue::rules::B",
        "crate::wire",
        "crate::place::f",
        "std::fs",
        "std::io",
        "sled::Result",
    ] {
        assert!(found.contains(path), "{path} is not in {found:?}");
    }
    assert!(within("sled::Db", "sled") && within("sled", "sled") && !within("sledge::Db", "sled"));
}
