//! Finding boards: a browser at Avahi, and a resolver for each service that it finds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
};

use board_support::{Announcement, Record};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep, sleep_until},
};
use zbus::{Message, MessageStream, names::MemberName, zvariant::OwnedObjectPath};

use super::{
    avahi::{
        ANY, Complaint, Daemon, Found, Item, LOOKUP_RESULT_LOCAL, SERVICE_BROWSER, SERVICE_RESOLVER,
    },
    complaints::Complaints,
    directory::BoardKey,
    outbox::Outbox,
    places::Places,
    presence::Presence,
    sighting::{Protocol, Seen, Sighting, Source, rank, socket_addr},
};
use crate::{
    bus::link::{Backoff, hung_up},
    names::SERVICE_TYPE,
};

/// Most services that are resolved at once. avahi-daemon grants a client 1024 objects
/// (`objects-per-client-max`).
const MAX_SERVICES: usize = 1000;
/// Most calls under way at once.
const MAX_CALLS: usize = 16;
/// Most addresses that are kept of one source.
const MAX_ADDRESSES: usize = 4;

/// How long after Avahi has listed everything it knows a board may still be missing: Avahi says so
/// a second after it was started, when hosts have hardly been asked.
const GRACE: Duration = Duration::from_secs(10);

/// Which boards are never given up for others.
pub(super) type Matters = Box<dyn Fn(&Announcement) -> bool + Send + Sync>;

