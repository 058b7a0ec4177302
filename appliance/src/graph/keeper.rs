//! Keeps the graph up to date while jobs come and end, and does nothing otherwise.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix_compat::store_path::StorePath;
use tokio::{
    sync::Notify,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::{
    Key, Node, Places, Remaining, Worker,
    reader::{News, Reader},
};
use crate::model::Ahead;

/// Between two passes at least, unless there is more to read: jobs come in bursts.
const PAUSE: Duration = Duration::from_secs(1);

/// How much work a derivation is, in any unit: seconds, where they are known.
pub type Weigh = Box<dyn Fn(&Node<'_>) -> f32 + Send>;

/// Knows what is to be done after each derivation that a client waits for. Clones share it.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    places: Places,
    news: Mutex<Vec<News>>,
    wake: Notify,
    remaining: Mutex<Remaining>,
}

impl Keeper {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self(Arc::new(Inner {
            places,
            news: Mutex::default(),
            wake: Notify::new(),
            remaining: Mutex::default(),
        }))
    }

    /// Takes note that a worker's build hook has come, before it has said for what.
    pub fn came(&self, worker: Worker) {
        self.tell(News::Asked(worker, None));
    }

    /// Takes note that a worker asks for a derivation. [`Keeper::ended`] is to follow.
    pub fn asked(&self, worker: Worker, drv: &StorePath) {
        self.tell(News::Asked(worker, Some(Key::of(drv))));
    }

    /// Takes note that a derivation was built, or that it will not be for the moment.
    pub fn ended(&self, drv: &StorePath, built: bool) {
        self.tell(News::Ended(Key::of(drv), built));
    }

    /// What is still to be done from a derivation on; none if that is not known, or it is built.
    #[must_use]
    pub fn after(&self, drv: &StorePath) -> Option<Ahead> {
        lock(&self.0.remaining).of(Key::of(drv))
    }

    /// Reads what there is to read whenever something has happened, and calls `changed` when an answer
    /// of [`Keeper::after`] is another one. `weigh` is asked before each pass what derivations weigh now. Does
    /// not end.
    pub async fn run(self, weigh: impl Fn() -> Weigh + Send, changed: impl Fn() + Send) {
        let mut reader = Reader::new(self.0.places.clone());
        let (mut watched, mut watches) = (BTreeSet::<Worker>::new(), JoinSet::new());
        loop {
            tokio::select! {
                () = self.0.wake.notified() => {}
                // Its derivations may be wanted by nobody now.
                Some(_) = watches.join_next() => {}
            }
            loop {
                let Some((back, more)) = self.pass(reader, weigh(), &changed).await else { return };
                reader = back;
                let workers: BTreeSet<Worker> = reader.workers().collect();
                for worker in workers.difference(&watched) {
                    watches.spawn(worker.ended());
                }
                watched = workers;
                if !more {
                    break;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// One pass, off the runtime's threads. None if the runtime is shut down.
    async fn pass(
        &self,
        mut reader: Reader,
        weigh: Weigh,
        changed: &impl Fn(),
    ) -> Option<(Reader, bool)> {
        let news = mem::take(&mut *lock(&self.0.news));
        let (reader, more, remaining) = spawn_blocking(move || {
            let more = reader.pass(news);
            let remaining = reader.graph.remaining(&*weigh);
            (reader, more, remaining)
        })
        .await
        .ok()?;
        // Nobody else writes it.
        if *lock(&self.0.remaining) != remaining {
            *lock(&self.0.remaining) = remaining;
            changed();
        }
        Some((reader, more))
    }

    fn tell(&self, news: News) {
        lock(&self.0.news).push(news);
        self.0.wake.notify_one();
    }
}

/// What panicked while it held one of these has changed all of it, or nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
