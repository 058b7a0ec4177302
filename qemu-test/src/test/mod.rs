//! The test of the appliance on real kernels: a workstation with stock Nix, and boards that are emulated, on one
//! LAN.

mod fleet;
mod report;
mod steps;

use roost_lab::now;

pub use fleet::{Board, Fleet, FleetSpec};
pub use report::{Figure, Outcome, Ran, Report};
pub use steps::{Options, STEPS, Step};

/// Runs steps one after the other, until one fails; tells how each ended as soon as it has.
pub fn run(
    fleet: &mut Fleet,
    steps: &[&Step],
    options: &Options,
    mut tell: impl FnMut(&Ran),
) -> Report {
    let mut report = Report::default();
    for step in steps {
        let started = now();
        let (outcome, figures) = if report.steps.is_empty() || report.passed() {
            match step.run(fleet, options) {
                Ok(figures) => (Outcome::Passed, figures),
                Err(error) => (Outcome::Failed(error.to_string()), Vec::new()),
            }
        } else {
            (Outcome::NotReached, Vec::new())
        };
        let took_s = started.elapsed().as_secs_f64();
        let ran = Ran { step: step.name, shows: step.shows, outcome, took_s, figures };
        tell(&ran);
        report.steps.push(ran);
    }
    report
}
