//! A dispatcher on a real queue, real logs and real roots; its nodes are played by the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use nix_compat::{
    derivation::BasicDerivation,
    nix_daemon::{BuildResult, BuildStatus, Field, PathInfo, StderrMessage},
    store_path::StorePath,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::super::{Asked, Dispatcher, Inputs, Nodes, Parts, Patience, Stores};
use crate::{
    execute::{Execute, Measured, Order, Report, Stage, Verdict, activity},
    learn::{Ending, Outcome, Package, Source, Table},
    model::{
        Builds as _, Client, Demand, How, JobEvent, JobId, JobKey, JobView, Mode, Origin, Payload,
        Refusal, Sent, Site, Submission, Supply, Ticket, Want, Wish,
    },
    place::{Health, NodeFacts, Policy, local::LocalFacts},
    queue::{
        Limits, Queue,
        logs::{LogLimits, Logs},
        roots::Roots,
    },
};

/// Nothing in a test takes this long unless it hangs: 200 jobs are some hundred fsyncs of a disk that
/// others may be using.
const DEADLINE: Duration = Duration::from_secs(120);
pub(super) const NEVER: Duration = Duration::from_secs(24 * 3600);
/// What all nodes build for.
pub(super) const SYSTEM: &str = "riscv64-linux";
/// All logs of a rig together.
pub(super) const LOGS_BYTES: u64 = 64 << 10;
pub(super) const SHORTLY: Duration = Duration::from_millis(50);
pub(super) const PATIENT: Patience =
    Patience { orphan_grace: NEVER, output_grace: NEVER, away: NEVER };

/// Waits, but not for ever.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// Waits until something holds, but not for ever.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(look).await;
}

/// What the test tells a run to do.
enum Act {
    Line(&'static str),
    Stage(Stage),
    Supplied(Sent),
    Measured(Measured),
    End(Verdict),
    Panic,
}

/// A job that an executor was given. Unless it is ended, it runs for ever.
pub(super) struct Run {
    pub(super) order: Order,
    acts: mpsc::UnboundedSender<Act>,
}

impl Run {
    pub(super) fn id(&self) -> JobId {
        self.order.key.id()
    }

    pub(super) fn line(&self, line: &'static str) {
        self.acts.send(Act::Line(line)).unwrap();
    }

    pub(super) fn builds(&self) {
        let stage = Stage::Building { node: "board".to_owned(), phase: None };
        self.acts.send(Act::Stage(stage)).unwrap();
    }

    pub(super) fn ends(&self, verdict: Verdict) {
        // It may have been aborted meanwhile.
        let _ = self.acts.send(Act::End(verdict));
    }

    pub(super) fn succeeds(&self) {
        self.ends(Verdict::Ended(Box::new(BuildResult::failure(BuildStatus::Built, ""))));
    }

    pub(super) fn fails(&self, why: &str) {
        let result = BuildResult::failure(BuildStatus::PermanentFailure, why);
        self.ends(Verdict::Ended(Box::new(result)));
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.acts.send(Act::Stage(stage)).unwrap();
    }

    /// Inputs of so many bytes have been sent within this time.
    pub(super) fn is_supplied(&self, bytes: u64, took: Duration) {
        self.acts.send(Act::Supplied(Sent { bytes, took })).unwrap();
    }

    pub(super) fn measures(&self, measured: Measured) {
        self.acts.send(Act::Measured(measured)).unwrap();
    }

    pub(super) fn panics(&self) {
        self.acts.send(Act::Panic).unwrap();
    }

