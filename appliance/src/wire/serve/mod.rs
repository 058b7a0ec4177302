//! The serve protocol, served: commands become jobs and requests to the local nix-daemon.
//!
//! The protocol has no room for logs and errors; they go to the client's standard error, and an
//! error ends the session.

mod closure;
mod import;
mod log;

use std::collections::BTreeSet;

use nix_compat::{
    derivation::BasicDerivation,
    nix_daemon::{
        BuildMode, BuildResult, BuildStatus, PathInfo, ProtocolVersion,
        client::{Discard, MessageSink as _},
    },
    nix_serve::{
        self, BuildFailure, Command, ServeVersion, write_build_paths_reply, write_build_result,
        write_path_infos,
    },
    store_path::StorePath,
    wire::{WireError, write_store_path_set, write_u64},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use self::{import::Asked, log::Log};
use super::{
    door::Notes,
    jobs::{Jobs, Step, failures},
    local_nix::{BUFFER_BYTES, DaemonClient, LocalNix, OPEN_TIMEOUT},
    plan::Plan,
    session::SessionError,
    stream::{Incoming, Outgoing, hung_up},
    targets::Order,
};
use crate::model::{Builds, Client};

/// The session of one client, after the handshake.
pub(super) struct Serve<'a, B> {
    input: BufReader<Incoming>,
    output: Outgoing,
    log: Log<'a>,
    version: ServeVersion,
    client: Client,
    write_allowed: bool,
    builds: &'a B,
    nix: &'a LocalNix,
    /// Holds what the client asked about against garbage collection.
    daemon: DaemonClient,
}

