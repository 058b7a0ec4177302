//! The board's store: garbage collection while it is needed, and a disk that is full.

use std::time::Duration;

use roost_lab::{
    Disk, Host, Lan, Result,
    fixtures::{fleet, roost, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn is_valid(host: &Host, path: &str) -> Result<bool> {
    Ok(host.sh(&format!("nix-store --check-validity {path}"))?.success())
}

#[test]
fn garbage_collection_takes_nothing_that_a_waiting_job_needs_or_nobody_has_fetched() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    // It waits, and its input was shipped.
    ws.write("/root/input", 0o644, "an input\n")?;
    let input = ws.add_to_store("/root/input")?;
    let second = steered::before("second", fleet::SYSTEM, "cat $input >$out")
        .attr("input", &format!("builtins.storePath {input}"));
    let mut second = fleet::nix_build(&ws, &second)?.spawn()?;
    fleet::wait_job(&lan, &board, "second", "queued", |job| job.state == "queued")?;
    board.check("nix-collect-garbage")?;
    assert!(is_valid(&board, &input)?, "a waiting job needs it");

    // The first ends while nobody can fetch it.
    board.cut_link()?;
    steered::release(&board, "first")?;
    fleet::wait_job(&lan, &board, "first", "built", |job| job.state == "built")?;
    steered::wait_started(&lan, &board, "second", 1)?;
    let output = board.check("ls -d /nix/store/*-first")?;
    board.check("nix-collect-garbage")?;
    assert!(is_valid(&board, &output)?, "nobody has fetched it");
    assert!(is_valid(&board, &input)?, "a running job needs it");
    board.restore_link()?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    steered::release(&board, "second")?;
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "an input\n");

    // Fetched: it can go.
    lan.wait_until(SOON, "what was fetched is let go", || {
        board.check("nix-collect-garbage").is_ok()
            && is_valid(&board, &output).is_ok_and(|valid| !valid)
            && is_valid(&board, &input).is_ok_and(|valid| !valid)
    })
}

/// A board's configuration that gives up soon, and needs little room.
fn tight() -> String {
    let reload_sshd = roost::reload_sshd();
    format!(
        "[board]\nenable = true\nslots = 1\n{reload_sshd}\n\
         [workstation]\nenable = false\naway_timeout_s = 6\n\
         [queue]\nmin_free_mib = 32\n"
    )
}

#[test]
fn a_board_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() -> Result<()> {
    let lan = Lan::new()?;
    let board = fleet::board(&lan, "board", 1, "")?.disk(Disk::Memory(256));
    let [ws, board] = lan.start([
        fleet::workstation(&lan, "ws", "away_timeout_s = 20")?,
        board.file("/etc/roost/roost.toml", 0o644, tight()),
    ])?;
    fleet::join(&lan, &ws, &[&board])?;
    let mut running = fleet::build(&ws, "running")?;
    steered::wait_started(&lan, &board, "running", 1)?;
    let mut waiting = fleet::build(&ws, "waiting")?;
    fleet::wait_job(&lan, &board, "waiting", "queued", |job| job.state == "queued")?;
    board.fill_disk()?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    lan.wait_until(SOON, "the workstation knows of the full disk", || {
        ws.check("roost status").is_ok_and(|text| text.contains("less than 32 MiB are free"))
    })?;

    // The one that runs fails, and the builder's own words say why.
    steered::release(&board, "running")?;
    let output = running.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("No space left on device"), "{output}");
    // The one that waits there fails with the reason.
    let output = waiting.wait(SOON)?;
    assert!(!output.success(), "{output}");
    assert!(output.stderr.contains("less than 32 MiB are free"), "{output}");
    // A new one is not sent there, and goes on by itself.
    let mut later = fleet::build(&ws, "later")?;
    let fits = |job: &fleet::Job| job.reason.contains("board (less than 32 MiB are free");
    fleet::wait_job(&lan, &ws, "later", "waiting for room", fits)?;
    board.free_disk()?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut later, SOON)?, "later\n");
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}
