//! Both ends over a socket pair, as on a bus but for its policy.

use std::{
    collections::HashMap,
    io::{Read, Seek, Write},
    sync::{Arc, Mutex},
};

use tokio::{net::UnixStream, sync::broadcast};
use zbus::{
    Connection, Guid, Proxy, connection::Builder, object_server::Interface, zvariant::OwnedValue,
};

use super::{node::Node, service::tell_changes, *};
use crate::{
    model::{
        BoardView, Candidate, Change, Course, Expected, JobView, NodeView, Outlook, Planned, Reach,
        Why,
    },
    names::{BUS_INTERFACE, BUS_NAME, BUS_PATH},
};

/// A daemon with one job and one board.
#[derive(Clone)]
struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
    changes: broadcast::Sender<Change>,
}

impl Fake {
    fn new() -> Self {
        Self { asked: Arc::default(), changes: broadcast::Sender::new(4) }
    }

    fn note(&self, asked: &str, about: Option<&str>) -> Result<(), ControlError> {
        self.asked.lock().unwrap().push(format!("{asked} {}", about.unwrap_or("this node")));
        Ok(())
    }
}

fn node() -> NodeView {
    NodeView {
        id: "desk".into(),
        name: "desk.example".into(),
        version: "0.1.0".into(),
        board: "linux,dummy-virt".into(),
        systems: vec!["x86_64-linux".into(), "i686-linux".into()],
        emulated: vec!["riscv64-linux".into()],
        features: ["kvm".into()].into(),
        labels: ["fast".into()].into(),
        slots: 4,
        cores: 8,
        mem_mib: 16_000,
        running: 1,
        queued: 2,
        draining: true,
        paused: "it is too warm".into(),
        trouble: "the disk is full".into(),
        temperature_mc: Some(48_312),
        nix_version: "2.26.3".into(),
        fleet: "SHA256:abc".into(),
        enrolment: "enrolled".into(),
        enrolment_note: "Enrolled.".into(),
        roster: 3,
        contacted: true,
        update_note: "an update was rolled back".into(),
        speed: 0.25,
        history: 7,
    }
}

fn second_store() -> NodeView {
    NodeView { name: "desk (emulation)".into(), systems: Vec::new(), ..node() }
}

fn board() -> BoardView {
    BoardView {
        node: NodeView { temperature_mc: None, draining: false, ..node() },
        addresses: vec!["10.0.0.2".into(), "fe80::1%3".into()],
        port: 22,
        host_key: Some("ssh-ed25519 AAAAC3Nz".into()),
        fingerprint: "SHA256:def".into(),
        reach: Reach::Up,
        reason: String::new(),
        ours: 1,
    }
}

fn job() -> JobView {
    JobView {
        id: "0123456789abcdfg".into(),
        name: "hello-2.12".into(),
        drv_path: "/nix/store/00000000000000000000000000000000-hello-2.12.drv".into(),
        system: "riscv64-linux".into(),
        state: "queued".into(),
        node: None,
        emulated: true,
        forwarded: true,
        client: "alice (pid 4711)".into(),
        attached: 2,
        accepted_s: 1_700_000_000,
        started_s: None,
        ended_s: Some(u64::MAX),
        reason: "waits for a slot".into(),
        course: Course {
            accepted_ms: Some(1_700_000_000_123),
            node: Some("star64".into()),
            fetched_ms: Some(u64::MAX),
            ..Course::default()
        },
        steps_after: Some(3),
    }
}

fn why() -> Why {
    let candidate = Candidate {
        node: "star64".into(),
        emulated: true,
        start_s: Some(0.5),
        finish_s: None,
        chosen: true,
        reason: String::new(),
    };
    let out = Candidate {
        start_s: None,
        chosen: false,
        reason: "away: no answer".into(),
        ..candidate.clone()
    };
    Why {
        job: job(),
        notes: vec![(1, "accepted".into()), (2, "waits".into())],
        candidates: vec![candidate, out],
    }
}

fn a_planned() -> Planned {
    Planned {
        drv_path: job().drv_path,
        system: "riscv64-linux".into(),
        features: ["kvm".into()].into(),
        fixed_output: true,
        prefer_local: false,
        needs: vec![0],
    }
}

