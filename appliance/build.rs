//! Turns `names.json`, which Nix and the tests of the unit files read too, into Rust constants.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=names.json");
    let names: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&fs::read_to_string("names.json")?)?;
    let mut source = String::new();
    for (name, value) in &names {
        let value = value.as_str().ok_or_else(|| format!("names.json: {name} is not a string"))?;
        let constant = name.to_uppercase();
        source +=
            &format!("/// `{name}` of `names.json`.\npub const {constant}: &str = {value:?};\n");
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("names.rs"), source)?;
    Ok(())
}
