//! Reads what clients wait for from the local store: temporary roots, derivations, and which outputs
//! are there. All of it blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use nix_compat::{derivation::Derivation, store_path::StorePath};
use tracing::{debug, warn};

use super::{ClientId, Graph, Key, NotAdded, TempRoots, Worker, temproots::Enough};

/// Largest `.drv` file that is read, in bytes. Nixpkgs' largest are some hundred KiB.
const MAX_DRV: u64 = 4 << 20;

/// `.drv` files read in one pass: some tenths of a second from an SD card, so that the first answer
/// does not wait for all of a large graph.
const DRVS_A_PASS: usize = 1000;

/// Paths that are passed over in one pass.
const PATHS_A_PASS: usize = 100_000;

/// Derivations whose outputs are looked for again in one pass, for what others have built or fetched.
const LOOKS_A_PASS: usize = 2000;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of the files of temporary roots.
    pub temproots: PathBuf,
    /// The folder that store paths are really in: `/nix/store`, but for tests.
    pub store: PathBuf,
}

/// What has happened since the last pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// A worker asks for a derivation, or is about to.
    Asked(Worker, Option<Key>),
    /// A derivation was built, or will not be.
    Ended(Key, bool),
}

/// A process whose derivations are held.
struct Client {
    id: ClientId,
    roots: TempRoots,
    /// What it has asked for, and was not told the end of.
    jobs: BTreeSet<Key>,
}

/// The graph, and what it is read from.
pub(super) struct Reader {
    places: Places,
    pub(super) graph: Graph,
    clients: BTreeMap<Worker, Client>,
    /// Whether it was said that the graph is full.
    full: bool,
}

impl Reader {
    pub(super) fn new(places: Places) -> Self {
        Self { places, graph: Graph::default(), clients: BTreeMap::new(), full: false }
    }

    /// Whose derivations are held.
    pub(super) fn workers(&self) -> impl Iterator<Item = Worker> {
        self.clients.keys().copied()
    }

    /// Brings the graph up to date, or a step nearer to that; tells whether there is more to read.
    pub(super) fn pass(&mut self, news: Vec<News>) -> bool {
        for news in &news {
            if let News::Asked(worker, _) = news {
                let new = || Client {
                    id: self.graph.enter(),
                    roots: TempRoots::of(&self.places.temproots, worker.pid),
                    jobs: BTreeSet::new(),
                };
                self.clients.entry(*worker).or_insert_with(new);
            }
        }
        let more = self.read();
        // After that: what is asked for may be new.
        for news in news {
            self.note(news);
        }
        let store = &self.places.store;
        self.graph.look(LOOKS_A_PASS, |path| fs::symlink_metadata(inside(store, path)).is_ok());
        let graph = &mut self.graph;
        self.clients.retain(|worker, client| {
            let stays = !client.jobs.is_empty() || worker.is_alive();
            if !stays {
                graph.leave(client.id);
            }
            stays
        });
        if self.graph.is_empty() {
            self.full = false;
        }
        more
    }

    fn note(&mut self, news: News) {
        match news {
            News::Asked(worker, Some(key)) => {
                self.graph.asked(key);
                self.clients.get_mut(&worker).map(|client| client.jobs.insert(key));
            }
            News::Asked(_, None) => {}
            News::Ended(key, built) => {
                self.graph.ended(key, built);
                for client in self.clients.values_mut() {
                    client.jobs.remove(&key);
                }
            }
        }
    }

    /// Reads what the workers have registered; tells whether there is more.
    fn read(&mut self) -> bool {
        let Self { places, graph, clients, full } = self;
        let (mut drvs, mut paths, mut more) = (0, 0, false);
        for (worker, client) in clients.iter_mut() {
            // The file of one that has ended may be another one's.
            if !worker.is_alive() {
                continue;
            }
            let read = client.roots.read(|path| {
                paths += 1;
                if !graph.join(client.id, Key::of(path)) {
                    drvs += 1;
                    add(graph, client.id, path, &places.store, full);
                }
                if drvs < DRVS_A_PASS && paths < PATHS_A_PASS {
                    Enough::NotYet
                } else {
                    Enough::Yes
                }
            });
            match read {
                Ok(left) => more |= left,
                Err(error) => debug!(pid = worker.pid, "its temporary roots: {error}"),
            }
        }
        more
    }
}

/// Adds a derivation to the graph, if it can be read. One that is not there yet, or not entirely, is
/// registered again when it is built.
fn add(graph: &mut Graph, client: ClientId, path: &StorePath, store: &Path, full: &mut bool) {
    let drv = match parse(&inside(store, path.as_str())) {
        Ok(drv) => drv,
        Err(why) => return debug!(drv = %path, "left out of the graph: {why}"),
    };
    match graph.add(client, path, &drv) {
        Ok(()) => {}
        Err(error @ NotAdded::Full) => {
            if !std::mem::replace(full, true) {
                warn!("derivations are left out, and jobs they need are not known to be: {error}");
            }
        }
        Err(error @ NotAdded::Odd) => debug!(drv = %path, "left out of the graph: {error}"),
    }
}

fn parse(file: &Path) -> Result<Derivation, String> {
    let file = File::open(file).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // One more, to tell a file that is too large.
    file.take(MAX_DRV + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_DRV {
        return Err(format!("it is over {} MiB", MAX_DRV >> 20));
    }
    Derivation::parse(&bytes).map_err(|error| error.to_string())
}

/// Where a store path really is.
fn inside(store: &Path, path: &str) -> PathBuf {
    store.join(path.rsplit('/').next().unwrap_or_default())
}
