//! `roost doctor`: whether roost can work here, and the fix for whatever is wrong.
//!
//! Three steps in three places: `gather` looks at the machine, `judge` decides, this prints.

mod facts;
mod gather;
mod hardware;
#[cfg(test)]
mod hardware_tests;
mod judge;
#[cfg(test)]
mod judge_tests;
mod local_builds;
mod second_store;

use std::{io::Write, process::ExitCode};

use comfy_table::Table;
use serde::Serialize;

pub(super) use facts::Facts;
pub(super) use gather::gather;
pub(super) use judge::judge;

use super::{
    commands::print_json,
    error::CommandError,
    render::{lines, table},
};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better or will not for long.
    Warning,
    /// Something that roost needs here does not work.
    Failed,
    /// Not looked at, since it does not matter here or could not be seen.
    Skipped,
}

/// One check and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, in a word or two; stable, for programs.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if there is nothing to do.
    pub fix: String,
}

/// Prints the findings; the status is 1 if something failed.
pub(super) fn report(
    findings: &[Finding],
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, CommandError> {
    if json {
        print_json(&findings, out)?;
    } else {
        out.write_all(render(findings).as_bytes())?;
    }
    Ok(if failed(findings) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether any check failed.
fn failed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Failed)
}

/// A line a check, each problem followed by its fix, then the sum.
fn render(findings: &[Finding]) -> String {
    let mut rows: Table = table(&[]);
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        rows.add_row([word, finding.check, &finding.found]);
        for (index, line) in finding.fix.lines().enumerate() {
            rows.add_row([
                "",
                "",
                &format!("{}{line}", if index == 0 { "fix: " } else { "     " }),
            ]);
        }
    }
    let number = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let sum = match (number(Verdict::Failed), number(Verdict::Warning)) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warnings) => format!("Nothing failed; {warnings} could be better."),
        (failed, 0) => format!("{failed} failed."),
        (failed, warnings) => format!("{failed} failed; {warnings} more could be better."),
    };
    format!("{}\n{sum}\n", lines(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_followed_by_their_fix() {
        let findings = [
            Finding {
                check: "clock",
                verdict: Verdict::Ok,
                found: "2026-01-01".into(),
                fix: String::new(),
            },
            Finding {
                check: "bash",
                verdict: Verdict::Failed,
                found: "not on PATH".into(),
                fix: "apt install bash\nor so".into(),
            },
        ];
        assert_eq!(
            render(&findings),
            "\
ok      clock  2026-01-01
FAILED  bash   not on PATH
               fix: apt install bash
                    or so

1 failed.
"
        );
        assert!(failed(&findings));
        assert!(!failed(&findings[..1]));
        assert!(render(&findings[..1]).ends_with("Nothing is wrong.\n"));
    }
}
