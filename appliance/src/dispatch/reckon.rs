//! What is expected of jobs and nodes, for placement: by what earlier builds took, and by what waits for
//! each job.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{State, history::History};
use crate::{
    model::{How, Job, JobState},
    place::{Given, NodeFacts, Times, left_s},
};

/// Expectations of one round.
pub(super) struct Reckoner<'s> {
    state: &'s State,
    history: RefCell<History>,
}

impl<'s> Reckoner<'s> {
    pub(super) fn new(state: &'s State) -> Self {
        Self { state, history: RefCell::default() }
    }

    /// Counts what each node has from here, and how long that is expected to take.
    pub(super) fn count(&self, facts: &mut [NodeFacts], now: Instant) {
        let mut by_node: HashMap<&str, Vec<Given>> = HashMap::new();
        let mut assigned: HashMap<&str, u32> = HashMap::new();
        let speeds: HashMap<&str, f64> =
            facts.iter().map(|node| (node.id.as_str(), node.speed)).collect();
        for live in self.state.jobs.values().filter(|live| !live.vacated) {
            let JobState::Running { node, .. } = &live.job.state else { continue };
            *assigned.entry(node).or_default() += 1;
            let speed = speeds.get(node.as_str()).copied().unwrap_or(1.0);
            let times = self.times(&live.job);
            let expected = match live.job.how {
                How::Native => times.native.map(|time| time.div_f64(speed.max(0.01))),
                How::Emulated => times.emulated,
            };
            let given = match (live.building, expected) {
                (Some(since), expected) => {
                    let work_s = times.native.unwrap_or_default().as_secs_f64();
                    let then_s = (self.path_s(&live.job) - work_s).max(0.0);
                    let elapsed = now.saturating_duration_since(since);
                    Given { left_s: left_s(expected, elapsed), then_s }
                }
                (None, Some(expected)) => Given { left_s: expected.as_secs_f64(), then_s: 0.0 },
                (None, None) => continue,
            };
            by_node.entry(node).or_default().push(given);
        }
        let counted: Vec<_> = facts
            .iter()
            .map(|node| {
                let mut jobs = by_node.remove(node.id.as_str()).unwrap_or_default();
                jobs.sort_by(|a, b| a.left_s.total_cmp(&b.left_s));
                (assigned.get(node.id.as_str()).copied().unwrap_or(0), jobs)
            })
            .collect();
        for (node, (assigned, jobs)) in facts.iter_mut().zip(counted) {
            node.assigned = assigned;
            node.jobs = jobs;
        }
    }

    /// How long builds like a job's take.
    pub(super) fn times(&self, job: &Job) -> Times {
        self.history.borrow_mut().times(self.state, job)
    }

    /// The path that begins with a job, as [`crate::place::JobFacts::path_s`].
    pub(super) fn path_s(&self, job: &Job) -> f64 {
        self.times(job).native.map_or(0.0, |time: Duration| time.as_secs_f64())
    }
}
