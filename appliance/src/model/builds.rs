//! What a protocol session asks of the daemon: builds, and nothing else.

use std::collections::BTreeSet;

use nix_compat::{
    derivation::BasicDerivation,
    nix_daemon::{BuildResult, StderrMessage},
    store_path::StorePath,
};
use tokio::sync::mpsc;

use super::{Client, Demand, JobId, JobKey, Mode, Payload, Site};

/// A request to build something.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its identity.
    pub key: JobKey,
    /// What to build.
    pub payload: Payload,
    /// Nix's word for what it runs on.
    pub system: String,
    /// `requiredSystemFeatures`.
    pub features: BTreeSet<String>,
    /// Who asks.
    pub client: Client,
    /// Whether another node sends it here as its executor: see [`super::Job::forwarded`].
    pub forwarded: bool,
    /// Where it is to be built, beside what the configuration says.
    pub demand: Demand,
}

impl Submission {
    /// What this node's own Nix wants built in another store, with all outputs.
    #[must_use]
    pub fn elsewhere(
        drv_path: StorePath,
        derivation: Box<BasicDerivation>,
        mode: Mode,
        client: Client,
        demand: Demand,
    ) -> Self {
        let outputs = [JobKey::ALL_OUTPUTS.to_owned()].into();
        Self {
            key: JobKey { drv_path, outputs, mode, site: Site::Elsewhere },
            system: derivation.platform.clone(),
            features: derivation.required_system_features(),
            payload: Payload::Derivation(derivation),
            client,
            forwarded: false,
            demand,
        }
    }
}

/// What an attached client hears of its job, in order; [`JobEvent::Finished`] is the last.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// An activity, its result (a log line, say) or its end: to be sent on as it is.
    Message(StderrMessage),
    /// The end. Sent once.
    Finished(Box<BuildResult>),
}

/// A client's attachment to a job. Dropping it detaches the client; the job goes on.
#[derive(Debug)]
pub struct Ticket {
    /// The job.
    pub id: JobId,
    /// What happens to it. Closed without [`JobEvent::Finished`] only if the daemon stops.
    pub events: mpsc::Receiver<JobEvent>,
}

/// Why a job was not accepted. It was never promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue is full.
    #[error(
        "the queue holds {held} jobs, its limit; try again when some have ended, or raise queue.max_jobs in the configuration"
    )]
    Full {
        /// Jobs held.
        held: usize,
    },
    /// Inputs are not in this store.
    #[error("{missing} of the inputs are not in this store, {example} for one; send them again")]
    InputsGone {
        /// How many.
        missing: usize,
        /// One of them.
        example: String,
    },
    /// The record could not be written.
    #[error("the job could not be written to disk: {0}")]
    Disk(String),
    /// Another node sent it here while this one has sent it on: a circle if it were accepted.
    #[error("this node has sent the same job on to {0}; a job is sent on at most once")]
    SentOn(String),
    /// The daemon is stopping.
    #[error("the roost daemon is stopping; ask again when it is back")]
    Stopping,
}

/// Something that accepts builds. Implemented by the daemon, and by fakes in tests.
pub trait Builds: Clone + Send + Sync + 'static {
    /// Accepts a job, or attaches to the same job if it is there already. When this returns a
    /// ticket, the job is on disk.
    fn submit(
        &self,
        submission: Submission,
    ) -> impl Future<Output = Result<Ticket, Refusal>> + Send;

    /// Tells that the client has fetched every output of the job: they need not be held any more.
    fn fetched(&self, id: &JobId) -> impl Future<Output = ()> + Send;
}
