//! Every path and name that Rust, Nix, unit files and policies share; the source is `names.json`.

include!(concat!(env!("OUT_DIR"), "/names.rs"));
