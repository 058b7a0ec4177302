//! The nodes that could have a job, for people who want to know why it is where it is.

use super::{Fit, Health, JobFacts, NodeFacts, Plan};
use crate::model::{Candidate, Emulation, How};

impl<'j> Plan<'_, 'j> {
    /// Every node that could have a job as far as systems and features go: those that are considered, the best
    /// one first, and those that are not, with why. `chosen` is one of them by its place, and how it runs there.
    pub(super) fn candidates(
        &mut self,
        job: &JobFacts<'j>,
        chosen: Option<(usize, How)>,
    ) -> Vec<Candidate> {
        let choices = self.choices(job);
        let (mut told, mut out) = (Vec::new(), Vec::new());
        for choice in &choices {
            let node = &self.nodes[choice.node];
            let emulated = choice.how == How::Emulated;
            let reason = match job.policy.emulation {
                _ if node.slots == 0 => "it offers no slots",
                Emulation::Never if emulated => "emulation is switched off (placement.emulation)",
                _ => {
                    told.push(Candidate {
                        node: node.name.clone(),
                        emulated,
                        start_s: Some(choice.start_s).filter(|s| s.is_finite()),
                        finish_s: choice.finish_s.filter(|s| s.is_finite()),
                        chosen: chosen == Some((choice.node, choice.how)),
                        reason: String::new(),
                    });
                    continue;
                }
            };
            out.push(outside(node, choice.how, reason.to_owned()));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let considered = choices.iter().any(|choice| choice.node == at);
            let Some(how) = node.runs(job.system).filter(|_| !considered) else { continue };
            if job.among.allows(node) && node.lacks(how, job.features).is_empty() {
                out.push(outside(node, how, why_not(node, job)));
            }
        }
        out.sort_by(|a, b| (a.emulated, &a.node).cmp(&(b.emulated, &b.node)));
        told.extend(out);
        told
    }
}

fn outside(node: &NodeFacts, how: How, reason: String) -> Candidate {
    Candidate {
        node: node.name.clone(),
        emulated: how == How::Emulated,
        start_s: None,
        finish_s: None,
        chosen: false,
        reason,
    }
}

/// Why a node is not considered that has the system and the features.
fn why_not(node: &NodeFacts, job: &JobFacts<'_>) -> String {
    match (node.fit(job.demand), &node.health) {
        (Fit::Forbidden(who), _) => who,
        (_, Health::Away(why)) => format!("away: {why}"),
        (_, Health::Paused(why)) => format!("paused: {why}"),
        (_, Health::Draining) => "draining".to_owned(),
        (_, Health::Ready) => "this node does natively itself what it can".to_owned(),
    }
}
