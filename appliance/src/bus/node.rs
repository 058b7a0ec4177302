//! The object at [`BUS_PATH`](crate::names::BUS_PATH). Its reference is `docs/dbus.md`.

use std::collections::HashMap;

use zbus::{
    Connection, fdo, interface,
    message::Header,
    names::InterfaceName,
    object_server::SignalEmitter,
    zvariant::{OwnedFd, Value},
};

use super::{
    control::{ControlError, Foreseen, JobLog, NodeControl, Wanted},
    departures::{Departures, caller},
    dict::{BoardDict, JobDict, NodeDict},
    link::in_time,
    outlook::{OutlookTuple, PlannedTuple, outlook_tuple, planned},
};
use crate::{
    model::{JobView, NodeView},
    names::{BUS_INTERFACE, BUS_PATH},
};

/// Longest name of a job or a board that is looked up, in bytes.
const MAX_NAME_LEN: usize = 512;

/// A daemon on D-Bus.
pub(super) struct Node<C> {
    control: C,
    departures: Departures,
}

impl<C: NodeControl> Node<C> {
    pub(super) fn new(control: C) -> Self {
        Self { control, departures: Departures::default() }
    }
}

/// A node of roost: what it is, what it does, and what it can be told.
#[interface(name = "org.roost.Node1")]
impl<C: NodeControl> Node<C> {
    /// Lets this node begin no more jobs. Those that run go on.
    async fn drain(&self) -> Result<(), ControlError> {
        self.control.drain(None).await
    }

    /// Lets this node begin jobs again.
    async fn resume(&self) -> Result<(), ControlError> {
        self.control.resume(None).await
    }

    /// Lets a board begin no more jobs, whoever they come from.
    async fn drain_board(&self, board: &str) -> Result<(), ControlError> {
        self.control.drain(Some(checked(board)?)).await
    }

    /// Lets a board begin jobs again.
    async fn resume_board(&self, board: &str) -> Result<(), ControlError> {
        self.control.resume(Some(checked(board)?)).await
    }

    /// Ends a job that waits or runs.
    async fn cancel_job(&self, job: &str) -> Result<(), ControlError> {
        self.control.cancel(checked(job)?).await
    }

    /// This node, all its properties from one look.
    #[zbus(out_args("node"))]
    async fn describe(&self) -> NodeDict {
        self.control.node().await.into()
    }

    /// The jobs, ended ones that are still remembered included.
    #[zbus(out_args("jobs"))]
    async fn list_jobs(&self) -> Vec<JobDict> {
        self.control.jobs().await.into_iter().map(JobDict::from).collect()
    }

    /// The boards that this node knows.
    #[zbus(out_args("boards"))]
    async fn list_boards(&self) -> Vec<BoardDict> {
        self.control.boards().await.into_iter().map(BoardDict::from).collect()
    }

    /// The second store, in which this machine emulates, as a node; empty if it does not.
    #[zbus(out_args("stores"))]
    async fn list_second_stores(&self) -> Vec<NodeDict> {
        self.control.second_store().await.into_iter().map(NodeDict::from).collect()
    }

    /// Why a job is where it is: the job, and its story, oldest first, as seconds since 1970 and a
    /// line.
    #[zbus(out_args("job", "notes"))]
    async fn why(&self, job: &str) -> Result<(JobDict, Vec<(u64, String)>), ControlError> {
        let why = self.control.why(checked(job)?).await?;
        Ok((JobDict::why(why.job, why.candidates), why.notes))
    }

    /// A job's log: a file open for reading at its start, and whether the job still runs, so that
    /// the file may grow.
    #[zbus(out_args("log", "running"))]
    async fn job_log(&self, job: &str) -> Result<(OwnedFd, bool), ControlError> {
        let JobLog { file, running } = self.control.job_log(checked(job)?).await?;
        Ok((std::os::fd::OwnedFd::from(file).into(), running))
    }

