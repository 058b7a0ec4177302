//! What would become of a whole graph of builds that nobody has asked for yet.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use nix_compat::{derivation, store_path::StorePath};
use tokio::time::Instant;

use super::{Asked, Dispatcher, reckon::Reckoner};
use crate::{
    learn::Package,
    model::{Demand, Expected, How, Outlook, Planned, Size, Supply},
    place::{Health, NodeFacts, Policy, Stuck, Task, Times, Timing, forecast},
};

/// Derivations in a plan at most.
const MAX_PLANNED: usize = 20_000;
/// Builds that one machine's Nix does at once at most, whatever it says: each is a slot in memory.
const MAX_LOCAL_SLOTS: u32 = 4096;
/// How long reckoning may take: whoever asks waits for 10 s.
const RECKON_WITHIN: Duration = Duration::from_secs(7);
/// The local Nix, as people know it.
const LOCAL: &str = "this machine";
/// What is emulated and has never been seen takes about so many times as long.
const EMULATED: f64 = 10.0;

/// Why nothing can be told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOutlook {
    /// There are too many.
    #[error("{0} derivations: {MAX_PLANNED} at most; ask for a part of them")]
    TooMany(usize),
    /// One is no derivation.
    #[error("{0:.256} is no derivation")]
    NoDerivation(String),
    /// One needs what is not in the list, or itself.
    #[error("{0} needs what is not in the list, or itself")]
    Tangled(String),
    /// A build is refused.
    #[error("{name}: {reason}")]
    Refused {
        /// The derivation's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// Builds would never begin, as the nodes are now.
    #[error("{left} of the builds would not begin, {name} for one: {reason}")]
    Waits {
        /// How many.
        left: usize,
        /// One of them.
        name: String,
        /// What it waits for.
        reason: String,
    },
    /// It takes too long.
    #[error(
        "this is too much to be reckoned within {} s; ask for a part of it", RECKON_WITHIN.as_secs()
    )]
    Late,
}

/// What is known of one derivation.
struct Known<'p> {
    name: &'p str,
    planned: &'p Planned,
    demand: Demand,
    policy: Policy,
    times: Times,
    /// What it takes at speed 1, in seconds, known or guessed,
    weight_s: f64,
    /// which of both,
    known: bool,
    /// and what it is the beginning of.
    path_s: f64,
}

impl Dispatcher {
    /// Where and when derivations that this node's own Nix would ask for would be built, as things are
    /// now. The local Nix builds so many at once by itself, where it builds at all. It takes seconds at
    /// worst.
    ///
    /// # Errors
    /// [`NoOutlook`].
    pub fn outlook(&self, planned: &[Planned], local_slots: u32) -> Result<Outlook, NoOutlook> {
        if planned.len() > MAX_PLANNED {
            return Err(NoOutlook::TooMany(planned.len()));
        }
        let until = Instant::now() + RECKON_WITHIN;
        let (nodes, reckoner) = self.reckoned(planned, local_slots);
        let paths = parsed(planned)?;
        let order = order(planned, &paths)?;
        let mut all: Vec<Known<'_>> = Vec::with_capacity(planned.len());
        for (it, path) in planned.iter().zip(&paths) {
            all.push(self.known(&reckoner, it, derivation::name(path)));
        }
        find_paths(&mut all, &order);
        let tasks: Vec<_> = all.iter().map(Known::task).collect();
        let mut timing = Clock { all: &all, nodes: &nodes, until };
        let spans = forecast(&tasks, &nodes, &mut timing).map_err(|stuck| match stuck {
            Stuck::Refused { task, reason } => {
                NoOutlook::Refused { name: all[task].name.to_owned(), reason }
            }
            Stuck::Idle { left, task, reason } => {
                NoOutlook::Waits { left, name: all[task].name.to_owned(), reason }
            }
            Stuck::Late => NoOutlook::Late,
        })?;
        let nothing = Expected {
            node: 0,
            emulated: false,
            known: false,
            ready_s: 0.0,
            start_s: 0.0,
            end_s: 0.0,
        };
        let mut builds = vec![nothing; planned.len()];
        for span in spans {
            builds[span.task] = Expected {
                node: u32::try_from(span.node).unwrap_or(u32::MAX),
                emulated: !is_native(&nodes[span.node], &planned[span.task].system),
                known: all[span.task].known,
                ready_s: span.ready_s,
                start_s: span.start_s,
                end_s: span.end_s,
            };
        }
        let (by_work_s, by_chain_s) = (by_work_s(&all, &nodes), by_chain_s(&all, &nodes, &order));
        let nodes = nodes.into_iter().map(|node| (node.name, node.slots)).collect();
        Ok(Outlook { builds, nodes, by_work_s, by_chain_s })
    }

