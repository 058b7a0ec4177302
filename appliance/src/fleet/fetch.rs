//! Fetches what was built from the board that built it.
//!
//! What is in a store does not change. So a connection that breaks is no reason to give up: when
//! the board is back, it is asked again, and a NAR goes on where it broke off.

use std::{io, sync::Arc, time::Duration};

use nix_compat::{
    nix_daemon::{
        PathInfo, StderrMessage,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

use crate::{
    execute::{
        Link, LinkError,
        nix::{self, ANSWER_TIMEOUT},
    },
    model::JobId,
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Refusals in the board's own words that may pass: its nix-daemon was restarted, say.
const REFUSALS: u32 = 3;

/// Where the outputs of a finished job are.
pub trait Whereabouts: Send + Sync {
    /// The connection to the board that has them.
    ///
    /// # Errors
    /// [`Missing`].
    fn of(&self, id: &JobId) -> Result<Arc<Link>, Missing>;

    /// Hears how large an output of the job is, before it is fetched.
    fn told(&self, id: &JobId, output: &PathInfo);
}

/// Why there is no connection to the board that has some outputs; in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not connected now.
    Away(String),
    /// Nobody knows it any more.
    Unknown(String),
}

/// Why something could not be fetched.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The client could not be written to.
    Client(io::Error),
    /// The board cannot give it: in words.
    Board(String),
    /// The board cannot give the rest of it, and the client has the first part: in words.
    Rest(String),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Client(error)
    }
}

/// What ended one attempt.
enum Trouble {
    /// It cannot be cured by waiting.
    Final(String),
    /// The board said no.
    Refused(String),
    /// The connection, which may come back.
    Broken(String),
    /// The client could not be written to.
    Client(io::Error),
}

impl Trouble {
    fn broken(error: &LinkError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Nix(error) => {
                Self::Refused(String::from_utf8_lossy(&error.message).into_owned())
            }
            other => Self::Broken(other.to_string()),
        }
    }
}

/// A path to be fetched.
pub(super) struct Fetch {
    whereabouts: Arc<dyn Whereabouts>,
    job: JobId,
    path: StorePath,
    /// How long a board that is away is waited for.
    patience: Duration,
    /// Since when nothing has come of it.
    since: Option<Instant>,
    refusals: u32,
}

impl Fetch {
    pub(super) fn new(
        whereabouts: Arc<dyn Whereabouts>,
        job: JobId,
        path: StorePath,
        patience: Duration,
    ) -> Self {
        Self { whereabouts, job, path, patience, since: None, refusals: 0 }
    }

    /// What the board's store says of the path. While the board is waited for, the client of
    /// `writer` is told.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn info<W: AsyncWrite + Unpin + Send>(
        &mut self,
        writer: &mut W,
    ) -> Result<Option<PathInfo>, FetchError> {
        loop {
            let trouble = match self.ask().await {
                Ok(info) => return Ok(info),
                Err(trouble) => trouble,
            };
            let first = self.since.is_none();
            let why = self.pause(trouble).await?.map_err(FetchError::Board)?;
            if first {
                let text = format!("roost: waiting to fetch {}: {why}\n", self.path);
                writer.write_all(&StderrMessage::Next(text.into_bytes()).encode()).await?;
                writer.flush().await?;
            }
        }
    }

    /// Sends the end of the messages, and the path's NAR, to the client.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(super) async fn nar<W: AsyncWrite + Unpin + Send>(
        &mut self,
        writer: &mut W,
    ) -> Result<(), FetchError> {
        let mut sent = None;
        while let Err(trouble) = self.send(writer, &mut sent).await {
            let paused = self.pause(trouble).await?;
            paused.map_err(|why| match sent {
                None => FetchError::Board(why),
                Some(_) => FetchError::Rest(why),
            })?;
        }
        Ok(())
    }

    fn link(&self) -> Result<Arc<Link>, Trouble> {
        self.whereabouts.of(&self.job).map_err(|missing| match missing {
            Missing::Away(why) => Trouble::Broken(why),
            Missing::Unknown(why) => Trouble::Final(why),
        })
    }

    async fn ask(&self) -> Result<Option<PathInfo>, Trouble> {
        let link = self.link()?;
        let mut channel = link.channel().await.map_err(|error| Trouble::broken(&error))?;
        let mut discard = Discard;
        let asked = channel.nix.query_path_info(&self.path, &mut discard);
        let info = nix::within(ANSWER_TIMEOUT, asked).await?;
        link.give_back(channel);
        if let Some(info) = &info {
            self.whereabouts.told(&self.job, info);
        }
        Ok(info)
    }

    /// Sends what has not been sent yet. `sent` counts the NAR's bytes, once the reply has begun.
    async fn send<W: AsyncWrite + Unpin + Send>(
        &mut self,
        writer: &mut W,
        sent: &mut Option<u64>,
    ) -> Result<(), Trouble> {
        let link = self.link()?;
        let mut channel = link.channel().await.map_err(|error| Trouble::broken(&error))?;
        let mut discard = Discard;
        let opening = channel.nix.open_nar(&self.path, &mut discard);
        let mut nar = nix::within(ANSWER_TIMEOUT, opening).await?;
        let mut skip = match *sent {
            Some(sent) => sent,
            None => {
                let last = StderrMessage::Last.encode();
                writer.write_all(&last).await.map_err(Trouble::Client)?;
                *sent.insert(0)
            }
        };
        loop {
            let filled = timeout(ANSWER_TIMEOUT, nar.fill_buf()).await;
            let piece = filled.unwrap_or_else(|late| Err(late.into()));
            let piece = piece.map_err(|error| Trouble::Broken(error.to_string()))?;
            if piece.is_empty() {
                break;
            }
            let length = piece.len();
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(length);
            skip -= old as u64;
            if old < length {
                writer.write_all(&piece[old..]).await.map_err(Trouble::Client)?;
                *sent.get_or_insert(0) += (length - old) as u64;
                self.since = None;
            }
            nar.consume(length);
        }
        writer.flush().await.map_err(Trouble::Client)?;
        link.give_back(channel);
        if skip > 0 {
            return Err(Trouble::Final("it is shorter now than it was before".to_owned()));
        }
        Ok(())
    }

    /// Waits before the next attempt, and says what for; or gives up, and says why.
    async fn pause(&mut self, trouble: Trouble) -> Result<Result<String, String>, FetchError> {
        let why = match trouble {
            Trouble::Client(error) => return Err(FetchError::Client(error)),
            Trouble::Final(why) => return Ok(Err(why)),
            Trouble::Refused(why) => {
                self.refusals += 1;
                if self.refusals > REFUSALS {
                    return Ok(Err(why));
                }
                why
            }
            Trouble::Broken(why) => why,
        };
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now - since >= self.patience {
            return Ok(Err(why));
        }
        sleep(PAUSE).await;
        Ok(Ok(why))
    }
}