    /// Says on which boards the caller's builds are to be done, as long as the caller is on the bus:
    /// what it starts, and, where nobody knows who has started what, these derivations. Each is a path,
    /// a system and the required features; `local` are systems that the caller's Nix builds by itself.
    /// Answers with what waits for boards that are away, and what else there is to know.
    #[zbus(out_args("waits", "notes"))]
    async fn demand(
        &self,
        boards: Vec<String>,
        derivations: Vec<(String, String, Vec<String>)>,
        local: Vec<String>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(Vec<String>, Vec<String>), ControlError> {
        let sender = header.sender().ok_or_else(|| {
            ControlError::Failed("who has no name on the bus cannot be kept in mind".to_owned())
        })?;
        let told = |error: zbus::Error| ControlError::Failed(format!("the bus: {error}"));
        let caller = in_time(caller(connection, sender)).await.map_err(told)?;
        self.departures.watch(connection, sender, &self.control).await.map_err(told)?;
        let wanted = Wanted { boards, derivations, local };
        let Foreseen { waits, notes } = self.control.demand(caller, wanted).await?;
        if !self.departures.is_watched(sender) {
            self.control.forget(sender);
        }
        Ok((waits, notes))
    }

    /// Where and when derivations would be built, were they asked for now: nothing is built. Each is a
    /// path, a system, the required features, whether its output is fixed, whether it prefers to be
    /// built locally, and those that it needs, by their places; `local_slots` is how many the caller's
    /// Nix builds at once by itself. Answers for each, in their order, with a node by its place, whether
    /// that emulates, whether such builds are known, and in how many seconds it could begin, begins, and
    /// is done; with the nodes' names and slots; and with what no plan can beat.
    #[zbus(out_args("builds", "nodes", "by_work_s", "by_chain_s"))]
    async fn plan(
        &self,
        derivations: Vec<PlannedTuple>,
        local_slots: u32,
    ) -> Result<OutlookTuple, ControlError> {
        let planned = derivations.into_iter().map(planned).collect();
        let outlook = self.control.plan(planned, local_slots).await?;
        Ok(outlook_tuple(outlook))
    }

    /// Stable id of the node.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.control.node().await.id
    }

    /// Host name.
    #[zbus(property)]
    async fn name(&self) -> String {
        self.control.node().await.name
    }

    /// roost's version.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> String {
        self.control.node().await.version
    }

    /// First `compatible` of the device tree, or empty.
    #[zbus(property)]
    async fn board(&self) -> String {
        self.control.node().await.board
    }

    /// Native systems.
    #[zbus(property)]
    async fn systems(&self) -> Vec<String> {
        self.control.node().await.systems
    }

    /// Systems that only emulation runs.
    #[zbus(property)]
    async fn emulated_systems(&self) -> Vec<String> {
        self.control.node().await.emulated
    }

    /// System features.
    #[zbus(property)]
    async fn features(&self) -> Vec<String> {
        self.control.node().await.features.into_iter().collect()
    }

    /// Builds at once; 0 on a node that offers none.
    #[zbus(property)]
    async fn slots(&self) -> u32 {
        self.control.node().await.slots
    }

    /// CPU cores.
    #[zbus(property)]
    async fn cores(&self) -> u32 {
        self.control.node().await.cores
    }

    /// Memory in MiB.
    #[zbus(property, name = "MemoryMiB")]
    async fn memory_mib(&self) -> u64 {
        self.control.node().await.mem_mib
    }

    /// Jobs that run here.
    #[zbus(property)]
    async fn running(&self) -> u32 {
        self.control.node().await.running
    }

    /// Jobs that wait here.
    #[zbus(property)]
    async fn queued(&self) -> u32 {
        self.control.node().await.queued
    }

    /// `ready`; `draining` if it was told to begin no more jobs; `trouble` if it cannot; `paused` if
    /// it begins none for the moment.
    #[zbus(property)]
    async fn state(&self) -> String {
        state(&self.control.node().await).to_owned()
    }

    /// Why it begins no jobs for the moment, such as heat; empty if it does.
    #[zbus(property)]
    async fn paused(&self) -> String {
        self.control.node().await.paused
    }

    /// What keeps it from building, such as a full disk; empty if nothing does.
    #[zbus(property)]
    async fn trouble(&self) -> String {
        self.control.node().await.trouble
    }

    /// Hottest sensor in degrees Celsius; not a number if there is none. Its changes are not
    /// signalled.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn temperature(&self) -> f64 {
        self.control.node().await.temperature_mc.map_or(f64::NAN, |mc| f64::from(mc) / 1000.0)
    }

    /// The fingerprint of its fleet's key, as `SHA256:…`; empty if it belongs to none.
    #[zbus(property)]
    async fn fleet(&self) -> String {
        self.control.node().await.fleet
    }

    /// How it stands to that fleet: `none`, `waiting`, `enrolled`, or `ended` if its certificates have.
    #[zbus(property)]
    async fn enrolment(&self) -> String {
        self.control.node().await.enrolment
    }

    /// The same in plain words, with what to do about it.
    #[zbus(property)]
    async fn enrolment_note(&self) -> String {
        self.control.node().await.enrolment_note
    }

    /// The number of the fleet's roster that it has; 0 if it has none.
    #[zbus(property)]
    async fn roster(&self) -> u64 {
        self.control.node().await.roster
    }

    /// Whether a node of its fleet has connected to it since its daemon was started.
    #[zbus(property)]
    async fn contacted(&self) -> bool {
        self.control.node().await.contacted
    }

    /// That its last update did not end well, or goes on, in a line; else empty.
    #[zbus(property)]
    async fn update_note(&self) -> String {
        self.control.node().await.update_note
    }

    /// The local nix-daemon's version, or empty if it could not be reached.
    #[zbus(property)]
    async fn nix_version(&self) -> String {
        self.control.node().await.nix_version
    }

    /// A job was accepted, began, moved or ended. `node` is empty while it has no executor.
    #[zbus(signal)]
    async fn job_changed(
        emitter: &SignalEmitter<'_>,
        id: &str,
        name: &str,
        state: &str,
        node: &str,
        reason: &str,
    ) -> zbus::Result<()>;

    /// A board came, went, or changed: see `ListBoards`.
    #[zbus(signal)]
    async fn boards_changed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

