use std::collections::BTreeSet;

use tokio::io::AsyncRead;

use super::ServeVersion;
use crate::{
    derivation::BasicDerivation,
    nix_daemon::PathInfo,
    store_path::StorePath,
    wire::{
        Bounded, WireError, read_bool, read_store_path, read_store_path_set, read_string_list,
        read_u64, read_u64_or_hang_up, write_bool, write_bytes, write_store_path_set,
        write_string_list, write_u64,
    },
};

/// A command's number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum CommandNumber {
    QueryValidPaths = 1,
    QueryPathInfos = 2,
    DumpStorePath = 3,
    BuildPaths = 6,
    QueryClosure = 7,
    BuildDerivation = 8,
    AddToStoreNar = 9,
}

/// Settings of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Seconds without output after which a build ends; 0 is never.
    pub max_silent_time_s: u64,
    /// Seconds after which a build ends; 0 is never.
    pub timeout_s: u64,
    /// Bytes of log after which a build ends; 0 is never.
    pub max_log_size: u64,
    /// How often to repeat a build to compare its outputs. Nix refuses any but 0.
    pub repeats: u64,
    /// Obsolete: fail if a repetition differs.
    pub enforce_determinism: bool,
    /// Keep the build directory of failed builds (>= 2.7).
    pub keep_failed: bool,
}

/// A command, without the NAR that follows [`Command::AddToStoreNar`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Which of these are valid. Reply: set of paths.
    QueryValidPaths {
        /// Protect them from garbage collection while the connection lasts.
        lock: bool,
        /// Fetch those that are not, if possible.
        substitute: bool,
        /// The paths asked for.
        paths: BTreeSet<StorePath>,
    },
    /// What the store knows of those that are valid. Reply:
    /// [`write_path_infos`](super::write_path_infos).
    QueryPathInfos(BTreeSet<StorePath>),
    /// Reply: the NAR, without a length.
    DumpStorePath(StorePath),
    /// Builds targets. Reply: [`write_build_paths_reply`](super::write_build_paths_reply).
    BuildPaths {
        /// Store paths, or derivations with `!` and output names.
        targets: Vec<String>,
        /// How.
        options: BuildOptions,
    },
    /// Reply: the paths with everything they refer to, as a set.
    QueryClosure {
        /// Take in the outputs of derivations.
        include_outputs: bool,
        /// The paths.
        paths: BTreeSet<StorePath>,
    },
    /// Builds a derivation that need not be in the store. Reply:
    /// [`write_build_result`](super::write_build_result).
    BuildDerivation {
        /// Its path.
        drv_path: StorePath,
        /// The derivation itself.
        drv: Box<BasicDerivation>,
        /// How.
        options: BuildOptions,
    },
    /// Adds a path without looking at signatures; [`PathInfo::nar_size`] bytes of NAR follow. Reply:
    /// 1.
    AddToStoreNar(Box<PathInfo>),
}

impl CommandNumber {
    /// The command with this number.
    ///
    /// # Errors
    /// [`WireError::Unsupported`] for 4 and 5, which transfer paths in a format that Nix no longer
    /// uses; [`WireError::UnknownOperation`] for the others.
    pub fn from_u64(number: u64) -> Result<Self, WireError> {
        Ok(match number {
            1 => Self::QueryValidPaths,
            2 => Self::QueryPathInfos,
            3 => Self::DumpStorePath,
            4 => return Err(WireError::Unsupported { what: "the serve command ImportPaths" }),
            5 => return Err(WireError::Unsupported { what: "the serve command ExportPaths" }),
            6 => Self::BuildPaths,
            7 => Self::QueryClosure,
            8 => Self::BuildDerivation,
            9 => Self::AddToStoreNar,
            number => return Err(WireError::UnknownOperation(number)),
        })
    }
}

impl Command {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> CommandNumber {
        match self {
            Self::QueryValidPaths { .. } => CommandNumber::QueryValidPaths,
            Self::QueryPathInfos(_) => CommandNumber::QueryPathInfos,
            Self::DumpStorePath(_) => CommandNumber::DumpStorePath,
            Self::BuildPaths { .. } => CommandNumber::BuildPaths,
            Self::QueryClosure { .. } => CommandNumber::QueryClosure,
            Self::BuildDerivation { .. } => CommandNumber::BuildDerivation,
            Self::AddToStoreNar(_) => CommandNumber::AddToStoreNar,
        }
    }

