//! Whether the local Nix should build something by itself.

use std::{collections::HashMap, time::Duration};

use nix_compat::store_path::StorePath;
use tokio::time::Instant;

use super::{Dispatcher, Live, pump::count_assigned};
use crate::{
    model::{Advice, Inquiry, JobState, Outputs},
    place::local,
};

/// How long a job may be on its way from the answer to Nix to the queue. It takes some tens of
/// milliseconds, or several seconds where many builds come at once.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// Jobs on their way that are remembered at most.
const MAX_COMING: usize = 256;

/// What the local Nix was told to give to boards, and has not brought yet.
#[derive(Default)]
pub(super) struct Coming(HashMap<StorePath, (String, Instant)>);

impl Coming {
    /// A job for it is there.
    pub(super) fn arrived(&mut self, drv_path: &StorePath) {
        self.0.remove(drv_path);
    }

    /// How many of a system, without `drv_path` itself.
    fn others(&mut self, system: &str, drv_path: &StorePath, now: Instant) -> u32 {
        self.0.retain(|_, (_, until)| *until > now);
        let others = self.0.iter().filter(|(it, (of, _))| of == system && *it != drv_path);
        u32::try_from(others.count()).unwrap_or(u32::MAX)
    }

    fn expect(&mut self, drv_path: StorePath, system: &str, now: Instant) {
        if self.0.len() < MAX_COMING {
            self.0.insert(drv_path, (system.to_owned(), now + ON_ITS_WAY));
        }
    }
}

impl Dispatcher {
    /// Whether the local Nix, which has a slot free, should build something by itself. What is neither
    /// its own nor known here is [`Advice::Elsewhere`].
    #[must_use]
    pub fn advise(&self, inquiry: &Inquiry) -> Advice {
        let Some(local) = self.0.nodes.local() else { return Advice::Elsewhere };
        let Ok(drv_path) = StorePath::parse(&inquiry.drv_path) else {
            return Advice::Elsewhere;
        };
        let mut nodes = self.0.nodes.facts();
        let now = Instant::now();
        let mut state = self.state();
        count_assigned(&state, &mut nodes);
        // A client that comes back finds its job, or the result that a board has.
        let wanted = |live: &Live| live.job.key.drv_path == drv_path && is_wanted(live);
        if state.jobs.values().any(wanted) {
            return Advice::Elsewhere;
        }
        let coming = state.coming.others(&inquiry.system, &drv_path, now);
        let judgement = local::judge(inquiry, coming, &local, &nodes);
        tracing::debug!(
            drv = inquiry.drv_path,
            client = inquiry.client.label,
            advice = judgement.advice.word(),
            "{}",
            judgement.reason
        );
        if judgement.advice == Advice::Elsewhere {
            state.coming.expect(drv_path, &inquiry.system, now);
        }
        judgement.advice
    }
}

/// Whether a job goes on, or has a result that nobody has fetched.
fn is_wanted(live: &Live) -> bool {
    match &live.job.state {
        JobState::Queued | JobState::Running { .. } => true,
        JobState::Done { outputs, .. } => *outputs == Outputs::Held,
    }
}
