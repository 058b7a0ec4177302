//! Durable jobs. The only place that knows sled.
//!
//! # What is promised
//!
//! [`Queue::accept`] returns when the job's record and its payload are on the medium: sled's own
//! flush ends in `sync_file_range(2)`, which writes neither the file's size nor the drive's cache,
//! so `fdatasync(2)` of sled's file follows. What was accepted survives power loss; what was not
//! accepted was never promised and leaves nothing behind.
//!
//! # How it is made
//!
//! One thread owns the database ([`writer`]). Whatever waits when a flush ends goes into the next
//! one, so a hundred jobs accepted at once cost a few flushes, not a hundred. Nothing is written
//! that nobody asked for: no periodic flush, and a state change rewrites the small record but
//! never the payload, which is written once at acceptance and removed when the job ends.
//!
//! Two sled trees: `jobs` (job id to record) and `payloads` (job id and chunk number to a chunk,
//! so that no page of sled's outgrows what it keeps in its main file). A record is a version byte
//! and CBOR. A third, `set-aside`, keeps what could not be read back, with its tree and key. A fourth,
//! `history`, holds what earlier builds tell ([`Table`]), a record for each package. It is written with
//! whatever is flushed next, and what of it cannot be read back is dropped: it is learned again.
//!
//! # Damage
//!
//! sled may panic or stall on damaged files. Opening happens in a thread of its own, guarded and
//! with a deadline. A database that cannot be read is renamed to `<dir>.damaged-<n>`; what can
//! still be read of it moves into a new one; [`Recovery`] tells what happened. A sled that failed
//! while running (disk full, say) is closed and opened again by the next request, and is then
//! brought in line with what was promised. Only [`QueueError::Broken`] and [`QueueError::Stalled`]
//! need a new process: the next start repairs.
//!
//! sled truncates its log where it finds damage, so a damaged file can also mean jobs that are
//! simply not there any more. Their folders of garbage-collection roots still are:
//! [`roots::Roots::sweep`] names them.

pub mod logs;
mod open;
mod record;
pub mod roots;
pub mod rules;
mod slack;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    learn::{Changes, Table},
    model::{Job, JobId, Payload},
};
use writer::{Reply, Request};

/// Bounds of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished jobs held; more are refused.
    pub max_jobs: usize,
    /// Finished records kept.
    pub max_done: usize,
    /// How long finished records are kept, in seconds.
    pub done_age_s: u64,
}

impl Default for Limits {
    /// 10,000 jobs, 1,000 finished records, a week.
    fn default() -> Self {
        Self { max_jobs: 10_000, max_done: 1_000, done_age_s: 7 * 24 * 3600 }
    }
}

/// When a change has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the call returns.
    Now,
    /// With the next change that asks for [`Durability::Now`], or when the queue is closed. Power
    /// loss may undo it, in order: never this change and not an earlier one.
    Later,
}

/// What was found when the queue was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Every job, oldest first, as it stands now: what was running is queued again, or done if it
    /// died too often or its payload cannot be read.
    pub jobs: Vec<Job>,
    /// Jobs whose state was changed by opening; the last note of each says why.
    pub changed: Vec<JobId>,
    /// Records that could not be read, kept in the `set-aside` tree.
    pub set_aside: Vec<SetAside>,
    /// Payloads without a job, removed: left by a power cut during an acceptance that was never
    /// answered, or all that damage has left of a job.
    pub orphans: Vec<String>,
    /// What earlier builds here tell.
    pub history: Table,
    /// Records of it that could not be read, and are gone.
    pub forgotten: Vec<SetAside>,
    /// The damaged database, if there was one.
    pub damage: Option<Damage>,
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Tree and key, such as `jobs/0c8…`.
    pub key: String,
    /// Why, in plain words.
    pub reason: String,
}

/// A database that could not be used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it is now.
    pub moved_to: PathBuf,
    /// What was wrong with it.
    pub reason: String,
    /// Jobs of it that could still be read; they are in the new database.
    pub salvaged: usize,
}

