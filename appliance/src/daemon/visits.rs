//! Receives who comes through the door, and sends each to the session that speaks its language.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use nix_compat::{nix_daemon::PathInfo, store_path::StorePath};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    sync::watch,
};
use tracing::info;

use super::{
    belonging::Belonging,
    client,
    control::Control,
    emulation::Second,
    parts::Parts,
    paths::Told,
    taken::{Promise, Tickets},
};
use crate::{
    dispatch::Dispatcher,
    enrol::answer,
    execute::{Link, Queries},
    fleet::{Deliveries, Fleet, Missing, Whereabouts, connect::Session, machines},
    graph::Keeper,
    model::{Advice, Demand, HookReply, Inquiry, JobId, NodeView, Origin, Want, Wish},
    trust::parse_fingerprint,
    wire::{
        command::Command,
        control::control,
        door::{Request, Visit},
        local_nix::LocalNix,
        session,
        unfetched::Unfetched,
    },
};

/// What sessions need.
#[derive(Clone)]
pub(super) struct Visits {
    dispatcher: Dispatcher,
    graph: Option<Keeper>,
    fleet: Option<Fleet>,
    nix: LocalNix,
    queries: Queries,
    whereabouts: Arc<dyn Whereabouts>,
    patience: Duration,
    deliveries: Deliveries,
    view: watch::Receiver<NodeView>,
    control: Control,
    belonging: Belonging,
    tickets: Tickets,
}

impl Visits {
    pub(super) fn new(parts: &Parts, control: &Control) -> Self {
        Self {
            dispatcher: parts.dispatcher.clone(),
            graph: parts.graph.clone(),
            fleet: parts.fleet.clone(),
            nix: LocalNix {
                socket: parts.socket.clone(),
                store_dir: PathBuf::from("/nix/store"),
                trouble: parts
                    .here
                    .as_ref()
                    .map(|h| h.executor.trouble.clone())
                    .unwrap_or_default(),
                unfetched: Unfetched::default(),
                native: parts.native_systems(),
            },
            queries: parts.queries.clone(),
            patience: Duration::from_secs(parts.config.workstation.away_timeout_s),
            whereabouts: Arc::new(BuiltOn {
                dispatcher: parts.dispatcher.clone(),
                fleet: parts.fleet.clone(),
                emulation: parts.emulation.clone(),
            }),
            deliveries: Deliveries::default(),
            view: control.watch(),
            control: control.clone(),
            belonging: parts.belonging.clone(),
            tickets: Tickets::default(),
        }
    }

    /// Serves one client until it or its program has gone, or its key is revoked.
    pub(super) async fn attend(self, visit: Visit) {
        let key = match &visit.request {
            Request::Serve { key: Some(key), .. } => parse_fingerprint(key),
            Request::Serve { key: None, .. } | Request::Connect { .. } | Request::Advise { .. } => {
                None
            }
        };
        let belonging = self.belonging.clone();
        // sshd lets in nobody but the fleet, and only its nodes ask for this.
        if key.is_some() && is_peer(&visit.request) && belonging.updates.contact() {
            self.control.refresh();
        }
        tokio::select! {
            () = self.serve(visit) => {}
            () = belonging.revoked(key) => info!("let a client go whose key was revoked"),
        }
    }

    async fn serve(self, visit: Visit) {
        match &visit.request {
            Request::Connect { selector } => match self.only(selector) {
                Ok(only) => self.connect(visit, only).await,
                Err(why) => {
                    let mut notes = visit.notes;
                    info!("a build hook was sent away: {why}");
                    notes.text(format!("roost: {why}\n")).await;
                    notes.end(1).await;
                }
            },
            Request::Advise { willing, slots, drv_path, system, features } => {
                let demands = self.control.demands();
                let ancestry = || client::ancestry(visit.caller.pid);
                let demand = StorePath::parse(drv_path)
                    .map(|path| demands.of(&path, system, features, ancestry))
                    .unwrap_or_default();
                let inquiry = Inquiry {
                    demand,
                    asker: client::asker(visit.caller.pid, *willing, *slots),
                    drv_path: drv_path.clone(),
                    system: system.clone(),
                    features: features.clone(),
                    client: client::of(visit.caller.pid),
                };
                self.advise(inquiry, visit).await;
            }
            Request::Serve { command: Command::PeerControl, .. } => self.control(visit).await,
            Request::Serve { command: Command::PeerTrust, .. } => self.trust(visit).await,
            Request::Serve { .. } => {
                self.control.visited();
                session::attend(visit, &self.nix, &self.dispatcher).await;
            }
        }
    }

    /// What a line of the machines file says of where jobs are to be built: one of a single board's.
    fn only(&self, selector: &str) -> Result<Demand, String> {
        let Some(stem) = machines::stem_of_only(selector) else { return Ok(Demand::default()) };
        let members = self.fleet.iter().flat_map(Fleet::members).map(|board| board.node());
        let board = members.into_iter().find(|board| machines::only(&board.id) == stem);
        let board = board.ok_or_else(|| {
            format!("the board of {selector} is no longer part of this fleet; see `roost status`")
        })?;
        let origin = Origin::Only(board.name);
        Ok(Wish { origin, want: Want::Require, nodes: [board.id].into() }.into())
    }