/// Tells of boards, with every Avahi that comes, until nobody listens any more. What was seen
/// through one Avahi stays until its successor has listed what there is.
pub(super) async fn keep_browsing(
    mut presence: watch::Receiver<Presence>,
    listener: mpsc::Sender<Sighting>,
    matters: Matters,
) {
    let mut outbox = Outbox::default();
    let mut backoff = Backoff::new();
    let mut complaints = Complaints::new(1);
    loop {
        let now = presence.borrow_and_update().clone();
        let mut pause = None;
        if let Presence::Up(daemon) = now {
            let session = Session::new(&daemon, &mut outbox, &mut complaints, &matters);
            tokio::select! {
                end = session.run(&listener, &mut backoff) => {
                    let Err(error) = end else { return };
                    let wait = backoff.step();
                    tracing::warn!(%error, retry_s = wait.as_secs(), "{}", advice(&error));
                    pause = Some(wait);
                }
                changed = presence.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        tokio::select! {
            changed = presence.changed() => if changed.is_err() { return },
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            () = listener.closed() => return,
        }
    }
}

fn advice(error: &zbus::Error) -> &'static str {
    match Complaint::of(error) {
        Some(Complaint::TooOld) => "cannot browse: Avahi is older than version 0.8",
        _ => "browsing through Avahi ended; trying again",
    }
}

/// A call to be made.
enum Work {
    /// Make a resolver for a service.
    Resolve(Source, u64),
    /// Free an object with this interface.
    Free(OwnedObjectPath, &'static str),
}

/// A call that has ended.
enum Done {
    /// A resolver was made for the service with this ticket.
    Prepared(Source, u64, zbus::Result<OwnedObjectPath>),
    /// It was started.
    Started(Source, u64, zbus::Result<()>),
    /// An object was freed.
    Freed(zbus::Result<()>),
}

/// A service that the browser lists.
struct Listed {
    /// Tells it from an earlier service with the same name.
    ticket: u64,
    /// Its resolver, once there is one.
    resolver: Option<OwnedObjectPath>,
    /// Its addresses, newest first.
    addresses: Vec<IpAddr>,
}

/// Browsing through one Avahi. Calls run beside the signals, which are always read: a reply is
/// behind the signals that were sent before it, and on a full queue everything would wait.
struct Session<'a> {
    daemon: &'a Daemon,
    outbox: &'a mut Outbox,
    complaints: &'a mut Complaints,
    listed: HashMap<Source, Listed>,
    resolvers: HashMap<OwnedObjectPath, Source>,
    browser: Option<OwnedObjectPath>,
    /// Calls to be made when others have ended: at most one for each service listed, and those
    /// that free what came before.
    work: VecDeque<Work>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    tickets: u64,
    matters: &'a Matters,
    places: Places,
    full: bool,
    /// When what is still not listed, but was before, is gone.
    settled: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(
        daemon: &'a Daemon,
        outbox: &'a mut Outbox,
        complaints: &'a mut Complaints,
        matters: &'a Matters,
    ) -> Self {
        Self {
            daemon,
            outbox,
            complaints,
            listed: HashMap::new(),
            resolvers: HashMap::new(),
            browser: None,
            work: VecDeque::new(),
            calls: FuturesUnordered::new(),
            tickets: 0,
            matters,
            places: Places::new(MAX_SERVICES),
            full: false,
            settled: None,
        }
    }

    /// Runs until something fails or nobody listens any more, and then frees what it has at Avahi.
    async fn run(
        mut self,
        listener: &mpsc::Sender<Sighting>,
        backoff: &mut Backoff,
    ) -> zbus::Result<()> {
        let end = tokio::select! {
            end = self.follow(listener, backoff) => end,
            () = listener.closed() => Ok(()),
        };
        self.clean_up().await;
        end
    }

    async fn clean_up(&mut self) {
        self.listed.clear();
        self.work.clear();
        let browser = self.browser.take().map(|path| Work::Free(path, SERVICE_BROWSER));
        let resolvers = self.resolvers.drain().map(|(path, _)| Work::Free(path, SERVICE_RESOLVER));
        self.work.extend(browser.into_iter().chain(resolvers));
        loop {
            self.begin_work();
            let Some(done) = self.calls.next().await else { return };
            self.on_done(done);
        }
    }

    async fn follow(
        &mut self,
        listener: &mpsc::Sender<Sighting>,
        backoff: &mut Backoff,
    ) -> zbus::Result<()> {
        let mut found = self.daemon.signals(SERVICE_RESOLVER, None).await?;
        let browser = self.daemon.prepare_browser(SERVICE_TYPE).await?;
        self.browser = Some(browser.clone());
        let mut items = self.daemon.signals(SERVICE_BROWSER, Some(&browser)).await?;
        let start = self.daemon.start(&browser, SERVICE_BROWSER);
        tokio::pin!(start);
        let mut started = false;
        loop {
            let room = self.places.next_room();
            tokio::select! {
                result = &mut start, if !started => {
                    result?;
                    started = true;
                    backoff.reset();
                }
                item = next(&mut items) => self.on_browser(&item?)?,
                found = next(&mut found) => self.on_resolver(&found?)?,
                Some(done) = self.calls.next() => self.on_done(done),
                () = sleep_until(room.unwrap_or_else(Instant::now)), if room.is_some() => {
                    self.fill_places();
                }
                () = sleep_until(self.settled.unwrap_or_else(Instant::now)), if self.settled.is_some() => {
                    self.settled = None;
                    let present: HashSet<_> = self.listed.keys().cloned().collect();
                    self.outbox.keep(&present);
                }
                Ok(room) = listener.reserve(), if !self.outbox.is_empty() => {
                    if let Some(sighting) = self.outbox.next() {
                        room.send(sighting);
                    }
                }
            }
            self.begin_work();
        }
    }

    fn on_browser(&mut self, signal: &Message) -> zbus::Result<()> {
        match signal.header().member().map(MemberName::as_str) {
            Some("ItemNew") => self.on_new(signal.body().deserialize()?),
            Some("ItemRemove") => self.on_remove(signal.body().deserialize()?),
            Some("AllForNow") => self.settled = Some(Instant::now() + GRACE),
            Some("Failure") => {
                let reason: String = signal.body().deserialize()?;
                return Err(zbus::Error::Failure(reason));
            }
            _ => {}
        }
        Ok(())
    }

    fn on_new(&mut self, item: Item) {
        let flags = item.5;
        let Some(source) = source_of(item) else { return };
        if flags & LOOKUP_RESULT_LOCAL != 0 || self.listed.contains_key(&source) {
            return;
        }
        let ignored = source.to_string();
        if !self.places.ask(source) && !self.full {
            tracing::warn!(ignored, "too many services are announced; some are not looked at");
            self.full = true;
        }
        self.fill_places();
    }

    /// Looks at services that wait for it, as long as there is room.
    fn fill_places(&mut self) {
        while let Some((source, leaves)) = self.places.next(self.tickets + 1, Instant::now()) {
            if let Some(leaves) = leaves {
                self.unlist(&leaves);
            }
            self.tickets += 1;
            let listed = Listed { ticket: self.tickets, resolver: None, addresses: Vec::new() };
            self.listed.insert(source.clone(), listed);
            self.work.push_back(Work::Resolve(source, self.tickets));
        }
    }

    fn on_remove(&mut self, item: Item) {
        if let Some(source) = source_of(item) {
            self.forget(&source);
            self.full = false;
        }
    }

    fn forget(&mut self, source: &Source) {
        self.places.leave(source);
        self.unlist(source);
        self.fill_places();
    }

    fn unlist(&mut self, source: &Source) {
        self.outbox.set(source, None);
        match self.listed.remove(source) {
            Some(Listed { resolver: Some(resolver), .. }) => {
                self.resolvers.remove(&resolver);
                self.work.push_back(Work::Free(resolver, SERVICE_RESOLVER));
            }
            Some(Listed { resolver: None, .. }) => {
                self.work.retain(|work| !matches!(work, Work::Resolve(at, _) if at == source));
            }
            None => {}
        }
    }

    /// Makes the calls that are to be made, some at a time.
    fn begin_work(&mut self) {
        while self.calls.len() < MAX_CALLS {
            let Some(work) = self.work.pop_front() else { return };
            let daemon = self.daemon.clone();
            let call = async move {
                match work {
                    Work::Resolve(source, ticket) => {
                        let interface = i32::try_from(source.interface).unwrap_or(ANY);
                        let name = (source.instance.as_str(), SERVICE_TYPE, source.domain.as_str());
                        let place = (interface, source.protocol as i32);
                        let prepared = daemon.prepare_resolver(place, name).await;
                        Done::Prepared(source, ticket, prepared)
                    }
                    Work::Free(path, interface) => Done::Freed(daemon.free(&path, interface).await),
                }
            };
            self.calls.push(call.boxed());
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Prepared(source, ticket, Ok(resolver)) => {
                let listed = self.listed.get_mut(&source).filter(|listed| listed.ticket == ticket);
                let Some(listed) = listed else {
                    return self.work.push_back(Work::Free(resolver, SERVICE_RESOLVER));
                };
                listed.resolver = Some(resolver.clone());
                self.resolvers.insert(resolver.clone(), source.clone());
                let daemon = self.daemon.clone();
                let call = async move {
                    let started = daemon.start(&resolver, SERVICE_RESOLVER).await;
                    Done::Started(source, ticket, started)
                };
                self.calls.push(call.boxed());
            }
            Done::Prepared(source, ticket, Err(error))
            | Done::Started(source, ticket, Err(error)) => {
                if self.listed.get(&source).is_some_and(|listed| listed.ticket == ticket) {
                    self.forget(&source);
                    self.complaints.warn(|| format!("cannot resolve {source}: {error}"));
                }
            }
            Done::Freed(Err(error)) => tracing::debug!(%error, "Avahi did not free an object"),
            Done::Started(_, _, Ok(())) | Done::Freed(Ok(())) => {}
        }
    }

    fn on_resolver(&mut self, signal: &Message) -> zbus::Result<()> {
        let header = signal.header();
        let Some(path) = header.path() else { return Ok(()) };
        // Avahi 0.8 resolves from `Prepare` on, not from `Start`. The reply that tells the path
        // came before this signal, but may still wait to be looked at.
        while !self.resolvers.contains_key(path) {
            let Some(done) = self.calls.next().now_or_never().flatten() else { return Ok(()) };
            self.on_done(done);
        }
        let Some(source) = self.resolvers.get(path).cloned() else { return Ok(()) };
        match header.member().map(MemberName::as_str) {
            Some("Found") => self.on_found(&source, signal.body().deserialize()?),
            // The resolver goes on and tells when an answer comes after all.
            Some("Failure") => {
                let reason: String = signal.body().deserialize()?;
                tracing::debug!(%source, reason, "not resolved yet");
                self.outbox.set(&source, None);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_found(&mut self, source: &Source, found: Found) {
        let (_, _, _, _, _, _, _, address, port, txt, flags) = found;
        let Some(listed) = self.listed.get_mut(source) else { return };
        if flags & LOOKUP_RESULT_LOCAL != 0 {
            return;
        }
        if let Ok(address) = address.parse() {
            listed.addresses.retain(|known| *known != address);
            listed.addresses.insert(0, address);
            listed.addresses.truncate(MAX_ADDRESSES);
        }
        let addresses: Vec<_> = listed
            .addresses
            .iter()
            .map(|ip| socket_addr(*ip, port, source.interface))
            .filter(|address| rank(address).is_some())
            .collect();
        let seen = match Record::decode(txt.iter().map(Vec::as_slice)) {
            Ok(announcement) if !addresses.is_empty() => {
                Some(Box::new(Seen { source: source.clone(), announcement, addresses, port }))
            }
            Ok(_) => None,
            Err(error) => {
                self.complaints.warn(|| format!("ignoring the board {source}: {error}"));
                None
            }
        };
        let board = seen.as_ref().map(|seen| &seen.announcement);
        let board = board.filter(|board| (self.matters)(board)).map(BoardKey::of);
        self.outbox.set(source, seen);
        self.places.note(source, board);
        self.fill_places();
    }
}

async fn next(signals: &mut MessageStream) -> zbus::Result<Message> {
    signals.next().await.ok_or_else(hung_up)?
}

fn source_of((interface, protocol, instance, _, domain, _): Item) -> Option<Source> {
    let protocol = match protocol {
        0 => Protocol::Ipv4,
        1 => Protocol::Ipv6,
        _ => return None,
    };
    Some(Source { instance, domain, interface: interface.try_into().ok()?, protocol })
}
