//! What nodes have of the inputs of jobs: found out as jobs come, and as inputs are sent.

use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use nix_compat::{nix_daemon::PathInfo, store_path::StorePath};
use tokio::time::timeout;
use tracing::debug;

use super::{Dispatcher, Stores, now_s};
use crate::{
    learn::{Closure, Stocks},
    model::{Input, JobId, Sent},
    place::Health,
};

/// A job is not kept out of the queue for longer by what is to be found out. What comes later is known for
/// the next one.
const FOUND_OUT_WITHIN: Duration = Duration::from_millis(200);

impl Dispatcher {
    pub(super) fn stocks(&self) -> MutexGuard<'_, Stocks> {
        self.0.stocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those inputs of a new job that count. Afterwards it is known which nodes lack them, as far as there
    /// was time.
    pub(super) async fn survey(&self, paths: BTreeSet<StorePath>) -> Arc<[Input]> {
        let Some(stores) = self.0.stores.clone() else { return Arc::default() };
        let is_full = self.stocks().is_full();
        if is_full && self.is_first() {
            self.stocks().make_room(now_s());
        }
        let this = self.clone();
        let found_out = tokio::spawn(async move { this.find_out(&*stores, &paths).await });
        match timeout(FOUND_OUT_WITHIN, found_out).await {
            Ok(Ok(inputs)) => inputs.into(),
            Ok(Err(_)) | Err(_) => Arc::default(),
        }
    }

    async fn find_out(&self, stores: &dyn Stores, paths: &BTreeSet<StorePath>) -> Vec<Input> {
        let inputs = loop {
            let Closure { unknown, inputs } = self.stocks().closure(paths);
            if unknown.is_empty() {
                break inputs;
            }
            match stores.infos(&unknown).await {
                // Each time it is known of some more what they refer to.
                Ok(infos) => self.learn_paths(&unknown, &infos),
                Err(why) => {
                    debug!("the sizes of inputs are not known: {why}");
                    break inputs;
                }
            }
        };
        if inputs.is_empty() {
            return inputs;
        }
        let nodes = self.0.nodes.facts().into_iter();
        let boards = nodes.filter(|node| !node.here && node.health == Health::Ready);
        let asked = boards.filter_map(|board| {
            let paths = self.stocks().ask(&board.id, &inputs, now_s());
            (!paths.is_empty()).then_some((board.id, paths))
        });
        join_all(asked.map(|(board, paths)| async move {
            let has = stores.valid_at(&board, &paths).await;
            let has = has.inspect_err(|why| debug!(board, "it does not say what it has: {why}"));
            self.stocks().told(&board, &paths, has.ok().as_ref());
        }))
        .await;
        inputs
    }

    /// Whether no job is open but one that is about to be accepted.
    fn is_first(&self) -> bool {
        let state = self.state();
        state.open_jobs() == 0 && state.busy.len() <= 1
    }

    fn learn_paths(&self, paths: &[StorePath], infos: &[Option<PathInfo>]) {
        let mut stocks = self.stocks();
        for (path, info) in paths.iter().zip(infos) {
            match info {
                Some(info) => stocks.learn(path, info.nar_size, &info.references),
                // It has gone: nothing to be sent.
                None => stocks.learn(path, 0, []),
            }
        }
    }

    /// Learns of an output that a node has made, which is there with its closure.
    pub fn output(&self, id: &JobId, info: &PathInfo) {
        if self.0.stores.is_none() {
            return;
        }
        let Some(node) = self.built_on(id) else { return };
        let mut stocks = self.stocks();
        stocks.learn(&info.path, info.nar_size, &info.references);
        let made = stocks.closure([&info.path]).inputs;
        stocks.arrived(&node, &made, None, now_s());
    }

    /// Learns that a job's inputs have reached its node, and how fast.
    pub(super) fn supplied(&self, id: &JobId, sent: Option<Sent>) {
        let (node, inputs) = {
            let state = self.state();
            let Some(live) = state.jobs.get(id) else { return };
            let Some(node) = live.node() else { return };
            (node.to_owned(), live.inputs.clone())
        };
        self.stocks().arrived(&node, &inputs, sent, now_s());
    }
}
