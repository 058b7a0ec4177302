//! Whoever asks says which board builds: of one build, of one line of builders, and by rules.

use std::time::Duration;

use roost_lab::{
    Command, Host, Lan, Output, Release, Result, Service, Signal,
    fixtures::{builds, fleet, nix, nix::Drv, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// A user whom Nix does not trust.
const USER: &str = "alice";
/// What the workstation builds itself.
const OWN: &str = "x86_64-linux";

/// A workstation, and the boards `one` and `two`, of which the latter has the label `fast`.
fn trio(config: &str) -> Result<(Lan, [Host; 3])> {
    trio_with(Release::Trixie, config)
}

/// The same, with a workstation of this release.
fn trio_with(release: Release, config: &str) -> Result<(Lan, [Host; 3])> {
    let lan = Lan::new()?;
    let hosts = lan.start([
        steered::allow(fleet::workstation(&lan, "ws", config)?.release(release)),
        fleet::board(&lan, "one", 2, "")?,
        fleet::board(&lan, "two", 2, "[node]\nlabels = [\"fast\", \"ssd\"]")?,
    ])?;
    let [ws, one, two] = &hosts;
    fleet::join(&lan, ws, &[one, two])?;
    steered::prepare(ws)?;
    builds::add_user(ws, USER)?;
    Ok((lan, hosts))
}

fn quick(name: &str) -> Drv {
    Drv::new(name, fleet::SYSTEM, &format!("echo {name} >$out"))
}

/// `roost build` with these options, of a derivation, as [`USER`].
fn roost_build(ws: &Host, options: &str, drv: &Drv) -> Result<Command> {
    let file = format!("/srv/{}.nix", drv.name());
    nix::write(ws, &file, &drv.expr())?;
    let words = ["timeout", "60", "roost", "build"].into_iter().chain(options.split(' '));
    let nix = ["--no-link", "--print-out-paths", "--file", &file];
    Ok(builds::as_user(ws.command(words.chain(nix)), USER))
}

/// The stock command, with the file of one board.
fn only(ws: &Host, board: &str, drv: &Drv) -> Result<Command> {
    let (file, builders) =
        (format!("/srv/{}.nix", drv.name()), format!("@/run/roost/only/{board}"));
    nix::write(ws, &file, &drv.expr())?;
    let words = ["nix", "build", "--no-link", "--print-out-paths", "--file", &file];
    Ok(ws.command(words.into_iter().chain(["--builders", &builders])))
}

/// Where a job was built.
fn built_on(ws: &Host, name: &str) -> Result<Option<String>> {
    let jobs = fleet::jobs(ws)?.into_iter();
    Ok(jobs.filter(|job| job.state == "built" && job.name == name).find_map(|job| job.node))
}

#[track_caller]
fn says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "{words:?} is missing: {output}");
}

/// With the Nix of this release.
fn chooses_a_board(release: Release) -> Result<()> {
    let (_lan, [ws, one, two]) = trio_with(release, "")?;
    let shown = fleet::shown(&ws, "two").unwrap_or_default();
    assert_eq!(shown["node"]["labels"], serde_json::json!(["fast", "ssd"]));
    let id = shown["node"]["id"].as_str().unwrap_or_default().to_owned();
    let cases = [("one", &one), ("two", &two), ("fast", &two), (&*id, &two)];
    for (n, (words, board)) in cases.into_iter().enumerate() {
        let name = format!("d{n}");
        let output = roost_build(&ws, &format!("--on {words}"), &quick(&name))?.run()?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, format!("{name}\n"));
        assert_eq!(built_on(&ws, &name)?.as_deref(), Some(board.name()), "{words}");
        let why = fleet::why(&ws, &name)?;
        assert!(why.contains(&format!("(--on asks for {words})")), "{why}");
    }
    // Nothing is left behind for builds that do not say where.
    let output = fleet::nix_build(&ws, &quick("anywhere"))?.run()?.ok()?;
    assert_eq!(ws.read(output.stdout.trim())?, "anywhere\n");
    assert!(!fleet::why(&ws, "anywhere")?.contains("--on"));
    Ok(())
}

#[test]
fn a_user_whom_nix_does_not_trust_chooses_a_board_by_name_id_or_label() -> Result<()> {
    chooses_a_board(Release::Trixie)
}

