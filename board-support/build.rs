//! Turns `boards.json`, which Nix reads too, into a constant table.

use std::{collections::BTreeSet, env, error::Error, fmt::Write as _, fs, path::Path};

use serde::Deserialize;

/// A board, with the fields that [`Board`](../src/boards.rs) documents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Board {
    id: String,
    name: String,
    compatible: Vec<String>,
    soc: Option<String>,
    system: String,
    kernel: String,
    boot: String,
    console: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=boards.json");
    let boards: Vec<Board> = serde_json::from_str(&fs::read_to_string("boards.json")?)?;
    let mut seen = BTreeSet::new();
    let mut source = String::from("&[");
    for board in &boards {
        for key in board.compatible.iter().chain([&board.id]) {
            if !seen.insert(key) {
                return Err(format!("boards.json: {key} is there twice").into());
            }
        }
        let Board { id, name, compatible, soc, system, kernel, boot, console } = board;
        write!(
            source,
            "Board {{ id: {id:?}, name: {name:?}, compatible: &{compatible:?}, soc: {soc:?}, \
             system: {system:?}, kernel: {kernel:?}, boot: {boot:?}, console: {console:?} }},"
        )?;
    }
    source.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("boards.rs"), source)?;
    Ok(())
}
