//! Every stock client of a workstation, as it is: both programs, both ways to name the builders,
//! root and an ordinary user, and what they show.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Release, Result, Service,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet,
        nix::Drv,
        roost, steered,
    },
};

const USER: &str = "alice";
const SOON: Duration = Duration::from_secs(30);

/// A graph across two systems: what the top has is what all of it has.
fn graph(salt: &str) -> String {
    let leaf = Drv::new("leaf", "aarch64-linux", "echo leaf says hello; echo leaf >$out");
    let middle = Drv::new("middle", "riscv64-linux", "cat $leaf >$out; echo middle >>$out");
    let top = Drv::new("top", "aarch64-linux", "cat $leaf $middle >$out; echo top >>$out");
    let leaf = leaf.salt(salt).expr();
    let middle = middle.salt(salt).attr("leaf", "leaf").expr();
    let top = top.salt(salt).attr("leaf", "leaf").attr("middle", "middle").expr();
    format!("let leaf = {leaf}; middle = {middle}; in {top}")
}

const GRAPH_CONTENT: &str = "leaf\nleaf\nmiddle\ntop\n";

/// A workstation with that Debian's Nix and two boards, joined.
fn fleet(lan: &Lan, release: Release) -> Result<[Host; 3]> {
    let hosts = lan.start([
        roost::workstation(lan.host("ws").release(release), "")?,
        roost::board(lan.host("arm").system("aarch64-linux"), 2, "")?,
        roost::board(lan.host("riscv").system("riscv64-linux"), 2, "")?,
    ])?;
    let [ws, arm, riscv] = &hosts;
    roost::join(ws, &[arm, riscv])?;
    builds::add_user(ws, USER)?;
    builds::wait_for_lines(lan, ws, &["aarch64-linux", "riscv64-linux"])?;
    Ok(hosts)
}

/// Builds a graph across both boards with every program, as root by option and as root and an
/// ordinary user by nix.conf.
fn every_client_builds_a_graph(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, arm, riscv] = fleet(&lan, release)?;
    for nix in Nix::ALL {
        let output = nix.command(&ws, &graph(&format!("option {nix:?}")), FLEET)?.run()?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, GRAPH_CONTENT, "{nix:?} by option");
    }
    ws.check("echo 'builders = @/run/roost/machines' >>/etc/nix/nix.conf")?;
    ws.restart_service(Service::NIX_DAEMON)?;
    for nix in Nix::ALL {
        let build = nix.command(&ws, &graph(&format!("root {nix:?}")), &[])?.run()?.ok()?;
        assert_eq!(ws.read(build.stdout.trim())?, GRAPH_CONTENT, "{nix:?} as root");
        let build = nix.command(&ws, &graph(&format!("user {nix:?}")), &[])?;
        let build = builds::as_user(build, USER).run()?.ok()?;
        assert_eq!(ws.read(build.stdout.trim())?, GRAPH_CONTENT, "{nix:?} as {USER}");
    }
    let built = |host: &Host, name: &str| {
        host.check(&format!("ls -d /nix/store/*-{name} | wc -l")).map(|count| count != "0")
    };
    assert!(built(&arm, "top")? && built(&riscv, "middle")?);
    assert!(!built(&riscv, "top")?, "built where it does not belong");
    Ok(())
}

#[test]
fn nix_2_26_builds_a_graph_across_two_systems_as_any_user_by_option_or_nix_conf() -> Result<()> {
    every_client_builds_a_graph(Release::Trixie)
}

#[test]
fn the_newest_nix_builds_a_graph_across_two_systems_as_any_user_by_option_or_nix_conf() -> Result<()>
{
    every_client_builds_a_graph(Release::Sid)
}