#[test]
fn a_user_whom_the_newest_nix_does_not_trust_chooses_a_board() -> Result<()> {
    chooses_a_board(Release::Sid)
}

#[test]
fn what_cannot_be_is_an_error_at_once_that_says_why() -> Result<()> {
    let (_lan, [ws, _one, _two]) = trio("")?;
    let foreign = Drv::new("foreign", "riscv64-linux", "echo >$out");
    let own = Drv::new("own", OWN, "echo >$out");
    for (words, drv, status, why) in [
        ("nosuch", &quick("a"), 4, "no board of this fleet is called nosuch"),
        ("ws", &quick("a"), 1, "ws is this machine"),
        ("one,nosuch", &quick("a"), 4, "nosuch"),
        ("one", &foreign, 1, "no node builds riscv64-linux"),
        ("one", &own, 1, "all of it is for x86_64-linux, which this machine builds itself"),
    ] {
        let output = roost_build(&ws, &format!("--on {words}"), drv)?.run()?;
        assert_eq!(output.code(), Some(status), "{words}: {output}");
        says(&output, why);
    }
    assert!(fleet::jobs(&ws)?.is_empty(), "nothing was asked for");
    Ok(())
}

#[test]
fn what_only_this_machine_builds_is_left_to_it_and_that_is_said() -> Result<()> {
    let (_lan, [ws, _one, two]) = trio("")?;
    let own = Drv::new("own", OWN, "echo own >$out");
    let after = quick("after").attr("before", &own.expr());
    let output = roost_build(&ws, "--on two", &after)?.run()?.ok()?;
    says(&output, "1 derivation for x86_64-linux, own for one, will be built elsewhere");
    assert_eq!(built_on(&ws, "after")?.as_deref(), Some(two.name()));
    Ok(())
}

#[test]
fn a_daemon_that_was_started_anew_is_told_again() -> Result<()> {
    let (lan, [ws, one, two]) = trio("")?;
    let after = quick("after").attr("before", &steered::drv("own", OWN).expr());
    let mut build = roost_build(&ws, "--on two", &after)?.spawn()?;
    steered::wait_started(&lan, &ws, "own", 1)?;
    ws.kill9(Service::ROOST)?;
    ws.start_service(Service::ROOST)?;
    for board in [&one, &two] {
        fleet::wait_reach(&lan, &ws, board, "up")?;
    }
    steered::release_all(&ws)?;
    build.wait(SOON)?.ok()?;
    let why = fleet::why(&ws, "after")?;
    assert!(why.contains("(--on asks for two)"), "{why}");
    Ok(())
}

#[test]
fn a_board_that_is_away_is_an_error_within_2_s_or_waited_for() -> Result<()> {
    let (lan, [ws, _one, two]) = trio("")?;
    two.cut_link()?;
    fleet::wait_reach(&lan, &ws, &two, "away")?;
    let file = "/srv/a.nix";
    nix::write(&ws, file, &quick("a").expr())?;
    let words = ["timeout", "2", "roost", "build", "--on", "two", "--file", file];
    let output = builds::as_user(ws.command(words), USER).run()?;
    assert_eq!(output.code(), Some(1), "{output}");
    says(&output, "two is away: ");
    says(&output, "`--wait` waits");
    let mut build = roost_build(&ws, "--on two --wait", &quick("a"))?.spawn()?;
    lan.wait_until(SOON, "it waits", || build.stderr().contains("waiting: two is away"))?;
    two.restore_link()?;
    let output = build.wait(SOON)?.ok()?;
    assert_eq!(ws.read(output.stdout.trim())?, "a\n");
    assert_eq!(built_on(&ws, "a")?.as_deref(), Some("two"));
    Ok(())
}

