//! Derivations for tests.

use std::collections::{BTreeMap, BTreeSet};

use nix_compat::{
    derivation::{Derivation, DerivationOutput},
    nixbase32,
    store_path::StorePath,
};

use super::super::Key;

/// The path of derivation number `n`.
pub(super) fn drv_path(n: u32) -> StorePath {
    path(n, 0, &format!("step-{n}.drv"))
}

/// The path of an output of derivation number `n`.
pub(super) fn output_path(n: u32, output: &str) -> StorePath {
    let which = 1 + u8::try_from(output.len()).unwrap();
    let suffix = if output == "out" { String::new() } else { format!("-{output}") };
    path(n, which, &format!("step-{n}{suffix}"))
}

fn path(n: u32, which: u8, name: &str) -> StorePath {
    let mut hash = [which; 20];
    hash[..4].copy_from_slice(&n.to_le_bytes());
    StorePath::from_base_name(&format!("{}-{name}", nixbase32::encode(&hash))).unwrap()
}

pub(super) fn key(n: u32) -> Key {
    Key::of(&drv_path(n))
}

/// Derivation number `n`, with outputs `out` and `dev`, and its inputs with the outputs it needs.
pub(super) fn drv<'a>(
    n: u32,
    inputs: impl IntoIterator<Item = (u32, &'a [&'a str])>,
) -> Derivation {
    let output = |name: &str| DerivationOutput {
        path: Some(output_path(n, name)),
        hash_algo: String::new(),
        hash: String::new(),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Derivation {
        outputs: ["out", "dev"].map(|name| (name.to_owned(), output(name))).into(),
        input_drvs: inputs.into_iter().map(|(n, of)| (drv_path(n), names(of))).collect(),
        input_srcs: BTreeSet::new(),
        platform: "riscv64-linux".to_owned(),
        builder: b"/bin/sh".to_vec(),
        args: Vec::new(),
        env: BTreeMap::new(),
    }
}
