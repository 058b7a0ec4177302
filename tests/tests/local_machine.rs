//! The workstation takes part: what no board could begin now it builds by itself, if its Nix asks roost.

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, ProcessInfo, Release, Result, Running, Service, Signal,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        native, nix, roost, steered,
    },
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A workstation of the boards' own system, with one slot; builds on it can be steered. `config` is added
/// to its section `[workstation]`.
fn workstation(lan: &Lan, release: Release, config: &str) -> Result<HostSpec> {
    let spec = fleet::workstation(lan, "ws", config)?.release(release).system(SYSTEM).max_jobs(1);
    Ok(steered::allow(spec))
}

/// The same, and its Nix asks roost.
fn asking(lan: &Lan, release: Release, config: &str) -> Result<HostSpec> {
    workstation(lan, release, config).map(roost::hooked)
}

/// A workstation and a board with one slot, joined.
fn pair(lan: &Lan, ws: HostSpec) -> Result<[Host; 2]> {
    let hosts = lan.start([ws, fleet::board(lan, "board", 1, "")?])?;
    let [ws, board] = &hosts;
    steered::prepare(ws)?;
    fleet::join(lan, ws, &[board])?;
    builds::wait_for_lines(lan, ws, &[SYSTEM])?;
    Ok(hosts)
}

/// Fills the board's slot; gives the build that does.
fn fill(lan: &Lan, ws: &Host, board: &Host) -> Result<Running> {
    let build = fleet::build(ws, "first")?;
    steered::wait_started(lan, board, "first", 1)?;
    Ok(build)
}

/// Whether a process of a host is Nix's own build hook.
fn is_stock_hook(process: &ProcessInfo) -> bool {
    process.command().contains("__build-remote")
}

fn hooks(host: &Host) -> Result<Vec<ProcessInfo>> {
    let is_ours = |process: &ProcessInfo| process.command().contains("roost hook");
    let all = host.processes()?.into_iter();
    Ok(all.filter(|process| is_ours(process) || is_stock_hook(process)).collect())
}

fn boards_first_and_then_here(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, release, "")?)?;
    let mut first = fill(&lan, &ws, &board)?;
    let mut second = fleet::build(&ws, "second")?;
    steered::wait_started(&lan, &ws, "second", 1)?;
    steered::release_all(&ws)?;
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    let mut third = fleet::build(&ws, "third")?;
    assert_eq!(fleet::result(&ws, &mut third, SOON)?, "third\n");
    assert_eq!(steered::starts(&board, "third")?, 1, "a slot is free again");
    assert_eq!(steered::starts(&ws, "third")?, 0);
    assert_eq!(steered::starts(&board, "second")?, 0);
    Ok(())
}

#[test]
fn what_no_board_can_begin_is_built_here() -> Result<()> {
    boards_first_and_then_here(Release::Trixie)
}

#[test]
fn what_no_board_can_begin_is_built_here_by_the_newest_nix() -> Result<()> {
    boards_first_and_then_here(Release::Sid)
}

/// Starts one client that wants all of these.
fn build_all(ws: &Host, names: &[&str]) -> Result<Running> {
    let drvs: Vec<String> = names.iter().map(|name| steered::drv(name, SYSTEM).expr()).collect();
    nix::write(ws, "/root/all.nix", &format!("[ {} ]", drvs.join(" ")))?;
    ws.spawn("nix-build --no-out-link /root/all.nix")
}

#[test]
fn what_nobody_has_a_slot_for_goes_to_whichever_is_free_first() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    let mut build = build_all(&ws, &["a", "b", "c", "d", "e", "f"])?;
    lan.wait_until(SOON, "the board has what it is ready for, and the others are Nix's", || {
        let started = |host: &Host| steered::started(host).map_or(0, |started| started.len());
        let jobs = fleet::jobs(&ws).unwrap_or_default();
        started(&ws) == 1 && started(&board) == 1 && jobs.len() == 3
    })?;
    // This machine's build goes on, and the board's end.
    steered::release_all(&board)?;
    lan.wait_until(SOON, "the board has built the others", || {
        fleet::jobs(&ws)
            .is_ok_and(|jobs| jobs.iter().filter(|job| job.state == "built").count() == 5)
    })?;
    assert_eq!(steered::started(&ws)?.len(), 1);
    steered::release_all(&ws)?;
    assert_eq!(build.wait(SOON)?.ok()?.stdout.lines().count(), 6);
    Ok(())
}

