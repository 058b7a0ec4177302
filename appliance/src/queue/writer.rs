//! The thread that owns the database: takes requests in batches, one flush for each batch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Durability, Limits, QueueError,
    open::{self, Opened},
    store::{Store, StoreError},
};
use crate::model::{Job, JobId, JobState};

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// Requests answered by one flush, at most: bounds memory and the first one's patience.
const MAX_BATCH: usize = 128;

/// Changes that may wait for a flush that nobody asked for yet.
const MAX_UNSAVED: usize = 256;

/// What a handle asks the writer for. Records are encoded already.
#[derive(Debug)]
pub(super) enum Request {
    Accept {
        id: JobId,
        standing: Standing,
        record: Vec<u8>,
        payload: Vec<u8>,
        reply: Reply<()>,
    },
    Update {
        id: JobId,
        standing: Standing,
        record: Vec<u8>,
        durability: Durability,
        reply: Reply<()>,
    },
    Payload {
        id: JobId,
        reply: Reply<Option<Vec<u8>>>,
    },
    Remove {
        id: JobId,
        reply: Reply<()>,
    },
    Learn {
        rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        reply: Reply<()>,
    },
    Prune {
        now_s: u64,
        reply: Reply<Vec<JobId>>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// All that the writer remembers of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Unfinished,
    Done { at_s: u64 },
}

impl Standing {
    pub(super) fn of(job: &Job) -> Self {
        match job.state {
            JobState::Queued | JobState::Running { .. } => Self::Unfinished,
            JobState::Done { at_s, .. } => Self::Done { at_s },
        }
    }
}

/// The jobs in the queue, without their records.
#[derive(Debug, Default)]
struct Index {
    jobs: HashMap<JobId, Standing>,
    done: BTreeSet<(u64, JobId)>,
}

impl Index {
    fn unfinished(&self) -> usize {
        self.jobs.len() - self.done.len()
    }

    /// Sets or forgets a job and returns what was there.
    fn set(&mut self, id: &JobId, standing: Option<Standing>) -> Option<Standing> {
        let before = match standing {
            Some(standing) => self.jobs.insert(id.clone(), standing),
            None => self.jobs.remove(id),
        };
        if let Some(Standing::Done { at_s }) = before {
            self.done.remove(&(at_s, id.clone()));
        }
        if let Some(Standing::Done { at_s }) = standing {
            self.done.insert((at_s, id.clone()));
        }
        before
    }

    /// Finished jobs that are too many or too old, oldest first.
    fn overdue(&self, limits: Limits, now_s: u64) -> Vec<JobId> {
        let too_many = self.done.len().saturating_sub(limits.max_done);
        self.done
            .iter()
            .enumerate()
            .take_while(|(n, (at_s, _))| {
                *n < too_many || now_s.saturating_sub(*at_s) > limits.done_age_s
            })
            .map(|(_, (_, id))| id.clone())
            .collect()
    }
}

/// A change to a job that is in the queue.
#[derive(Clone, Debug)]
enum Change {
    /// The record of an unfinished job.
    Unfinished(Vec<u8>),
    /// The record of a finished job, whose payload goes.
    Done(Vec<u8>),
    Remove,
}

/// Whether sled can be used.
enum Disk {
    Open(Store),
    /// It failed, and is opened again by the next request.
    Failed,
}

/// A job that is accepted if the flush succeeds.
struct Accepted {
    id: JobId,
    /// The finished job that it replaces, with its record.
    before: Option<(Standing, Vec<u8>)>,
    reply: Reply<()>,
}

/// What waits for the flush at the end of a batch.
#[derive(Default)]
struct Waiting {
    accepted: Vec<Accepted>,
    changed: Vec<Reply<()>>,
    flush: bool,
}

pub(super) struct Writer {
    dir: PathBuf,
    limits: Limits,
    index: Index,
    disk: Disk,
    /// Changes to accepted jobs that are not known to be on the medium.
    unsaved: BTreeMap<JobId, Change>,
    /// The same of the history: by key, what it is now.
    unsaved_history: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Held, never used.
    _lock: File,
}

impl Writer {
    pub(super) fn new(dir: &Path, limits: Limits, opened: Opened, jobs: &[Job]) -> Self {
        let mut index = Index::default();
        for job in jobs {
            index.set(&job.id(), Some(Standing::of(job)));
        }
        Self {
            dir: dir.to_owned(),
            limits,
            index,
            disk: Disk::Open(opened.store),
            unsaved: BTreeMap::new(),
            unsaved_history: BTreeMap::new(),
            _lock: opened.lock,
        }
    }

