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
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix_compat::nix_daemon::{
    ClientOptions, ServerHello,
    client::{ClientError, Discard},
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

use super::{
    BuildSettings,
    nix::{self, NixClient, Reader, Writer},
};
use crate::{model::Cores, names};

/// Longest wait for the garbage collector.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest wait for a nix-daemon to be started and to greet: less than a channel to it may take.
const GREET_TIMEOUT: Duration = Duration::from_secs(15);

/// The way to a nix-daemon for the second store.
#[derive(Clone, Debug)]
pub struct SecondNix {
    /// The store's root: its `/nix/store` and all that belongs to it is below.
    pub root: PathBuf,
    /// Where systemd listens for those who need a nix-daemon for it, if it does.
    pub socket: PathBuf,
    /// nix-daemon, as a program to start otherwise.
    pub program: PathBuf,
}

/// The second store, and how it is built in. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct SecondStore {
    /// The way to a nix-daemon for it.
    pub nix: SecondNix,
    /// Why there was none when one was last needed; empty if there was.
    pub trouble: Arc<Mutex<String>>,
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

/// A nix-daemon of the second store.
pub struct SecondClient {
    /// The connection to it.
    pub(super) nix: NixClient,
    /// What it said of itself.
    pub hello: ServerHello,
    /// The process, if it is our own child. When the connection is closed, it ends its build and then
    /// itself.
    pub(super) child: Option<Child>,
}

impl SecondClient {
    /// Whether it was reached through systemd's socket.
    #[must_use]
    pub fn is_by_socket(&self) -> bool {
        self.child.is_none()
    }
}

/// The streams of a nix-daemon, and the process if it is our own child.
struct Streams {
    reader: Reader,
    writer: Writer,
    child: Option<Child>,
}

impl Default for SecondNix {
    /// That of this machine.
    fn default() -> Self {
        Self {
            root: names::EMULATION_DIR.into(),
            socket: names::EMULATION_SOCKET.into(),
            program: "nix-daemon".into(),
        }
    }
}

impl SecondNix {
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

    /// A nix-daemon for one connection, once it has answered.
    ///
    /// # Errors
    /// [`SecondError::Start`] and [`SecondError::Ask`].
    pub async fn connect(&self) -> Result<SecondClient, SecondError> {
        let Streams { reader, writer, child } = self.open().await?;
        let greeting = nix::within(GREET_TIMEOUT, nix::greet(reader, writer));
        let (nix, hello) = greeting.await.map_err(self.failed())?;
        Ok(SecondClient { nix, hello, child })
    }

    fn failed(&self) -> impl Fn(ClientError) -> SecondError {
        |source| SecondError::Ask { root: self.root.clone(), source }
    }

    async fn open(&self) -> Result<Streams, SecondError> {
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
}

impl SecondStore {
    /// What keeps it from building, as far as known; empty if nothing does.
    #[must_use]
    pub fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds out whether there is a nix-daemon for it again, if there was none.
    pub async fn recover(&self) {
        if !self.trouble().is_empty() {
            drop(self.connect().await);
        }
    }

    /// A nix-daemon for one connection. That there is none is remembered as trouble.
    ///
    /// # Errors
    /// As [`SecondNix::connect`].
    pub(super) async fn connect(&self) -> Result<SecondClient, SecondError> {
        let connected = self.nix.connect().await;
        let trouble = connected.as_ref().map_or_else(ToString::to_string, |_| String::new());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        connected
    }

    /// Deletes everything in it that nothing needs. Returns how many bytes that freed.
    ///
    /// # Errors
    /// [`SecondError`].
    pub async fn collect_garbage(&self) -> Result<u64, SecondError> {
        let SecondClient { mut nix, child: _child, .. } = self.connect().await?;
        nix::within(COLLECT_TIMEOUT, nix.collect_garbage(u64::MAX, &mut Discard))
            .await
            .map_err(self.nix.failed())
    }

    /// What its nix-daemon is told for a build that may use these cores.
    pub(super) fn options(&self, cores: Cores) -> ClientOptions {
        let mut options = self.settings.options(cores);
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

#[cfg(test)]
mod tests {
    use nix_compat::nix_daemon::{BuildStatus, Request};

    use super::*;
    use crate::{
        execute::{Execute, Link, Order, Peer, Pool, Report, Stage, Verdict},
        model::{Client, JobKey, Mode, Payload, Site},
        queue::roots::Roots,
        wire::testing::{FakeNix, NixConnection, drv, path, result, soon},
    };

    fn store(root: &Path, nix: &FakeNix) -> SecondStore {
        SecondStore {
            nix: SecondNix {
                root: root.join("state/emulation"),
                socket: nix.local().socket,
                program: PathBuf::from("/no/such/program"),
            },
            trouble: Arc::default(),
            settings: BuildSettings {
                cores: 2,
                timeout_s: 7200,
                max_silent_s: 600,
                features: ["big-parallel".to_owned()].into(),
            },
            systems: vec!["aarch64-linux".to_owned(), "riscv64-linux".to_owned()],
            min_free_bytes: 5 << 30,
        }
    }

    struct Unheard;

    impl Report for Unheard {
        fn stage(&mut self, _: Stage) {}
        fn line(&mut self, _: &[u8]) {}
    }

    /// A run of a job in the store, whose nix-daemon is played by `daemon` from its request to build.
    async fn run(daemon: impl AsyncFnOnce(NixConnection)) -> Verdict {
        let (nix, folder) = (FakeNix::new(), tempfile::tempdir().unwrap());
        let link = Link::second("ws (emulation)", store(folder.path(), &nix));
        let peer = Peer {
            node: link.board().to_owned(),
            link: Arc::new(link),
            store: Pool::new(folder.path().join("no-daemon")),
            substitute: false,
            roots: Roots::open(&folder.path().join("roots"), "/nix/store".as_ref()).unwrap(),
        };
        let key = JobKey {
            drv_path: path("hello.drv"),
            outputs: [JobKey::ALL_OUTPUTS.to_owned()].into(),
            mode: Mode::Normal,
            site: Site::Elsewhere,
        };
        let payload = Payload::Derivation(Box::new(drv("hello")));
        let client = Client { label: "alice".to_owned() };
        let order = Order { key, payload, client, cores: Cores::All };
        let played = async {
            let mut connection = nix.accept().await;
            let Request::SetOptions(options) = connection.request().await else { panic!() };
            let told = |name: &str| options.overrides[name].as_str();
            assert_eq!(told("extra-platforms"), "aarch64-linux riscv64-linux");
            assert_eq!((told("builders"), told("sandbox")), ("", "true"));
            assert_eq!((told("system-features"), told("timeout")), ("big-parallel", "7200"));
            assert_eq!((told("min-free"), told("max-free")), ("5368709120", "10737418240"));
            assert!(!options.use_substitutes);
            assert_eq!(options.build_cores, 0, "all, as ordered");
            connection.reply(&[]).await;
            assert!(matches!(connection.request().await, Request::QueryValidPaths { .. }));
            connection.reply(&0_u64.to_le_bytes()).await;
            assert!(matches!(connection.request().await, Request::BuildDerivation { .. }));
            daemon(connection).await;
        };
        let mut unheard = Unheard;
        let verdict = peer.run(order, &mut unheard);
        soon(async { tokio::join!(verdict, played) }).await.0
    }

    #[tokio::test]
    async fn a_build_has_a_nix_daemon_of_its_own_and_its_settings() {
        let verdict = run(async |mut daemon| {
            let mut reply = Vec::new();
            result(BuildStatus::Built).write(&mut reply, daemon.version);
            daemon.reply(&reply).await;
            assert!(daemon.is_closed().await, "it would hold what was shipped");
        });
        assert!(matches!(verdict.await, Verdict::Ended(result) if result.is_success()));
    }

    #[tokio::test]
    async fn a_nix_daemon_that_goes_away_is_a_death_for_nobody_goes_on() {
        let verdict = run(async |daemon| drop(daemon)).await;
        assert!(matches!(&verdict, Verdict::Died(why) if why.contains("emulation")), "{verdict:?}");
    }

    #[tokio::test]
    async fn without_a_nix_daemon_the_job_waits() {
        let folder = tempfile::tempdir().unwrap();
        let nix = FakeNix::new();
        let store = store(folder.path(), &nix);
        drop(nix);
        let link = Link::second("ws (emulation)", store.clone());
        let why = link.channel().await.err().unwrap().to_string();
        assert!(why.contains("ws (emulation)") && why.contains("/no/such/program"), "{why}");
        assert!(store.trouble().contains("/no/such/program"), "{}", store.trouble());
    }

    #[tokio::test]
    async fn trouble_is_over_when_there_is_a_nix_daemon_again() {
        let (nix, folder) = (FakeNix::new(), tempfile::tempdir().unwrap());
        let store = store(folder.path(), &nix);
        store.recover().await;
        *store.trouble.lock().unwrap() = "there was none".to_owned();
        let (_, connection) = soon(async { tokio::join!(store.recover(), nix.accept()) }).await;
        drop(connection);
        assert_eq!(store.trouble(), "");
    }

    #[tokio::test]
    async fn one_that_goes_away_before_it_answers_is_trouble_with_its_store_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let nix = FakeNix::new();
        let mut store = store(folder.path(), &nix);
        store.nix.socket = socket;
        let (connected, _) = soon(async {
            tokio::join!(store.connect(), async { drop(listener.accept().await.unwrap()) })
        })
        .await;
        assert!(connected.is_err());
        assert!(store.trouble().contains("state/emulation"), "{}", store.trouble());
    }

    #[tokio::test]
    async fn users_of_builds_can_reach_the_store() {
        let (nix, folder) = (FakeNix::new(), tempfile::tempdir().unwrap());
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
        store(folder.path(), &nix).nix.prepare().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o751);
        assert_eq!(mode(&state.join("emulation")), 0o755);
    }
}
