//! What one attached client hears: stages as Nix activities, the log from its first line, the end.

use std::sync::atomic::{AtomicU64, Ordering};

use nix_compat::nix_daemon::{Field, StderrMessage};
use tokio::sync::{mpsc, watch};

use super::live::{Progress, fetching, shipping};
use crate::{
    execute::{Stage, activity},
    model::{Job, JobEvent},
    queue::logs::LogFollower,
};

/// Nix's verbosity levels (`error.hh`).
const LEVEL_INFO: u64 = 3;
const LEVEL_TALKATIVE: u64 = 4;

/// Activity ids are ours alone: the upper half tells them from nix-daemon's, which start with a
/// process id.
static NEXT_ACTIVITY: AtomicU64 = AtomicU64::new(0x7000_0000 << 32);

/// The activity a client sees now.
struct Activity {
    id: u64,
    stage: Stage,
}

pub(super) struct Feed {
    drv_path: String,
    name: String,
    progress: watch::Receiver<Progress>,
    log: LogFollower,
    log_ended: bool,
    activity: Option<Activity>,
}

/// The client has gone.
struct Gone;

impl Feed {
    pub(super) fn new(job: &Job, progress: watch::Receiver<Progress>, log: LogFollower) -> Self {
        Self {
            drv_path: job.key.drv_path.to_string(),
            name: job.name.clone(),
            progress,
            log,
            log_ended: false,
            activity: None,
        }
    }

    /// Feeds until the job has ended and the client knows, or the client has gone.
    pub(super) async fn run(mut self, client: mpsc::Sender<JobEvent>) {
        let gone = client.clone();
        tokio::select! {
            _ = self.tell(&client) => {}
            () = gone.closed() => {}
        }
    }

    async fn tell(&mut self, client: &mpsc::Sender<JobEvent>) -> Result<(), Gone> {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            let stage = match progress {
                Progress::At(stage) => stage,
                Progress::Ended(result) => {
                    while let Some(line) = self.next_line().await {
                        self.line(client, line).await?;
                    }
                    self.stop(client).await?;
                    return client.send(JobEvent::Finished(result)).await.map_err(|_| Gone);
                }
            };
            self.show(client, stage).await?;
            tokio::select! {
                // The sender lives in the dispatcher's state: gone means that it stops.
                changed = self.progress.changed() => changed.map_err(|_| Gone)?,
                line = next_line(&mut self.log), if !self.log_ended => match line {
                    Some(line) => self.line(client, line).await?,
                    None => self.log_ended = true,
                },
            }
        }
    }

    async fn next_line(&mut self) -> Option<Vec<u8>> {
        if self.log_ended {
            return None;
        }
        next_line(&mut self.log).await
    }

    async fn line(&mut self, client: &mpsc::Sender<JobEvent>, line: Vec<u8>) -> Result<(), Gone> {
        let message = match &self.activity {
            Some(activity) => StderrMessage::Result {
                id: activity.id,
                kind: activity::LOG_LINE,
                fields: vec![Field::String(line)],
            },
            None => StderrMessage::Next([&line[..], b"\n"].concat()),
        };
        send(client, message).await
    }

    /// Moves the client's activity on to `stage`.
    async fn show(&mut self, client: &mpsc::Sender<JobEvent>, stage: Stage) -> Result<(), Gone> {
        if let Some(activity) = &mut self.activity {
            if activity.stage == stage {
                return Ok(());
            }
            if let (Stage::Building { node: a, .. }, Stage::Building { node: b, phase }) =
                (&activity.stage, &stage)
            {
                if a == b {
                    let phase = phase.clone().unwrap_or_default().into_bytes();
                    let id = activity.id;
                    activity.stage = stage;
                    let fields = vec![Field::String(phase)];
                    let message = StderrMessage::Result { id, kind: activity::SET_PHASE, fields };
                    return send(client, message).await;
                }
            }
        }
        self.stop(client).await?;
        let id = NEXT_ACTIVITY.fetch_add(1, Ordering::Relaxed);
        let message = self.start(id, &stage);
        self.activity = Some(Activity { id, stage });
        send(client, message).await
    }

    fn start(&self, id: u64, stage: &Stage) -> StderrMessage {
        let (level, kind, text, fields) = match stage {
            Stage::Waiting(reason) => {
                (LEVEL_TALKATIVE, activity::UNKNOWN, format!("{}: {reason}", self.name), vec![])
            }
            Stage::Shipping { node, copied } => {
                let far = shipping(node, copied);
                (LEVEL_TALKATIVE, activity::UNKNOWN, format!("{}: {far}", self.name), vec![])
            }
            Stage::Fetching { node, copied } => {
                let far = fetching(node, copied);
                (LEVEL_TALKATIVE, activity::UNKNOWN, format!("{}: {far}", self.name), vec![])
            }
            Stage::Building { node, .. } => {
                let fields = vec![
                    Field::String(self.drv_path.clone().into_bytes()),
                    Field::String(node.clone().into_bytes()),
                    Field::Int(1),
                    Field::Int(1),
                ];
                let text = format!("building '{}' on {node}", self.drv_path);
                (LEVEL_INFO, activity::BUILD, text, fields)
            }
        };
        StderrMessage::StartActivity { id, level, kind, text: text.into_bytes(), fields, parent: 0 }
    }

    async fn stop(&mut self, client: &mpsc::Sender<JobEvent>) -> Result<(), Gone> {
        match self.activity.take() {
            Some(activity) => send(client, StderrMessage::StopActivity(activity.id)).await,
            None => Ok(()),
        }
    }
}

/// The log's next line; a log that cannot be read ends here.
async fn next_line(log: &mut LogFollower) -> Option<Vec<u8>> {
    log.next_line().await.unwrap_or_else(|error| {
        tracing::warn!("a client does not see the whole log: {error}");
        None
    })
}

async fn send(client: &mpsc::Sender<JobEvent>, message: StderrMessage) -> Result<(), Gone> {
    client.send(JobEvent::Message(message)).await.map_err(|_| Gone)
}
