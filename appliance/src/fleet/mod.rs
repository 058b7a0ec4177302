//! The boards this workstation knows, its connection to each, and the builder that stock Nix sees.
//!
//! What is announced on the network is a hint. A board whose announced host key is among the known
//! ones is connected to, and is part of the fleet once it has proved that key; any other is listed
//! as pending and never used. A board that was part of the fleet stays known while it is away.

mod board;
pub mod connect;
mod deliveries;
mod fetch;
pub mod machines;
mod publish;
mod register;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ssh_key::{HashAlg, PublicKey};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

pub use board::Board;
pub use deliveries::Deliveries;
pub use fetch::{Missing, Whereabouts};
pub use publish::{Places, publish};
pub use register::RegisterError;

use crate::{
    discover::{Board as Found, BoardKey, Directory, Sighting},
    model::{BoardView, NodeView, Reach, first_line},
    trust::{FileWatch, KnownHosts},
};
use board::{Context, Sight, Sighted};
use register::{Known, Register};

/// What a fleet works with.
pub struct Settings {
    /// Host keys of the boards that may be used.
    pub known_hosts: KnownHosts,
    /// The durable list of boards.
    pub register: PathBuf,
    /// Where ssh configurations are written.
    pub ssh_dir: PathBuf,
    /// Where SSH masters have their sockets.
    pub control_dir: PathBuf,
    /// This node's private key.
    pub identity: PathBuf,
    /// What boards show as the client: this node's name.
    pub client: String,
}

/// The fleet. Clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    register: Register,
    state: Mutex<State>,
}

struct State {
    known_hosts: KnownHosts,
    directory: Directory,
    boards: BTreeMap<String, Arc<Board>>,
    pending: BTreeMap<BoardKey, BoardView>,
}