    /// Starts the thread; it ends with [`Request::Close`] or when the last sender is gone.
    pub(super) fn spawn(self, inbox: mpsc::Receiver<Request>) -> Result<(), QueueError> {
        std::thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || self.run(inbox))
            .map(drop)
            .map_err(|error| QueueError::Disk {
                doing: "start the queue's thread",
                reason: error.to_string(),
            })
    }

    fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = inbox.blocking_recv() else { break };
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(next) = inbox.try_recv() else { break };
                batch.push(next);
            }
            closing = self.serve(batch);
        }
        inbox.close();
        let closed = self.flush();
        drop(self);
        if let Some(reply) = closing {
            answer(reply, closed);
        }
    }

    /// Serves a batch; returns the reply of a request to close.
    fn serve(&mut self, batch: Vec<Request>) -> Option<Reply<()>> {
        let mut waiting = Waiting::default();
        let mut closing = None;
        for request in batch {
            match request {
                Request::Accept { id, standing, record, payload, reply } => {
                    self.accept(&mut waiting, id, standing, &record, &payload, reply);
                }
                Request::Update { id, standing, record, durability, reply } => {
                    self.update(&mut waiting, &id, standing, record, durability, reply);
                }
                Request::Payload { id, reply } => answer(reply, self.payload(&mut waiting, &id)),
                Request::Remove { id, reply } => {
                    self.change(&mut waiting, &id, None, Change::Remove);
                    waiting.flush = true;
                    waiting.changed.push(reply);
                }
                Request::Learn { rows, reply } => {
                    self.learn(&mut waiting, rows);
                    answer(reply, Ok(()));
                }
                Request::Prune { now_s, reply } => {
                    let overdue = self.index.overdue(self.limits, now_s);
                    for id in &overdue {
                        self.change(&mut waiting, id, None, Change::Remove);
                    }
                    answer(reply, Ok(overdue));
                }
                Request::Close { reply } => closing = Some(reply),
            }
        }
        let unsaved = self.unsaved.len().max(self.unsaved_history.len());
        if waiting.flush || unsaved >= MAX_UNSAVED {
            match self.flush() {
                Ok(()) => self.settle(&mut waiting, &Ok(())),
                Err(error) => self.fail(&mut waiting, &error),
            }
        }
        closing
    }
}

impl Writer {
    fn accept(
        &mut self,
        waiting: &mut Waiting,
        id: JobId,
        standing: Standing,
        record: &[u8],
        payload: &[u8],
        reply: Reply<()>,
    ) {
        if self.index.jobs.get(&id) == Some(&Standing::Unfinished) {
            return answer(reply, Err(QueueError::Exists(id)));
        }
        let held = self.index.unfinished();
        if held >= self.limits.max_jobs {
            return answer(reply, Err(QueueError::Full { held }));
        }
        let written = self.write(waiting, |store| {
            let before = store.job(&id)?;
            store.put_payload(&id, payload)?;
            store.put_job(&id, record)?;
            Ok(before)
        });
        match written {
            Err(error) => answer(reply, Err(error)),
            Ok(before) => {
                // What was not written of the replaced record is of no use any more.
                self.unsaved.remove(&id);
                let standing = self.index.set(&id, Some(standing));
                let before = standing.zip(before);
                waiting.accepted.push(Accepted { id, before, reply });
                waiting.flush = true;
            }
        }
    }

    fn update(
        &mut self,
        waiting: &mut Waiting,
        id: &JobId,
        standing: Standing,
        record: Vec<u8>,
        durability: Durability,
        reply: Reply<()>,
    ) {
        if !self.index.jobs.contains_key(id) {
            return answer(reply, Err(QueueError::NotFound(id.clone())));
        }
        let change = match standing {
            Standing::Unfinished => Change::Unfinished(record),
            Standing::Done { .. } => Change::Done(record),
        };
        self.change(waiting, id, Some(standing), change);
        match durability {
            Durability::Later => answer(reply, Ok(())),
            Durability::Now => {
                waiting.flush = true;
                waiting.changed.push(reply);
            }
        }
    }

    /// Makes a change to an accepted job: remembered until it is on the medium, whatever the disk
    /// says now.
    fn change(
        &mut self,
        waiting: &mut Waiting,
        id: &JobId,
        standing: Option<Standing>,
        change: Change,
    ) {
        if self.index.set(id, standing).is_none() {
            return;
        }
        if let Disk::Open(store) = &mut self.disk {
            if let Err(error) = change.apply(store, id) {
                self.fail(waiting, &error.into());
            }
        }
        self.unsaved.insert(id.clone(), change);
    }

