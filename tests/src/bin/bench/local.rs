//! A workstation that takes part: fast, idle, and of its boards' own system.

use roost_lab::{Lan, Result, fixtures::nix::Drv};

use crate::{
    measure::{Rounds, Side, Times, alternate, timed},
    paced::{self, Pace, Paced, SCRIPT},
    scenario::FILE,
};

/// What all of them are.
const SYSTEM: &str = "x86_64-linux";

/// Nix's own default is a job for each core, so a fast machine has more than one slot; a slot is as fast as
/// two boards.
const WORKSTATION: Pace = Pace { name: "ws", slots: 2, percent: 100 };

const BOARDS: [Pace; 2] = [
    Pace { name: "board1", slots: 1, percent: 50 },
    Pace { name: "board2", slots: 1, percent: 50 },
];

const BUILDS: u32 = 60;

/// Work of one build, in seconds at speed 1. Stock Nix looks for free slots every five seconds: the
/// shorter builds are, the more of them it loses.
const WORK_S: u32 = 2;

/// Starts them.
pub(crate) fn start() -> Result<Paced> {
    let lan = Lan::new()?;
    let workstation = WORKSTATION.workstation(&lan, SYSTEM)?;
    paced::start(lan, workstation, &BOARDS, SYSTEM)
}

/// What was measured: both sides' times, and who built in roost's last run.
pub(crate) struct Measured {
    pub(crate) times: Times,
    /// Builds by the workstation, divided by its share of all speeds.
    pub(crate) local_share: f64,
    /// How long the boards' slots built, divided by how long they could have.
    pub(crate) boards_busy: f64,
}

/// Builds all of them, by roost and by stock Nix.
pub(crate) fn measure(fleet: &Paced, rounds: Rounds) -> Result<Measured> {
    let ws = &fleet.workstation;
    let mut built = [0; 2];
    let sides = [Side::Stock, Side::Roost];
    let times = alternate("local", &sides, rounds, |side, salt| {
        let drv = Drv::new("work", SYSTEM, SCRIPT).salt(salt);
        let drv = drv.attr("us", &format!("\"{}\"", WORK_S * 1_000_000));
        ws.write(FILE, 0o644, drv.times(BUILDS))?;
        let seconds = timed(ws, BUILDS as usize, &fleet.nix_build(side, FILE))?;
        let hosts =
            ws.check(&format!("nix build --no-link --print-out-paths --file {FILE} | xargs cat"))?;
        let here = hosts.lines().filter(|host| *host == WORKSTATION.name).count();
        eprintln!("local: {side:?} {here} of {BUILDS} builds on the workstation");
        if side == Side::Roost {
            built = [here, hosts.lines().count() - here];
        }
        Ok(seconds)
    })?;
    let [here, there] = built.map(|count| u32::try_from(count).map_or(f64::NAN, f64::from));
    let power: f64 = BOARDS.iter().map(|board| board.power()).sum();
    let fair = f64::from(BUILDS) * WORKSTATION.power() / (WORKSTATION.power() + power);
    let last_s = times.roost.last().copied().unwrap_or(f64::NAN);
    let boards_busy = there * f64::from(WORK_S) / (power * last_s);
    Ok(Measured { times, local_share: here / fair, boards_busy })
}
