//! ImportPaths: paths one after another in the format of `nix-store --export`, which Hydra's queue
//! runner sends.
//!
//! A path's name and references come after its NAR there, and before it in the worker protocol, so
//! each NAR goes through a temporary file.

use std::io;

use nix_compat::{
    nar::NarScanner,
    nix_daemon::PathInfo,
    nix_serve::Command,
    wire::{
        Scan, WireError, read_bool, read_bytes, read_magic, read_optional_store_path,
        read_store_path, read_store_path_set, read_u64, write_u64,
    },
};
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader},
};

use super::Serve;
use crate::{
    model::Builds,
    wire::{local_nix::BUFFER_BYTES, session::SessionError, stream::next_bytes},
};

/// The number of the command.
const IMPORT_PATHS: u64 = 4;

/// What separates a NAR from what is told of it.
const EXPORT_MAGIC: u64 = 0x4558_494e;

/// On disk, other than `/tmp` on many systems.
const SPOOL_DIR: &str = "/var/tmp";

/// What a client asks for.
pub(super) enum Asked {
    /// The paths follow.
    Import,
    /// Anything else.
    Command(Command),
}

/// A NAR in a temporary file.
struct Spooled {
    nar: BufReader<File>,
    nar_hash: String,
    nar_size: u64,
}

impl<B: Builds> Serve<'_, B> {
    /// Reads the next command.
    pub(super) async fn asked(&mut self) -> Result<Asked, SessionError> {
        next_bytes(&mut self.input).await?;
        let number = read_u64(&mut self.input, "a command").await.map_err(SessionError::Client)?;
        if number == IMPORT_PATHS {
            return Ok(Asked::Import);
        }
        let number = number.to_le_bytes();
        let mut whole = number.as_slice().chain(&mut self.input);
        let command = Command::read(&mut whole, self.version).await;
        command.map(Asked::Command).map_err(SessionError::Client)
    }

    /// Adds the paths that follow to the store.
    pub(super) async fn import(&mut self) -> Result<(), SessionError> {
        self.check_write()?;
        let client = SessionError::Client;
        while read_bool(&mut self.input, "whether a path follows").await.map_err(client)? {
            let mut spooled = self.spool().await?;
            let info = self.read_info(&spooled).await.map_err(client)?;
            self.daemon
                .add_to_store_nar(&info, &mut spooled.nar, false, true, &mut self.log)
                .await
                .map_err(SessionError::asking)?;
        }
        let mut reply = Vec::new();
        write_u64(&mut reply, 1);
        self.output.write_all(&reply).await.map_err(SessionError::writing)
    }

    /// Reads what follows a NAR.
    async fn read_info(&mut self, spooled: &Spooled) -> Result<PathInfo, WireError> {
        let r = &mut self.input;
        read_magic(r, "the export format", EXPORT_MAGIC).await?;
        let path = read_store_path(r, "an imported path").await?;
        let references = read_store_path_set(r, "the references of an imported path").await?;
        let deriver = read_optional_store_path(r, "the deriver of an imported path").await?;
        if read_bool(r, "whether an obsolete signature follows").await? {
            read_bytes(r, "an obsolete signature", 4096).await?;
        }
        Ok(PathInfo {
            path,
            deriver,
            nar_hash: spooled.nar_hash.clone(),
            references,
            registration_time_s: 0,
            nar_size: spooled.nar_size,
            ultimate: false,
            signatures: [].into(),
            ca: String::new(),
        })
    }

    /// Copies a NAR into a file, and hashes it on the way.
    async fn spool(&mut self) -> Result<Spooled, SessionError> {
        let spooling = |source: io::Error| {
            SessionError::Client(WireError::Io {
                doing: "write",
                what: "a NAR to a temporary file",
                source,
            })
        };
        let mut file = File::from_std(tempfile::tempfile_in(SPOOL_DIR).map_err(spooling)?);
        let (mut hash, mut nar_size, mut scanner) = (Sha256::new(), 0, NarScanner::new());
        while !scanner.is_done() {
            let bytes = next_bytes(&mut self.input).await?;
            let len = scanner.feed(bytes).map_err(SessionError::Client)?;
            hash.update(&bytes[..len]);
            file.write_all(&bytes[..len]).await.map_err(spooling)?;
            self.input.consume(len);
            nar_size += len as u64;
        }
        file.rewind().await.map_err(spooling)?;
        let nar_hash = data_encoding::HEXLOWER.encode(&hash.finalize());
        Ok(Spooled { nar: BufReader::with_capacity(BUFFER_BYTES, file), nar_hash, nar_size })
    }
}
