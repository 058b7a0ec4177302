//! Opening: the lock, the guard around sled, and what is found inside.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    thread::{Timespec, nanosleep},
};

use super::{
    Damage, QueueError, Recovery, SetAside, record, rules,
    store::{Chunks, Kind, Store, StoreError, guarded, split_chunk_key},
};
use crate::{
    durable::sync_folder,
    learn::{Entry, Table},
    model::{Job, JobId, JobState},
};

/// How long sled may take to open and be read through. A gigabyte at an SD card's 20 MB/s.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Unfinished jobs up to which their payloads are read through at the start. sled keeps about
/// everything in memory that it has ever read, whatever the size of its cache: 10,000 payloads
/// would cost 50 MiB for good. Beyond this a damaged one is found when it is asked for, and
/// orphans wait for a start with fewer jobs.
const MAX_CHECKED: usize = 500;

/// The lock is tried for a second: a daemon that is being replaced, or a child between fork and exec,
/// lets go of it in a moment.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Damaged databases kept; with more, somebody has to look.
const MAX_DAMAGED: u32 = 99;

/// An open database, and the lock that keeps other daemons out.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) lock: File,
}

/// Everything in a database, read once.
#[derive(Default)]
struct Contents {
    jobs: BTreeMap<JobId, Job>,
    /// Jobs whose payload is complete.
    payloads: BTreeSet<JobId>,
    /// Ids of payloads whose job is not there.
    orphans: BTreeSet<Vec<u8>>,
    unreadable: Vec<Unreadable>,
    history: Vec<Entry>,
    /// Records of the history that cannot be read: keys, and why not.
    forgotten: Vec<(Vec<u8>, String)>,
    /// What kept the reading from being complete.
    damage: Option<StoreError>,
}

struct Unreadable {
    kind: Kind,
    key: Vec<u8>,
    value: Vec<u8>,
    reason: String,
}

/// See [`super::Queue::open`].
pub(super) fn recover(
    dir: &Path,
    own: &[String],
    now_s: u64,
) -> Result<(Opened, Recovery), QueueError> {
    let lock = lock(dir)?;
    create_dir(dir)?;
    let mut recovery = Recovery::default();
    let (mut store, contents) = match open_and_read(dir) {
        Ok((store, contents)) => match &contents.damage {
            None => (store, contents),
            Some(damage) => {
                store.abandon();
                rescue(dir, damage, &mut recovery)?
            }
        },
        Err(error @ StoreError::Io { .. }) => return Err(error.into()),
        Err(error) => rescue(dir, &error, &mut recovery)?,
    };
    let changes = reconcile(contents, own, now_s, &mut recovery);
    if changes.any() {
        store = guarded(OPEN_WITHIN, move || changes.write(store))?;
    }
    Ok((Opened { store, lock }, recovery))
}

/// Keys that a reopened database holds.
pub(super) struct Found {
    pub(super) jobs: Vec<Vec<u8>>,
    /// Ids with at least one chunk of a payload.
    pub(super) payloads: BTreeSet<Vec<u8>>,
}

/// Opens the database again after it failed while running.
pub(super) fn reopen(dir: &Path) -> Result<(Store, Found), StoreError> {
    let dir = dir.to_owned();
    guarded(OPEN_WITHIN, move || {
        let store = Store::open(&dir)?;
        let mut found = Found { jobs: Vec::new(), payloads: BTreeSet::new() };
        store.scan(Kind::Jobs, |key, _| found.jobs.push(key.to_vec()))?;
        store.scan(Kind::Payloads, |key, _| {
            found.payloads.extend(split_chunk_key(key).map(|(id, _)| id.to_vec()));
        })?;
        Ok((store, found))
    })
}

fn open_and_read(dir: &Path) -> Result<(Store, Contents), StoreError> {
    let dir = dir.to_owned();
    guarded(OPEN_WITHIN, move || {
        let store = Store::open(&dir)?;
        let contents = read(&store);
        Ok((store, contents))
    })
}

