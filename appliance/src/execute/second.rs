//! A second store on this machine, for builds that the store they come from cannot have: Nix holds
//! the locks of their outputs there until it is told of the end.
//!
//! It is an ordinary store with another root (`local?root=`), so builds in it see `/nix/store` as
//! always, in Nix's sandbox. nix-daemon serves it: where systemd runs one for each connection to a
//! socket, through that, since what the service of roost itself may do is not enough for a sandbox;
//! else as our own child.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix_compat::nix_daemon::{
    ClientOptions,
    client::{ClientError, Discard},
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

use super::{
    BuildSettings,
    nix::{self, Reader, Writer},
};

/// Longest wait for the garbage collector.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(3600);

/// The second store, and how it is built in.
#[derive(Clone, Debug)]
pub struct SecondStore {
    /// Its root: its `/nix/store` and all that belongs to it is below.
    pub root: PathBuf,
    /// Where systemd listens for those who need a nix-daemon for it, if it does.
    pub socket: PathBuf,
    /// nix-daemon, as a program to start otherwise.
    pub program: PathBuf,
    /// What each build is told.
    pub settings: BuildSettings,
    /// Systems that are emulated here.
    pub systems: Vec<String>,
    /// Free space, in bytes, below which nix-daemon deletes what nothing needs, until there is twice
    /// as much.
    pub min_free_bytes: u64,
}

/// Why there is no nix-daemon for the second store.
#[derive(Debug, thiserror::Error)]
pub enum SecondError {
    /// The folder cannot be made, or not be made so that builds reach it.
    #[error("cannot make {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be started.
    #[error("cannot start {program} --stdio: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It went away, or refused.
    #[error("nix-daemon for {root}: {source}")]
    Ask {
        /// The store's root.
        root: PathBuf,
        /// Why not.
        source: ClientError,
    },
}

/// The streams of a nix-daemon.
pub(super) struct Streams {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// The process, if it is our own child: it is killed when this is dropped.
    pub(super) child: Option<Child>,
}

impl SecondStore {
    /// Makes its folder. Builds run as users of their own, who must be able to reach it.
    ///
    /// # Errors
    /// [`SecondError::Folder`].
    pub fn prepare(&self) -> Result<(), SecondError> {
        let failed = |path: &Path, source| SecondError::Folder { path: path.to_owned(), source };
        fs::create_dir_all(&self.root).map_err(|source| failed(&self.root, source))?;
        let add = |path: &Path, bits: u32| {
            let mut rights = fs::metadata(path)?.permissions();
            rights.set_mode(rights.mode() | bits);
            fs::set_permissions(path, rights)
        };
        add(&self.root, 0o755).map_err(|source| failed(&self.root, source))?;
        let parent = self.root.parent().unwrap_or(&self.root);
        add(parent, 0o011).map_err(|source| failed(parent, source))
    }

    /// Deletes everything in it that nothing needs. Returns how many bytes that freed.
    ///
    /// # Errors
    /// [`SecondError`].
    pub async fn collect_garbage(&self) -> Result<u64, SecondError> {
        let failed = |source| SecondError::Ask { root: self.root.clone(), source };
        let Streams { reader, writer, child: _child } = self.open().await?;
        let (mut nix, _) = nix::greet(reader, writer).await.map_err(failed)?;
        nix::within(COLLECT_TIMEOUT, nix.collect_garbage(u64::MAX, &mut Discard))
            .await
            .map_err(failed)
    }

    /// A nix-daemon for one connection.
    ///
    /// # Errors
    /// [`SecondError::Start`].
    pub(super) async fn open(&self) -> Result<Streams, SecondError> {
        if let Ok(stream) = UnixStream::connect(&self.socket).await {
            let (reader, writer) = stream.into_split();
            let (reader, writer) = (Box::new(reader), Box::new(writer));
            return Ok(Streams { reader, writer, child: None });
        }
        let failed = |source| SecondError::Start { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .arg("--stdio")
            .env("NIX_REMOTE", format!("local?root={}", self.root.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        match (child.stdout.take(), child.stdin.take()) {
            (Some(reader), Some(writer)) => {
                let (reader, writer) = (Box::new(reader), Box::new(writer));
                Ok(Streams { reader, writer, child: Some(child) })
            }
            _ => Err(failed(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// What its nix-daemon is told for each build.
    pub(super) fn options(&self) -> ClientOptions {
        let mut options = self.settings.options();
        // Whoever asks has looked for substitutes, and sends the inputs.
        options.use_substitutes = false;
        let min_free = self.min_free_bytes;
        let overrides = [
            ("extra-platforms", self.systems.join(" ")),
            // The only way to build in a store with another root.
            ("sandbox", "true".to_owned()),
            ("min-free", min_free.to_string()),
            ("max-free", min_free.saturating_mul(2).to_string()),
        ];
        options.overrides.extend(overrides.map(|(name, value)| (name.to_owned(), value)));
        options
    }
}
