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
    super::runtime()?.block_on(daemon::run(config))?;
    Ok(())
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
