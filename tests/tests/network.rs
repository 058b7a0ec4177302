//! Cables, power and boards that come and go: jobs wait, move or fail with the reason, never hang.

use std::time::Duration;

use roost_lab::{
    Lan, Result, Service,
    fixtures::{fleet, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_cable_pulled_for_30_seconds_costs_no_build() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &board, "second", "queued", |job| job.state == "queued")?;
    board.cut_link()?;
    let cut = roost_lab::now();
    // The build ends while nobody can hear of it.
    steered::release(&board, "first")?;
    steered::wait_started(&lan, &board, "second", 1)?;
    fleet::wait_reach(&lan, &ws, &board, "away")?;
    lan.wait_until(SOON, "30 s have passed", || cut.elapsed() >= Duration::from_secs(30))?;
    board.restore_link()?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    steered::release(&board, "second")?;
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    assert_eq!((steered::starts(&board, "first")?, steered::starts(&board, "second")?), (1, 1));
    Ok(())
}

#[test]
fn a_board_that_is_gone_for_good_gives_its_jobs_to_another() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, alder, birch] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::board(&lan, "alder", 1, "")?,
        fleet::board(&lan, "birch", 1, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&alder, &birch])?;
    // Equal boards: the first by name.
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &alder, "a", 1)?;
    alder.power_off()?;
    steered::wait_started(&lan, &birch, "a", 1)?;
    steered::release_all(&birch)?;
    let output = build.wait(SOON)?.ok()?;
    assert_eq!(ws.read(output.stdout.trim())?, "a\n");
    // The reason is where the user reads the log.
    assert!(output.stderr.contains("the connection to alder was lost"), "{output}");
    let log = ws.check("roost logs a")?;
    assert!(log.contains("the connection to alder was lost"), "{log}");
    Ok(())
}

#[test]
fn a_job_for_a_board_that_is_away_waits_and_fails_with_its_name() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        fleet::workstation(&lan, "ws", "away_timeout_s = 10")?,
        fleet::board(&lan, "board", 1, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&board])?;
    let lines = ws.read("/run/roost/machines")?;
    assert!(lines.contains(fleet::SYSTEM), "{lines}");
    let mut build = fleet::build(&ws, "running")?;
    steered::wait_started(&lan, &board, "running", 1)?;
    board.power_off()?;
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("gave up after 10 s"), "{output}");
    assert!(output.stderr.contains("board ("), "the board is named: {output}");

    assert_eq!(ws.read("/run/roost/machines")?, lines);
    ws.restart_service(Service::ROOST)?;
    lan.wait_until(SOON, "the lines are there again", || {
        ws.read("/run/roost/machines").is_ok_and(|text| text == lines)
    })?;
    let mut build = fleet::build(&ws, "waiting")?;
    fleet::wait_job(&lan, &ws, "waiting", "waiting for the board", |job| {
        job.state == "queued" && job.reason.contains("away: board (")
    })?;
    let why = fleet::why(&ws, "waiting")?;
    assert!(why.contains("every node known for aarch64-linux is away: board ("), "{why}");
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("gave up after 10 s"), "{output}");
    assert!(output.stderr.contains("board ("), "the board is named: {output}");
    Ok(())
}

#[test]
fn a_board_that_loses_power_has_its_jobs_when_it_is_back() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    let mut builds = Vec::new();
    for name in ["first", "second", "third"] {
        builds.push((name, fleet::build(&ws, name)?));
        fleet::wait_job(&lan, &board, name, "accepted", |_| true)?;
    }
    steered::wait_started(&lan, &board, "first", 1)?;
    board.power_off()?;
    board.power_on()?;
    let jobs = fleet::jobs(&board)?;
    assert_eq!(jobs.len(), 3, "{jobs:?}");
    steered::release_all(&board)?;
    for (name, mut build) in builds {
        assert_eq!(fleet::result(&ws, &mut build, SOON)?, format!("{name}\n"));
    }
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}
