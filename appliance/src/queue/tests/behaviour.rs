//! What each operation does.

use super::*;

#[tokio::test]
async fn an_accepted_job_is_there_after_reopening() {
    let (_dir, path) = place();
    let (queue, recovery) = open(&path);
    assert!(recovery.jobs.is_empty());
    queue.accept(&job(1), &payload(1, 20_000)).await.unwrap();
    queue.close().await.unwrap();
    let (queue, recovery) = open(&path);
    assert_eq!(recovery.jobs, [job(1)]);
    assert!(recovery.changed.is_empty() && recovery.damage.is_none());
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), Some(payload(1, 20_000)));
}

#[tokio::test]
async fn an_accepted_job_survives_a_kill() {
    let (dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 20_000)).await.unwrap();
    let killed = dir.path().join("killed");
    copy(&path, &killed);
    let (queue, recovery) = open(&killed);
    assert_eq!(recovery.jobs, [job(1)]);
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), Some(payload(1, 20_000)));
}

#[tokio::test]
async fn a_job_that_runs_on_another_node_does_not_die_with_this_ones_daemon() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    let mut there = job(1);
    queue.accept(&there, &payload(1, 10)).await.unwrap();
    rules::start(&mut there, "another", How::Native, 2_000).unwrap();
    queue.update(&there, Durability::Now).await.unwrap();
    queue.close().await.unwrap();
    let (_queue, recovery) = open(&path);
    assert_eq!((&recovery.jobs[0].state, recovery.jobs[0].deaths), (&JobState::Queued, 0));
    assert!(recovery.jobs[0].notes[0].text.contains("another node"), "{recovery:?}");
}

#[tokio::test]
async fn many_at_once_are_all_accepted() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    let accepts = (0..100).map(|number| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.accept(&job(number), &payload(number, 2_000)).await })
    });
    for accepted in accepts.collect::<Vec<_>>() {
        accepted.await.unwrap().unwrap();
    }
    queue.close().await.unwrap();
    let (_queue, recovery) = open(&path);
    assert_eq!(recovery.jobs, (0..100).map(job).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_acceptance_is_refused_until_the_job_is_done() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    let again = queue.accept(&job(1), &payload(1, 10)).await;
    assert!(matches!(again, Err(QueueError::Exists(id)) if id == job(1).id()));
    queue.update(&done(1, 3_000), Durability::Now).await.unwrap();
    queue.accept(&job(1), &payload(1, 30_000)).await.unwrap();
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), Some(payload(1, 30_000)));
}

#[tokio::test]
async fn a_full_queue_refuses_and_finished_jobs_do_not_fill_it() {
    let (_dir, path) = place();
    let limits = Limits { max_jobs: 2, ..Limits::default() };
    let (queue, _) = Queue::open(&path, limits, &own(), NOW_S).unwrap();
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    queue.accept(&job(2), &payload(2, 10)).await.unwrap();
    let refused = queue.accept(&job(3), &payload(3, 10)).await;
    assert!(matches!(refused, Err(QueueError::Full { held: 2 })));
    queue.update(&done(1, 3_000), Durability::Later).await.unwrap();
    queue.accept(&job(3), &payload(3, 10)).await.unwrap();
}

#[tokio::test]
async fn an_oversized_derivation_is_refused() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    let huge = Payload::Target("x".repeat(record::MAX_PAYLOAD_BYTES));
    let refused = queue.accept(&job(1), &huge).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })));
}

#[tokio::test]
async fn a_finished_job_has_no_payload_and_an_unknown_one_nothing() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    let unknown = queue.update(&running(1), Durability::Now).await;
    assert!(matches!(unknown, Err(QueueError::NotFound(_))));
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), None);
    queue.remove(&job(1).id()).await.unwrap();
    queue.accept(&job(1), &payload(1, 9_000)).await.unwrap();
    queue.update(&running(1), Durability::Later).await.unwrap();
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), Some(payload(1, 9_000)));
    queue.update(&done(1, 3_000), Durability::Now).await.unwrap();
    assert_eq!(queue.payload(&job(1).id()).await.unwrap(), None);
    queue.remove(&job(1).id()).await.unwrap();
    queue.close().await.unwrap();
    assert!(open(&path).1.jobs.is_empty());
}