fn read(store: &Store) -> Contents {
    let mut contents = Contents::default();
    let mut unreadable = Vec::new();
    let jobs = store.scan(Kind::Jobs, |key, value| match record::decode_job(key, value) {
        Ok(job) => {
            contents.jobs.insert(job.id(), job);
        }
        Err(error) => unreadable.push(Unreadable {
            kind: Kind::Jobs,
            key: key.to_vec(),
            value: value.to_vec(),
            reason: error.to_string(),
        }),
    });
    contents.unreadable = unreadable;
    contents.damage = jobs.err();
    let unfinished = contents.jobs.values().filter(|job| !is_done(job));
    if unfinished.clone().count() > MAX_CHECKED {
        contents.payloads = unfinished.map(Job::id).collect();
    } else {
        check_payloads(store, &mut contents);
    }
    let history = store.scan(Kind::History, |key, value| match record::decode_entry(key, value) {
        Ok(entry) => contents.history.push(entry),
        Err(error) => contents.forgotten.push((key.to_vec(), error.to_string())),
    });
    contents.damage = contents.damage.take().or(history.err());
    contents
}

/// Finds out which payloads are complete and which belong to nobody.
fn check_payloads(store: &Store, contents: &mut Contents) {
    let mut chunks: HashMap<Vec<u8>, Chunks> = HashMap::new();
    let scanned = store.scan(Kind::Payloads, |key, value| match split_chunk_key(key) {
        Some((id, number)) => {
            chunks.entry(id.to_vec()).or_default().add(number, value);
        }
        None => contents.unreadable.push(Unreadable {
            kind: Kind::Payloads,
            key: key.to_vec(),
            value: value.to_vec(),
            reason: "its key is malformed".to_owned(),
        }),
    });
    for id in contents.jobs.keys() {
        if chunks.remove(id.as_str().as_bytes()).is_some_and(|chunks| chunks.complete().is_ok()) {
            contents.payloads.insert(id.clone());
        }
    }
    // The payload of an unreadable record is set aside with it: a newer roost may read both.
    for found in contents.unreadable.iter().filter(|found| found.kind == Kind::Jobs) {
        chunks.remove(&found.key);
    }
    contents.orphans = chunks.into_keys().collect();
    contents.damage = contents.damage.take().or(scanned.err());
}

fn is_done(job: &Job) -> bool {
    matches!(job.state, JobState::Done { .. })
}

/// What opening changes in the database.
#[derive(Default)]
struct Changes {
    jobs: Vec<(JobId, Vec<u8>)>,
    payloads: Vec<Vec<u8>>,
    unreadable: Vec<Unreadable>,
    /// Keys of records of the history that go.
    history: Vec<Vec<u8>>,
}

impl Changes {
    fn any(&self) -> bool {
        !(self.jobs.is_empty()
            && self.payloads.is_empty()
            && self.unreadable.is_empty()
            && self.history.is_empty())
    }

    fn write(&self, mut store: Store) -> Result<Store, StoreError> {
        for Unreadable { kind, key, value, .. } in &self.unreadable {
            store.set_aside(*kind, key, value)?;
            if *kind == Kind::Jobs {
                store.set_payload_aside(key)?;
            }
        }
        for (id, record) in &self.jobs {
            store.put_job(id, record)?;
        }
        for id in &self.payloads {
            store.remove_payload(id)?;
        }
        for key in &self.history {
            store.put_history(key, None)?;
        }
        store.sync()?;
        Ok(store)
    }
}