    /// Waits until the dispatcher has dropped it.
    pub(super) async fn dropped(&self) {
        soon(self.acts.closed()).await;
    }
}

/// An executor whose part is played by the test.
struct Hands {
    runs: mpsc::UnboundedSender<Run>,
    forgotten: Mutex<Vec<JobId>>,
    now: AtomicU32,
    most: AtomicU32,
}

/// Counts a run as long as it is there.
struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Execute for Hands {
    fn run<'a>(&'a self, order: Order, report: &'a mut dyn Report) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            let _counted = Counted(&self.now);
            self.most.fetch_max(now, Ordering::Relaxed);
            let (acts, mut to_do) = mpsc::unbounded_channel();
            self.runs.send(Run { order, acts }).unwrap();
            loop {
                match to_do.recv().await {
                    Some(Act::Line(line)) => report.line(line.as_bytes()),
                    Some(Act::Stage(stage)) => report.stage(stage),
                    Some(Act::Supplied(sent)) => report.supplied(Some(sent)),
                    Some(Act::Measured(measured)) => report.measured(measured),
                    Some(Act::End(verdict)) => return verdict,
                    Some(Act::Panic) => panic!("as the test wants it"),
                    None => std::future::pending().await,
                }
            }
        })
    }
}

/// The nodes and the store, as the test says.
struct World {
    /// Where jobs are asked for.
    site: Site,
    facts: Mutex<Vec<NodeFacts>>,
    hands: Hands,
    missing: Mutex<BTreeSet<StorePath>>,
    /// What the local store says of paths.
    infos: Mutex<BTreeMap<StorePath, PathInfo>>,
    /// What other nodes have. One that is not among them does not answer.
    stocks: Mutex<BTreeMap<String, BTreeSet<StorePath>>>,
    /// What other nodes have told of their builds.
    told: Mutex<BTreeMap<String, Table>>,
}

/// [`World`] as the dispatcher sees it.
struct Shared(Arc<World>);

impl Nodes for Shared {
    fn facts(&self) -> Vec<NodeFacts> {
        self.0.facts.lock().unwrap().clone()
    }

    fn executor(&self, node: &str) -> Option<Arc<dyn Execute>> {
        let there = self.facts().iter().any(|facts| facts.id == node);
        there.then(|| Arc::new(Shared(self.0.clone())) as Arc<dyn Execute>)
    }

    fn forget(&self, _: &str, key: &JobKey) {
        self.0.hands.forgotten.lock().unwrap().push(key.id());
    }

    fn local(&self) -> Option<LocalFacts> {
        let systems = vec![SYSTEM.to_owned()];
        Some(LocalFacts {
            id: "own".to_owned(),
            name: "own".to_owned(),
            labels: BTreeSet::new(),
            speed: 1.0,
            systems,
            features: BTreeSet::new(),
            forbidden: None,
        })
    }

    fn is_here(&self, node: &str) -> bool {
        self.facts().iter().any(|facts| facts.here && facts.id == node)
    }

    fn name(&self, node: &str) -> Option<String> {
        Some(node.to_owned())
    }

    fn histories(&self, own: Arc<Table>) -> Vec<Source> {
        let source = |nodes, table| Source { nodes, hint: 1.0, table };
        let here = self.facts().into_iter().filter(|facts| facts.here).map(|facts| facts.id);
        let own = source(here.collect(), own);
        let told = self.0.told.lock().unwrap();
        let told = told.iter().map(|(id, table)| source(vec![id.clone()], Arc::new(table.clone())));
        std::iter::once(own).chain(told).collect()
    }
}

impl Execute for Shared {
    fn run<'a>(&'a self, order: Order, report: &'a mut dyn Report) -> BoxFuture<'a, Verdict> {
        self.0.hands.run(order, report)
    }
}

impl Inputs for Shared {
    fn missing<'a>(
        &'a self,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>> {
        let missing = self.0.missing.lock().unwrap().intersection(paths).cloned().collect();
        Box::pin(async move { Ok(missing) })
    }
}

