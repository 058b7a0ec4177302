//! One board: where it was seen, the connection to it, and what it says of itself.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use board_support::{Announcement, Kind as _, kind};
use ssh_key::PublicKey;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, watch},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    register::Known,
    sight::{Claimed, Context, Sight, Sighted, address_text},
    visit::{Connected, Target},
};
use crate::{
    enrol::{Stage, Visited},
    execute::{Link, Process},
    learn::{Entry, Table},
    model::{BoardView, ControlRequest, NodeView, Reach, Standing, first_line},
    place::Health,
    trust::{Fingerprint, SshFiles, fingerprint, fingerprint_of, key_text},
    wire::control::Told,
};

/// A description is well below this; a longer line is no description.
const MAX_LINE: u64 = 64 << 10;
/// The first description follows the greeting at once.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(20);
/// A request is a line; a board that reads at all takes it at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// More jobs than any board says it has; what says more is a defect, and must not overflow.
const MAX_JOBS: u32 = 1 << 20;
/// Jobs that a board is told of when it is back; the oldest of more end there by themselves, some
/// time after their last client has gone.
const MAX_UNWANTED: usize = 1000;
/// Pauses between attempts to reach a board that is announced: doubling, from one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// Certificates are looked at once a day: clocks are set, and machines sleep.
const MAX_SLEEP_S: u64 = 24 * 3600;

struct State {
    view: NodeView,
    /// The host key that it has proved, now or before: only then is it part of the fleet, and what it
    /// says of itself believed.
    host_key: Option<PublicKey>,
    /// The number of the roster that it has.
    roster: u64,
    /// When its certificates are to be renewed, in seconds since 1970.
    due_s: u64,
    reach: Reach,
    reason: String,
    link: Option<Arc<Link>>,
    requests: Option<mpsc::Sender<ControlRequest>>,
    /// Jobs that it has and nobody wants, which it could not be told of while it was away.
    unwanted: VecDeque<String>,
    /// What it has told of its builds; kept while it is away.
    history: Arc<Table>,
}

impl State {
    /// Why it can be given nothing now, if that is so.
    fn reason(&self) -> &str {
        match (self.reach, self.view.standing()) {
            (Reach::Up, Standing::Trouble(why) | Standing::Paused(why)) => why,
            (Reach::Up, Standing::Draining | Standing::Ready) => "",
            (Reach::Pending | Reach::Connecting | Reach::Away, _) => &self.reason,
        }
    }
}

/// A board of the fleet.
pub struct Board {
    id: String,
    state: Mutex<State>,
    sight: watch::Sender<Sighted>,
}