impl<'a, B: Builds> Serve<'a, B> {
    /// Connects to nix-daemon and lets the client in.
    ///
    /// # Errors
    /// [`SessionError`].
    pub(super) async fn open(
        input: Incoming,
        mut output: Outgoing,
        notes: &'a mut Notes,
        nix: &'a LocalNix,
        builds: &'a B,
        client: Client,
        write_allowed: bool,
    ) -> Result<Self, SessionError> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let (daemon, _) = nix.connect(ProtocolVersion::MAX).await?;
        let version = timeout(OPEN_TIMEOUT, nix_serve::accept(&mut input, &mut output))
            .await
            .unwrap_or_else(|_| Err(SessionError::timed_out("the handshake")))
            .map_err(SessionError::Client)?;
        let log = Log(notes);
        let serve =
            Self { input, output, log, version, client, write_allowed, builds, nix, daemon };
        Ok(serve)
    }

    /// Serves commands until the client hangs up.
    ///
    /// # Errors
    /// [`SessionError`], for the client's standard error.
    pub(super) async fn run(mut self) -> Result<(), SessionError> {
        loop {
            let ended = match self.asked().await {
                Ok(Asked::Command(command)) => self.handle(command).await,
                Ok(Asked::Import) => self.import().await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => {}
                Err(error) if error.is_hang_up() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn handle(&mut self, command: Command) -> Result<(), SessionError> {
        let mut reply = Vec::new();
        match command {
            Command::QueryValidPaths { lock, substitute, paths } => {
                let valid = self.valid_paths(lock, substitute, &paths).await?;
                write_store_path_set(&mut reply, &valid);
            }
            Command::QueryPathInfos(paths) => {
                write_path_infos(&mut reply, &self.path_infos(paths).await?);
            }
            Command::DumpStorePath(path) => return self.dump(path).await,
            Command::BuildPaths { targets, .. } => {
                self.check_write()?;
                write_build_paths_reply(&mut reply, &self.build_paths(targets).await?);
            }
            Command::QueryClosure { include_outputs, paths } => {
                let closure = self.closure(paths, include_outputs).await?;
                write_store_path_set(&mut reply, &closure);
            }
            Command::BuildDerivation { drv_path, drv, .. } => {
                self.check_write()?;
                let result = self.build_derivation(drv_path, *drv).await?;
                write_build_result(&mut reply, &result, self.version);
            }
            Command::AddToStoreNar(info) => {
                self.check_write()?;
                let mut nar = (&mut self.input).take(info.nar_size);
                self.daemon
                    .add_to_store_nar(&info, &mut nar, false, true, &mut self.log)
                    .await
                    .map_err(SessionError::asking)?;
                write_u64(&mut reply, 1);
            }
        }
        self.output.write_all(&reply).await.map_err(SessionError::writing)
    }

    fn check_write(&self) -> Result<(), SessionError> {
        if self.write_allowed {
            return Ok(());
        }
        let what = "to build or to add to this store without `nix-store --serve --write`";
        Err(SessionError::Client(WireError::Unsupported { what }))
    }

    async fn valid_paths(
        &mut self,
        lock: bool,
        substitute: bool,
        paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, SessionError> {
        if lock && self.write_allowed {
            for path in paths {
                self.daemon
                    .add_temp_root(path, &mut self.log)
                    .await
                    .map_err(SessionError::asking)?;
            }
        }
        let substitute = substitute && self.write_allowed;
        self.daemon
            .query_valid_paths(paths, substitute, &mut self.log)
            .await
            .map_err(SessionError::asking)
    }

    async fn path_infos(
        &mut self,
        paths: impl IntoIterator<Item = StorePath>,
    ) -> Result<Vec<PathInfo>, SessionError> {
        let paths: Vec<_> = paths.into_iter().collect();
        let infos = self
            .daemon
            .query_path_infos(&paths, &mut Discard)
            .await
            .map_err(SessionError::asking)?;
        Ok(infos.into_iter().flatten().collect())
    }

    async fn dump(&mut self, path: StorePath) -> Result<(), SessionError> {
        self.daemon
            .nar_from_path(&path, &mut self.output, &mut self.log)
            .await
            .map_err(SessionError::asking)?;
        for id in self.nix.unfetched.fetched(&path) {
            self.builds.fetched(&id).await;
        }
        Ok(())
    }

    async fn build_derivation(
        &mut self,
        drv_path: StorePath,
        drv: BasicDerivation,
    ) -> Result<BuildResult, SessionError> {
        let mode = BuildMode::Normal.into();
        let order = Order::derivation(drv_path, drv, mode, self.client.clone());
        let mut results = self.build(vec![order.into()]).await?;
        results.pop().ok_or(SessionError::client_gone())
    }

    async fn build_paths(
        &mut self,
        targets: Vec<String>,
    ) -> Result<Result<(), BuildFailure>, SessionError> {
        let mode = BuildMode::Normal.into();
        let Plan { steps, ordered, others } =
            Plan::make(self.nix, targets, mode, &self.client).await;
        let mut results = Vec::new();
        if !others.is_empty() {
            results = self
                .daemon
                .build_paths_with_results(&others, BuildMode::Normal, &mut self.log)
                .await
                .map_err(SessionError::asking)?;
        }
        let built = self.build(steps).await?;
        results.extend(ordered.into_iter().filter_map(|target| target.answer(&built)));
        Ok(match failures(&results) {
            None => Ok(()),
            Some(message) => {
                Err(BuildFailure { exit_status: exit_status(&results), message: message.into() })
            }
        })
    }

    /// Has the jobs done, with their logs shown to the client.
    async fn build(&mut self, steps: Vec<Step>) -> Result<Vec<BuildResult>, SessionError> {
        let mut jobs = Jobs::new(self.builds, steps);
        loop {
            tokio::select! {
                message = jobs.next() => match message {
                    Some(message) => self.log.message(message).await,
                    None => break,
                },
                () = hung_up(&mut self.input, &self.output) => {
                    return Err(SessionError::client_gone());
                }
            }
        }
        Ok(jobs.settle(&self.nix.unfetched).await)
    }
}

/// The status that `nix-store` would exit with.
fn exit_status(results: &[(String, BuildResult)]) -> u64 {
    let any = |wanted: BuildStatus| results.iter().any(|(_, result)| result.status == wanted);
    if any(BuildStatus::PermanentFailure) {
        100
    } else if any(BuildStatus::TimedOut) {
        101
    } else if any(BuildStatus::OutputRejected) {
        102
    } else if any(BuildStatus::NotDeterministic) {
        104
    } else {
        1
    }
}

#[cfg(test)]
mod tests;
