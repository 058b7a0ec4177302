//! What can be typed after `roost flash`.

use std::path::PathBuf;

use clap::Args;

use super::super::{args::Output, fleet::args::Source};
use crate::names;

/// `roost flash`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Flash {
    /// The card's device, or a file; without it, the disks are listed.
    pub target: Option<PathBuf>,
    /// The board, as its image is called; may be left out if --image says it.
    #[arg(long, value_name = "BOARD")]
    pub board: Option<String>,
    /// The image, as it is or packed with zstd.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// The flake that Nix builds the image from.
    #[arg(long, value_name = "FLAKE", default_value = names::FLAKE, conflicts_with = "image")]
    pub flake: String,
    /// List the disks, and whether they could be written to; change nothing.
    #[arg(long, conflicts_with_all = ["target", "board", "image"])]
    pub list: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Take a fixed disk of this machine, too.
    #[arg(long)]
    pub force: bool,
    /// Write no seed: the board belongs to nobody.
    #[arg(long, conflicts_with_all = [
        "valid", "for_board", "hostname", "wifi", "console_key", "no_token", "from",
    ])]
    pub no_seed: bool,
    /// Where the seed comes from.
    #[command(flatten)]
    pub source: Source,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}
