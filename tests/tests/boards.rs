//! Which boards a workstation finds, trusts and uses.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Addressing, Host, Lan, Result,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, steered,
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
