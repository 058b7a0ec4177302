//! sled, with its sharp edges covered: panics become errors, "flushed" means on the medium.

use std::{
    any::Any,
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{QueueError, slack::patient};
use crate::model::JobId;

/// Memory for pages. sled's own default is 1 GiB; records are small and read once.
const CACHE_BYTES: u64 = 1 << 20;

/// sled keeps up to 17 values in a leaf page, and a page larger than a quarter of its 512 KiB
/// segments goes to a file of its own. 17 chunks stay well below.
const CHUNK_BYTES: usize = 4096;

/// Bytes written between two syncs, at most. sled overwrites a segment of its log once what made
/// it obsolete has been written *and* a later segment was begun, but knows only
/// `sync_file_range(2)`: after a power cut the file could lack the new data and have lost the old.
/// With a real sync at least once a segment it cannot, and its pages amplify writes up to fourfold.
const SYNC_EVERY_BYTES: usize = 128 << 10;

/// How long sled may take to let go of a closed database.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(10);

/// What a change costs in sled's log beside its value, roughly.
const CHANGE_BYTES: usize = 512;

/// Why sled could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The files make no sense.
    #[error("{0}")]
    Damaged(String),
    /// The system refused; the files may be fine.
    #[error("cannot {doing}: {reason}")]
    Io { doing: &'static str, kind: io::ErrorKind, reason: String },
    /// sled panicked.
    #[error("sled panicked: {0}")]
    Panicked(String),
    /// sled did not come back.
    #[error("sled did not answer within {0:?}")]
    Hung(Duration),
}

impl StoreError {
    fn from_sled(doing: &'static str, error: sled::Error) -> Self {
        match error {
            // A file that ends too early or lacks a part comes in these words.
            sled::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                ) =>
            {
                Self::from_io(doing, &error)
            }
            sled::Error::Corruption { .. } => Self::Damaged("corrupted data was found".to_owned()),
            other => Self::Damaged(other.to_string()),
        }
    }

    fn from_io(doing: &'static str, error: &io::Error) -> Self {
        Self::Io { doing, kind: error.kind(), reason: error.to_string() }
    }
}

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error {
            StoreError::Io { doing, kind: StorageFull | QuotaExceeded | FileTooLarge, reason } => {
                Self::NoSpace { doing, reason }
            }
            StoreError::Io { doing, reason, .. } => Self::Disk { doing, reason },
            StoreError::Damaged(_) | StoreError::Panicked(_) | StoreError::Hung(_) => {
                Self::Broken { reason: error.to_string() }
            }
        }
    }
}

/// Runs `work` in a thread of its own and waits for it at most `limit`. A thread that hangs is
/// left behind.
pub(super) fn guarded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("queue-open".to_owned())
        .spawn(move || {
            // The receiver is gone only if it stopped waiting.
            let _ = sender.send(caught(work));
        })
        .map_err(|error| StoreError::from_io("start a thread", &error))?;
    receiver.recv_timeout(limit).unwrap_or(Err(StoreError::Hung(limit)))
}

/// Has sled do something. Nothing else of it may start a thread or wait for a time to pass: see
/// [`patient`].
fn unwinding<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    patient(|| caught(work))
}

/// Turns a panic of sled's into an error. A store that panicked is not used again.
fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(StoreError::Panicked(panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word").to_owned()
}

/// One of the trees with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Job id to record.
    Jobs,
    /// Job id and chunk number to chunk.
    Payloads,
    /// Package to what is known of its builds.
    History,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Payloads => "payloads",
            Self::History => "history",
        }
    }
}

/// An open database.
pub(super) struct Store {
    jobs: sled::Tree,
    payloads: sled::Tree,
    history: sled::Tree,
    set_aside: sled::Tree,
    db: sled::Db,
    dir: PathBuf,
    file: File,
    synced_blobs: HashSet<OsString>,
    unsynced_bytes: usize,
}

