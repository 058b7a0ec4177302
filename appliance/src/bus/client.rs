//! Asking a daemon over D-Bus.

use std::fs::File;

use futures_util::StreamExt;
use zbus::{
    Connection, MatchRule, MessageStream, message::Type, proxy, proxy::OwnerChangedStream,
    zvariant::OwnedFd,
};

use super::{
    control::{ControlError, Foreseen, JobLog, Wanted},
    dict::{BoardDict, JobDict, NodeDict},
    link::{SystemBus, hung_up},
    outlook::{OutlookTuple, PlannedTuple, outlook, planned_tuple},
};
use crate::{
    model::{BoardView, JobView, NodeView, Outlook, Planned, Why},
    names::{BUS_NAME, BUS_PATH},
};

/// What a daemon offers; its reference is `docs/dbus.md`.
#[proxy(
    interface = "org.roost.Node1",
    default_service = "org.roost.Node1",
    default_path = "/org/roost/Node1",
    gen_blocking = false
)]
trait Node {
    fn drain(&self) -> zbus::Result<()>;
    fn resume(&self) -> zbus::Result<()>;
    fn drain_board(&self, board: &str) -> zbus::Result<()>;
    fn resume_board(&self, board: &str) -> zbus::Result<()>;
    fn cancel_job(&self, job: &str) -> zbus::Result<()>;
    fn describe(&self) -> zbus::Result<NodeDict>;
    fn list_jobs(&self) -> zbus::Result<Vec<JobDict>>;
    fn list_boards(&self) -> zbus::Result<Vec<BoardDict>>;
    fn demand(
        &self,
        boards: &[String],
        derivations: &[(String, String, Vec<String>)],
        local: &[String],
    ) -> zbus::Result<(Vec<String>, Vec<String>)>;
    fn plan(&self, derivations: &[PlannedTuple], local_slots: u32) -> zbus::Result<OutlookTuple>;
    fn list_second_stores(&self) -> zbus::Result<Vec<NodeDict>>;
    fn why(&self, job: &str) -> zbus::Result<(JobDict, Vec<(u64, String)>)>;
    fn job_log(&self, job: &str) -> zbus::Result<(OwnedFd, bool)>;
}

/// Why a daemon could not be asked, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system bus cannot be reached.
    #[error("the system bus cannot be reached: {0}; start it with: systemctl start dbus")]
    NoBus(#[source] zbus::Error),
    /// Nobody has the daemon's name.
    #[error("the roost daemon is not running; start it with: systemctl start roost")]
    NoDaemon,
    /// The bus's policy does not let us ask this.
    #[error(
        "only root and members of group {group} may do this: run it as root, or join the group \
         with `usermod -aG {group} $USER` and log in again",
        group = crate::names::GROUP
    )]
    Denied,
    /// The daemon would not.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// It gave no answer, or one that is not understood.
    #[error("the roost daemon gave no usable answer: {0}; see its log with: journalctl -u roost")]
    NoAnswer(#[source] zbus::Error),
}

impl From<zbus::Error> for ClientError {
    fn from(error: zbus::Error) -> Self {
        let zbus::Error::MethodError(name, text, _) = &error else { return Self::NoAnswer(error) };
        if let Some(refused) = ControlError::from_reply(name, text.as_deref().unwrap_or_default()) {
            return Self::Refused(refused);
        }
        match name.as_str() {
            "org.freedesktop.DBus.Error.ServiceUnknown"
            | "org.freedesktop.DBus.Error.NameHasNoOwner" => Self::NoDaemon,
            "org.freedesktop.DBus.Error.AccessDenied" => Self::Denied,
            _ => Self::NoAnswer(error),
        }
    }
}

/// A daemon, asked over D-Bus. Every question ends within 10 s.
#[derive(Clone, Debug)]
pub struct Client {
    proxy: NodeProxy<'static>,
}

/// What a daemon has signalled: a hint to ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A job was accepted, began, moved or ended.
    Job {
        /// Its short name.
        id: String,
        /// The derivation's name.
        name: String,
        /// `queued`, `running`, `built` or `failed`.
        state: String,
        /// Its executor, or empty.
        node: String,
        /// What it waits for, or how it ended.
        reason: String,
    },
    /// The boards, or how the node stands to them.
    Boards,
    /// The node itself.
    Node,
}

impl Client {
    /// Connects to a bus. Whether there is a daemon on it shows with the first question.
    ///
    /// # Errors
    ///
    /// If the bus cannot be reached.
    pub async fn connect(bus: &SystemBus) -> Result<Self, ClientError> {
        let connection = bus.connect().await.map_err(ClientError::NoBus)?;
        Self::over(&connection).await
    }

