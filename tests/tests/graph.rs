//! What a workstation knows of the way from a job to what its client asked for.

use std::{collections::BTreeSet, time::Duration};

use roost_lab::{
    Host, Lan, Release, Result,
    fixtures::{
        builds::{self, Nix},
        fleet::{self, SYSTEM},
        roost, steered,
    },
};

const SOON: Duration = Duration::from_secs(60);

/// What nix-daemon starts for each build.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    /// Nix's own build hook.
    Stock,
    /// `roost hook`, which starts that.
    Ours,
}

/// The derivations in all files of temporary roots, by name.
fn registered(ws: &Host) -> Result<BTreeSet<String>> {
    let listed =
        ws.check("cat /nix/var/nix/temproots/* | tr '\\0' '\\n' | grep '[.]drv$' || true")?;
    let name = |path: &str| Some(path.split_once('-')?.1.to_owned());
    Ok(listed.lines().filter_map(name).collect())
}

/// Three steps, one after the other, and one beside the first: what each job has ahead is known while
/// it is built, and is less when the one before it has been.
fn a_chain_has_its_steps_ahead(release: Release, nix: Nix, hook: Hook) -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.release(release);
    let ws = if hook == Hook::Ours { roost::hooked(ws) } else { ws };
    let [ws, board] = lan.start([ws, fleet::board(&lan, "board", 4, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    let after = |name: &str, inputs: &[&str]| {
        let drv = steered::drv(name, SYSTEM);
        drv.attr("inputs", &format!("[ {} ]", inputs.join(" "))).expr()
    };
    let (first, beside) = (after("first", &[]), after("beside", &[]));
    let second = after("second", &[&first]);
    let last = after("last", &[&second, &beside]);
    let mut build = nix.command(&ws, &last, &["--max-jobs", "0"])?.timeout(SOON * 3).spawn()?;

    for (name, steps) in [("first", 2), ("beside", 1)] {
        steered::wait_started(&lan, &board, name, 1)?;
        let what = format!("known to have {steps} steps after it");
        fleet::wait_job(&lan, &ws, name, &what, |job| job.steps_after == Some(steps))?;
    }
    let names = ["first.drv", "beside.drv", "second.drv", "last.drv"].map(str::to_owned);
    let registered = registered(&ws)?;
    assert!(names.iter().all(|name| registered.contains(name)), "{registered:?}");

    steered::release(&board, "first")?;
    steered::wait_started(&lan, &board, "second", 1)?;
    fleet::wait_job(&lan, &ws, "second", "one step away", |job| job.steps_after == Some(1))?;
    fleet::wait_job(&lan, &ws, "first", "ended", |job| {
        job.state == "built" && job.steps_after.is_none()
    })?;
    steered::release_all(&board)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "last\n");
    Ok(())
}

#[test]
fn nix_2_26_and_nix_build() -> Result<()> {
    a_chain_has_its_steps_ahead(Release::Trixie, Nix::Build, Hook::Stock)
}

#[test]
fn nix_2_26_and_nix_dash_build() -> Result<()> {
    a_chain_has_its_steps_ahead(Release::Trixie, Nix::DashBuild, Hook::Stock)
}

#[test]
fn the_newest_nix_and_nix_build() -> Result<()> {
    a_chain_has_its_steps_ahead(Release::Sid, Nix::Build, Hook::Stock)
}

#[test]
fn the_newest_nix_and_nix_dash_build() -> Result<()> {
    a_chain_has_its_steps_ahead(Release::Sid, Nix::DashBuild, Hook::Stock)
}

#[test]
fn nix_2_26_behind_a_hook_of_ours() -> Result<()> {
    a_chain_has_its_steps_ahead(Release::Trixie, Nix::Build, Hook::Ours)
}
