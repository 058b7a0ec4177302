//! A workstation that has an emulator: it is used in a store of its own, if at all, and as the
//! rules of placement say.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Host, Lan, Output, Result, Running, Service,
    fixtures::{
        builds::Nix,
        fleet, foreign,
        native::{self, RISCV},
        roost, steered,
    },
};
use serde_json::Value;

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A workstation whose Nix does not emulate by itself, and a native board, joined.
fn pair(lan: &Lan, config: &str) -> Result<[Host; 2]> {
    let spec = lan.host("ws").emulates([RISCV]).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, &format!("away_timeout_s = 5\n{config}"))?;
    let hosts = lan.start([ws, native::riscv(lan, "riscv", 2)?])?;
    let [ws, riscv] = &hosts;
    fleet::join(lan, ws, &[riscv])?;
    Ok(hosts)
}

fn build(ws: &Host, name: &str) -> Result<Output> {
    Nix::DashBuild.command(ws, &foreign::drv(name, RISCV).expr(), &[])?.run()
}

/// The second store as `roost status --json` shows it; null if there is none.
fn shown(ws: &Host) -> Result<Value> {
    let mut status: Value =
        serde_json::from_str(&ws.check("roost status --json")?).expect("roost status prints JSON");
    Ok(status["second_store"].take())
}

/// Where a job was built, and whether that was emulated.
fn built_on(ws: &Host, name: &str) -> Result<(Option<String>, bool)> {
    let job = fleet::jobs(ws)?.into_iter().find(|job| job.name == name);
    Ok(job.map_or((None, false), |job| (job.node, job.emulated)))
}

#[test]
fn a_workstation_does_not_emulate_unless_told_to() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, riscv] = pair(&lan, "")?;
    let output = build(&ws, "native")?.ok()?;
    assert_eq!(ws.read(output.stdout.trim())?, foreign::output(RISCV));
    assert_eq!(shown(&ws)?, Value::Null);
    let text = ws.check("roost status")?;
    assert!(!text.contains("SECOND STORE"), "{text}");
    riscv.power_off()?;
    fleet::wait_reach(&lan, &ws, &riscv, "away")?;
    let output = build(&ws, "nowhere")?;
    assert!(!output.success() && output.stderr.contains("away_timeout_s"), "{output}");
    Ok(())
}

#[test]
fn told_to_it_emulates_when_no_native_board_is_there_with_the_same_outcome() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, riscv] = pair(&lan, "emulate_here = true\n")?;
    let path = build(&ws, "same")?.ok()?.stdout.trim().to_owned();
    assert_eq!(built_on(&ws, "same")?, (Some("riscv".to_owned()), false));
    let hash = ws.check(&format!("nix-store -q --hash {path}"))?;
    ws.check(&format!("nix-store --delete {path}"))?;

    riscv.power_off()?;
    fleet::wait_reach(&lan, &ws, &riscv, "away")?;
    assert_eq!(build(&ws, "same")?.ok()?.stdout.trim(), path);
    assert_eq!(ws.check(&format!("nix-store -q --hash {path}"))?, hash);
    assert_eq!(ws.read(&path)?, foreign::output(RISCV));
    let why = fleet::why(&ws, "same")?;
    assert!(why.contains("ws (emulation) emulates riscv64-linux"), "{why}");
    assert!(why.contains("placement.emulation = \"fallback\""), "{why}");
    assert_eq!(built_on(&ws, "same")?, (Some("ws (emulation)".to_owned()), true));

    riscv.power_on()?;
    fleet::wait_reach(&lan, &ws, &riscv, "up")?;
    build(&ws, "back")?.ok()?;
    assert_eq!(built_on(&ws, "back")?, (Some("riscv".to_owned()), false));
    Ok(())
}

#[test]
fn it_never_emulates_where_placement_forbids_it() -> Result<()> {
    let lan = Lan::new()?;
    let config = "emulate_here = true\n\n[placement]\nemulation = \"never\"\n";
    let [ws, riscv] = pair(&lan, config)?;
    riscv.power_off()?;
    fleet::wait_reach(&lan, &ws, &riscv, "away")?;
    let output = build(&ws, "forbidden")?;
    assert!(!output.success() && output.stderr.contains("placement.emulation"), "{output}");
    Ok(())
}

/// Whether a steered build is under way.
fn is_built(ws: &Host, name: &str) -> bool {
    steered::builder(ws, name).is_ok()
}