impl Fleet {
    /// Opens the fleet: the boards that were part of it are known, and away.
    ///
    /// # Errors
    /// If the register cannot be read: going on would forget boards.
    pub fn open(settings: Settings) -> Result<Self, RegisterError> {
        let (register, known) = Register::open(settings.register)?;
        let context = Arc::new(Context {
            ssh_dir: settings.ssh_dir,
            control_dir: settings.control_dir,
            identity: settings.identity,
            client: settings.client,
            changed: watch::Sender::new(()),
        });
        let state = State {
            known_hosts: settings.known_hosts,
            directory: Directory::new(),
            boards: BTreeMap::new(),
            pending: BTreeMap::new(),
        };
        let fleet = Self(Arc::new(Inner { context, register, state: Mutex::new(state) }));
        for Known { view, host_key } in known {
            let key = host_key.and_then(|text| PublicKey::from_openssh(&text).ok());
            if key.as_ref().is_some_and(|key| !fleet.believes(key)) {
                info!(board = view.name, "forgotten: its host key is not among the known ones");
            } else {
                fleet.add(view, true, key);
            }
        }
        Ok(fleet)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what is seen on the network until the browser ends.
    pub async fn run(&self, mut sightings: mpsc::Receiver<Sighting>) {
        while let Some(sighting) = sightings.recv().await {
            self.state().directory.apply(sighting);
            while let Ok(sighting) = sightings.try_recv() {
                self.state().directory.apply(sighting);
            }
            self.judge();
        }
    }

    /// Judges boards anew whenever the file of known host keys changes.
    pub async fn watch_known_hosts(&self, file: &Path) {
        let error = match FileWatch::new(file) {
            Ok(mut watch) => loop {
                match watch.changed().await {
                    Ok(()) => self.judge(),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        warn!(
            "{} is not watched ({error}); a new key counts when `roost status` is asked",
            file.display()
        );
    }

    /// Whether a key is among the known ones.
    fn believes(&self, key: &PublicKey) -> bool {
        let fingerprint = key.fingerprint(HashAlg::Sha256).sha256();
        fingerprint.is_some_and(|print| self.state().known_hosts.key_for(&print).is_some())
    }

    /// Judges every board by the known host keys as they are now: those that are seen, and those of
    /// the fleet. While the keys cannot be read nobody is let in, and nobody sent away.
    pub fn judge(&self) {
        let mut state = self.state();
        if let Err(error) = state.known_hosts.refresh() {
            warn!("{error}; until that is mended no board comes or goes");
            return;
        }
        let mut pending = BTreeMap::new();
        let mut sights = BTreeMap::new();
        for (key, found) in state.directory.boards() {
            match state.known_hosts.key_for(&key.host_key.0) {
                Some(host_key) => {
                    let sight = Sight { addresses: found.addresses.clone(), host_key };
                    sights.insert(key.id.to_string(), (sight, announced(found)));
                }
                None => {
                    pending.insert(key.clone(), pending_view(found));
                }
            }
        }
        let new = pending.keys().find(|key| !state.pending.contains_key(key)).cloned();
        let changed = state.pending != pending;
        state.pending = pending;
        let boards = state.boards.clone();
        drop(state);
        for (id, board) in &boards {
            board.seen(match (sights.remove(id), board.key()) {
                (Some((sight, _)), _) => Sighted::There(sight),
                (None, Some(key)) if !self.believes(&key) => Sighted::Dismissed,
                (None, _) => Sighted::Nowhere,
            });
        }
        for (_, (sight, view)) in sights {
            self.add(view, false, None).seen(Sighted::There(sight));
        }
        if let Some(BoardKey { id, host_key }) = new {
            info!(board = %id, key = %host_key, "pending: its host key is not among the known ones");
        }
        if changed {
            self.0.context.changed.send_replace(());
        }
    }

    fn add(&self, view: NodeView, proven: bool, key: Option<PublicKey>) -> Arc<Board> {
        let board = Arc::new(Board::new(view, proven, key));
        self.state().boards.insert(board.node().id, board.clone());
        let (fleet, known) = (self.clone(), board.clone());
        tokio::spawn(async move {
            known.clone().run(fleet.0.context.clone()).await;
            fleet.state().boards.remove(&known.node().id);
            fleet.0.context.changed.send_replace(());
        });
        board
    }

    /// Every board, those of the fleet first.
    #[must_use]
    pub fn boards(&self) -> Vec<BoardView> {
        let state = self.state();
        let members = state.boards.values().map(|board| board.show());
        members.chain(state.pending.values().cloned()).collect()
    }

    /// The boards of the fleet: those that have proved their key.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Board>> {
        self.state().boards.values().filter(|board| board.proven()).cloned().collect()
    }

    /// A board of the fleet, by id.
    #[must_use]
    pub fn board(&self, id: &str) -> Option<Arc<Board>> {
        self.state().boards.get(id).cloned()
    }

    /// The one board of the fleet that has this id, or else this name.
    ///
    /// # Errors
    /// [`NoSuchBoard`].
    pub fn member(&self, called: &str) -> Result<Arc<Board>, NoSuchBoard> {
        let members: Vec<_> = self.members();
        if let Some(board) = members.iter().find(|board| board.node().id == called) {
            return Ok(board.clone());
        }
        let named: Vec<_> =
            members.into_iter().filter(|board| board.node().name == called).collect();
        match named.as_slice() {
            [] => Err(NoSuchBoard::Unknown(called.to_owned())),
            [board] => Ok(board.clone()),
            several => {
                let ids = several.iter().map(|board| board.node().id).collect();
                Err(NoSuchBoard::Ambiguous { name: called.to_owned(), ids })
            }
        }
    }

    /// Told whenever something about a board changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.context.changed.subscribe()
    }

    /// Writes the list of boards to disk if it is not what is there.
    pub(crate) fn remember(&self) {
        let known = self.members().iter().map(|board| board.known()).collect();
        if let Err(error) = self.0.register.save(known) {
            warn!("{error}; boards that are away when the daemon starts will not be known");
        }
    }
}

/// Why a board could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchBoard {
    /// None is called like that.
    #[error("no board of this fleet is called {0}; `roost status` lists them")]
    Unknown(String),
    /// Several are.
    #[error("{} boards are called {name}; say which by its id: {}", ids.len(), ids.join(" or "))]
    Ambiguous {
        /// Their name.
        name: String,
        /// Their ids.
        ids: Vec<String>,
    },
}

fn pending_view(found: &Found) -> BoardView {
    BoardView {
        node: announced(found),
        addresses: found.addresses.iter().map(|address| board::address_text(*address)).collect(),
        port: found.addresses.first().map_or(22, std::net::SocketAddr::port),
        host_key: None,
        reach: Reach::Pending,
        reason: "its host key is not in the known-hosts file".to_owned(),
        ours: 0,
    }
}

/// A board as it describes itself to everyone: what is shown until it is connected.
fn announced(found: &Found) -> NodeView {
    let it = &found.announcement;
    NodeView {
        id: it.id.to_string(),
        name: first_line(found.instance.as_bytes()),
        board: it.board.as_ref().map(ToString::to_string).unwrap_or_default(),
        systems: it.systems.iter().map(str::to_owned).collect(),
        emulated: it.emulated.iter().map(str::to_owned).collect(),
        features: it.features.iter().map(str::to_owned).collect(),
        slots: u32::from(it.slots),
        cores: u32::from(it.cores),
        mem_mib: u64::from(it.memory_gib) << 10,
        ..NodeView::default()
    }
}
