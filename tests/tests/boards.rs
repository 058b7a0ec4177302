//! Which boards a workstation finds, trusts and uses.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Addressing, Host, Lan, Result, Service,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, ssh, steered,
    },
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

/// What the workstation shows of its boards.
fn boards(ws: &Host) -> Result<Vec<Value>> {
    let status = ws.check("roost status --json")?;
    let mut status: Value = serde_json::from_str(&status).expect("status prints JSON");
    Ok(status["boards"].as_array_mut().map(std::mem::take).expect("a list of boards"))
}

fn reach(boards: &[Value]) -> Vec<&str> {
    boards.iter().filter_map(|board| board["reach"].as_str()).collect()
}

fn hello(system: &str, salt: &str) -> String {
    Drv::new("hello", system, "echo hello >$out").salt(salt).expr()
}

#[test]
fn a_board_whose_key_is_removed_is_let_go_at_once_and_let_in_again_with_it() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        roost::workstation(lan.host("ws"), "")?,
        roost::board(lan.host("board").system("riscv64-linux"), 1, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&board])?;
    ws.check("mv /etc/roost/known_hosts /root/kept && echo '# none' >/etc/roost/known_hosts")?;
    lan.wait_until(SOON, "the board is pending and Nix is told of none", || {
        boards(&ws).is_ok_and(|boards| reach(&boards) == ["pending"])
            && ws.check("roost machines").is_ok_and(|lines| !lines.contains("ssh-ng"))
    })?;
    ws.restart_service(Service::ROOST)?;
    lan.wait_until(SOON, "it is not remembered either", || {
        boards(&ws).is_ok_and(|boards| reach(&boards) == ["pending"])
    })?;
    ws.check("cp /root/kept /etc/roost/known_hosts")?;
    fleet::wait_reach(&lan, &ws, &board, "up")
}

#[test]
fn boards_are_used_over_ipv4_over_link_local_ipv6_and_once_over_both() -> Result<()> {
    let lan = Lan::new()?;
    let board = |name: &str, system: &str, addressing| {
        roost::board(lan.host(name).system(system).addressing(addressing), 1, "")
    };
    let [ws, four, six, both] = lan.start([
        roost::workstation(lan.host("ws"), "")?,
        board("four", "aarch64-linux", Addressing::V4Only)?,
        board("six", "riscv64-linux", Addressing::V6Only)?,
        board("both", "armv7l-linux", Addressing::Dual)?,
    ])?;
    fleet::join(&lan, &ws, &[&four, &six, &both])?;
    lan.wait_until(SOON, "the board with two addresses is seen at both", || {
        boards(&ws).is_ok_and(|boards| {
            let addresses = |board: &Value| board["addresses"].as_array().map_or(0, Vec::len);
            boards.iter().any(|board| board["node"]["name"] == "both" && addresses(board) == 2)
        })
    })?;
    assert_eq!(reach(&boards(&ws)?), ["up"; 3], "each counts once");
    for system in ["aarch64-linux", "riscv64-linux", "armv7l-linux"] {
        let path = builds::on_fleet(&ws, &hello(system, ""))?;
        assert_eq!(ws.read(&path)?, "hello\n", "{system}");
    }
    Ok(())
}

#[test]
fn two_boards_of_one_name_are_two_boards() -> Result<()> {
    let lan = Lan::new()?;
    let board = |name: &str, id: &str| {
        let node = format!("[node]\nname = \"twin\"\nid = \"{id}\"");
        roost::board(steered::allow(lan.host(name).system(SYSTEM)), 1, &node)
    };
    let ws = fleet::workstation(&lan, "ws", "")?;
    let [ws, castor, pollux] =
        lan.start([ws, board("castor", "twin-a")?, board("pollux", "twin-b")?])?;
    for twin in [&castor, &pollux] {
        twin.check("avahi-set-host-name twin")?;
        steered::prepare(twin)?;
    }
    roost::join(&ws, &[&castor, &pollux])?;
    lan.wait_until(SOON, "both are up", || {
        boards(&ws).is_ok_and(|boards| reach(&boards) == ["up"; 2])
    })?;
    let mut builds = [fleet::build(&ws, "one")?, fleet::build(&ws, "two")?];
    let started = |board: &Host| {
        ["one", "two"].iter().any(|name| steered::starts(board, name).is_ok_and(|n| n > 0))
    };
    lan.wait_until(SOON, "each builds", || started(&castor) && started(&pollux))?;
    for twin in [&castor, &pollux] {
        steered::release_all(twin)?;
    }
    for build in &mut builds {
        build.wait(builds::BUILD_TIMEOUT)?.ok()?;
    }
    let drain = ws.sh("roost drain twin")?;
    assert_eq!(drain.code(), Some(4), "{drain}");
    assert!(drain.stderr.contains("twin-a") && drain.stderr.contains("twin-b"), "{drain}");
    ws.check("roost drain twin-b && roost resume twin-b").map(drop)
}

