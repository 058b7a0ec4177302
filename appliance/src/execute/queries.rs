//! Questions to the local nix-daemon, on connections that are kept for a while.

use std::collections::BTreeSet;

use nix_compat::{
    nix_daemon::{
        ClientOptions, PathInfo,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};

use super::{
    nix::{self, ANSWER_TIMEOUT},
    pool::{Pool, PoolError},
};
use crate::wire::local_nix::LocalNixError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] LocalNixError),
    /// nix-daemon refused, went away, or said nothing.
    #[error("the local nix-daemon: {0}")]
    Ask(#[from] ClientError),
}

impl From<PoolError> for QueryError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Connect(error) => error.into(),
            PoolError::Lost(error) => error.into(),
        }
    }
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
            if let Ok(valid) = nix::valid(&mut connection.nix, paths).await {
                self.0.give_back(connection);
                return Ok(valid);
            }
        }
        let mut connection = self.0.open().await?;
        let valid = nix::valid(&mut connection.nix, paths).await?;
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
        let infos = nix::within(ANSWER_TIMEOUT, infos).await?;
        self.0.give_back(connection);
        Ok(infos)
    }
}
