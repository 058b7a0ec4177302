//! Which jobs a request for targets becomes.
//!
//! nix-daemon builds a target with all that it needs, and what this node does not run natively it
//! would emulate, unseen. So such derivations become jobs of their own, which are placed like any
//! other, and what depends on them waits for them. A target that needs none is one job.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::Duration,
};

use nix_compat::{
    derivation::{BasicDerivation, Derivation},
    nix_daemon::{
        BuildResult, Missing, ProtocolVersion,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use tokio::time::timeout;

use super::{
    jobs::Step,
    local_nix::{LocalNix, LocalNixError},
    targets::{ALL, Order, Targets, inputs, read_drv, split},
};
use crate::model::{Client, Mode};

/// Longest wait for nix-daemon to tell what is missing: it may ask binary caches.
const ASK_TIMEOUT: Duration = Duration::from_secs(300);

/// What is to be done for a client's targets.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The jobs.
    pub(super) steps: Vec<Step>,
    /// The targets that they are for.
    pub(super) ordered: Vec<Ordered>,
    /// What is left to the local Nix, and done first: targets, and inputs that binary caches have.
    pub(super) others: Vec<String>,
}

/// A target, and the job that builds it.
#[derive(Debug)]
pub(super) struct Ordered {
    target: String,
    step: usize,
}

impl Ordered {
    /// The target's part of the job's result.
    pub(super) fn answer(self, results: &[BuildResult]) -> Option<(String, BuildResult)> {
        let mut result = results.get(self.step)?.clone();
        let (_, wanted) = split(&self.target)?;
        if !wanted.contains(ALL) {
            let name = |id: &str| id.rsplit('!').next().unwrap_or_default().to_owned();
            result.built_outputs.retain(|id, _| wanted.contains(&name(id)));
        }
        Some((self.target, result))
    }
}

/// Why it is not known what building the targets takes.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Connect(#[from] LocalNixError),
    #[error("nix-daemon does not tell what is missing: {0}")]
    Ask(#[from] ClientError),
    #[error("nix-daemon did not tell what is missing within {} s", ASK_TIMEOUT.as_secs())]
    Late,
    #[error("cannot read {0}: {1}")]
    Read(StorePath, io::Error),
    #[error("{0} is gone")]
    Gone(StorePath),
}

impl Plan {
    /// Finds out what building `targets` takes. Where that cannot be found out, each is one job.
    pub(super) async fn make(
        nix: &LocalNix,
        targets: Vec<String>,
        mode: Mode,
        client: &Client,
    ) -> Self {
        let sorted = Targets::sort(&nix.store_dir, targets, mode, client).await;
        if nix.native.is_empty() || sorted.orders.is_empty() {
            return Self::plain(sorted);
        }
        // A check or a repair is for the store that has the outputs: nothing else is built for it.
        let needed = match mode {
            Mode::Normal => Needed::find(nix, &sorted.ordered).await,
            Mode::Check | Mode::Repair => Ok(Needed::default()),
        };
        let divided = match needed {
            Ok(needed) => Self::divide(nix, sorted.clone(), needed, client).await,
            Err(error) => Err(error),
        };
        divided.unwrap_or_else(|error| {
            tracing::warn!("what is foreign to this node is not told apart: {error}");
            Self::plain(sorted)
        })
    }

    /// Each target is one job.
    fn plain(Targets { ordered, orders, others }: Targets) -> Self {
        let ordered = ordered.into_iter().enumerate();
        let ordered = ordered.map(|(step, target)| Ordered { target, step }).collect();
        Self { steps: orders.into_iter().map(Step::from).collect(), ordered, others }
    }

    async fn divide(
        nix: &LocalNix,
        sorted: Targets,
        needed: Needed,
        client: &Client,
    ) -> Result<Self, Unknown> {
        let mut plan = Self { others: sorted.others, ..Self::default() };
        plan.others.extend(needed.fetched_inputs().map(ToString::to_string));
        let stops = needed.stops();
        let places: BTreeMap<&StorePath, usize> = stops.keys().zip(0..).collect();
        let waits_for = |drv_path: &StorePath| -> BTreeSet<usize> {
            needed.reach(drv_path, &stops).into_iter().map(|stop| places[stop]).collect()
        };
        for (drv_path, wanted) in &stops {
            let order = match needed.foreign(drv_path) {
                Some(derivation) => {
                    let (drv_path, derivation) = (drv_path.clone(), derivation.clone());
                    Order::derivation(drv_path, derivation, Mode::Normal, client.clone())
                }
                None => {
                    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                    let target = format!("{drv_path}!{}", wanted.join(","));
                    Order::target(&nix.store_dir, &target, Mode::Normal, client)
                        .await
                        .ok_or_else(|| Unknown::Gone(drv_path.clone()))?
                }
            };
            plan.steps.push(Step { order, waits_for: waits_for(drv_path), wanted: false });
        }
        for (target, order) in sorted.ordered.into_iter().zip(sorted.orders) {
            let drv_path = order.submission.key.drv_path.clone();
            let place = places.get(&drv_path).copied();
            let step = match place.filter(|_| needed.foreign(&drv_path).is_some()) {
                Some(place) => {
                    plan.steps[place].wanted = true;
                    place
                }
                None if nix.is_native(&order.submission.system) => {
                    let mut waits_for = waits_for(&drv_path);
                    waits_for.extend(place);
                    plan.steps.push(Step { order, waits_for, wanted: true });
                    plan.steps.len() - 1
                }
                // It is there already, or to be fetched, or nothing that a peer could be given.
                None => {
                    plan.others.push(target);
                    continue;
                }
            };
            plan.ordered.push(Ordered { target, step });
        }
        Ok(plan)
    }
}

/// A derivation that has to be built.
#[derive(Clone, Debug, Default)]
struct Node {
    /// The derivations that it needs, and which of their outputs.
    needs: BTreeMap<StorePath, BTreeSet<String>>,
    /// What to build, if this node does not run it natively and the paths of all its inputs are
    /// known.
    foreign: Option<Box<BasicDerivation>>,
}

/// All that has to be built for some targets.
#[derive(Debug, Default)]
struct Needed {
    graph: BTreeMap<StorePath, Node>,
    /// What binary caches have of the rest.
    substitutes: BTreeSet<StorePath>,
}

impl Needed {
    async fn find(nix: &LocalNix, targets: &[String]) -> Result<Self, Unknown> {
        let (mut daemon, _) = nix.connect(ProtocolVersion::MAX).await?;
        let mut discard = Discard;
        let asked = timeout(ASK_TIMEOUT, daemon.query_missing(targets, &mut discard)).await;
        let Missing { will_build, will_substitute, .. } = asked.map_err(|_| Unknown::Late)??;
        let nix = nix.clone();
        let read = tokio::task::spawn_blocking(move || read_all(&nix, will_build)).await;
        let graph = read.map_err(|_| Unknown::Late)??;
        Ok(Self { graph, substitutes: will_substitute })
    }

    fn foreign(&self, drv_path: &StorePath) -> Option<&BasicDerivation> {
        self.graph.get(drv_path)?.foreign.as_deref()
    }

    /// Inputs of foreign derivations that binary caches have.
    fn fetched_inputs(&self) -> impl Iterator<Item = &StorePath> {
        let foreign = self.graph.values().filter_map(|node| node.foreign.as_deref());
        let inputs: BTreeSet<_> = foreign.flat_map(|foreign| &foreign.input_srcs).collect();
        inputs.into_iter().filter(|path| self.substitutes.contains(*path))
    }

    /// What has to be a job of its own, and which of its outputs are needed: the foreign
    /// derivations, and those that they need, since a peer is sent nothing but outputs.
    fn stops(&self) -> BTreeMap<StorePath, BTreeSet<String>> {
        let mut stops: BTreeMap<StorePath, BTreeSet<String>> = BTreeMap::new();
        for (drv_path, node) in self.graph.iter().filter(|(_, node)| node.foreign.is_some()) {
            stops.entry(drv_path.clone()).or_default();
            for (needed, outputs) in &node.needs {
                if self.graph.contains_key(needed) {
                    stops.entry(needed.clone()).or_default().extend(outputs.iter().cloned());
                }
            }
        }
        stops
    }

    /// The stops that a derivation needs, directly or by way of what is none.
    fn reach<'a>(
        &'a self,
        drv_path: &StorePath,
        stops: &BTreeMap<StorePath, BTreeSet<String>>,
    ) -> BTreeSet<&'a StorePath> {
        let needs = |drv_path| self.graph.get(drv_path).into_iter().flat_map(|n| n.needs.keys());
        let mut seen = BTreeSet::new();
        let mut reached = BTreeSet::new();
        let mut unseen: Vec<_> = needs(drv_path).collect();
        while let Some(needed) = unseen.pop() {
            if !seen.insert(needed) {
                continue;
            }
            if stops.contains_key(needed) {
                reached.insert(needed);
            } else {
                unseen.extend(needs(needed));
            }
        }
        reached
    }
}

/// Reads what has to be built.
fn read_all(
    nix: &LocalNix,
    will_build: BTreeSet<StorePath>,
) -> Result<BTreeMap<StorePath, Node>, Unknown> {
    let mut graph = BTreeMap::new();
    for drv_path in will_build {
        let drv = read(&nix.store_dir, &drv_path)?;
        let needs = drv.input_drvs.clone();
        let foreign = match nix.is_native(&drv.platform) {
            true => None,
            false => {
                let inputs = inputs(&drv, |needed| read(&nix.store_dir, needed))?;
                inputs.map(|inputs| Box::new(drv.into_basic(inputs)))
            }
        };
        graph.insert(drv_path, Node { needs, foreign });
    }
    Ok(graph)
}

fn read(store_dir: &Path, drv_path: &StorePath) -> Result<Derivation, Unknown> {
    read_drv(&store_dir.join(drv_path.base_name()))
        .map_err(|error| Unknown::Read(drv_path.clone(), error))
}
