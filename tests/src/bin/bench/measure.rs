//! Sides, rounds and medians.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use roost_lab::{Error, Host, Result};
use serde::Serialize;

/// How long one run may take; stock's bursts take two minutes.
const RUN_TIMEOUT: Duration = Duration::from_secs(900);

/// Who builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Stock Nix over ssh-ng.
    Stock,
    /// roost.
    Roost,
    /// The board itself, without anything between.
    Ideal,
}

/// How often each side runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) stock: usize,
    pub(crate) others: usize,
}

impl Rounds {
    /// Each once.
    pub(crate) const ONE: Self = Self { stock: 1, others: 1 };
}

/// What was measured, in seconds, in the order of the runs.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Times {
    pub(crate) stock: Vec<f64>,
    pub(crate) roost: Vec<f64>,
    pub(crate) ideal: Vec<f64>,
}

impl Times {
    fn of(&mut self, side: Side) -> &mut Vec<f64> {
        match side {
            Side::Stock => &mut self.stock,
            Side::Roost => &mut self.roost,
            Side::Ideal => &mut self.ideal,
        }
    }
}

/// Runs the sides in turn. The order is turned round in every other round, so that neither side
/// always comes first. What runs gets a salt that is used only once.
pub(crate) fn alternate(
    what: &str,
    sides: &[Side],
    rounds: Rounds,
    mut run: impl FnMut(Side, &str) -> Result<f64>,
) -> Result<Times> {
    static SALT: AtomicU32 = AtomicU32::new(0);
    let mut times = Times::default();
    for round in 0..rounds.stock.max(rounds.others) {
        let mut order = sides.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let wanted = if side == Side::Stock { rounds.stock } else { rounds.others };
            if round >= wanted {
                continue;
            }
            let salt = format!("{}-{}", process::id(), SALT.fetch_add(1, Ordering::Relaxed));
            let seconds = run(side, &salt)?;
            eprintln!("{what}: {side:?} {seconds:.3} s");
            times.of(side).push(seconds);
        }
    }
    Ok(times)
}

/// The middle value, or the mean of the two middle ones; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Seconds that a command takes on a host, by the host's own clock: starting it there is not
/// counted. It must succeed and print so many lines.
pub(crate) fn timed<S: AsRef<str>>(host: &Host, lines: usize, argv: &[S]) -> Result<f64> {
    let script = r#"
        want=$1; shift
        begin=$EPOCHREALTIME
        output=$("$@") || exit
        end=$EPOCHREALTIME
        got=$(printf '%s\n' "$output" | wc -l)
        [ "$got" = "$want" ] || { echo "printed $got lines, not $want" >&2; exit 1; }
        echo $(( ${end/[.,]/} - ${begin/[.,]/} ))
    "#;
    let want = lines.to_string();
    let mut all = vec!["bash", "-c", script, "timed", &want];
    all.extend(argv.iter().map(AsRef::as_ref));
    let output = host.command(all).timeout(RUN_TIMEOUT).run()?.ok()?;
    let microseconds: Result<u32, _> = output.stdout.trim().parse();
    let microseconds = microseconds.map_err(|_| Error::Failed(Box::new(output)))?;
    Ok(f64::from(microseconds) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
