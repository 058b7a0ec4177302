//! What is expected of jobs and nodes, for placement: by what earlier builds took, and by what waits for
//! each job.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{Paths, State};
use crate::{
    learn::{Estimates, LONG, Package, Stocks},
    model::{Cores, How, Job, JobState, Size},
    place::{Given, NodeFacts, Times, left_s},
};

/// Expectations of one round.
pub(super) struct Reckoner {
    estimates: Arc<Estimates>,
    paths: Option<Arc<dyn Paths>>,
    /// Nodes that emulate, and what.
    emulating: Vec<NodeFacts>,
}

impl Reckoner {
    /// Of these nodes, which are told how fast they are, and what they lack.
    pub(super) fn new(
        estimates: Arc<Estimates>,
        paths: Option<Arc<dyn Paths>>,
        stocks: &Stocks,
        facts: &mut [NodeFacts],
    ) -> Self {
        for node in &mut *facts {
            node.speed = estimates.speed(&node.id);
            node.supply = stocks.supply(&node.id);
        }
        let emulating = facts.iter().filter(|node| !node.emulated.is_empty()).cloned().collect();
        Self { estimates, paths, emulating }
    }

    /// What is known of earlier builds.
    pub(super) fn estimates(&self) -> &Estimates {
        &self.estimates
    }

    /// Counts what each node has from here, and how long that is expected to take.
    pub(super) fn count(&self, state: &State, facts: &mut [NodeFacts], now: Instant) {
        let mut counted: HashMap<&str, (u32, u32, Vec<Given>)> = HashMap::new();
        let nodes: HashMap<&str, &NodeFacts> =
            facts.iter().map(|node| (node.id.as_str(), node)).collect();
        for live in state.jobs.values().filter(|live| !live.vacated) {
            let JobState::Running { node, .. } = &live.job.state else { continue };
            let (assigned, big, jobs) = counted.entry(node).or_default();
            *assigned += 1;
            *big += u32::from(self.is_big(&live.job));
            let times = self.times(&live.job);
            let expected = match live.job.how {
                How::Native => times
                    .native
                    .map(|work| nodes.get(node.as_str()).map_or(work, |node| node.takes(work))),
                How::Emulated => times.emulated,
            };
            let elapsed = live.building.map(|since| now.saturating_duration_since(since));
            jobs.extend(match (elapsed, expected) {
                (Some(elapsed), expected) => {
                    let work_s = times.native.unwrap_or_default().as_secs_f64();
                    let then_s = (self.path_s(&live.job) - work_s).max(0.0);
                    Some(Given { left_s: left_s(expected, elapsed), then_s })
                }
                (None, Some(expected)) => {
                    let supply = nodes.get(node.as_str()).map(|node| &node.supply);
                    let sent_s = supply.map_or(0.0, |supply| supply.takes_s(&live.inputs));
                    Some(Given { left_s: sent_s + expected.as_secs_f64(), then_s: 0.0 })
                }
                (None, None) => None,
            });
        }
        let mut counted: HashMap<String, _> =
            counted.into_iter().map(|(node, jobs)| (node.to_owned(), jobs)).collect();
        for node in facts {
            (node.assigned, node.big, node.jobs) = counted.remove(&node.id).unwrap_or_default();
            node.jobs.sort_by(|a, b| a.left_s.total_cmp(&b.left_s));
        }
    }

    /// How long builds like a job's take.
    pub(super) fn times(&self, job: &Job) -> Times {
        self.times_of(&job.name, &job.system, job.size)
    }

    /// How long builds of a derivation of this name take.
    pub(super) fn times_of(&self, name: &str, system: &str, size: Size) -> Times {
        let package = |how| Package::of(name, system, how);
        let emulating =
            self.emulating.iter().filter(|node| node.emulated.iter().any(|it| it == system));
        Times {
            native: self.estimates.likely(&package(How::Native), size),
            emulated: emulating
                .filter_map(|node| self.estimates.seconds(&package(How::Emulated), &node.id))
                .min(),
        }
    }

    /// Which cores a job gets if it is built on this node itself, in this way.
    pub(super) fn cores(&self, job: &Job, node: &str, how: How) -> Cores {
        let package = Package::of(&job.name, &job.system, how);
        Cores::of(job.size, self.estimates.is_long(&package, node))
    }

    /// Whether a job is one that gets all cores of a board, whichever it is.
    pub(super) fn is_big(&self, job: &Job) -> bool {
        let work = self.estimates.work(&Package::of(&job.name, &job.system, How::Native));
        Cores::of(job.size, work.is_some_and(|work| work.typical >= LONG)) == Cores::All
    }

    /// The path that begins with a job, as [`crate::place::JobFacts::path_s`].
    pub(super) fn path_s(&self, job: &Job) -> f64 {
        let ahead = self.paths.as_ref().and_then(|paths| paths.after(&job.key.drv_path));
        ahead.map(|ahead| ahead.work).unwrap_or_else(|| {
            let package = Package::of(&job.name, &job.system, How::Native);
            self.estimates.weight(&package, job.size).as_secs_f64()
        })
    }
}
