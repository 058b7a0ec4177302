//! What is measured.

use std::time::Duration;

use roost_lab::{
    Error, Result,
    fixtures::nix::{self, Drv},
};

use crate::{
    fleet::{Fleet, SYSTEM, mib},
    measure::{Rounds, Side, Times, alternate, timed},
};

const BOTH: &[Side] = &[Side::Stock, Side::Roost];

/// Where expressions are written.
pub(crate) const FILE: &str = "/root/bench.nix";

/// How long a program may take to appear.
const APPEAR_TIMEOUT: Duration = Duration::from_secs(30);

/// How long `roost connect` has waited when its memory is looked at.
const CONNECT_WAITS: Duration = Duration::from_secs(1);

/// Builds an expression of so many derivations, from `nix build` to all results.
fn build(fleet: &Fleet, side: Side, count: u32, expr: &str) -> Result<f64> {
    let ws = &fleet.workstation;
    nix::write(ws, FILE, expr)?;
    let builders = fleet.builders(side);
    let argv = ["nix", "build", "--no-link", "--print-out-paths", "--builders", &builders];
    timed(ws, count as usize, &[&argv[..], &["--file", FILE]].concat())
}

/// (a) One derivation that does nothing.
pub(crate) fn noop(fleet: &Fleet, rounds: Rounds) -> Result<Times> {
    let run = |side, salt: &str| build(fleet, side, 1, &trivial("noop", SYSTEM, salt).expr());
    for side in BOTH {
        // The first build of a side makes connections that later ones may keep.
        run(*side, &format!("warm-{side:?}"))?;
    }
    alternate("noop", BOTH, rounds, run)
}

/// (b) 40 derivations of half a second on one board; and the same by the board alone.
pub(crate) fn burst(fleet: &Fleet, rounds: Rounds) -> Result<Times> {
    let drv = Drv::new("burst", SYSTEM, "sleep 0.5; echo >$out");
    let sides = [Side::Stock, Side::Roost, Side::Ideal];
    alternate("burst", &sides, rounds, |side, salt| {
        let expr = drv.clone().salt(salt).times(40);
        match (side, fleet.boards.first()) {
            (Side::Ideal, Some(board)) => {
                nix::write(board, FILE, &expr)?;
                timed(board, 40, &["nix-build", "-j2", "--no-out-link", FILE])
            }
            _ => build(fleet, side, 40, &expr),
        }
    })
}

/// (c) 100 derivations that do nothing.
pub(crate) fn hundred(fleet: &Fleet, rounds: Rounds) -> Result<Times> {
    alternate("hundred", BOTH, rounds, |side, salt| {
        build(fleet, side, 100, &trivial("hundred", SYSTEM, salt).times(100))
    })
}

/// How 256 MiB of inputs are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One file.
    Big,
    /// 500 store paths of ten files each.
    Small,
}

/// (d) One derivation whose inputs the board lacks: 256 MiB of noise.
pub(crate) fn ship(fleet: &Fleet, shape: Shape, rounds: Rounds) -> Result<Times> {
    let what = format!("ship {shape:?}");
    alternate(&what, BOTH, rounds, |side, salt| {
        let paths = inputs(fleet, shape, salt)?;
        let list: String = paths.iter().map(|path| format!(" {path}")).collect();
        let drv = trivial("ship", SYSTEM, salt);
        let drv = drv.attr("inputs", &format!("map builtins.storePath [{list} ]"));
        build(fleet, side, 1, &drv.expr())
    })
}

/// Makes new inputs in the workstation's store; returns when nothing of it waits to be written.
fn inputs(fleet: &Fleet, shape: Shape, salt: &str) -> Result<Vec<String>> {
    let make = match shape {
        Shape::Big => "head -c 256M /dev/urandom >input-$1; nix-store --add input-$1",
        Shape::Small => {
            "head -c 256M /dev/urandom | split -b 53688 -d -a 4 - file
             for first in $(seq -f %03g 0 499); do
                 mkdir input-$1-$first; mv file$first? input-$1-$first
             done
             nix-store --add input-*"
        }
    };
    let script =
        format!("set -euo pipefail; cd $(mktemp -d); {make}; rm -rf $PWD; sync -f /nix/store");
    let output = fleet.workstation.run(["bash", "-c", &script, "inputs", salt])?.ok()?;
    for board in &fleet.boards {
        board.check("sync -f /nix/store")?;
    }
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// What a `roost connect` has in memory while its build runs.
pub(crate) fn connect_rss_mib(fleet: &Fleet) -> Result<f64> {
    let ws = &fleet.workstation;
    let drv = Drv::new("waited-for", SYSTEM, "sleep 5; echo >$out");
    nix::write(ws, FILE, &drv.salt(&std::process::id().to_string()).expr())?;
    let builders = fleet.builders(Side::Roost);
    let mut waiting =
        ws.spawn(&format!("nix build --no-link --builders '{builders}' --file {FILE}"))?;
    let asleep = || {
        let boards = fleet.boards.iter().filter_map(|board| board.processes().ok()).flatten();
        boards.into_iter().any(|process| process.command().contains("sleep 5; echo"))
    };
    let found = roost_lab::poll(APPEAR_TIMEOUT, || {
        let all = asleep().then(|| ws.processes().ok()).flatten()?;
        let ours = |argv: &[String]| argv.iter().any(|arg| arg.contains("/run/roost/connect/"));
        // Nix may start it through a shell: the innermost one is the program.
        all.into_iter().rfind(|p| ours(&p.argv) && !p.argv.iter().any(|arg| arg == "-c"))
    });
    let Some(process) = found else {
        return Err(Error::Failed(Box::new(waiting.kill())));
    };
    // A wait is what is measured: long enough to be one, and well within the build.
    let _ = roost_lab::poll(CONNECT_WAITS, || None::<()>);
    let memory = ws.memory_kib(process.pid)?;
    waiting.wait(APPEAR_TIMEOUT)?.ok()?;
    Ok(mib(memory.rss_kib))
}

/// A derivation that does nothing.
pub(crate) fn trivial(name: &str, system: &str, salt: &str) -> Drv {
    Drv::new(name, system, "echo >$out").salt(salt)
}
