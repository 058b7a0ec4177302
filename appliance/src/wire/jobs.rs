//! The jobs that a client waits for at once, some of which may have to wait for others.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::SelectAll};
use nix_compat::nix_daemon::{BuildResult, BuildStatus, StderrMessage};
use tokio::sync::mpsc;

use super::{
    targets::{Order, Outputs},
    unfetched::Unfetched,
};
use crate::model::{Builds, JobEvent, JobId, Refusal, Submission, Ticket, first_line};

/// Jobs that one client has in the queue at once; more than any node has slots, and far fewer than
/// the queue holds.
const MAX_AT_ONCE: usize = 256;

/// A job, and what it has to wait for.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The job.
    pub(super) order: Order,
    /// The steps, by their places, that must have ended well before it can begin.
    pub(super) waits_for: BTreeSet<usize>,
    /// Whether the client has asked for its outputs; if not, other steps need them.
    pub(super) wanted: bool,
}

impl From<Order> for Step {
    /// A job that waits for nothing.
    fn from(order: Order) -> Self {
        Self { order, waits_for: BTreeSet::new(), wanted: true }
    }
}

/// How one of them ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    /// The job; none if it was refused, or never begun.
    pub(super) id: Option<JobId>,
    /// The result, or the refusal as a transient failure.
    pub(super) result: BuildResult,
}

/// Where a step stands.
enum State {
    Waiting(Box<Submission>),
    Running(JobId),
    Ended(Ended),
}

/// A step under way.
struct Underway {
    name: String,
    state: State,
    waits_for: BTreeSet<usize>,
    outputs: Outputs,
    wanted: bool,
}

/// Jobs whose events are merged. Dropping this detaches the client from all; the jobs go on.
pub(super) struct Jobs<'a, B> {
    builds: &'a B,
    steps: Vec<Underway>,
    running: SelectAll<Events>,
    /// Whether a step may have become ready since that was last looked at.
    stirred: bool,
}

impl<'a, B: Builds> Jobs<'a, B> {
    /// Nothing is submitted yet: [`Jobs::next`] does that.
    pub(super) fn new(builds: &'a B, steps: Vec<Step>) -> Self {
        let steps = steps.into_iter().map(|Step { order, waits_for, wanted }| Underway {
            name: order.submission.key.drv_path.name().to_owned(),
            state: State::Waiting(Box::new(order.submission)),
            waits_for,
            outputs: order.outputs,
            wanted,
        });
        Self { builds, steps: steps.collect(), running: SelectAll::new(), stirred: true }
    }

    /// Submits what need not wait any more, and gives the next message for the client; none when all
    /// jobs have ended. Cancel safe: a submission that is cut short is made again, which attaches to
    /// the same job.
    pub(super) async fn next(&mut self) -> Option<StderrMessage> {
        loop {
            while let Some(index) = self.ready() {
                self.submit(index).await;
            }
            match self.running.next().await {
                Some((_, Some(JobEvent::Message(message)))) => return Some(message),
                Some((index, Some(JobEvent::Finished(result)))) => self.ended(index, *result),
                Some((index, None)) => {
                    let why = "the roost daemon stopped while the job waited or ran";
                    self.ended(index, transient(why));
                }
                None => return None,
            }
        }
    }

    /// The next step to submit. Those that wait for what has failed, have failed by that.
    fn ready(&mut self) -> Option<usize> {
        let mut index = 0;
        while self.stirred && index < self.steps.len() {
            let step = &self.steps[index];
            if !matches!(step.state, State::Waiting(_)) {
                index += 1;
                continue;
            }
            let mut others = step.waits_for.iter();
            if let Some(why) = others.find_map(|other| self.failure(*other)) {
                let result = BuildResult::failure(BuildStatus::DependencyFailed, why);
                self.steps[index].state = State::Ended(Ended { id: None, result });
                // Another one may wait for this one.
                index = 0;
                continue;
            }
            if step.waits_for.iter().all(|other| self.is_ended(*other)) {
                if self.underway() < MAX_AT_ONCE {
                    return Some(index);
                }
                // Room is made when one ends.
                break;
            }
            index += 1;
        }
        self.stirred = false;
        None
    }

