//! What a daemon answers on D-Bus.

use std::fs::File;

use tokio::sync::broadcast;

use crate::model::{BoardView, Change, JobView, NodeView, Outlook, Planned, Why};

/// A daemon, as [`serve`](super::serve) asks it. Clones are the same daemon.
///
/// A job is named by its id, its derivation, or a unique part of one, a board by its id or name:
/// whatever the daemon understands. Everything is answered at once, from what the daemon knows.
pub trait NodeControl: Clone + Send + Sync + 'static {
    /// This node.
    fn node(&self) -> impl Future<Output = NodeView> + Send;

    /// The boards that this node knows.
    fn boards(&self) -> impl Future<Output = Vec<BoardView>> + Send;

    /// The second store, in which this machine emulates, as a node; none if it does not.
    fn second_store(&self) -> impl Future<Output = Option<NodeView>> + Send;

    /// The jobs, ended ones that are still remembered included.
    fn jobs(&self) -> impl Future<Output = Vec<JobView>> + Send;

    /// Why a job is where it is.
    fn why(&self, job: &str) -> impl Future<Output = Result<Why, ControlError>> + Send;

    /// A job's log.
    fn job_log(&self, job: &str) -> impl Future<Output = Result<JobLog, ControlError>> + Send;

    /// Lets this node, or a board, begin no more jobs.
    fn drain(&self, board: Option<&str>) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Lets this node, or a board, begin jobs again.
    fn resume(&self, board: Option<&str>) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Ends a job that waits or runs.
    fn cancel(&self, job: &str) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Takes note of where a caller wants its builds, in place of what it wanted before, until
    /// [`NodeControl::forget`]; tells what would become of them.
    fn demand(
        &self,
        caller: Caller,
        wanted: Wanted,
    ) -> impl Future<Output = Result<Foreseen, ControlError>> + Send;

    /// Where and when derivations would be built, were they asked for now. The caller's Nix builds so many at
    /// once by itself. Unlike the rest, it may take some seconds.
    fn plan(
        &self,
        planned: Vec<Planned>,
        local_slots: u32,
    ) -> impl Future<Output = Result<Outlook, ControlError>> + Send;

    /// A caller has gone.
    fn forget(&self, caller: &str);

    /// What changes from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// Who calls, as the bus knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its unique name.
    pub name: String,
    /// Its process, or 0.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// Where a caller wants its builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// On one of these: ids, names and labels.
    pub boards: Vec<String>,
    /// What is to be built, as far as known: the derivation, its system, and the features it requires.
    pub derivations: Vec<(String, String, Vec<String>)>,
    /// The systems that the caller's Nix builds by itself: what none of the boards can build of these
    /// is not meant.
    pub local: Vec<String>,
}

/// What would become of what a caller wants, in lines for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Which boards are away that it waits for; empty if it waits for none.
    pub waits: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// A job's log, open for reading at its start.
#[derive(Debug)]
pub struct JobLog {
    /// The file: plain text, which grows while the job runs.
    pub file: File,
    /// Whether the job had not ended when the file was opened.
    pub running: bool,
}

/// Why a daemon did not do what was asked; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such job, board or log, or it is not clear which one is meant.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done.
    #[error("{0}")]
    Failed(String),
}

impl ControlError {
    const NOT_FOUND: &str = "org.roost.Error.NotFound";
    const FAILED: &str = "org.roost.Error.Failed";

    /// The error that a reply with this name and text stands for.
    pub(super) fn from_reply(name: &str, text: &str) -> Option<Self> {
        match name {
            Self::NOT_FOUND => Some(Self::NotFound(text.to_owned())),
            Self::FAILED => Some(Self::Failed(text.to_owned())),
            _ => None,
        }
    }
}

impl zbus::DBusError for ControlError {
    fn create_reply(&self, call: &zbus::message::Header<'_>) -> zbus::Result<zbus::Message> {
        zbus::Message::error(call, self.name())?.build(&self.to_string())
    }

    fn name(&self) -> zbus::names::ErrorName<'_> {
        zbus::names::ErrorName::from_static_str_unchecked(match self {
            Self::NotFound(_) => Self::NOT_FOUND,
            Self::Failed(_) => Self::FAILED,
        })
    }

    fn description(&self) -> Option<&str> {
        let (Self::NotFound(text) | Self::Failed(text)) = self;
        Some(text)
    }
}
