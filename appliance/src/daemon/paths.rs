//! Joins the dispatcher with what is known of the graph of derivations.

use nix_compat::store_path::StorePath;

use crate::{
    dispatch::{Dispatcher, Paths},
    graph::{Keeper, Worker},
    model::{Ahead, Builds, JobId, Refusal, Submission, Ticket},
};

impl Paths for Keeper {
    fn after(&self, drv: &StorePath) -> Option<Ahead> {
        Self::after(self, drv)
    }

    fn ended(&self, drv: &StorePath, built: bool) {
        Self::ended(self, drv, built);
    }
}

/// The dispatcher, for a build hook of the local Nix: what is asked of it is told to the keeper of the
/// graph.
#[derive(Clone)]
pub(super) struct Told {
    dispatcher: Dispatcher,
    graph: Option<(Keeper, Worker)>,
}

impl Told {
    /// `worker` has started the hook.
    pub(super) fn new(
        dispatcher: Dispatcher,
        graph: Option<Keeper>,
        worker: Option<Worker>,
    ) -> Self {
        let graph = graph.zip(worker);
        // The graph is read while the hook says what it wants.
        if let Some((graph, worker)) = &graph {
            graph.came(*worker);
        }
        Self { dispatcher, graph }
    }
}

impl Builds for Told {
    async fn submit(&self, submission: Submission) -> Result<Ticket, Refusal> {
        let Some((graph, worker)) = &self.graph else {
            return self.dispatcher.submit(submission).await;
        };
        let drv = submission.key.drv_path.clone();
        graph.asked(*worker, &drv);
        let answer = self.dispatcher.submit(submission).await;
        // Nobody tells the end of what was not begun, or had ended before.
        match &answer {
            Ok(ticket) if !self.dispatcher.has_ended(&ticket.id) => {}
            Ok(_) | Err(_) => graph.ended(&drv, false),
        }
        answer
    }

    async fn fetched(&self, id: &JobId) {
        self.dispatcher.fetched(id).await;
    }
}