/// Decides what becomes of everything found. Pure but for the records it encodes.
fn reconcile(contents: Contents, own: &[String], now_s: u64, recovery: &mut Recovery) -> Changes {
    let mut changes = Changes::default();
    let Contents { jobs, payloads, orphans, unreadable, history, forgotten, .. } = contents;
    for (id, mut job) in jobs {
        let unfinished = !is_done(&job);
        if unfinished && recover_job(&mut job, own, payloads.contains(&id), now_s) {
            // A record that was just decoded can be encoded; if not, the next start tries again.
            changes.jobs.extend(record::encode_job(&job).map(|record| (id.clone(), record)));
            recovery.changed.push(id.clone());
        }
        if is_done(&job) && (payloads.contains(&id) || unfinished) {
            changes.payloads.push(id.as_str().as_bytes().to_vec());
        }
        recovery.jobs.push(job);
    }
    recovery.jobs.sort_by(|a, b| (a.accepted_s, &a.key).cmp(&(b.accepted_s, &b.key)));
    recovery.set_aside.extend(unreadable.iter().map(|found| SetAside {
        key: format!("{}/{}", found.kind.name(), found.key.escape_ascii()),
        reason: found.reason.clone(),
    }));
    let mut table = Table::default();
    let gone = table.merge(history);
    recovery.history = table;
    recovery.forgotten.extend(forgotten.iter().map(|(key, reason)| SetAside {
        key: format!("{}/{}", Kind::History.name(), key.escape_ascii()),
        reason: reason.clone(),
    }));
    changes.history.extend(gone.iter().map(record::history_key));
    changes.history.extend(forgotten.into_iter().map(|(key, _)| key));
    recovery.orphans.extend(orphans.iter().map(|id| id.escape_ascii().to_string()));
    changes.payloads.extend(orphans);
    changes.unreadable = unreadable;
    changes
}

/// What a start does to an unfinished job; whether it did anything.
fn recover_job(job: &mut Job, own: &[String], has_payload: bool, now_s: u64) -> bool {
    let ran = match &job.state {
        JobState::Running { node, .. } if !own.contains(node) => {
            rules::put_back(job, now_s, "the daemon stopped while it ran on another node").is_ok()
        }
        _ => rules::died(job, now_s, "the daemon stopped while it ran").is_ok(),
    };
    if has_payload {
        return ran;
    }
    job.note(now_s, "its derivation could not be read back when the daemon started; given up");
    let text = "its derivation was damaged on this machine's disk; send the job again";
    // Impossible only if the death was its last: then it is done already.
    let refused = rules::refuse(job, rules::transient(text, now_s), now_s).is_ok();
    ran || refused
}

/// Sets a damaged database aside and starts a new one with what can still be read.
fn rescue(
    dir: &Path,
    damage: &StoreError,
    recovery: &mut Recovery,
) -> Result<(Store, Contents), QueueError> {
    let moved_to = set_aside(dir)?;
    let mut best = None;
    for parts in [Parts::All, Parts::Log] {
        let (from, copy) = (moved_to.clone(), beside(dir, parts.suffix()));
        let tried = guarded(OPEN_WITHIN, move || {
            copy_parts(&from, &copy, parts).map_err(|error| StoreError::Io {
                doing: "copy a damaged database",
                kind: error.kind(),
                reason: error.to_string(),
            })?;
            let store = Store::open(&copy)?;
            let contents = read(&store);
            Ok((store, contents))
        });
        best = match (best, tried.ok()) {
            (Some(best), Some(tried)) if worth(&tried) <= worth(&best) => Some(best),
            (best, tried) => tried.or(best),
        };
    }
    let new = dir.to_owned();
    let (store, contents) = guarded(OPEN_WITHIN, move || {
        let mut store = Store::open(&new)?;
        let contents = match best {
            None => Contents::default(),
            Some((old, contents)) => {
                let contents = transfer(&old, &mut store, contents)?;
                old.abandon();
                contents
            }
        };
        Ok((store, contents))
    })?;
    for parts in [Parts::All, Parts::Log] {
        // What remains is replaced by the next rescue.
        let _ = remove_dir(&beside(dir, parts.suffix()));
    }
    let salvaged = contents.jobs.len();
    recovery.damage = Some(Damage { moved_to, reason: damage.to_string(), salvaged });
    Ok((store, contents))
}

/// Jobs, those of them that can be built, and the packages in the history.
fn worth((_, contents): &(Store, Contents)) -> (usize, usize, usize) {
    (contents.jobs.len(), contents.payloads.len(), contents.history.len())
}

