//! What a run has shown: for people, for scripts (JSON), and for continuous integration (JUnit).

use std::{fmt, fs, path::Path, time::Duration};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::{
    Arch,
    error::{Result, ensure, file},
};

/// Something measured on one board.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The board's architecture.
    pub arch: &'static str,
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// How much it may be.
    pub limit: Option<f64>,
}

impl Figure {
    pub(super) fn new(arch: Arch, name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { arch: arch.name(), name, value, unit, limit: None }
    }

    pub(super) fn at_most(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Fails if it is more than it may be.
    ///
    /// # Errors
    ///
    /// It is.
    pub(super) fn ensure_within(&self) -> Result<()> {
        let within = self.limit.is_none_or(|limit| self.value <= limit);
        ensure(within, || format!("too much: {self}"))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8}{}: {:.1} {}", self.arch, self.name, self.value, self.unit)?;
        match self.limit {
            Some(limit) => write!(f, " (at most {limit:.1})"),
            None => Ok(()),
        }
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What it shows holds.
    Passed,
    /// It does not, for a reason.
    Failed(String),
    /// A step before has failed.
    NotReached,
}

/// A step that was run, or would have been.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ran {
    /// Its name.
    pub step: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Its steps, in order.
    pub steps: Vec<Ran>,
}

impl Report {
    /// Whether nothing failed, and something was run.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|ran| ran.outcome == Outcome::Passed)
    }

    /// How many passed and how many did not.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let passed = self.steps.iter().filter(|ran| ran.outcome == Outcome::Passed).count();
        (passed, self.steps.len() - passed)
    }

    /// As JSON: an array of steps, each with what it shows, its outcome and its figures.
    #[must_use]
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.steps);
        text.unwrap_or_else(|error| format!("\"{error}\""))
    }

    /// Writes it as JUnit's XML.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_junit(&self, path: &Path) -> Result<()> {
        let mut suite = TestSuite::new("roost-qemu");
        suite.add_test_cases(self.steps.iter().map(case));
        let mut report = quick_junit::Report::new("roost-qemu");
        report.add_test_suite(suite);
        let text = report.to_string().map_err(std::io::Error::other);
        text.and_then(|text| fs::write(path, text)).map_err(file("write", path))
    }
}

fn case(ran: &Ran) -> TestCase {
    let status = match &ran.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Failed(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let first = why.lines().next().unwrap_or_default();
            status.set_message(first).set_description(why.clone());
            status
        }
        Outcome::NotReached => TestCaseStatus::skipped(),
    };
    let mut case = TestCase::new(ran.step, status);
    case.set_classname("roost-qemu").set_time(Duration::from_secs_f64(ran.took_s));
    if !ran.figures.is_empty() {
        let figures: Vec<String> = ran.figures.iter().map(Figure::to_string).collect();
        case.set_system_out(figures.join("\n"));
    }
    case
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed(_) => "FAILED",
            Outcome::NotReached => "not reached",
        };
        write!(f, "{how:12}{:10} {:6.1} s  {}", self.step, self.took_s, self.shows)?;
        for figure in &self.figures {
            write!(f, "\n{:12}{figure}", "")?;
        }
        if let Outcome::Failed(why) = &self.outcome {
            for line in why.lines() {
                write!(f, "\n{:12}{line}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let ran =
            |step, outcome, figures| Ran { step, shows: "it works", outcome, took_s: 1.5, figures };
        let rss = Figure::new(Arch::Riscv64, "daemon, idle", 16.25, "MiB").at_most(15.0);
        Report {
            steps: vec![
                ran("enrol", Outcome::Passed, vec![rss]),
                ran("graph", Outcome::Failed("no <board>\nand its log".to_owned()), Vec::new()),
                ran("idle", Outcome::NotReached, Vec::new()),
            ],
        }
    }

    #[test]
    fn junit_names_what_passed_what_failed_and_why_and_what_was_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        report().write_junit(&path).unwrap();
        let text = fs::read_to_string(path).unwrap();
        for part in [
            "tests=\"3\"",
            "failures=\"1\"",
            "<skipped/>",
            "<failure message=\"no &lt;board&gt;\">",
            "and its log",
            "riscv64 daemon, idle: 16.2 MiB (at most 15.0)",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_run_passes_if_all_of_it_did() {
        assert!(!report().passed());
        assert_eq!(report().counts(), (1, 2));
        assert!(!Report::default().passed());
        let steps = report().steps.into_iter().take(1).collect();
        assert!(Report { steps }.passed());
    }

    #[test]
    fn a_figure_is_held_to_its_limit() {
        let figure = Figure::new(Arch::Aarch64, "program", 9.0, "MB");
        figure.ensure_within().unwrap();
        figure.clone().at_most(9.0).ensure_within().unwrap();
        let error = figure.at_most(8.5).ensure_within().unwrap_err();
        assert_eq!(error.to_string(), "too much: aarch64 program: 9.0 MB (at most 8.5)");
    }
}