    /// Asks over a connection that there is already.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn over(connection: &Connection) -> Result<Self, ClientError> {
        let builder = NodeProxy::builder(connection).cache_properties(proxy::CacheProperties::No);
        Ok(Self { proxy: builder.build().await.map_err(ClientError::NoBus)? })
    }

    /// The node that the daemon runs on.
    ///
    /// # Errors
    ///
    /// As every question: the daemon does not run, refused, or gave no answer.
    pub async fn node(&self) -> Result<NodeView, ClientError> {
        Ok(self.proxy.describe().await?.into())
    }

    /// The boards that it knows.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn boards(&self) -> Result<Vec<BoardView>, ClientError> {
        Ok(self.proxy.list_boards().await?.into_iter().map(BoardView::from).collect())
    }

    /// The second store, in which it emulates, as a node; none if it does not.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn second_store(&self) -> Result<Option<NodeView>, ClientError> {
        Ok(self.proxy.list_second_stores().await?.into_iter().next().map(NodeView::from))
    }

    /// Its jobs, ended ones that it still remembers included.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        Ok(self.proxy.list_jobs().await?.into_iter().map(JobView::from).collect())
    }

    /// Why a job is where it is.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn why(&self, job: &str) -> Result<Why, ClientError> {
        let (mut job, notes) = self.proxy.why(job).await?;
        let candidates = job.take_candidates();
        Ok(Why { job: job.into(), notes, candidates })
    }

    /// A job's log. If it still runs, the file may grow until [`Notice::Job`] tells of its end.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn job_log(&self, job: &str) -> Result<JobLog, ClientError> {
        let (file, running) = self.proxy.job_log(job).await?;
        Ok(JobLog { file: File::from(std::os::fd::OwnedFd::from(file)), running })
    }

    /// Lets the node, or a board, begin no more jobs.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn drain(&self, board: Option<&str>) -> Result<(), ClientError> {
        let done = match board {
            Some(board) => self.proxy.drain_board(board).await,
            None => self.proxy.drain().await,
        };
        Ok(done?)
    }

    /// Lets the node, or a board, begin jobs again.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn resume(&self, board: Option<&str>) -> Result<(), ClientError> {
        let done = match board {
            Some(board) => self.proxy.resume_board(board).await,
            None => self.proxy.resume().await,
        };
        Ok(done?)
    }

    /// Ends a job that waits or runs.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn cancel(&self, job: &str) -> Result<(), ClientError> {
        Ok(self.proxy.cancel_job(job).await?)
    }

    /// Says where what this process starts is to be built, in place of what it said before, as long as
    /// this connection lasts; gives what would become of it.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn demand(&self, wanted: &Wanted) -> Result<Foreseen, ClientError> {
        let Wanted { boards, derivations, local } = wanted;
        let (waits, notes) = self.proxy.demand(boards, derivations, local).await?;
        Ok(Foreseen { waits, notes })
    }

    /// Where and when derivations would be built, were they asked for now; this process's Nix builds so
    /// many at once by itself.
    ///
    /// # Errors
    ///
    /// See [`Self::node`].
    pub async fn plan(
        &self,
        planned: &[Planned],
        local_slots: u32,
    ) -> Result<Outlook, ClientError> {
        let planned: Vec<_> = planned.iter().map(planned_tuple).collect();
        Ok(outlook(self.proxy.plan(&planned, local_slots).await?))
    }

    /// When daemons come to the bus from now on.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn restarts(&self) -> Result<Restarts, ClientError> {
        Ok(Restarts { owners: self.proxy.inner().receive_owner_changed().await? })
    }

    /// What the daemon signals from now on; signals of one that is started anew too.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn notices(&self) -> Result<Notices, ClientError> {
        let rule = MatchRule::builder().msg_type(Type::Signal).path(BUS_PATH)?;
        let connection = self.proxy.inner().connection();
        let rule = if connection.is_bus() { rule.sender(BUS_NAME)? } else { rule };
        let signals = MessageStream::for_match_rule(rule.build(), connection, None).await?;
        Ok(Notices { signals })
    }
}

/// The arrivals of daemons on the bus.
pub struct Restarts {
    owners: OwnerChangedStream<'static>,
}

impl Restarts {
    /// Returns when the next one has come; never, if the connection has ended.
    pub async fn next(&mut self) {
        loop {
            match self.owners.next().await {
                Some(Some(_)) => return,
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// A daemon's signals. To be read on: on an unread one, answers to questions wait too.
#[derive(Debug)]
pub struct Notices {
    signals: MessageStream,
}

impl Notices {
    /// The next one.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn next(&mut self) -> Result<Notice, ClientError> {
        loop {
            let signal = self.signals.next().await.ok_or_else(hung_up)??;
            let header = signal.header();
            let notice = match header.member().map_or("", |member| member.as_str()) {
                "JobChanged" => {
                    let (id, name, state, node, reason) = signal.body().deserialize()?;
                    Notice::Job { id, name, state, node, reason }
                }
                "BoardsChanged" => Notice::Boards,
                "PropertiesChanged" => Notice::Node,
                _ => continue,
            };
            return Ok(notice);
        }
    }
}
