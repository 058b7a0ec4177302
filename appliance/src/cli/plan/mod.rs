//! `roost plan`: where and when things would be built, before anything is.
//!
//! Nix says what it would build, the derivations say what they need, and the daemon forecasts what
//! becomes of that; nothing is asked of a board.

mod graph;
mod report;

use std::{
    ffi::OsString,
    io::Write,
    path::Path,
    process::{self, ExitCode},
};

use self::report::Report;
use super::{
    args::Plan,
    build::{self, Failed},
    commands::print_json,
    connect,
    error::CommandError,
    timeline,
};
use crate::observe::nix::nix_config;

/// Finds out what would be built, asks the daemon, and prints or draws the answer.
pub(super) async fn run(args: &Plan, out: &mut impl Write) -> Result<ExitCode, CommandError> {
    // Before anything is evaluated, which may take minutes.
    let client = connect().await?;
    client.node().await?;
    let mut paths = build::Plan::default();
    for command in commands(args) {
        match build::dry_run(command).await? {
            Ok(build::Plan(more)) => paths.0.extend(more),
            Err(Failed { status, text }) => {
                eprint!("{text}");
                return Ok(build::code(status));
            }
        }
    }
    let nix = nix_config(Path::new("nix")).await;
    let (local, max_jobs) = match nix {
        Ok(nix) => (std::iter::once(nix.system).chain(nix.extra_platforms).collect(), nix.max_jobs),
        Err(error) => {
            eprintln!("roost: {error}");
            (Vec::new(), 1)
        }
    };
    let graph = graph::of(paths.0, &local, build::read);
    graph.notes.iter().for_each(|note| eprintln!("roost: {note}"));
    let outlook = client.plan(&graph.planned, max_jobs).await?;
    let report = Report::of(&graph.planned, &outlook);
    if args.output.json {
        print_json(&report, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    timeline::show(&report.chart(), args.svg.as_deref(), out)?;
    if args.svg.is_none() {
        out.write_all(report.text().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What tells what would be built: derivations as they are, and everything else as `nix build` has it.
fn commands(args: &Plan) -> Vec<tokio::process::Command> {
    let is_drv = |word: &&OsString| word.as_encoded_bytes().ends_with(b".drv");
    let (derivations, installables): (Vec<_>, Vec<_>) = args.what.iter().partition(is_drv);
    let mut commands = Vec::new();
    if !derivations.is_empty() {
        let mut command = process::Command::new("nix-store");
        command.args(["--realise", "--dry-run"]).args(derivations);
        commands.push(command.into());
    }
    if !installables.is_empty() || !args.nix.is_empty() {
        let mut command = build::nix();
        command.args(["build", "--dry-run"]).args(installables).args(&args.nix);
        commands.push(command);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivations_are_taken_as_they_are_and_the_rest_is_nix_builds() {
        let words = |words: &str| words.split_whitespace().map(OsString::from).collect();
        let lines = |what: &str, nix: &str| -> Vec<String> {
            let args = Plan { what: words(what), nix: words(nix), ..Plan::default() };
            let line = |command: tokio::process::Command| {
                let command = command.as_std();
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
            };
            commands(&args).into_iter().map(line).collect()
        };
        assert_eq!(
            lines("/nix/store/x-a.drv .#b", "--impure"),
            [
                "nix-store --realise --dry-run /nix/store/x-a.drv",
                "nix build --dry-run .#b --impure"
            ]
        );
        assert_eq!(lines("", "--file ."), ["nix build --dry-run --file ."]);
    }
}