#[test]
fn a_board_whose_key_is_unknown_is_pending_until_the_key_is_added() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, friend, stranger] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::board(&lan, "friend", 1, "")?,
        roost::board(lan.host("stranger").system("riscv64-linux"), 1, "")?,
    ])?;
    // It would let the workstation in.
    roost::admit(&stranger, &ssh::key(&ws, "/var/lib/roost/ssh/id_ed25519")?)?;
    stranger.enable_service(Service::ROOST)?;
    fleet::join(&lan, &ws, &[&friend])?;
    fleet::wait_reach(&lan, &ws, &stranger, "pending")?;
    let shown = ws.check("roost status")?;
    let line = shown.lines().find(|line| line.starts_with("stranger")).unwrap_or_default();
    assert!(line.contains("pending") && line.contains("host key"), "{shown}");
    builds::on_fleet(&ws, &hello(SYSTEM, ""))?;
    let build = Nix::DashBuild.command(&ws, &hello("riscv64-linux", ""), FLEET)?.run()?;
    assert!(!build.success() && build.stderr.contains("riscv64-linux"), "{build}");
    assert!(!ws.read("/run/roost/machines")?.contains("riscv64"), "promised to Nix");
    assert!(!stranger.service_log(Service::SSHD).contains("Accepted"), "logged in to");

    let key = ssh::known_hosts_line(&stranger)?;
    ws.command(["sh", "-c", "cat >>/etc/roost/known_hosts"]).stdin(key).run()?.ok()?;
    builds::wait_for_lines(&lan, &ws, &["riscv64-linux"])?;
    let path = builds::on_fleet(&ws, &hello("riscv64-linux", ""))?;
    assert_eq!(ws.read(&path)?, "hello\n");
    Ok(())
}

/// A board that says that it is another one.
#[test]
fn who_copies_a_boards_id_and_key_hash_gets_no_job() -> Result<()> {
    let lan = Lan::new()?;
    let id = "[node]\nid = \"the-one\"";
    let [ws, real, liar] = lan.start([
        roost::workstation(lan.host("ws"), "away_timeout_s = 2")?,
        roost::board(lan.host("real").system(SYSTEM), 1, id)?,
        roost::board(lan.host("liar").system(SYSTEM), 8, id)?,
    ])?;
    let login = ssh::key(&ws, "/var/lib/roost/ssh/id_ed25519")?;
    roost::admit(&liar, &login)?;
    // What is announced is the hash of this file; what is proved is another key.
    let public = "/etc/ssh/ssh_host_ed25519_key.pub";
    liar.write(public, 0o644, real.read(public)?)?;
    liar.enable_service(Service::ROOST)?;
    roost::join(&ws, &[&real])?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    lan.wait_until(SOON, "the liar is seen, too", || {
        let addresses = |board: &Value| board["addresses"].as_array().map_or(0, Vec::len);
        boards(&ws).is_ok_and(|boards| boards.iter().any(|board| addresses(board) == 4))
    })?;
    for salt in ["one", "two", "three"] {
        builds::on_fleet(&ws, &hello(SYSTEM, salt))?;
    }
    assert_eq!(fleet::jobs(&real)?.len(), 3);
    // Even when it is the only one left.
    real.stop_service(Service::ROOST)?;
    let build = Nix::DashBuild.command(&ws, &hello(SYSTEM, "four"), FLEET)?.run()?;
    assert!(!build.success() && build.stderr.contains("away_timeout_s"), "{build}");
    assert!(fleet::jobs(&liar)?.is_empty());
    assert!(!liar.service_log(Service::SSHD).contains("Accepted"), "logged in to");
    Ok(())
}

#[test]
fn who_announces_a_boards_id_with_a_key_of_its_own_stands_beside_it_pending() -> Result<()> {
    let lan = Lan::new()?;
    let id = "[node]\nid = \"the-one\"";
    let [ws, real, other] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        roost::board(lan.host("real").system(SYSTEM), 1, id)?,
        roost::board(lan.host("other").system(SYSTEM), 8, id)?,
    ])?;
    other.enable_service(Service::ROOST)?;
    fleet::join(&lan, &ws, &[&real])?;
    fleet::wait_reach(&lan, &ws, &other, "pending")?;
    fleet::wait_reach(&lan, &ws, &real, "up")?;
    builds::on_fleet(&ws, &hello(SYSTEM, ""))?;
    assert_eq!((fleet::jobs(&real)?.len(), fleet::jobs(&other)?.len()), (1, 0));
    Ok(())
}
