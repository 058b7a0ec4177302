//! What people and other nodes may ask of a running daemon, whichever way they ask.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tracing::{info, warn};

use super::{
    belonging::Belonging,
    builder::{Here, Standing},
    demands::Demands,
    emulation::Second,
    parts::Parts,
};
use crate::{
    bus::{Caller, ControlError, Foreseen, JobLog, NodeControl, Wanted},
    dispatch::{Dispatcher, FindError},
    fleet::Fleet,
    model::{BoardView, Change, ControlRequest, JobView, NodeView, Outlook, Planned, Why},
    observe::vitals,
    queue::logs::Logs,
};

/// How often a board that has jobs looks whether it can build: some reads of /proc and /sys.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// How long one waits for somebody else's plan: what a caller waits for, without what a plan may take.
const PLAN_TURN: Duration = Duration::from_secs(2);

/// The daemon, to be asked. Clones share it.
#[derive(Clone)]
pub(super) struct Control(Arc<Inner>);

struct Inner {
    dispatcher: Dispatcher,
    here: Option<Arc<Here>>,
    fleet: Option<Fleet>,
    emulation: Option<Arc<Second>>,
    logs: Logs,
    belonging: Belonging,
    demands: Demands,
    /// One plan is made at a time: each may have a core for seconds, and everybody may ask.
    planning: Arc<Semaphore>,
    view: watch::Sender<NodeView>,
    /// Something has happened that may need this node's health: a job changed, or somebody came.
    stirred: Notify,
}

impl Control {
    pub(super) fn new(parts: &Parts) -> Self {
        Self(Arc::new(Inner {
            dispatcher: parts.dispatcher.clone(),
            here: parts.here.clone(),
            fleet: parts.fleet.clone(),
            emulation: parts.emulation.clone(),
            logs: parts.logs.clone(),
            belonging: parts.belonging.clone(),
            demands: Demands::new(parts),
            planning: Arc::new(Semaphore::new(1)),
            view: watch::Sender::new(parts.view.clone()),
            stirred: Notify::new(),
        }))
    }

    /// Where callers want their builds.
    pub(super) fn demands(&self) -> Demands {
        self.0.demands.clone()
    }

    /// This node's description, from now on.
    pub(super) fn watch(&self) -> watch::Receiver<NodeView> {
        self.0.view.subscribe()
    }