    /// The nodes as they are now, the local Nix included if it could build any of these, and what is
    /// known of earlier builds.
    fn reckoned(&self, planned: &[Planned], local_slots: u32) -> (Vec<NodeFacts>, Reckoner) {
        let mut nodes = self.nodes();
        let estimates = self.estimates();
        let local = self.0.nodes.local().filter(|local| {
            let could = planned.iter().any(|it| local.systems.contains(&it.system));
            could && local.forbidden.is_none()
        });
        let local_speed = local.as_ref().map(|local| estimates.speed(&local.id));
        let reckoner = Reckoner::new(estimates, None, &self.stocks(), &mut nodes);
        reckoner.count(&self.state(), &mut nodes, Instant::now());
        let ready = nodes.iter().all(|node| !node.here || node.health == Health::Ready);
        // What the own Nix asks for, this node's own executor never has.
        nodes.retain(|node| !node.here);
        if let Some((local, speed)) = local.zip(local_speed).filter(|_| ready && local_slots > 0) {
            nodes.push(NodeFacts {
                id: local.id,
                name: LOCAL.to_owned(),
                here: false,
                systems: local.systems,
                emulated: Vec::new(),
                features: local.features,
                labels: BTreeSet::new(),
                slots: local_slots.min(MAX_LOCAL_SLOTS),
                speed,
                ahead: 0,
                assigned: 0,
                big: 0,
                busy: 0,
                jobs: Vec::new(),
                supply: Supply::default(),
                health: Health::Ready,
            });
        }
        (nodes, reckoner)
    }

    fn known<'p>(&self, reckoner: &Reckoner, planned: &'p Planned, name: &'p str) -> Known<'p> {
        let Planned { system, features, fixed_output, prefer_local, .. } = planned;
        let size = Size::of(*fixed_output, *prefer_local, features);
        let package = Package::of(name, system, How::Native);
        let estimates = reckoner.estimates();
        Known {
            name,
            planned,
            demand: (self.0.rules)(Asked { name, system, features }),
            policy: (self.0.policy)(system),
            times: reckoner.times_of(name, system, size),
            weight_s: estimates.weight(&package, size).as_secs_f64(),
            known: estimates.work(&package).is_some(),
            path_s: 0.0,
        }
    }
}

impl Known<'_> {
    fn task(&self) -> Task<'_> {
        Task {
            system: &self.planned.system,
            features: &self.planned.features,
            client: "",
            needs: self.planned.needs.iter().map(|need| *need as usize).collect(),
            policy: self.policy,
            demand: &self.demand,
        }
    }

    fn takes_s(&self, node: &NodeFacts, how: How) -> f64 {
        match how {
            How::Native => self.weight_s / node.speed,
            How::Emulated => {
                let known = self.times.emulated.map(|time| time.as_secs_f64());
                known.unwrap_or(self.weight_s * EMULATED)
            }
        }
    }
}

/// What was expected is what happens.
struct Clock<'a> {
    all: &'a [Known<'a>],
    nodes: &'a [NodeFacts],
    until: Instant,
}

