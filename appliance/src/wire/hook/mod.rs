//! `roost hook`: stands between the local Nix and its stock build hook, so that Nix builds by itself what
//! ends soonest here, need not wait for that hook with what goes to boards, and leaves everything else to
//! it, untouched.
//!
//! Nix does nothing else until its hook has answered, and the stock hook takes long to start and to
//! connect. So what the daemon takes is accepted at once, and the stock hook, which then copies, builds and
//! fetches as ever, is started when the job has been given to a board ([`taken`]).
//!
//! With what the daemon does not take, the stock hook is started with the first try that it is to see. From
//! then on it has everything but Nix's words to it as if Nix had started it: standard error, on which it
//! answers, and the pipe of the builder's log. When it ends, this ends as it did. Whatever goes wrong here
//! is a try that is passed on.
//!
//! One of these waits for each build, so it is synchronous and small.

mod ask;
mod stock;
mod taken;
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
    time::Duration,
};

use ask::{Answer, Call};
use nix_compat::nix_hook::{DECLINE, Heard, Listener, Try, accept};
use rustix::{
    fs::{FileType, fstat},
    process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open},
};

use super::thrift;
use crate::{model::HookReply, names, sys};

/// The file descriptor at which Nix lends the hook the reading end of the builder's log, of which fd 4 is
/// the writing end (`HookInstance`, hook-instance.cc).
const LOG_READER: i32 = 5;

/// Settings that are held until the stock hook is started; with more it is started at once.
const MAX_SETTINGS: usize = 1 << 20;

/// Asks the daemon, for a Nix with so many slots of its own.
type Ask<'a> = &'a dyn Fn(u32, &Try) -> Option<Answer>;

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
    /// Nobody takes what was accepted.
    #[error(
        "roost has accepted this build, and cannot have it built: {0}; see `systemctl status roost`, and \
         `nix build --verbose`"
    )]
    NotTaken(String),
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
    let ask = |slots, asked: &Try| ask::ask(socket, slots, asked);
    hook.serve(&stdin, &mut io::stderr(), &ask).map(ended_like)
}

/// The stock hook, and what Nix has said that it does not know yet.
struct Hook {
    command: Command,
    /// What the command names, for messages.
    program: String,
    log_reader: Option<OwnedFd>,
    /// Nix's settings, which every stock hook is told first.
    settings: Vec<u8>,
    stock: Option<Stock>,
    /// How long what nobody takes waits until it is offered again.
    pause: Duration,
}

/// The stock hook, running.
struct Stock {
    child: Child,
    /// Tells when it has ended; none if the kernel cannot.
    ended: Option<OwnedFd>,
}

/// How listening to Nix has ended.
enum Relayed {
    /// Nix has nothing more to say, or the stock hook has ended.
    Over,
    /// The daemon has a job for this, and Nix has been told that it is accepted.
    Taken { asked: Try, call: Call, rest: Vec<u8> },
}