impl Board {
    /// A board that was part of the fleet before, or one that was just seen for the first time.
    pub(super) fn new(view: NodeView, host_key: Option<PublicKey>) -> Self {
        let id = view.id.clone();
        let reason = "it has not been seen since this daemon started".to_owned();
        let state = State {
            view,
            host_key,
            roster: 0,
            due_s: u64::MAX,
            reach: Reach::Away,
            reason,
            link: None,
            requests: None,
            unwanted: VecDeque::new(),
            history: Arc::default(),
        };
        Self { id, state: Mutex::new(state), sight: watch::Sender::new(Sighted::Nowhere) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its connection, if it is up.
    #[must_use]
    pub fn link(&self) -> Option<Arc<Link>> {
        self.state().link.clone()
    }

    /// Its own description.
    #[must_use]
    pub fn node(&self) -> NodeView {
        self.state().view.clone()
    }

    /// What it has told of its builds.
    #[must_use]
    pub fn history(&self) -> Arc<Table> {
        self.state().history.clone()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.state().view.name.clone()
    }

    /// Whether it is part of the fleet.
    pub(super) fn proven(&self) -> bool {
        self.state().host_key.is_some()
    }

    /// Whether it has proved this very host key.
    pub(super) fn has_proved(&self, key: &Fingerprint) -> bool {
        self.key().as_ref() == Some(key)
    }

    /// Whether it can be given work.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.state();
        match state.reach {
            Reach::Up => Health::of(&state.view),
            Reach::Pending | Reach::Connecting | Reach::Away => Health::Away(state.reason.clone()),
        }
    }

    pub(super) fn show(&self) -> BoardView {
        let state = self.state();
        let sight = self.sight.borrow();
        let sight = sight.sight();
        let addresses = sight.map_or(&[][..], |sight| &sight.addresses);
        let announced = sight.map(Sight::host_key);
        let fingerprint = announced.or_else(|| state.host_key.as_ref().map(fingerprint));
        BoardView {
            fingerprint: fingerprint.as_ref().map(fingerprint_of).unwrap_or_default(),
            node: NodeView { history: state.history.revision(), ..state.view.clone() },
            addresses: addresses.iter().map(|address| address_text(*address)).collect(),
            port: addresses.first().map_or(22, std::net::SocketAddr::port),
            host_key: state.host_key.as_ref().and_then(key_text),
            reach: if state.host_key.is_some() { state.reach } else { Reach::Pending },
            reason: state.reason().to_owned(),
            ours: 0,
        }
    }

    /// What lasts of it.
    pub(super) fn known(&self) -> Known {
        let state = self.state();
        let host_key = state.host_key.as_ref().and_then(key_text);
        Known { view: state.view.clone(), host_key }
    }

    /// The host key that it has proved.
    pub(super) fn key(&self) -> Option<Fingerprint> {
        self.state().host_key.as_ref().map(fingerprint)
    }

    /// Where it is seen now, or that it is not, or that it is to go.
    pub(super) fn seen(&self, sighted: Sighted) {
        self.sight.send_if_modified(|now| {
            let new = *now != sighted;
            *now = sighted;
            new
        });
    }

    /// Asks the board for something, if it is up.
    pub(crate) fn ask(&self, request: ControlRequest) -> Result<(), String> {
        let requests = self.state().requests.clone();
        let away = || format!("{} is not connected: {}", self.node().name, self.state().reason);
        let requests = requests.ok_or_else(away)?;
        requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                format!("{} does not take requests as fast as they come", self.node().name)
            }
            mpsc::error::TrySendError::Closed(_) => away(),
        })
    }

    /// Tells the board that a job there is not wanted any more: now, or before it is given anything
    /// when it is back.
    pub(crate) fn forget(&self, job: String) {
        if self.ask(ControlRequest::Cancel(job.clone())).is_ok() {
            return;
        }
        let mut state = self.state();
        if state.unwanted.len() == MAX_UNWANTED {
            state.unwanted.pop_front();
        }
        state.unwanted.push_back(job);
    }

    /// What a board that has described itself is asked for before it is given anything: to end the jobs
    /// that are not wanted any more, and, once a connection, to tell of its builds.
    fn requests(&self, view: &NodeView, shares: &mut bool) -> Vec<ControlRequest> {
        let mut state = self.state();
        let mut requests: Vec<_> = state.unwanted.drain(..).map(ControlRequest::Cancel).collect();
        if !*shares && view.history > 0 {
            *shares = true;
            // It has lost what it told, and begins anew.
            if view.history < state.history.revision() {
                state.history = Arc::default();
            }
            requests.push(ControlRequest::History { since: state.history.revision() });
        }
        requests
    }

    /// Takes in what the board tells of its builds.
    fn learned(&self, context: &Context, entries: Vec<Entry>) {
        let mut state = self.state();
        Arc::make_mut(&mut state.history).merge(entries);
        drop(state);
        context.changed.send_replace(());
    }

    /// Keeps the board connected as long as it is seen. Ends when it is dismissed, and when it has never
    /// been part of the fleet and is not seen any more, or does not prove that it is: anybody on the
    /// network can announce such a one.
    pub(super) async fn run(self: Arc<Self>, context: Arc<Context>) -> Option<Claimed> {
        let mut sights = self.sight.subscribe();
        let mut pause = FIRST_PAUSE;
        let mut told = String::new();
        loop {
            let sighted = sights.borrow_and_update().clone();
            let sight = match sighted {
                Sighted::There(sight) => sight,
                Sighted::Nowhere if self.proven() => {
                    if sights.changed().await.is_err() {
                        return None;
                    }
                    pause = FIRST_PAUSE;
                    continue;
                }
                Sighted::Nowhere | Sighted::Dismissed => {
                    self.gone(&context);
                    return None;
                }
            };
            self.set(&context, Reach::Connecting, "being connected to");
            let name = self.name();
            let target = Target { id: &self.id, name: &name, sight: &sight };
            let (reason, was_up) = match target.connect(&context).await {
                Ok(connected) => {
                    info!(board = name, "connected");
                    told.clear();
                    let dismissed = async {
                        drop(sights.wait_for(|now| *now == Sighted::Dismissed).await);
                    };
                    let reason = tokio::select! {
                        reason = self.attend(&context, &target, connected) => reason,
                        () = dismissed => {
                            // What it builds now is not waited for.
                            if let Some(link) = self.link() {
                                link.cut().await;
                            }
                            "it was revoked".to_owned()
                        }
                    };
                    (reason, true)
                }
                Err(reason) => (reason, false),
            };
            // A board that stays away is no news every few seconds, and a claim that comes to nothing
            // is told of where claims are counted.
            if reason != told && (self.proven() || sight.stage == Stage::Key) {
                warn!(board = name, "{reason}");
                told.clone_from(&reason);
            }
            self.lost(&context, &reason);
            if !self.proven() && sight.stage == Stage::Certificate {
                self.gone(&context);
                return Some(Claimed { key: sight.key, why: reason });
            }
            pause = if was_up { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = sights.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    pause = FIRST_PAUSE;
                }
            }
        }
    }

    /// Removes what was written to connect to it.
    fn gone(&self, context: &Context) {
        if let Err(error) = SshFiles::remove(&context.ssh_dir, &self.id) {
            warn!("{error}");
        }
    }

    /// Listens to the board until the connection is lost; tells why it was.
    async fn attend(&self, context: &Context, target: &Target<'_>, connected: Connected) -> String {
        let Connected { link, control, visited } = connected;
        self.visited(&visited);
        let Process { mut stdin, stdout, child: _child } = control;
        let mut lines = BufReader::new(stdout);
        let (requests, mut asked) = mpsc::channel::<ControlRequest>(16);
        let mut trust = context.trust.changes();
        trust.mark_changed();
        let mut line = Vec::new();
        let (mut up, mut shares) = (false, false);
        loop {
            let patience = if up { Duration::MAX } else { FIRST_LINE_TIMEOUT };
            // `read_until` keeps what it has read in `line` when another branch wins.
            let mut limited = (&mut lines).take(MAX_LINE - line.len() as u64);
            tokio::select! {
                read = timeout(patience, limited.read_until(b'\n', &mut line)) => match read {
                    Err(_) => return "it did not describe itself in time".to_owned(),
                    Ok(Err(error)) => return format!("the connection was lost: {error}"),
                    Ok(Ok(_)) if !line.ends_with(b"\n") => {
                        return "the connection was lost".to_owned();
                    }
                    Ok(Ok(_)) => {
                        match self.told(&line) {
                            Ok(Told::Node(view)) => {
                                let asked = self.requests(&view, &mut shares);
                                for request in asked {
                                    if let Err(why) = send(&mut stdin, &request).await {
                                        return why;
                                    }
                                }
                                self.up(context, *view, &link, &requests);
                                up = true;
                            }
                            Ok(Told::History(entries)) if shares => self.learned(context, entries),
                            Ok(Told::History(_)) => {
                                return "it tells of builds unasked".to_owned();
                            }
                            Err(reason) => return reason,
                        }
                        line.clear();
                    }
                },
                request = asked.recv() => {
                    let Some(request) = request else { continue };
                    if let Err(why) = send(&mut stdin, &request).await {
                        return why;
                    }
                }
                _ = trust.changed(), if up => {}
                () = self.renewal(context), if up => {}
            }
            if up && self.is_behind(context) {
                match target.visit(context, &link, Stage::Certificate).await {
                    Ok(visited) => self.visited(&visited),
                    Err(why) => return why,
                }
            }
        }
    }

    fn visited(&self, visited: &Visited) {
        let mut state = self.state();
        state.host_key = Some(visited.host_key.clone());
        state.roster = visited.roster;
        state.due_s = visited.due_s;
    }

    /// Whether there is something to be told each other: a roster that one of both has not got, or
    /// certificates to be renewed.
    fn is_behind(&self, context: &Context) -> bool {
        let (ours, renews) = context.trust.look(|it| {
            let number = it.membership.roster().map_or(0, |roster| roster.number);
            (number, it.registrar.is_some())
        });
        let state = self.state();
        state.roster.max(state.view.roster) != ours || (renews && (context.now_s)() >= state.due_s)
    }

    /// Returns when its certificates are to be renewed, if that is this machine's to do.
    async fn renewal(&self, context: &Context) {
        if context.trust.look(|it| it.registrar.is_none()) {
            return std::future::pending().await;
        }
        let left_s = self.state().due_s.saturating_sub((context.now_s)());
        tokio::time::sleep(Duration::from_secs(left_s.min(MAX_SLEEP_S))).await;
    }

    fn told(&self, line: &[u8]) -> Result<Told, String> {
        let told = Told::parse(line).map_err(|error| {
            format!("it describes itself in a way this version does not understand: {error}")
        })?;
        let Told::Node(mut view) = told else { return Ok(told) };
        // What Nix is told of it, and people see, has to be what it seems.
        view.systems.retain(|system| kind::System::is_valid(system));
        view.emulated.retain(|system| kind::System::is_valid(system));
        view.features.retain(|feature| kind::Feature::is_valid(feature));
        view.labels = bounded(std::mem::take(&mut view.labels));
        for text in [&mut view.name, &mut view.paused, &mut view.trouble, &mut view.update_note] {
            *text = first_line(text.as_bytes());
        }
        view.slots = view.slots.min(u32::from(Announcement::MAX_SLOTS));
        view.running = view.running.min(MAX_JOBS);
        view.queued = view.queued.min(MAX_JOBS);
        if !NodeView::SPEEDS.contains(&view.speed) {
            view.speed = 0.0;
        }
        if view.id == self.id {
            Ok(Told::Node(view))
        } else {
            Err(format!("it announced the id {} and calls itself {:?}", self.id, view.id))
        }
    }

    fn up(
        &self,
        context: &Context,
        view: NodeView,
        link: &Arc<Link>,
        requests: &mpsc::Sender<ControlRequest>,
    ) {
        let mut state = self.state();
        state.view = view;
        state.reach = Reach::Up;
        state.reason.clear();
        state.link = Some(link.clone());
        state.requests = Some(requests.clone());
        drop(state);
        context.changed.send_replace(());
    }

    fn lost(&self, context: &Context, reason: &str) {
        let mut state = self.state();
        state.link = None;
        state.requests = None;
        drop(state);
        self.set(context, Reach::Away, reason);
    }

    fn set(&self, context: &Context, reach: Reach, reason: &str) {
        let mut state = self.state();
        let first_try = reach == Reach::Connecting && state.reason.is_empty();
        state.reach = reach;
        // While it is tried again, what went wrong last is what people want to read.
        if reach != Reach::Connecting || first_try {
            reason.clone_into(&mut state.reason);
        }
        drop(state);
        context.changed.send_replace(());
    }
}

/// Labels as a configuration may have them; others are left out.
fn bounded(labels: BTreeSet<String>) -> BTreeSet<String> {
    let fits =
        |label: &String| label.len() <= NodeView::MAX_LABEL_BYTES && kind::Feature::is_valid(label);
    labels.into_iter().filter(fits).take(NodeView::MAX_LABELS).collect()
}

/// Sends a request to a board; an error is why it is away now.
async fn send(
    stdin: &mut (impl AsyncWrite + Unpin),
    request: &ControlRequest,
) -> Result<(), String> {
    let mut text = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    text.push(b'\n');
    match timeout(WRITE_TIMEOUT, stdin.write_all(&text)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the connection was lost: {error}")),
        Err(_) => Err("it does not take requests any more".to_owned()),
    }
}
