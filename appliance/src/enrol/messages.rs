//! The lines that are exchanged.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ssh_key::PublicKey;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{
    model::UpdateView,
    trust::{Checked, ROSTER_MAX_BYTES, SignedOrder, SignedRoster, fingerprint_of},
};

/// The version of this conversation. A request that a node does not know ends it there, so what was added
/// later is asked for only by those who want it, and answered on its own: old and new nodes go on.
pub(super) const VERSION: u32 = 1;

/// A line is at most this long: a roster, with what JSON adds to it.
const MAX_LINE: u64 = 2 * ROSTER_MAX_BYTES as u64 + 4096;

/// How long a line may take: what is asked for is done at once, but for sshd's reading its
/// configuration anew on a slow board.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the node that connected asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who are you? Comes first.
    Hello {
        /// The version of this conversation.
        version: u32,
        /// The time, in seconds since 1970, for a node that has no clock.
        time_s: u64,
    },
    /// Take these certificates.
    Install {
        /// For the host key.
        host: String,
        /// For the client key.
        user: String,
    },
    /// Have sshd show the certificate that you have.
    Show,
    /// Take this roster, if it is newer than yours.
    Roster(SignedRoster),
    /// Give me your roster.
    GiveRoster,
    /// Your certificate was seen: the token has done its duty.
    Confirm,
    /// Run another system. Added later than the ones above.
    Update(SignedOrder),
    /// How did your last update go? Added later.
    LastUpdate,
}

/// What the other node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello(Box<Described>),
    /// It is done.
    Done,
    /// To [`Request::GiveRoster`].
    Roster(Option<SignedRoster>),
    /// To [`Request::LastUpdate`].
    LastUpdate(Option<UpdateView>),
    /// It was not done: why.
    Refused(String),
}

/// How a node stands to its fleet, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// The version of this conversation.
    pub version: u32,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its host key.
    pub host_key: PublicKey,
    /// The key with which it logs in to others.
    pub client_key: PublicKey,
    /// The number of its roster; 0 if it has none.
    pub roster: u64,
    /// Its host certificate.
    pub host: Option<Shown>,
    /// Its user certificate.
    pub user: Option<Shown>,
    /// Whether it still has its token.
    pub has_token: bool,
}

/// A certificate, as a node describes its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// When it ends, in seconds since 1970.
    pub until_s: u64,
    /// The key that signed it, as `SHA256:…`.
    pub signed_by: String,
}

impl From<Checked> for Shown {
    fn from(checked: Checked) -> Self {
        Self { until_s: checked.until_s, signed_by: fingerprint_of(&checked.signed_by) }
    }
}

/// Why a conversation ended early.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Io(#[from] std::io::Error),
    /// The other node has gone.
    #[error("the other node ended the conversation")]
    Closed,
    /// It says nothing.
    #[error("the other node did not answer within {} s", LINE_TIMEOUT.as_secs())]
    Silent,
    /// A line is not one of these.
    #[error("the other node says something that this version does not understand: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A line does not end.
    #[error("the other node sent a line of more than {MAX_LINE} bytes")]
    TooLong,
}

/// Reads a line; `None` at the end.
pub(super) async fn read<T: DeserializeOwned>(
    reader: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<T>, ChannelError> {
    let mut line = Vec::new();
    let mut limited = reader.take(MAX_LINE);
    let read = timeout(LINE_TIMEOUT, limited.read_until(b'\n', &mut line)).await;
    read.map_err(|_| ChannelError::Silent)??;
    if line.is_empty() {
        return Ok(None);
    }
    if !line.ends_with(b"\n") {
        let too_long = line.len() as u64 >= MAX_LINE;
        return Err(if too_long { ChannelError::TooLong } else { ChannelError::Closed });
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Writes a line.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), ChannelError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let write = async {
        writer.write_all(&line).await?;
        writer.flush().await
    };
    timeout(LINE_TIMEOUT, write).await.map_err(|_| ChannelError::Silent)??;
    Ok(())
}
