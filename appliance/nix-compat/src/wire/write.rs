use std::collections::{BTreeMap, BTreeSet};

use super::padding;
use crate::store_path::StorePath;

/// Appends a number.
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a signed number, in two's complement.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a truth value.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    write_u64(out, value.into());
}

/// Appends a string.
pub fn write_bytes(out: &mut Vec<u8>, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let len = bytes.len() as u64;
    write_u64(out, len);
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0; 8][..padding(len)]);
}

/// Appends a store path or nothing, which is the empty string.
pub fn write_optional_store_path(out: &mut Vec<u8>, path: Option<&StorePath>) {
    write_bytes(out, path.map_or("", StorePath::as_str));
}

/// Appends a set of store paths.
pub fn write_store_path_set(out: &mut Vec<u8>, paths: &BTreeSet<StorePath>) {
    write_u64(out, paths.len() as u64);
    for path in paths {
        write_bytes(out, path.as_str());
    }
}

/// Appends a list of words.
pub fn write_string_list(out: &mut Vec<u8>, items: &[impl AsRef<str>]) {
    write_u64(out, items.len() as u64);
    for item in items {
        write_bytes(out, item.as_ref());
    }
}

/// Appends a set of words.
pub fn write_string_set(out: &mut Vec<u8>, items: &BTreeSet<String>) {
    write_u64(out, items.len() as u64);
    for item in items {
        write_bytes(out, item);
    }
}

/// Appends a map from words to text.
pub fn write_string_map(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    write_u64(out, map.len() as u64);
    for (key, value) in map {
        write_bytes(out, key);
        write_bytes(out, value);
    }
}

/// Appends a list of strings.
pub fn write_bytes_list(out: &mut Vec<u8>, items: &[impl AsRef<[u8]>]) {
    write_u64(out, items.len() as u64);
    for item in items {
        write_bytes(out, item);
    }
}

/// Appends a map from strings to strings.
pub fn write_bytes_map(out: &mut Vec<u8>, map: &BTreeMap<Vec<u8>, Vec<u8>>) {
    write_u64(out, map.len() as u64);
    for (key, value) in map {
        write_bytes(out, key);
        write_bytes(out, value);
    }
}
