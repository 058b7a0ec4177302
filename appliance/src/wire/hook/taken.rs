//! What becomes of a try that was accepted before the stock hook knows of it.

use std::{
    io::Write,
    os::fd::AsFd,
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix_compat::nix_hook::{Answers, POSTPONE, Said, Try};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Call, Hook, HookError, MAX_SETTINGS, Stock, read, thrift};

/// The stock hook accepts what fits a line of the machines file, if it can connect and a place of that line
/// is free. If not, it is asked again after this.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Added to the niceness of a stock hook that is started late.
const NICE: i32 = 5;

/// How often one is asked that cannot connect, before the build fails: a daemon that is started anew is back
/// after seconds. For a place it waits as long as Nix does.
const MAX_DECLINED: u32 = 60;

/// How a stock hook has answered.
enum Answered {
    Accepts,
    Refuses(String),
    /// It has ended.
    Not,
}

impl Hook {
    /// Waits for the daemon's call, and has a stock hook build what was asked for. `told` is what Nix has
    /// said since: the beginning of the inputs.
    pub(super) fn build(
        &mut self,
        nix: &impl AsFd,
        log: &mut impl Write,
        asked: &Try,
        mut told: Vec<u8>,
        call: &Call,
    ) -> Result<ExitStatus, HookError> {
        let goes_on = listen(nix, &mut told, call)?;
        // Many may be called at once, and Nix is to go on giving out what comes next.
        let _ = rustix::process::nice(NICE);
        let mut declined = 0;
        let mut stock = loop {
            let mut stock = self.start(Stdio::piped())?;
            stock.tell(&asked.bytes);
            match hear_answer(&mut stock, log)? {
                Answered::Accepts => break stock,
                Answered::Refuses(answer) => {
                    stock.finish()?;
                    declined += u32::from(answer != POSTPONE);
                    if declined >= MAX_DECLINED {
                        return Err(HookError::Refused { program: self.program.clone(), answer });
                    }
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "nobody tells when a stock hook would accept"
                    )]
                    thread::sleep(self.pause);
                }
                Answered::Not => return stock.finish(),
            }
        };
        self.log_reader = None;
        stock.tell(&told);
        drop(told);
        // From here on the stock hook has the job.
        relay_both(nix, goes_on, &mut stock, log)?;
        stock.finish()
    }
}

/// Takes in what Nix says, until the daemon calls. Whether Nix has more to say: it tells the inputs at
/// once, and would wait for a hook that does not listen.
fn listen(nix: &impl AsFd, told: &mut Vec<u8>, call: &Call) -> Result<bool, HookError> {
    let mut part = [0; 4096];
    let mut called = false;
    loop {
        let mut fds =
            [nix.as_fd(), call.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        if called {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            // An error is as good as nothing to be read.
            let _ = poll(&mut fds, Some(&at_once));
        } else {
            thrift::wait_any(&mut fds);
        }
        called = called || !fds[1].revents().is_empty();
        if fds[0].revents().is_empty() {
            if called {
                return Ok(true);
            }
            continue;
        }
        match read(nix, &mut part)? {
            None => {}
            Some(0) => {
                if !called {
                    thrift::wait_readable(call);
                }
                return Ok(false);
            }
            Some(read) => told.extend_from_slice(&part[..read]),
        }
        if told.len() > MAX_SETTINGS {
            return Ok(true);
        }
    }
}

/// The stock hook's answer; the log messages before it go to Nix.
fn hear_answer(stock: &mut Stock, log: &mut impl Write) -> Result<Answered, HookError> {
    let Some(stderr) = &stock.child.stderr else { return Ok(Answered::Not) };
    let mut answers = Answers::default();
    let mut part = [0; 4096];
    loop {
        match read(stderr, &mut part)? {
            None => continue,
            Some(0) => return Ok(Answered::Not),
            Some(read) => answers.feed(&part[..read]),
        }
        loop {
            match answers.hear() {
                Said::Nothing => break,
                Said::Other(bytes) => pass_on(log, &bytes)?,
                Said::Refuses(answer) => return Ok(Answered::Refuses(answer)),
                Said::Accepts => {
                    // What follows at once is for the log.
                    while let Said::Other(bytes) = answers.hear() {
                        pass_on(log, &bytes)?;
                    }
                    return Ok(Answered::Accepts);
                }
            }
        }
    }
}

/// Relays what Nix still has to say, and all that the stock hook says, until that has ended.
fn relay_both(
    nix: &impl AsFd,
    mut goes_on: bool,
    stock: &mut Stock,
    log: &mut impl Write,
) -> Result<(), HookError> {
    let mut part = [0; 4096];
    loop {
        if !goes_on {
            drop(stock.child.stdin.take());
        }
        let Some(stderr) = &stock.child.stderr else { return Ok(()) };
        let ended = stock.ended.as_ref().map(AsFd::as_fd);
        let mut fds = vec![stderr.as_fd()];
        fds.extend(ended);
        let from_nix = goes_on.then_some(fds.len());
        fds.extend(goes_on.then(|| nix.as_fd()));
        let mut fds: Vec<_> =
            fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        thrift::wait_any(&mut fds);
        let is_ready = |at: usize| !fds[at].revents().is_empty();
        if is_ready(0) {
            match read(stderr, &mut part)? {
                Some(0) => return Ok(()),
                Some(read) => pass_on(log, &part[..read])?,
                None => {}
            }
        } else if ended.is_some() && is_ready(1) {
            // Others may hold its standard error open for longer.
            return Ok(());
        }
        if from_nix.is_some_and(is_ready) {
            match read(nix, &mut part)? {
                Some(0) => goes_on = false,
                Some(read) => goes_on = stock.tell(&part[..read]),
                None => {}
            }
        }
    }
}

fn pass_on(log: &mut impl Write, bytes: &[u8]) -> Result<(), HookError> {
    log.write_all(bytes).map_err(HookError::io("tell Nix what the stock build hook says"))
}
