//! Job logs: plain text, one file a job, `<dir>/<job id>.log`.
//!
//! A [`LogWriter`] appends lines while the job runs; any number of [`LogFollower`]s read them from
//! the start and then wait for more, so that a client that comes late sees everything. Both are
//! bounded: a job's log by size, a follower by one chunk in memory. Logs are never synced; after
//! power loss the last lines may be missing.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::sync::watch;

use crate::model::JobId;

/// What a follower reads at once, and the longest line it yields in one piece.
pub const MAX_LINE_BYTES: usize = 64 << 10;

const SUFFIX: &str = ".log";

/// Bounds of logs on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// One job's log, in bytes. Then a line says that it was cut.
    pub job_bytes: u64,
    /// All of them together, in bytes; logs of jobs that run are not removed.
    pub total_bytes: u64,
}

impl Default for LogLimits {
    /// 64 MiB a job, 512 MiB in all.
    fn default() -> Self {
        Self { job_bytes: 64 << 20, total_bytes: 512 << 20 }
    }
}

/// Why a log could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}", path = .path.display())]
pub struct LogError {
    /// What was tried, such as `write`.
    doing: &'static str,
    /// On what.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// How far a log has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that can be read.
    pub bytes: u64,
    /// Whether the writer is gone.
    pub ended: bool,
}

/// Whether a writer keeps what is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new job: an old log of the same id goes.
    Fresh,
    /// Another try of the same job: its log goes on.
    Continue,
}

type Live = Arc<Mutex<HashMap<JobId, watch::Receiver<Progress>>>>;

/// All logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    dir: PathBuf,
    limits: LogLimits,
    live: Live,
    /// Bytes of logs that have ended since they were last pruned.
    unpruned: Arc<AtomicU64>,
}

impl Logs {
    /// Uses `dir`, creating it and its parents if need be.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be created.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        // What was left by the last daemon is looked at with the first job that ends.
        let unpruned = Arc::new(AtomicU64::new(u64::MAX / 2));
        Ok(Self { dir: dir.to_owned(), limits, live: Live::default(), unpruned })
    }

    /// Starts a job's log. The file is made with the first line, so this costs nothing on disk and
    /// can be done when the job is accepted, for followers to wait on.
    ///
    /// # Errors
    ///
    /// [`LogError`] if an old log cannot be removed.
    pub fn writer(&self, id: &JobId, start: Start) -> Result<LogWriter, LogError> {
        if start == Start::Fresh {
            self.remove(id)?;
        }
        let path = self.path(id);
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let (progress, reader) = watch::channel(Progress { bytes, ended: false });
        lock(&self.live).insert(id.clone(), reader);
        Ok(LogWriter {
            id: id.clone(),
            path,
            limit_bytes: self.limits.job_bytes,
            bytes,
            sink: Sink::Closed,
            progress,
            live: Arc::clone(&self.live),
            ended: Arc::clone(&self.unpruned),
        })
    }

    /// Reads a job's log from the start and then, while it has a writer, as it grows. Without a
    /// writer and without a file there are no lines.
    #[must_use]
    pub fn follow(&self, id: &JobId) -> LogFollower {
        let progress = lock(&self.live).get(id).cloned();
        LogFollower {
            path: self.path(id),
            file: None,
            progress,
            offset: 0,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The file itself, `None` if the job has none.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be opened.
    pub fn open_for_reading(&self, id: &JobId) -> Result<Option<File>, LogError> {
        open_existing(&self.path(id))
    }

    /// Removes a job's log. Harmless if there is none.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be removed.
    pub fn remove(&self, id: &JobId) -> Result<(), LogError> {
        remove(&self.path(id))
    }

    /// Whether so much has been logged since [`Logs::prune`] that it is worth its walk through the
    /// folder: a sixteenth of the limit. Counts from anew when it says so.
    #[must_use]
    pub fn prune_is_due(&self) -> bool {
        let due = self.unpruned.load(Ordering::Relaxed) > self.limits.total_bytes / 16;
        if due {
            self.unpruned.store(0, Ordering::Relaxed);
        }
        due
    }

    /// Removes logs until all together fit [`LogLimits::total_bytes`], those that ended first
    /// first, never one with a writer; returns the bytes freed. Walks the folder, so it blocks:
    /// call it through `spawn_blocking` when [`Logs::prune_is_due`].
    ///
    /// # Errors
    ///
    /// [`LogError`] if the folder cannot be read or a log cannot be removed.
    pub fn prune(&self) -> Result<u64, LogError> {
        let mut logs = self.finished()?;
        logs.sort();
        let mut excess =
            logs.iter().map(|log| log.bytes).sum::<u64>().saturating_sub(self.limits.total_bytes);
        let mut freed = 0;
        for log in logs {
            if excess == 0 {
                break;
            }
            remove(&log.path)?;
            freed += log.bytes;
            excess = excess.saturating_sub(log.bytes);
        }
        Ok(freed)
    }

    fn finished(&self) -> Result<Vec<Finished>, LogError> {
        let live: Vec<_> = lock(&self.live).keys().map(|id| self.path(id)).collect();
        let mut logs = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let path = entry.map_err(failed("read", &self.dir))?.path();
            let is_log = path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
            if !is_log || live.contains(&path) {
                continue;
            }
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_file() => logs.push(Finished {
                    ended: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    path,
                    bytes: metadata.len(),
                }),
                // Something else's, or gone meanwhile.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(logs)
    }

    fn path(&self, id: &JobId) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }
}

