//! Where callers on D-Bus want their builds, as long as they are there: in memory only.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix_compat::{derivation, store_path::StorePath};

use super::{client::Ancestry, parts::Parts};
use crate::{
    bus::{Caller, ControlError, Foreseen, Wanted},
    dispatch::{Asked, Dispatcher, Foresight},
    fleet::Fleet,
    model::{Demand, Origin, Reach, Want, Wish},
    place::Health,
};

/// Derivations held in all.
const MAX_IN_ALL: usize = 100_000;
/// Derivations held for one user.
const MAX_A_USER: usize = 20_000;
/// Callers at once.
const MAX_CALLERS: usize = 1000;
/// Boards that one demand names.
const MAX_BOARDS: usize = 64;

/// Systems that one caller's Nix builds by itself, and how long the name of one may be.
const MAX_SYSTEMS: usize = 64;
const MAX_SYSTEM_BYTES: usize = 64;

/// What is held of a derivation: the hash in its path.
type Hash = [u8; 32];

/// The demands that are held. Clones are the same.
#[derive(Clone)]
pub(super) struct Demands {
    dispatcher: Dispatcher,
    fleet: Option<Fleet>,
    /// This node's id and name.
    own: (String, String),
    held: Arc<Mutex<Held>>,
}

/// By the callers' names on the bus.
#[derive(Default)]
struct Held(BTreeMap<String, One>);

/// One caller's.
struct One {
    pid: i32,
    uid: u32,
    demand: Demand,
    derivations: HashSet<Hash>,
    /// Systems that Nix builds without us.
    local: BTreeSet<String>,
}

impl Demands {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            dispatcher: parts.dispatcher.clone(),
            fleet: parts.fleet.clone(),
            own: (parts.view.id.clone(), parts.view.name.clone()),
            held: Arc::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a caller wants, in place of what it wanted before.
    ///
    /// # Errors
    /// If it cannot be, or is too much.
    pub(super) fn take(&self, caller: Caller, wanted: Wanted) -> Result<Foreseen, ControlError> {
        let nodes: BTreeSet<String> = wanted.boards.into_iter().collect();
        let demand = self.demand(nodes)?;
        let long = |system: &String| system.len() > MAX_SYSTEM_BYTES;
        if wanted.local.len() > MAX_SYSTEMS || wanted.local.iter().any(long) {
            return Err(failed(format!("no Nix builds more than {MAX_SYSTEMS} systems by itself")));
        }
        if wanted.derivations.len() > MAX_A_USER {
            let given = wanted.derivations.len();
            return Err(failed(format!("{given} derivations: {MAX_A_USER} at most")));
        }
        let mut derivations = BTreeMap::new();
        for (path, system, features) in wanted.derivations {
            let path = StorePath::parse(&path).ok().filter(StorePath::is_derivation);
            let path = path.ok_or_else(|| failed("what is to be built is no derivation"))?;
            derivations.insert(path, (system, BTreeSet::from_iter(features)));
        }
        let local: BTreeSet<String> = wanted.local.into_iter().collect();
        let (waits, mut notes) = self.foresee(&derivations, &demand, &local)?;
        notes.extend(self.dispatcher.too_late(|path| derivations.contains_key(path), &demand));
        let one = One {
            pid: caller.pid,
            uid: caller.uid,
            demand,
            derivations: derivations.keys().filter_map(hash).collect(),
            local,
        };
        self.held().put(caller.name, one)?;
        Ok(Foreseen { waits: waits.into_iter().collect(), notes: notes.into_iter().collect() })
    }

    /// Forgets what a caller wanted: it has gone.
    pub(super) fn forget(&self, caller: &str) {
        self.held().0.remove(caller);
    }

    /// Where a derivation is wanted that a client asks for who is told by their ancestry.
    pub(super) fn of(
        &self,
        drv_path: &StorePath,
        system: &str,
        features: &BTreeSet<String>,
        ancestry: impl FnOnce() -> Ancestry,
    ) -> Demand {
        let wanted = self.held().of(drv_path, ancestry);
        let asked = Asked { name: derivation::name(drv_path), system, features };
        let all = wanted.into_iter().filter(|(demand, local)| {
            // What none of the boards can build, and this machine builds itself, is not meant.
            let refused = || {
                let foresight = self.dispatcher.foresee(&[asked], demand);
                matches!(foresight[..], [Foresight::Refused(_)])
            };
            !(local.contains(system) && refused())
        });
        all.fold(Demand::default(), |all, (demand, _)| all.and(&demand))
    }

