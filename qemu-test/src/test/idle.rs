//! Boards that are left alone. They have a LAN of their own: on it nothing happens, whatever is done elsewhere.

use super::{
    daemon::{self, MAX_PROGRAM_MB, MAX_RSS_MIB},
    fleet::{BOOT, Board, Desk, Fleet, FleetSpec},
    report::Figure,
    steps::Options,
};
use crate::error::{Error, Result, ensure};

/// Starts boards, waits until they have enrolled and come to rest, and watches them.
///
/// # Errors
///
/// They do not come to rest, or are not as small as they have to be.
pub(super) fn run(spec: &FleetSpec, options: &Options, at_rest: &dyn Fn()) -> Result<Vec<Figure>> {
    let mut fleet = Fleet::new(spec)?;
    let watched = watch(&mut fleet, options, at_rest);
    if watched.is_err() {
        fleet.keep_evidence();
    }
    watched
}

fn watch(fleet: &mut Fleet, options: &Options, at_rest: &dyn Fn()) -> Result<Vec<Figure>> {
    fleet.enrol()?;
    fleet.each(|desk, board| rest(desk, board.name()))?;
    at_rest();
    let figures = fleet.each(|desk, board| alone(desk, board, options))?;
    let figures: Vec<Figure> = figures.into_iter().flatten().collect();
    let within = figures.iter().try_for_each(Figure::ensure_within);
    within.map_err(|error| {
        let all: String = figures.iter().map(|figure| format!("\n{figure}")).collect();
        Error::Wrong(format!("{error}; of all:{all}"))
    })?;
    Ok(figures)
}

/// Waits until systemd has nothing left to start, and everything is on the disk.
fn rest(desk: &Desk, board: &str) -> Result<()> {
    let state = || {
        let state = desk.ssh(board, "systemctl is-system-running || true").ok()?;
        (state == "running").then_some(())
    };
    desk.wait_for(BOOT, &format!("systemd on {board} has started all, and nothing failed"), state)?;
    desk.ssh(board, "sync").map(drop)
}

fn alone(desk: &Desk, board: &mut Board, options: &Options) -> Result<[Figure; 4]> {
    let (name, arch) = (board.name().to_owned(), board.arch());
    let before = daemon::facts(desk, &name)?;
    let written = board.guest.written_bytes()?;
    let ended = board.guest.wait_for_end(options.idle);
    ensure(!ended, || format!("{name} ended"))?;
    let written = board.guest.written_bytes()? - written;
    let after = daemon::facts(desk, &name)?;
    #[expect(clippy::cast_precision_loss, reason = "what an idle machine writes is little")]
    let written_kib = written as f64 / 1024.0;
    let wake_ups = (after.switches - before.switches) * 60.0 / options.idle.as_secs_f64();
    Ok([
        Figure::new(arch, "daemon's memory", after.rss_mib, "MiB").at_most(MAX_RSS_MIB),
        Figure::new(arch, "program", after.program_mb, "MB").at_most(MAX_PROGRAM_MB),
        Figure::new(arch, "daemon's wake-ups", wake_ups, "a minute"),
        Figure::new(arch, "written to the disk meanwhile", written_kib, "KiB"),
    ])
}
