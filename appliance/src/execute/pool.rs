//! Connections to the local nix-daemon that are used again.
//!
//! nix-daemon forks for each connection, opens its database and finds out what the kernel allows, which
//! takes longer than most answers and as long as a small build. What a connection holds, it holds until
//! it is closed: temporary roots of what was built on it, which are harmless for a while.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix_compat::nix_daemon::{
    ClientOptions,
    client::{ClientError, Discard},
};
use tokio::time::{Instant, sleep_until};

use super::nix::{self, ANSWER_TIMEOUT, NixClient};
use crate::wire::local_nix::LocalNixError;

/// How long an idle connection is kept: it is a process of nix-daemon's.
const IDLE: Duration = Duration::from_secs(10);

/// A connection is not used again when it is older than this, lest its temporary roots hold what was long
/// fetched.
const USED_AGAIN: Duration = Duration::from_secs(60);

/// Idle connections kept at most.
const MAX_IDLE: usize = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// None could be opened.
    #[error(transparent)]
    Connect(#[from] LocalNixError),
    /// It was of no use.
    #[error("the local nix-daemon went away: {0}")]
    Lost(#[from] ClientError),
}

/// Connections to one nix-daemon. Clones share them.
#[derive(Clone)]
pub struct Pool {
    socket: PathBuf,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

/// A connection, to be given back.
pub struct Connection {
    /// The connection.
    pub nix: NixClient,
    opened: Instant,
}

impl Pool {
    /// Connections to the nix-daemon at `socket`. None is opened yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, idle: Arc::default() }
    }

    /// A connection with these options: one that has been used before, if there is one that works.
    ///
    /// # Errors
    /// [`PoolError`].
    pub async fn take(&self, options: &ClientOptions) -> Result<Connection, PoolError> {
        // nix-daemon may have been started anew since.
        while let Some(mut connection) = self.used() {
            if set(&mut connection.nix, options).await.is_ok() {
                return Ok(connection);
            }
        }
        let mut connection = self.open().await?;
        set(&mut connection.nix, options).await?;
        Ok(connection)
    }

    /// A connection that has been used before, if there is one. Whether it works is not known.
    pub(super) fn used(&self) -> Option<Connection> {
        self.idle().pop().map(|idle| idle.connection)
    }

    /// A new connection, with nix-daemon's own options.
    ///
    /// # Errors
    /// [`LocalNixError`].
    pub(super) async fn open(&self) -> Result<Connection, LocalNixError> {
        let opened = Instant::now();
        let (nix, _) = nix::connect(&self.socket).await?;
        Ok(Connection { nix, opened })
    }

    /// Takes back a connection. One on which a request was not finished is closed.
    pub fn give_back(&self, connection: Connection) {
        if !connection.nix.is_idle() || connection.opened.elapsed() > USED_AGAIN {
            return;
        }
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

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn set(nix: &mut NixClient, options: &ClientOptions) -> Result<(), ClientError> {
    nix::within(ANSWER_TIMEOUT, nix.set_options(options, &mut Discard)).await
}
