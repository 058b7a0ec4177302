//! The commands that ask a daemon: fetch, print.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use serde::Serialize;
use tokio::time::sleep;

use super::{error::CommandError, render};
use crate::{
    bus::Client,
    model::{BoardView, JobView, NodeView},
};

/// How often a followed log is looked at: often enough to read along.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

type Done = Result<(), CommandError>;

/// `roost status`, as JSON.
#[derive(Debug, Serialize)]
struct Status<'a> {
    node: &'a NodeView,
    boards: &'a [BoardView],
    /// The store in which this machine emulates, as a node; none if it does not.
    second_store: Option<&'a NodeView>,
}

pub(super) async fn status(client: &Client, json: bool, out: &mut impl Write) -> Done {
    let (node, mut boards) = (client.node().await?, client.boards().await?);
    boards.sort_by(|a, b| (&a.node.name, &a.node.id).cmp(&(&b.node.name, &b.node.id)));
    let second_store = client.second_store().await?;
    let second_store = second_store.as_ref();
    if json {
        return print_json(&Status { node: &node, boards: &boards, second_store }, out);
    }
    Ok(out.write_all(render::status(&node, &boards, second_store).as_bytes())?)
}

pub(super) async fn jobs(
    client: &Client,
    all: bool,
    json: bool,
    now_s: u64,
    out: &mut impl Write,
) -> Done {
    let jobs = listed(client.jobs().await?, all);
    if json {
        return print_json(&jobs, out);
    }
    Ok(out.write_all(render::jobs(&jobs, now_s).as_bytes())?)
}

/// Running jobs, then waiting ones, then, if they are asked for, ended ones; each oldest first.
fn listed(mut jobs: Vec<JobView>, all: bool) -> Vec<JobView> {
    jobs.retain(|job| all || job.ended_s.is_none());
    jobs.sort_by_key(|job| (job.ended_s.is_some(), job.started_s.is_none(), job.accepted_s));
    jobs
}

pub(super) async fn why(
    client: &Client,
    job: &str,
    json: bool,
    now_s: u64,
    out: &mut impl Write,
) -> Done {
    let why = client.why(derivation(job)).await?;
    if json {
        return print_json(&why, out);
    }
    Ok(out.write_all(render::why(&why, now_s).as_bytes())?)
}

/// Prints a log as it is: what a builder wrote is bytes, not necessarily text.
pub(super) async fn logs(client: &Client, job: &str, follow: bool, out: &mut impl Write) -> Done {
    // By its id from now on: a name may come to mean another job.
    let id = client.why(derivation(job)).await?.job.id;
    let mut log = client.job_log(&id).await?;
    if !follow || !log.running {
        io::copy(&mut log.file, out)?;
        return Ok(());
    }
    let running = async || Ok(client.why(&id).await?.job.ended_s.is_none());
    follow_log(&mut log.file, running, out).await
}

async fn follow_log(
    log: &mut impl Read,
    mut running: impl AsyncFnMut() -> Result<bool, CommandError>,
    out: &mut impl Write,
) -> Done {
    loop {
        // Asked before the log is read, so that what was written up to the end is not missed.
        let more = running().await?;
        io::copy(log, out)?;
        out.flush()?;
        if !more {
            return Ok(());
        }
        sleep(FOLLOW_INTERVAL).await;
    }
}

pub(super) async fn cancel(client: &Client, job: &str, out: &mut impl Write) -> Done {
    let job = client.why(derivation(job)).await?.job;
    client.cancel(&job.id).await?;
    Ok(writeln!(out, "cancelled {} (job {})", job.name, job.id)?)
}

pub(super) async fn drain(client: &Client, board: Option<&str>, out: &mut impl Write) -> Done {
    client.drain(board).await?;
    Ok(match board {
        None => writeln!(out, "this node takes nothing new; `roost resume` ends that"),
        Some(board) => {
            writeln!(out, "{board} is given nothing new; `roost resume {board}` ends that")
        }
    }?)
}

pub(super) async fn resume(client: &Client, board: Option<&str>, out: &mut impl Write) -> Done {
    client.resume(board).await?;
    Ok(match board {
        None => writeln!(out, "this node takes jobs again"),
        Some(board) => writeln!(out, "{board} is given jobs again"),
    }?)
}

/// A job as the daemon knows it: without the outputs that Nix appends to a derivation (`^out`, and
/// `!out` in its own messages).
fn derivation(word: &str) -> &str {
    word.split(['^', '!']).next().unwrap_or(word)
}

/// Prints JSON, indented, with a line end.
pub(super) fn print_json(value: &impl Serialize, out: &mut impl Write) -> Done {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    /// Gives a byte more at each reading, as a file does that somebody writes to.
    struct Growing<'a> {
        bytes: &'a [u8],
        at_end: bool,
    }

    impl Read for Growing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.at_end = !self.at_end;
            let available = if self.at_end { 1 } else { 0 };
            (&mut self.bytes).take(available).read(buffer)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_log_is_printed_once_and_to_the_end_of_the_job() {
        let (mut log, mut out) = (Growing { bytes: b"log\xff", at_end: false }, Vec::new());
        let mut asked = 0;
        let running = async || {
            asked += 1;
            Ok(asked < 4)
        };
        follow_log(&mut log, running, &mut out).await.unwrap();
        assert_eq!(out, b"log\xff");
        assert_eq!(asked, 4);
    }

    #[tokio::test]
    async fn a_log_whose_job_is_lost_ends_with_the_reason() {
        let gone = async || Err(CommandError::Print(io::Error::other("gone")));
        let mut out = Vec::new();
        let followed = follow_log(&mut &b"log"[..], gone, &mut out).await;
        assert!(matches!(followed, Err(CommandError::Print(_))));
    }

    #[test]
    fn running_jobs_come_before_waiting_and_ended_ones() {
        let mut jobs = fixtures::jobs();
        jobs.reverse();
        assert_eq!(listed(jobs.clone(), true), fixtures::jobs());
        assert_eq!(listed(jobs, false), fixtures::jobs()[..2]);
    }

    #[test]
    fn outputs_are_no_part_of_a_jobs_name() {
        for word in ["/nix/store/x-a.drv", "/nix/store/x-a.drv^out", "/nix/store/x-a.drv!out,dev"] {
            assert_eq!(derivation(word), "/nix/store/x-a.drv");
        }
        assert_eq!(derivation("hello-2.12"), "hello-2.12");
    }
}
