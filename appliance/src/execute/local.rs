//! Runs a job on the local nix-daemon, on a connection that is its own meanwhile.
//!
//! The daemon holds that connection, so a client that goes away loses nothing; and when the
//! connection goes, nix-daemon ends the build, so a job that is given up runs on nowhere.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::BoxFuture;
use nix_compat::nix_daemon::{BuildResult, BuildStatus, ClientOptions, client::ClientError};

use super::{
    Execute, Measured, Order, Pool, PoolError, Report, Stage, Verdict, mode, nix::NixClient,
    outputs, pool::Connection,
};
use crate::{
    model::{Cores, Payload},
    observe::memory::PeakMemory,
    queue::roots::Roots,
};

/// What nix-daemon is told for each build.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// Nix's `cores`: cores that are one build's share; 0 is all.
    pub cores: u32,
    /// Nix's `timeout`; 0 is none.
    pub timeout_s: u64,
    /// Nix's `max-silent-time`; 0 is none.
    pub max_silent_s: u64,
    /// Features this node offers: nix-daemon refuses a derivation that needs any other.
    pub features: BTreeSet<String>,
}

impl BuildSettings {
    /// The same in the words of the protocol, for a build that may use these cores.
    pub(super) fn options(&self, cores: Cores) -> ClientOptions {
        let build_cores = match cores {
            Cores::Share => u64::from(self.cores),
            Cores::All => 0,
        };
        let BuildSettings { cores: _, timeout_s, max_silent_s, features } = self;
        let features: Vec<_> = features.iter().map(String::as_str).collect();
        let overrides = [
            // A board may be a workstation too; its builds must not travel in circles.
            ("builders", String::new()),
            ("timeout", timeout_s.to_string()),
            ("system-features", features.join(" ")),
        ];
        ClientOptions {
            max_build_jobs: 1,
            build_cores,
            max_silent_time_s: *max_silent_s,
            use_substitutes: true,
            overrides: overrides.map(|(name, value)| (name.to_owned(), value)).into(),
            ..ClientOptions::default()
        }
    }
}

/// The local nix-daemon as an executor.
pub struct LocalNix {
    /// Connections to it.
    pub pool: Pool,
    /// This node's name, for people.
    pub node: String,
    /// What it is told.
    pub settings: BuildSettings,
    /// Where outputs are held until they are fetched.
    pub roots: Roots,
    /// Builds that run.
    pub builds: AtomicU32,
    /// Builds that were begun, ever.
    pub begun: AtomicU32,
    /// `memory.peak` of nix-daemon's cgroup, if there is one.
    pub memory_peak: PathBuf,
    /// Why it could not be reached when a build or a client last needed it; empty if it could.
    pub trouble: Arc<Mutex<String>>,
}

impl Execute for LocalNix {
    fn run<'a>(&'a self, order: Order, report: &'a mut dyn Report) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let _running = Counted::new(&self.builds);
            self.begun.fetch_add(1, Ordering::Relaxed);
            let mut connection = match self.open(order.cores).await {
                Ok(connection) => connection,
                Err(why) => return Verdict::Lost(why),
            };
            match self.build(&mut connection.nix, &order, report).await {
                Ok(result) => {
                    self.pool.give_back(connection);
                    Verdict::Ended(Box::new(result))
                }
                Err(why) => Verdict::Died(why),
            }
        })
    }
}

/// Counts something as long as it is there.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl LocalNix {
    /// What keeps nix-daemon from building, as far as known; empty if nothing does.
    #[must_use]
    pub fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds out whether nix-daemon answers again, if it did not.
    pub async fn recover(&self) {
        if !self.trouble().is_empty() {
            drop(self.open(Cores::Share).await);
        }
    }

    /// A connection to build on, with these cores. That there is none is remembered as trouble.
    async fn open(&self, cores: Cores) -> Result<Connection, String> {
        let opened = self.pool.take(&self.settings.options(cores)).await;
        let opened = opened.map_err(|error| match error {
            PoolError::Connect(error) => error.to_string(),
            PoolError::Lost(error) => format!("nix-daemon on {} went away: {error}", self.node),
        });
        let trouble = opened.as_ref().err().cloned().unwrap_or_default();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        opened
    }

    async fn build(
        &self,
        nix: &mut NixClient,
        order: &Order,
        report: &mut dyn Report,
    ) -> Result<BuildResult, String> {
        let died = |error: ClientError| format!("nix-daemon on {} went away: {error}", self.node);
        report.accepted();
        report.stage(Stage::Building { node: self.node.clone(), phase: None });
        let memory = self.memory();
        let mut sink = |message| super::tell(&self.node, report, message);
        let mode = mode(order.key.mode);
        let built = match &order.payload {
            Payload::Derivation(derivation) => {
                nix.build_derivation(&order.key.drv_path, derivation, mode, &mut sink).await
            }
            Payload::Target(target) => {
                let targets = std::slice::from_ref(target);
                nix.build_paths_with_results(targets, mode, &mut sink).await.map(|results| {
                    results
                        .into_iter()
                        .next()
                        .map_or_else(|| no_result(target), |(_, result)| result)
                })
            }
        };
        report.built();
        match built {
            Ok(result) => {
                let peak_mib = memory.and_then(|memory| memory.of_one_build(self));
                if result.is_success() {
                    let output_bytes = self.hold(nix, order, &result).await?;
                    report.measured(Measured { output_bytes, peak_mib });
                }
                Ok(result)
            }
            // nix-daemon refused: a result like any other, and no reason to ask again.
            Err(ClientError::Nix(error)) => {
                Ok(BuildResult::failure(BuildStatus::MiscFailure, error.message))
            }
            Err(error) => Err(died(error)),
        }
    }

    /// Holds the outputs while this connection's temporary roots still do. Their size, if it was found
    /// out.
    async fn hold(
        &self,
        nix: &mut NixClient,
        order: &Order,
        result: &BuildResult,
    ) -> Result<Option<u64>, String> {
        let made = outputs::of(order, result);
        outputs::protect(nix, &made).await.map_err(|error| error.to_string())?;
        let bytes = outputs::nar_bytes(nix, &made).await;
        outputs::hold(&self.roots, order.key.id(), made)
            .await
            .map_err(|error| format!("the outputs cannot be held: {error}"))?;
        Ok(bytes)
    }

    /// Begins to look at nix-daemon's memory, if no other build runs.
    fn memory(&self) -> Option<Memory> {
        if self.builds.load(Ordering::Relaxed) > 1 {
            return None;
        }
        let peak = PeakMemory::since_now(&self.memory_peak)?;
        Some(Memory { peak, begun: self.begun.load(Ordering::Relaxed) })
    }
}

/// The memory of a build. The kernel counts that of all builds together, with whatever else nix-daemon
/// does: it is one build's as long as no other runs.
struct Memory {
    peak: PeakMemory,
    /// Builds that had been begun when this one was.
    begun: u32,
}

impl Memory {
    /// The most that it had, in MiB, if no other build has run meanwhile.
    fn of_one_build(&self, nix: &LocalNix) -> Option<u32> {
        let alone = nix.begun.load(Ordering::Relaxed) == self.begun;
        self.peak.mib().filter(|_| alone)
    }
}

fn no_result(target: &str) -> BuildResult {
    let message = format!("nix-daemon gave no result for {target}");
    BuildResult::failure(BuildStatus::MiscFailure, message)
}