impl Stores for Shared {
    fn infos<'a>(
        &'a self,
        paths: &'a [StorePath],
    ) -> BoxFuture<'a, Result<Vec<Option<PathInfo>>, String>> {
        let infos = self.0.infos.lock().unwrap();
        let infos = paths.iter().map(|path| infos.get(path).cloned()).collect();
        Box::pin(async move { Ok(infos) })
    }

    fn valid_at<'a>(
        &'a self,
        board: &'a str,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>> {
        let has = self.0.stocks.lock().unwrap().get(board).cloned();
        Box::pin(async move {
            match has {
                Some(has) => Ok(has.intersection(paths).cloned().collect()),
                None => std::future::pending().await,
            }
        })
    }
}

/// The dispatcher and everything around it.
pub(super) struct Rig {
    pub(super) dispatcher: Dispatcher,
    world: Arc<World>,
    runs: mpsc::UnboundedReceiver<Run>,
    pump: JoinHandle<()>,
    folder: Arc<tempfile::TempDir>,
}

/// The rule of these tests: what is called `avoider` avoids the node `shunned`.
fn ruled(asked: Asked<'_>) -> Demand {
    let shunned = Wish {
        origin: Origin::Rule("rule 1 (name avoider)".to_owned()),
        want: Want::Avoid,
        nodes: ["shunned".to_owned()].into(),
    };
    if asked.name == "avoider" { shunned.into() } else { Demand::default() }
}

/// Another node with two slots.
pub(super) fn board(id: &str) -> NodeFacts {
    NodeFacts { here: false, ..node(id) }
}

