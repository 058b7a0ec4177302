//! Joins the dispatcher with what is known of the graph of derivations.

use std::sync::Arc;

use nix_compat::store_path::StorePath;

use super::taken::Tickets;
use crate::{
    dispatch::{Dispatcher, Paths},
    graph::{Keeper, Weigh, Worker},
    learn::{Estimates, Package},
    model::{Ahead, Builds, How, JobId, Refusal, Size, Submission, Ticket},
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
/// graph, and what was taken before the stock hook came is given to that.
#[derive(Clone)]
pub(super) struct Told {
    dispatcher: Dispatcher,
    graph: Option<(Keeper, Worker)>,
    tickets: Tickets,
}

impl Told {
    /// `worker` has started the hook.
    pub(super) fn new(
        dispatcher: Dispatcher,
        graph: Option<Keeper>,
        worker: Option<Worker>,
        tickets: Tickets,
    ) -> Self {
        let graph = graph.zip(worker);
        // The graph is read while the hook says what it wants.
        if let Some((graph, worker)) = &graph {
            graph.came(*worker);
        }
        Self { dispatcher, graph, tickets }
    }
}

impl Builds for Told {
    async fn submit(&self, submission: Submission) -> Result<Ticket, Refusal> {
        if let Some(ticket) = self.tickets.take(&submission.key.id()) {
            return Ok(ticket);
        }
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

/// What derivations weigh: the seconds they are expected to take at speed 1.0.
pub(super) fn weigh(estimates: &Arc<Estimates>) -> Weigh {
    let estimates = estimates.clone();
    Box::new(move |node| {
        let package = Package::of(node.name, node.system, How::Native);
        let size = Size::of(node.fixed_output, node.prefer_local, node.features);
        estimates.weight(&package, size).as_secs_f32()
    })
}
