//! A disk that is full, for a while.
//!
//! Played by a limit on the size of files, in a process of its own since the limit holds for all
//! of it. With `ROOST_TEST_SMALL_FS` set to a folder on a small file system, that one is filled
//! instead.

use std::{env, ffi::OsString, process::Command};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const CHILD: &str = "ROOST_TEST_FULL_DISK_CHILD";
const SMALL_FS: &str = "ROOST_TEST_SMALL_FS";

#[test]
fn a_full_disk_refuses_jobs_and_loses_none() {
    let status = Command::new("sh")
        // Ignored signals stay ignored: writing beyond the limit is then an error.
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "queue::tests::full_disk::in_the_child"])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn in_the_child() {
    if env::var_os(CHILD).is_some() {
        let disk = Disk { small: env::var_os(SMALL_FS) };
        let (dir, path) = match &disk.small {
            None => place(),
            Some(small) => {
                let dir = tempfile::tempdir_in(small).unwrap();
                let path = dir.path().join("queue");
                (dir, path)
            }
        };
        story(&disk, &path).await;
        drop(dir);
    }
}

/// The disk, which can be made full.
struct Disk {
    small: Option<OsString>,
}

impl Disk {
    fn fill(&self, queue: &Path) {
        match &self.small {
            None => limit(Some(queue.join("db").metadata().unwrap().len() + 50_000)),
            Some(small) => {
                let full = fs::write(Path::new(small).join("ballast"), vec![1; 1 << 30]);
                assert!(full.is_err());
            }
        }
    }

    fn free(&self) {
        match &self.small {
            None => limit(None),
            Some(small) => fs::remove_file(Path::new(small).join("ballast")).unwrap(),
        }
    }
}

fn limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

async fn story(disk: &Disk, path: &Path) {
    let (queue, recovery) = open(path);
    let mut table = recovery.history;
    for number in 0..20 {
        queue.accept(&job(number), &payload(number, 4_000)).await.unwrap();
    }
    queue.update(&done(0, 3_000), Durability::Now).await.unwrap();
    queue.update(&running(1), Durability::Later).await.unwrap();

    disk.fill(path);
    let mut accepted = 20;
    let refused = loop {
        assert!(accepted < 1_000, "the disk never got full");
        match queue.accept(&job(accepted), &payload(accepted, 4_000)).await {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::NoSpace { .. }), "{refused:?}");
    // A finished job, asked for again: the old record must not be lost for that.
    let again = queue.accept(&job(0), &payload(0, 400_000)).await;
    assert!(matches!(again, Err(QueueError::NoSpace { .. })), "{again:?}");
    // The state goes on all the same.
    let unsaved = queue.update(&done(2, 3_500), Durability::Now).await;
    assert!(matches!(unsaved, Ok(()) | Err(QueueError::NoSpace { .. })), "{unsaved:?}");
    queue.update(&done(3, 3_600), Durability::Later).await.unwrap();
    queue.learn(&history::learn(&mut table, "hello", 10)).await.unwrap();

    disk.free();
    queue.accept(&job(900), &payload(900, 4_000)).await.unwrap();
    assert!(queue.payload(&job(4).id()).await.unwrap().is_some());
    let killed = path.with_extension("killed");
    copy(path, &killed);
    queue.close().await.unwrap();
    for path in [path, &killed] {
        let (queue, recovery) = open(path);
        assert!(recovery.damage.is_none() && recovery.orphans.is_empty(), "{recovery:?}");
        let mut expected: Vec<_> = (0..accepted).chain([900]).map(job).collect();
        expected[0] = done(0, 3_000);
        expected[1] = running(1);
        rules::died(&mut expected[1], NOW_S, "the daemon stopped while it ran").unwrap();
        expected[2] = done(2, 3_500);
        expected[3] = done(3, 3_600);
        assert_eq!(recovery.jobs, expected);
        assert_eq!(recovery.history.since(0), table.since(0));
        queue.close().await.unwrap();
    }
}
