//! What a board tells of its daemon.

use super::fleet::Desk;
use crate::error::{Error, Result};

/// The most memory that the daemon may have when it has nothing to do, in MiB.
pub(super) const MAX_RSS_MIB: f64 = 15.0;

/// The largest that the program may be, in millions of bytes.
pub(super) const MAX_PROGRAM_MB: f64 = 10.0;

/// A daemon, at a moment.
pub(super) struct Facts {
    /// Resident memory (VmRSS).
    pub(super) rss_mib: f64,
    /// The size of its program in millions of bytes.
    pub(super) program_mb: f64,
    /// How often its threads have stopped running since they were started: each time they went to sleep, and
    /// when others had to run.
    pub(super) switches: f64,
}

const SCRIPT: &str = r#"pid=$(systemctl show --property=MainPID --value roost)
    awk '$1 == "VmRSS:" { print $2 }' /proc/$pid/status
    stat -L -c %s /proc/$pid/exe
    cat /proc/$pid/task/*/status | awk '/ctxt_switches/ { sum += $2 } END { print sum }'"#;

/// Asks a board.
///
/// # Errors
///
/// It does not let us in, or has no daemon.
pub(super) fn facts(desk: &Desk, board: &str) -> Result<Facts> {
    let said = desk.ssh(board, SCRIPT)?;
    let numbers: Vec<f64> = said.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [rss_kib, program_bytes, switches] = numbers[..] else {
        return Err(Error::Wrong(format!("{board} tells nothing of its daemon: {said}")));
    };
    Ok(Facts { rss_mib: rss_kib / 1024.0, program_mb: program_bytes / 1e6, switches })
}
