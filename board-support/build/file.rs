//! The shape of a board's file: its keys and their types. What may be in them, `boards.schema.json` says.

use serde::Deserialize;

/// A board, with the fields that [`Board`](../src/boards.rs) documents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) compatible: Vec<String>,
    pub(crate) soc: Option<String>,
    pub(crate) system: String,
    pub(crate) console: String,
    pub(crate) nixos_hardware: Option<String>,
    #[serde(default)]
    pub(crate) unfree: Vec<String>,
    #[serde(default)]
    pub(crate) quirks: Vec<String>,
    pub(crate) first_boot: Option<String>,
    pub(crate) missing: Option<String>,
    pub(crate) kernel: Kernel,
    pub(crate) boot: Boot,
}

/// What it runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    pub(crate) source: String,
    pub(crate) device_tree: Option<String>,
    #[serde(default)]
    pub(crate) initrd_modules: Vec<String>,
}

/// How it finds its kernel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Boot {
    pub(crate) layout: String,
    pub(crate) u_boot: Option<String>,
}
