//! Jobs that are taken before the stock build hook of the local Nix comes for them.
//!
//! Nix waits for its hook's answer, and the stock hook takes long to start and to connect. So our hook
//! asks first, the job is queued with what the store says of the derivation, and the stock hook is called
//! when the job has been given to a node. It then finds the job's ticket here, as if it had asked itself.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix_compat::{derivation, store_path::StorePath};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    dispatch::{Asked, Dispatcher, Foresight},
    execute::Queries,
    fleet::Fleet,
    model::{Builds, HookReply, Inquiry, JobId, Mode, Refusal, Submission, Ticket},
    wire::{read_basic, stream::Outgoing},
};

/// Jobs that are taken at once: for each a hook waits, which takes 0.3 MiB (measured: its share of memory,
/// x86-64). What is asked for beyond goes the stock way, on which Nix itself counts.
const MAX_TAKEN: usize = 500;

/// The tickets that wait for the stock hook. Clones are the same.
#[derive(Clone)]
pub(super) struct Tickets {
    kept: Arc<Mutex<Kept>>,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    /// Those of one job stand for each other.
    of_jobs: HashMap<JobId, Vec<(u64, Ticket)>>,
    next: u64,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { kept: Arc::default(), room: Arc::new(Semaphore::new(MAX_TAKEN)) }
    }
}

impl Tickets {
    /// Promises a job for what the local Nix asks for. None if it is to go the stock way: no line of the
    /// machines file is for it, no node will have it, or too much is taken already.
    pub(super) fn promise(
        &self,
        inquiry: Inquiry,
        dispatcher: &Dispatcher,
        fleet: Option<&Fleet>,
    ) -> Option<Promise> {
        let drv_path = StorePath::parse(&inquiry.drv_path).ok()?;
        let Inquiry { system, features, .. } = &inquiry;
        let builder = fleet?.builder(system, features)?;
        let asked = Asked { name: derivation::name(&drv_path), system, features };
        if let [Foresight::Refused(_)] = dispatcher.foresee(&[asked], &inquiry.demand)[..] {
            return None;
        }
        let room = self.room.clone().try_acquire_owned().ok()?;
        Some(Promise { drv_path, inquiry, builder, tickets: self.clone(), _room: room })
    }

    /// The ticket of a job that was taken, if one waits.
    pub(super) fn take(&self, job: &JobId) -> Option<Ticket> {
        let mut kept = self.kept();
        let tickets = kept.of_jobs.get_mut(job)?;
        let ticket = tickets.pop();
        if tickets.is_empty() {
            kept.of_jobs.remove(job);
        }
        ticket.map(|(_, ticket)| ticket)
    }

    /// Keeps a ticket, as long as the guard lives and nobody takes it.
    fn keep(&self, ticket: Ticket) -> Guard {
        let job = ticket.id.clone();
        let mut kept = self.kept();
        kept.next += 1;
        let number = kept.next;
        kept.of_jobs.entry(job.clone()).or_default().push((number, ticket));
        Guard { tickets: self.clone(), job, number }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a ticket when it is dropped.
struct Guard {
    tickets: Tickets,
    job: JobId,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut kept = self.tickets.kept();
        if let Some(tickets) = kept.of_jobs.get_mut(&self.job) {
            tickets.retain(|(number, _)| *number != self.number);
            if tickets.is_empty() {
                kept.of_jobs.remove(&self.job);
            }
        }
    }
}

/// A job that is about to be queued.
pub(super) struct Promise {
    drv_path: StorePath,
    inquiry: Inquiry,
    builder: String,
    tickets: Tickets,
    _room: OwnedSemaphorePermit,
}

impl Promise {
    /// What the hook is told.
    pub(super) fn reply(&self) -> HookReply {
        HookReply::Taken { builder: self.builder.clone() }
    }

    /// Queues the job, calls the stock hook when a node has it, and keeps its ticket until this is dropped: it
    /// does not end. What cannot be queued is left to the stock hook, which is called at once: it knows what
    /// we do not, sends inputs that are not here, and tells its user of a refusal.
    pub(super) async fn keep(
        &self,
        builds: &impl Builds,
        dispatcher: &Dispatcher,
        (queries, store_dir): (&Queries, &Path),
        call: &mut Outgoing,
    ) -> Infallible {
        let ticket = match self.submission(queries, store_dir).await {
            Some(submission) => match builds.submit(submission).await {
                // No call but the end of the connection, which is near: the hook then asks again.
                Err(Refusal::Stopping) => std::future::pending().await,
                submitted => submitted.ok(),
            },
            None => None,
        };
        let kept = ticket.map(|ticket| self.tickets.keep(ticket));
        if let Some(guard) = &kept {
            dispatcher.placed(&guard.job).await;
        }
        // A hook that is gone needs no call.
        drop(call.write_all(format!("{}\n", HookReply::CALL).as_bytes()).await);
        std::future::pending().await
    }

    /// What the store says of the derivation. None if that is not all, or inputs are not there.
    async fn submission(&self, queries: &Queries, store_dir: &Path) -> Option<Submission> {
        let Self { drv_path, inquiry, .. } = self;
        let (store_dir, path) = (store_dir.to_owned(), drv_path.clone());
        let read = tokio::task::spawn_blocking(move || read_basic(&store_dir, &path)).await;
        let derivation = read.ok()?.ok()??;
        let inputs = &derivation.input_srcs;
        let are_here = queries.valid(inputs).await.is_ok_and(|valid| valid.len() == inputs.len());
        if !are_here || derivation.platform != inquiry.system {
            return None;
        }
        let (client, demand) = (inquiry.client.clone(), inquiry.demand.clone());
        let (drv_path, derivation) = (drv_path.clone(), Box::new(derivation));
        Some(Submission::elsewhere(drv_path, derivation, Mode::Normal, client, demand))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        model::{JobKey, Site},
        wire::testing::path,
    };

    fn job(name: &str) -> JobId {
        let (drv_path, outputs) = (path(name), [JobKey::ALL_OUTPUTS.to_owned()].into());
        JobKey { drv_path, outputs, mode: Mode::Normal, site: Site::Elsewhere }.id()
    }

    fn ticket(name: &str) -> Ticket {
        Ticket { id: job(name), events: mpsc::channel(1).1 }
    }

    #[test]
    fn a_ticket_is_taken_once_and_gone_with_its_hook() {
        let tickets = Tickets::default();
        let first = tickets.keep(ticket("a.drv"));
        let second = tickets.keep(ticket("a.drv"));
        assert!(tickets.take(&job("b.drv")).is_none());
        assert!(tickets.take(&job("a.drv")).is_some(), "one of the two");
        drop(second);
        assert!(tickets.take(&job("a.drv")).is_some(), "the other one is the first hook's");
        assert!(tickets.take(&job("a.drv")).is_none());
        drop(first);
        let third = tickets.keep(ticket("a.drv"));
        drop(third);
        assert!(tickets.take(&job("a.drv")).is_none());
    }
}
