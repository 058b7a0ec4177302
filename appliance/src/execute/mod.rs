//! Runs one job: on the local nix-daemon, or on a board.
//!
//! An executor knows nothing of queues or of other executors: it gets an [`Order`], tells a
//! [`Report`] how it goes, and ends with a [`Verdict`].

mod link;
mod local;
pub mod nix;
mod outputs;
mod peer;
mod pool;
mod queries;
mod second;
pub mod ship;

use std::fmt;

use futures_util::future::BoxFuture;
use nix_compat::nix_daemon::{BuildMode, BuildResult, Field, StderrMessage};

pub use link::{CONTROL_COMMAND, Channel, Link, LinkError, Process, TRUST_COMMAND, WORKER_COMMAND};
pub use local::{BuildSettings, LocalNix};
pub use peer::Peer;
pub use pool::{Pool, PoolError};
pub use queries::{Queries, QueryError};
pub use second::{SecondClient, SecondError, SecondNix, SecondStore};

use crate::model::{Client, Cores, JobKey, Mode, Payload, Sent, first_line};

/// Numbers of Nix's activities and their results (`logging.hh`).
pub mod activity {
    /// An activity of no special kind.
    pub const UNKNOWN: u64 = 0;
    /// A derivation is built.
    pub const BUILD: u64 = 105;
    /// Result: the builder wrote a line.
    pub const LOG_LINE: u64 = 101;
    /// Result: the builder is in another phase.
    pub const SET_PHASE: u64 = 104;
}

/// One job to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its identity.
    pub key: JobKey,
    /// What to build.
    pub payload: Payload,
    /// Who asked first.
    pub client: Client,
    /// Which cores it may use on this node; another one decides for itself.
    pub cores: Cores,
}

/// How far a job is, as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits; for what, in words.
    Waiting(String),
    /// Its inputs are on their way to a board.
    Shipping {
        /// The board's name.
        node: String,
        /// How far they are.
        copied: Copied,
    },
    /// It has been built, and its outputs are on their way here.
    Fetching {
        /// The name of the board that built it.
        node: String,
        /// How far they are.
        copied: Copied,
    },
    /// It builds.
    Building {
        /// The node's name.
        node: String,
        /// Nix's word for what the builder does, such as `unpackPhase`, if it told.
        phase: Option<String>,
    },
}

/// How far the copying of store paths is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Store paths that have arrived.
    pub done_paths: usize,
    /// Store paths to copy.
    pub paths: usize,
    /// Bytes of NARs sent.
    pub done_bytes: u64,
    /// Bytes of NARs to send.
    pub bytes: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        let Self { done_paths, paths, done_bytes, bytes } = self;
        let (done_mib, mib) = (done_bytes / MIB, bytes.div_ceil(MIB));
        write!(f, "{done_paths} of {paths} paths, {done_mib} of {mib} MiB")
    }
}

/// What an executor found out about a build, as far as it could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The size of the NARs of its outputs together, in bytes.
    pub output_bytes: Option<u64>,
    /// The most memory that it had, in MiB, page cache included.
    pub peak_mib: Option<u32>,
}

/// Where an executor tells how a job goes.
pub trait Report: Send {
    /// The executor has taken the job.
    fn accepted(&mut self) {}
    /// All inputs are with the executor; `sent` is what had to be sent for that.
    fn supplied(&mut self, sent: Option<Sent>) {
        let _ = sent;
    }
    /// The build is over and its slot free; what is left is to see to the outputs.
    fn built(&mut self) {}
    /// What was found out about a build that ended well.
    fn measured(&mut self, measured: Measured) {
        let _ = measured;
    }
    /// The job has reached a stage.
    fn stage(&mut self, stage: Stage);
    /// The builder wrote a line (without its end); not necessarily UTF-8.
    fn line(&mut self, line: &[u8]);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With a result: the job is done, well or badly.
    Ended(Box<BuildResult>),
    /// The executor failed under it, and the job is as it was; why, in words. Counted: a job must
    /// not wear executors out for ever.
    Died(String),
    /// The executor was not there, or the connection to it was lost: it may well go on with the job,
    /// and counts its own deaths; why, in words. Not counted.
    Lost(String),
}

/// Something that runs jobs. Dropping the future of a run ends the run; another node has to be told,
/// too, since jobs there outlive their clients.
pub trait Execute: Send + Sync {
    /// Runs a job to its end.
    fn run<'a>(&'a self, order: Order, report: &'a mut dyn Report) -> BoxFuture<'a, Verdict>;
}

/// Tells a report what a nix-daemon says during a build.
fn tell(node: &str, report: &mut dyn Report, message: StderrMessage) {
    match message {
        StderrMessage::Next(text) => {
            for line in text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n') {
                report.line(line);
            }
        }
        StderrMessage::Result { kind: activity::LOG_LINE, fields, .. } => {
            if let Some(Field::String(line)) = fields.first() {
                report.line(line);
            }
        }
        StderrMessage::Result { kind: activity::SET_PHASE, fields, .. } => {
            if let Some(Field::String(phase)) = fields.first() {
                let phase = Some(first_line(phase));
                report.stage(Stage::Building { node: node.to_owned(), phase });
            }
        }
        _ => {}
    }
}

fn mode(mode: Mode) -> BuildMode {
    match mode {
        Mode::Normal => BuildMode::Normal,
        Mode::Repair => BuildMode::Repair,
        Mode::Check => BuildMode::Check,
    }
}
