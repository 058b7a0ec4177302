//! The nodes that this daemon can give jobs to: itself, and the boards of its fleet.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use nix_compat::store_path::StorePath;

use crate::{
    dispatch::{Inputs, Nodes},
    execute::{Execute, LocalNix, Peer, Queries},
    fleet::{Board, Fleet},
    model::{ControlRequest, JobKey, NodeView},
    observe,
    place::{Health, NodeFacts},
    queue::roots::Roots,
};

/// Jobs that may wait at a board beyond its slots: enough that a slot is never idle while the next
/// job's inputs are on their way, few enough that a job is not bound to a busy board for long.
fn ahead(slots: u32) -> u32 {
    slots.max(2)
}

/// This node as a builder.
pub(super) struct Here {
    /// Its nix-daemon.
    pub(super) executor: Arc<LocalNix>,
    /// Its description; what changes in it is not looked at.
    pub(super) view: NodeView,
    /// Whether it takes jobs.
    pub(super) draining: AtomicBool,
    /// Where builds need free space.
    pub(super) store: PathBuf,
    /// How much of it, in MiB.
    pub(super) min_free_mib: u64,
}

impl Here {
    fn facts(&self) -> NodeFacts {
        NodeFacts {
            id: self.view.id.clone(),
            name: self.view.name.clone(),
            here: true,
            systems: self.view.systems.clone(),
            emulated: self.view.emulated.clone(),
            features: self.view.features.clone(),
            slots: self.view.slots,
            ahead: 0,
            assigned: 0,
            busy: 0,
            health: self.health(),
        }
    }

    fn health(&self) -> Health {
        if self.draining.load(Ordering::Relaxed) {
            return Health::Draining;
        }
        let trouble = self.trouble();
        if trouble.is_empty() { Health::Ready } else { Health::Away(trouble) }
    }

    /// What keeps it from building, in words; empty if nothing does. The same as long as it is the
    /// same trouble.
    pub(super) fn trouble(&self) -> String {
        match observe::vitals::space(&self.store).map(|space| space.free_bytes >> 20) {
            Ok(free_mib) if free_mib < self.min_free_mib => format!(
                "less than {} MiB are free on {} (queue.min_free_mib); `nix-collect-garbage` there \
                 may help",
                self.min_free_mib,
                self.store.display(),
            ),
            Ok(_) => self.executor.trouble(),
            Err(error) => error.to_string(),
        }
    }
}

/// All of them.
pub(super) struct AllNodes {
    pub(super) here: Option<Arc<Here>>,
    pub(super) fleet: Option<Fleet>,
    /// The local nix-daemon, where inputs are shipped from.
    pub(super) socket: PathBuf,
    pub(super) substitute: bool,
    /// Where outputs are held that a board has built for this node's clients.
    pub(super) roots: Roots,
}

impl Nodes for AllNodes {
    fn facts(&self) -> Vec<NodeFacts> {
        let boards = self.fleet.iter().flat_map(Fleet::members);
        let boards = boards.map(|board| board_facts(&board));
        self.here.iter().map(|here| here.facts()).chain(boards).collect()
    }

    fn executor(&self, node: &str) -> Option<Arc<dyn Execute>> {
        if let Some(here) = self.here.as_ref().filter(|here| here.view.id == node) {
            return Some(here.executor.clone());
        }
        let board = self.fleet.as_ref()?.board(node)?;
        let link = board.link()?;
        let forget = move |key: &JobKey| {
            let (board, id) = (board.clone(), key.over_there().id().to_string());
            let asked = async move {
                if let Err(why) = board.ask(ControlRequest::Cancel(id)) {
                    tracing::debug!("a board was not told that a job is cancelled: {why}");
                }
            };
            Box::pin(asked) as BoxFuture<'static, ()>
        };
        Some(Arc::new(Peer {
            node: link.board().to_owned(),
            link,
            socket: self.socket.clone(),
            substitute: self.substitute,
            roots: self.roots.clone(),
            forget: Arc::new(forget),
        }))
    }

    fn is_here(&self, node: &str) -> bool {
        self.here.as_ref().is_some_and(|here| here.view.id == node)
    }

    fn name(&self, node: &str) -> Option<String> {
        match &self.here {
            Some(here) if here.view.id == node => Some(here.view.name.clone()),
            _ => Some(self.fleet.as_ref()?.board(node)?.node().name),
        }
    }
}

fn board_facts(board: &Arc<Board>) -> NodeFacts {
    let view = board.node();
    NodeFacts {
        id: view.id,
        name: view.name,
        here: false,
        systems: view.systems,
        emulated: view.emulated,
        features: view.features,
        slots: view.slots,
        ahead: ahead(view.slots),
        assigned: 0,
        busy: view.running + view.queued,
        health: board.health(),
    }
}

/// The local store, asked whether a job's inputs are in it.
pub(super) struct LocalStore(pub(super) Queries);

impl Inputs for LocalStore {
    fn missing<'a>(
        &'a self,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>> {
        Box::pin(async move {
            let valid = self.0.valid(paths).await.map_err(|error| error.to_string())?;
            Ok(paths.difference(&valid).cloned().collect())
        })
    }
}
