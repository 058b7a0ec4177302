//! The way to one builder, and the channels on it.
//!
//! To a board it is an SSH session: one master connection a board, made by the openssh crate; each channel runs the board's forced
//! command in peer mode and speaks the worker protocol with its daemon. A channel serves one job or
//! one transfer at a time and is then used again, so that in the long run a build costs no SSH
//! set-up at all. To the second store of this machine it is a nix-daemon of its own for each channel.

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix_compat::{
    nix_daemon::{
        ClientOptions,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use openssh::{
    Child, ChildStdin, ChildStdout, ControlPersist, KnownHosts, Session, SessionBuilder, Stdio,
};
use tokio::time::timeout;

use super::{
    nix::{self, NixClient},
    second::{SecondClient, SecondError, SecondStore},
};
use crate::{
    model::{Cores, first_line},
    wire::CLIENT_SETTING,
};

/// What the board is asked to run for a channel of builds.
pub const WORKER_COMMAND: &str = "roost peer worker";
/// What the board is asked to run for the control channel.
pub const CONTROL_COMMAND: &str = "roost peer control";
/// What the board is asked to run to talk of trust.
pub const TRUST_COMMAND: &str = "roost peer trust";

/// Channels kept when nobody uses them.
const MAX_IDLE: usize = 8;
/// Longest wait for a channel to open: one round trip, and a board under load.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait for a session: ssh's own ConnectTimeout covers the first packet only.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The control channel keeps the master busy as long as this process lives; if it is killed, the
/// master goes by itself.
const MASTER_IDLE_S: NonZeroUsize = NonZeroUsize::new(30).expect("30 is not 0");

/// What can go wrong with a board's connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No session.
    #[error("cannot connect to {board} over SSH: {}", in_full(source))]
    Connect {
        /// The board's name.
        board: String,
        /// The reason, with ssh's own words where it gave any.
        source: openssh::Error,
    },
    /// No session in time.
    #[error("cannot connect to {board} over SSH: no session within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout {
        /// The board's name.
        board: String,
    },
    /// There is no nix-daemon for the second store.
    #[error("cannot reach {board}: {source}")]
    Second {
        /// The store's name.
        board: String,
        /// The reason.
        source: SecondError,
    },
    /// The second store has no roost of its own to talk to.
    #[error("{0} is a part of this node and has no control channel")]
    NoControl(String),
    /// The session is there, a channel is not.
    #[error("cannot open a channel to {board}: {source}")]
    Open {
        /// The board's name.
        board: String,
        /// The reason.
        source: openssh::Error,
    },
    /// The board did not answer on a channel.
    #[error("{board} did not answer within {} s of opening a channel", OPEN_TIMEOUT.as_secs())]
    Silent {
        /// The board's name.
        board: String,
    },
    /// A question was not answered.
    #[error("{board} does not answer: {source}")]
    Ask {
        /// The board's name.
        board: String,
        /// The reason.
        source: ClientError,
    },
    /// The board's daemon did not greet us as it should.
    #[error("{board} refused a channel: {reason}")]
    Greeting {
        /// The board's name.
        board: String,
        /// What it said, or what was wrong with it.
        reason: String,
    },
}

/// An error with all that led to it: ssh's own words are the last.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let causes =
        causes.map(|cause| format!(": {}", first_line(cause.to_string().trim().as_bytes())));
    format!("{error}{}", causes.collect::<String>())
}

/// The way to one builder. Dropping it ends the SSH master, if there is one.
pub struct Link {
    board: String,
    way: Way,
    idle: Mutex<Vec<Channel>>,
    /// One upload at a time: the line to the board is one, and what a first job ships a second one
    /// need not.
    pub(super) shipping: tokio::sync::Mutex<()>,
}

/// How channels are opened.
enum Way {
    /// To a board's daemon, for the client of this name.
    Ssh { session: Arc<Session>, client: String },
    /// To a nix-daemon for the second store.
    Second(SecondStore),
}

/// A worker-protocol connection to the builder's daemon. Dropping it closes it, which ends what runs
/// on it.
pub struct Channel {
    /// The connection.
    pub nix: NixClient,
    _process: Carrier,
}

/// What is to live as long as a channel.
#[expect(dead_code, reason = "kept to be dropped with the channel")]
enum Carrier {
    Ssh(Child<Arc<Session>>),
    Second(Option<tokio::process::Child>),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects, with an ssh configuration that names host, key and identity of this one board.
    /// `control_dir` holds the master's socket; what a dead master left there is removed.
    ///
    /// # Errors
    /// [`LinkError::Connect`].
    pub async fn connect(
        board: &str,
        client: &str,
        ssh_config: &Path,
        destination: &str,
        control_dir: &Path,
    ) -> Result<Self, LinkError> {
        let mut builder = SessionBuilder::default();
        builder
            .config_file(ssh_config)
            .known_hosts_check(KnownHosts::Strict)
            .control_directory(control_dir)
            .clean_history_control_directory(true)
            .control_persist(ControlPersist::IdleFor(MASTER_IDLE_S));
        let session = timeout(CONNECT_TIMEOUT, builder.connect(destination))
            .await
            .map_err(|_| LinkError::ConnectTimeout { board: board.to_owned() })?
            .map_err(|source| LinkError::Connect { board: board.to_owned(), source })?;
        let way = Way::Ssh { session: Arc::new(session), client: client.to_owned() };
        Ok(Self::by(board, way))
    }

    /// The way to the second store of this machine. Nothing is started yet.
    #[must_use]
    pub fn second(name: &str, store: SecondStore) -> Self {
        Self::by(name, Way::Second(store))
    }