impl Timing for Clock<'_> {
    fn times(&self, task: usize) -> Times {
        self.all[task].times
    }

    fn path_s(&self, task: usize) -> f64 {
        self.all[task].path_s
    }

    fn takes_s(&self, task: usize, node: usize, how: How) -> f64 {
        self.all[task].takes_s(&self.nodes[node], how)
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}

fn parsed(planned: &[Planned]) -> Result<Vec<StorePath>, NoOutlook> {
    let parse = |it: &Planned| {
        let path = StorePath::parse(&it.drv_path).ok().filter(StorePath::is_derivation);
        path.ok_or_else(|| NoOutlook::NoDerivation(it.drv_path.clone()))
    };
    planned.iter().map(parse).collect()
}

/// The places of derivations, each after those that it needs.
fn order(planned: &[Planned], paths: &[StorePath]) -> Result<Vec<usize>, NoOutlook> {
    let tangled = |at: usize| NoOutlook::Tangled(derivation::name(&paths[at]).to_owned());
    let mut missing: Vec<usize> = planned.iter().map(|it| it.needs.len()).collect();
    let mut needed_by = vec![Vec::new(); planned.len()];
    for (at, it) in planned.iter().enumerate() {
        for &need in &it.needs {
            needed_by.get_mut(need as usize).ok_or_else(|| tangled(at))?.push(at);
        }
    }
    let mut order: Vec<usize> = (0..planned.len()).filter(|&at| missing[at] == 0).collect();
    let mut next = 0;
    while let Some(&at) = order.get(next) {
        next += 1;
        for &after in &needed_by[at] {
            missing[after] -= 1;
            if missing[after] == 0 {
                order.push(after);
            }
        }
    }
    match missing.iter().position(|&missing| missing > 0) {
        Some(at) => Err(tangled(at)),
        None => Ok(order),
    }
}

/// Finds what each is the beginning of: the longest way to the end.
fn find_paths(all: &mut [Known<'_>], order: &[usize]) {
    for &at in order.iter().rev() {
        all[at].path_s += all[at].weight_s;
        let (path_s, planned) = (all[at].path_s, all[at].planned);
        for &need in &planned.needs {
            let need = &mut all[need as usize];
            need.path_s = need.path_s.max(path_s);
        }
    }
}

fn is_native(node: &NodeFacts, system: &str) -> bool {
    system == "builtin" || node.systems.iter().any(|it| it == system)
}

/// All the work for a system, shared evenly by the nodes that run it natively: the most of all systems.
fn by_work_s(all: &[Known<'_>], nodes: &[NodeFacts]) -> f64 {
    let mut work: HashMap<&str, f64> = HashMap::new();
    for it in all {
        *work.entry(&it.planned.system).or_default() += it.weight_s;
    }
    let shared = work.into_iter().filter_map(|(system, work_s)| {
        let native = nodes.iter().filter(|node| is_native(node, system));
        let speed: f64 = native.map(|node| f64::from(node.slots) * node.speed).sum();
        // What is emulated at times shares more nodes than these.
        let emulated = nodes.iter().any(|node| node.emulated.iter().any(|it| it == system));
        (speed > 0.0 && !emulated).then(|| work_s / speed)
    });
    shared.fold(0.0, f64::max)
}

/// The longest chain, each part on the node that does it first.
fn by_chain_s(all: &[Known<'_>], nodes: &[NodeFacts], order: &[usize]) -> f64 {
    let takes_s = |it: &Known<'_>| {
        let times = nodes.iter().filter_map(|node| {
            let how = if is_native(node, &it.planned.system) {
                How::Native
            } else if node.emulated.contains(&it.planned.system) {
                How::Emulated
            } else {
                return None;
            };
            Some(it.takes_s(node, how))
        });
        times.min_by(f64::total_cmp).unwrap_or_default()
    };
    let mut done_s = vec![0.0_f64; all.len()];
    for &at in order {
        let needs = all[at].planned.needs.iter().map(|need| done_s[*need as usize]);
        done_s[at] = needs.fold(0.0, f64::max) + takes_s(&all[at]);
    }
    done_s.into_iter().fold(0.0, f64::max)
}