impl Store {
    /// Opens or creates the database; everything sled does to its files meanwhile is on the
    /// medium afterwards. Call it [`guarded`].
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let doing = "open the queue's database";
        let sled = |error| StoreError::from_sled(doing, error);
        let db = open_unlocked(dir).map_err(sled)?;
        let file =
            File::open(dir.join("db")).map_err(|error| StoreError::from_io(doing, &error))?;
        let tree = |name: &str| patient(|| db.open_tree(name)).map_err(sled);
        let mut store = Self {
            jobs: tree(Kind::Jobs.name())?,
            payloads: tree(Kind::Payloads.name())?,
            history: tree(Kind::History.name())?,
            set_aside: tree("set-aside")?,
            db,
            dir: dir.to_owned(),
            file,
            synced_blobs: HashSet::new(),
            unsynced_bytes: 0,
        };
        store.sync()?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| StoreError::from_io(doing, &error))?;
        Ok(store)
    }

    pub(super) fn put_job(&mut self, id: &JobId, record: &[u8]) -> Result<(), StoreError> {
        self.change("write a job", record.len(), |store| {
            store.jobs.insert(id.as_str(), record).map(drop)
        })
    }

    /// A job's record.
    pub(super) fn job(&self, id: &JobId) -> Result<Option<Vec<u8>>, StoreError> {
        unwinding(|| {
            let record = self.jobs.get(id.as_str());
            record
                .map(|record| record.map(|record| record.to_vec()))
                .map_err(|error| StoreError::from_sled("read a job", error))
        })
    }

    pub(super) fn remove_job(&mut self, id: &[u8]) -> Result<(), StoreError> {
        self.change("remove a job", 0, |store| store.jobs.remove(id).map(drop))
    }

    /// Writes a payload in chunks, the last one first, so that a first chunk means all are there.
    pub(super) fn put_payload(&mut self, id: &JobId, bytes: &[u8]) -> Result<(), StoreError> {
        self.remove_payload(id.as_str().as_bytes())?;
        let chunks: Vec<_> = bytes.chunks(CHUNK_BYTES).collect();
        for (number, chunk) in chunks.iter().enumerate().rev() {
            let key = chunk_key(id.as_str().as_bytes(), number);
            let mut value = Vec::with_capacity(chunk.len() + 4);
            if number == 0 {
                value.extend_from_slice(&u32::try_from(chunks.len()).unwrap_or(0).to_be_bytes());
            }
            value.extend_from_slice(chunk);
            self.change("write a derivation", value.len(), |store| {
                store.payloads.insert(key, value).map(drop)
            })?;
        }
        Ok(())
    }

    /// A payload, `None` if no chunk of it is there.
    pub(super) fn payload(&self, id: &JobId) -> Result<Option<Vec<u8>>, StoreError> {
        unwinding(|| {
            let (mut bytes, mut chunks) = (Vec::new(), Chunks::default());
            for entry in self.payloads.scan_prefix(chunk_prefix(id.as_str().as_bytes())) {
                let (key, value) =
                    entry.map_err(|error| StoreError::from_sled("read a derivation", error))?;
                let number = split_chunk_key(&key).map_or(u32::MAX, |(_, number)| number);
                bytes.extend_from_slice(chunks.add(number, &value));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            chunks.complete().map_err(StoreError::Damaged)?;
            Ok(Some(bytes))
        })
    }

    pub(super) fn remove_payload(&mut self, id: &[u8]) -> Result<(), StoreError> {
        let keys = unwinding(|| {
            self.payloads
                .scan_prefix(chunk_prefix(id))
                .keys()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| StoreError::from_sled("read a derivation", e))
        })?;
        for key in keys {
            self.change("remove a derivation", 0, |store| store.payloads.remove(key).map(drop))?;
        }
        Ok(())
    }

    /// Writes or removes what is known of a package's builds.
    pub(super) fn put_history(
        &mut self,
        key: &[u8],
        record: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let bytes = record.map_or(0, <[u8]>::len);
        self.change("write the history of builds", bytes, |store| match record {
            Some(record) => store.history.insert(key, record).map(drop),
            None => store.history.remove(key).map(drop),
        })
    }

    /// Moves the payload of a record that cannot be read the same way.
    pub(super) fn set_payload_aside(&mut self, id: &[u8]) -> Result<(), StoreError> {
        let chunks = unwinding(|| {
            self.payloads
                .scan_prefix(chunk_prefix(id))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| StoreError::from_sled("read a derivation", error))
        })?;
        for (key, value) in chunks {
            self.set_aside(Kind::Payloads, &key, &value)?;
        }
        Ok(())
    }

    /// Keeps a record that cannot be read where it harms nobody.
    pub(super) fn keep_aside(
        &mut self,
        kind: Kind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        let kept_as = [kind.name().as_bytes(), b"/", key].concat();
        self.change("set a record aside", value.len(), |store| {
            store.set_aside.insert(kept_as, value).map(drop)
        })
    }

    /// Moves a record that cannot be read to where it harms nobody.
    pub(super) fn set_aside(
        &mut self,
        kind: Kind,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        self.keep_aside(kind, key, value)?;
        self.change("set a record aside", 0, |store| store.tree(kind).remove(key).map(drop))
    }

    /// Calls `each` with every key and value of a tree, and returns what stopped it early: beyond
    /// a page that cannot be read, the rest of the tree is read from its end.
    pub(super) fn scan(
        &self,
        kind: Kind,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let tree = self.tree(kind);
        let mut last = None;
        let broken = unwinding(|| {
            for entry in tree {
                let (key, value) = entry.map_err(|e| StoreError::from_sled("read the queue", e))?;
                each(&key, &value);
                last = Some(key);
            }
            Ok(())
        });
        if broken.is_err() {
            // Whatever stops this direction is behind what is already being reported.
            let _ = unwinding(|| {
                for entry in tree.iter().rev() {
                    let (key, value) =
                        entry.map_err(|e| StoreError::from_sled("read the queue", e))?;
                    if last.as_ref().is_some_and(|last| *last >= key) {
                        break;
                    }
                    each(&key, &value);
                }
                Ok(())
            });
        }
        broken
    }

    fn tree(&self, kind: Kind) -> &sled::Tree {
        match kind {
            Kind::Jobs => &self.jobs,
            Kind::Payloads => &self.payloads,
            Kind::History => &self.history,
        }
    }

    /// Brings everything changed so far to the medium.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let doing = "write the queue to disk";
        unwinding(|| self.db.flush().map_err(|error| StoreError::from_sled(doing, error)))?;
        self.file
            .sync_data()
            .and_then(|()| self.sync_blobs())
            .map_err(|error| StoreError::from_io(doing, &error))?;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Closes a store that failed. sled may panic once more while it does.
    pub(super) fn abandon(self) {
        let _ = unwinding(|| {
            drop(self);
            Ok(())
        });
    }

    fn change(
        &mut self,
        doing: &'static str,
        bytes: usize,
        change: impl FnOnce(&Self) -> Result<(), sled::Error>,
    ) -> Result<(), StoreError> {
        unwinding(|| change(self).map_err(|error| StoreError::from_sled(doing, error)))?;
        self.unsynced_bytes += bytes + CHANGE_BYTES;
        if self.unsynced_bytes >= SYNC_EVERY_BYTES { self.sync() } else { Ok(()) }
    }

    /// Syncs the files that sled keeps large pages in. With our chunks there are none, unless
    /// records are unusually long.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let blobs = self.dir.join("blobs");
        let mut present = HashSet::new();
        let mut any = false;
        for entry in fs::read_dir(&blobs)? {
            let name = entry?.file_name();
            if !self.synced_blobs.contains(&name) {
                match File::open(blobs.join(&name)).and_then(|file| file.sync_all()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    synced => synced?,
                }
                any = true;
            }
            present.insert(name);
        }
        if any {
            File::open(&blobs)?.sync_all()?;
        }
        self.synced_blobs = present;
        Ok(())
    }
}

