//! The keeper at work, on files of a test.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use super::{
    super::{Keeper, Places, Worker},
    rig::{drv, drv_path},
};
use crate::model::Ahead;

/// Nothing here takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn answers_change_when_jobs_come_and_end_and_each_change_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let places = Places { temproots: at("temproots"), store: at("store") };
    let worker = Worker::of(i32::try_from(std::process::id()).unwrap()).unwrap();
    fs::create_dir(&places.temproots).unwrap();
    fs::create_dir(&places.store).unwrap();
    let out: &[&str] = &["out"];
    let mut roots = String::new();
    for (n, inputs) in [(2, vec![(1, out)]), (1, vec![(0, out)]), (0, vec![])] {
        roots += &format!("{}\0", drv_path(n));
        fs::write(places.store.join(drv_path(n).base_name()), drv(n, inputs).to_aterm()).unwrap();
    }
    fs::write(places.temproots.join(worker.pid.to_string()), roots).unwrap();

    let keeper = Keeper::new(places);
    let changes = Arc::new((AtomicU32::new(0), tokio::sync::Notify::new()));
    let told = changes.clone();
    let task = tokio::spawn(keeper.clone().run(
        || Box::new(|_| 1.0),
        move || {
            told.0.fetch_add(1, Ordering::Relaxed);
            told.1.notify_one();
        },
    ));
    let change = || async { timeout(DEADLINE, changes.1.notified()).await.unwrap() };
    assert_eq!(keeper.after(&drv_path(0)), None);
    keeper.came(worker);
    change().await;
    assert_eq!(keeper.after(&drv_path(0)), Some(Ahead { steps: 3, work: 3.0 }));
    keeper.asked(worker, &drv_path(0));
    keeper.ended(&drv_path(0), true);
    change().await;
    assert_eq!(keeper.after(&drv_path(0)), None);
    assert_eq!(keeper.after(&drv_path(1)), Some(Ahead { steps: 2, work: 2.0 }));
    assert_eq!(changes.0.load(Ordering::Relaxed), 2);
    task.abort();
}

#[tokio::test]
async fn what_a_worker_wanted_is_forgotten_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let places = Places { temproots: at("temproots"), store: at("store") };
    fs::create_dir(&places.temproots).unwrap();
    fs::create_dir(&places.store).unwrap();
    let mut child = tokio::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let worker = Worker::of(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    fs::write(places.store.join(drv_path(0).base_name()), drv(0, []).to_aterm()).unwrap();
    let roots = places.temproots.join(worker.pid.to_string());
    fs::write(roots, format!("{}\0", drv_path(0))).unwrap();

    let keeper = Keeper::new(places);
    let (changed, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let task =
        tokio::spawn(keeper.clone().run(|| Box::new(|_| 1.0), move || changed.send(()).unwrap()));
    keeper.came(worker);
    timeout(DEADLINE, changes.recv()).await.unwrap().unwrap();
    assert!(keeper.after(&drv_path(0)).is_some());
    drop(child.stdin.take());
    timeout(DEADLINE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(keeper.after(&drv_path(0)), None);
    task.abort();
}
