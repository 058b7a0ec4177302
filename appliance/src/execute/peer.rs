//! Runs a job on a board: ships its inputs there, has it built, listens, and brings its outputs home
//! if they are wanted here.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::BoxFuture;
use nix_compat::{
    nix_daemon::{
        BuildResult, BuildStatus, ClientOptions, StderrMessage,
        client::{ClientError, Discard},
    },
    store_path::StorePath,
};
use tokio::time::Instant;

use super::{
    Execute, Link, Order, Pool, PoolError, Report, Stage, Verdict, activity,
    link::Channel,
    nix::{self, ANSWER_TIMEOUT, NixClient},
    outputs,
    ship::{self, ShipError},
};
use crate::{
    model::{Payload, Sent, Site, first_line},
    queue::roots::Roots,
};

/// How often inputs are sent again when the board lost them before it accepted the job.
const SHIPMENTS: u32 = 3;

/// A board as an executor.
pub struct Peer {
    /// The connection to it.
    pub link: Arc<Link>,
    /// Its name, for people.
    pub node: String,
    /// Connections to the local nix-daemon, where the inputs are.
    pub store: Pool,
    /// Whether the board may fetch inputs from its own substituters first.
    pub substitute: bool,
    /// Where outputs are held that are wanted here, until they are fetched.
    pub roots: Roots,
}

impl Execute for Peer {
    fn run<'a>(&'a self, order: Order, report: &'a mut dyn Report) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let Payload::Derivation(_) = &order.payload else {
                return refused(&order, "only derivations are sent to boards");
            };
            let mut channel = match self.link.channel_for(order.cores).await {
                Ok(channel) => channel,
                Err(error) => return Verdict::Lost(error.to_string()),
            };
            match self.build(&mut channel, &order, report).await {
                Verdict::Ended(result) => {
                    self.link.give_back(channel);
                    Verdict::Ended(result)
                }
                Verdict::Lost(why) if self.link.ends_with_channel() => Verdict::Died(why),
                verdict => verdict,
            }
        })
    }
}

impl Peer {
    async fn build(
        &self,
        channel: &mut Channel,
        order: &Order,
        report: &mut dyn Report,
    ) -> Verdict {
        let Payload::Derivation(derivation) = &order.payload else {
            return refused(order, "only derivations are sent to boards");
        };
        let lost = |error: &dyn std::fmt::Display| {
            Verdict::Lost(format!("the connection to {} was lost: {error}", self.node))
        };
        for _ in 0..SHIPMENTS {
            match self.ship(&mut channel.nix, order, report).await {
                Ok(sent) => report.supplied(sent),
                Err(ShipError::To(ClientError::Nix(error))) => {
                    let text = first_line(&error.message);
                    return Verdict::Lost(format!("{} did not take the inputs: {text}", self.node));
                }
                Err(ShipError::To(error)) => return lost(&error),
                Err(error) => return refused(order, &format!("the local store: {error}")),
            }
            report.stage(Stage::Waiting(format!("sent to {}", self.node)));
            let mut sink = |message| {
                report.accepted();
                self.tell(report, message);
            };
            let mode = super::mode(order.key.mode);
            let built = channel
                .nix
                .build_derivation(&order.key.drv_path, derivation, mode, &mut sink)
                .await;
            match built {
                // The board may have lost inputs to its garbage collector before it accepted.
                Ok(result) if result.status == BuildStatus::TransientFailure => {
                    match has_all(&mut channel.nix, &derivation.input_srcs).await {
                        Ok(true) => return Verdict::Ended(Box::new(result)),
                        Ok(false) => {}
                        Err(error) => return lost(&error),
                    }
                }
                Ok(result) => {
                    report.built();
                    return self.end(&mut channel.nix, order, result, report).await;
                }
                Err(ClientError::Nix(error)) => {
                    let result = BuildResult::failure(BuildStatus::MiscFailure, error.message);
                    return Verdict::Ended(Box::new(result));
                }
                Err(error) => return lost(&error),
            }
        }
        Verdict::Died(format!("{} lost inputs {SHIPMENTS} times as they arrived", self.node))
    }

    /// Ends a run that has a result. Outputs that are wanted in this node's store come here first.
    async fn end(
        &self,
        board: &mut NixClient,
        order: &Order,
        result: BuildResult,
        report: &mut dyn Report,
    ) -> Verdict {
        if order.key.site == Site::Here && result.is_success() {
            let home = (&self.store, &self.roots);
            let brought =
                outputs::bring_home(board, &self.node, home, (order, &result), report).await;
            if let Err(error) = brought {
                let why = format!("the outputs could not be fetched from {}: {error}", self.node);
                return if error.is_refusal() { Verdict::Died(why) } else { Verdict::Lost(why) };
            }
        }
        Verdict::Ended(Box::new(result))
    }

    /// Sends what the board lacks, and tells what that was. Only one job at a time uploads to a board; one
    /// that lacks nothing does not wait for that.
    async fn ship(
        &self,
        board: &mut NixClient,
        order: &Order,
        report: &mut dyn Report,
    ) -> Result<Option<Sent>, ShipError> {
        let Payload::Derivation(derivation) = &order.payload else { return Ok(None) };
        let inputs = &derivation.input_srcs;
        if self.link.ends_with_channel() {
            // No roost holds them there: what is valid already could be deleted under the build.
            for input in inputs {
                nix::within(ANSWER_TIMEOUT, board.add_temp_root(input, &mut Discard))
                    .await
                    .map_err(ShipError::To)?;
            }
        }
        if has_all(board, inputs).await.map_err(ShipError::To)? {
            return Ok(None);
        }
        let unreachable = |error: PoolError| {
            ShipError::From(ClientError::Nix(nix_compat::nix_daemon::NixError::new(
                error.to_string(),
            )))
        };
        let _uploading = match self.link.shipping.try_lock() {
            Ok(uploading) => uploading,
            Err(_) => {
                let waiting = format!("another upload to {} is under way", self.node);
                report.stage(Stage::Waiting(waiting));
                self.link.shipping.lock().await
            }
        };
        let mut local = self.store.take(&ClientOptions::default()).await.map_err(unreachable)?;
        let cargo = ship::missing(&mut local.nix, board, inputs, self.substitute).await?;
        let mut sent = None;
        if !cargo.is_empty() {
            let stage = |copied| Stage::Shipping { node: self.node.clone(), copied };
            let since = Instant::now();
            ship::send(&mut local.nix, board, &cargo, &stage, report).await?;
            sent = Some(Sent { bytes: cargo.bytes(), took: since.elapsed() });
        }
        self.store.give_back(local);
        Ok(sent)
    }

    /// What the board says of the job, as our own clients should see it.
    fn tell(&self, report: &mut dyn Report, message: StderrMessage) {
        match message {
            StderrMessage::StartActivity { kind: activity::UNKNOWN, text, .. } => {
                let text = first_line(&text);
                report.stage(Stage::Waiting(format!("on {}: {text}", self.node)));
            }
            StderrMessage::StartActivity { kind: activity::BUILD, .. } => {
                report.stage(Stage::Building { node: self.node.clone(), phase: None });
            }
            other => super::tell(&self.node, report, other),
        }
    }
}

async fn has_all(board: &mut NixClient, inputs: &BTreeSet<StorePath>) -> Result<bool, ClientError> {
    Ok(nix::valid(board, inputs).await?.len() == inputs.len())
}

fn refused(order: &Order, why: &str) -> Verdict {
    let message = format!("roost: {}: {why}", order.key.drv_path.name());
    Verdict::Ended(Box::new(BuildResult::failure(BuildStatus::TransientFailure, message)))
}
