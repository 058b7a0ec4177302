//! The commands, and nothing else: what people type, and what they are shown.
//!
//! `args` says what can be typed, `early` picks out what programs start, `commands` ask the daemon,
//! `build` runs Nix, `plan` shows what it would do,
//! `render` and `human` turn views into text, `fleet` changes what is trusted, `flash` writes images,
//! `update` gives boards new systems, `timeline` draws what happened, `doctor` looks at the machine itself, `pages` writes man pages and
//! completions.

pub mod args;
mod build;
mod check_config;
mod commands;
mod doctor;
mod early;
mod error;
#[cfg(test)]
mod fixtures;
pub mod flash;
pub mod fleet;
mod human;
mod machines;
mod pages;
mod plan;
mod render;
mod run_daemon;
mod timeline;
mod update;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use tokio::runtime::{self, Runtime};

pub use early::Early;

use args::{Ask, Cli, Command};
use error::CommandError;

use crate::bus::{Client, SystemBus};

/// Runs the program on the arguments it was started with.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    match Early::of(&args) {
        Some(early) => early.run(),
        None => match run(Cli::parse_from(args).command) {
            Ok(code) => code,
            Err(error) if error.reader_left() => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("roost: {error}");
                error.status()
            }
        },
    }
}

fn run(command: Command) -> Result<ExitCode, CommandError> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Serve => return Ok(Early::Serve.run()),
        Command::Connect { selector } => return Ok(Early::Connect { selector }.run()),
        Command::Hook { words } => return Ok(Early::Hook { words }.run()),
        Command::Daemon { config } => run_daemon::run(&config)?,
        Command::CheckConfig { file, output } => check_config::run(file.as_deref(), output, out)?,
        Command::Build(args) => return runtime()?.block_on(build::run(&args)),
        Command::Plan(args) => return runtime()?.block_on(plan::run(&args, out)),
        Command::Machines(args) if args.direct => {
            runtime()?.block_on(async { machines::direct(&connect().await?, args, out).await })?;
        }
        Command::Machines(args) => machines::own(args.output.json, out)?,
        Command::Doctor { config, output } => {
            let findings = doctor::judge(&runtime()?.block_on(doctor::gather(&config)));
            return doctor::report(&findings, output.json, out);
        }
        Command::Fleet(command) => runtime()?.block_on(fleet::run(command, out))?,
        Command::Seed(args) => fleet::seed(&args, out)?,
        Command::Pages { share } => pages::write(&share).map_err(CommandError::Pages)?,
        Command::Flash(args) => flash::run(&args, out)?,
        Command::FirstBoot { from } => fleet::first_boot(from.as_deref(), out)?,
        Command::Update(args) => runtime()?.block_on(update::run(&args, out))?,
        Command::ApplyUpdate => runtime()?.block_on(update::apply())?,
        Command::SettleUpdate => runtime()?.block_on(update::settle())?,
        Command::Ask(command) => {
            runtime()?.block_on(async { ask(&connect().await?, command, out).await })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect() -> Result<Client, CommandError> {
    Ok(Client::connect(&SystemBus::default()).await?)
}

async fn ask(client: &Client, command: Ask, out: &mut impl Write) -> Result<(), CommandError> {
    match command {
        Ask::Status(output) => commands::status(client, output.json, out).await,
        Ask::Jobs { all, output } => commands::jobs(client, all, output.json, now_s(), out).await,
        Ask::Logs { job, follow } => commands::logs(client, &job, follow, out).await,
        Ask::Why { job, output } => commands::why(client, &job, output.json, now_s(), out).await,
        Ask::Timeline(args) => timeline::run(client, &args, now_ms(), out).await,
        Ask::Drain { board } => commands::drain(client, board.as_deref(), out).await,
        Ask::Resume { board } => commands::resume(client, board.as_deref(), out).await,
        Ask::Cancel { job } => commands::cancel(client, &job, out).await,
    }
}

/// A runtime of one thread: there is little to do at once, and a thread costs memory.
fn runtime() -> Result<Runtime, CommandError> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime)
}

/// Seconds since 1970.
fn now_s() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// A clock before 1970 shows that.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