impl Hook {
    fn new(command: Command, log_reader: Option<OwnedFd>) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        Self {
            command,
            program,
            log_reader,
            settings: Vec::new(),
            stock: None,
            pause: taken::AGAIN,
        }
    }

    /// Replaces this program by the stock hook. Returns only if that fails.
    fn become_stock(mut self) -> HookError {
        let source = self.command.exec();
        HookError::Start { program: self.program, source }
    }

    /// Stands between Nix and the stock hook to the end of both.
    fn serve(
        &mut self,
        nix: &impl AsFd,
        answers: &mut (impl Write + AsFd),
        ask: Ask<'_>,
    ) -> Result<ExitStatus, HookError> {
        match self.relay(nix, answers, ask)? {
            Relayed::Over => self.finish(),
            Relayed::Taken { asked, call, rest } => {
                // It was asked of other things, and has nothing to do any more.
                self.finish()?;
                self.stock = None;
                self.build(nix, answers, (&asked, rest), call, ask)
            }
        }
    }

    /// Relays what Nix says until it has nothing more to say, the stock hook has ended, or the daemon
    /// takes something.
    fn relay(
        &mut self,
        nix: &impl AsFd,
        answers: &mut impl Write,
        ask: Ask<'_>,
    ) -> Result<Relayed, HookError> {
        let mut listener = Listener::default();
        let mut part = [0; 4096];
        loop {
            let ended = self.stock.as_ref().and_then(|stock| stock.ended.as_ref());
            let [_, has_ended] = thrift::wait_any([Some(nix.as_fd()), ended.map(AsFd::as_fd)]);
            if has_ended {
                return Ok(Relayed::Over);
            }
            let Some(read) = read(nix, &mut part)? else { continue };
            if read == 0 {
                let rest = listener.rest();
                if !rest.is_empty() {
                    self.pass(&rest)?;
                }
                return Ok(Relayed::Over);
            }
            listener.feed(&part[..read]);
            loop {
                let goes_on = match listener.hear() {
                    Heard::Nothing => break,
                    Heard::Setting(bytes) => self.keep(&bytes)?,
                    Heard::Other(bytes) => {
                        // Or its end would never be seen by whoever writes to the log.
                        self.log_reader = None;
                        self.pass(&bytes)?
                    }
                    Heard::Try(asked) => match answer(&listener, &asked, ask) {
                        Some(Answer { reply: HookReply::Local, .. }) => {
                            say(answers, DECLINE)?;
                            true
                        }
                        Some(Answer { reply: HookReply::Taken { builder }, call }) => {
                            say(answers, &accept(&builder))?;
                            let rest = listener.rest();
                            return Ok(Relayed::Taken { asked, call, rest });
                        }
                        Some(Answer { reply: HookReply::Elsewhere, .. }) | None => {
                            self.pass(&asked.bytes)?
                        }
                    },
                };
                if !goes_on {
                    return Ok(Relayed::Over);
                }
            }
        }
    }

    /// Has the stock hook know a setting, now or when it is started. Whether it goes on.
    fn keep(&mut self, bytes: &[u8]) -> Result<bool, HookError> {
        if self.stock.is_some() {
            return self.pass(bytes);
        }
        self.settings.extend_from_slice(bytes);
        if self.settings.len() > MAX_SETTINGS { self.pass(&[]) } else { Ok(true) }
    }

    /// Tells the stock hook, which is started if it is not. Whether it goes on: one that has ended
    /// hears nothing any more.
    fn pass(&mut self, bytes: &[u8]) -> Result<bool, HookError> {
        let stock = match &mut self.stock {
            Some(stock) => stock,
            None => {
                let started = self.start(Stdio::inherit())?;
                self.stock.insert(started)
            }
        };
        Ok(stock.tell(bytes))
    }

    /// Starts the stock hook and tells it the settings.
    fn start(&mut self, stderr: Stdio) -> Result<Stock, HookError> {
        let started = self.command.stdin(Stdio::piped()).stderr(stderr).spawn();
        let child =
            started.map_err(|source| HookError::Start { program: self.program.clone(), source })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut stock = Stock { child, ended };
        stock.tell(&self.settings);
        Ok(stock)
    }

    /// Waits for the stock hook, which hears nothing more.
    fn finish(&mut self) -> Result<ExitStatus, HookError> {
        // Nothing was for it: it would have ended in the same way.
        self.stock.as_mut().map_or_else(|| Ok(ExitStatus::default()), Stock::finish)
    }
}

impl Stock {
    /// Whether it goes on: one that has ended hears nothing any more.
    fn tell(&mut self, bytes: &[u8]) -> bool {
        self.child.stdin.as_mut().is_some_and(|stdin| stdin.write_all(bytes).is_ok())
    }

    /// Waits for it. It hears nothing more.
    fn finish(&mut self) -> Result<ExitStatus, HookError> {
        drop(self.child.stdin.take());
        if let Some(ended) = &self.ended {
            thrift::wait_readable(ended);
        }
        self.child.wait().map_err(HookError::io("wait for the stock build hook"))
    }
}

fn say(answers: &mut impl Write, bytes: &[u8]) -> Result<(), HookError> {
    answers.write_all(bytes).map_err(HookError::io("answer Nix"))
}

/// Reads what has come: 0 bytes at the end, none if nothing has.
fn read(from: &impl AsFd, part: &mut [u8]) -> Result<Option<usize>, HookError> {
    match rustix::io::read(from, part) {
        Ok(read) => Ok(Some(read)),
        Err(rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(HookError::io("read what Nix or its hook says")(error.into())),
    }
}

/// What the daemon answers, if it is to be asked: where Nix's builders are roost's and no others.
fn answer(listener: &Listener, asked: &Try, ask: Ask<'_>) -> Option<Answer> {
    if !is_ours(listener.builders()) {
        return None;
    }
    let builds_itself = listener.builds_itself(asked);
    let slots = if builds_itself { listener.max_jobs() } else { 0 };
    // What Nix is left with and cannot build fails.
    ask(slots, asked).filter(|answer| builds_itself || answer.reply != HookReply::Local)
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
