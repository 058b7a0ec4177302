//! Questions to the local nix-daemon, on connections that are kept for a while.

use std::{collections::BTreeSet, time::Duration};

use nix_compat::{
    nix_daemon::{
        ClientOptions, PathInfo,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use tokio::time::timeout;

use super::{
    nix::NixClient,
    pool::{Pool, PoolError},
};
use crate::wire::local_nix::LocalNixError;

/// Longest wait for an answer, which is a database look-up for each path.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] LocalNixError),
    /// The connection was of no use.
    #[error(transparent)]
    Lost(#[from] PoolError),
    /// nix-daemon refused, or went away.
    #[error("the local nix-daemon: {0}")]
    Ask(#[from] ClientError),
    /// nix-daemon said nothing.
    #[error("the local nix-daemon did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
}

/// Asks the local nix-daemon. Clones share its connections.
#[derive(Clone)]
pub struct Queries(Pool);

impl Queries {
    /// Asks on these connections.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self(pool)
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
        if let Some(mut connection) = self.0.used() {
            // nix-daemon may have been restarted since: then a new connection is asked.
            if let Ok(valid) = ask(&mut connection.nix, paths).await {
                self.0.give_back(connection);
                return Ok(valid);
            }
        }
        let mut connection = self.0.open().await?;
        let valid = ask(&mut connection.nix, paths).await?;
        self.0.give_back(connection);
        Ok(valid)
    }

    /// What the store says of `paths`, in their order; none of what is not valid.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn infos(&self, paths: &[StorePath]) -> Result<Vec<Option<PathInfo>>, QueryError> {
        let mut connection = self.0.take(&ClientOptions::default()).await?;
        let mut discard = Discard;
        let infos = connection.nix.query_path_infos(paths, &mut discard);
        let infos = timeout(ANSWER_TIMEOUT, infos).await.map_err(|_| QueryError::Silent)??;
        self.0.give_back(connection);
        Ok(infos)
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
