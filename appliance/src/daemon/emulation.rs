//! Emulation on a workstation: one more node, which builds in a second store of this machine.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use tracing::{info, warn};

use super::builder::{self, Fresh};
use crate::{
    config::Config,
    execute::{BuildSettings, Link, SecondError, SecondNix, SecondStore},
    model::NodeView,
    place::{Health, NodeFacts},
};

/// What follows the node's own name.
const SUFFIX: &str = " (emulation)";
/// What follows the node's own id.
const ID_SUFFIX: &str = "-emulation";
/// nix-daemon makes room in the second store long before builds are held up for want of it.
const ROOM: u64 = 2;
/// How long somebody who looks waits until it is found out whether trouble is over.
const RECOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The second store as a node.
pub(super) struct Second {
    /// Its description.
    pub(super) view: NodeView,
    /// The way to it.
    pub(super) link: Arc<Link>,
    store: SecondStore,
    /// Space it needs for a build to start, in MiB.
    min_free_mib: u64,
    /// Whether it had that when it was last looked at.
    last: Mutex<Fresh<Result<(), String>>>,
}

impl Second {
    /// Makes the second store. `view` describes this node, `systems` are those that it emulates, and
    /// `cores` is how many of them one build may use.
    ///
    /// # Errors
    /// [`SecondError`].
    pub(super) fn open(config: &Config, view: NodeView, cores: u32) -> Result<Self, SecondError> {
        let min_free_mib = config.queue.min_free_mib;
        let store = SecondStore {
            nix: SecondNix::default(),
            trouble: Arc::default(),
            settings: BuildSettings {
                cores,
                timeout_s: config.board.timeout_s,
                max_silent_s: config.board.max_silent_s,
                features: view.features.clone(),
            },
            systems: view.emulated.clone(),
            min_free_bytes: (min_free_mib * ROOM) << 20,
        };
        store.nix.prepare()?;
        let link = Arc::new(Link::second(&view.name, store.clone()));
        Ok(Self { view, link, store, min_free_mib, last: Mutex::default() })
    }

    /// Deletes what earlier builds left. What they built has been fetched, or is asked for again.
    pub(super) async fn tidy(&self) {
        match self.store.collect_garbage().await {
            Ok(0) => {}
            Ok(freed) => info!(freed_mib = freed >> 20, "the second store was tidied up"),
            Err(error) => warn!("the second store could not be tidied up: {error}"),
        }
    }

    pub(super) fn facts(&self) -> NodeFacts {
        NodeFacts::of(&self.view, self.health())
    }

    /// As people see it now, with so many of this node's jobs.
    pub(super) async fn shown(&self, jobs: u32) -> NodeView {
        // It is not found out in time whether it is over: then it is not.
        drop(timeout(RECOVER_TIMEOUT, self.store.recover()).await);
        let trouble = self.room().err().unwrap_or_else(|| self.store.trouble());
        NodeView { running: jobs, trouble, ..self.view.clone() }
    }

    /// Jobs are given to it even if there was no nix-daemon for the last one: the next one tells
    /// whether there is one now.
    fn health(&self) -> Health {
        self.room().map_or_else(Health::Away, |()| Health::Ready)
    }

    fn room(&self) -> Result<(), String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(|| builder::room(&self.store.nix.root, self.min_free_mib))
    }
}

/// The second store's id, by that of its node.
pub(super) fn id(node: &str) -> String {
    format!("{node}{ID_SUFFIX}")
}

/// A node that emulates what this one has an interpreter for; it has no hardware of its own to show.
pub(super) fn describe(node: &NodeView, emulated: Vec<String>, slots: u32) -> NodeView {
    NodeView {
        id: id(&node.id),
        name: format!("{}{SUFFIX}", node.name),
        emulated,
        slots,
        systems: Vec::new(),
        temperature_mc: None,
        ..node.clone()
    }
}