    fn by(board: &str, way: Way) -> Self {
        Self {
            board: board.to_owned(),
            way,
            idle: Mutex::default(),
            shipping: tokio::sync::Mutex::default(),
        }
    }

    /// The same, of a board that is called otherwise than it seemed.
    #[must_use]
    pub fn named(self, board: &str) -> Self {
        Self { board: board.to_owned(), ..self }
    }

    /// Ends the SSH master, and with it whatever runs over it.
    pub async fn cut(&self) {
        let Way::Ssh { session, .. } = &self.way else { return };
        let exit = tokio::process::Command::new("ssh")
            .arg("-S")
            .arg(session.control_socket())
            // The name is not looked at.
            .args(["-O", "exit", "board"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        if !matches!(timeout(OPEN_TIMEOUT, exit).await, Ok(Ok(status)) if status.success()) {
            tracing::warn!(board = self.board, "its SSH connection could not be ended");
        }
    }

    /// Whether a build ends when its channel is lost: nobody there goes on with it.
    #[must_use]
    pub fn ends_with_channel(&self) -> bool {
        matches!(self.way, Way::Second(_))
    }

    /// The board's name.
    #[must_use]
    pub fn board(&self) -> &str {
        &self.board
    }

    /// A channel: one that has been used before, if there is one.
    ///
    /// # Errors
    /// If a new one has to be opened and cannot be.
    pub async fn channel(&self) -> Result<Channel, LinkError> {
        self.channel_for(Cores::Share).await
    }

    /// A channel for a build that may use these cores in the second store; a board decides for itself.
    ///
    /// # Errors
    /// As [`Link::channel`].
    pub async fn channel_for(&self, cores: Cores) -> Result<Channel, LinkError> {
        let used = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match used {
            Some(channel) => Ok(channel),
            None => timeout(OPEN_TIMEOUT, self.open(cores))
                .await
                .map_err(|_| LinkError::Silent { board: self.board.clone() })?,
        }
    }

    /// Takes back a channel, unless a request on it was not finished: that one is closed. So is one to
    /// a nix-daemon, which would hold everything that was ever shipped on it.
    pub fn give_back(&self, channel: Channel) {
        if !channel.nix.is_idle() || self.ends_with_channel() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(channel);
        }
    }

    /// Those of `paths` that are valid there.
    ///
    /// # Errors
    /// If there is no channel, or no answer.
    pub async fn valid(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, LinkError> {
        let mut channel = self.channel().await?;
        let valid = nix::valid(&mut channel.nix, paths).await;
        let valid = valid.map_err(|source| LinkError::Ask { board: self.board.clone(), source })?;
        self.give_back(channel);
        Ok(valid)
    }

    /// Opens the control channel: lines of JSON both ways.
    ///
    /// # Errors
    /// [`LinkError::Open`] or [`LinkError::Silent`].
    pub async fn control(&self) -> Result<Process, LinkError> {
        self.spawn_in_time(CONTROL_COMMAND).await
    }

    /// Opens a channel on which nodes talk of trust: lines of JSON both ways.
    ///
    /// # Errors
    /// [`LinkError::Open`] or [`LinkError::Silent`].
    pub async fn trust(&self) -> Result<Process, LinkError> {
        self.spawn_in_time(TRUST_COMMAND).await
    }

    async fn spawn_in_time(&self, command: &str) -> Result<Process, LinkError> {
        timeout(OPEN_TIMEOUT, self.spawn(command))
            .await
            .map_err(|_| LinkError::Silent { board: self.board.clone() })?
    }

    async fn open(&self, cores: Cores) -> Result<Channel, LinkError> {
        let greeting = |reason: String| LinkError::Greeting { board: self.board.clone(), reason };
        let (mut nix, options, process) = match &self.way {
            Way::Ssh { client, .. } => {
                let Process { stdin, stdout, child } = self.spawn(WORKER_COMMAND).await?;
                let overrides = [(CLIENT_SETTING.to_owned(), client.clone())].into();
                let options = ClientOptions { overrides, ..ClientOptions::default() };
                let greeted = nix::greet(stdout, stdin).await;
                let (nix, _) = greeted.map_err(|error| greeting(error.to_string()))?;
                (nix, options, Carrier::Ssh(child))
            }
            Way::Second(store) => {
                let second = |source| LinkError::Second { board: self.board.clone(), source };
                let SecondClient { nix, child, .. } = store.connect().await.map_err(second)?;
                (nix, store.options(cores), Carrier::Second(child))
            }
        };
        nix.set_options(&options, &mut Discard)
            .await
            .map_err(|error| greeting(error.to_string()))?;
        Ok(Channel { nix, _process: process })
    }

    async fn spawn(&self, command: &str) -> Result<Process, LinkError> {
        let Way::Ssh { session, .. } = &self.way else {
            return Err(LinkError::NoControl(self.board.clone()));
        };
        let open = |source| LinkError::Open { board: self.board.clone(), source };
        let mut child = session
            .clone()
            .arc_raw_command(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .await
            .map_err(open)?;
        match (child.stdin().take(), child.stdout().take()) {
            (Some(stdin), Some(stdout)) => Ok(Process { stdin, stdout, child }),
            _ => Err(open(openssh::Error::Disconnected)),
        }
    }
}

/// A program on the board, by its pipes.
pub struct Process {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it writes.
    pub stdout: ChildStdout,
    /// Kept so that it is reaped.
    pub child: Child<Arc<Session>>,
}