    /// Where another node's requests go.
    pub(super) fn requests(&self) -> mpsc::Sender<ControlRequest> {
        let (sender, mut requests) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                this.carry_out(&request);
            }
        });
        sender
    }

    fn carry_out(&self, request: &ControlRequest) {
        let done = match request {
            ControlRequest::Drain => self.set_draining(true),
            ControlRequest::Resume => self.set_draining(false),
            ControlRequest::Cancel(job) => {
                self.0.dispatcher.abandon(job).map_err(ControlError::from)
            }
            // Answered where the channel is served.
            ControlRequest::History { .. } => return,
        };
        match done {
            Ok(()) => info!(?request, "done for another node"),
            Err(error) => info!(?request, "not done for another node: {error}"),
        }
    }

    fn set_draining(&self, draining: bool) -> Result<(), ControlError> {
        let Some(here) = &self.0.here else {
            return Err(ControlError::Failed(
                "this node offers no build slots (board.enable); name a board".to_owned(),
            ));
        };
        here.draining.store(draining, Ordering::Relaxed);
        info!(
            "{}",
            if draining { "draining: no new jobs are started" } else { "takes jobs again" }
        );
        self.refresh();
        self.0.dispatcher.look_again();
        Ok(())
    }

    /// Keeps this node's description true as jobs come and go.
    pub(super) async fn keep_view(self) {
        let mut changes = self.0.dispatcher.changes();
        loop {
            match changes.recv().await {
                Ok(Change::Job(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.refresh();
                    self.0.stirred.notify_one();
                }
                Ok(Change::Node(_) | Change::Boards) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Notices when this node stops being able to build, and when it is again: nothing tells of a
    /// disk that is full or has room again, nor of heat. A node that is well and has nothing to do
    /// is left to sleep.
    pub(super) async fn keep_health(self) {
        let Some(here) = self.0.here.clone() else { return };
        let mut known = Standing::default();
        loop {
            here.executor.recover().await;
            let now = here.standing();
            if now != known {
                let Standing { paused, trouble } = &now;
                match (trouble.as_str(), paused.as_str()) {
                    ("", "") => info!("builds are started again"),
                    ("", why) | (why, _) => info!("no builds are started: {why}"),
                }
                known = now;
            }
            self.refresh();
            if !here.has_told(&known) {
                self.0.dispatcher.look_again();
            }
            if known == Standing::default() && self.0.dispatcher.counts() == (0, 0) {
                self.0.stirred.notified().await;
            } else {
                tokio::time::sleep(HEALTH_INTERVAL).await;
            }
        }
    }

    /// Has this node's health looked at because somebody has come: inputs that a full disk does not
    /// take never become a job.
    pub(super) fn visited(&self) {
        self.0.stirred.notify_one();
    }

    pub(super) fn refresh(&self) {
        let (running, queued) = self.0.dispatcher.counts();
        let here = self.0.here.as_ref();
        let draining = here.is_some_and(|here| here.draining.load(Ordering::Relaxed));
        let Standing { paused, trouble } = here.map(|here| here.standing()).unwrap_or_default();
        let temperature_mc = here.and_then(|here| here.temperature_mc());
        let history = self.0.dispatcher.history();
        let changed = self.0.view.send_if_modified(|view| {
            let new = NodeView {
                running,
                queued,
                draining,
                paused,
                trouble,
                temperature_mc,
                history,
                ..self.0.belonging.describe(view)
            };
            let changed = *view != new;
            *view = new;
            changed
        });
        if changed {
            self.0.dispatcher.announce(Change::Node(self.0.view.borrow().clone()));
        }
    }
}

impl From<FindError> for ControlError {
    fn from(error: FindError) -> Self {
        let text = error.to_string();
        match error {
            FindError::Unknown(_) | FindError::Ambiguous { .. } => Self::NotFound(text),
            FindError::Ended(_) => Self::Failed(text),
        }
    }
}

impl NodeControl for Control {
    async fn node(&self) -> NodeView {
        let view = self.0.view.borrow().clone();
        match &self.0.here {
            Some(here) => NodeView { temperature_mc: here.temperature_mc(), ..view },
            None => NodeView { temperature_mc: vitals::temperature_mc("/".as_ref()), ..view },
        }
    }

    async fn boards(&self) -> Vec<BoardView> {
        let Some(fleet) = &self.0.fleet else { return Vec::new() };
        // Whoever looks may just have added a key.
        fleet.judge();
        let mut boards = fleet.boards();
        for board in &mut boards {
            board.ours = self.0.dispatcher.assigned(&board.node.id);
        }
        boards
    }

    async fn second_store(&self) -> Option<NodeView> {
        let emulation = self.0.emulation.as_ref()?;
        Some(emulation.shown(self.0.dispatcher.assigned(&emulation.view.id)).await)
    }

    async fn jobs(&self) -> Vec<JobView> {
        self.0.dispatcher.jobs()
    }

    async fn why(&self, query: &str) -> Result<Why, ControlError> {
        self.0.dispatcher.why(query).map_err(ControlError::from)
    }

    async fn job_log(&self, query: &str) -> Result<JobLog, ControlError> {
        let id = self.0.dispatcher.find(query).map_err(ControlError::from)?;
        let running = !self.0.dispatcher.has_ended(&id);
        match self.0.logs.open_for_reading(&id) {
            Ok(Some(file)) => Ok(JobLog { file, running }),
            Ok(None) => Err(ControlError::NotFound(format!("job {id} has written nothing"))),
            Err(error) => Err(ControlError::Failed(error.to_string())),
        }
    }

    async fn drain(&self, board: Option<&str>) -> Result<(), ControlError> {
        self.ask(board, ControlRequest::Drain, true).await
    }

    async fn resume(&self, board: Option<&str>) -> Result<(), ControlError> {
        self.ask(board, ControlRequest::Resume, false).await
    }

    async fn cancel(&self, query: &str) -> Result<(), ControlError> {
        self.0.dispatcher.cancel(query, "roost cancel").await.map(drop).map_err(ControlError::from)
    }

    async fn demand(&self, caller: Caller, wanted: Wanted) -> Result<Foreseen, ControlError> {
        self.0.demands.take(caller, wanted)
    }

    async fn plan(&self, planned: Vec<Planned>, local_slots: u32) -> Result<Outlook, ControlError> {
        let busy = || ControlError::Failed("another plan is being made; try again".to_owned());
        let turn = tokio::time::timeout(PLAN_TURN, self.0.planning.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok).ok_or_else(busy)?;
        let dispatcher = self.0.dispatcher.clone();
        let reckon = move || {
            // Whoever has gone meanwhile lets nobody else begin before this is over.
            let _turn = turn;
            dispatcher.outlook(&planned, local_slots)
        };
        match tokio::task::spawn_blocking(reckon).await {
            Ok(outlook) => outlook.map_err(|error| ControlError::Failed(error.to_string())),
            Err(error) => Err(ControlError::Failed(error.to_string())),
        }
    }

    fn forget(&self, caller: &str) {
        self.0.demands.forget(caller);
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.dispatcher.changes()
    }
}

impl Control {
    async fn ask(
        &self,
        board: Option<&str>,
        request: ControlRequest,
        draining: bool,
    ) -> Result<(), ControlError> {
        let Some(board) = board else { return self.set_draining(draining) };
        let view = self.0.view.borrow().clone();
        if board == view.id || board == view.name {
            return self.set_draining(draining);
        }
        let Some(fleet) = &self.0.fleet else {
            let why = "this node uses no boards (workstation.enable)".to_owned();
            warn!("{why}");
            return Err(ControlError::Failed(why));
        };
        let member = fleet.member(board);
        let member = member.map_err(|error| ControlError::NotFound(error.to_string()))?;
        member.ask(request).map_err(ControlError::Failed)
    }
}