/// Why the queue could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// Another process has the queue open.
    #[error("{path} is locked: another roost daemon uses this queue; stop it first", path = .0.display())]
    Locked(PathBuf),
    /// A file operation beside sled failed.
    #[error("cannot {doing} {path}: {source}", path = .path.display())]
    File {
        /// What was tried, such as `create`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// Too many unfinished jobs.
    #[error(
        "the queue holds {held} jobs, its limit; try again when some have ended, or raise queue.max_jobs"
    )]
    Full {
        /// Unfinished jobs held.
        held: usize,
    },
    /// The job is there already, and unfinished.
    #[error("job {0} is in the queue already")]
    Exists(JobId),
    /// The job is not there.
    #[error("job {0} is not in the queue")]
    NotFound(JobId),
    /// The payload is larger than anything Nix would send.
    #[error("the derivation of job {id} takes {bytes} bytes; at most {max} are accepted", max = record::MAX_PAYLOAD_BYTES)]
    TooLarge {
        /// The job.
        id: JobId,
        /// Encoded size.
        bytes: usize,
    },
    /// The payload cannot be read back.
    #[error("the derivation of job {id} cannot be read back ({reason}); send the job again")]
    Unreadable {
        /// The job.
        id: JobId,
        /// Why not.
        reason: String,
    },
    /// The disk, the quota or the file size limit is reached.
    #[error("no space left to {doing}: {reason}; free some, the queue goes on by itself")]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The database could not be read or written; the next request tries again.
    #[error(
        "cannot {doing}: {reason}; check the disk, the queue tries again with the next request"
    )]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// The system's or sled's words.
        reason: String,
    },
    /// sled is damaged, or gave up in this process.
    #[error("the queue's database failed ({reason}); restart the daemon, which sets damage aside")]
    Broken {
        /// What happened.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "the queue's disk did not answer within {waited_s} s; check the disk, then restart the daemon"
    )]
    Stalled {
        /// Time waited, in seconds.
        waited_s: u64,
    },
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
}

/// Requests that may wait for the writer before callers wait to hand theirs over.
const REQUESTS: usize = 256;

/// How long a request may take. An SD card that collects its garbage has been seen to stop for
/// ten seconds; a minute is a broken one.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The open queue. Cheap to clone; the database closes when the last clone is gone, or in an
/// orderly way by [`Queue::close`].
#[derive(Clone, Debug)]
pub struct Queue {
    requests: mpsc::Sender<Request>,
}

impl Queue {
    /// Opens or creates the queue in `dir` and recovers what it holds. A job that ran on one
    /// of the nodes `own` died with this daemon; one that ran on another is still there. `now_s` (seconds since
    /// 1970) dates the notes that recovery adds. Blocks: meant to be called before the runtime
    /// serves anybody, or through `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Locked`] if another daemon has it; [`QueueError::File`],
    /// [`QueueError::NoSpace`] or [`QueueError::Disk`] if the folder cannot be used. Damage is no
    /// error: it is in the [`Recovery`]. Only damage that leaves sled unusable in this process is
    /// [`QueueError::Broken`]; by then it is set aside, and the next start is clean.
    pub fn open(
        dir: &Path,
        limits: Limits,
        own: &[String],
        now_s: u64,
    ) -> Result<(Self, Recovery), QueueError> {
        let (opened, recovery) = open::recover(dir, own, now_s)?;
        let (requests, inbox) = mpsc::channel(REQUESTS);
        writer::Writer::new(dir, limits, opened, &recovery.jobs).spawn(inbox)?;
        Ok((Self { requests }, recovery))
    }