/// A log without a writer; ordered by when its last line was written.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Finished {
    ended: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// Where a writer's lines go.
#[derive(Debug)]
enum Sink {
    /// Nothing was written yet.
    Closed,
    Open(BufWriter<File>),
    /// The limit was reached, or a write failed: the rest is dropped.
    Cut,
}

/// Appends lines to a job's log. Dropping it ends the log.
///
/// Writes go to the page cache and do not wait for the medium.
#[derive(Debug)]
pub struct LogWriter {
    id: JobId,
    path: PathBuf,
    limit_bytes: u64,
    bytes: u64,
    sink: Sink,
    progress: watch::Sender<Progress>,
    live: Live,
    /// See [`Logs::prune_is_due`].
    ended: Arc<AtomicU64>,
}

impl LogWriter {
    /// Appends a line; its end is added. Followers see it after [`LogWriter::flush`]. Beyond the
    /// size limit one last line says so and the rest is dropped.
    ///
    /// # Errors
    ///
    /// [`LogError`] once: the first write that fails ends the log, and a build need not fail for
    /// that.
    pub fn append(&mut self, line: &[u8]) -> Result<(), LogError> {
        let added = line.len() as u64 + 1;
        let result = match &mut self.sink {
            Sink::Cut => return Ok(()),
            Sink::Closed => self.open(),
            Sink::Open(_) => Ok(()),
        };
        let result = result.and_then(|()| {
            let Sink::Open(file) = &mut self.sink else { return Ok(()) };
            if self.bytes + added > self.limit_bytes {
                let last = format!(
                    "[roost: this log reached its limit of {} bytes; the rest is not kept]\n",
                    self.limit_bytes
                );
                self.bytes += last.len() as u64;
                file.write_all(last.as_bytes())?;
                self.publish()?;
                self.sink = Sink::Cut;
                return Ok(());
            }
            self.bytes += added;
            file.write_all(line)?;
            file.write_all(b"\n")
        });
        self.or_cut(result)
    }

    /// Lets followers see everything appended so far.
    ///
    /// # Errors
    ///
    /// Like [`LogWriter::append`].
    pub fn flush(&mut self) -> Result<(), LogError> {
        let result = self.publish();
        self.or_cut(result)
    }

