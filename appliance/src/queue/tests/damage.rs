//! Files broken on purpose.

use std::{collections::BTreeMap, sync::OnceLock};

use proptest::prelude::*;
use rustix::thread::{Timespec, nanosleep};
use tokio::runtime;

use super::*;

/// What happens to a file. Positions are parts of 65,536 of it.
#[derive(Clone, Debug)]
enum Harm {
    Missing,
    Truncate { at: u16 },
    Flip { at: Vec<u16>, bit: u8 },
    Zero { at: u16, bytes: usize },
    Garbage { at: u16, bytes: Vec<u8> },
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        1 => Just(Harm::Missing),
        2 => any::<u16>().prop_map(|at| Harm::Truncate { at }),
        4 => (proptest::collection::vec(any::<u16>(), 1..4), 0..8_u8)
            .prop_map(|(at, bit)| Harm::Flip { at, bit }),
        3 => (any::<u16>(), 1..9_000_usize).prop_map(|(at, bytes)| Harm::Zero { at, bytes }),
        3 => (any::<u16>(), proptest::collection::vec(any::<u8>(), 1..9_000))
            .prop_map(|(at, bytes)| Harm::Garbage { at, bytes }),
    ]
}

impl Harm {
    fn apply(&self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let len = bytes.len();
        let place = |at: u16| usize::from(at) * len / 65_536;
        match self {
            Self::Missing => return fs::remove_file(path).unwrap(),
            Self::Truncate { at } => bytes.truncate(place(*at)),
            Self::Flip { at, bit } => at.iter().for_each(|at| bytes[place(*at)] ^= 1 << bit),
            Self::Zero { at, bytes: zeros } => {
                let end = (place(*at) + zeros).min(len);
                bytes[place(*at)..end].fill(0);
            }
            Self::Garbage { at, bytes: garbage } => {
                let end = (place(*at) + garbage.len()).min(len);
                bytes[place(*at)..end].copy_from_slice(&garbage[..end - place(*at)]);
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

/// A queue with a history, opened again since, so that sled's snapshot knows every page.
fn settled() -> &'static (tempfile::TempDir, BTreeMap<JobId, Job>) {
    static QUEUE: OnceLock<(tempfile::TempDir, BTreeMap<JobId, Job>)> = OnceLock::new();
    QUEUE.get_or_init(|| {
        let (dir, path) = place();
        let jobs = block_on(async {
            let (queue, recovery) = open(&path);
            let mut table = recovery.history;
            for number in 0..30 {
                let name = format!("package{number}");
                queue.learn(&history::learn(&mut table, &name, 10)).await.unwrap();
                let bytes = number as usize * 997 % 20_000;
                queue.accept(&job(number), &payload(number, bytes)).await.unwrap();
            }
            for number in 0..8 {
                queue.update(&done(number, 3_000), Durability::Now).await.unwrap();
            }
            queue.close().await.unwrap();
            let (queue, recovery) = open(&path);
            queue.close().await.unwrap();
            recovery.jobs
        });
        (dir, jobs.into_iter().map(|job| (job.id(), job)).collect())
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Opens a queue that was harmed, checks that it says so if anything is missing, and that it can
/// be used and opened again.
async fn check(path: &Path, jobs: &BTreeMap<JobId, Job>) {
    let (queue, recovery) = open(path);
    let intact = |job: &Job| jobs.get(&job.id()) == Some(job);
    assert!(recovery.jobs.iter().all(|job| jobs.contains_key(&job.id())));
    if let Some(damage) = &recovery.damage {
        assert!(damage.moved_to.is_dir());
        assert_eq!(damage.salvaged, recovery.jobs.len());
    } else {
        assert!(recovery.jobs.len() == jobs.len() && recovery.jobs.iter().all(intact));
        assert_eq!(recovery.history.len(), 30);
    }
    queue.accept(&job(1_000), &payload(1_000, 5_000)).await.unwrap();
    queue.close().await.unwrap();
    let (queue, again) = open(path);
    assert!(again.damage.is_none() && again.changed.is_empty() && again.set_aside.is_empty());
    assert_eq!(again.jobs.len(), recovery.jobs.len() + 1);
    assert_eq!(again.history.since(0), recovery.history.since(0));
    assert_eq!(queue.payload(&job(1_000).id()).await.unwrap(), Some(payload(1_000, 5_000)));
    queue.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 8,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_damaged_file_is_survived_and_reported(file in 0..3_usize, harm in harm()) {
        let (template, jobs) = settled();
        let (_dir, path) = place();
        copy(&template.path().join("queue"), &path);
        harm.apply(&files(&path)[file]);
        block_on(check(&path, jobs));
    }
}

#[test]
fn damage_to_settings_or_snapshot_loses_no_job() {
    let (template, jobs) = settled();
    let (_dir, path) = place();
    for (number, name) in files(&template.path().join("queue")).iter().enumerate() {
        let name = name.file_name().unwrap();
        if name == "db" {
            continue;
        }
        let path = path.with_extension(number.to_string());
        copy(&template.path().join("queue"), &path);
        fs::write(path.join(name), "a little garbage, long enough for a checksum").unwrap();
        let (_queue, recovery) = open(&path);
        let damage = recovery.damage.unwrap();
        assert_eq!(recovery.jobs, jobs.values().cloned().collect::<Vec<_>>().sorted());
        assert_eq!(damage.moved_to, path.with_extension(format!("{number}.damaged-1")));
        assert!(damage.moved_to.join(name).exists());
    }
}

/// Oldest first, as the queue lists them.
trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for Vec<Job> {
    fn sorted(mut self) -> Self {
        self.sort_by_key(|job| job.accepted_s);
        self
    }
}

#[tokio::test]
async fn damaged_databases_are_kept_beside_each_other() {
    let (_dir, path) = place();
    for number in 1..4 {
        let (queue, _) = open(&path);
        queue.close().await.unwrap();
        fs::write(path.join("conf"), "neither this nor that").unwrap();
        let (queue, recovery) = open(&path);
        let moved_to = recovery.damage.unwrap().moved_to;
        assert_eq!(moved_to, path.with_extension(format!("damaged-{number}")));
        queue.close().await.unwrap();
    }
}

/// The database behind the queue's back. A child of another test, between fork and exec, may hold its
/// lock for a moment.
fn raw(path: &Path) -> sled::Db {
    let config = sled::Config::new().path(path).flush_every_ms(None);
    for _ in 0..100 {
        if let Ok(db) = config.open() {
            return db;
        }
        drop(nanosleep(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
    }
    config.open().unwrap()
}

/// Writes to the trees behind the queue's back.
fn meddle(path: &Path, tree: &str, key: &[u8], value: &[u8]) {
    let db = raw(path);
    db.open_tree(tree).unwrap().insert(key, value).unwrap();
    db.flush().unwrap();
}

fn read_raw(path: &Path, tree: &str, key: &[u8]) -> Option<Vec<u8>> {
    let db = raw(path);
    db.open_tree(tree).unwrap().get(key).unwrap().map(|value| value.to_vec())
}

#[tokio::test]
async fn unreadable_records_are_set_aside_with_the_reason() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    for number in 1..5 {
        queue.accept(&job(number), &payload(number, 9_000)).await.unwrap();
    }
    queue.close().await.unwrap();
    let id = |number| job(number).id();
    let mut newer = record::encode_job(&job(1)).unwrap();
    newer[0] = 200;
    let trailing = [record::encode_job(&job(2)).unwrap(), vec![0]].concat();
    let elsewhere = record::encode_job(&job(9)).unwrap();
    for (number, value) in [(1, &newer), (2, &trailing), (3, &elsewhere)] {
        meddle(&path, "jobs", id(number).as_str().as_bytes(), value);
    }
    meddle(&path, "jobs", b"no id", b"");
    meddle(&path, "payloads", b"no chunk", b"x");

    let (queue, recovery) = open(&path);
    assert_eq!(recovery.jobs, [job(4)]);
    let reason = |key: &str| {
        let found = recovery.set_aside.iter().find(|found| found.key == key);
        found.map(|found| found.reason.clone()).unwrap_or_default()
    };
    assert!(reason(&format!("jobs/{}", id(1))).contains("version 200"), "{recovery:?}");
    assert!(reason(&format!("jobs/{}", id(2))).contains("1 bytes too many"), "{recovery:?}");
    assert!(reason(&format!("jobs/{}", id(3))).contains("record of job"), "{recovery:?}");
    assert!(reason("jobs/no id").contains("empty"), "{recovery:?}");
    assert!(reason("payloads/no chunk").contains("key"), "{recovery:?}");
    assert!(recovery.orphans.is_empty());
    queue.close().await.unwrap();

    let key = format!("jobs/{}", id(1));
    assert_eq!(read_raw(&path, "set-aside", key.as_bytes()), Some(newer));
    let (_queue, again) = open(&path);
    assert!(again.set_aside.is_empty() && again.changed.is_empty() && again.orphans.is_empty());
    assert_eq!(again.jobs, [job(4)]);
}

#[tokio::test]
async fn a_job_without_its_derivation_is_failed_and_an_orphan_removed() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 20_000)).await.unwrap();
    queue.accept(&job(2), &payload(2, 20_000)).await.unwrap();
    queue.close().await.unwrap();
    {
        let db = raw(&path);
        let second = db.open_tree("payloads").unwrap().iter().keys().nth(1).unwrap().unwrap();
        db.open_tree("payloads").unwrap().remove(second).unwrap();
        db.flush().unwrap();
    }
    meddle(&path, "payloads", b"gone\0\0\0\0\0", b"\0\0\0\x01x");
    let (queue, recovery) = open(&path);
    assert_eq!(recovery.orphans, ["gone"]);
    let failed: Vec<_> = recovery.jobs.iter().filter(|job| job.state != JobState::Queued).collect();
    let [job] = failed.as_slice() else { panic!("{failed:?}") };
    let JobState::Done { result, .. } = &job.state else { panic!("{job:?}") };
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert_eq!(recovery.changed, [job.id()]);
    queue.close().await.unwrap();
    let (_queue, again) = open(&path);
    assert_eq!(again.jobs, recovery.jobs);
    assert!(again.changed.is_empty() && again.orphans.is_empty());
}

#[tokio::test]
async fn a_derivation_that_makes_no_sense_is_an_error_for_its_job_only() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    queue.accept(&job(2), &payload(2, 10)).await.unwrap();
    queue.close().await.unwrap();
    let key = [job(1).id().as_str().as_bytes(), &[0; 5]].concat();
    meddle(&path, "payloads", &key, b"\0\0\0\x01\x01garbage");
    let (queue, _) = open(&path);
    let unreadable = queue.payload(&job(1).id()).await;
    assert!(matches!(unreadable, Err(QueueError::Unreadable { .. })));
    assert!(queue.payload(&job(2).id()).await.unwrap().is_some());
    queue.update(&done(1, 3_000), Durability::Now).await.unwrap();
}
