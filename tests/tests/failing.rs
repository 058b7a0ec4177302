//! Builds that do not end well: what the user is told, and that asking again builds again.

use std::{cell::Cell, time::Duration};

use roost_lab::{
    Host, Lan, Output, Release, Result,
    fixtures::{
        builds::{self, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, ssh,
    },
};

/// What is to happen soon does within this time on a busy machine, too.
const SOON: Duration = Duration::from_secs(20);

/// Ways to the board: the options of a build, by name.
fn ways(board: &Host) -> [(&'static str, String); 3] {
    let direct =
        |scheme| format!("{scheme}://roost@{} {SYSTEM} {} 2 1 - - -", board.name(), ssh::KEY);
    [
        ("fleet", "@/run/roost/machines".to_owned()),
        ("ssh-ng", direct("ssh-ng")),
        ("ssh", direct("ssh")),
    ]
}

fn hosts(lan: &Lan, release: Release, board_config: &str) -> Result<[Host; 2]> {
    let hosts = lan.start([
        fleet::workstation(lan, "ws", "")?.release(release),
        fleet::board(lan, "board", 2, board_config)?,
    ])?;
    let [ws, board] = &hosts;
    roost::direct(ws, &[board])?;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

fn build(ws: &Host, nix: Nix, expr: &str, builders: &str) -> Result<Output> {
    nix.command(ws, expr, &["--max-jobs", "0", "--builders", builders])?.run()
}

fn a_failure_is_told(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, release, "")?;
    let asked = Cell::new(0);
    let ask = |nix, expr: &str, builders: &str| {
        asked.set(asked.get() + 1);
        build(&ws, nix, expr, builders)
    };
    for (way, builders) in ways(&board) {
        for nix in Nix::ALL {
            let salt = format!("{way} {nix:?}");
            let drv = Drv::new("broken", SYSTEM, "echo it hurts here; exit 3").salt(&salt).expr();
            let after = Drv::new("after", SYSTEM, "cat $broken >$out").attr("broken", &drv).expr();
            for attempt in 1..=2 {
                let output = ask(nix, &after, &builders)?;
                let context = format!("{salt}, attempt {attempt}: {output}");
                assert!(!output.success(), "{context}");
                assert!(output.stderr.contains("broken.drv' failed with exit code"), "{context}");
                assert!(output.stderr.contains("it hurts here"), "{context}");
                // nix-daemon packs it when its client has been told, and keeps none if the client is gone by
                // then, as happens on a busy machine: then it has to be asked again.
                let log = format!("nix log {}", builds::instantiate(&ws, &drv)?);
                lan.wait_until(SOON, "the log is kept", || {
                    let kept = ws.check(&log).is_ok_and(|log| log.contains("it hurts here"));
                    kept || ask(nix, &after, &builders).is_err()
                })?;
            }
        }
    }
    let failed = fleet::jobs(&board)?.iter().filter(|job| job.state == "failed").count();
    let shown = board.check("roost jobs --all")?;
    assert!(!shown.contains('\x1b'), "as plain text: {shown:?}");
    // A job that has ended and is asked for again takes the place of the old one.
    assert_eq!(failed, 6, "one job for each derivation");
    let starts = board.service_log(roost_lab::Service::ROOST).matches(" started ").count();
    assert_eq!(starts, asked.get(), "each was built as often as asked for, what needs it never");
    Ok(())
}

#[test]
fn nix_2_26_tells_of_a_failure_with_its_log_and_builds_again_when_asked_again() -> Result<()> {
    a_failure_is_told(Release::Trixie)
}

#[test]
fn the_newest_nix_tells_of_a_failure_with_its_log_and_builds_again_when_asked_again() -> Result<()>
{
    a_failure_is_told(Release::Sid)
}

#[test]
fn the_rest_of_the_graph_is_built_with_keep_going() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = hosts(&lan, Release::Trixie, "")?;
    let bad = Drv::new("bad", SYSTEM, "exit 1").expr();
    let good = Drv::new("good", SYSTEM, "echo good >$out").expr();
    let expr = format!("[ {bad} {good} ]");
    let output =
        Nix::DashBuild.command(&ws, &expr, &[builds::FLEET, &["--keep-going"]].concat())?.run()?;
    assert!(!output.success());
    let good =
        ws.check(&format!("nix-store --query --outputs {}", builds::instantiate(&ws, &good)?))?;
    assert_eq!(ws.read(&good)?, "good\n");
    Ok(())
}

#[test]
fn a_build_that_takes_too_long_or_says_nothing_is_ended_and_told_as_that() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, silent, endless] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        roost::board(lan.host("silent").system("aarch64-linux"), 1, "max_silent_s = 1")?,
        roost::board(lan.host("endless").system("riscv64-linux"), 1, "timeout_s = 2")?,
    ])?;
    roost::direct(&ws, &[&silent, &endless])?;
    fleet::join(&lan, &ws, &[&silent, &endless])?;
    for (system, board, script, told) in [
        ("aarch64-linux", &silent, "sleep 600", "timed out after 1 seconds of silence"),
        (
            "riscv64-linux",
            &endless,
            "while sleep 0.1; do echo .; done",
            "timed out after 2 seconds",
        ),
    ] {
        for (way, builders) in ways(board) {
            let builders = builders.replace(SYSTEM, system);
            let drv = Drv::new("slow", system, script).salt(way);
            let output = build(&ws, Nix::DashBuild, &drv.expr(), &builders)?;
            assert!(!output.success() && output.stderr.contains(told), "{way}: {output}");
        }
        let left = board.processes()?;
        assert!(left.iter().all(|process| !process.command().contains(script)), "{left:#?}");
    }
    let job = fleet::jobs(&ws)?.into_iter().find(|job| job.reason.contains("silence"));
    assert!(job.is_some_and(|job| job.state == "failed"));
    Ok(())
}

#[test]
fn rebuilding_compares_at_the_board_and_tells_of_a_difference() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, Release::Trixie, "")?;
    let store = ["--store", "ssh-ng://roost@board", "--eval-store", "auto"];
    let rebuild = [&store[..], &["--rebuild"]].concat();
    let same = Drv::new("same", SYSTEM, "echo same >$out").expr();
    let differs = Drv::new("differs", SYSTEM, "cat /proc/sys/kernel/random/uuid >$out").expr();
    for expr in [&same, &differs] {
        Nix::Build.command(&ws, expr, &store)?.run()?.ok()?;
    }
    Nix::Build.command(&ws, &same, &rebuild)?.run()?.ok()?;
    let output = Nix::Build.command(&ws, &differs, &rebuild)?.run()?;
    assert!(!output.success() && output.stderr.contains("may not be deterministic"), "{output}");
    // A normal build has what is there already, and does not share the check's result.
    Nix::Build.command(&ws, &differs, &store)?.run()?.ok()?;
    assert!(fleet::jobs(&board)?.iter().filter(|job| job.name == "differs").count() >= 2);
    Ok(())
}

#[test]
fn a_check_by_way_of_a_builder_ends_though_nix_does_not_tell_the_builder_to_check() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan, Release::Trixie, "")?;
    let same = Drv::new("same", SYSTEM, "echo same >$out").expr();
    builds::on_fleet(&ws, &same)?;
    for (way, builders) in ways(&board) {
        let options = ["--max-jobs", "0", "--check", "--builders", &builders];
        let output = Nix::DashBuild.command(&ws, &same, &options)?.run()?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, "same\n", "{way}");
    }
    Ok(())
}