fn an_outlook() -> Outlook {
    let expected =
        Expected { node: 0, emulated: true, known: false, ready_s: 0.5, start_s: 1.0, end_s: 2.0 };
    let nodes = vec![("star64".into(), 4)];
    Outlook { builds: vec![expected], nodes, by_work_s: 1.5, by_chain_s: 0.75 }
}

impl NodeControl for Fake {
    async fn node(&self) -> NodeView {
        node()
    }

    async fn boards(&self) -> Vec<BoardView> {
        vec![board(), BoardView { reach: Reach::Pending, ..board() }]
    }

    async fn second_store(&self) -> Option<NodeView> {
        Some(second_store())
    }

    async fn jobs(&self) -> Vec<JobView> {
        vec![job()]
    }

    async fn why(&self, job: &str) -> Result<Why, ControlError> {
        if job == "hello" {
            return Ok(why());
        }
        Err(ControlError::NotFound(format!("there is no job {job:?}")))
    }

    async fn job_log(&self, _: &str) -> Result<JobLog, ControlError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"unpacking\n").unwrap();
        file.rewind().unwrap();
        Ok(JobLog { file, running: true })
    }

    async fn drain(&self, board: Option<&str>) -> Result<(), ControlError> {
        self.note("drain", board)
    }

    async fn resume(&self, board: Option<&str>) -> Result<(), ControlError> {
        self.note("resume", board)
    }

    async fn cancel(&self, job: &str) -> Result<(), ControlError> {
        self.note("cancel", Some(job))?;
        Err(ControlError::Failed("it has ended already".into()))
    }

    async fn demand(&self, _: Caller, wanted: Wanted) -> Result<Foreseen, ControlError> {
        self.note("demand", wanted.boards.first().map(String::as_str))?;
        Ok(Foreseen::default())
    }

    async fn plan(&self, planned: Vec<Planned>, local_slots: u32) -> Result<Outlook, ControlError> {
        assert_eq!((planned, local_slots), (vec![a_planned()], 3));
        Ok(an_outlook())
    }

    fn forget(&self, _: &str) {}

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// The daemon's connection, and its other end.
async fn connections(daemon: &Fake) -> (Connection, Connection) {
    let (here, there) = UnixStream::pair().unwrap();
    let server = Builder::unix_stream(here)
        .server(Guid::generate())
        .unwrap()
        .p2p()
        .serve_at(BUS_PATH, Node::new(daemon.clone()))
        .unwrap()
        .build();
    tokio::try_join!(server, Builder::unix_stream(there).p2p().build()).unwrap()
}

/// The daemon's connection, and a client at its other end.
async fn pair(daemon: &Fake) -> (Connection, Client) {
    let (server, client) = connections(daemon).await;
    (server, Client::over(&client).await.unwrap())
}

#[tokio::test]
async fn views_arrive_as_they_were() {
    let (_server, client) = pair(&Fake::new()).await;
    assert_eq!(client.node().await.unwrap(), node());
    assert_eq!(client.boards().await.unwrap()[0], board());
    assert_eq!(client.boards().await.unwrap()[1].reach, Reach::Pending);
    assert_eq!(client.second_store().await.unwrap(), Some(second_store()));
    assert_eq!(client.jobs().await.unwrap(), [job()]);
    assert_eq!(client.why("hello").await.unwrap(), why());
}

#[tokio::test]
async fn a_plan_and_its_outlook_arrive_as_they_were() {
    let (_server, client) = pair(&Fake::new()).await;
    assert_eq!(client.plan(&[a_planned()], 3).await.unwrap(), an_outlook());
}

#[tokio::test]
async fn properties_are_what_busctl_shows() {
    let (_server, client) = connections(&Fake::new()).await;
    let proxy = Proxy::new(&client, BUS_NAME, BUS_PATH, "org.freedesktop.DBus.Properties");
    let mut all: HashMap<String, OwnedValue> =
        proxy.await.unwrap().call("GetAll", &(BUS_INTERFACE,)).await.unwrap();
    let temperature = all.remove("Temperature").map(f64::try_from);
    assert_eq!(temperature.unwrap().unwrap(), 48.312);
    assert_eq!(String::try_from(all.remove("State").unwrap()).unwrap(), "draining");
    assert_eq!(u64::try_from(all.remove("MemoryMiB").unwrap()).unwrap(), 16_000);
    let systems = all.remove("EmulatedSystems").map(Vec::<String>::try_from);
    assert_eq!(systems.unwrap().unwrap(), ["riscv64-linux"]);
}

