//! Questions to the local nix-daemon, on connections that are kept for a while.
//!
//! nix-daemon forks for each connection, which takes longer than most answers. A connection that
//! has only asked holds no temporary roots, so it can be used again by whoever asks next.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix_compat::{
    nix_daemon::client::{ClientError, Discard},
    store_path::StorePath,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::nix::{self, NixClient};
use crate::wire::local_nix::LocalNixError;

/// How long an idle connection is kept: it is a process of nix-daemon's.
const IDLE: Duration = Duration::from_secs(20);
/// Connections kept at most.
const MAX_IDLE: usize = 2;
/// Longest wait for an answer, which is a database look-up for each path.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] LocalNixError),
    /// nix-daemon refused, or went away.
    #[error("the local nix-daemon: {0}")]
    Ask(#[from] ClientError),
    /// nix-daemon said nothing.
    #[error("the local nix-daemon did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

/// Asks the local nix-daemon. Clones share its connections.
#[derive(Clone)]
pub struct Queries {
    socket: PathBuf,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: NixClient,
    until: Instant,
}

impl Queries {
    /// Asks the nix-daemon at `socket`. Nothing is connected yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, idle: Arc::default() }
    }

    /// Those of `paths` that are valid.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn valid(
        &self,
        paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, QueryError> {
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        let used = self.idle().pop();
        if let Some(Idle { mut connection, .. }) = used {
            // nix-daemon may have been restarted since: then a new connection is asked.
            if let Ok(valid) = ask(&mut connection, paths).await {
                self.keep(connection);
                return Ok(valid);
            }
        }
        let (mut connection, _) = nix::connect(&self.socket).await?;
        let valid = ask(&mut connection, paths).await?;
        self.keep(connection);
        Ok(valid)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: NixClient) {
        let until = Instant::now() + IDLE;
        let mut idle = self.idle();
        if idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { connection, until });
        drop(idle);
        let this = self.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            this.idle().retain(|idle| idle.until > until);
        });
    }
}

async fn ask(
    connection: &mut NixClient,
    paths: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>, QueryError> {
    let mut discard = Discard;
    let asked = connection.query_valid_paths(paths, false, &mut discard);
    Ok(timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| QueryError::Silent)??)
}