    /// What is asked for by naming nodes, all of which have to be known.
    fn demand(&self, nodes: BTreeSet<String>) -> Result<Demand, ControlError> {
        if nodes.is_empty() || nodes.len() > MAX_BOARDS {
            return Err(failed(format!("name a board, and at most {MAX_BOARDS}")));
        }
        let known = self.dispatcher.nodes();
        for word in &nodes {
            if *word == self.own.0 || *word == self.own.1 {
                return Err(failed(format!(
                    "{word} is this machine: it cannot build for its own Nix by way of roost, because Nix \
                     holds the locks of the outputs meanwhile; without `--on`, and with `--builders ''`, \
                     Nix builds here"
                )));
            }
            let wish = on([word.clone()].into());
            if !known.iter().any(|node| wish.names(&node.id, &node.name, &node.labels)) {
                return Err(self.unknown(word));
            }
        }
        Ok(on(nodes).into())
    }

    fn unknown(&self, word: &str) -> ControlError {
        let boards = self.fleet.as_ref().map(Fleet::boards).unwrap_or_default();
        let pending = boards.iter().find(|board| {
            board.reach == Reach::Pending && (board.node.id == word || board.node.name == word)
        });
        match pending {
            Some(board) => failed(format!("{word} is not used, it is pending: {}", board.reason)),
            // What nobody has is not repeated at any length.
            None => ControlError::NotFound(format!(
                "no board of this fleet is called {word:.64}, or has it as a label; `roost status` lists them"
            )),
        }
    }

    /// What would become of all that a caller wants: what waits for boards that are away, and what the
    /// demand is not for.
    fn foresee(
        &self,
        derivations: &BTreeMap<StorePath, (String, BTreeSet<String>)>,
        demand: &Demand,
        local: &BTreeSet<String>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), ControlError> {
        let asked: Vec<_> = derivations
            .iter()
            .map(|(path, (system, features))| Asked {
                name: derivation::name(path),
                system,
                features,
            })
            .collect();
        let mut waits = BTreeSet::new();
        let mut here = BTreeMap::<&str, (&str, usize)>::new();
        for (asked, foresight) in asked.iter().zip(self.dispatcher.foresee(&asked, demand)) {
            match foresight {
                Foresight::Built => {}
                Foresight::Waits(reason) => drop(waits.insert(reason)),
                Foresight::Refused(_) if local.contains(asked.system) => {
                    here.entry(asked.system).or_insert((asked.name, 0)).1 += 1;
                }
                Foresight::Refused(reason) => {
                    return Err(failed(format!("{}: {reason}", asked.name)));
                }
            }
        }
        if !asked.is_empty() && here.values().map(|(_, count)| count).sum::<usize>() == asked.len()
        {
            let systems = Vec::from_iter(here.keys().copied()).join(" and ");
            return Err(failed(format!(
                "all of it is for {systems}, which this machine builds itself and none of those boards can"
            )));
        }
        if asked.is_empty() {
            waits = self.away(demand);
        }
        let notes = here.into_iter().map(|(system, (example, count))| {
            let derivations = if count == 1 { "derivation" } else { "derivations" };
            format!(
                "{count} {derivations} for {system}, {example} for one, will be built elsewhere: this \
                 machine builds that itself, and none of those boards can"
            )
        });
        Ok((waits, notes.collect()))
    }

    /// The nodes that are waited for before anything can be built, each with why.
    fn away(&self, demand: &Demand) -> BTreeSet<String> {
        let nodes = self.dispatcher.nodes().into_iter();
        let mut waits = BTreeSet::new();
        for node in nodes.filter(|node| !node.here && node.may_have(demand)) {
            match &node.health {
                Health::Away(why) => drop(waits.insert(format!("{} is away: {why}", node.name))),
                Health::Ready | Health::Paused(_) | Health::Draining => return BTreeSet::new(),
            }
        }
        waits
    }
}

impl Held {
    fn put(&mut self, caller: String, one: One) -> Result<(), ControlError> {
        let others = || self.0.iter().filter(|(name, _)| **name != caller).map(|(_, one)| one);
        let in_all: usize = others().map(|it| it.derivations.len()).sum();
        let own: usize =
            others().filter(|it| it.uid == one.uid).map(|it| it.derivations.len()).sum();
        let new = one.derivations.len();
        if own + new > MAX_A_USER || in_all + new > MAX_IN_ALL || others().count() >= MAX_CALLERS {
            return Err(failed(format!(
                "so much cannot be kept in mind: {new} derivations, beside {own} of the same user and \
                 {in_all} in all; {MAX_A_USER} and {MAX_IN_ALL} are the limits, and {MAX_CALLERS} \
                 builds at once"
            )));
        }
        self.0.insert(caller, one);
        Ok(())
    }

