//! Several clients and one job, clients that go away, and more jobs than slots.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Running, Service, Signal,
    fixtures::{fleet, nix, nix::Drv, roost, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// A grace that is over soon, and long enough to come back within.
const GRACE: &str = "[queue]\norphan_grace_s = 8";

/// Interrupts a command as Ctrl-C does, and waits for its end.
fn interrupt(build: &mut Running) -> Result<()> {
    build.signal(Signal::INT);
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    Ok(())
}

#[test]
fn two_machines_that_ask_for_one_derivation_share_its_build_and_its_log() -> Result<()> {
    let lan = Lan::new()?;
    let [one, two, board] = lan.start([
        fleet::workstation(&lan, "one", "")?,
        fleet::workstation(&lan, "two", "")?,
        fleet::board(&lan, "board", 2, "")?,
    ])?;
    fleet::join(&lan, &one, &[&board])?;
    roost::acquaint(&two, &[&board])?;
    two.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &two, &board, "up")?;
    let mut first = fleet::build(&one, "a")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    let mut second = fleet::build(&two, "a")?;
    fleet::wait_job(&lan, &board, "a", "waited for by two", |job| job.attached == 2)?;
    steered::release_all(&board)?;
    for (ws, build) in [(&one, &mut first), (&two, &mut second)] {
        let output = build.wait(SOON)?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, "a\n");
        let drv = ws.check("nix-instantiate /root/a.nix 2>/dev/null")?;
        for log in [&output.stderr, &ws.check(&format!("nix log {drv}"))?] {
            assert!(log.contains("a has begun") && log.contains("a goes on"), "{log}");
        }
    }
    assert_eq!(steered::starts(&board, "a")?, 1);
    Ok(())
}

#[test]
fn a_job_nobody_waits_for_is_unattended_and_ends_after_the_grace() -> Result<()> {
    let (lan, ws, board) = pair(1, GRACE)?;
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    interrupt(&mut build)?;
    fleet::wait_job(&lan, &ws, "a", "unattended", |job| job.attached == 0)?;
    let jobs = ws.check("roost jobs")?;
    assert!(jobs.contains("running, unattended"), "{jobs}");
    let job = fleet::wait_job(&lan, &ws, "a", "cancelled", |job| job.state == "failed")?;
    assert!(job.reason.contains("nobody has waited for it for 8 s"), "{job:?}");
    let job = fleet::wait_job(&lan, &board, "a", "cancelled", |job| job.state == "failed")?;
    assert!(job.reason.contains("cancelled"), "{job:?}");
    lan.wait_until(SOON, "the build has gone", || {
        board.processes().is_ok_and(|all| !all.iter().any(|p| p.command().contains("a has begun")))
    })?;
    // The slot is free, and the same can be asked for again.
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &board, "a", 2)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}

#[test]
fn a_board_cancels_what_a_client_of_its_own_has_left() -> Result<()> {
    let lan = Lan::new()?;
    let board = fleet::board(&lan, "board", 2, GRACE)?;
    let [client, board] = lan.start([lan.host("client"), board])?;
    fleet::open_to(&client, &board)?;
    let store = ["--store", "ssh-ng://roost@board", "--file", "/root/a.nix"];
    nix::write(&client, "/root/a.nix", &steered::drv("a", fleet::SYSTEM).expr())?;
    let mut build = client.command(["nix", "build"].into_iter().chain(store)).spawn()?;
    steered::wait_started(&lan, &board, "a", 1)?;
    interrupt(&mut build)?;
    fleet::wait_job(&lan, &board, "a", "unattended", |job| job.attached == 0)?;
    let jobs = board.check("roost jobs")?;
    assert!(jobs.contains("running, unattended"), "{jobs}");
    let job = fleet::wait_job(&lan, &board, "a", "cancelled", |job| job.state == "failed")?;
    assert!(job.reason.contains("nobody has waited for it for 8 s"), "{job:?}");
    Ok(())
}

