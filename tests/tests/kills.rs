//! kill -9, anywhere, while a build runs: no job is lost, none runs twice at once on a board, and
//! whoever asked hears of the result or of what happened.

use std::time::Duration;

use roost_lab::{
    Host, Lan, ProcessInfo, Result, Service, Signal,
    fixtures::{fleet, nix, nix::Drv, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A workstation and a board with so many slots, joined.
fn pair(slots: u32) -> Result<(Lan, Host, Host)> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", slots, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    Ok((lan, ws, board))
}

#[test]
fn the_boards_daemon_is_killed_with_a_job_running_and_one_waiting() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &board, "second", "queued", |job| job.state == "queued")?;
    board.kill9(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "away")?;
    board.start_service(Service::ROOST)?;
    steered::wait_started(&lan, &board, "first", 2)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    assert_eq!(steered::overlaps(&board)?, "");
    let why = fleet::why(&ws, "first")?;
    assert!(why.contains("the connection to board was lost"), "{why}");
    Ok(())
}

#[test]
fn the_boards_nix_daemon_is_killed_under_a_build() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    let builder = steered::builder(&board, "a")?;
    let worker = |p: &ProcessInfo| p.pid == builder.ppid;
    board.signal_matching("KILL", "of nix-daemon that builds", worker)?;
    steered::wait_started(&lan, &board, "a", 2)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::overlaps(&board)?, "");
    let why = fleet::why(&board, "a")?;
    assert!(why.contains("nix-daemon on board went away"), "{why}");
    Ok(())
}

#[test]
fn the_boards_nix_daemon_is_killed_as_a_whole_and_away_for_a_while() -> Result<()> {
    let (lan, ws, board) = pair(3)?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    board.kill9(Service::NIX_DAEMON)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &ws, "second", "waiting", |job| job.reason.contains("nix-daemon"))?;
    lan.wait_until(SOON, "the board's trouble is known", || {
        ws.check("roost status").is_ok_and(|text| text.contains("nix-daemon"))
    })?;
    let mut third = fleet::build(&ws, "third")?;
    fleet::wait_job(&lan, &ws, "third", "waiting", |job| job.reason.contains("board ("))?;
    board.start_service(Service::NIX_DAEMON)?;
    steered::wait_started(&lan, &board, "second", 1)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    assert_eq!(fleet::result(&ws, &mut third, SOON)?, "third\n");
    assert_eq!((steered::starts(&board, "first")?, steered::starts(&board, "second")?), (1, 1));
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}

#[test]
fn sshds_child_is_killed_and_the_build_goes_on() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    board.signal_matching("KILL", "of sshd for a session", |p| {
        p.command().starts_with("sshd-session") || p.command().starts_with("sshd: roost")
    })?;
    fleet::wait_job(&lan, &board, "a", "unattended", |job| job.attached == 0)?;
    fleet::wait_job(&lan, &board, "a", "attended again", |job| job.attached == 1)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::starts(&board, "a")?, 1);
    Ok(())
}

#[test]
fn the_workstations_daemon_is_killed_and_asking_again_finds_the_job() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &board, "second", "queued", |job| job.state == "queued")?;
    ws.kill9(Service::ROOST)?;
    for build in [&mut first, &mut second] {
        let output = build.wait(SOON)?;
        assert!(!output.success(), "{output}");
        assert!(output.stderr.contains("the roost daemon stopped"), "{output}");
    }
    ws.start_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    let (mut first, mut second) = (fleet::build(&ws, "first")?, fleet::build(&ws, "second")?);
    fleet::wait_job(&lan, &ws, "first", "attended again", |job| job.attached == 1)?;
    fleet::wait_job(&lan, &ws, "second", "attended again", |job| job.attached == 1)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    assert_eq!((steered::starts(&board, "first")?, steered::starts(&board, "second")?), (1, 1));
    Ok(())
}

