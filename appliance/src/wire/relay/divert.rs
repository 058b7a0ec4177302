//! Requests that build: they become jobs.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use nix_compat::{
    derivation::BasicDerivation,
    nix_daemon::{
        BuildMode, BuildResult, Request, StderrMessage, read_keyed_results, write_keyed_results,
    },
    store_path::StorePath,
    wire::write_u64,
};
use tokio::io::AsyncWriteExt;

use super::{Lifetime, Relay};
use crate::{
    model::Builds,
    wire::{
        jobs::{Jobs, Step, failures},
        plan::Plan,
        session::SessionError,
        stream::hung_up,
        targets::Order,
    },
};

/// Messages are gathered up to about this much before they are written.
const WRITE_BYTES: usize = 32 * 1024;

impl<B: Builds> Relay<'_, B> {
    /// Builds a derivation that the client sent along (BuildDerivation).
    pub(super) async fn build_derivation(
        &mut self,
        drv_path: StorePath,
        drv: BasicDerivation,
        mode: BuildMode,
    ) -> Result<(), SessionError> {
        let order = Order::derivation(drv_path, drv, mode.into(), self.client.clone());
        let results = self.build(vec![order.into()]).await?;
        let mut reply = StderrMessage::Last.encode();
        for result in &results {
            result.write(&mut reply, self.version);
        }
        self.write(&reply).await?;
        if !results.iter().any(BuildResult::is_success) {
            self.end_job();
        }
        Ok(())
    }

    /// Builds what is in the store (BuildPaths, BuildPathsWithResults). Paths that are no outputs of
    /// derivations here are nix-daemon's to build or fetch.
    pub(super) async fn build_targets(&mut self, request: Request) -> Result<(), SessionError> {
        let (Request::BuildPaths { targets, mode }
        | Request::BuildPathsWithResults { targets, mode }) = &request
        else {
            return self.relay(&request).await;
        };
        let Plan { steps, ordered, others } =
            Plan::make(self.nix, targets.clone(), (*mode).into(), &self.client).await;
        if ordered.is_empty() {
            return self.relay(&request).await;
        }
        let Some(mut results) = self.build_others(others, *mode).await? else { return Ok(()) };
        let built = self.build(steps).await?;
        results.extend(ordered.into_iter().filter_map(|target| target.answer(&built)));
        let results: Vec<_> = targets
            .iter()
            .filter_map(|target| Some((target.clone(), results.get(target)?.clone())))
            .collect();
        let keyed = matches!(request, Request::BuildPathsWithResults { .. });
        self.reply_targets(&results, keyed).await?;
        if !results.iter().any(|(_, result)| result.is_success()) {
            self.end_job();
        }
        Ok(())
    }

    async fn reply_targets(
        &mut self,
        results: &[(String, BuildResult)],
        keyed: bool,
    ) -> Result<(), SessionError> {
        let mut reply = StderrMessage::Last.encode();
        if keyed {
            write_keyed_results(&mut reply, results, self.version);
        } else if let Some(message) = failures(results) {
            return self.refuse(&message).await;
        } else {
            write_u64(&mut reply, 1);
        }
        self.write(&reply).await
    }

    /// Has nix-daemon build or fetch `targets`, and passes its messages on. None if it answered with
    /// an error, which is passed on, too.
    async fn build_others(
        &mut self,
        targets: Vec<String>,
        mode: BuildMode,
    ) -> Result<Option<BTreeMap<String, BuildResult>>, SessionError> {
        if targets.is_empty() {
            return Ok(Some(BTreeMap::new()));
        }
        self.send(&Request::BuildPathsWithResults { targets, mode }).await?;
        loop {
            let message = self.listen().await?;
            match message {
                StderrMessage::Last => break,
                StderrMessage::Error(_) => {
                    return self.write(&message.encode()).await.map(|()| None);
                }
                _ => self.write(&message.encode()).await?,
            }
        }
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        let results = read_keyed_results(&mut daemon.replies.reader, self.version)
            .await
            .map_err(SessionError::DaemonLost)?;
        Ok(Some(results.into_iter().collect()))
    }

    /// Has the jobs done, with their messages sent to the client. The results are in the order of
    /// `steps`.
    async fn build(&mut self, mut steps: Vec<Step>) -> Result<Vec<BuildResult>, SessionError> {
        // A peer's jobs are built here or refused: another node has sent them on already.
        for step in &mut steps {
            step.order.submission.forwarded = self.lifetime == Lifetime::Job;
        }
        let mut jobs = Jobs::new(self.builds, steps);
        let mut bytes = Vec::new();
        loop {
            let message = tokio::select! {
                message = jobs.next() => message,
                () = hung_up(&mut self.input, &self.output) => {
                    return Err(SessionError::client_gone());
                }
            };
            let Some(message) = message else { break };
            message.write(&mut bytes);
            while bytes.len() < WRITE_BYTES {
                let Some(Some(message)) = jobs.next().now_or_never() else { break };
                message.write(&mut bytes);
            }
            self.output.write_all(&bytes).await.map_err(SessionError::writing)?;
            bytes.clear();
        }
        self.job_ended = true;
        Ok(jobs.settle(&self.nix.unfetched).await)
    }
}
