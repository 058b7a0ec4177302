//! What can be wrong with the configuration file.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {source}; it has to be a readable file of UTF-8 text", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("{}:{line}: {message}\n  {line} | {text}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// That line.
        text: String,
        /// What is wrong with it; for an unknown key, which ones there are.
        message: String,
    },
}

impl ConfigError {
    /// Puts the parser's error at its line of the text.
    pub(super) fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        Self::Invalid {
            path: path.to_owned(),
            line,
            text: text.lines().nth(line - 1).unwrap_or_default().trim_end().to_owned(),
            message: error.message().replace("unknown field", "unknown key"),
        }
    }
}
