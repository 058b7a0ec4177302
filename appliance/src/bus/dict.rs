//! Views as D-Bus dictionaries (`a{sv}`). Their keys are those of `--json`; what is not known is
//! left out, and a reader ignores keys that it does not know.

use std::collections::BTreeSet;

use zbus::zvariant::{DeserializeDict, SerializeDict, Type};

use crate::model::{BoardView, Candidate, Course, JobView, NodeView, Reach};

/// A [`NodeView`].
#[derive(Debug, SerializeDict, DeserializeDict, Type)]
#[zvariant(signature = "dict")]
pub(super) struct NodeDict {
    id: String,
    name: String,
    version: String,
    board: String,
    systems: Vec<String>,
    emulated: Vec<String>,
    features: BTreeSet<String>,
    labels: BTreeSet<String>,
    slots: u32,
    cores: u32,
    mem_mib: u64,
    running: u32,
    queued: u32,
    draining: bool,
    paused: String,
    trouble: String,
    temperature_mc: Option<i32>,
    nix_version: String,
    fleet: String,
    enrolment: String,
    enrolment_note: String,
    roster: u64,
    contacted: bool,
    update_note: String,
    speed: f64,
    history: u64,
}

/// A [`BoardView`].
#[derive(Debug, SerializeDict, DeserializeDict, Type)]
#[zvariant(signature = "dict")]
pub(super) struct BoardDict {
    node: NodeDict,
    addresses: Vec<String>,
    port: u16,
    host_key: Option<String>,
    fingerprint: String,
    reach: String,
    reason: String,
    ours: u32,
}

/// A [`JobView`].
#[derive(Debug, SerializeDict, DeserializeDict, Type)]
#[zvariant(signature = "dict")]
pub(super) struct JobDict {
    id: String,
    name: String,
    drv_path: String,
    system: String,
    state: String,
    node: Option<String>,
    emulated: bool,
    forwarded: bool,
    client: String,
    attached: u32,
    accepted_s: u64,
    started_s: Option<u64>,
    ended_s: Option<u64>,
    reason: String,
    /// Left out by daemons that do not know it.
    course: Option<CourseDict>,
    steps_after: Option<u32>,
    /// Only where somebody has asked why: see [`JobDict::why`].
    candidates: Option<Vec<CandidateDict>>,
}

/// A [`Candidate`].
#[derive(Debug, SerializeDict, DeserializeDict, Type)]
#[zvariant(signature = "dict")]
struct CandidateDict {
    node: String,
    emulated: bool,
    start_s: Option<f64>,
    finish_s: Option<f64>,
    chosen: bool,
    reason: String,
}

impl JobDict {
    /// A job with the nodes that were considered for it.
    pub(super) fn why(job: JobView, candidates: Vec<Candidate>) -> Self {
        let candidates = candidates.into_iter().map(CandidateDict::from).collect();
        Self { candidates: Some(candidates), ..job.into() }
    }

    /// The nodes that were considered for it.
    pub(super) fn take_candidates(&mut self) -> Vec<Candidate> {
        let candidates = self.candidates.take().unwrap_or_default();
        candidates.into_iter().map(Candidate::from).collect()
    }
}

/// A [`Course`].
#[derive(Debug, Default, SerializeDict, DeserializeDict, Type)]
#[zvariant(signature = "dict")]
struct CourseDict {
    accepted_ms: Option<u64>,
    node: Option<String>,
    placed_ms: Option<u64>,
    shipping_ms: Option<u64>,
    shipped_ms: Option<u64>,
    building_ms: Option<u64>,
    built_ms: Option<u64>,
    ended_ms: Option<u64>,
    fetched_ms: Option<u64>,
}

/// Both ways between two types with the same fields. Those after the bar are views themselves: the dictionary may
/// lack them. The one after the semicolon is the dictionary's alone.
macro_rules! same_fields {
    ($view:ident, $dict:ident, $($field:ident)+ $(| $($inner:ident)+)? $(; $own:ident)?) => {
        impl From<$view> for $dict {
            fn from($view { $($field,)+ $($($inner,)+)? }: $view) -> Self {
                Self { $($field,)+ $($($inner: Some($inner.into()),)+)? $($own: None)? }
            }
        }

        impl From<$dict> for $view {
            fn from($dict { $($field,)+ $($($inner,)+)? $($own: _)? }: $dict) -> Self {
                Self { $($field,)+ $($($inner: $inner.unwrap_or_default().into(),)+)? }
            }
        }
    };
}

same_fields! {
    NodeView, NodeDict,
    id name version board systems emulated features labels slots cores mem_mib running queued draining
    paused trouble temperature_mc nix_version fleet enrolment enrolment_note roster contacted
    update_note speed history
}

same_fields! {
    JobView, JobDict,
    id name drv_path system state node emulated forwarded client attached accepted_s started_s ended_s
    reason steps_after | course; candidates
}

same_fields! {
    Candidate, CandidateDict,
    node emulated start_s finish_s chosen reason
}

same_fields! {
    Course, CourseDict,
    accepted_ms node placed_ms shipping_ms shipped_ms building_ms built_ms ended_ms fetched_ms
}

impl From<BoardView> for BoardDict {
    fn from(board: BoardView) -> Self {
        let BoardView { node, addresses, port, host_key, fingerprint, reach, reason, ours } = board;
        let reach = reach_word(reach).to_owned();
        Self { node: node.into(), addresses, port, host_key, fingerprint, reach, reason, ours }
    }
}

impl From<BoardDict> for BoardView {
    fn from(board: BoardDict) -> Self {
        let BoardDict { node, addresses, port, host_key, fingerprint, reach, reason, ours } = board;
        let reach = reach_of(&reach);
        Self { node: node.into(), addresses, port, host_key, fingerprint, reach, reason, ours }
    }
}

const fn reach_word(reach: Reach) -> &'static str {
    match reach {
        Reach::Pending => "pending",
        Reach::Connecting => "connecting",
        Reach::Up => "up",
        Reach::Away => "away",
    }
}

/// The reach that a word stands for; one that a later daemon may have is as good as away.
fn reach_of(word: &str) -> Reach {
    let known = [Reach::Pending, Reach::Connecting, Reach::Up];
    known.into_iter().find(|reach| reach_word(*reach) == word).unwrap_or(Reach::Away)
}