/// The log of a build, as it runs and afterwards.
fn the_log_reaches_the_client(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _arm, _riscv] = fleet(&lan, release)?;
    let script = "echo first line; echo second line >&2; echo out >$out";
    let drv = Drv::new("talks", "aarch64-linux", script);
    let path = builds::instantiate(&ws, &drv.expr())?;
    let options = [FLEET, &["-L"]].concat();
    let build = Nix::Build.command(&ws, &drv.expr(), &options)?.run()?.ok()?;
    for line in ["talks> first line", "talks> second line"] {
        assert!(build.stderr.contains(line), "{build}");
    }
    assert_eq!(ws.check(&format!("nix log {path}"))?, "first line\nsecond line");
    let log = builds::as_user(ws.command(["nix-store", "--read-log", &path]), USER);
    assert_eq!(log.run()?.ok()?.stdout, "first line\nsecond line\n");
    Ok(())
}

#[test]
fn nix_2_26_prints_the_log_and_keeps_it() -> Result<()> {
    the_log_reaches_the_client(Release::Trixie)
}

#[test]
fn the_newest_nix_prints_the_log_and_keeps_it() -> Result<()> {
    the_log_reaches_the_client(Release::Sid)
}

/// A workstation and a board with one slot whose builds can be steered.
fn one_slot(lan: &Lan, release: Release) -> Result<[Host; 2]> {
    let ws = fleet::workstation(lan, "ws", "")?.release(release);
    let hosts = lan.start([ws, fleet::board(lan, "board", 1, "")?])?;
    let [ws, board] = &hosts;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

/// The place in the queue, and how far inputs have been copied.
fn activities_are_shown(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = one_slot(&lan, release)?;
    let options = [FLEET, &["--log-format", "internal-json", "-v"]].concat();
    let held = steered::drv("held", fleet::SYSTEM).times(4);
    // One runs, two wait at the board, and one waits here.
    let mut build = Nix::Build.command(&ws, &held, &options)?.spawn()?;
    steered::wait_started(&lan, &board, "held", 1)?;
    let there = |text: &str| text.contains("on board: ") && text.contains("next in line");
    let here = |text: &str| text.contains("are busy") && !text.contains("on board: ");
    lan.wait_until(SOON, "it shows what waits at the board and what waits here", || {
        let shown = activities(&build.stderr());
        shown.iter().any(|text| there(text)) && shown.iter().any(|text| here(text))
    })?;
    steered::release_all(&board)?;
    let output = build.wait(builds::BUILD_TIMEOUT)?.ok()?;
    let shown = activities(&output.stderr);
    for part in ["copying inputs to board: ", "building '/nix/store/"] {
        assert!(shown.iter().any(|text| text.contains(part)), "{part} is missing: {shown:#?}");
    }
    Ok(())
}

#[test]
fn nix_2_26_shows_the_place_in_the_queue_and_how_far_inputs_have_been_copied() -> Result<()> {
    activities_are_shown(Release::Trixie)
}

#[test]
fn the_newest_nix_shows_the_place_in_the_queue_and_how_far_inputs_have_been_copied() -> Result<()> {
    activities_are_shown(Release::Sid)
}

#[test]
fn the_progress_bar_of_a_terminal_shows_what_a_build_waits_for() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = one_slot(&lan, Release::Trixie)?;
    let mut before = fleet::build(&ws, "before")?;
    steered::wait_started(&lan, &board, "before", 1)?;
    ws.write("/srv/after.nix", 0o644, steered::drv("after", fleet::SYSTEM).expr())?;
    let line = "nix build --no-link --file /srv/after.nix";
    let terminal = ws.command(["script", "--quiet", "--return", "--command", line, "/dev/null"]);
    let mut after = terminal.env("TERM", "xterm").spawn()?;
    lan.wait_until(SOON, "the bar says what it waits for", || {
        after.stdout().contains("all 1 slot for aarch64-linux are busy (board); next in line")
    })?;
    steered::release_all(&board)?;
    before.wait(builds::BUILD_TIMEOUT)?.ok()?;
    after.wait(builds::BUILD_TIMEOUT)?.ok()?;
    Ok(())
}

/// The texts of all activities that a client was told of, from its internal-json log.
fn activities(stderr: &str) -> Vec<String> {
    let messages = stderr.lines().filter_map(|line| line.strip_prefix("@nix "));
    let messages = messages.filter_map(|json| serde_json::from_str::<serde_json::Value>(json).ok());
    let starts = messages.filter(|message| message["action"] == "start");
    starts.filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
}