#[test]
fn the_boards_daemon_is_killed_before_it_has_accepted_a_job() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    board.signal_service(Service::ROOST, Signal::STOP)?;
    let mut build = fleet::build(&ws, "a")?;
    fleet::wait_job(&lan, &ws, "a", "on its way", |job| job.state == "running")?;
    board.kill9(Service::ROOST)?;
    board.start_service(Service::ROOST)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::starts(&board, "a")?, 1);
    Ok(())
}

#[test]
fn the_workstations_daemon_is_killed_before_it_has_accepted_a_job() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    ws.signal_service(Service::ROOST, Signal::STOP)?;
    let mut build = fleet::build(&ws, "a")?;
    let asks = |p: &ProcessInfo| p.command().starts_with("/run/roost/connect/");
    lan.wait_until(SOON, "the build hook asks", || {
        ws.processes().is_ok_and(|all| all.iter().any(asks))
    })?;
    ws.kill9(Service::ROOST)?;
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("the roost daemon"), "{output}");
    ws.start_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    assert!(fleet::jobs(&ws)?.is_empty(), "it was never promised");
    steered::release_all(&board)?;
    let mut build = fleet::build(&ws, "a")?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    Ok(())
}

#[test]
fn a_job_under_which_the_boards_daemon_dies_again_and_again_is_given_up() -> Result<()> {
    let (lan, ws, board) = pair(1)?;
    let mut build = fleet::build(&ws, "a")?;
    for deaths in 1..=3 {
        steered::wait_started(&lan, &board, "a", deaths)?;
        board.kill9(Service::ROOST)?;
        board.start_service(Service::ROOST)?;
    }
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("died 3 times"), "{output}");
    assert_eq!(steered::starts(&board, "a")?, 3);
    // Who asks again has it tried again.
    let mut build = fleet::build(&ws, "a")?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}

/// So many short builds, each of which marks when it runs.
const SHORT: u32 = 30;

fn short_builds() -> String {
    let script = "umask 0
         exec 9>>/marks/$number.lock
         /usr/bin/flock -n 9 || echo $number >>/marks/overlaps
         echo $number >>/marks/short.starts
         umask 022
         sleep 0.3
         echo $number >$out";
    Drv::new("short", fleet::SYSTEM, script).times(SHORT)
}

/// Kills whatever is there of a kind; between two builds that may be nothing.
fn kill(host: &Host, what: &str, fits: impl Fn(&ProcessInfo) -> bool) {
    let _ = host.signal_matching("KILL", what, fits);
}

#[test]
fn killed_again_and_again_everything_is_built_in_the_end() -> Result<()> {
    let (lan, ws, board) = pair(2)?;
    nix::write(&ws, "/root/short.nix", &short_builds())?;
    let build = || ws.command(["nix-build", "--no-out-link", "/root/short.nix"]).spawn();
    let mut running = build()?;
    // What builds on the board is killed twice: a job under which it dies three times is given up.
    for (kind, starts) in [0, 1, 2, 3, 2, 3, 2, 3].into_iter().zip((2..).step_by(3)) {
        steered::wait_started(&lan, &board, "short", starts)?;
        match kind {
            0 => {
                board.kill9(Service::ROOST)?;
                board.start_service(Service::ROOST)?;
            }
            1 => {
                let main = board.service_pid(Service::NIX_DAEMON)?;
                kill(&board, "of nix-daemon", |p| p.ppid == main);
            }
            2 => kill(&board, "of sshd", |p| p.command().starts_with("sshd-session")),
            _ => {
                ws.kill9(Service::ROOST)?;
                let output = running.wait(SOON)?;
                // Or is not running, for a build that began just then.
                assert!(output.stderr.contains("the roost daemon"), "{output}");
                ws.start_service(Service::ROOST)?;
                fleet::wait_reach(&lan, &ws, &board, "up")?;
                running = build()?;
            }
        }
    }
    let output = running.wait(Duration::from_secs(90))?.ok()?;
    let outputs: Vec<_> = output.stdout.lines().collect();
    assert_eq!(outputs.len(), SHORT as usize);
    for (number, path) in outputs.iter().enumerate() {
        assert_eq!(ws.read(path)?, format!("{number}\n"));
    }
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}