/// This node, with two slots.
pub(super) fn node(id: &str) -> NodeFacts {
    NodeFacts {
        id: id.to_owned(),
        name: id.to_owned(),
        here: true,
        systems: vec![SYSTEM.to_owned()],
        emulated: Vec::new(),
        features: BTreeSet::new(),
        labels: BTreeSet::new(),
        slots: 2,
        speed: 1.0,
        ahead: 0,
        assigned: 0,
        big: 0,
        busy: 0,
        jobs: Vec::new(),
        supply: Supply::default(),
        health: Health::Ready,
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(PATIENT, 1000)
    }

    pub(super) fn with(patience: Patience, max_jobs: usize) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::make(folder, patience, max_jobs, Site::Here, Policy::default())
    }

    /// One that sends its jobs to boards, like a workstation.
    pub(super) fn workstation() -> Self {
        Self::policy(Policy::default())
    }

    /// The same, with a policy for emulation.
    pub(super) fn policy(policy: Policy) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let rig = Self::make(folder, PATIENT, 1000, Site::Elsewhere, policy);
        rig.nodes(vec![board("board")]);
        rig
    }

    fn make(
        folder: Arc<tempfile::TempDir>,
        patience: Patience,
        max_jobs: usize,
        site: Site,
        policy: Policy,
    ) -> Self {
        let at = |name: &str| folder.path().join(name);
        let (queue, recovery) =
            Queue::open(&at("queue"), Limits::default(), &["board".to_owned()], 1).unwrap();
        let limits = LogLimits { job_bytes: 1 << 20, total_bytes: LOGS_BYTES };
        let (sender, runs) = mpsc::unbounded_channel();
        let hands = Hands {
            runs: sender,
            forgotten: Mutex::default(),
            now: AtomicU32::new(0),
            most: AtomicU32::new(0),
        };
        let facts = Mutex::new(vec![node("board")]);
        let world = Arc::new(World {
            site,
            facts,
            hands,
            missing: Mutex::default(),
            infos: Mutex::default(),
            stocks: Mutex::default(),
            told: Mutex::default(),
        });
        let dispatcher = Dispatcher::new(Parts {
            queue,
            recovery,
            roots: Roots::open(&at("roots"), Path::new("/nix/store")).unwrap(),
            logs: Logs::open(&at("logs"), limits).unwrap(),
            nodes: Arc::new(Shared(world.clone())),
            inputs: Some(Arc::new(Shared(world.clone()))),
            max_jobs,
            patience,
            policy: Box::new(move |_| policy),
            stores: Some(Arc::new(Shared(world.clone()))),
            paths: None,
            rules: Box::new(ruled),
        });
        let pump = tokio::spawn({
            let dispatcher = dispatcher.clone();
            async move { dispatcher.run().await }
        });
        Self { dispatcher, world, runs, pump, folder }
    }

    /// Stops it, and starts another on the same files.
    pub(super) async fn again(self, patience: Patience) -> Self {
        soon(self.dispatcher.stop()).await;
        self.pump.abort();
        Self::make(self.folder, patience, 1000, Site::Here, Policy::default())
    }

    pub(super) fn nodes(&self, facts: Vec<NodeFacts>) {
        *self.world.facts.lock().unwrap() = facts;
        self.dispatcher.look_again();
    }

    pub(super) fn health(&self, health: Health) {
        self.nodes(vec![NodeFacts { health, ..node("board") }]);
    }

    pub(super) fn lacks(&self, path: StorePath) {
        self.world.missing.lock().unwrap().insert(path);
    }

    /// A path in the local store is so large, and refers to these.
    pub(super) fn stores(&self, path: &StorePath, nar_size: u64, references: &[&StorePath]) {
        let info = PathInfo {
            path: path.clone(),
            deriver: None,
            nar_hash: "0".repeat(64),
            references: references.iter().map(|path| (*path).clone()).collect(),
            registration_time_s: 0,
            nar_size,
            ultimate: false,
            signatures: BTreeSet::new(),
            ca: String::new(),
        };
        self.world.infos.lock().unwrap().insert(path.clone(), info);
    }

    /// A node has these paths, of those that are asked for.
    pub(super) fn has(&self, node: &str, paths: &[&StorePath]) {
        let paths = paths.iter().map(|path| (*path).clone()).collect();
        self.world.stocks.lock().unwrap().insert(node.to_owned(), paths);
    }

    pub(super) fn forgotten(&self) -> Vec<JobId> {
        self.world.hands.forgotten.lock().unwrap().clone()
    }

    /// The most that ever ran at once.
    pub(super) fn most(&self) -> u32 {
        self.world.hands.most.load(Ordering::Relaxed)
    }

    /// The next job that the executor is given.
    pub(super) async fn run(&mut self) -> Run {
        soon(self.runs.recv()).await.unwrap()
    }

    pub(super) fn is_idle(&mut self) -> bool {
        self.runs.try_recv().is_err()
    }

    pub(super) async fn submit(&self, name: &str) -> Waiter {
        Waiter::new(self.try_submit(name).await.unwrap())
    }

    /// The same, of a job that needs this alone.
    pub(super) async fn submit_with(&self, name: &str, input: &StorePath) -> Waiter {
        let mut submission = submission(name);
        submission.key.site = self.world.site;
        if let Payload::Derivation(derivation) = &mut submission.payload {
            derivation.input_srcs = [input.clone()].into();
        }
        Waiter::new(soon(self.dispatcher.submit(submission)).await.unwrap())
    }

    pub(super) async fn try_submit(&self, name: &str) -> Result<Ticket, Refusal> {
        let mut submission = submission(name);
        submission.key.site = self.world.site;
        soon(self.dispatcher.submit(submission)).await
    }

    pub(super) fn view(&self, id: &JobId) -> JobView {
        let mut jobs = self.dispatcher.jobs();
        jobs.retain(|job| job.id == id.as_str());
        jobs.pop().unwrap()
    }

    /// Another node tells that a build took it so long.
    pub(super) fn tells(&self, node: &str, name: &str, how: How, seconds: u64) {
        let package = Package::of(name, "riscv64-linux", how);
        let ending = Ending::Built { ms: seconds * 1000, peak_mib: None, output_bytes: None };
        let mut told = self.world.told.lock().unwrap();
        let table = told.entry(node.to_owned()).or_default();
        table.learn(&Outcome { package, ending, at_s: 1 });
    }

    /// Whether anything is held for a job: `inputs` or `outputs`, or the job as such.
    pub(super) fn holds(&self, id: &JobId) -> bool {
        self.folder.path().join("roots").join(id.as_str()).exists()
    }

    /// What all logs take.
    pub(super) fn logged_bytes(&self) -> u64 {
        let logs = std::fs::read_dir(self.folder.path().join("logs")).unwrap();
        logs.map(|log| log.unwrap().metadata().unwrap().len()).sum()
    }

    /// Makes it impossible to keep a job's log: a folder is in its place.
    pub(super) fn spoil_log(&self, id: &JobId) {
        std::fs::create_dir(self.folder.path().join("logs").join(format!("{id}.log"))).unwrap();
    }

    /// What the database on disk holds, once the dispatcher has stopped.
    pub(super) async fn on_disk(self) -> Vec<crate::model::Job> {
        soon(self.dispatcher.stop()).await;
        self.pump.abort();
        Queue::open(&self.folder.path().join("queue"), Limits::default(), &["board".to_owned()], 1)
            .unwrap()
            .1
            .jobs
    }
}

