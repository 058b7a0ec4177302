use std::collections::{BTreeMap, BTreeSet};

use tokio::io::AsyncRead;

use crate::{
    store_path::StorePath,
    wire::{
        MAX_TEXT, WireError, read_bool, read_store_path_set, read_string_map, read_u64, write_bool,
        write_store_path_set, write_string_map, write_u64,
    },
};

/// How something is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildMode {
    /// Build what is missing.
    Normal = 0,
    /// Rebuild invalid or corrupt outputs.
    Repair = 1,
    /// Build again and compare.
    Check = 2,
}

impl BuildMode {
    /// The mode with this number.
    ///
    /// # Errors
    /// [`WireError::UnknownTag`], if there is none.
    pub fn from_u64(tag: u64) -> Result<Self, WireError> {
        match tag {
            0 => Ok(Self::Normal),
            1 => Ok(Self::Repair),
            2 => Ok(Self::Check),
            tag => Err(WireError::UnknownTag { what: "a build mode", tag }),
        }
    }

    pub(super) async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        Self::from_u64(read_u64(r, "a build mode").await?)
    }
}

/// A client's settings for the rest of the connection. Nix applies those of an untrusted client only
/// in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// Keep the build directory of failed builds.
    pub keep_failed: bool,
    /// Go on with other builds when one fails.
    pub keep_going: bool,
    /// Build what cannot be fetched from a binary cache.
    pub try_fallback: bool,
    /// Verbosity level: 0 errors, 3 information, 7 everything.
    pub verbosity: u64,
    /// Builds at a time (`max-jobs`).
    pub max_build_jobs: u64,
    /// Seconds without output after which a build ends (`max-silent-time`); 0 is never.
    pub max_silent_time_s: u64,
    /// Obsolete; Nix sends 1.
    pub use_build_hook: u64,
    /// Verbosity level of build output: 0 shows it, 7 hides it.
    pub build_verbosity: u64,
    /// Obsolete; 0.
    pub log_type: u64,
    /// Obsolete; 0.
    pub print_build_trace: u64,
    /// Cores a build may use (`cores`); 0 is all.
    pub build_cores: u64,
    /// Fetch from binary caches.
    pub use_substitutes: bool,
    /// Other settings, by their names in `nix.conf`.
    pub overrides: BTreeMap<String, String>,
}

impl Default for ClientOptions {
    /// What Nix sends for its default settings, without overrides.
    fn default() -> Self {
        Self {
            keep_failed: false,
            keep_going: false,
            try_fallback: false,
            verbosity: 3,
            max_build_jobs: 1,
            max_silent_time_s: 0,
            use_build_hook: 1,
            build_verbosity: 0,
            log_type: 0,
            print_build_trace: 0,
            build_cores: 0,
            use_substitutes: true,
            overrides: BTreeMap::new(),
        }
    }
}

impl ClientOptions {
    pub(super) async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        Ok(Self {
            keep_failed: read_bool(r, "keep-failed").await?,
            keep_going: read_bool(r, "keep-going").await?,
            try_fallback: read_bool(r, "fallback").await?,
            verbosity: read_u64(r, "the verbosity").await?,
            max_build_jobs: read_u64(r, "max-jobs").await?,
            max_silent_time_s: read_u64(r, "max-silent-time").await?,
            use_build_hook: read_u64(r, "an obsolete option").await?,
            build_verbosity: read_u64(r, "the verbosity of builds").await?,
            log_type: read_u64(r, "an obsolete option").await?,
            print_build_trace: read_u64(r, "an obsolete option").await?,
            build_cores: read_u64(r, "cores").await?,
            use_substitutes: read_bool(r, "substitute").await?,
            overrides: read_string_map(r, "a setting", MAX_TEXT).await?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bool(out, self.keep_failed);
        write_bool(out, self.keep_going);
        write_bool(out, self.try_fallback);
        write_u64(out, self.verbosity);
        write_u64(out, self.max_build_jobs);
        write_u64(out, self.max_silent_time_s);
        write_u64(out, self.use_build_hook);
        write_u64(out, self.build_verbosity);
        write_u64(out, self.log_type);
        write_u64(out, self.print_build_trace);
        write_u64(out, self.build_cores);
        write_bool(out, self.use_substitutes);
        write_string_map(out, &self.overrides);
    }
}

/// What to collect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectGarbage {
    /// 0 tell what is alive, 1 tell what is dead, 2 delete what is dead, 3 delete these paths.
    pub action: u64,
    /// The paths to delete, for action 3.
    pub paths: BTreeSet<StorePath>,
    /// Delete even what is alive; Nix refuses it.
    pub ignore_liveness: bool,
    /// Stop after so many bytes.
    pub max_freed: u64,
}

impl CollectGarbage {
    pub(super) async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let request = Self {
            action: match read_u64(r, "a garbage collection's action").await? {
                action @ 0..=3 => action,
                tag => {
                    return Err(WireError::UnknownTag {
                        what: "a garbage collection's action",
                        tag,
                    });
                }
            },
            paths: read_store_path_set(r, "the paths to delete").await?,
            ignore_liveness: read_bool(r, "whether to ignore liveness").await?,
            max_freed: read_u64(r, "how much to free").await?,
        };
        for _ in 0..3 {
            read_u64(r, "an obsolete field").await?;
        }
        Ok(request)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_u64(out, self.action);
        write_store_path_set(out, &self.paths);
        write_bool(out, self.ignore_liveness);
        write_u64(out, self.max_freed);
        (0..3).for_each(|_| write_u64(out, 0));
    }
}
