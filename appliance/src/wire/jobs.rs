//! One or more jobs that a client waits for at once.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::SelectAll};
use nix_compat::nix_daemon::{BuildResult, BuildStatus, StderrMessage};
use tokio::sync::mpsc;

use crate::model::{Builds, JobEvent, JobId, Refusal, Submission, Ticket};

/// How one of them ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    /// The job; none if it was refused.
    pub(super) id: Option<JobId>,
    /// The result, or the refusal as a transient failure.
    pub(super) result: BuildResult,
}

/// Jobs whose events are merged. Dropping this detaches the client from all; the jobs go on.
pub(super) struct Jobs {
    running: SelectAll<Events>,
    ended: Vec<Ended>,
}

impl Jobs {
    /// Submits all of them. A refusal counts as that job's end.
    pub(super) async fn submit<B: Builds>(builds: &B, submissions: Vec<Submission>) -> Self {
        let mut jobs = Self { running: SelectAll::new(), ended: Vec::new() };
        for (index, submission) in submissions.into_iter().enumerate() {
            let ended = match builds.submit(submission).await {
                Ok(Ticket { id, events }) => {
                    jobs.running.push(Events { index, events, ended: false });
                    let result = transient("the roost daemon stopped while the job waited or ran");
                    Ended { id: Some(id), result }
                }
                // No answer but the end of the connection, which is near: another node then knows
                // that it lost us, and asks again, where any result would end the job.
                Err(Refusal::Stopping) => std::future::pending().await,
                Err(refusal) => Ended { id: None, result: transient(&refusal.to_string()) },
            };
            jobs.ended.push(ended);
        }
        jobs
    }

    /// The next message for the client; none when all jobs have ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<StderrMessage> {
        while let Some((index, event)) = self.running.next().await {
            match event {
                JobEvent::Message(message) => return Some(message),
                JobEvent::Finished(result) => self.ended[index].result = *result,
            }
        }
        None
    }

    /// How they ended, in the order of their submission. Those that had not ended count as
    /// transient failures.
    pub(super) fn into_ended(self) -> Vec<Ended> {
        self.ended
    }
}

/// A result that says: not built, and nothing is wrong with the derivation.
pub(super) fn transient(message: &str) -> BuildResult {
    BuildResult::failure(BuildStatus::TransientFailure, message)
}

/// What to tell a client that does not want each result by itself: nothing if all went well.
pub(super) fn failures(results: &[(String, BuildResult)]) -> Option<String> {
    let lines: Vec<_> = results
        .iter()
        .filter(|(_, result)| !result.is_success())
        .map(|(target, result)| {
            let why = String::from_utf8_lossy(&result.error_msg);
            format!("build of '{target}' failed ({}): {why}", result.status.name())
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The events of one job, up to its end.
struct Events {
    index: usize,
    events: mpsc::Receiver<JobEvent>,
    ended: bool,
}

impl futures_util::Stream for Events {
    type Item = (usize, JobEvent);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let index = self.index;
        self.events.poll_recv(cx).map(|event| {
            self.ended = matches!(event, None | Some(JobEvent::Finished(_)));
            event.map(|event| (index, event))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::{
        model::{Client, JobKey, Mode, Payload, Site},
        wire::testing::Asked,
    };

    fn submission() -> Submission {
        let drv = "/nix/store/00000000000000000000000000000000-a.drv";
        Submission {
            key: JobKey {
                drv_path: drv.parse().unwrap(),
                outputs: [JobKey::ALL_OUTPUTS.to_owned()].into(),
                mode: Mode::Normal,
                site: Site::default(),
            },
            payload: Payload::Target(format!("{drv}!*")),
            system: "riscv64-linux".to_owned(),
            features: BTreeSet::new(),
            client: Client { label: "somebody".to_owned() },
            forwarded: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_stops_gives_no_result() {
        let stopping = Asked::refusing(Refusal::Stopping);
        let asked = timeout(Duration::from_secs(60), Jobs::submit(&stopping, vec![submission()]));
        assert!(asked.await.is_err());
    }

    #[tokio::test]
    async fn any_other_refusal_is_a_transient_failure() {
        let full = Asked::refusing(Refusal::Full { held: 7 });
        let ended = Jobs::submit(&full, vec![submission()]).await.into_ended();
        assert_eq!(ended[0].result.status, BuildStatus::TransientFailure);
    }
}
