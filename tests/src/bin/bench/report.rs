//! The table for people and the file for programs.

use std::{collections::BTreeMap, fs, path::PathBuf};

use roost_lab::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::measure::{Times, median};

/// A ratio to be met: roost's median over another side's.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    key: &'static str,
    what: &'static str,
    limit: f64,
    to: fn(&Times) -> &[f64],
}

impl Figure {
    /// Against stock Nix.
    pub(crate) fn ratio(key: &'static str, what: &'static str, limit: f64) -> Self {
        Self { key, what, limit, to: |times| &times.stock }
    }

    /// Against the ideal.
    pub(crate) fn ideal(key: &'static str, what: &'static str, limit: f64) -> Self {
        Self { key, what, limit, to: |times| &times.ideal }
    }
}

/// What was measured so far.
pub(crate) struct Report {
    quick: bool,
    /// The parts that were chosen; none is all.
    only: Vec<String>,
    rows: Vec<Row>,
    runs: BTreeMap<&'static str, Times>,
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    what: String,
    value: f64,
    /// None if it is only told.
    limit: Option<f64>,
}

impl Row {
    /// Whether the figure is met. Not a number is not met.
    fn met(&self) -> bool {
        self.limit.is_none_or(|limit| self.value <= limit)
    }

    fn verdict(&self) -> String {
        match self.limit {
            None => String::new(),
            Some(limit) => {
                let verdict = if self.met() { "met" } else { "MISSED" };
                format!("at most {limit:>6.2}   {verdict}")
            }
        }
    }
}

impl Report {
    /// Nothing yet. `quick` and `only` are said wherever results are shown.
    pub(crate) fn new(quick: bool, only: Vec<String>) -> Self {
        Self { quick, only, rows: Vec::new(), runs: BTreeMap::new() }
    }

    /// Whether every run is made only once.
    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    /// Whether a part is to be measured.
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// Adds a value without a limit.
    pub(crate) fn tell(&mut self, key: &'static str, what: &str, value: f64) {
        self.rows.push(Row { key, what: what.to_owned(), value, limit: None });
    }

    /// Adds a ratio of medians.
    pub(crate) fn ratio(&mut self, figure: Figure, times: &Times) {
        let roost = median(&times.roost).unwrap_or(f64::NAN);
        let other = median((figure.to)(times)).unwrap_or(f64::NAN);
        let what = format!("{}: {roost:.3} s against {other:.3} s", figure.what);
        let limit = Some(figure.limit);
        self.rows.push(Row { key: figure.key, what, value: roost / other, limit });
        self.runs.insert(figure.key, times.clone());
    }

    /// Adds what roost's median is above the ideal one, in milliseconds.
    pub(crate) fn difference(
        &mut self,
        key: &'static str,
        what: &str,
        limit_ms: f64,
        times: &Times,
    ) {
        let roost = median(&times.roost).unwrap_or(f64::NAN);
        let ideal = median(&times.ideal).unwrap_or(f64::NAN);
        let what = format!("ms; {what}: {roost:.3} s against {ideal:.3} s");
        self.rows.push(Row { key, what, value: (roost - ideal) * 1e3, limit: Some(limit_ms) });
        self.runs.insert(key, times.clone());
    }

    /// Adds the median of some times.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        what: &str,
        limit_s: f64,
        seconds: Vec<f64>,
    ) {
        let value = median(&seconds).unwrap_or(f64::NAN);
        self.rows.push(Row { key, what: format!("s; {what}"), value, limit: Some(limit_s) });
        self.runs.insert(key, Times { roost: seconds, ..Times::default() });
    }

    /// Adds an amount of memory.
    pub(crate) fn memory(&mut self, key: &'static str, mib: f64, limit: f64) {
        eprintln!("{key}: {mib:.3} MiB");
        let what = "resident memory in MiB".to_owned();
        self.rows.push(Row { key, what, value: mib, limit: Some(limit) });
    }

    /// Prints the table and writes the file; whether all figures are met.
    pub(crate) fn finish(self) -> Result<bool> {
        println!();
        for row in &self.rows {
            println!("{:<18} {:>8.3}   {:<23}   {}", row.key, row.value, row.verdict(), row.what);
        }
        if self.quick {
            println!("\nQUICK=1: one run of each, not medians; for a glance, not for a claim.");
        }
        if !self.only.is_empty() {
            println!("\nONLY={}: the other parts were not measured.", self.only.join(","));
        }
        let path = self.write()?;
        println!("\n{}", path.display());
        Ok(self.rows.iter().all(Row::met))
    }

    fn write(&self) -> Result<PathBuf> {
        let mut results = serde_json::Map::new();
        for row in &self.rows {
            results.insert(row.key.to_owned(), json!(row.value));
        }
        results.insert("quick".to_owned(), json!(self.quick));
        results.insert("only".to_owned(), json!(self.only));
        results.insert("seconds".to_owned(), json!(self.runs));
        let path = roost_lab::target_folder().join("bench/results.json");
        let text = format!("{:#}\n", Value::Object(results));
        let write = || {
            fs::create_dir_all(path.with_file_name(""))?;
            fs::write(&path, text)
        };
        match write() {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::File { what: "write", path: path.clone(), source }),
        }
    }
}
