//! Job logs: writers, followers, bounds.

use std::{io::Read, time::SystemTime};

use proptest::prelude::*;

use super::*;
use crate::queue::logs::{LogFollower, LogLimits, LogWriter, Logs, MAX_LINE_BYTES, Start};

fn logs(limits: LogLimits) -> (tempfile::TempDir, Logs) {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::open(&dir.path().join("logs"), limits).unwrap();
    (dir, logs)
}

fn id(number: u32) -> JobId {
    job(number).id()
}

fn write(writer: &mut LogWriter, lines: &[&str]) {
    for line in lines {
        writer.append(line.as_bytes()).unwrap();
    }
    writer.flush().unwrap();
}

/// The next lines, without waiting for more than there are.
async fn next(follower: &mut LogFollower, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let line = tokio::time::timeout(Duration::from_secs(10), follower.next_line());
        match line.await.expect("the line is there").unwrap() {
            Some(line) => lines.push(String::from_utf8(line).unwrap()),
            None => break,
        }
    }
    lines
}

async fn all(follower: &mut LogFollower) -> Vec<String> {
    next(follower, usize::MAX).await
}

#[tokio::test]
async fn early_and_late_followers_see_everything() {
    let (_dir, logs) = logs(LogLimits::default());
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let mut early = logs.follow(&id(1));
    write(&mut writer, &["one", "two"]);
    assert_eq!(next(&mut early, 2).await, ["one", "two"]);
    let mut late = logs.follow(&id(1));
    write(&mut writer, &["", "three"]);
    assert_eq!(next(&mut late, 4).await, ["one", "two", "", "three"]);
    drop(writer);
    assert_eq!(all(&mut early).await, ["", "three"]);
    assert!(all(&mut late).await.is_empty());
    assert_eq!(all(&mut logs.follow(&id(1))).await, ["one", "two", "", "three"]);
}

#[tokio::test]
async fn a_follower_waits_for_the_next_line() {
    let (_dir, logs) = logs(LogLimits::default());
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let mut follower = logs.follow(&id(1));
    let waiting = tokio::spawn(async move { next(&mut follower, 1).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // Not before it is flushed.
    writer.append(b"line").unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    writer.flush().unwrap();
    assert_eq!(waiting.await.unwrap(), ["line"]);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let (_dir, logs) = logs(LogLimits::default());
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let mut follower = logs.follow(&id(1));
    for number in 0..200 {
        let line = number.to_string();
        write(&mut writer, &[&line]);
        // Given up at whatever point it is at the first time it has to wait.
        tokio::select! {
            biased;
            got = follower.next_line() => {
                assert_eq!(got.unwrap(), Some(line.into_bytes()));
                continue;
            }
            () = std::future::ready(()) => {}
        }
        assert_eq!(next(&mut follower, 1).await, [line]);
    }
}

#[tokio::test]
async fn a_log_that_is_too_long_says_so_and_ends() {
    let (_dir, logs) = logs(LogLimits { job_bytes: 100, total_bytes: 1_000 });
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    for number in 0..50 {
        writer.append(format!("line {number}").as_bytes()).unwrap();
    }
    drop(writer);
    let lines = all(&mut logs.follow(&id(1))).await;
    assert_eq!(lines.len(), 14, "{lines:?}");
    assert_eq!(lines[12], "line 12");
    assert!(lines[13].contains("limit of 100 bytes"), "{lines:?}");
}

#[tokio::test]
async fn a_long_line_comes_in_pieces() {
    let (_dir, logs) = logs(LogLimits::default());
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let long = "x".repeat(3 * MAX_LINE_BYTES + 5);
    write(&mut writer, &[&long, "short"]);
    drop(writer);
    let lines = all(&mut logs.follow(&id(1))).await;
    let lengths: Vec<_> = lines.iter().map(String::len).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, MAX_LINE_BYTES, 5, 5]);
}

