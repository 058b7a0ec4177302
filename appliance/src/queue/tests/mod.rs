//! The queue as its users see it, on real files.

mod behaviour;
mod damage;
mod full_disk;
mod history;
mod job_logs;
mod model;
mod transitions;

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix_compat::{
    derivation::BasicDerivation,
    nix_daemon::{BuildResult, BuildStatus},
    store_path::StorePath,
};

use super::*;
use crate::model::{Client, Course, How, JobKey, JobState, Mode, Site};

/// When queues are opened here.
const NOW_S: u64 = 5_000;

/// The node whose daemon is restarted.
fn own() -> [String; 1] {
    ["board".to_owned()]
}

/// A job that differs from others by its number.
fn job(number: u32) -> Job {
    let path = format!("/nix/store/{number:032}-job-{number}.drv");
    Job {
        key: JobKey {
            drv_path: store_path(&path),
            outputs: ["out".to_owned()].into(),
            mode: Mode::Normal,
            site: Site::Here,
        },
        name: format!("job-{number}"),
        system: "riscv64-linux".to_owned(),
        features: ["kvm".to_owned()].into(),
        size: crate::model::Size::default(),
        client: Client { label: "alice (pid 4711)".to_owned() },
        accepted_s: 1_000 + u64::from(number),
        deaths: 0,
        forwarded: false,
        demand: crate::model::Demand::default(),
        how: How::Native,
        build_ms: None,
        course: Course::default(),
        state: JobState::Queued,
        notes: Vec::new(),
    }
}

fn running(number: u32) -> Job {
    let mut job = job(number);
    rules::start(&mut job, "board", How::Native, 2_000).unwrap();
    job
}

fn done(number: u32, at_s: u64) -> Job {
    let mut job = running(number);
    rules::finish(&mut job, built(at_s), at_s).unwrap();
    job
}

fn built(at_s: u64) -> BuildResult {
    BuildResult { status: BuildStatus::Built, times_built: 1, ..rules::transient("", at_s) }
}

fn store_path(path: &str) -> StorePath {
    serde_json::from_value(serde_json::Value::from(path)).unwrap()
}

/// A derivation of about `bytes` bytes.
fn payload(number: u32, bytes: usize) -> Payload {
    Payload::Derivation(Box::new(BasicDerivation {
        outputs: [].into(),
        input_srcs: [store_path(&format!("/nix/store/{number:032}-source"))].into(),
        platform: "riscv64-linux".to_owned(),
        builder: b"/bin/sh".to_vec(),
        args: Vec::new(),
        env: [(b"text".to_vec(), vec![b'x'; bytes])].into(),
    }))
}

/// An empty folder, and where in it a queue can be.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let queue = dir.path().join("queue");
    (dir, queue)
}

fn open(dir: &Path) -> (Queue, Recovery) {
    Queue::open(dir, Limits::default(), &own(), NOW_S).unwrap()
}

/// What a process that was killed leaves behind, or a power cut after everything was synced.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
