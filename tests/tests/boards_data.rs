//! A board's data is one file, which Rust and Nix read: what one of them refuses the other refuses, and
//! what they make of it is the same. Nix is the lab's, and has no nixpkgs here.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use board_support::boards::BOARDS;
use roost_lab::Release;
use serde_json::Value as Json;
use toml::{Table, Value};

#[path = "../../board-support/build/file.rs"]
#[expect(dead_code, reason = "whether a file has this shape is asked, and not what it holds")]
mod file;

/// A board's file with every key there is.
const FULL: &str = r#"
name = "Example Board 2"
compatible = ["example,board-2", "example,board-2-v1.0"]
soc = "example,soc1"
system = "riscv64-linux"
console = "ttyS0,115200"
nixos_hardware = "example-board"
unfree = ["firmware_1.0+x"]
quirks = ["no-vector", "small-memory"]
first_boot = "Press the button."
missing = "nobody has written a boot loader for it"

[kernel]
source = "vendor"
device_tree = "example/board-2.dtb"
initrd_modules = ["mmc_block", "nvme"]

[boot]
layout = "u-boot"
u_boot = "ubootExample_2"
"#;

/// Keys that a file may not lack: the table they are in, and their name.
const REQUIRED: [(&str, &str); 8] = [
    ("", "name"),
    ("", "compatible"),
    ("", "system"),
    ("", "console"),
    ("", "kernel"),
    ("", "boot"),
    ("kernel", "source"),
    ("boot", "layout"),
];

/// Values that match what they are for, and ones that do not.
const PATTERNS: [(&str, &str, &[&str], &[&str]); 10] = [
    ("", "name", &["~ !", "x"], &["", "Caf\u{e9}", "a\nb", "a\n", "\t"]),
    ("", "soc", &["a-b.c,D_e.f-1"], &["", "soc", "Example,soc", "a,", ",a", "a,b,c", "a,b\n"]),
    (
        "",
        "console",
        &["ttyS0", "ttyAMA10,9600"],
        &["", "S0", "ttyS", "ttys0", "ttyS0,", "ttyS0,1n8"],
    ),
    ("", "nixos_hardware", &["a-1"], &["", "A", "a_b", "a/b", "a "]),
    ("", "first_boot", &["A."], &["", "A", "a.", ".", "A\n.", "A.\n"]),
    ("", "missing", &["ab", "a b; c-"], &["", "a", "A b", "a b.", "a b.\n", "a b ", "a \u{e9}"]),
    ("kernel", "device_tree", &["a/B_c.dtb"], &["", "a.dtb", "a/b.dts", "/b.dtb", "a/b/c.dtb"]),
    ("boot", "u_boot", &["ubootX"], &["", "uboot", "UbootX", "uboot-x", "uboot X"]),
    ("", "system", &["aarch64-linux"], &["", "x86_64-linux", "aarch64-linux\n", "AARCH64-LINUX"]),
    ("kernel", "source", &["mainline", "raspberry-pi"], &["", "Mainline", "nixpkgs"]),
];

/// The same for the items of lists.
const ITEMS: [(&str, &str, &[&str], &[&str]); 4] = [
    ("", "compatible", &["riscv-virtio", "a,b"], &["", "A,b", "a,b,c", "a b", "a,b\n"]),
    ("", "unfree", &["a", "A_.+-"], &["", "a b", "a/b"]),
    ("", "quirks", &["stale-firmware"], &["", "No-vector", "fast"]),
    ("kernel", "initrd_modules", &["a_1"], &["", "a-b", "A", "a b"]),
];

/// A file, what is to be thought of it, and whether its keys and types at least are sound.
struct Case {
    text: String,
    sound: bool,
    shaped: bool,
}

fn full() -> Table {
    FULL.parse().expect("a constant")
}

fn table<'a>(board: &'a mut Table, name: &str) -> &'a mut Table {
    match name {
        "" => board,
        name => board[name].as_table_mut().expect("a table"),
    }
}

