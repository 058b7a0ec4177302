//! The boards this workstation knows, its connection to each, and the builder that stock Nix sees.
//!
//! What is announced on the network is a hint. A board that may belong to the fleet is connected to, and
//! does belong to it once it has proved so; any other is listed as pending and never used. A board that
//! was part of the fleet stays known while it is away.

mod board;
mod claims;
pub mod connect;
mod deliveries;
mod fetch;
pub mod machines;
mod publish;
mod register;
mod scan;
mod sight;
mod visit;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use board_support::Announcement;
use ssh_key::PublicKey;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

pub use board::Board;
pub use deliveries::Deliveries;
pub use fetch::{Missing, Whereabouts};
pub use publish::{Places, publish};
pub use register::RegisterError;

use machines::Line;

use crate::{
    discover::{Board as Found, BoardKey, Complaints, Directory, Sighting},
    enrol::Stage,
    model::{BoardView, NodeView, Reach, first_line},
    trust::{Fingerprint, TokenId, Trust, Verdict, fingerprint, fingerprint_of},
};
use claims::Claims;
use register::{Known, Register};
use sight::{Claimed, Context, Sight, Sighted, address_text};

/// Newcomers that the log names in a minute.
const NEWCOMERS_A_MINUTE: u32 = 20;

/// What a fleet works with.
pub struct Settings {
    /// Who may be used, and what this node has to show.
    pub trust: Trust,
    /// The durable list of boards.
    pub register: PathBuf,
    /// Where ssh configurations are written.
    pub ssh_dir: PathBuf,
    /// Where SSH masters have their sockets.
    pub control_dir: PathBuf,
    /// What boards show as the client: this node's name.
    pub client: String,
    /// The time, in seconds since 1970.
    pub now_s: fn() -> u64,
}

/// The fleet. Clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    register: Register,
    state: Mutex<State>,
    /// What is in the machines file.
    lines: Mutex<Vec<Line>>,
}

struct State {
    directory: Directory,
    /// What the last look at each announcement came to, as long as nothing has changed.
    verdicts: HashMap<BoardKey, (Announcement, Verdict)>,
    boards: BTreeMap<String, Arc<Board>>,
    pending: BTreeMap<BoardKey, BoardView>,
    claims: Claims,
    newcomers: Complaints,
}

