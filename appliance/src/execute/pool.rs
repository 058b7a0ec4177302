//! Connections to the local nix-daemon that are used again.
//!
//! Opening one takes nix-daemon longer than most answers. What a connection holds, it holds until it is
//! closed: temporary roots of what was built on it, which are harmless for a while.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix_compat::nix_daemon::{
    ClientOptions,
    client::{ClientError, Discard},
};
use tokio::time::{Instant, sleep_until};

use super::nix::{self, ANSWER_TIMEOUT, NixClient};
use crate::wire::local_nix::{KEPT_IDLE, LocalNixError, USED_AGAIN};

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
        if !connection.nix.is_idle() || connection.opened.elapsed() >= USED_AGAIN {
            return;
        }
        let until = Instant::now() + KEPT_IDLE;
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

#[cfg(test)]
mod tests {
    use nix_compat::nix_daemon::Request;

    use super::*;
    use crate::wire::testing::{FakeNix, NixConnection, pass, soon};

    /// Takes a connection from the pool, on which nix-daemon is told options.
    async fn take(pool: &Pool, nix: &mut NixConnection) -> Connection {
        let options = ClientOptions::default();
        let told = async {
            assert!(matches!(nix.request().await, Request::SetOptions(_)));
            nix.reply(&[]).await;
        };
        soon(async { tokio::join!(pool.take(&options), told) }).await.0.unwrap()
    }

    /// The same, of a new connection.
    async fn open(pool: &Pool, nix: &FakeNix) -> (Connection, NixConnection) {
        let options = ClientOptions::default();
        let accepted = async {
            let mut accepted = nix.accept().await;
            assert!(matches!(accepted.request().await, Request::SetOptions(_)));
            accepted.reply(&[]).await;
            accepted
        };
        let (taken, accepted) = soon(async { tokio::join!(pool.take(&options), accepted) }).await;
        (taken.unwrap(), accepted)
    }

    #[tokio::test]
    async fn a_connection_that_was_given_back_is_used_again_if_it_works() {
        let nix = FakeNix::new();
        let pool = Pool::new(nix.local().socket);
        let (first, mut at_nix) = open(&pool, &nix).await;
        pool.give_back(first);
        let again = take(&pool, &mut at_nix).await;
        let (_second, _at_nix) = open(&pool, &nix).await;
        pool.give_back(again);
        // nix-daemon is started anew.
        drop(at_nix);
        open(&pool, &nix).await;
    }

    #[tokio::test]
    async fn what_is_idle_for_long_or_old_is_closed() {
        let nix = FakeNix::new();
        let pool = Pool::new(nix.local().socket);
        let (idle, mut at_nix) = open(&pool, &nix).await;
        pool.give_back(idle);
        pass(KEPT_IDLE).await;
        assert!(at_nix.is_closed().await);
        let (old, mut at_nix) = open(&pool, &nix).await;
        pass(USED_AGAIN).await;
        pool.give_back(old);
        assert!(at_nix.is_closed().await);
    }
}
