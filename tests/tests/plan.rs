//! What is shown before anything is built: where a graph would go, and where a waiting job could.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result,
    fixtures::{
        builds, fleet,
        nix::{self, Drv},
        steered,
    },
};
use serde_json::Value;

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Somebody without any rights.
const USER: &str = "alice";

/// A workstation, and two boards of one slot each.
fn trio(lan: &Lan) -> Result<[Host; 3]> {
    let hosts = lan.start([
        steered::allow(fleet::workstation(lan, "ws", "")?),
        fleet::board(lan, "one", 1, "")?,
        fleet::board(lan, "two", 1, "")?,
    ])?;
    let [ws, one, two] = &hosts;
    fleet::join(lan, ws, &[one, two])?;
    builds::add_user(ws, USER)?;
    Ok(hosts)
}

/// Six builds beside each other, and one that needs them.
fn world() -> String {
    let part = Drv::new("part", fleet::SYSTEM, "echo part >$out").times(6);
    Drv::new("world", fleet::SYSTEM, "echo world >$out").attr("parts", &part).expr()
}

#[test]
fn a_plan_names_the_boards_that_would_build_and_builds_nothing() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _one, _two] = trio(&lan)?;
    nix::write(&ws, "/srv/world.nix", &world())?;
    let plan = |words: &[&str]| -> Result<_> {
        let words = ["timeout", "60", "roost", "plan"].into_iter().chain(words.iter().copied());
        builds::as_user(ws.command(words), USER).run()
    };
    let shown = plan(&["--", "--file", "/srv/world.nix"])?.ok()?.stdout;
    assert!(shown.starts_with("7 builds, done in about "), "{shown}");
    assert!(shown.contains("of 7 builds nothing is known: guessed"), "{shown}");
    for part in ["\none   1      ", "\ntwo   1      ", "\n  world  ", "█ building"] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    let json = plan(&["--json", "--", "--file", "/srv/world.nix"])?.ok()?.stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let parts = json["builds"].as_array().expect("builds");
    let on = |board: &str| parts.iter().filter(|build| build["node"] == board).count();
    assert!(on("one") >= 3 && on("two") >= 3 && on("one") + on("two") == 7, "{json}");
    assert!(fleet::jobs(&ws)?.is_empty(), "nothing was asked for");

    // A derivation as it is, and what no board can build.
    let drv = builds::instantiate(&ws, &world())?;
    let svg = plan(&["--svg", "-", &drv])?.ok()?.stdout;
    assert!(svg.starts_with("<svg") && svg.contains("world on "), "{svg}");
    let foreign = builds::instantiate(&ws, &Drv::new("far", "sparc-linux", "echo >$out").expr())?;
    let refused = plan(&[&foreign])?;
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("far: no node builds sparc-linux"), "{refused}");
    assert!(fleet::jobs(&ws)?.is_empty(), "nothing was asked for");
    // When it has been built, nothing is left to do.
    builds::Nix::DashBuild.command(&ws, &world(), &[])?.run()?.ok()?;
    assert_eq!(plan(&[&drv])?.ok()?.stdout.lines().next(), Some("Nothing would be built."));
    Ok(())
}

#[test]
fn why_of_a_waiting_job_names_the_boards_that_could_have_it() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, one, two] = trio(&lan)?;
    two.cut_link()?;
    fleet::wait_reach(&lan, &ws, &two, "away")?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &one, "first", 1)?;
    // Two wait at the board, where nothing is known of such builds.
    let sent = |job: &fleet::Job| job.state == "running";
    let _second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &ws, "second", "sent ahead", sent)?;
    let _third = fleet::build(&ws, "third")?;
    fleet::wait_job(&lan, &ws, "third", "sent ahead", sent)?;
    let _fourth = fleet::build(&ws, "fourth")?;
    fleet::wait_job(&lan, &ws, "fourth", "waiting", |job| job.state == "queued")?;
    let why = fleet::why(&ws, "fourth")?;
    assert!(why.contains("Nodes that could have it, as it is now"), "{why}");
    assert!(why.contains("* one   native  when a slot is free"), "{why}");
    assert!(why.contains("  two   native  -  ") && why.contains("away: "), "{why}");
    let json: Value =
        serde_json::from_str(&ws.check("roost why --json fourth")?).expect("JSON of why");
    assert_eq!(json["candidates"][0]["node"], "one", "{json}");
    assert_eq!(json["candidates"][0]["chosen"], true, "{json}");
    let why = fleet::why(&ws, "first")?;
    assert!(why.contains("When it was placed") && why.contains("* one   native  at once"), "{why}");
    steered::release_all(&one)?;
    first.wait(SOON)?.ok()?;
    Ok(())
}
