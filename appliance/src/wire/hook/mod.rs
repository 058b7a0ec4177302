//! `roost hook`: stands between the local Nix and its stock build hook, so that Nix builds by itself what
//! ends soonest here, and leaves everything else to that hook, untouched.
//!
//! The stock hook is started with the first try that it is to see. From then on it has everything but
//! Nix's words to it as if Nix had started it: standard error, on which it answers, and the pipe of the
//! builder's log. When it ends, this ends as it did. Whatever goes wrong here is a try that is passed on.
//!
//! One of these waits for each build, so it is synchronous and small.

mod ask;
mod stock;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix_compat::nix_hook::{DECLINE, Heard, Listener, Try};
use rustix::{
    fs::{FileType, fstat},
    process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open},
};

use super::thrift;
use crate::{model::Advice, names, sys};

/// The file descriptor at which Nix lends the hook the reading end of the builder's log, of which fd 4 is
/// the writing end (`HookInstance`, hook-instance.cc).
const LOG_READER: i32 = 5;

/// Settings that are held until the stock hook is started; with more it is started at once.
const MAX_SETTINGS: usize = 1 << 20;

/// Gives the daemon's advice to a Nix with so many slots of its own.
type Advise<'a> = &'a dyn Fn(u32, &Try) -> Option<Advice>;

