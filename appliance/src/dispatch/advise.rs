//! Whether the local Nix should build something by itself.

use std::{collections::HashMap, time::Duration};

use nix_compat::{derivation::name, store_path::StorePath};
use tokio::time::Instant;

use super::{Asked, Dispatcher, Live, reckon::Reckoner};
use crate::{
    model::{Advice, Asker, Inquiry, JobState, Outputs, Size},
    place::local::{self, Told},
};

/// How long a job may be on its way from the answer to Nix to the queue. It takes some tens of
/// milliseconds, or several seconds where many builds come at once.
const TO_BOARDS: Duration = Duration::from_secs(10);

/// How long Nix may take to begin what it was told to build by itself: it asks for everything that can be
/// built first. Builds that are over by then count as long as this.
const HERE: Duration = Duration::from_secs(1);

/// Of each, so many are remembered at most.
const MAX_TOLD: usize = 256;

/// What the local Nix was told a short time ago.
#[derive(Default)]
pub(super) struct Memory {
    /// To be given to boards: the system, and until when that counts.
    to_boards: HashMap<StorePath, (String, Instant)>,
    /// To be built here: by whom, as it was when it was told so.
    here: Vec<(Asker, Instant)>,
}

impl Memory {
    /// A job for it is there.
    pub(super) fn arrived(&mut self, drv_path: &StorePath) {
        self.to_boards.remove(drv_path);
    }

    /// What whoever asks for `drv_path` was told.
    fn told(&mut self, inquiry: &Inquiry, drv_path: &StorePath, now: Instant) -> Told {
        self.to_boards.retain(|_, (_, until)| *until > now);
        self.here.retain(|(_, at)| *at + HERE > now);
        let of_system = |(it, (system, _)): &(&StorePath, &(String, Instant))| {
            *system == inquiry.system && *it != drv_path
        };
        let asker = inquiry.asker;
        let to_it = || self.here.iter().filter(|(it, _)| it.pid == asker.pid);
        let before = to_it().map(|(it, _)| it.running).min().unwrap_or(asker.running);
        let here = count(to_it());
        Told {
            to_boards: count(self.to_boards.iter().filter(of_system)),
            to_begin: here.saturating_sub(asker.running.saturating_sub(before)),
            here,
        }
    }

    fn remember(&mut self, advice: Advice, inquiry: &Inquiry, drv_path: StorePath, now: Instant) {
        match advice {
            Advice::Local if self.here.len() < MAX_TOLD => self.here.push((inquiry.asker, now)),
            Advice::Elsewhere if self.to_boards.len() < MAX_TOLD => {
                self.to_boards.insert(drv_path, (inquiry.system.clone(), now + TO_BOARDS));
            }
            Advice::Local | Advice::Elsewhere => {}
        }
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

impl Dispatcher {
    /// Whether the local Nix should build something by itself. What is neither its own nor known here is
    /// [`Advice::Elsewhere`].
    #[must_use]
    pub fn advise(&self, inquiry: &Inquiry) -> Advice {
        if inquiry.asker.slots == 0 {
            return Advice::Elsewhere;
        }
        let Some(mut local) = self.0.nodes.local() else { return Advice::Elsewhere };
        let Ok(drv_path) = StorePath::parse(&inquiry.drv_path) else { return Advice::Elsewhere };
        let mut nodes = self.0.nodes.facts();
        let now = Instant::now();
        let mut state = self.state();
        let estimates = self.estimates();
        local.speed = estimates.speed(&local.id);
        let reckoner = Reckoner::new(estimates, self.0.paths.clone(), &self.stocks(), &mut nodes);
        reckoner.count(&state, &mut nodes, now);
        // A client that comes back finds its job, or the result that a board has.
        let wanted = |live: &Live| live.job.key.drv_path == drv_path && is_wanted(live);
        if state.jobs.values().any(wanted) {
            return Advice::Elsewhere;
        }
        let told = state.advised.told(inquiry, &drv_path, now);
        let waits =
            |live: &&Live| live.job.state == JobState::Queued && live.job.system == inquiry.system;
        let waiting = count(state.jobs.values().filter(waits));
        let times = reckoner.times_of(
            name(&drv_path),
            &inquiry.system,
            Size::of(false, false, &inquiry.features),
        );
        let asked =
            Asked { name: name(&drv_path), system: &inquiry.system, features: &inquiry.features };
        let demand = (self.0.rules)(asked).and(&inquiry.demand);
        let inquiry = &Inquiry { demand, ..inquiry.clone() };
        let judgement = local::judge(inquiry, told, &local, &nodes, (times, waiting));
        let advice = judgement.advice;
        tracing::debug!(
            drv = inquiry.drv_path,
            client = inquiry.client.label,
            ?advice,
            "{}",
            judgement.reason
        );
        state.advised.remember(advice, inquiry, drv_path, now);
        advice
    }
}

/// Whether a job goes on, or has a result that nobody has fetched.
fn is_wanted(live: &Live) -> bool {
    match &live.job.state {
        JobState::Queued | JobState::Running { .. } => true,
        JobState::Done { outputs, .. } => *outputs == Outputs::Held,
    }
}
