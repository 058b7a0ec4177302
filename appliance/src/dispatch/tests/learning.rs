//! What ended builds teach.

use std::time::Duration;

use nix_compat::nix_daemon::{BuildResult, BuildStatus};

use super::rig::*;
use crate::{
    execute::{Measured, Verdict},
    learn::{Entry, Package},
    model::How,
};

/// What was learned: the names of the packages.
fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.package().name).collect()
}

#[tokio::test]
async fn a_build_here_teaches_how_long_it_took_and_what_was_measured() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello-1.0").await;
    let run = rig.run().await;
    run.builds();
    until(|| rig.view(&run.id()).reason.contains("building")).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(90)).await;
    tokio::time::resume();
    run.measures(Measured { output_bytes: Some(5 << 20), peak_mib: Some(300) });
    run.succeeds();
    alice.result().await;
    let learned = rig.dispatcher.history_since(0);
    assert_eq!(names(&learned), ["hello"]);
    let record = &learned[0].record;
    assert!((89_000..92_000).contains(&record.median_ms().unwrap()), "{record:?}");
    assert_eq!((record.output_bytes(), record.peak_mib()), (Some(5 << 20), Some(300)));
    assert_eq!(rig.dispatcher.history(), record.revision());
    let hello = Package::of("hello", "riscv64-linux", How::Native);
    let time = rig.dispatcher.estimates().seconds(&hello, "board").unwrap();
    assert!((89..92).contains(&time.as_secs()), "{time:?}");
}

#[tokio::test]
async fn a_builders_failure_is_counted_and_what_may_pass_teaches_nothing() {
    let mut rig = Rig::new();
    for (name, status) in [
        ("fails", BuildStatus::PermanentFailure),
        ("endless", BuildStatus::TimedOut),
        ("passes", BuildStatus::TransientFailure),
        ("refused", BuildStatus::MiscFailure),
        ("fetched", BuildStatus::Substituted),
        ("there", BuildStatus::AlreadyValid),
    ] {
        let mut alice = rig.submit(name).await;
        let run = rig.run().await;
        run.builds();
        run.ends(Verdict::Ended(Box::new(BuildResult::failure(status, ""))));
        alice.result().await;
    }
    let _cancelled = rig.submit("cancelled").await;
    let run = rig.run().await;
    run.builds();
    rig.dispatcher.cancel(run.id().as_str(), "alice").await.unwrap();
    run.dropped().await;
    let learned = rig.dispatcher.history_since(0);
    assert_eq!(names(&learned), ["fails", "endless"]);
    assert!(learned.iter().all(|it| (it.record.builds(), it.record.failures()) == (0, 1)));
}

#[tokio::test]
async fn what_another_node_built_is_its_own_to_learn() {
    let mut rig = Rig::workstation();
    let mut alice = rig.submit("hello").await;
    let run = rig.run().await;
    run.builds();
    run.succeeds();
    alice.result().await;
    assert_eq!(rig.dispatcher.history(), 0);
}

#[tokio::test]
async fn what_was_learned_outlasts_the_daemon() {
    let mut rig = Rig::new();
    let mut alice = rig.submit("hello-1.0").await;
    let run = rig.run().await;
    run.builds();
    run.succeeds();
    alice.result().await;
    let learned = rig.dispatcher.history_since(0);
    let rig = rig.again(PATIENT).await;
    assert_eq!(rig.dispatcher.history_since(0), learned);
}
