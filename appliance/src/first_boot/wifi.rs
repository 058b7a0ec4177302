//! A wireless network, as iwd reads it (iwd.network(5)).

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{FirstBootError, file};
use crate::{durable::write_atomically, trust::Wifi};

/// Writes the network to iwd's folder, for root only.
pub(super) fn keep(folder: &Path, wifi: &Wifi) -> Result<(), FirstBootError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file("make", folder))?;
    let path = folder.join(file_name(&wifi.ssid));
    write_atomically(&path, network(wifi).as_bytes(), 0o600).map_err(file("write", &path))
}

/// The name as it is if it has letters, digits, blanks, `_` and `-` only, else in hexadecimal digits.
pub(super) fn file_name(ssid: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-".contains(c);
    match ssid.chars().all(plain) {
        true => format!("{ssid}.psk"),
        false => format!("={}.psk", HEXLOWER.encode(ssid.as_bytes())),
    }
}

/// A blank is not seen at the beginning of a value, and a backslash begins an escape.
pub(super) fn network(wifi: &Wifi) -> Zeroizing<String> {
    let mut text = Zeroizing::new("[Security]\nPassphrase=".to_owned());
    for (number, c) in wifi.passphrase.chars().enumerate() {
        match c {
            ' ' if number == 0 => text.push_str("\\s"),
            '\\' => text.push_str("\\\\"),
            c => text.push(c),
        }
    }
    text.push('\n');
    text
}