impl Fleet {
    /// Opens the fleet: the boards that were part of it are known, and away.
    ///
    /// # Errors
    /// If the register cannot be read: going on would forget boards.
    pub fn open(settings: Settings) -> Result<Self, RegisterError> {
        let (register, known) = Register::open(settings.register)?;
        let context = Arc::new(Context {
            trust: settings.trust,
            now_s: settings.now_s,
            ssh_dir: settings.ssh_dir,
            control_dir: settings.control_dir,
            client: settings.client,
            changed: watch::Sender::new(()),
        });
        let state = State {
            directory: Directory::new(),
            verdicts: HashMap::new(),
            boards: BTreeMap::new(),
            pending: BTreeMap::new(),
            claims: Claims::default(),
            newcomers: Complaints::new(NEWCOMERS_A_MINUTE),
        };
        let fleet = Self(Arc::new(Inner {
            context,
            register,
            state: Mutex::new(state),
            lines: Mutex::default(),
        }));
        for known in known {
            let name = known.view.name.clone();
            match fleet.still_member(&known) {
                Some(host_key) => drop(fleet.add(known.view, Some(host_key))),
                None => info!(board = name, "forgotten: it is not in the fleet's roster"),
            }
        }
        Ok(fleet)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host key of a board that was part of the fleet, if it still is.
    fn still_member(&self, known: &Known) -> Option<PublicKey> {
        let key = PublicKey::from_openssh(known.host_key.as_ref()?).ok()?;
        let print = fingerprint(&key);
        self.0
            .context
            .trust
            .look(|it| it.membership.roster()?.board(&known.view.id, &print).map(|_| key))
    }

    /// Follows what is seen on the network until the browser ends.
    pub async fn run(&self, mut sightings: mpsc::Receiver<Sighting>) {
        let mut trust = self.0.context.trust.changes();
        let mut changes = self.0.context.changed.subscribe();
        loop {
            let again = self.state().claims.next_try();
            tokio::select! {
                sighting = sightings.recv() => {
                    let Some(sighting) = sighting else { return };
                    self.apply(sighting);
                    while let Ok(sighting) = sightings.try_recv() {
                        self.apply(sighting);
                    }
                }
                changed = trust.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.state().verdicts.clear();
                }
                // Whose claim has been tried makes room for another.
                _ = changes.changed() => if !self.state().claims.is_waiting() { continue },
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            self.judge();
        }
    }

    fn apply(&self, sighting: Sighting) {
        self.state().directory.apply(sighting);
    }

    /// Whether an announcement is more than a stranger's: such a one is not forgotten for others.
    #[must_use]
    pub fn matters(&self, board: &Announcement) -> bool {
        match self.0.context.trust.judge(board, (self.0.context.now_s)()) {
            Verdict::Member | Verdict::Enrol { .. } => true,
            Verdict::Claims | Verdict::Revoked { .. } | Verdict::Stranger { .. } => false,
        }
    }

    /// Judges every board by what is known now: those that are seen, and those of the fleet.
    pub fn judge(&self) {
        let now_s = (self.0.context.now_s)();
        let mut guard = self.state();
        let state = &mut *guard;
        let (mut sights, mut pending) = (BTreeMap::new(), BTreeMap::new());
        for (key, found) in state.directory.boards() {
            let seen = state.verdicts.get(key);
            if seen.is_none_or(|(announcement, _)| *announcement != found.announcement) {
                let verdict = self.0.context.trust.judge(&found.announcement, now_s);
                state.verdicts.insert(key.clone(), (found.announcement.clone(), verdict));
            }
        }
        let mut found: Vec<_> = state
            .directory
            .boards()
            .filter_map(|(key, found)| Some((key, found, &state.verdicts.get(key)?.1)))
            .collect();
        // Members come first: nobody else gets their ids.
        found.sort_by_key(|(_, _, verdict)| match verdict {
            Verdict::Member => 0,
            Verdict::Enrol { .. } => 1,
            Verdict::Claims | Verdict::Revoked { .. } | Verdict::Stranger { .. } => 2,
        });
        for (key, found, verdict) in found {
            let known = state.boards.get(key.id.as_str());
            let proven = known.is_some_and(|board| board.has_proved(&key.host_key.0));
            if proven || *verdict != Verdict::Claims {
                state.claims.settled(key);
            }
            let sight = stage(key, verdict, proven, &mut state.claims)
                .map(|(stage, token)| Sight::of(key, found, stage, token))
                // One host key an id: the other one would take its place.
                .and_then(|sight| match sights.contains_key(key.id.as_str()) {
                    false => Ok(sight),
                    true => Err("another board of this fleet has its id".to_owned()),
                });
            match sight {
                Ok(sight) => drop(sights.insert(key.id.to_string(), (sight, announced(found)))),
                Err(why) => drop(pending.insert(key.clone(), pending_view(found, why))),
            }
        }
        state.verdicts.retain(|key, _| state.directory.get(key).is_some());
        state.claims.retain(|key| state.directory.get(key).is_some());
        for (key, view) in pending.iter().filter(|(key, _)| !state.pending.contains_key(*key)) {
            state
                .newcomers
                .info(|| format!("{} ({}) is pending: {}", view.node.name, key.id, view.reason));
        }
        let changed = state.pending != pending;
        state.pending = pending;
        let boards = state.boards.clone();
        drop(guard);
        self.tell(&boards, sights);
        if changed {
            self.0.context.changed.send_replace(());
        }
    }

    /// Tells each known board where it is seen, and takes on those that are new.
    fn tell(
        &self,
        boards: &BTreeMap<String, Arc<Board>>,
        mut sights: BTreeMap<String, (Sight, NodeView)>,
    ) {
        let revoked =
            |key: &Fingerprint| self.0.context.trust.look(|it| it.membership.is_revoked(key));
        for (id, board) in boards {
            board.seen(match (sights.remove(id), board.key()) {
                (Some((sight, _)), _) => Sighted::There(sight),
                (None, Some(key)) if revoked(&key) => Sighted::Dismissed,
                (None, _) => Sighted::Nowhere,
            });
        }
        for (_, (sight, view)) in sights {
            self.add(view, None).seen(Sighted::There(sight));
        }
    }

    /// Keeps a board connected from now on; `host_key` is what it has proved before.
    fn add(&self, view: NodeView, host_key: Option<PublicKey>) -> Arc<Board> {
        let board = Arc::new(Board::new(view, host_key));
        self.state().boards.insert(board.node().id, board.clone());
        let (fleet, known) = (self.clone(), board.clone());
        tokio::spawn(async move {
            let left = known.clone().run(fleet.0.context.clone()).await;
            let mut state = fleet.state();
            state.boards.remove(&known.node().id);
            if let Some(Claimed { key, why }) = left {
                state.claims.failed(&key, &why);
            }
            drop(state);
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

    /// What the machines file calls the builder that Nix would be given for `system` and `features`.
    #[must_use]
    pub fn builder(&self, system: &str, features: &BTreeSet<String>) -> Option<String> {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| line.is_for(system, features)).map(Line::address)
    }

    /// The machines file has these lines now.
    fn published(&self, lines: &[Line]) {
        let mut held = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        held.clear();
        held.extend_from_slice(lines);
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

/// What a board has to prove to be used, and the token that it has shown; else why it is not.
fn stage(
    key: &BoardKey,
    verdict: &Verdict,
    proven: bool,
    claims: &mut Claims,
) -> Result<(Stage, Option<TokenId>), String> {
    match verdict {
        Verdict::Member => Ok((Stage::Certificate, None)),
        Verdict::Enrol { token } => Ok((Stage::Key, *token)),
        Verdict::Claims if proven => Ok((Stage::Certificate, None)),
        Verdict::Claims => claims.admit(key).map(|()| (Stage::Certificate, None)),
        Verdict::Revoked { name } => Err(format!("it was revoked, as {name}")),
        Verdict::Stranger { why } => Err(why.clone()),
    }
}

fn pending_view(found: &Found, reason: String) -> BoardView {
    BoardView {
        node: announced(found),
        addresses: found.addresses.iter().map(|address| address_text(*address)).collect(),
        port: found.addresses.first().map_or(22, std::net::SocketAddr::port),
        host_key: None,
        fingerprint: fingerprint_of(&found.announcement.host_key.0),
        reach: Reach::Pending,
        reason,
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
