//! Facts about this machine.
//!
//! What does not change while the daemon runs is a [`Machine`]; what does is read when asked for:
//! [`vitals`] of hardware, [`nix::NixConfig`] of the local Nix. Files come from the kernel or from
//! an administrator; they are read bounded and parsed by pure functions that take bytes, and
//! nothing in them can make roost fail in any other way than with an [`ObserveError`].
//!
//! Functions that read files take the root folder to read them below, `/` outside of tests.

mod arm32;
pub mod emulation;
pub mod machine;
pub mod memory;
pub mod nix;
pub mod node_id;
pub mod speed;
pub mod vitals;

pub use emulation::Emulated;
pub use machine::Machine;
pub use node_id::node_id;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Few files read here are larger: most kernel files are a page, `machine-id` is 33 bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Why a fact could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A file could not be read or written.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{path} does not tell {what}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ObserveError {
    let path = path.to_owned();
    move |source| ObserveError::File { doing, path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, ObserveError> {
    read_at_most(path, MAX_BYTES)
}

fn read_at_most(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ObserveError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max_bytes).read_to_end(&mut bytes))
        .map_err(failed("read", path))?;
    Ok(bytes)
}

/// A decimal number at the start of `text`, after blanks; what follows it is ignored.
fn leading_number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}
