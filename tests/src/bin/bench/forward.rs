//! One hop: a board that only emulates a system sends the build on to one that runs it.

use roost_lab::{
    Disk, Host, Lan, Result,
    fixtures::{
        native::{self, RISCV},
        nix, roost,
    },
};

use crate::{
    fleet::{SLOTS, SYSTEM},
    measure::{Rounds, Side, Times, alternate, timed},
    scenario::{FILE, trivial},
};

/// A machine without roost, and the boards it asks.
pub(crate) struct Hop {
    lan: Lan,
    client: Host,
    /// It sends builds on.
    first: Host,
    /// It runs them.
    second: Host,
}

/// Starts them; returns when the first board uses the second one.
pub(crate) fn start() -> Result<Hop> {
    let lan = Lan::new()?;
    let host = |name: &str| lan.host(name).disk(Disk::Real);
    let [client, first, second] = lan.start([
        host("client"),
        native::both(host("first").system(SYSTEM).emulates([RISCV]), SLOTS, "")?,
        roost::board(host("second").system(RISCV), SLOTS, "")?,
    ])?;
    native::join(&lan, &first, &[&second])?;
    for board in [&first, &second] {
        native::open_to(&client, board)?;
    }
    for host in [&client, &first, &second] {
        host.add_to_store("/usr/lib/lab")?;
    }
    Ok(Hop { lan, client, first, second })
}

impl Hop {
    /// Shows the hosts' logs if something failed.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| eprintln!("{}", self.lan.logs()))
    }

    /// One derivation that does nothing, asked of the board that sends it on ([`Side::Roost`]) and of
    /// the one that runs it ([`Side::Ideal`]), by stock Nix over ssh-ng.
    pub(crate) fn noop(&self, rounds: Rounds) -> Result<Times> {
        let run = |side, salt: &str| {
            let board = if side == Side::Ideal { &self.second } else { &self.first };
            nix::write(&self.client, FILE, &trivial("hop", RISCV, salt).expr())?;
            let builder = roost::builder("ssh-ng", board, RISCV, SLOTS);
            let argv = ["nix", "build", "--no-link", "--print-out-paths", "--max-jobs", "0"];
            timed(&self.client, 1, &[&argv[..], &["--builders", &builder, "--file", FILE]].concat())
        };
        let sides = [Side::Roost, Side::Ideal];
        for side in sides {
            run(side, &format!("warm-{side:?}"))?;
        }
        alternate("hop", &sides, rounds, run)
    }
}