    /// A stock build hook of the local Nix.
    async fn connect(self, visit: Visit, only: Demand) {
        let Visit { caller, input, output, mut lifeline, mut notes, .. } = visit;
        let asker = client::behind(caller.pid);
        let demands = self.control.demands();
        let demand = move |drv_path: &StorePath, system: &str, features: &BTreeSet<String>| {
            let ancestry = || client::ancestry(caller.pid);
            demands.of(drv_path, system, features, ancestry).and(&only)
        };
        let session = Session {
            builds: Told::new(self.dispatcher, self.graph, asker.worker, self.tickets),
            whereabouts: self.whereabouts,
            patience: self.patience,
            deliveries: self.deliveries,
            queries: self.queries,
            socket: self.nix.socket,
            client: asker.client,
            demand: Arc::new(demand),
            reader: BufReader::with_capacity(64 << 10, input),
            writer: output,
        };
        let ended = tokio::select! {
            ended = session.run() => ended,
            () = lifeline.gone() => return,
        };
        match ended {
            Ok(()) => notes.end(0).await,
            Err(error) => {
                info!("a build hook's session ended: {error}");
                notes.text(format!("roost: {error}\n")).await;
                notes.end(1).await;
            }
        }
    }

    /// The build hook of the local Nix, which asks where something should be built.
    async fn advise(self, inquiry: Inquiry, visit: Visit) {
        let Visit { caller, mut output, mut lifeline, notes, .. } = visit;
        let promise = match self.dispatcher.advise(&inquiry) {
            Advice::Local => Err(HookReply::Local),
            Advice::Elsewhere => self
                .tickets
                .promise(inquiry, &self.dispatcher, self.fleet.as_ref())
                .ok_or(HookReply::Elsewhere),
        };
        let reply = promise.as_ref().map_or_else(Clone::clone, Promise::reply);
        // Who does not wait for it does as without us.
        let told = output.write_all(format!("{reply}\n").as_bytes()).await;
        if let (Ok(()), Ok(promise)) = (told, promise) {
            let worker = client::worker(caller.pid);
            let builds = Told::new(self.dispatcher.clone(), self.graph, worker, self.tickets);
            let store = (&self.queries, &*self.nix.store_dir);
            tokio::select! {
                never = promise.keep(&builds, &self.dispatcher, store, &mut output) => match never {},
                () = lifeline.gone() => return,
            }
        }
        notes.end(0).await;
    }

    /// Another node that has something to tell of trust.
    async fn trust(self, visit: Visit) {
        let Visit { input, output, mut lifeline, notes, .. } = visit;
        let ended = tokio::select! {
            ended = answer(input, output, &self.belonging.trust, &self.belonging) => ended,
            () = lifeline.gone() => return,
        };
        if let Err(error) = ended {
            info!("a conversation of trust ended: {error}");
        }
        notes.end(0).await;
    }

    /// Another node that uses this one.
    async fn control(self, visit: Visit) {
        let Visit { input, output, mut lifeline, mut notes, .. } = visit;
        let (requests, dispatcher) = (self.control.requests(), self.dispatcher);
        let history = move |since| dispatcher.history_since(since);
        let ended = tokio::select! {
            ended = control(input, output, self.view, requests, history) => ended,
            () = lifeline.gone() => return,
        };
        if let Err(error) = ended {
            info!("a control channel ended: {error}");
            notes.text(format!("roost: {error}\n")).await;
            return notes.end(1).await;
        }
        notes.end(0).await;
    }
}

/// Whether another node has come, and not stock Nix.
fn is_peer(request: &Request) -> bool {
    let Request::Serve { command, .. } = request else { return false };
    matches!(command, Command::PeerWorker | Command::PeerControl | Command::PeerTrust)
}

/// Finds the board that built a job, or the second store.
struct BuiltOn {
    dispatcher: Dispatcher,
    fleet: Option<Fleet>,
    emulation: Option<Arc<Second>>,
}

impl Whereabouts for BuiltOn {
    fn of(&self, id: &JobId) -> Result<Arc<Link>, Missing> {
        let unknown = |why: &str| Missing::Unknown(why.to_owned());
        let node = self.dispatcher.built_on(id);
        let node = node.ok_or_else(|| unknown("nobody knows any more where"))?;
        if let Some(emulation) = self.emulation.as_ref().filter(|it| it.view.id == node) {
            return Ok(emulation.link.clone());
        }
        let board = self.fleet.as_ref().and_then(|fleet| fleet.board(&node));
        let board = board.ok_or_else(|| unknown(&format!("{node} is no board of this fleet")))?;
        let away = || Missing::Away(format!("{} is not connected", board.node().name));
        board.link().ok_or_else(away)
    }

    fn told(&self, id: &JobId, output: &PathInfo) {
        self.dispatcher.output(id, output);
    }
}