/// What of a damaged database is given to sled to try. A copy, since sled overwrites what it finds
/// torn.
#[derive(Clone, Copy)]
enum Parts {
    /// Everything: with its snapshot of the page table sled finds the pages behind a hole in the
    /// log.
    All,
    /// The log with its large pages: sled stops at a damaged snapshot or settings file, but does
    /// without.
    Log,
}

impl Parts {
    fn suffix(self) -> &'static str {
        match self {
            Self::All => ".rescue-all",
            Self::Log => ".rescue-log",
        }
    }
}

fn copy_parts(from: &Path, to: &Path, parts: Parts) -> io::Result<()> {
    remove_dir(to)?;
    DirBuilder::new().mode(0o700).recursive(true).create(to.join("blobs"))?;
    for folder in ["", "blobs"] {
        for entry in fs::read_dir(from.join(folder))? {
            let (entry, is_blob) = (entry?, folder == "blobs");
            let wanted = match parts {
                Parts::All => true,
                Parts::Log => is_blob || entry.file_name() == "db",
            };
            if wanted && entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(folder).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes everything that could be read into a new database.
fn transfer(
    old: &Store,
    store: &mut Store,
    mut contents: Contents,
) -> Result<Contents, StoreError> {
    for id in contents.payloads.clone() {
        match old.payload(&id) {
            Ok(Some(payload)) => store.put_payload(&id, &payload)?,
            Ok(None) | Err(_) => {
                contents.payloads.remove(&id);
            }
        }
    }
    for (id, job) in &contents.jobs {
        // It was decoded a moment ago, so it can be encoded.
        if let Ok(record) = record::encode_job(job) {
            store.put_job(id, &record)?;
        }
    }
    for Unreadable { kind, key, value, .. } in &contents.unreadable {
        store.keep_aside(*kind, key, value)?;
    }
    for entry in &contents.history {
        if let Ok(record) = record::encode_entry(entry) {
            store.put_history(&record::history_key(&entry.key), Some(&record))?;
        }
    }
    store.sync()?;
    Ok(contents)
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> QueueError {
    QueueError::File { doing, path: path.to_owned(), source: Arc::new(source) }
}

/// `<dir><suffix>`, beside `dir`.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock beside the folder: it must survive the folder's being set aside, and unlike
/// sled's own it tells "in use" from every other failure.
fn lock(dir: &Path) -> Result<File, QueueError> {
    let path = beside(dir, ".lock");
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(|error| file_error("create", parent, error))?;
    }
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| file_error("open", &path, error))?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // An interrupted sleep is a shorter one.
            Err(Errno::WOULDBLOCK) => drop(nanosleep(&LOCK_PAUSE)),
            Err(error) => return Err(file_error("lock", &path, error.into())),
        }
    }
    Err(QueueError::Locked(path))
}

/// Creates the folder if need be, durably, for root's eyes only: derivations can hold secrets.
fn create_dir(dir: &Path) -> Result<(), QueueError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_parent(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(file_error("create", dir, error)),
    }
}

fn sync_parent(dir: &Path) -> Result<(), QueueError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    sync_folder(parent).map_err(|error| file_error("sync", parent, error))
}

/// Renames a damaged database to the first free `<dir>.damaged-<n>` and makes a new folder.
fn set_aside(dir: &Path) -> Result<PathBuf, QueueError> {
    for number in 1..=MAX_DAMAGED {
        let target = beside(dir, &format!(".damaged-{number}"));
        if target.symlink_metadata().is_ok() {
            continue;
        }
        fs::rename(dir, &target).map_err(|error| file_error("set aside", dir, error))?;
        create_dir(dir)?;
        return Ok(target);
    }
    Err(QueueError::Broken {
        reason: format!(
            "{} is damaged and {MAX_DAMAGED} damaged databases are beside it already; look at \
             the disk and remove them",
            dir.display()
        ),
    })
}