#[test]
fn a_build_that_is_cancelled_or_whose_daemon_is_killed_ends_and_leaves_nothing_behind() -> Result<()>
{
    let lan = Lan::new()?;
    let spec = steered::allow(lan.host("ws").emulates([RISCV])).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, "emulate_here = true\n")?.start()?;
    fleet::join(&lan, &ws, &[])?;
    steered::prepare(&ws)?;
    let start = |name: &str| -> Result<Running> {
        let drv = foreign::steered(name, RISCV);
        let build = Nix::DashBuild.command(&ws, &drv.expr(), &[])?.spawn()?;
        steered::wait_started(&lan, &ws, name, 1)?;
        Ok(build)
    };
    let ends = |name: &str| {
        lan.wait_until(SOON, &format!("{name} is built no more"), || !is_built(&ws, name))
    };
    let mut cancelled = start("cancelled")?;
    ws.check("roost cancel cancelled")?;
    assert!(!cancelled.wait(SOON)?.success());
    ends("cancelled")?;

    let mut orphaned = start("orphaned")?;
    ws.kill9(Service::ROOST)?;
    assert!(!orphaned.wait(SOON)?.success());
    ends("orphaned")?;
    ws.start_service(Service::ROOST)?;
    steered::release_all(&ws)?;
    fleet::wait_job(&lan, &ws, "orphaned", "built", |job| job.state == "built")?;
    let path = build(&ws, "after")?.ok()?.stdout.trim().to_owned();
    assert_eq!(ws.read(&path)?, foreign::output(RISCV));
    let left = "find /var/lib/roost/emulation/nix/store -name '*.chroot' | wc -l";
    lan.wait_until(SOON, "nothing is left of them", || ws.check(left).is_ok_and(|n| n == "0"))
}

#[test]
fn status_shows_the_second_store_apart_from_boards_and_what_it_runs() -> Result<()> {
    let lan = Lan::new()?;
    let spec = steered::allow(lan.host("ws").emulates([RISCV])).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, "emulate_here = true\n")?;
    let [ws, board] = lan.start([ws, fleet::board(&lan, "board", 1, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    steered::prepare(&ws)?;
    let store = shown(&ws)?;
    assert_eq!(store["name"], "ws (emulation)", "{store}");
    assert_eq!((&store["emulated"][0], &store["systems"][0]), (&RISCV.into(), &Value::Null));
    assert_eq!((&store["running"], &store["trouble"]), (&0.into(), &"".into()));
    assert!(store["slots"].as_u64() >= Some(1), "{store}");

    let drv = foreign::steered("here", RISCV);
    let mut build = Nix::DashBuild.command(&ws, &drv.expr(), &[])?.spawn()?;
    steered::wait_started(&lan, &ws, "here", 1)?;
    assert_eq!(shown(&ws)?["running"], 1);
    let text = ws.check("roost status")?;
    let (boards, second) = text.split_once("\nSECOND STORE ").expect("a table of its own");
    assert!(boards.contains("board  up ") && !boards.contains("emulation"), "{text}");
    let words: Vec<_> = second.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(words[..4], ["ws", "(emulation)", "up", RISCV], "{text}");
    assert_eq!(words[5..], ["1", "in", "/var/lib/roost/emulation"], "{text}");
    steered::release_all(&ws)?;
    build.wait(SOON)?.ok()?;
    lan.wait_until(SOON, "nothing runs in it", || shown(&ws).is_ok_and(|it| it["running"] == 0))?;

    // Without a nix-daemon it is in trouble, until there is one again.
    ws.check("mv /usr/bin/nix-daemon /root/")?;
    ws.kill9(Service::ROOST)?;
    ws.start_service(Service::ROOST)?;
    lan.wait_until(SOON, "trouble is shown", || {
        let trouble = |it: Value| it["trouble"].to_string().contains("cannot start nix-daemon");
        shown(&ws).is_ok_and(trouble)
    })?;
    let text = ws.check("roost status")?;
    assert!(text.contains("ws (emulation)  trouble  riscv64-linux"), "{text}");
    ws.check("mv /root/nix-daemon /usr/bin/")?;
    assert_eq!(shown(&ws)?["trouble"], "");
    Ok(())
}

#[test]
fn where_systemd_starts_its_nix_daemon_that_one_is_used() -> Result<()> {
    let lan = Lan::new()?;
    let spec = lan.host("ws").emulates([RISCV]).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, "emulate_here = true\n")?.start()?;
    // As the units do: a process for each connection, which is its standard input and output.
    let _socket = ws.spawn(
        "systemd-socket-activate --accept --inetd --listen=/run/roost-emulation.sock \
         --setenv=PATH --setenv='NIX_REMOTE=local?root=/var/lib/roost/emulation' \
         nix-daemon --stdio 2>/root/activated",
    )?;
    lan.wait_until(SOON, "the socket is there", || {
        ws.sh("test -S /run/roost-emulation.sock").is_ok_and(|test| test.success())
    })?;
    fleet::join(&lan, &ws, &[])?;
    let path = build(&ws, "here")?.ok()?.stdout.trim().to_owned();
    assert_eq!(ws.read(&path)?, foreign::output(RISCV));
    let activated = ws.read("/root/activated")?;
    assert!(activated.contains("Connection from"), "{activated}");
    Ok(())
}
