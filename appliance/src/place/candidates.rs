//! The nodes that could have a job, for people who want to know why it is where it is.

use super::{Fit, Health, JobFacts, NodeFacts, Plan, words};
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
                        reason: words::lacking(node, job).unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::{
        super::{Among, Policy, Times},
        *,
    };
    use crate::model::{Demand, Origin, Supply, Want, Wish};

    /// A node of one slot for riscv64-linux.
    fn node(name: &str, health: Health) -> NodeFacts {
        NodeFacts {
            id: format!("id-{name}"),
            name: name.to_owned(),
            here: false,
            systems: vec!["riscv64-linux".to_owned()],
            emulated: Vec::new(),
            features: BTreeSet::new(),
            labels: BTreeSet::new(),
            slots: 1,
            speed: 1.0,
            ahead: 1,
            big: 0,
            assigned: 0,
            busy: 0,
            jobs: Vec::new(),
            supply: Supply::default(),
            health,
        }
    }

    /// The candidates in words, the chosen one marked.
    fn told(emulation: Emulation, nodes: &[NodeFacts]) -> Vec<String> {
        let avoids =
            Wish { origin: Origin::On, want: Want::Avoid, nodes: ["shunned".to_owned()].into() };
        let demand = Demand::from(avoids);
        let job = JobFacts {
            system: "riscv64-linux",
            features: &BTreeSet::new(),
            among: Among::Others,
            demand: &demand,
            policy: Policy { emulation, native_wait: None },
            waited: Duration::ZERO,
            times: Times { native: Some(Duration::from_secs(60)), emulated: None },
            client: "somebody",
            path_s: 0.0,
            big: false,
            avoid: None,
            misses: 0,
            inputs: &[],
        };
        let candidates = Plan::new(nodes).place_and_tell(&job, |_| true).1.into_iter();
        let words = candidates.map(|it| {
            let mark = if it.chosen { "* " } else { "" };
            let done = it.finish_s.map(|s| format!(" {s} s")).unwrap_or_default();
            format!("{mark}{}{done} {}", it.node, it.reason).trim_end().to_owned()
        });
        words.collect()
    }

    #[test]
    fn what_is_considered_comes_first_and_the_rest_has_a_reason() {
        let nodes = [
            node("gone", Health::Away("no answer".to_owned())),
            NodeFacts { speed: 0.5, ..node("slow", Health::Ready) },
            node("hot", Health::Paused("it is too hot".to_owned())),
            node("drained", Health::Draining),
            node("shunned", Health::Ready),
            NodeFacts { slots: 0, ..node("empty", Health::Ready) },
            NodeFacts { systems: vec!["x86_64-linux".to_owned()], ..node("other", Health::Ready) },
            node("fast", Health::Ready),
        ];
        assert_eq!(
            told(Emulation::Fallback, &nodes),
            [
                "* fast 60 s",
                "slow 120 s",
                "drained draining",
                "empty it offers no slots",
                "gone away: no answer",
                "hot paused: it is too hot",
                "shunned --on avoids shunned"
            ]
        );
    }

    #[test]
    fn emulation_is_a_candidate_unless_it_is_switched_off() {
        let emulating = NodeFacts {
            systems: vec!["x86_64-linux".to_owned()],
            emulated: vec!["riscv64-linux".to_owned()],
            ..node("big", Health::Ready)
        };
        let nodes = [emulating, node("vf2", Health::Ready)];
        assert_eq!(told(Emulation::Fallback, &nodes), ["* vf2 60 s", "big"]);
        let off = "big emulation is switched off (placement.emulation)";
        assert_eq!(told(Emulation::Never, &nodes), ["* vf2 60 s", off]);
    }
}