#[tokio::test]
async fn another_try_goes_on_and_a_new_job_starts_afresh() {
    let (_dir, logs) = logs(LogLimits::default());
    write(&mut logs.writer(&id(1), Start::Fresh).unwrap(), &["first"]);
    // A line that a crash has cut.
    let path = logs_path(&logs, 1);
    let cut = [fs::read(&path).unwrap(), b"cu".to_vec()].concat();
    fs::write(&path, cut).unwrap();
    let mut writer = logs.writer(&id(1), Start::Continue).unwrap();
    let mut follower = logs.follow(&id(1));
    write(&mut writer, &["second"]);
    drop(writer);
    assert_eq!(all(&mut follower).await, ["first", "cu", "second"]);
    write(&mut logs.writer(&id(1), Start::Fresh).unwrap(), &["anew"]);
    assert_eq!(all(&mut logs.follow(&id(1))).await, ["anew"]);
}

fn logs_path(logs: &Logs, number: u32) -> PathBuf {
    let file = logs.open_for_reading(&id(number)).unwrap().unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    fs::read_link(link).unwrap()
}

#[tokio::test]
async fn a_job_without_a_log_has_no_lines() {
    let (_dir, logs) = logs(LogLimits::default());
    assert!(all(&mut logs.follow(&id(1))).await.is_empty());
    assert!(logs.open_for_reading(&id(1)).unwrap().is_none());
    logs.remove(&id(1)).unwrap();
    // A writer that never wrote leaves nothing either.
    let writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let mut follower = logs.follow(&id(1));
    drop(writer);
    assert!(all(&mut follower).await.is_empty());
    assert!(logs.open_for_reading(&id(1)).unwrap().is_none());
}

#[tokio::test]
async fn pruning_takes_those_that_ended_first_and_never_a_live_one() {
    let (_dir, logs) = logs(LogLimits { job_bytes: 1_000, total_bytes: 250 });
    let mut live = logs.writer(&id(0), Start::Fresh).unwrap();
    write(&mut live, &["x".repeat(99).as_str()]);
    for (number, age_s) in [(1, 50), (2, 90), (3, 10), (4, 70)] {
        write(&mut logs.writer(&id(number), Start::Fresh).unwrap(), &["x".repeat(99).as_str()]);
        let file = fs::File::options().append(true).open(logs_path(&logs, number)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
    }
    assert_eq!(logs.prune().unwrap(), 200);
    assert_eq!(logs.prune().unwrap(), 0);
    let left: Vec<_> =
        (0..5).filter(|&number| logs.open_for_reading(&id(number)).unwrap().is_some()).collect();
    assert_eq!(left, [0, 1, 3]);
    let mut text = String::new();
    logs.open_for_reading(&id(3)).unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), 100);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_fails_once() {
    let (dir, logs) = logs(LogLimits::default());
    fs::remove_dir(dir.path().join("logs")).unwrap();
    let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
    let error = writer.append(b"line").unwrap_err().to_string();
    assert!(error.contains("logs/"), "{error}");
    writer.append(b"line").unwrap();
    writer.flush().unwrap();
    let mut follower = logs.follow(&id(1));
    drop(writer);
    assert!(all(&mut follower).await.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    /// Whatever is written, and whenever it is flushed, comes out as it went in.
    #[test]
    fn followers_get_what_was_written(
        lines in proptest::collection::vec(("[a-z]{0,40}", any::<bool>(), 1..3_000_usize), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_dir, logs) = logs(LogLimits::default());
            let mut writer = logs.writer(&id(1), Start::Fresh).unwrap();
            let mut follower = logs.follow(&id(1));
            let following = tokio::spawn(async move { all(&mut follower).await });
            let mut expected = Vec::new();
            for (word, flush, times) in lines {
                let line = word.repeat(times);
                writer.append(line.as_bytes()).unwrap();
                if flush {
                    writer.flush().unwrap();
                    tokio::task::yield_now().await;
                }
                let pieces = line.as_bytes().chunks(MAX_LINE_BYTES);
                expected.extend(pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap()));
                if line.is_empty() || line.len() % MAX_LINE_BYTES == 0 {
                    expected.push(String::new());
                }
            }
            drop(writer);
            assert_eq!(following.await.unwrap(), expected);
        });
    }
}
