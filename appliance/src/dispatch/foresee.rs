//! What would become of jobs that have not been asked for yet.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use nix_compat::store_path::StorePath;

use super::{Asked, Dispatcher};
use crate::{
    model::{Demand, Site},
    place::{self, Among, Decision, JobFacts, NodeFacts, Times, WaitFor},
};

/// What would become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// It would be built, at once or when a slot is free.
    Built,
    /// It would wait for the return of nodes that are away: which, in words.
    Waits(String),
    /// It would be refused: why.
    Refused(String),
}

impl Dispatcher {
    /// The nodes that jobs can be given to, as they are now.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeFacts> {
        self.0.nodes.facts()
    }

    /// What would become of jobs that this node's own Nix asks for, with a demand beside what the
    /// configuration says; in their order.
    #[must_use]
    pub fn foresee(&self, jobs: &[Asked<'_>], demand: &Demand) -> Vec<Foresight> {
        let facts = self.nodes();
        // Most jobs are alike.
        let mut seen = HashMap::new();
        let all = jobs.iter().map(|asked| {
            let kind = (asked.system, asked.features, (self.0.rules)(*asked).and(demand));
            if let Some(foresight) = seen.get(&kind) {
                return Foresight::clone(foresight);
            }
            let foresight = self.foresee_one(*asked, &kind.2, &facts);
            seen.insert(kind, foresight.clone());
            foresight
        });
        all.collect()
    }

    fn foresee_one(&self, asked: Asked<'_>, demand: &Demand, facts: &[NodeFacts]) -> Foresight {
        let job = JobFacts {
            system: asked.system,
            features: asked.features,
            among: Among::Others,
            demand,
            policy: (self.0.policy)(asked.system),
            waited: Duration::ZERO,
            times: Times::default(),
            client: "",
            big: false,
            path_s: 0.0,
            avoid: None,
            misses: 0,
            inputs: &[],
        };
        match place::decide(&job, facts) {
            Decision::Wait { on: WaitFor::Return, reason, .. } => Foresight::Waits(reason),
            Decision::Run { .. } | Decision::Wait { .. } => Foresight::Built,
            Decision::Refuse { reason } => Foresight::Refused(reason),
        }
    }

    /// The jobs for which a demand comes too late, a line each: somebody has asked for them already.
    #[must_use]
    pub fn too_late(
        &self,
        is_meant: impl Fn(&StorePath) -> bool,
        demand: &Demand,
    ) -> BTreeSet<String> {
        let facts = self.nodes();
        let meets = |node: &str| {
            let node = facts.iter().find(|facts| facts.id == node);
            node.is_some_and(|node| node.may_have(demand))
        };
        let state = self.state();
        let late = state.jobs.values().filter_map(|live| {
            let job = &live.job;
            let open = job.key.site == Site::Elsewhere && !live.is_done();
            if !open
                || live.is_for_the_taking()
                || job.demand == *demand
                || !is_meant(&job.key.drv_path)
            {
                return None;
            }
            let at = match live.node() {
                Some(node) if meets(node) => return None,
                Some(node) => {
                    let node = self.0.nodes.name(node).unwrap_or_else(|| node.to_owned());
                    format!("is with {node}")
                }
                None => "waits".to_owned(),
            };
            let (name, client) = (&job.name, &job.client.label);
            Some(format!("{name} {at} already, asked for by {client}: it is left as it is"))
        });
        late.collect()
    }
}
