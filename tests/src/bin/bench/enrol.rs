//! How long a board with a seed takes to belong to its fleet.

use std::time::Duration;

use roost_lab::{
    Lan, Result, Service,
    fixtures::{fleet, roost, trust},
    now,
};

use crate::fleet::SYSTEM;

/// Long beyond what is wanted.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Seconds from the start of a board's daemon until it is enrolled and used, of so many boards, one
/// after another.
pub(crate) fn seconds(boards: u32) -> Result<Vec<f64>> {
    let lan = Lan::new()?;
    let ws = roost::workstation(lan.host("ws"), "")?.start()?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    let mut seconds = Vec::new();
    for n in 0..boards {
        let spec = lan.host(&format!("board{n}")).system(SYSTEM);
        let board = roost::board(spec, 1, "")?.start()?;
        trust::seed(&ws, &board)?;
        let begun = now();
        board.enable_service(Service::ROOST)?;
        lan.wait_until(TIMEOUT, "the board is enrolled", || {
            let status = board.check("roost status --json").unwrap_or_default();
            status.contains("\"enrolled\"")
        })?;
        fleet::wait_reach(&lan, &ws, &board, "up")?;
        let taken = begun.elapsed().as_secs_f64();
        eprintln!("enrol: {taken:.3} s");
        seconds.push(taken);
    }
    Ok(seconds)
}
