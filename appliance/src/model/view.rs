//! What is shown of nodes and jobs: on D-Bus, by the commands, between nodes.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use super::Course;

/// This node, as D-Bus and a peer's control channel show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeView {
    /// Stable id of the node.
    pub id: String,
    /// Host name.
    pub name: String,
    /// roost's version.
    pub version: String,
    /// First device tree `compatible`, or empty.
    pub board: String,
    /// Native systems.
    pub systems: Vec<String>,
    /// Systems that only emulation runs.
    pub emulated: Vec<String>,
    /// System features.
    pub features: BTreeSet<String>,
    /// Words by which people tell nodes apart (`node.labels`), at most
    /// [`NodeView::MAX_LABELS`] of [`NodeView::MAX_LABEL_BYTES`].
    pub labels: BTreeSet<String>,
    /// Builds at once; 0 on a node that offers none.
    pub slots: u32,
    /// CPU cores.
    pub cores: u32,
    /// Memory in MiB.
    pub mem_mib: u64,
    /// Jobs that run here.
    pub running: u32,
    /// Jobs that wait here.
    pub queued: u32,
    /// Whether it takes new jobs.
    pub draining: bool,
    /// Why it starts nothing for the moment, in plain words, such as heat; empty if it does. It
    /// goes on by itself.
    pub paused: String,
    /// What keeps it from building, in plain words, such as a full disk; empty if nothing does.
    pub trouble: String,
    /// Hottest sensor in thousandths of a degree Celsius, if there is one.
    pub temperature_mc: Option<i32>,
    /// The local nix-daemon's version, or empty if it could not be reached.
    pub nix_version: String,
    /// Its fleet's fingerprint, as `SHA256:…`; empty if it belongs to none.
    pub fleet: String,
    /// How it stands to that fleet: `none`, `waiting`, `enrolled` or `ended`.
    pub enrolment: String,
    /// The same in plain words, with what to do about it.
    pub enrolment_note: String,
    /// The number of the fleet's roster that it has.
    pub roster: u64,
    /// Whether a node of its fleet has connected to it since its daemon was started.
    pub contacted: bool,
    /// What people should know of its last update, in a line: that it did not end well, or goes on; else
    /// empty.
    pub update_note: String,
    /// How fast one of its cores is, 1.0 being the reference, as configured or measured: one of
    /// [`NodeView::SPEEDS`], or 0 if it did not tell.
    pub speed: f64,
    /// The revision of what it tells of its builds: more whenever there is something new; 0 if there is
    /// nothing, and from those that do not know of this.
    pub history: u64,
}

/// Whether a node begins jobs; what is worse comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It was told to begin none.
    Draining,
    /// It cannot, and may need help: why.
    Trouble(&'a str),
    /// It begins none for the moment: why.
    Paused(&'a str),
    /// It does.
    Ready,
}

impl Standing<'_> {
    /// One word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Trouble(_) => "trouble",
            Self::Paused(_) => "paused",
            Self::Ready => "ready",
        }
    }
}

impl NodeView {
    /// The speeds that a node may have.
    pub const SPEEDS: RangeInclusive<f64> = 0.01..=1000.0;
    /// Labels of a node.
    pub const MAX_LABELS: usize = 16;
    /// Bytes of a label.
    pub const MAX_LABEL_BYTES: usize = 32;

    /// Whether it begins jobs.
    #[must_use]
    pub fn standing(&self) -> Standing<'_> {
        if self.draining {
            Standing::Draining
        } else if !self.trouble.is_empty() {
            Standing::Trouble(&self.trouble)
        } else if !self.paused.is_empty() {
            Standing::Paused(&self.paused)
        } else {
            Standing::Ready
        }
    }
}

/// How this node stands to a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Announced, but nothing proves its key: never used.
    Pending,
    /// Known, and being connected to.
    Connecting,
    /// Connected.
    Up,
    /// Known, and not reachable now.
    Away,
}

/// A board, as the node that uses it sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoardView {
    /// The board's own description: measured if it is or was connected, else as announced.
    pub node: NodeView,
    /// Addresses, best first, with scope where they need one.
    pub addresses: Vec<String>,
    /// sshd's port.
    pub port: u16,
    /// The key that it must prove, as `ssh-ed25519 AAAA…`; none while it is pending or not seen.
    pub host_key: Option<String>,
    /// The fingerprint of the key that it announces, as `SHA256:…`; of one that is not seen, of the key
    /// that it has proved.
    pub fingerprint: String,
    /// How we stand to it.
    pub reach: Reach,
    /// Why it is pending or away, in plain words; if it is up, its trouble, or why it is paused.
    pub reason: String,
    /// Our jobs that it has now.
    pub ours: u32,
}

/// A job, as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its short name.
    pub id: String,
    /// The derivation's name without `.drv`.
    pub name: String,
    /// The derivation.
    pub drv_path: String,
    /// What it runs on.
    pub system: String,
    /// `queued`, `running`, `built`, `failed`.
    pub state: String,
    /// The executor, if it has one.
    pub node: Option<String>,
    /// Whether that emulates its system.
    pub emulated: bool,
    /// Whether another node sent it here as its executor.
    pub forwarded: bool,
    /// Who asked first.
    pub client: String,
    /// Clients that wait for it now; 0 is unattended.
    pub attached: u32,
    /// When it was accepted, in seconds since 1970.
    pub accepted_s: u64,
    /// When it started, if it did.
    pub started_s: Option<u64>,
    /// When it ended, if it did.
    pub ended_s: Option<u64>,
    /// What it waits for, or how it ended, in one line.
    pub reason: String,
    /// When it reached its stages, with the node's name.
    #[serde(default)]
    pub course: Course,
    /// How many builds its client waits for that can only be done one after the other once this one is;
    /// none if that is not known, or it has ended.
    pub steps_after: Option<u32>,
}

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The job.
    pub job: JobView,
    /// Its story, oldest first: seconds since 1970 and a line.
    pub notes: Vec<(u64, String)>,
    /// The nodes that could have it: of a job that waits, as they are now, the best one first; of one that
    /// runs, as they were when it was placed.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
}

/// A node that could have a job, as far as systems and features go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// Whether it would emulate the job's system.
    pub emulated: bool,
    /// In how many seconds it is expected to begin; none if the node is out of the question.
    pub start_s: Option<f64>,
    /// In how many seconds it is expected to be done; none if nothing is known of such builds.
    pub finish_s: Option<f64>,
    /// Whether it is the one.
    pub chosen: bool,
    /// Why it is out of the question, in words; empty if it is not.
    pub reason: String,
}

/// What has changed, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A job.
    Job(JobView),
    /// This node.
    Node(NodeView),
    /// The boards that this node knows, or how it stands to them.
    Boards,
}

/// What a workstation asks of a board over the control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// Take no new jobs.
    Drain,
    /// Take jobs again.
    Resume,
    /// End this job: nobody wants it any more.
    Cancel(String),
    /// Tell what was built since a revision, now and from now on. Only of nodes whose description has a
    /// revision: others do not know this request.
    History {
        /// The revision of the last record that the one who asks has; 0 for all.
        since: u64,
    },
}