/// A client that waits for a job.
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
}

impl Waiter {
    pub(super) fn new(ticket: Ticket) -> Self {
        Self { ticket }
    }

    pub(super) fn id(&self) -> JobId {
        self.ticket.id.clone()
    }

    /// Everything it hears, one word an event, and the result.
    pub(super) async fn story(&mut self) -> (Vec<String>, BuildResult) {
        let mut heard = Vec::new();
        loop {
            match soon(self.ticket.events.recv()).await.expect("an end") {
                JobEvent::Message(message) => heard.push(words(&message)),
                JobEvent::Finished(result) => return (heard, *result),
            }
        }
    }

    pub(super) async fn result(&mut self) -> BuildResult {
        self.story().await.1
    }

    /// Waits until it hears something with these words.
    pub(super) async fn hears(&mut self, part: &str) {
        loop {
            match soon(self.ticket.events.recv()).await.expect("something") {
                JobEvent::Message(message) if words(&message).contains(part) => return,
                JobEvent::Message(_) => {}
                JobEvent::Finished(result) => panic!("ended without {part:?}: {result:?}"),
            }
        }
    }
}

/// A message in words: what an activity or a log line says.
fn words(message: &StderrMessage) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match message {
        StderrMessage::StartActivity { text: it, .. } => text(it),
        StderrMessage::StopActivity(_) => "stop".to_owned(),
        StderrMessage::Result { kind: activity::LOG_LINE, fields, .. } => match &fields[..] {
            [Field::String(line)] => format!("> {}", text(line)),
            other => panic!("not a log line: {other:?}"),
        },
        StderrMessage::Next(line) => format!("> {}", text(line).trim_end()),
        other => format!("{other:?}"),
    }
}

pub(super) fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
}

/// A request to build a derivation that has one input, `<name>-source`.
pub(super) fn submission(name: &str) -> Submission {
    let derivation = BasicDerivation {
        outputs: [].into(),
        input_srcs: [path(&format!("{name}-source"))].into(),
        platform: "riscv64-linux".to_owned(),
        builder: b"/bin/sh".to_vec(),
        args: Vec::new(),
        env: [].into(),
    };
    Submission {
        key: JobKey {
            drv_path: path(&format!("{name}.drv")),
            outputs: [JobKey::ALL_OUTPUTS.to_owned()].into(),
            mode: Mode::Normal,
            site: Site::Here,
        },
        payload: Payload::Derivation(Box::new(derivation)),
        system: "riscv64-linux".to_owned(),
        features: BTreeSet::new(),
        client: Client { label: "alice (pid 4711)".to_owned() },
        forwarded: false,
        demand: Demand::default(),
    }
}

pub(super) fn text(result: &BuildResult) -> String {
    String::from_utf8_lossy(&result.error_msg).into_owned()
}