#[test]
fn asking_again_within_the_grace_finds_the_same_job() -> Result<()> {
    let (lan, ws, board) = pair(1, GRACE)?;
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    interrupt(&mut build)?;
    fleet::wait_job(&lan, &ws, "a", "unattended", |job| job.attached == 0)?;
    let mut build = fleet::build(&ws, "a")?;
    fleet::wait_job(&lan, &ws, "a", "attended", |job| job.attached == 1)?;
    steered::release_all(&board)?;
    let output = build.wait(SOON)?.ok()?;
    assert!(output.stderr.contains("a has begun"), "the log from its start: {output}");
    assert_eq!(steered::starts(&board, "a")?, 1);
    Ok(())
}

const MANY: u32 = 200;

/// The most a daemon may ever have had resident with [`MANY`] jobs, in MiB: half of it is the program,
/// compiled for debugging.
const MAX_PEAK_MIB: u64 = 56;

/// Many builds that end at once when all are let go on.
fn many() -> String {
    let script = "until [ -e /marks/all.go ]; do sleep 0.1; done; echo $number >$out";
    Drv::new("many", fleet::SYSTEM, script).times(MANY)
}

#[test]
fn many_jobs_for_two_slots_of_the_fleet_all_finish_in_little_memory() -> Result<()> {
    let (lan, ws, board) = pair(2, "")?;
    nix::write(&ws, "/root/many.nix", &many())?;
    let mut build = ws.command(["nix-build", "--no-out-link", "/root/many.nix"]).spawn()?;
    // As many as the lines promise: Nix holds back the rest.
    let promised = ws.check("awk '!/^#/ { print $4; exit }' /run/roost/machines")?;
    let promised: usize = promised.parse().expect("the fourth field is a number");
    assert!(promised >= 100, "{promised}");
    let promised = promised.min(MANY as usize);
    lan.wait_until(Duration::from_secs(100), "as many as promised have been accepted", || {
        fleet::jobs(&ws).is_ok_and(|jobs| jobs.len() >= promised)
    })?;
    steered::release_all(&board)?;
    let output = build.wait(Duration::from_secs(150))?.ok()?;
    assert_eq!(output.stdout.lines().count(), MANY as usize);
    for host in [&ws, &board] {
        let peak = fleet::daemon_peak_mib(host)?;
        println!("{}: {peak} MiB with {promised} jobs", host.name());
        assert!(peak <= MAX_PEAK_MIB, "{peak} MiB on {}", host.name());
    }
    Ok(())
}

#[test]
fn many_jobs_in_a_boards_own_queue_all_finish_in_little_memory() -> Result<()> {
    let lan = Lan::new()?;
    let [client, board] = lan.start([lan.host("client"), fleet::board(&lan, "board", 2, "")?])?;
    fleet::open_to(&client, &board)?;
    nix::write(&client, "/root/many.nix", &many())?;
    let store = ["--store", "ssh-ng://roost@board", "--no-out-link", "/root/many.nix"];
    let mut build = client.command(["nix-build"].into_iter().chain(store)).spawn()?;
    lan.wait_until(Duration::from_secs(100), "all have been accepted", || {
        fleet::jobs(&board).is_ok_and(|jobs| jobs.len() == MANY as usize)
    })?;
    steered::release_all(&board)?;
    let output = build.wait(Duration::from_secs(150))?.ok()?;
    assert_eq!(output.stdout.lines().count(), MANY as usize);
    let peak = fleet::daemon_peak_mib(&board)?;
    println!("{peak} MiB");
    assert!(peak <= MAX_PEAK_MIB, "{peak} MiB");
    Ok(())
}

/// A workstation and a board with so many slots, joined; both with a further section of
/// configuration.
fn pair(slots: u32, section: &str) -> Result<(Lan, Host, Host)> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        fleet::workstation(&lan, "ws", section)?,
        fleet::board(&lan, "board", slots, section)?,
    ])?;
    fleet::join(&lan, &ws, &[&board])?;
    Ok((lan, ws, board))
}