/// Opens sled. A database that this process closed a moment ago can still be locked by it: sled
/// drops its file in the background. Other processes are kept out by our own lock.
fn open_unlocked(dir: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let deadline = Instant::now() + UNLOCKED_WITHIN;
    loop {
        match patient(|| config.open()) {
            Err(sled::Error::Io(error))
                if error.to_string().starts_with("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Checks that the chunks of one payload, given in key order, are all there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    expected: usize,
    seen: usize,
    out_of_order: bool,
}

impl Chunks {
    /// Takes the next chunk and returns what it holds of the payload. The first chunk starts with
    /// the number of chunks.
    pub(super) fn add<'v>(&mut self, number: u32, value: &'v [u8]) -> &'v [u8] {
        self.out_of_order |= number as usize != self.seen;
        self.seen += 1;
        match value.split_first_chunk() {
            Some((count, data)) if number == 0 => {
                self.expected = u32::from_be_bytes(*count) as usize;
                data
            }
            _ => value,
        }
    }

    pub(super) fn complete(&self) -> Result<(), String> {
        if !self.out_of_order && self.seen == self.expected {
            Ok(())
        } else {
            Err(format!("{} of its {} parts are there", self.seen, self.expected))
        }
    }
}

/// Splits the key of a chunk into job id and chunk number.
pub(super) fn split_chunk_key(key: &[u8]) -> Option<(&[u8], u32)> {
    let (rest, number) = key.split_last_chunk()?;
    Some((rest.strip_suffix(&[0])?, u32::from_be_bytes(*number)))
}

fn chunk_prefix(id: &[u8]) -> Vec<u8> {
    [id, &[0]].concat()
}

fn chunk_key(id: &[u8], number: usize) -> Vec<u8> {
    // Bounded by the size of a payload: see `record::MAX_PAYLOAD_BYTES`.
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    [id, &[0], &number.to_be_bytes()].concat()
}