/// Why nothing could be done for Nix.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Nix calls its hook with the verbosity at least.
    #[error("`roost hook` is started by Nix, with a verbosity as its last argument")]
    NoVerbosity,
    /// The stock hook cannot be started.
    #[error("cannot start the stock build hook {program}: {source}; see the setting build-hook")]
    Start {
        /// Which program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Nix's words could not be read, or the stock hook not be waited for.
    #[error("the build hook cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl HookError {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Serves the Nix that started this program as its build hook. `words` are the stock hook's command, if it
/// is another than the one of the running Nix, and the verbosity; `socket` is the daemon's.
///
/// Returns the exit code of the stock hook. If that was killed by a signal, this does not return.
///
/// # Errors
/// [`HookError`], to be shown on standard error.
pub fn run(socket: &Path, words: &[OsString]) -> Result<u8, HookError> {
    let stock = stock::command(words).ok_or(HookError::NoVerbosity)?;
    let stdin = io::stdin();
    let is_pipe =
        fstat(&stdin).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    let mut hook = Hook::new(stock, sys::inherited(LOG_READER));
    if !is_pipe {
        // Another protocol, as Lix has one: nothing to be said in it.
        return Err(hook.become_stock());
    }
    let advise = |slots, asked: &Try| ask::ask(socket, slots, asked);
    hook.relay(&stdin, &mut io::stderr(), &advise)?;
    hook.finish().map(ended_like)
}

/// The stock hook, and what Nix has said that it does not know yet.
struct Hook {
    command: Command,
    /// What the command names, for messages.
    program: String,
    log_reader: Option<OwnedFd>,
    pending: Vec<u8>,
    stock: Option<Stock>,
}

/// The stock hook, running.
struct Stock {
    child: Child,
    /// Tells when it has ended; none if the kernel cannot.
    ended: Option<OwnedFd>,
}

impl Hook {
    fn new(command: Command, log_reader: Option<OwnedFd>) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        Self { command, program, log_reader, pending: Vec::new(), stock: None }
    }

    /// Replaces this program by the stock hook. Returns only if that fails.
    fn become_stock(mut self) -> HookError {
        let source = self.command.exec();
        HookError::Start { program: self.program, source }
    }

    /// Relays what Nix says until it has nothing more to say, or the stock hook has ended.
    fn relay(
        &mut self,
        nix: &impl AsFd,
        answers: &mut impl Write,
        advise: Advise<'_>,
    ) -> Result<(), HookError> {
        let mut listener = Listener::default();
        let mut part = [0; 4096];
        loop {
            let ended = self.stock.as_ref().and_then(|stock| stock.ended.as_ref());
            if thrift::wait_either(nix, ended) {
                return Ok(());
            }
            let read = match rustix::io::read(nix, &mut part) {
                Err(rustix::io::Errno::INTR) => continue,
                read => read.map_err(|error| HookError::io("read what Nix says")(error.into()))?,
            };
            if read == 0 {
                let rest = listener.rest();
                return if rest.is_empty() { Ok(()) } else { self.pass(&rest).map(drop) };
            }
            listener.feed(&part[..read]);
            loop {
                let goes_on = match listener.hear() {
                    Heard::Nothing => break,
                    Heard::Setting(bytes) => self.keep(&bytes)?,
                    Heard::Other(bytes) => self.pass(&bytes)?,
                    Heard::Try(asked) => match answer(&listener, &asked, advise) {
                        Some(answer) => {
                            answers.write_all(answer).map_err(HookError::io("answer Nix"))?;
                            true
                        }
                        None => self.pass(&asked.bytes)?,
                    },
                };
                if !goes_on {
                    return Ok(());
                }
            }
        }
    }

    /// Has the stock hook know `bytes`, now or when it is started. Whether it goes on.
    fn keep(&mut self, bytes: &[u8]) -> Result<bool, HookError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() > MAX_SETTINGS { self.pass(&[]) } else { Ok(true) }
    }

    /// Tells the stock hook, which is started if it is not. Whether it goes on: one that has ended
    /// hears nothing any more.
    fn pass(&mut self, bytes: &[u8]) -> Result<bool, HookError> {
        self.pending.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.pending);
        let stock = match &mut self.stock {
            Some(stock) => stock,
            None => {
                let started = Self::start(&mut self.command);
                let started = started
                    .map_err(|source| HookError::Start { program: self.program.clone(), source })?;
                // Or its end would never be seen by whoever writes to the log.
                self.log_reader = None;
                self.stock.insert(started)
            }
        };
        let Some(stdin) = &mut stock.child.stdin else { return Ok(false) };
        Ok(stdin.write_all(&bytes).is_ok())
    }

    fn start(command: &mut Command) -> io::Result<Stock> {
        let child = command.stdin(Stdio::piped()).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Stock { child, ended })
    }

    /// Waits for the stock hook, which hears nothing more.
    fn finish(&mut self) -> Result<ExitStatus, HookError> {
        // Nothing was for it: it would have ended in the same way.
        let Some(stock) = &mut self.stock else { return Ok(ExitStatus::default()) };
        drop(stock.child.stdin.take());
        if let Some(ended) = &stock.ended {
            thrift::wait_readable(ended);
        }
        stock.child.wait().map_err(HookError::io("wait for the stock build hook"))
    }
}

/// What Nix is answered without the stock hook: where it could build by itself, its builders are roost's
/// and no others, and roost's daemon says so.
fn answer(listener: &Listener, asked: &Try, advise: Advise<'_>) -> Option<&'static [u8]> {
    if !listener.builds_itself(asked) || !is_ours(listener.builders()) {
        return None;
    }
    match advise(listener.max_jobs(), asked)? {
        Advice::Local => Some(DECLINE),
        Advice::Elsewhere => None,
    }
}

/// Whether the setting `builders` is our machines file. Of other builders roost knows nothing.
fn is_ours(builders: &str) -> bool {
    let machines = format!("@{}", names::MACHINES_FILE);
    let mut words =
        builders.split([';', '\n', ' ', '\t']).filter(|word| !word.is_empty()).peekable();
    words.peek().is_some() && words.all(|word| word == machines)
}

/// The exit code; a signal that ended the stock hook ends this program, too.
fn ended_like(status: ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        // One that cannot be sent, or does nothing here, is told as shells do.
        let _ = Signal::from_named_raw(signal).map(|it| kill_process(getpid(), it));
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
