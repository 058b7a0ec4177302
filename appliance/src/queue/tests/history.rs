//! What earlier builds tell, as the queue keeps it.

use super::*;
use crate::{
    learn::{Ending, Outcome, Package},
    model::How,
};

/// Adds a build of a package; what that changes.
pub(super) fn learn(table: &mut Table, name: &str, seconds: u64) -> Changes {
    let package = Package::of(name, "riscv64-linux", How::Native);
    let ending = Ending::Built { ms: seconds * 1000, peak_mib: Some(700), output_bytes: None };
    table.learn(&Outcome { package, ending, at_s: 1_000 })
}

#[tokio::test]
async fn what_was_learned_is_there_after_reopening() {
    let (_dir, path) = place();
    let (queue, recovery) = open(&path);
    let mut table = recovery.history;
    assert!(table.is_empty());
    for (name, seconds) in [("hello-1", 10), ("gcc-14", 4_000), ("hello-2", 30)] {
        queue.learn(&learn(&mut table, name, seconds)).await.unwrap();
    }
    queue.close().await.unwrap();
    let (_, recovery) = open(&path);
    assert_eq!(recovery.history.since(0), table.since(0));
    assert_eq!(recovery.history.revision(), table.revision());
    assert_eq!(recovery.history.len(), 2);
}

#[tokio::test]
async fn what_was_learned_is_on_disk_with_the_next_change_that_has_to_be() {
    let (dir, path) = place();
    let (queue, recovery) = open(&path);
    let mut table = recovery.history;
    queue.learn(&learn(&mut table, "hello-1", 10)).await.unwrap();
    queue.accept(&job(1), &payload(1, 20)).await.unwrap();
    let killed = dir.path().join("killed");
    copy(&path, &killed);
    assert_eq!(open(&killed).1.history.since(0), table.since(0));
}

#[tokio::test]
async fn packages_without_room_are_gone_from_the_disk_too() {
    let (_dir, path) = place();
    let (queue, recovery) = open(&path);
    let mut table = recovery.history;
    for number in 0..2_001 {
        queue.learn(&learn(&mut table, &format!("p{number}"), 1)).await.unwrap();
    }
    queue.close().await.unwrap();
    let store = store::Store::open(&path).unwrap();
    let mut names = Vec::new();
    store.scan(store::Kind::History, |key, _| names.push(key.to_vec())).unwrap();
    assert_eq!(names.len(), 2_000);
    assert!(!names.iter().any(|name| name.starts_with(b"p0\0")));
}

#[tokio::test]
async fn records_that_cannot_be_read_are_dropped_and_the_rest_is_kept() {
    let (_dir, path) = place();
    let (queue, recovery) = open(&path);
    let mut table = recovery.history;
    queue.learn(&learn(&mut table, "hello", 10)).await.unwrap();
    queue.close().await.unwrap();
    let entry = record::encode_entry(&table.since(0)[0]).unwrap();
    let mut store = store::Store::open(&path).unwrap();
    let later = [&[9], &entry[1..]].concat();
    for (key, value) in
        [(&b"other\0riscv64-linux\0n"[..], &entry), (b"later\0x\0n", &later), (b"", &Vec::new())]
    {
        store.put_history(key, Some(value)).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let (queue, recovery) = open(&path);
    assert_eq!(recovery.history.since(0), table.since(0));
    let mut reasons: Vec<_> = recovery.forgotten.iter().map(|it| it.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.iter().any(|it| it.contains("another package")), "{reasons:?}");
    assert!(recovery.damage.is_none() && recovery.set_aside.is_empty());
    queue.close().await.unwrap();
    assert_eq!(open(&path).1.forgotten, []);
}
