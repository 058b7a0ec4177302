//! Turns the files of `boards/`, which Nix reads too, into a constant table.

#[path = "build/file.rs"]
mod file;

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
};

use file::{Board, Boot, Kernel};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=boards");
    let mut files = fs::read_dir("boards")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    files.sort();
    let mut seen = BTreeSet::new();
    let mut source = String::from("&[");
    for file in &files {
        let named = |error: &dyn fmt::Display| format!("{}: {error}", file.display());
        let id = file.file_stem().and_then(|stem| stem.to_str()).ok_or_else(|| named(&"no id"))?;
        let board: Board =
            toml::from_str(&fs::read_to_string(file)?).map_err(|error| named(&error))?;
        for key in board.compatible.iter().map(String::as_str).chain([id]) {
            if !seen.insert(key.to_owned()) {
                return Err(named(&format!("{key} is there twice")).into());
            }
        }
        write_board(&mut source, id, &board)?;
    }
    source.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("boards.rs"), source)?;
    Ok(())
}

fn write_board(source: &mut String, id: &str, board: &Board) -> fmt::Result {
    let Board { name, compatible, soc, system, console, nixos_hardware, .. } = board;
    let Board { unfree, quirks, first_boot, missing, kernel, boot, .. } = board;
    let Kernel { source: from, device_tree, initrd_modules } = kernel;
    let Boot { layout, u_boot } = boot;
    write!(
        source,
        "Board {{ id: {id:?}, name: {name:?}, compatible: &{compatible:?}, soc: {soc:?}, \
         system: {system:?}, console: {console:?}, nixos_hardware: {nixos_hardware:?}, \
         unfree: &{unfree:?}, quirks: &{quirks:?}, first_boot: {first_boot:?}, \
         missing: {missing:?}, \
         kernel: Kernel {{ source: {from:?}, device_tree: {device_tree:?}, \
         initrd_modules: &{initrd_modules:?} }}, \
         boot: Boot {{ layout: {layout:?}, u_boot: {u_boot:?} }} }},"
    )
}