    /// Reads a command. The NAR that follows [`Command::AddToStoreNar`] is left unread.
    ///
    /// # Errors
    /// [`WireError`]: [`WireError::HungUp`] if the peer hangs up before a command. After any error
    /// the stream is of no further use.
    pub async fn read<R: AsyncRead + Unpin>(
        r: &mut R,
        version: ServeVersion,
    ) -> Result<Self, WireError> {
        let number = CommandNumber::from_u64(read_u64_or_hang_up(r, "a command").await?)?;
        Self::read_shape(&mut Bounded::new(r), number, version).await
    }

    async fn read_shape<R: AsyncRead + Unpin>(
        r: &mut R,
        number: CommandNumber,
        version: ServeVersion,
    ) -> Result<Self, WireError> {
        const PATH: &str = "the path of a command";
        const PATHS: &str = "the paths of a command";
        Ok(match number {
            CommandNumber::QueryValidPaths => Self::QueryValidPaths {
                lock: read_bool(r, "whether to protect paths").await?,
                substitute: read_bool(r, "whether to substitute").await?,
                paths: read_store_path_set(r, PATHS).await?,
            },
            CommandNumber::QueryPathInfos => {
                Self::QueryPathInfos(read_store_path_set(r, PATHS).await?)
            }
            CommandNumber::DumpStorePath => Self::DumpStorePath(read_store_path(r, PATH).await?),
            CommandNumber::BuildPaths => Self::BuildPaths {
                targets: read_string_list(r, "the targets of a command").await?,
                options: BuildOptions::read(r, version).await?,
            },
            CommandNumber::QueryClosure => Self::QueryClosure {
                include_outputs: read_bool(r, "whether to include outputs").await?,
                paths: read_store_path_set(r, PATHS).await?,
            },
            CommandNumber::BuildDerivation => Self::BuildDerivation {
                drv_path: read_store_path(r, PATH).await?,
                drv: Box::new(BasicDerivation::read(r).await?),
                options: BuildOptions::read(r, version).await?,
            },
            CommandNumber::AddToStoreNar => Self::AddToStoreNar(Box::new(PathInfo::read(r).await?)),
        })
    }

    /// The command's bytes, without the NAR that follows [`Command::AddToStoreNar`].
    #[must_use]
    pub fn encode(&self, version: ServeVersion) -> Vec<u8> {
        let mut out = Vec::new();
        write_u64(&mut out, self.number() as u64);
        match self {
            Self::QueryValidPaths { lock, substitute, paths } => {
                write_bool(&mut out, *lock);
                write_bool(&mut out, *substitute);
                write_store_path_set(&mut out, paths);
            }
            Self::QueryPathInfos(paths) => write_store_path_set(&mut out, paths),
            Self::DumpStorePath(path) => write_bytes(&mut out, path.as_str()),
            Self::BuildPaths { targets, options } => {
                write_string_list(&mut out, targets);
                options.write(&mut out, version);
            }
            Self::QueryClosure { include_outputs, paths } => {
                write_bool(&mut out, *include_outputs);
                write_store_path_set(&mut out, paths);
            }
            Self::BuildDerivation { drv_path, drv, options } => {
                write_bytes(&mut out, drv_path.as_str());
                drv.write(&mut out);
                options.write(&mut out, version);
            }
            Self::AddToStoreNar(info) => info.write(&mut out),
        }
        out
    }
}

impl BuildOptions {
    async fn read<R: AsyncRead + Unpin>(
        r: &mut R,
        version: ServeVersion,
    ) -> Result<Self, WireError> {
        Ok(Self {
            max_silent_time_s: read_u64(r, "max-silent-time").await?,
            timeout_s: read_u64(r, "timeout").await?,
            max_log_size: read_u64(r, "max-build-log-size").await?,
            repeats: read_u64(r, "how often to repeat a build").await?,
            enforce_determinism: read_bool(r, "whether to enforce determinism").await?,
            keep_failed: version.has_keep_failed() && read_bool(r, "keep-failed").await?,
        })
    }

    fn write(&self, out: &mut Vec<u8>, version: ServeVersion) {
        write_u64(out, self.max_silent_time_s);
        write_u64(out, self.timeout_s);
        write_u64(out, self.max_log_size);
        write_u64(out, self.repeats);
        write_bool(out, self.enforce_determinism);
        if version.has_keep_failed() {
            write_bool(out, self.keep_failed);
        }
    }
}