    /// Takes a job in. When this returns `Ok`, job and payload are on disk; when it returns an
    /// error, the job is not in the queue and will not be after a restart either (except after
    /// [`QueueError::Stalled`], when nobody knows). A finished job of the same id is replaced.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    ///
    /// [`QueueError::Full`], [`QueueError::Exists`], [`QueueError::TooLarge`], or what the disk
    /// said.
    pub async fn accept(&self, job: &Job, payload: &Payload) -> Result<(), QueueError> {
        let id = job.id();
        let payload = record::encode_payload(payload)?;
        if payload.len() > record::MAX_PAYLOAD_BYTES {
            return Err(QueueError::TooLarge { id, bytes: payload.len() });
        }
        let (standing, record) = (writer::Standing::of(job), record::encode_job(job)?);
        self.ask(|reply| Request::Accept { id, standing, record, payload, reply }).await
    }

    /// Writes a job's new state. A job that is now done loses its payload.
    ///
    /// On an error the change is not on disk, but it is remembered: it is written with the next
    /// request that succeeds, so the caller goes on with the new state.
    ///
    /// # Errors
    ///
    /// [`QueueError::NotFound`], or what the disk said.
    pub async fn update(&self, job: &Job, durability: Durability) -> Result<(), QueueError> {
        let (id, standing) = (job.id(), writer::Standing::of(job));
        let record = record::encode_job(job)?;
        self.ask(|reply| Request::Update { id, standing, record, durability, reply }).await
    }

    /// What an unfinished job is to build; `None` if the job is done or not there.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unreadable`] if it is damaged, or what the disk said.
    pub async fn payload(&self, id: &JobId) -> Result<Option<Payload>, QueueError> {
        let bytes = self.ask(|reply| Request::Payload { id: id.clone(), reply }).await?;
        bytes.map(|bytes| record::decode_payload(id, &bytes)).transpose()
    }

    /// Forgets a job, durably. A job that is not there is no error.
    ///
    /// # Errors
    ///
    /// What the disk said; the removal is remembered like an [`Queue::update`].
    pub async fn remove(&self, id: &JobId) -> Result<(), QueueError> {
        self.ask(|reply| Request::Remove { id: id.clone(), reply }).await
    }

    /// Forgets finished jobs beyond [`Limits::max_done`] and [`Limits::done_age_s`], oldest first,
    /// with [`Durability::Later`], and names them, so that their roots and logs can go too. Free
    /// when there is nothing to do: call it when a job ends.
    ///
    /// # Errors
    ///
    /// What the disk said; the removals are remembered.
    pub async fn prune(&self, now_s: u64) -> Result<Vec<JobId>, QueueError> {
        self.ask(|reply| Request::Prune { now_s, reply }).await
    }

    /// Writes what was learned from a build, with [`Durability::Later`]. What the disk says is not waited
    /// for; the change is remembered until it is written.
    ///
    /// # Errors
    ///
    /// [`QueueError::Closed`] and [`QueueError::Stalled`].
    pub async fn learn(&self, changes: &Changes) -> Result<(), QueueError> {
        let mut rows = Vec::new();
        for key in &changes.gone {
            rows.push((record::history_key(key), None));
        }
        if let Some(entry) = &changes.changed {
            let record = record::encode_entry(entry)?;
            rows.push((record::history_key(&entry.key), Some(record)));
        }
        self.ask(|reply| Request::Learn { rows, reply }).await
    }

    /// Writes what is not on disk yet and closes the database; other clones then get
    /// [`QueueError::Closed`]. When this returns, the queue can be opened again.
    ///
    /// # Errors
    ///
    /// What the disk said. The queue is closed all the same.
    pub async fn close(self) -> Result<(), QueueError> {
        self.ask(|reply| Request::Close { reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.requests.send(request(reply)).await.map_err(|_| QueueError::Closed)?;
            answer.await.map_err(|_| QueueError::Closed)?
        };
        tokio::time::timeout(ANSWER_WITHIN, asked)
            .await
            .unwrap_or(Err(QueueError::Stalled { waited_s: ANSWER_WITHIN.as_secs() }))
    }
}