    /// Opens the file at its end, and ends a line that a crash has cut.
    fn open(&mut self) -> io::Result<()> {
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(&self.path)?;
        self.bytes = file.metadata()?.len();
        if self.bytes > 0 {
            file.seek(SeekFrom::Start(self.bytes - 1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                self.bytes += 1;
            }
        }
        self.sink = Sink::Open(BufWriter::new(file));
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        if let Sink::Open(file) = &mut self.sink {
            file.flush()?;
            let bytes = self.bytes;
            self.progress.send_if_modified(|progress| {
                let grown = progress.bytes != bytes;
                progress.bytes = bytes;
                grown
            });
        }
        Ok(())
    }

    fn or_cut(&mut self, result: io::Result<()>) -> Result<(), LogError> {
        result.map_err(|source| {
            // What the file really has is all that followers can hope for.
            let bytes = self.path.metadata().map_or(0, |metadata| metadata.len());
            self.progress.send_modify(|progress| progress.bytes = bytes);
            if let Sink::Open(file) = std::mem::replace(&mut self.sink, Sink::Cut) {
                // Without another attempt to write what is left in the buffer.
                let _ = file.into_parts();
            }
            failed("write", &self.path)(source)
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // The log ends here, complete or not; a failure was or is nobody's to hear of.
        let _ = self.flush();
        self.ended.fetch_add(self.bytes, Ordering::Relaxed);
        let mut live = lock(&self.live);
        // A later writer of the same job may have taken the place.
        if live.get(&self.id).is_some_and(|reader| reader.same_channel(&self.progress.subscribe()))
        {
            live.remove(&self.id);
        }
        self.progress.send_modify(|progress| progress.ended = true);
    }
}

/// Reads a log line by line, from the start to the end of its writer.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// `None` when there is no writer (any more): the file is all there is.
    progress: Option<watch::Receiver<Progress>>,
    /// Where in the file the buffer ends.
    offset: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next line starts.
    start: usize,
}

impl LogFollower {
    /// The next line without its end; `None` when the log has ended. A line longer than
    /// [`MAX_LINE_BYTES`] comes in pieces. Cancellation loses nothing.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the file cannot be read.
    pub async fn next_line(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            let progress = self.progress.as_mut().map(|progress| *progress.borrow_and_update());
            match progress {
                None => {
                    if self.read_chunk(MAX_LINE_BYTES as u64).await? == 0 {
                        return Ok(self.take_rest());
                    }
                }
                // What was written before the end is in the file.
                Some(Progress { ended: true, .. }) => self.progress = None,
                Some(Progress { bytes, .. }) => {
                    let grown = bytes.saturating_sub(self.offset);
                    if grown == 0 || self.read_chunk(grown).await? == 0 {
                        self.wait().await;
                    }
                }
            }
        }
    }

    /// Waits for the writer to do something, holding as little memory as possible.
    async fn wait(&mut self) {
        if self.start == self.buffer.len() {
            (self.buffer, self.start) = (Vec::new(), 0);
        }
        if let Some(progress) = &mut self.progress {
            if progress.changed().await.is_err() {
                self.progress = None;
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let rest = &self.buffer[self.start..];
        let piece = &rest[..rest.len().min(MAX_LINE_BYTES)];
        let (line, taken) = match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&piece[..end], end + 1),
            None if piece.len() == MAX_LINE_BYTES => (piece, piece.len()),
            None => return None,
        };
        let line = line.to_vec();
        self.start += taken;
        Some(line)
    }

    /// What is left of a last line without an end.
    fn take_rest(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer);
        rest.drain(..std::mem::take(&mut self.start));
        (!rest.is_empty()).then_some(rest)
    }

    /// Reads up to `wanted` bytes (and one chunk) that follow the buffer into it; how many, 0 at
    /// the end of the file.
    async fn read_chunk(&mut self, wanted: u64) -> Result<usize, LogError> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => match open_existing(&self.path)? {
                None => return Ok(0),
                Some(file) => Arc::clone(self.file.insert(Arc::new(file))),
            },
        };
        let offset = self.offset;
        let size = usize::try_from(wanted).unwrap_or(MAX_LINE_BYTES).min(MAX_LINE_BYTES);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; size];
            file.read_at(&mut chunk, offset).map(|read| {
                chunk.truncate(read);
                chunk
            })
        });
        let chunk = read
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(failed("read", &self.path))?;
        self.offset += chunk.len() as u64;
        self.buffer.drain(..std::mem::take(&mut self.start));
        self.buffer.extend_from_slice(&chunk);
        Ok(chunk.len())
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError { doing, path, source }
}

fn open_existing(path: &Path) -> Result<Option<File>, LogError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Nothing under this lock panics, and a map has no half-made state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