fn checked(name: &str) -> Result<&str, ControlError> {
    if name.len() <= MAX_NAME_LEN {
        return Ok(name);
    }
    let text = format!("no job and no board has a name of more than {MAX_NAME_LEN} bytes");
    Err(ControlError::NotFound(text))
}

/// The state that people see.
fn state(node: &NodeView) -> &'static str {
    node.standing().as_str()
}

/// Where the object's signals come from.
pub(super) fn emitter(connection: &Connection) -> zbus::Result<SignalEmitter<'static>> {
    SignalEmitter::new(connection, BUS_PATH)
}

/// Tells of a job.
pub(super) async fn tell_job<C: NodeControl>(
    emitter: &SignalEmitter<'_>,
    job: &JobView,
) -> zbus::Result<()> {
    let node = job.node.as_deref().unwrap_or_default();
    let JobView { id, name, state, reason, .. } = job;
    Node::<C>::job_changed(emitter, id, name, state, node, reason).await
}

/// Tells of boards.
pub(super) async fn tell_boards<C: NodeControl>(emitter: &SignalEmitter<'_>) -> zbus::Result<()> {
    Node::<C>::boards_changed(emitter).await
}

/// Tells in one signal which properties are different, if any are.
pub(super) async fn tell_node(
    emitter: &SignalEmitter<'_>,
    before: &NodeView,
    now: &NodeView,
) -> zbus::Result<()> {
    let changed = changed_properties(before, now);
    if changed.is_empty() {
        return Ok(());
    }
    let interface = InterfaceName::from_static_str_unchecked(BUS_INTERFACE);
    fdo::Properties::properties_changed(emitter, interface, changed, [][..].into()).await
}

/// The properties whose changes are signalled and that are different.
fn changed_properties(before: &NodeView, now: &NodeView) -> HashMap<&'static str, Value<'static>> {
    let mut old = signalled(before);
    signalled(now)
        .into_iter()
        .filter(|(name, value)| old.remove(name).as_ref() != Some(value))
        .collect()
}

fn signalled(node: &NodeView) -> HashMap<&'static str, Value<'static>> {
    let features: Vec<_> = node.features.iter().cloned().collect();
    HashMap::from([
        ("Name", node.name.clone().into()),
        ("Board", node.board.clone().into()),
        ("Systems", node.systems.clone().into()),
        ("EmulatedSystems", node.emulated.clone().into()),
        ("Features", features.into()),
        ("Slots", node.slots.into()),
        ("Cores", node.cores.into()),
        ("MemoryMiB", node.mem_mib.into()),
        ("Running", node.running.into()),
        ("Queued", node.queued.into()),
        ("State", state(node).into()),
        ("Paused", node.paused.clone().into()),
        ("Trouble", node.trouble.clone().into()),
        ("NixVersion", node.nix_version.clone().into()),
        ("Fleet", node.fleet.clone().into()),
        ("Enrolment", node.enrolment.clone().into()),
        ("EnrolmentNote", node.enrolment_note.clone().into()),
        ("Roster", node.roster.into()),
        ("Contacted", node.contacted.into()),
        ("UpdateNote", node.update_note.clone().into()),
    ])
}
