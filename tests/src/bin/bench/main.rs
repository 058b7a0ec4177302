//! Stock Nix over ssh-ng and roost, side by side on the lab: `make bench`.
//!
//! Both sides use the same hosts, boards and sandbox, and real disks; a side is nothing but another
//! value of Nix's `builders`. Runs alternate, every derivation is new, and figures are medians of
//! the ratio's two sides. `QUICK=1` takes one run of each. Results go to `bench/results.json` in
//! the target folder; the exit status is 1 if a figure is missed.

mod enrol;
mod fleet;
mod forward;
mod measure;
mod report;
mod scenario;

use std::process::ExitCode;

use fleet::Fleet;
use forward::Hop;
use measure::Rounds;
use report::{Figure, Report};
use roost_lab::{Result, runs_foreign_programs};
use scenario::Shape;

fn main() -> ExitCode {
    let quick = std::env::var_os("QUICK").is_some_and(|value| value == "1");
    match bench(quick) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; whether all figures are met.
fn bench(quick: bool) -> Result<bool> {
    let mut report = Report::new(quick);
    let boards = if quick { 1 } else { 5 };
    let what = "from a board's daemon start until it is enrolled and used";
    report.seconds("enrol_seconds", what, 5.0, enrol::seconds(boards)?);
    let fleet = fleet::start(1)?;
    fleet.explain(one_board(&fleet, &mut report))?;
    drop(fleet);
    let fleet = fleet::start(2)?;
    fleet.explain(two_boards(&fleet, &mut report))?;
    drop(fleet);
    if runs_foreign_programs() {
        let hop = forward::start()?;
        hop.explain(one_hop(&hop, &mut report))?;
    } else {
        eprintln!("forward_extra_ms is not measured: that needs Linux 6.7 or later");
    }
    report.finish()
}

fn one_board(fleet: &Fleet, report: &mut Report) -> Result<()> {
    let (short, long) = rounds(report.quick());
    report.memory("daemon_rss_mib", fleet.daemon_rss_mib()?, 15.0);
    report.memory("connect_rss_mib", scenario::connect_rss_mib(fleet)?, 4.0);

    let times = scenario::noop(fleet, short)?;
    report.ratio(Figure::ratio("noop_ratio", "one no-op derivation", 0.6), &times);
    let times = scenario::ship(fleet, Shape::Big, short)?;
    report.ratio(Figure::ratio("ship_big_ratio", "256 MiB in one file", 1.1), &times);
    let times = scenario::ship(fleet, Shape::Small, short)?;
    report.ratio(Figure::ratio("ship_small_ratio", "256 MiB in 5,000 files", 1.1), &times);
    let times = scenario::burst(fleet, long)?;
    report.ratio(Figure::ratio("burst_ratio", "40 builds of 0.5 s, 2 slots", 0.12), &times);
    report
        .ratio(Figure::ideal("burst_over_ideal", "the same, against nix-build -j2", 1.15), &times);
    Ok(())
}

fn two_boards(fleet: &Fleet, report: &mut Report) -> Result<()> {
    let (_, long) = rounds(report.quick());
    let times = scenario::hundred(fleet, long)?;
    report.ratio(Figure::ratio("hundred_ratio", "100 no-op builds, 2 boards", 0.3), &times);
    Ok(())
}

fn one_hop(hop: &Hop, report: &mut Report) -> Result<()> {
    // Short, and the difference of two times that are alike: it takes more of them.
    let rounds = if report.quick() { Rounds::ONE } else { Rounds { stock: 0, others: 15 } };
    let times = hop.noop(rounds)?;
    report.difference("forward_extra_ms", "one no-op derivation, one hop more", 60.0, &times);
    Ok(())
}

/// How often runs are repeated: those of seconds, and those that take stock Nix minutes.
fn rounds(quick: bool) -> (Rounds, Rounds) {
    if quick {
        (Rounds::ONE, Rounds::ONE)
    } else {
        (Rounds { stock: 5, others: 5 }, Rounds { stock: 2, others: 5 })
    }
}