#[tokio::test]
async fn later_is_written_by_closing() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    queue.update(&done(1, 3_000), Durability::Later).await.unwrap();
    queue.close().await.unwrap();
    assert_eq!(open(&path).1.jobs, [done(1, 3_000)]);
}

#[tokio::test]
async fn pruning_takes_the_oldest_and_the_outdated() {
    let (_dir, path) = place();
    let limits = Limits { max_jobs: 10, max_done: 3, done_age_s: 1_000 };
    let (queue, _) = Queue::open(&path, limits, &own(), NOW_S).unwrap();
    for (number, at_s) in [(1, 3_000), (2, 3_003), (3, 3_002), (4, 3_001), (5, 3_900)] {
        queue.accept(&job(number), &payload(number, 10)).await.unwrap();
        queue.update(&done(number, at_s), Durability::Later).await.unwrap();
    }
    queue.accept(&job(6), &payload(6, 10)).await.unwrap();
    let ids = |numbers: &[u32]| numbers.iter().map(|&n| job(n).id()).collect::<Vec<_>>();
    assert_eq!(queue.prune(3_900).await.unwrap(), ids(&[1, 4]));
    assert_eq!(queue.prune(3_900).await.unwrap(), ids(&[]));
    assert_eq!(queue.prune(4_500).await.unwrap(), ids(&[3, 2]));
    // A clock that went back prunes nothing.
    assert_eq!(queue.prune(0).await.unwrap(), ids(&[]));
    queue.close().await.unwrap();
    assert_eq!(open(&path).1.jobs, [done(5, 3_900), job(6)]);
}

#[tokio::test]
async fn a_running_job_is_queued_again_twice_and_then_given_up() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    queue.update(&running(1), Durability::Now).await.unwrap();
    queue.close().await.unwrap();
    for deaths in 1..rules::MAX_DEATHS {
        let (queue, recovery) = open(&path);
        let mut job = recovery.jobs[0].clone();
        assert_eq!((&job.state, job.deaths), (&JobState::Queued, deaths));
        assert_eq!(recovery.changed, [job.id()]);
        assert!(job.notes.last().unwrap().text.contains("the daemon stopped"));
        assert!(queue.payload(&job.id()).await.unwrap().is_some());
        rules::start(&mut job, "board", How::Native, NOW_S).unwrap();
        queue.update(&job, Durability::Now).await.unwrap();
        queue.close().await.unwrap();
    }
    let (queue, recovery) = open(&path);
    let job = &recovery.jobs[0];
    let JobState::Done { result, .. } = &job.state else { panic!("{job:?}") };
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert!(String::from_utf8_lossy(&result.error_msg).contains("died 3 times"));
    assert_eq!(queue.payload(&job.id()).await.unwrap(), None);
    queue.close().await.unwrap();
    let (_queue, recovery) = open(&path);
    assert!(recovery.changed.is_empty() && recovery.orphans.is_empty());
}

#[tokio::test]
async fn a_second_daemon_is_told_so_and_harms_nothing() {
    let (dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    let second = Queue::open(&path, Limits::default(), &own(), NOW_S);
    assert!(matches!(second, Err(QueueError::Locked(_))));
    queue.accept(&job(2), &payload(2, 10)).await.unwrap();
    let names = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 2, "the queue and its lock");
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    let other = queue.clone();
    queue.close().await.unwrap();
    assert!(matches!(other.remove(&job(1).id()).await, Err(QueueError::Closed)));
}

#[tokio::test]
async fn dropping_the_last_handle_saves_and_closes() {
    let (_dir, path) = place();
    let (queue, _) = open(&path);
    queue.accept(&job(1), &payload(1, 10)).await.unwrap();
    queue.update(&done(1, 3_000), Durability::Later).await.unwrap();
    drop(queue);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let recovery = loop {
        match Queue::open(&path, Limits::default(), &own(), NOW_S) {
            Ok((_queue, recovery)) => break recovery,
            Err(error) => {
                assert!(matches!(error, QueueError::Locked(_)), "{error}");
                // It has been tried for a second, and is again.
                assert!(tokio::time::Instant::now() < deadline, "{error}");
            }
        }
    };
    assert_eq!(recovery.jobs, [done(1, 3_000)]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let (dir, _) = place();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Queue::open(&file.join("queue"), Limits::default(), &own(), NOW_S).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
