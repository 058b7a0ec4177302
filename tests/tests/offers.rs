//! What a node offers, and how native and emulated systems are told apart wherever they are shown.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Service,
    fixtures::{
        fleet,
        native::{self, RISCV},
        roost,
    },
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const ARM: &str = "aarch64-linux";

fn shown(host: &Host, command: [&str; 3]) -> Result<Value> {
    let output = host.run(command)?;
    Ok(serde_json::from_str(&output.stdout).expect("it prints JSON"))
}

/// What `roost doctor` says of a check, with its verdict.
fn findings(host: &Host, check: &str) -> Result<Vec<String>> {
    let findings = shown(host, ["roost", "doctor", "--json"])?;
    let findings = findings.as_array().expect("a list of findings").iter();
    let text = |finding: &Value| {
        let field = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", field("verdict"), field("found"))
    };
    Ok(findings.filter(|finding| finding["check"] == check).map(text).collect())
}

#[test]
fn a_board_tells_what_it_emulates_apart_and_does_not_offer_what_nothing_runs() -> Result<()> {
    let lan = Lan::new()?;
    let extra = format!("extra-platforms = {RISCV} s390x-linux");
    let [other, board] =
        lan.start([lan.host("other"), native::arm(&lan, "board", 2, "")?.nix_conf(&extra)])?;
    board.enable_service(Service::ROOST)?;

    let status = shown(&board, ["roost", "status", "--json"])?;
    let node = &status["node"];
    assert_eq!((&node["systems"], &node["emulated"]), (&json!([ARM]), &json!([RISCV])), "{status}");
    let text = board.check("roost status")?;
    assert!(text.contains("for aarch64-linux (emulates riscv64-linux)"), "{text}");
    let property = |name: &str| {
        board.check(&format!(
            "busctl get-property org.roost.Node1 /org/roost/Node1 org.roost.Node1 {name}"
        ))
    };
    assert_eq!(property("Systems")?, format!("as 1 \"{ARM}\""));
    assert_eq!(property("EmulatedSystems")?, format!("as 1 \"{RISCV}\""));

    lan.wait_until(SOON, "the announcement is seen", || {
        let seen = other.check("avahi-browse -rtp _nix-builder._tcp").unwrap_or_default();
        seen.contains("\"sys=aarch64-linux\"") && seen.contains("\"emu=riscv64-linux\"")
    })?;
    let native = other.check("avahi-browse -tp _riscv64-linux._sub._nix-builder._tcp")?;
    assert!(!native.contains("board"), "only native systems have a subtype: {native}");

    let emulation = findings(&board, "emulation")?;
    assert!(emulation[0].starts_with("warning: extra-platforms in nix.conf names s390x-linux"));
    let emulator = findings(&board, "emulator")?;
    assert!(
        emulator[0].starts_with("ok: riscv64-linux is emulated here by /")
            && emulator[0].contains("(binfmt entry qemu-riscv64)"),
        "{emulator:?}"
    );
    Ok(())
}

#[test]
fn a_workstation_with_emulators_is_told_to_leave_them_out_of_nix() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([
        fleet::workstation(&lan, "ws", "")?.emulates([RISCV]),
        native::riscv(&lan, "board", 2)?,
    ])?;
    roost::join(&ws, &[&board])?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    let emulation = findings(&ws, "emulation")?;
    assert_eq!(
        emulation,
        ["warning: Nix may emulate riscv64-linux itself instead of asking a board"]
    );
    ws.check(
        "cp /etc/nix/nix.conf /root/; sed /extra-platforms/d /root/nix.conf >/etc/nix/nix.conf",
    )?;
    assert_eq!(findings(&ws, "emulation")?, ["ok: Nix emulates nothing by itself"]);
    let emulator = findings(&ws, "emulator")?;
    assert!(emulator[0].ends_with("; one native board is on the LAN"), "{emulator:?}");
    Ok(())
}
