//! Boards are small and run from SD cards: a daemon that has nothing to do sleeps, and writes nothing.

use std::time::Duration;

use roost_lab::{
    Lan, Result,
    fixtures::{fleet, steered},
};

/// What is looked at at a time, in seconds.
const WINDOW_S: u64 = 5;
/// Looks, one of which has to find the daemons asleep: what is left of a build, and what Avahi hears of
/// others, wakes them up now and then.
const LOOKS: usize = 12;
/// Sleeps that a daemon may begin in one look. Less than a single thread with a timer of half a second,
/// or two with one of a second.
const MAX_SLEEPS: u64 = 8;

#[test]
fn daemons_that_have_nothing_to_do_sleep_and_write_nothing() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board1", 2, "")?])?;
    fleet::join(&lan, &ws, &[&board])?;
    // Everything has been in use once.
    let mut build = fleet::build(&ws, "once")?;
    steered::release(&board, "once")?;
    fleet::result(&ws, &mut build, Duration::from_secs(60))?;

    let look = || Ok([fleet::daemon_activity(&ws)?, fleet::daemon_activity(&board)?]);
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        let before: [_; 2] = look()?;
        ws.check(&format!("sleep {WINDOW_S}"))?;
        let after: [_; 2] = look()?;
        let [on_ws, on_board] = [after[0].since(&before[0]), after[1].since(&before[1])];
        let asleep = |it: &fleet::Activity| {
            it.sleeps.values().sum::<u64>() <= MAX_SLEEPS && it.written_bytes == 0
        };
        if asleep(&on_ws) && asleep(&on_board) {
            return Ok(());
        }
        seen.push((on_ws, on_board));
    }
    panic!("in {WINDOW_S} s each, workstation and board have done this: {seen:#?}");
}
