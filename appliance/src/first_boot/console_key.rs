//! Who may log in as root: to look after the board, and for nothing that roost does.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use ssh_key::PublicKey;

use super::{FirstBootError, file};
use crate::durable::write_atomically;

/// Adds a key to the file, unless it is there; other lines stay as they are.
pub(super) fn admit(path: &Path, key: &PublicKey) -> Result<(), FirstBootError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file("make", folder))?;
    let mut text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file("read", path)(error)),
    };
    let line = key.to_openssh().map_err(|error| file("write", path)(io::Error::other(error)))?;
    // Whatever options it may have there, and whatever its comment is.
    let blob = line.split(' ').nth(1);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    if lines.flat_map(str::split_whitespace).any(|word| Some(word) == blob) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    write_atomically(path, format!("{text}{line}\n").as_bytes(), 0o600).map_err(file("write", path))
}
