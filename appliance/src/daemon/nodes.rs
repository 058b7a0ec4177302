//! The nodes that this daemon can give jobs to: itself, and the boards of its fleet.

use std::{collections::BTreeSet, sync::Arc};

use super::{builder::Here, emulation::Second};
use futures_util::future::BoxFuture;
use nix_compat::{nix_daemon::PathInfo, store_path::StorePath};

use crate::{
    dispatch::{Inputs, Nodes, Stores},
    execute::{Execute, Link, Peer, Pool, Queries},
    fleet::{Board, Fleet},
    learn::{Source, Table},
    model::JobKey,
    place::{NodeFacts, local::LocalFacts},
    queue::roots::Roots,
};

/// Jobs that may wait at a board beyond its slots: enough that a slot is never idle while the next
/// job's inputs are on their way, few enough that a job is not bound to a busy board for long.
fn ahead(slots: u32) -> u32 {
    slots.max(2)
}

/// All of them.
pub(super) struct AllNodes {
    /// The ids of what this node builds itself: its own, and the second store's.
    pub(super) own: Vec<String>,
    /// How fast it is; see [`crate::model::NodeView::speed`].
    pub(super) speed: f64,
    pub(super) here: Option<Arc<Here>>,
    pub(super) fleet: Option<Fleet>,
    /// The local Nix, as a builder of what its own clients want.
    pub(super) local: Option<LocalFacts>,
    /// The second store.
    pub(super) emulation: Option<Arc<Second>>,
    /// The local nix-daemon, where inputs are shipped from.
    pub(super) store: Pool,
    pub(super) substitute: bool,
    /// Where outputs are held that a board has built for this node's clients.
    pub(super) roots: Roots,
}

impl Nodes for AllNodes {
    fn facts(&self) -> Vec<NodeFacts> {
        let boards = self.fleet.iter().flat_map(Fleet::members);
        let boards = boards.map(|board| board_facts(&board));
        let emulation = self.emulation.iter().map(|emulation| emulation.facts());
        self.here.iter().map(|here| here.facts()).chain(boards).chain(emulation).collect()
    }

    fn executor(&self, node: &str) -> Option<Arc<dyn Execute>> {
        if let Some(here) = self.here.as_ref().filter(|here| here.view.id == node) {
            return Some(here.executor.clone());
        }
        if let Some(emulation) = self.emulation.as_ref().filter(|it| it.view.id == node) {
            return Some(self.peer(emulation.link.clone(), false));
        }
        let link = self.fleet.as_ref()?.board(node)?.link()?;
        Some(self.peer(link, self.substitute))
    }

    fn forget(&self, node: &str, key: &JobKey) {
        if let Some(board) = self.fleet.as_ref().and_then(|fleet| fleet.board(node)) {
            board.forget(key.over_there().id().to_string());
        }
    }

    fn local(&self) -> Option<LocalFacts> {
        self.local.clone()
    }

    fn is_here(&self, node: &str) -> bool {
        self.here.as_ref().is_some_and(|here| here.view.id == node)
            || self.emulation.as_ref().is_some_and(|emulation| emulation.view.id == node)
    }

    fn name(&self, node: &str) -> Option<String> {
        match &self.here {
            Some(here) if here.view.id == node => Some(here.view.name.clone()),
            _ => match &self.emulation {
                Some(emulation) if emulation.view.id == node => Some(emulation.view.name.clone()),
                _ => Some(self.fleet.as_ref()?.board(node)?.name()),
            },
        }
    }

    fn histories(&self, own: Arc<Table>) -> Vec<Source> {
        let own = Source { nodes: self.own.clone(), hint: self.speed, table: own };
        let boards = self.fleet.iter().flat_map(Fleet::members).map(|board| {
            let view = board.node();
            Source { nodes: vec![view.id], hint: view.speed, table: board.history() }
        });
        std::iter::once(own).chain(boards).collect()
    }
}

impl AllNodes {
    fn peer(&self, link: Arc<Link>, substitute: bool) -> Arc<dyn Execute> {
        Arc::new(Peer {
            node: link.board().to_owned(),
            link,
            store: self.store.clone(),
            substitute,
            roots: self.roots.clone(),
        })
    }
}

fn board_facts(board: &Arc<Board>) -> NodeFacts {
    let view = board.node();
    let facts = NodeFacts::of(&view, board.health());
    NodeFacts { ahead: ahead(view.slots), busy: view.running + view.queued, ..facts }
}

/// The stores of this node and of the boards.
pub(super) struct AllStores {
    pub(super) queries: Queries,
    pub(super) fleet: Fleet,
}

impl Stores for AllStores {
    fn infos<'a>(
        &'a self,
        paths: &'a [StorePath],
    ) -> BoxFuture<'a, Result<Vec<Option<PathInfo>>, String>> {
        Box::pin(async move { self.queries.infos(paths).await.map_err(|error| error.to_string()) })
    }

    fn valid_at<'a>(
        &'a self,
        board: &'a str,
        paths: &'a BTreeSet<StorePath>,
    ) -> BoxFuture<'a, Result<BTreeSet<StorePath>, String>> {
        Box::pin(async move {
            let link = self.fleet.board(board).and_then(|board| board.link());
            let link = link.ok_or("it is away")?;
            link.valid(paths).await.map_err(|error| error.to_string())
        })
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