#[test]
fn what_somebody_else_has_asked_for_stays_where_it_is_and_that_is_said() -> Result<()> {
    let (lan, [ws, one, _two]) = trio("")?;
    let drv = steered::drv("a", fleet::SYSTEM);
    let mut first = roost_build(&ws, "--on one", &drv)?.spawn()?;
    steered::wait_started(&lan, &one, "a", 1)?;
    let mut second = roost_build(&ws, "--on two", &drv)?.spawn()?;
    // It has registered what it wants, and waits for Nix, which waits for the first.
    lan.wait_until(SOON, "both ask Nix", || {
        let builds = |p: &roost_lab::ProcessInfo| p.command().starts_with("nix build --no-link");
        ws.processes().is_ok_and(|all| all.iter().filter(|p| builds(p)).count() == 2)
    })?;
    steered::release_all(&one)?;
    first.wait(SOON)?.ok()?;
    let output = second.wait(SOON)?.ok()?;
    says(&output, "a is with one already, asked for by alice");
    assert_eq!(steered::starts(&one, "a")?, 1);
    Ok(())
}

#[test]
fn roost_build_ends_as_nix_does_and_passes_signals_on() -> Result<()> {
    let (lan, [ws, one, _two]) = trio("")?;
    let fails = Drv::new("fails", fleet::SYSTEM, "echo it goes wrong; exit 7");
    let output = roost_build(&ws, "--on one", &fails)?.run()?;
    let plain = ws.run(["nix", "build", "--no-link", "--file", "/srv/fails.nix"])?;
    assert_eq!(output.code(), plain.code(), "{output}\n{plain}");
    says(&output, "it goes wrong");
    let file = "/srv/a.nix";
    nix::write(&ws, file, &steered::drv("a", fleet::SYSTEM).expr())?;
    let words = ["roost", "build", "--on", "one", "--no-link", "--file", file];
    let mut build = ws.command(words).spawn()?;
    steered::wait_started(&lan, &one, "a", 1)?;
    build.signal(Signal::TERM);
    let output = build.wait(SOON)?;
    assert!(!output.success(), "{output}");
    fleet::wait_job(&lan, &ws, "a", "unattended", |job| job.attached == 0)?;
    Ok(())
}

#[test]
fn a_trusted_user_chooses_a_board_with_the_stock_command() -> Result<()> {
    let (lan, [ws, one, two]) = trio("")?;
    let shown = fleet::shown(&ws, "one").unwrap_or_default();
    let id = shown["node"]["id"].as_str().unwrap_or_default().to_owned();
    for (n, (file, board)) in [("one", &one), ("two", &two), (&id, &one)].into_iter().enumerate() {
        let name = format!("d{n}");
        let output = only(&ws, file, &quick(&name))?.run()?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, format!("{name}\n"));
        assert_eq!(built_on(&ws, &name)?.as_deref(), Some(board.name()), "{file}");
        let why = fleet::why(&ws, &name)?;
        assert!(why.contains(&format!("(only/{} asks for ", board.name())), "{why}");
    }
    // Also while it is away: then the job waits for it.
    two.cut_link()?;
    fleet::wait_reach(&lan, &ws, &two, "away")?;
    let mut build = only(&ws, "two", &quick("later"))?.spawn()?;
    fleet::wait_job(&lan, &ws, "later", "waiting for two", |job| job.reason.contains("only/two"))?;
    two.restore_link()?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "later\n");
    assert_eq!(built_on(&ws, "later")?.as_deref(), Some("two"));
    Ok(())
}

#[test]
fn rules_say_where_what_they_name_is_built() -> Result<()> {
    let rules = "[[rule]]\nname = \"heavy-*\"\nrequire = [\"fast\"]\n\
                 [[rule]]\nname = \"light\"\navoid = [\"fast\"]\n\
                 [[rule]]\nname = \"nowhere\"\nrequire = [\"nosuch\"]\n";
    let (_lan, [ws, _one, _two]) = trio(rules)?;
    let shown = ws.check("roost check-config")?;
    assert!(shown.contains("[[rule]]") && shown.contains("heavy-*"), "{shown}");
    for (name, board) in [("heavy-1", "two"), ("light", "one"), ("heavy-2", "two")] {
        fleet::nix_build(&ws, &quick(name))?.run()?.ok()?;
        assert_eq!(built_on(&ws, name)?.as_deref(), Some(board), "{name}");
    }
    let why = fleet::why(&ws, "light")?;
    assert!(why.contains("(rule 2 (name light) avoids fast)"), "{why}");
    let output = fleet::nix_build(&ws, &quick("nowhere"))?.run()?;
    says(&output, "rule 3 (name nowhere) asks for nosuch, and none of the known nodes");
    Ok(())
}
