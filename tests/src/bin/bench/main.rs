//! Stock Nix over ssh-ng and roost, side by side on the lab: `make bench`.
//!
//! Both sides use the same hosts, boards and sandbox, and real disks; a side is nothing but another
//! value of Nix's `builders`. Runs alternate, every derivation is new, and figures are medians of
//! the ratio's two sides. `QUICK=1` takes one run of each, `ONLY=graph,local` measures only these of
//! the parts in [`PARTS`]. Results go to `bench/results.json` in
//! the target folder; the exit status is 1 if a figure is missed.

mod enrol;
mod fleet;
mod forward;
mod graph;
mod local;
mod measure;
mod paced;
mod report;
mod scenario;

use std::process::ExitCode;

use fleet::Fleet;
use forward::Hop;
use measure::Rounds;
use paced::Paced;
use report::{Figure, Report};
use roost_lab::{Result, runs_foreign_programs};
use scenario::Shape;

/// What can be measured alone: enrolment, a fleet of one and of two boards, a board that sends builds on,
/// the graph of a package, and a workstation that takes part.
const PARTS: [&str; 6] = ["enrol", "one", "two", "hop", "graph", "local"];

fn main() -> ExitCode {
    let quick = std::env::var_os("QUICK").is_some_and(|value| value == "1");
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<String> =
        only.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = only.iter().find(|part| !PARTS.contains(&part.as_str())) {
        eprintln!("bench: ONLY={unknown}: there is no such part, only {}", PARTS.join(", "));
        return ExitCode::FAILURE;
    }
    match bench(Report::new(quick, only)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is wanted; whether all figures are met.
fn bench(mut report: Report) -> Result<bool> {
    if report.wants("enrol") {
        let boards = if report.quick() { 1 } else { 5 };
        let what = "from a board's daemon start until it is enrolled and used";
        report.seconds("enrol_seconds", what, 5.0, enrol::seconds(boards)?);
    }
    if report.wants("one") {
        let fleet = fleet::start(1)?;
        fleet.explain(one_board(&fleet, &mut report))?;
    }
    if report.wants("two") {
        let fleet = fleet::start(2)?;
        fleet.explain(two_boards(&fleet, &mut report))?;
    }
    if report.wants("hop") {
        if runs_foreign_programs() {
            let hop = forward::start()?;
            hop.explain(one_hop(&hop, &mut report))?;
        } else {
            eprintln!("forward_extra_ms is not measured: that needs Linux 6.7 or later");
        }
    }
    if report.wants("graph") {
        let fleet = graph::start()?;
        fleet.explain(whole_graph(&fleet, &mut report))?;
    }
    if report.wants("local") {
        let fleet = local::start()?;
        fleet.explain(taking_part(&fleet, &mut report))?;
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

fn whole_graph(fleet: &Paced, report: &mut Report) -> Result<()> {
    let rounds = if report.quick() { Rounds::ONE } else { Rounds { stock: 1, others: 2 } };
    let measured = graph::measure(fleet, rounds)?;
    graph::draw(fleet)?;
    let what = "651 builds of git, 4 boards of unequal speed";
    report.ratio(Figure::ratio("graph_ratio", what, 0.4), &measured.times);
    let what = "the same, against all work shared and the longest chain";
    report.ratio(Figure::ideal("graph_over_bound", what, 1.25), &measured.times);
    let what = "s; what no schedule of it beats, with what must come before and after";
    report.tell("graph_bound_s", what, graph::tight_bound_s()?);
    report.tell("graph_first", "s; the same, when no build was seen before", measured.first_s);
    Ok(())
}

fn taking_part(fleet: &Paced, report: &mut Report) -> Result<()> {
    let (_, long) = rounds(report.quick());
    let measured = local::measure(fleet, long)?;
    let what = "60 builds, 2 slow boards and the workstation itself";
    report.ratio(Figure::ratio("local_ratio", what, 0.7), &measured.times);
    let what = "builds on the workstation, of its share by speed: 0.85 to 1.15";
    report.tell("local_share", what, measured.local_share);
    let what = "of the time the boards built";
    report.tell("local_boards_busy", what, measured.boards_busy);
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
