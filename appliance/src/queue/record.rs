//! Records on disk: a version byte, then CBOR.

use serde::{Serialize, de::DeserializeOwned};

use super::QueueError;
use crate::{
    learn::{Entry, PackageKey},
    model::{How, Job, JobId, Payload},
};

/// The version of all kinds of record that is written.
pub(super) const VERSION: u8 = 1;

/// The largest payload accepted. Nix itself passes a derivation's environment through `execve`,
/// so a few MiB are the practical end; with thousands of inputs this is still ten times more.
pub(super) const MAX_PAYLOAD_BYTES: usize = 32 << 20;

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    /// Written by another roost.
    #[error("unknown record version {found}; this roost reads version {VERSION}")]
    Version {
        /// The byte found.
        found: u8,
    },
    /// Not a record.
    #[error("malformed record: {0}")]
    Malformed(String),
}

pub(super) fn encode_job(job: &Job) -> Result<Vec<u8>, QueueError> {
    encode(job)
}

pub(super) fn encode_payload(payload: &Payload) -> Result<Vec<u8>, QueueError> {
    encode(payload)
}

pub(super) fn encode_entry(entry: &Entry) -> Result<Vec<u8>, QueueError> {
    encode(entry)
}

/// The key of a package's record: its name, its system and how it is run.
pub(super) fn history_key(key: &PackageKey) -> Vec<u8> {
    let package = key.package();
    let how = match package.how {
        How::Native => b'n',
        How::Emulated => b'e',
    };
    // Neither word can have a zero in it.
    [package.name.as_bytes(), &[0], package.system.as_bytes(), &[0, how]].concat()
}

/// Decodes the record of a package and checks that it is the one its key names.
pub(super) fn decode_entry(key: &[u8], bytes: &[u8]) -> Result<Entry, RecordError> {
    let entry: Entry = decode(bytes)?;
    if !entry.is_valid() || history_key(&entry.key) != key {
        return Err(RecordError::Malformed("it is the record of another package".to_owned()));
    }
    Ok(entry)
}

/// Decodes a job and checks that it is the one its key names.
pub(super) fn decode_job(key: &[u8], bytes: &[u8]) -> Result<Job, RecordError> {
    let job: Job = decode(bytes)?;
    let id = job.id();
    if id.as_str().as_bytes() != key {
        return Err(RecordError::Malformed(format!("it is the record of job {id}")));
    }
    Ok(job)
}

pub(super) fn decode_payload(id: &JobId, bytes: &[u8]) -> Result<Payload, QueueError> {
    decode(bytes)
        .map_err(|error| QueueError::Unreadable { id: id.clone(), reason: error.to_string() })
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, QueueError> {
    let mut bytes = vec![VERSION];
    ciborium::into_writer(value, &mut bytes).map_err(|error| QueueError::Disk {
        doing: "encode a record",
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let mut rest = match bytes.split_first() {
        None => return Err(RecordError::Malformed("it is empty".to_owned())),
        Some((&VERSION, rest)) => rest,
        Some((&found, _)) => return Err(RecordError::Version { found }),
    };
    let value = ciborium::from_reader(&mut rest)
        .map_err(|error| RecordError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(RecordError::Malformed(format!("{} bytes too many", rest.len())));
    }
    Ok(value)
}
