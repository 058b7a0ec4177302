//! `roost check-config`: what the daemon would make of a file.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{args::Output, commands::print_json, error::CommandError};
use crate::{config::Config, names};

/// Checks `file`, or the daemon's own file if there is one, and prints the settings it amounts to,
/// defaults included.
pub(super) fn run(
    file: Option<&Path>,
    output: Output,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let config = match file {
        Some(file) => Config::load(file)?,
        None => Config::load_or_default(Path::new(names::CONFIG_FILE))?,
    };
    if output.json {
        return print_json(&config, out);
    }
    let text = toml::to_string(&config).map_err(io::Error::other)?;
    Ok(out.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_configuration_with_the_same_meaning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roost.toml");
        std::fs::write(&file, "[board]\nenable = true\nslots = 3\n").unwrap();
        let mut out = Vec::new();
        run(Some(&file), Output::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("timeout_s = 172800\n"), "{text}");
        assert_eq!(Config::parse(&text, &file).unwrap(), Config::load(&file).unwrap());
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let error = run(Some(Path::new("/nonexistent")), Output::default(), &mut Vec::new());
        assert!(matches!(error, Err(CommandError::Config(_))));
    }
}