    /// The demands that are about a derivation: those of the processes that the client descends from.
    /// Where that is not known, those that name the derivation.
    fn of(
        &self,
        drv_path: &StorePath,
        ancestry: impl FnOnce() -> Ancestry,
    ) -> Vec<(Demand, BTreeSet<String>)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let ancestry = ancestry();
        let hash = hash(drv_path);
        let named = |one: &One| hash.is_some_and(|hash| one.derivations.contains(&hash));
        let meant = |one: &&One| match &ancestry {
            // The bus does not number processes of other namespaces.
            Ancestry::Known(_) if one.pid == 0 => named(one),
            Ancestry::Known(processes) => processes.contains(&one.pid),
            Ancestry::Unknown => named(one),
        };
        self.0.values().filter(meant).map(|one| (one.demand.clone(), one.local.clone())).collect()
    }
}

fn on(nodes: BTreeSet<String>) -> Wish {
    Wish { origin: Origin::On, want: Want::Require, nodes }
}

fn hash(path: &StorePath) -> Option<Hash> {
    path.hash_part().as_bytes().try_into().ok()
}

fn failed(why: impl Into<String>) -> ControlError {
    ControlError::Failed(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{number:032}-hello.drv")).unwrap()
    }

    fn one(pid: i32, uid: u32, derivations: std::ops::Range<usize>) -> One {
        One {
            pid,
            uid,
            demand: on([format!("board{pid}")].into()).into(),
            derivations: derivations.map(|number| hash(&path(number)).unwrap()).collect(),
            local: BTreeSet::new(),
        }
    }

    fn told(held: &Held, number: usize, ancestry: Ancestry) -> Vec<String> {
        let all = held.of(&path(number), || ancestry).into_iter();
        all.map(|(demand, _)| demand.to_string()).collect()
    }

    #[test]
    fn a_demand_is_for_what_its_caller_has_started() {
        let mut held = Held::default();
        held.put(":1.1".to_owned(), one(10, 1000, 0..1)).unwrap();
        held.put(":1.2".to_owned(), one(20, 1000, 0..1)).unwrap();
        let of = |processes: &[i32]| told(&held, 0, Ancestry::Known(processes.to_vec()));
        assert_eq!(of(&[99, 20, 5]), ["--on asks for board20"]);
        assert_eq!(of(&[99, 5]), Vec::<String>::new(), "somebody else asks for the same");
        held.put(":1.3".to_owned(), one(0, 1000, 5..6)).unwrap();
        let numberless = told(&held, 5, Ancestry::Known(vec![99]));
        assert_eq!(numberless, ["--on asks for board0"], "it is known by what it named");
        let unlisted = told(&held, 7, Ancestry::Known(vec![10]));
        assert_eq!(unlisted, ["--on asks for board10"], "what evaluation itself builds");
    }

    #[test]
    fn a_client_of_unknown_descent_is_told_by_what_it_asks_for() {
        let mut held = Held::default();
        held.put(":1.1".to_owned(), one(10, 1000, 0..2)).unwrap();
        held.put(":1.2".to_owned(), one(20, 1000, 2..4)).unwrap();
        assert_eq!(told(&held, 3, Ancestry::Unknown), ["--on asks for board20"]);
        assert_eq!(told(&held, 4, Ancestry::Unknown), Vec::<String>::new());
    }

    #[test]
    fn what_is_held_is_bounded_by_user_and_in_all_and_replaced() {
        let mut held = Held::default();
        let full = |uid: u32| one(10, uid, 0..MAX_A_USER);
        held.put(":1.1".to_owned(), full(1)).unwrap();
        held.put(":1.1".to_owned(), full(1)).unwrap();
        let more = held.put(":1.2".to_owned(), one(20, 1, 0..1)).unwrap_err();
        assert!(more.to_string().contains("20000 of the same user"), "{more}");
        for uid in 2..=5 {
            held.put(format!(":2.{uid}"), full(uid)).unwrap();
        }
        assert!(held.put(":3.1".to_owned(), one(30, 6, 0..1)).is_err());
        held.0.remove(":1.1");
        held.put(":3.1".to_owned(), one(30, 6, 0..1)).unwrap();
    }
}