    /// Jobs in the queue.
    fn underway(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.state, State::Running(_))).count()
    }

    fn is_ended(&self, index: usize) -> bool {
        self.steps.get(index).is_none_or(|step| matches!(step.state, State::Ended(_)))
    }

    /// Why a step failed, if it has.
    fn failure(&self, index: usize) -> Option<String> {
        let step = self.steps.get(index)?;
        let State::Ended(Ended { result, .. }) = &step.state else { return None };
        let why = first_line(&result.error_msg);
        (!result.is_success()).then(|| format!("its dependency {} failed: {why}", step.name))
    }

    /// Submits a step. A refusal counts as its end, unless it is for want of room that other steps
    /// will make.
    async fn submit(&mut self, index: usize) {
        let State::Waiting(submission) = &self.steps[index].state else { return };
        self.steps[index].state = match self.builds.submit((**submission).clone()).await {
            Ok(Ticket { id, events }) => {
                self.running.push(Events { index, events, ended: false });
                State::Running(id)
            }
            // No answer but the end of the connection, which is near: another node then knows
            // that it lost us, and asks again, where any result would end the job.
            Err(Refusal::Stopping) => std::future::pending().await,
            Err(Refusal::Full { .. }) if self.underway() > 0 => {
                self.stirred = false;
                return;
            }
            Err(refusal) => {
                State::Ended(Ended { id: None, result: transient(&refusal.to_string()) })
            }
        };
    }

    fn ended(&mut self, index: usize, result: BuildResult) {
        self.stirred = true;
        let step = &mut self.steps[index];
        if let State::Running(id) = &step.state {
            step.state = State::Ended(Ended { id: Some(id.clone()), result });
        }
    }

    /// Their results, in the order of the steps. What was asked for is expected to be fetched; what
    /// was built on the way is done with.
    pub(super) async fn settle(self, unfetched: &Unfetched) -> Vec<BuildResult> {
        let mut results = Vec::with_capacity(self.steps.len());
        for step in self.steps {
            let ended = match step.state {
                State::Ended(ended) => ended,
                State::Running(_) | State::Waiting(_) => {
                    let result = transient("it was never begun: what it waits for waits for it");
                    Ended { id: None, result }
                }
            };
            if let (Some(id), false) = (&ended.id, step.wanted) {
                // Unless somebody else is about to fetch it.
                if !unfetched.expects(id) {
                    self.builds.fetched(id).await;
                }
                results.push(ended.result);
            } else {
                results.push(unfetched.expect_of(ended, step.outputs));
            }
        }
        results
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
    /// The step's place, and what happened to it; nothing if the daemon stops.
    type Item = (usize, Option<JobEvent>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let index = self.index;
        self.events.poll_recv(cx).map(|event| {
            self.ended = matches!(event, None | Some(JobEvent::Finished(_)));
            Some((index, event))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;
    use crate::{
        model::{Client, Mode},
        wire::testing::{Asked, drv, finish, path, result, soon},
    };

    fn order(name: &str) -> Order {
        let client = Client { label: "somebody".to_owned() };
        Order::derivation(path(&format!("{name}.drv")), drv(name), Mode::Normal, client)
    }

    /// A step that others need.
    fn on_the_way(name: &str, waits_for: &[usize]) -> Step {
        let waits_for = waits_for.iter().copied().collect();
        Step { order: order(name), waits_for, wanted: false }
    }

    async fn settle<B: Builds>(mut jobs: Jobs<'_, B>) -> Vec<BuildResult> {
        while jobs.next().await.is_some() {}
        jobs.settle(&Unfetched::default()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_stops_gives_no_result() {
        let stopping = Asked::refusing(Refusal::Stopping);
        let mut jobs = Jobs::new(&stopping, vec![order("a").into()]);
        assert!(timeout(Duration::from_secs(60), jobs.next()).await.is_err());
    }

    #[tokio::test]
    async fn any_other_refusal_is_a_transient_failure() {
        let full = Asked::refusing(Refusal::Full { held: 7 });
        let results = settle(Jobs::new(&full, vec![order("a").into()])).await;
        assert_eq!(results[0].status, BuildStatus::TransientFailure);
    }

    /// A queue for one job.
    #[derive(Clone)]
    struct Narrow(Asked, Arc<Mutex<Vec<mpsc::Sender<JobEvent>>>>);

    impl Builds for Narrow {
        async fn submit(&self, submission: Submission) -> Result<Ticket, Refusal> {
            let mut held = self.1.lock().unwrap();
            // It has ended when that was heard.
            held.retain(|events| events.capacity() == 0);
            if !held.is_empty() {
                return Err(Refusal::Full { held: held.len() });
            }
            let (sender, events) = mpsc::channel(1);
            sender.try_send(JobEvent::Finished(Box::new(result(BuildStatus::Built)))).unwrap();
            held.push(sender);
            Ok(Ticket { id: submission.key.id(), events })
        }

        async fn fetched(&self, id: &JobId) {
            self.0.fetched(id).await;
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_while_jobs_of_the_same_client_are_in_it() {
        let (asked, _calls) = Asked::new();
        let narrow = Narrow(asked, Arc::default());
        let steps = ["a", "b", "c"].map(|name| order(name).into()).to_vec();
        let results = soon(settle(Jobs::new(&narrow, steps))).await;
        assert!(results.iter().all(BuildResult::is_success), "{results:?}");
    }

    #[tokio::test]
    async fn a_step_begins_when_what_it_waits_for_has_ended_and_what_nobody_wants_is_let_go() {
        let (builds, mut calls) = Asked::new();
        let steps = vec![
            Step { waits_for: [1, 2].into(), ..order("last").into() },
            on_the_way("first", &[]),
            on_the_way("second", &[]),
        ];
        let played = async {
            let (first, first_events) = calls.submission().await;
            let (second, second_events) = calls.submission().await;
            assert!(calls.is_quiet(), "the last one waits");
            finish(&second_events, result(BuildStatus::Built)).await;
            finish(&first_events, result(BuildStatus::AlreadyValid)).await;
            let (last, last_events) = calls.submission().await;
            assert_eq!(last.key.drv_path, path("last.drv"));
            finish(&last_events, result(BuildStatus::Built)).await;
            assert_eq!(calls.fetched().await, first.key.id());
            assert_eq!(calls.fetched().await, second.key.id());
            assert!(calls.is_quiet(), "the client has yet to fetch the last one");
        };
        let (results, ()) =
            soon(async { tokio::join!(settle(Jobs::new(&builds, steps)), played) }).await;
        assert!(results.iter().all(BuildResult::is_success));
    }

    #[tokio::test]
    async fn what_waits_for_a_failure_fails_by_it_and_the_others_go_on() {
        let (builds, mut calls) = Asked::new();
        let steps = vec![
            on_the_way("broken", &[]),
            on_the_way("between", &[0]),
            Step { waits_for: [1].into(), ..order("last").into() },
            order("other").into(),
        ];
        let played = async {
            let (_, broken) = calls.submission().await;
            let (_, other) = calls.submission().await;
            finish(&broken, BuildResult::failure(BuildStatus::PermanentFailure, "no")).await;
            finish(&other, result(BuildStatus::Built)).await;
        };
        let (results, ()) =
            soon(async { tokio::join!(settle(Jobs::new(&builds, steps)), played) }).await;
        let of = |status| results.iter().filter(|result| result.status == status).count();
        assert_eq!((of(BuildStatus::DependencyFailed), of(BuildStatus::Built)), (2, 1));
        let why = first_line(&results[2].error_msg);
        assert!(
            why.contains("between.drv failed") && why.contains("broken.drv failed: no"),
            "{why}"
        );
    }

    #[tokio::test]
    async fn a_circle_ends_as_a_failure() {
        let (builds, _calls) = Asked::new();
        let steps = vec![on_the_way("a", &[1]), on_the_way("b", &[0])];
        let results = soon(settle(Jobs::new(&builds, steps))).await;
        assert!(results.iter().all(|result| result.status == BuildStatus::TransientFailure));
    }
}
