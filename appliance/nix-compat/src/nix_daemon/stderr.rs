use tokio::io::AsyncRead;

use crate::wire::{Bounded, WireError, read_bytes, read_count, read_u64, write_bytes, write_u64};

/// Longest text of a log message, error or activity.
pub const MAX_LOG_TEXT: u64 = 8 << 20;

const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// What the protocol calls an error's type and name; both are always this.
const ERROR_TYPE: &str = "Error";

/// A field of an activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Int(u64),
    /// Text, not necessarily UTF-8.
    String(Vec<u8>),
}

/// Nix's structured error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", String::from_utf8_lossy(.message))]
pub struct NixError {
    /// Verbosity level; 0 is error.
    pub level: u64,
    /// Text.
    pub message: Vec<u8>,
    /// Traces.
    pub traces: Vec<Vec<u8>>,
}

impl NixError {
    /// An error of level 0 without traces.
    pub fn new(message: impl Into<Vec<u8>>) -> Self {
        Self { level: 0, message: message.into(), traces: Vec::new() }
    }
}

/// What a server sends before a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StderrMessage {
    /// A line for the log.
    Next(Vec<u8>),
    /// The operation failed.
    Error(NixError),
    /// An activity starts.
    StartActivity {
        /// Unique among the live ones.
        id: u64,
        /// Verbosity level.
        level: u64,
        /// Nix's activity type.
        kind: u64,
        /// Text.
        text: Vec<u8>,
        /// Fields.
        fields: Vec<Field>,
        /// 0 is none.
        parent: u64,
    },
    /// An activity ends.
    StopActivity(u64),
    /// A result of an activity.
    Result {
        /// The activity.
        id: u64,
        /// Nix's result type: 101 log line, 104 phase, 105 progress.
        kind: u64,
        /// Fields.
        fields: Vec<Field>,
    },
    /// The reply follows.
    Last,
}

impl StderrMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`]; [`WireError::Unsupported`] for the two messages that only belong to operations
    /// removed from Nix, and ask for data or carry it.
    pub async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let r = &mut Bounded::new(r);
        match read_u64(r, "the type of a log message").await? {
            NEXT => Ok(Self::Next(read_bytes(r, "a log line", MAX_LOG_TEXT).await?)),
            ERROR => Ok(Self::Error(NixError::read(r).await?)),
            START_ACTIVITY => Ok(Self::StartActivity {
                id: read_u64(r, "the id of an activity").await?,
                level: read_u64(r, "the level of an activity").await?,
                kind: read_u64(r, "the type of an activity").await?,
                text: read_bytes(r, "the text of an activity", MAX_LOG_TEXT).await?,
                fields: read_fields(r).await?,
                parent: read_u64(r, "the parent of an activity").await?,
            }),
            STOP_ACTIVITY => Ok(Self::StopActivity(read_u64(r, "the id of an activity").await?)),
            RESULT => Ok(Self::Result {
                id: read_u64(r, "the id of an activity").await?,
                kind: read_u64(r, "the type of a result").await?,
                fields: read_fields(r).await?,
            }),
            LAST => Ok(Self::Last),
            READ => Err(WireError::Unsupported { what: "a server that asks for data" }),
            WRITE => Err(WireError::Unsupported { what: "data among log messages" }),
            tag => Err(WireError::UnknownTag { what: "the type of a log message", tag }),
        }
    }

    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Next(text) => {
                write_u64(out, NEXT);
                write_bytes(out, text);
            }
            Self::Error(error) => {
                write_u64(out, ERROR);
                error.write(out);
            }
            Self::StartActivity { id, level, kind, text, fields, parent } => {
                [START_ACTIVITY, *id, *level, *kind].iter().for_each(|n| write_u64(out, *n));
                write_bytes(out, text);
                write_fields(out, fields);
                write_u64(out, *parent);
            }
            Self::StopActivity(id) => [STOP_ACTIVITY, *id].iter().for_each(|n| write_u64(out, *n)),
            Self::Result { id, kind, fields } => {
                [RESULT, *id, *kind].iter().for_each(|n| write_u64(out, *n));
                write_fields(out, fields);
            }
            Self::Last => write_u64(out, LAST),
        }
    }

    /// Appends an error in the form that clients before 1.26 know: a text and an exit status.
    pub(super) fn write_old_error(out: &mut Vec<u8>, message: &str) {
        write_u64(out, ERROR);
        write_bytes(out, message);
        write_u64(out, 1);
    }
}

impl NixError {
    async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        read_bytes(r, "the type of an error", MAX_LOG_TEXT).await?;
        let level = read_u64(r, "the level of an error").await?;
        read_bytes(r, "the name of an error", MAX_LOG_TEXT).await?;
        let message = read_bytes(r, "an error message", MAX_LOG_TEXT).await?;
        read_no_position(r).await?;
        let mut traces = Vec::new();
        for _ in 0..read_count(r, "the traces of an error").await? {
            read_no_position(r).await?;
            traces.push(read_bytes(r, "a trace of an error", MAX_LOG_TEXT).await?);
        }
        Ok(Self { level, message, traces })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, ERROR_TYPE);
        write_u64(out, self.level);
        write_bytes(out, ERROR_TYPE);
        write_bytes(out, &self.message);
        write_u64(out, 0);
        write_u64(out, self.traces.len() as u64);
        for trace in &self.traces {
            write_u64(out, 0);
            write_bytes(out, trace);
        }
    }
}

/// Source positions have a place in the format and are never sent.
async fn read_no_position<R: AsyncRead + Unpin>(r: &mut R) -> Result<(), WireError> {
    match read_u64(r, "the position of an error").await? {
        0 => Ok(()),
        tag => Err(WireError::UnknownTag { what: "the position of an error", tag }),
    }
}

async fn read_fields<R: AsyncRead + Unpin>(r: &mut R) -> Result<Vec<Field>, WireError> {
    let mut fields = Vec::new();
    for _ in 0..read_count(r, "the fields of an activity").await? {
        fields.push(match read_u64(r, "the type of a field").await? {
            0 => Field::Int(read_u64(r, "a field of an activity").await?),
            1 => Field::String(read_bytes(r, "a field of an activity", MAX_LOG_TEXT).await?),
            tag => return Err(WireError::UnknownTag { what: "the type of a field", tag }),
        });
    }
    Ok(fields)
}

fn write_fields(out: &mut Vec<u8>, fields: &[Field]) {
    write_u64(out, fields.len() as u64);
    for field in fields {
        match field {
            Field::Int(number) => [0, *number].iter().for_each(|n| write_u64(out, *n)),
            Field::String(text) => {
                write_u64(out, 1);
                write_bytes(out, text);
            }
        }
    }
}