#[tokio::test]
async fn a_log_arrives_as_an_open_file() {
    let (_server, client) = pair(&Fake::new()).await;
    let JobLog { mut file, running } = client.job_log("hello").await.unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), running), ("unpacking\n", true));
}

#[tokio::test]
async fn orders_reach_the_daemon_and_its_refusals_come_back() {
    let daemon = Fake::new();
    let (_server, client) = pair(&daemon).await;
    client.drain(None).await.unwrap();
    client.drain(Some("star64")).await.unwrap();
    client.resume(Some("star64")).await.unwrap();
    client.resume(None).await.unwrap();
    let refused = client.cancel("hello").await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(ControlError::Failed(_))), "{refused:?}");
    assert_eq!(refused.to_string(), "it has ended already");
    assert_eq!(
        *daemon.asked.lock().unwrap(),
        ["drain this node", "drain star64", "resume star64", "resume this node", "cancel hello"]
    );
    let unknown = client.why("other").await.unwrap_err();
    assert!(matches!(unknown, ClientError::Refused(ControlError::NotFound(_))), "{unknown:?}");
    let long = client.cancel(&"x".repeat(100_000)).await.unwrap_err();
    assert!(matches!(long, ClientError::Refused(ControlError::NotFound(_))), "{long:?}");
}

#[tokio::test]
async fn a_caller_without_a_name_is_not_kept_in_mind() {
    let daemon = Fake::new();
    let (_server, client) = pair(&daemon).await;
    let wanted = Wanted { boards: vec!["star64".into()], ..Wanted::default() };
    let refused = client.demand(&wanted).await.unwrap_err();
    assert!(refused.to_string().contains("no name on the bus"), "{refused}");
    assert!(daemon.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn changes_are_signalled() {
    let daemon = Fake::new();
    let (server, client) = pair(&daemon).await;
    let mut notices = client.notices().await.unwrap();
    let changes = daemon.changes();
    let teller = tokio::spawn({
        let daemon = daemon.clone();
        async move { tell_changes(&server, &daemon, changes).await }
    });
    let hotter = NodeView { temperature_mc: Some(90_000), ..node() };
    let busier = NodeView { running: 3, ..hotter.clone() };
    let running = JobView { node: Some("star64".into()), state: "running".into(), ..job() };
    for change in [Change::Node(hotter), Change::Node(busier), Change::Job(running), Change::Boards]
    {
        daemon.changes.send(change).unwrap();
    }
    assert_eq!(notices.next().await.unwrap(), Notice::Node);
    let Notice::Job { id, state, node, .. } = notices.next().await.unwrap() else { panic!() };
    assert_eq!([id.as_str(), &state, &node], [&job().id, "running", "star64"]);
    assert_eq!(notices.next().await.unwrap(), Notice::Boards);
    teller.abort();
}

#[tokio::test]
async fn after_more_changes_than_can_be_held_everything_is_told_anew() {
    let daemon = Fake::new();
    let (server, client) = pair(&daemon).await;
    let mut notices = client.notices().await.unwrap();
    let changes = daemon.changes();
    for _ in 0..100 {
        daemon.changes.send(Change::Job(job())).unwrap();
    }
    let teller = tokio::spawn({
        let daemon = daemon.clone();
        async move { tell_changes(&server, &daemon, changes).await }
    });
    assert_eq!(notices.next().await.unwrap(), Notice::Boards);
    assert!(matches!(notices.next().await.unwrap(), Notice::Job { .. }));
    teller.abort();
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_named() {
    let bus = SystemBus::at("unix:path=/nonexistent/roost/bus");
    let error = Client::connect(&bus).await.unwrap_err();
    assert!(error.to_string().contains("systemctl start dbus"), "{error}");
}

#[test]
fn names_in_attributes_are_the_shared_ones() {
    assert_eq!(<Node<Fake> as Interface>::name().as_str(), BUS_INTERFACE);
    assert_eq!((BUS_NAME, BUS_PATH), ("org.roost.Node1", "/org/roost/Node1"));
}