    /// Changes the history: remembered as a [`Writer::change`] is.
    fn learn(&mut self, waiting: &mut Waiting, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        for (key, record) in rows {
            if let Disk::Open(store) = &mut self.disk {
                if let Err(error) = store.put_history(&key, record.as_deref()) {
                    self.fail(waiting, &error.into());
                }
            }
            self.unsaved_history.insert(key, record);
        }
    }

    fn payload(
        &mut self,
        waiting: &mut Waiting,
        id: &JobId,
    ) -> Result<Option<Vec<u8>>, QueueError> {
        if self.index.jobs.get(id) != Some(&Standing::Unfinished) {
            return Ok(None);
        }
        match self.ready()?.payload(id) {
            // The others may be fine.
            Err(StoreError::Damaged(reason)) => {
                Err(QueueError::Unreadable { id: id.clone(), reason })
            }
            Err(error) => {
                let error = error.into();
                self.fail(waiting, &error);
                Err(error)
            }
            Ok(None) => {
                Err(QueueError::Unreadable { id: id.clone(), reason: "it is gone".to_owned() })
            }
            Ok(payload) => Ok(payload),
        }
    }

    /// Uses the store, opening it if need be; what fails closes it.
    fn write<T>(
        &mut self,
        waiting: &mut Waiting,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, QueueError> {
        let written = work(self.ready()?).map_err(QueueError::from);
        if let Err(error) = &written {
            self.fail(waiting, error);
        }
        written
    }

    /// The open store. After a failure it is opened again and brought in line with what was
    /// promised: refused jobs that reached the disk go, changes that did not are made again.
    fn ready(&mut self) -> Result<&mut Store, QueueError> {
        if let Disk::Failed = self.disk {
            let (mut store, found) = open::reopen(&self.dir)?;
            let known: HashSet<_> =
                self.index.jobs.keys().map(|id| id.as_str().as_bytes()).collect();
            for id in found.jobs.iter().filter(|id| !known.contains(id.as_slice())) {
                store.remove_job(id)?;
            }
            for id in found.payloads.iter().filter(|id| !known.contains(id.as_slice())) {
                store.remove_payload(id)?;
            }
            for (id, change) in &self.unsaved {
                change.apply(&mut store, id)?;
            }
            for (key, record) in &self.unsaved_history {
                store.put_history(key, record.as_deref())?;
            }
            store.sync()?;
            self.saved();
            self.disk = Disk::Open(store);
        }
        match &mut self.disk {
            Disk::Open(store) => Ok(store),
            Disk::Failed => Err(QueueError::Closed),
        }
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        self.ready()?.sync()?;
        self.saved();
        Ok(())
    }

    fn saved(&mut self) {
        self.unsaved.clear();
        self.unsaved_history.clear();
    }

    /// Closes a store that failed and answers everything that counted on it.
    fn fail(&mut self, waiting: &mut Waiting, error: &QueueError) {
        if let Disk::Open(store) = std::mem::replace(&mut self.disk, Disk::Failed) {
            store.abandon();
        }
        self.settle(waiting, &Err(error.clone()));
    }

    /// Answers everything that waits for the flush. What was to be accepted and is not on disk is
    /// taken back.
    fn settle(&mut self, waiting: &mut Waiting, flushed: &Result<(), QueueError>) {
        for Accepted { id, before, reply } in std::mem::take(&mut waiting.accepted) {
            if flushed.is_err() {
                let (standing, record) = before.unzip();
                self.index.set(&id, standing);
                // The record that was replaced may be gone from the disk: it is written again.
                if let Some(record) = record {
                    self.unsaved.insert(id, Change::Done(record));
                }
            }
            answer(reply, flushed.clone());
        }
        for reply in std::mem::take(&mut waiting.changed) {
            answer(reply, flushed.clone());
        }
        waiting.flush = false;
    }
}

impl Change {
    fn apply(&self, store: &mut Store, id: &JobId) -> Result<(), StoreError> {
        match self {
            Self::Unfinished(record) => store.put_job(id, record),
            Self::Done(record) => {
                store.put_job(id, record)?;
                store.remove_payload(id.as_str().as_bytes())
            }
            Self::Remove => {
                store.remove_job(id.as_str().as_bytes())?;
                store.remove_payload(id.as_str().as_bytes())
            }
        }
    }
}

/// The asker may have stopped waiting.
fn answer<T>(reply: Reply<T>, result: Result<T, QueueError>) {
    let _ = reply.send(result);
}
