//! `roost daemon`: the configuration, the log and the runtime, then the daemon itself.

use std::{env, io, path::Path};

use tracing::level_filters::LevelFilter;

use super::error::CommandError;
use crate::{config::Config, daemon};

/// The environment variable that says how much is logged: `error`, `warn`, `info` (the default),
/// `debug` or `trace`.
const LOG_LEVEL: &str = "ROOST_LOG";

/// Runs until it is told to stop.
pub(super) fn run(config: &Path) -> Result<(), CommandError> {
    let config = Config::load_or_default(config)?;
    log_to_stderr();
    stay_small();
    super::runtime()?.block_on(daemon::run(config))?;
    Ok(())
}

/// Where huge pages are on for everybody, the kernel makes one of each thread's stack after a while, and a
/// daemon that uses some KiB of each has 2 MiB of each (Documentation/admin-guide/mm/transhuge.rst).
fn stay_small() {
    // Without it the daemon is larger, and works as well.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// One line an event. The journal, which sets `JOURNAL_STREAM` (systemd.exec(5)), has its own clock.
pub(super) fn log_to_stderr() {
    let level = env::var(LOG_LEVEL).ok().and_then(|level| level.parse().ok());
    let log = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_target(false)
        .with_writer(io::stderr);
    if env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
