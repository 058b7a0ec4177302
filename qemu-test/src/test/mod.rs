//! The test of the appliance on real kernels: a workstation with stock Nix, and boards that are emulated, on one
//! LAN.

mod daemon;
mod fleet;
mod idle;
mod report;
mod steps;

use std::{sync::mpsc, thread, time::Instant};

use roost_lab::now;

pub use fleet::{Board, Fleet, FleetSpec};
pub use report::{Figure, Outcome, Ran, Report};
pub use steps::{Options, STEPS, Step};

use crate::error::Result;
use steps::Run;

/// Who is told how a run goes.
pub trait Audience {
    /// A step begins.
    fn begins(&mut self, step: &Step);
    /// It has ended.
    fn ended(&mut self, ran: &Ran);
}

/// Runs steps: those that have a fleet of their own first, until they need the machine no more; meanwhile the
/// others, one after the other, until one fails.
///
/// # Errors
///
/// The fleet could not be made. That a step fails is told in the report.
pub fn run(
    spec: &FleetSpec,
    steps: &[&'static Step],
    options: &Options,
    audience: &mut impl Audience,
) -> Result<Report> {
    thread::scope(|scope| {
        let mut apart = Vec::new();
        for step in steps {
            if let Run::Apart(run) = step.run {
                audience.begins(step);
                let (sender, at_rest) = mpsc::channel();
                let started = now();
                apart.push(scope.spawn(move || {
                    let spec = spec.below(step.name);
                    // Whoever waits for this is there until it is sent, or this thread has ended.
                    let ended = run(&spec, options, &|| {
                        let _ = sender.send(());
                    });
                    ran(step, started, ended)
                }));
                // An error stands for the end of the thread.
                let _ = at_rest.recv();
            }
        }
        let mut report = run_in_order(spec, steps, audience)?;
        for thread in apart {
            let ran = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            audience.ended(&ran);
            report.steps.push(ran);
        }
        Ok(report)
    })
}

fn run_in_order(
    spec: &FleetSpec,
    steps: &[&'static Step],
    audience: &mut impl Audience,
) -> Result<Report> {
    let mut report = Report::default();
    let mut fleet = None;
    for step in steps {
        let Run::InOrder(run) = step.run else { continue };
        audience.begins(step);
        let started = now();
        let goes_on = report.steps.iter().all(|ran| ran.outcome == Outcome::Passed);
        let ran = if goes_on {
            let fleet = match &mut fleet {
                Some(fleet) => fleet,
                None => fleet.insert(Fleet::new(spec)?),
            };
            let ended = run(fleet);
            if ended.is_err() {
                fleet.keep_evidence();
            }
            ran(step, started, ended)
        } else {
            let (took_s, figures) = (0.0, Vec::new());
            let outcome = Outcome::NotReached;
            Ran { step: step.name, shows: step.shows, outcome, took_s, figures }
        };
        audience.ended(&ran);
        report.steps.push(ran);
    }
    Ok(report)
}

fn ran(step: &Step, started: Instant, ended: Result<Vec<Figure>>) -> Ran {
    let (outcome, figures) = match ended {
        Ok(figures) => (Outcome::Passed, figures),
        Err(error) => (Outcome::Failed(error.to_string()), Vec::new()),
    };
    let took_s = started.elapsed().as_secs_f64();
    Ran { step: step.name, shows: step.shows, outcome, took_s, figures }
}