#[test]
fn one_client_fills_the_boards_then_this_machine_and_then_the_queue() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    let mut build = build_all(&ws, &["a", "b", "c"])?;
    lan.wait_until(SOON, "a build runs on each, and one waits", || {
        let started = |host: &Host| steered::started(host).map_or(0, |started| started.len());
        let jobs = fleet::jobs(&ws).unwrap_or_default();
        started(&ws) == 1 && started(&board) == 1 && jobs.len() == 2
    })?;
    steered::release_all(&board)?;
    steered::release_all(&ws)?;
    let output = build.wait(SOON)?.ok()?;
    assert_eq!(output.stdout.lines().count(), 3, "{output}");
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}

#[test]
fn what_waits_does_so_at_the_board_where_nix_does_not_ask_or_must_not_build_here() -> Result<()> {
    for (ws, config) in [(workstation as fn(&_, _, &_) -> _, ""), (asking, "build_here = false")] {
        let lan = Lan::new()?;
        let [ws, board] = pair(&lan, ws(&lan, Release::Trixie, config)?)?;
        let mut first = fill(&lan, &ws, &board)?;
        let mut second = fleet::build(&ws, "second")?;
        fleet::wait_job(&lan, &ws, "second", "accepted", |_| true)?;
        steered::release_all(&board)?;
        assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
        assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
        assert_eq!(steered::starts(&ws, "second")?, 0);
    }
    Ok(())
}

#[test]
fn a_foreign_system_is_left_to_the_boards() -> Result<()> {
    let lan = Lan::new()?;
    let ws = asking(&lan, Release::Trixie, "")?.system("riscv64-linux");
    let [ws, board] = pair(&lan, ws)?;
    let mut first = fill(&lan, &ws, &board)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &ws, "second", "accepted", |_| true)?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut first, SOON)?, "first\n");
    assert_eq!(fleet::result(&ws, &mut second, SOON)?, "second\n");
    Ok(())
}

#[test]
fn while_the_boards_are_away_this_machine_builds_one_after_another() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    board.power_off()?;
    fleet::wait_reach(&lan, &ws, &board, "away")?;
    let mut build = build_all(&ws, &["a", "b"])?;
    lan.wait_until(SOON, "one is built", || {
        steered::started(&ws).is_ok_and(|started| started.len() == 1)
    })?;
    steered::release_all(&ws)?;
    build.wait(SOON)?.ok()?;
    assert_eq!(steered::started(&ws)?.len(), 2);
    assert!(fleet::jobs(&ws)?.is_empty(), "nothing waits for the board");
    Ok(())
}

#[test]
fn a_daemon_that_does_not_answer_keeps_nobody_from_its_stock_hook() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    steered::release_all(&board)?;
    ws.signal_service(Service::ROOST, Signal::STOP)?;
    let mut build = fleet::build(&ws, "a")?;
    lan.wait_until(Duration::from_secs(20), "the stock hook is asked", || {
        ws.processes().is_ok_and(|all| all.iter().any(is_stock_hook))
    })?;
    ws.signal_service(Service::ROOST, Signal::CONT)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::starts(&board, "a")?, 1);
    Ok(())
}

#[test]
fn without_a_daemon_nix_builds_by_itself_as_its_stock_hook_says() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    steered::release_all(&ws)?;
    ws.kill9(Service::ROOST)?;
    for name in ["a", "b"] {
        let mut build = fleet::build(&ws, name)?;
        assert_eq!(fleet::result(&ws, &mut build, SOON)?, format!("{name}\n"));
        assert_eq!(steered::starts(&ws, name)?, 1);
    }
    Ok(())
}

#[test]
fn a_board_whose_own_nix_asks_builds_for_others_as_ever() -> Result<()> {
    let lan = Lan::new()?;
    let board = native::both(steered::allow(lan.host("board").system(SYSTEM)), 1, "")?;
    let hosts = lan.start([fleet::workstation(&lan, "ws", "")?, roost::hooked(board)])?;
    let [ws, board] = &hosts;
    fleet::join(&lan, ws, &[board])?;
    steered::release_all(board)?;
    let mut build = fleet::build(ws, "a")?;
    assert_eq!(fleet::result(ws, &mut build, SOON)?, "a\n");
    assert_eq!(steered::starts(board, "a")?, 1);
    Ok(())
}

#[test]
fn an_interrupted_build_leaves_no_hook_behind() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, asking(&lan, Release::Trixie, "")?)?;
    let mut build = fill(&lan, &ws, &board)?;
    assert_eq!(hooks(&ws)?.len(), 2, "ours, and Nix's own below it");
    assert!(build.signal(Signal::INT));
    lan.wait_until(SOON, "the hooks are gone", || hooks(&ws).is_ok_and(|all| all.is_empty()))
}
