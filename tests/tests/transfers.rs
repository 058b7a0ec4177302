//! kill -9 while inputs or outputs are on their way, over a cable slow enough to hit that.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Running, Service,
    fixtures::{fleet, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// What travels, in MiB: random, so that nothing makes it smaller.
const SIZE_MIB: u32 = 24;

/// A workstation and a board with a cable between them that carries 4 MiB a second.
fn pair() -> Result<(Lan, Host, Host)> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    slow_down(&ws, &board)?;
    Ok((lan, ws, board))
}

fn slow_down(ws: &Host, board: &Host) -> Result<()> {
    let slow = "tc qdisc add dev eth0 root tbf rate 32mbit burst 64kb latency 100ms";
    ws.check(slow)?;
    board.check(slow).map(drop)
}

fn speed_up(ws: &Host, board: &Host) -> Result<()> {
    let fast = "tc qdisc delete dev eth0 root";
    ws.check(fast)?;
    board.check(fast).map(drop)
}

/// A build with a large input, which is being copied to the board.
fn shipping(lan: &Lan, ws: &Host) -> Result<Running> {
    ws.check(&format!("head -c {SIZE_MIB}M /dev/urandom >/root/input"))?;
    let input = ws.add_to_store("/root/input")?;
    let drv = steered::before("a", fleet::SYSTEM, "md5sum <$input >$out")
        .attr("input", &format!("builtins.storePath {input}"));
    let build = fleet::nix_build(ws, &drv)?.spawn()?;
    fleet::wait_job(lan, ws, "a", "shipping", |job| job.reason.contains("copying inputs"))?;
    Ok(build)
}

/// A build with a large output, which is being copied to the workstation.
fn fetching(lan: &Lan, ws: &Host, board: &Host) -> Result<Running> {
    let script = format!("dd if=/dev/urandom of=$out bs=1M count={SIZE_MIB}");
    let build = fleet::nix_build(ws, &steered::before("a", fleet::SYSTEM, &script))?.spawn()?;
    steered::release_all(board)?;
    fleet::wait_job(lan, ws, "a", "built", |job| job.state == "built")?;
    let received = || ws.check("cat /sys/class/net/eth0/statistics/rx_bytes").ok()?.parse().ok();
    let before: u64 = lan.wait_for(SOON, "received bytes are counted", received)?;
    lan.wait_until(SOON, "its output is on the way", || {
        received().is_some_and(|now: u64| now > before + (2 << 20))
    })?;
    Ok(build)
}

/// Sees that the input arrived whole, in whatever way.
fn arrives(ws: &Host, board: &Host, mut build: Running) -> Result<()> {
    speed_up(ws, board)?;
    steered::release_all(board)?;
    let sum = fleet::result(ws, &mut build, SOON)?;
    assert_eq!(sum.trim(), ws.check("md5sum </root/input")?);
    assert_eq!(steered::overlaps(board)?, "");
    Ok(())
}

#[test]
fn the_boards_daemon_is_killed_while_inputs_arrive() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let build = shipping(&lan, &ws)?;
    board.kill9(Service::ROOST)?;
    board.start_service(Service::ROOST)?;
    arrives(&ws, &board, build)
}

#[test]
fn the_boards_nix_daemon_is_killed_while_inputs_arrive() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let build = shipping(&lan, &ws)?;
    let main = board.service_pid(Service::NIX_DAEMON)?;
    board.signal_matching("KILL", "of nix-daemon for a client", |p| {
        p.ppid == main && p.command().contains("nix-daemon")
    })?;
    arrives(&ws, &board, build)
}

#[test]
fn sshds_child_is_killed_while_inputs_arrive() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let build = shipping(&lan, &ws)?;
    board.signal_matching("KILL", "of sshd for a session", |p| {
        p.command().starts_with("sshd-session") || p.command().starts_with("sshd: roost")
    })?;
    arrives(&ws, &board, build)
}

#[test]
fn the_workstations_daemon_is_killed_while_inputs_leave() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let mut build = shipping(&lan, &ws)?;
    ws.kill9(Service::ROOST)?;
    let output = build.wait(SOON)?;
    assert!(output.stderr.contains("roost daemon stopped"), "{output}");
    ws.start_service(Service::ROOST)?;
    let again = ["nix", "build", "-L", "--no-link", "--print-out-paths", "--file", "/root/a.nix"];
    let build = ws.command(again).spawn()?;
    arrives(&ws, &board, build)
}

/// Sees that an output is on the workstation as it is on the board, which built it once.
fn is_the_same(ws: &Host, board: &Host, path: &str) -> Result<()> {
    let sum = |host: &Host| host.check(&format!("md5sum {}", path.trim()));
    assert_eq!(sum(ws)?, sum(board)?);
    assert_eq!(steered::starts(board, "a")?, 1);
    Ok(())
}

#[test]
fn the_boards_daemon_is_killed_while_an_output_leaves() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let mut build = fetching(&lan, &ws, &board)?;
    board.kill9(Service::ROOST)?;
    board.check("nix-collect-garbage")?;
    board.start_service(Service::ROOST)?;
    speed_up(&ws, &board)?;
    is_the_same(&ws, &board, &build.wait(SOON)?.ok()?.stdout)
}

#[test]
fn sshds_child_is_killed_while_an_output_leaves() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let mut build = fetching(&lan, &ws, &board)?;
    board.signal_matching("KILL", "of sshd for a session", |p| {
        p.command().starts_with("sshd-session") || p.command().starts_with("sshd: roost")
    })?;
    speed_up(&ws, &board)?;
    is_the_same(&ws, &board, &build.wait(SOON)?.ok()?.stdout)
}

#[test]
fn the_workstations_daemon_is_killed_while_an_output_arrives() -> Result<()> {
    let (lan, ws, board) = pair()?;
    let mut build = fetching(&lan, &ws, &board)?;
    ws.kill9(Service::ROOST)?;
    ws.start_service(Service::ROOST)?;
    speed_up(&ws, &board)?;
    let output = build.wait(SOON)?;
    assert!(output.stderr.contains("the roost daemon stopped"), "{output}");
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    let again = ["nix", "build", "--no-link", "--print-out-paths", "--file", "/root/a.nix"];
    is_the_same(&ws, &board, &ws.command(again).run()?.ok()?.stdout)
}