/// The full file with one thing changed, under a name for it.
fn changed(
    cases: &mut BTreeMap<String, Case>,
    what: String,
    sound: bool,
    shaped: bool,
    change: impl FnOnce(&mut Table),
) {
    let mut board = full();
    change(&mut board);
    let text = toml::to_string(&board).expect("a table");
    let other = cases.insert(what, Case { text, sound, shaped });
    assert!(other.is_none(), "two cases have one name");
}

/// Every key of the full file, with the table it is in.
fn keys() -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for (name, value) in &full() {
        keys.push((String::new(), name.clone()));
        let inner = value.as_table().into_iter().flatten();
        keys.extend(inner.map(|(inner, _)| (name.clone(), inner.clone())));
    }
    keys
}

fn cases() -> BTreeMap<String, Case> {
    let mut cases = BTreeMap::new();
    let it = &mut cases;
    changed(it, "unchanged".to_owned(), true, true, |_| ());
    for (place, key) in &keys() {
        let needed = REQUIRED.contains(&(place, key));
        changed(it, format!("without {place}.{key}"), !needed, !needed, |board| {
            table(board, place).remove(key);
        });
        let others = [
            Value::Boolean(true),
            Value::Integer(1),
            Value::Float(0.5),
            Value::String("x".to_owned()),
            Value::Array(vec![Value::Integer(1)]),
            Value::Array(vec![Value::String("x".to_owned()), Value::Boolean(false)]),
            Value::Table(Table::new()),
        ];
        let was = table(&mut full(), place)[key].clone();
        for (n, other) in others.into_iter().enumerate() {
            // Numbers and booleans in a list are wrong in a list of strings, too.
            if other.type_str() != was.type_str() || other.is_array() {
                changed(it, format!("{place}.{key} as {n}"), false, false, |board| {
                    table(board, place).insert(key.clone(), other);
                });
            }
        }
    }
    for place in ["", "kernel", "boot"] {
        changed(it, format!("unknown in {place}"), false, false, |board| {
            table(board, place).insert("colour".to_owned(), Value::String("green".to_owned()));
        });
    }
    for (place, key, good, bad) in PATTERNS {
        for (values, sound) in [(good, true), (bad, false)] {
            for value in values {
                changed(it, format!("{place}.{key} {value:?}"), sound, true, |board| {
                    table(board, place).insert(key.to_owned(), Value::String((*value).to_owned()));
                });
            }
        }
    }
    for (place, key, good, bad) in ITEMS {
        for (values, sound) in [(good, true), (bad, false)] {
            for value in values {
                changed(it, format!("{place}.{key} [{value:?}]"), sound, true, |board| {
                    let list = Value::Array(vec![Value::String((*value).to_owned())]);
                    table(board, place).insert(key.to_owned(), list);
                });
            }
        }
        changed(it, format!("{place}.{key} empty"), false, true, |board| {
            table(board, place).insert(key.to_owned(), Value::Array(Vec::new()));
        });
        changed(it, format!("{place}.{key} twice"), false, true, |board| {
            let list = table(board, place)[key].as_array_mut().expect("a list");
            list.push(list[0].clone());
        });
    }
    cases
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What Nix makes of an expression; the repository is `/mnt` to it, and `given` is `/srv`. It runs in
/// the lab's root, in a mount namespace of its own: nothing is mounted on this machine.
fn nix(given: &Path, expression: &str) -> Json {
    const SCRIPT: &str = r#"
        mount --bind -o ro "$2" "$1/mnt"
        mount --bind -o ro "$3" "$1/srv"
        mount --bind /proc "$1/proc"
        mount -t tmpfs none "$1/tmp"
        exec chroot "$1" env NIX_STATE_DIR=/tmp/state NIX_STORE_DIR=/tmp/store \
          timeout 120 nix-instantiate --eval --strict --json --expr "$4"
    "#;
    let root = Release::Trixie.root().expect("the lab's root");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euc", SCRIPT, "nix"])
        .args([&root, &repository(), &given.to_owned()])
        .arg(expression)
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{expression}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn nothing() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_file_gets_the_same_verdict_from_the_schema_from_the_program_and_from_nix() {
    let cases = cases();
    assert!(cases.len() > 150, "{} cases", cases.len());

    let mut schemas = boon::Schemas::new();
    let schema = repository().join("board-support/boards.schema.json");
    let schema =
        boon::Compiler::new().compile(&schema.display().to_string(), &mut schemas).unwrap();

    let given = nothing();
    let texts: BTreeMap<_, _> = cases.iter().map(|(what, case)| (what, &case.text)).collect();
    fs::write(given.path().join("cases.json"), serde_json::to_vec(&texts).unwrap()).unwrap();
    let by_nix = nix(
        given.path(),
        "builtins.mapAttrs
          (_: text: (builtins.tryEval (builtins.deepSeq
            (import /mnt/board-support/board.nix \"x\" (builtins.fromTOML text)) true)).success)
          (builtins.fromJSON (builtins.readFile /srv/cases.json))",
    );

    for (what, case) in &cases {
        let value: Json = serde_json::to_value(case.text.parse::<Table>().unwrap()).unwrap();
        assert_eq!(schemas.validate(&value, schema).is_ok(), case.sound, "the schema: {what}");
        assert_eq!(by_nix[what], case.sound, "Nix: {what}");
        let read = toml::from_str::<file::Board>(&case.text);
        assert_eq!(read.is_ok(), case.shaped, "the program: {what}");
    }
}

#[test]
fn the_boards_there_are_comply_with_the_schema() {
    let mut schemas = boon::Schemas::new();
    let folder = repository().join("board-support");
    let schema = folder.join("boards.schema.json");
    let schema =
        boon::Compiler::new().compile(&schema.display().to_string(), &mut schemas).unwrap();
    for board in BOARDS {
        let text = fs::read_to_string(folder.join(format!("boards/{}.toml", board.id))).unwrap();
        let value = serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
        if let Err(error) = schemas.validate(&value, schema) {
            panic!("{}: {error}", board.id);
        }
    }
}

#[test]
fn nix_knows_of_every_board_what_the_program_knows() {
    let by_nix = nix(nothing().path(), "import /mnt/board-support/boards.nix");
    let by_nix = by_nix.as_object().unwrap();
    let known: BTreeMap<_, _> = BOARDS.iter().map(|board| (board.id, board)).collect();
    assert_eq!(known.len(), BOARDS.len());
    assert_eq!(by_nix.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    for (id, board) in known {
        assert_eq!(by_nix[id], serde_json::to_value(board).unwrap(), "{id}");
    }
}

#[test]
fn every_board_with_an_image_has_a_layout_that_the_images_know_and_the_boot_loader_it_needs() {
    let layouts = nix(nothing().path(), "import /mnt/images/layouts.nix");
    let modules = repository().join("board-support/nixos/default.nix");
    let modules = fs::read_to_string(modules).unwrap();
    let mut used = BTreeSet::new();
    for board in BOARDS.iter().filter(|board| board.missing.is_none()) {
        let (id, name) = (board.id, board.boot.layout);
        let layout = layouts.get(name).unwrap_or_else(|| panic!("{id}: no layout {name}"));
        assert!(modules.contains(&format!("\n    {name} = ./")), "{id}: no module for {name}");
        let u_boot = layout["u_boot"].as_bool().unwrap();
        assert_eq!(board.boot.u_boot.is_some(), u_boot, "{id}: U-Boot and {name}");
        used.insert(name);
    }
    let known: BTreeSet<_> = layouts.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(known, used, "layouts of no board");
}

#[test]
fn every_board_has_a_page_and_a_row_in_the_table_of_boards_and_no_page_is_of_another() {
    let folder = repository().join("docs/boards");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut expected = BTreeSet::from(["README.md".to_owned(), "adding.md".to_owned()]);
    for board in BOARDS {
        let page = format!("{}.md", board.id);
        let row = table.lines().find(|line| line.contains(&format!("({page})")));
        let row = row.unwrap_or_else(|| panic!("docs/boards/README.md has no row for {page}"));
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let image = if board.missing.is_none() { "yes" } else { "no" };
        let console = board.console.replace(',', ", ");
        assert_eq!(cells[3..6], [board.system, &console, image], "docs/boards/README.md: {page}");
        expected.insert(page);
    }
    let there: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, expected);
}
