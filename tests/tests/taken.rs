//! What a workstation's build hook accepts at once: a job is known before the stock hook comes for it.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Release, Result, Running, Service,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        nix, roost, steered,
    },
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// A workstation of another system whose Nix asks roost, and a board with one slot, joined.
fn pair(lan: &Lan, release: Release) -> Result<[Host; 2]> {
    let ws = roost::hooked(fleet::workstation(lan, "ws", "")?.release(release));
    let hosts = lan.start([ws, fleet::board(lan, "board", 1, "")?])?;
    fleet::join(lan, &hosts[0], &[&hosts[1]])?;
    builds::wait_for_lines(lan, &hosts[0], &[SYSTEM])?;
    Ok(hosts)
}

/// Starts a client that wants all of these, each built for so long.
fn build_all(ws: &Host, name: &str, count: usize, seconds: u32) -> Result<Running> {
    let drv = |number| {
        let script = format!("sleep {seconds}; echo {name}-{number} >$out");
        nix::Drv::new(&format!("{name}-{number}"), SYSTEM, &script).expr()
    };
    let drvs: Vec<String> = (0..count).map(drv).collect();
    let file = format!("/root/{name}.nix");
    nix::write(ws, &file, &format!("[ {} ]", drvs.join(" ")))?;
    ws.spawn(&format!("nix-build --no-out-link --max-jobs 0 {file}"))
}

/// How many jobs of a client are in this state.
fn count(ws: &Host, client: &str, state: &str) -> Result<usize> {
    let jobs = fleet::jobs(ws)?;
    Ok(jobs.iter().filter(|job| job.name.starts_with(client) && job.state == state).count())
}

fn stock_hooks(ws: &Host) -> Result<usize> {
    let all = ws.processes()?;
    Ok(all.iter().filter(|it| it.command().starts_with("nix __build-remote")).count())
}

fn stock_hooks_come_for_what_a_board_has(release: Release) -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = pair(&lan, release)?;
    let names: Vec<String> = (0..12).map(|number| format!("job-{number}")).collect();
    let drvs: Vec<String> = names.iter().map(|name| steered::drv(name, SYSTEM).expr()).collect();
    nix::write(&ws, "/root/all.nix", &format!("[ {} ]", drvs.join(" ")))?;
    let mut build = ws.spawn("nix-build --no-out-link --max-jobs 0 /root/all.nix")?;
    lan.wait_until(SOON, "all are jobs, and the board has what it is ready for", || {
        let running = count(&ws, "job", "running").unwrap_or_default();
        let queued = count(&ws, "job", "queued").unwrap_or_default();
        let hooks = stock_hooks(&ws).unwrap_or_default();
        queued > 6 && running + queued == names.len() && hooks == running
    })?;
    steered::release_all(&board)?;
    assert_eq!(build.wait(SOON)?.ok()?.stdout.lines().count(), names.len());
    Ok(())
}

#[test]
fn stock_hooks_come_for_what_a_board_has_and_the_others_wait_in_the_queue() -> Result<()> {
    stock_hooks_come_for_what_a_board_has(Release::Trixie)
}

#[test]
fn stock_hooks_of_the_newest_nix_come_for_what_a_board_has() -> Result<()> {
    stock_hooks_come_for_what_a_board_has(Release::Sid)
}

#[test]
fn a_client_that_comes_later_does_not_wait_for_all_of_anothers() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = pair(&lan, Release::Trixie)?;
    let _first = build_all(&ws, "first", 60, 1)?;
    lan.wait_until(SOON, "all of the first client's are jobs", || {
        let all = ["queued", "running", "built"].map(|it| count(&ws, "first", it).unwrap_or(0));
        all.iter().sum::<usize>() == 60
    })?;
    let before = count(&ws, "first", "built")?;
    let mut second = build_all(&ws, "second", 5, 1)?;
    second.wait(SOON)?.ok()?;
    let meanwhile = count(&ws, "first", "built")? - before;
    // They take turns; some of the first one's are at the board already.
    assert!(
        meanwhile <= 12,
        "{meanwhile} of the first client's were built before 5 of the second's"
    );
    Ok(())
}

#[test]
fn what_was_accepted_outlives_a_daemon_that_is_killed() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = pair(&lan, Release::Trixie)?;
    let mut build = build_all(&ws, "job", 6, 2)?;
    lan.wait_until(SOON, "some wait", || count(&ws, "job", "queued").is_ok_and(|it| it >= 3))?;
    ws.kill9(Service::ROOST)?;
    ws.start_service(Service::ROOST)?;
    lan.wait_until(SOON, "all are built", || {
        count(&ws, "job", "built").is_ok_and(|built| built == 6)
    })?;
    // Nix has lost those whose stock hook was connected; whoever asks again gets what was built.
    drop(build.wait(SOON)?);
    assert_eq!(build_all(&ws, "job", 6, 2)?.wait(SOON)?.ok()?.stdout.lines().count(), 6);
    Ok(())
}
