//! What becomes of a try that was accepted before the stock hook knows of it.

use std::{
    io::Write,
    os::fd::AsFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix_compat::nix_hook::{self, Answers, Said, Try};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Answer, Ask, Call, Hook, HookError, HookReply, MAX_SETTINGS, Stock, read, thrift};

/// What is not taken now is offered again after this.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How often nobody may be there to take it, before the build fails: a daemon that is started anew is back
/// after seconds. For a place of its line it waits as long as Nix does.
const MAX_FAILURES: u32 = 60;

/// How far it is.
enum Step {
    /// The daemon has a job for it.
    Queued(Call),
    /// The stock hook's turn has come; the job is kept for it meanwhile, if there is one.
    Called(Option<Call>),
    /// Nobody has it.
    Alone,
}

/// What a stock hook makes of it.
enum Offered {
    Answered(Stock, nix_hook::Answer),
    /// It has ended without an answer.
    Ended(ExitStatus),
}

/// What Nix says after the try.
struct Inputs {
    bytes: Vec<u8>,
    /// Nix has said all.
    ended: bool,
}

impl Hook {
    /// Waits for the daemon's call, and has a stock hook build what was asked for. `told` is what Nix has
    /// said since: the beginning of the inputs.
    pub(super) fn build(
        &mut self,
        nix: &impl AsFd,
        log: &mut (impl Write + AsFd),
        (asked, told): (&Try, Vec<u8>),
        call: Call,
        ask: Ask<'_>,
    ) -> Result<ExitStatus, HookError> {
        let mut inputs = Inputs { bytes: told, ended: false };
        let mut failures = 0;
        let mut step = Step::Queued(call);
        loop {
            step = match step {
                Step::Queued(mut call) => match inputs.listen(nix, &mut call)? {
                    true => Step::Called(Some(call)),
                    false => Step::Alone,
                },
                Step::Called(call) => match self.offer(asked, log)? {
                    Offered::Ended(status) => return Ok(status),
                    Offered::Answered(mut stock, nix_hook::Answer::Accepts) => {
                        // Until its end the job is the stock hook's.
                        let _kept = call;
                        return self.hand_over(nix, inputs, &mut stock, log);
                    }
                    Offered::Answered(mut stock, answer) => {
                        stock.finish()?;
                        if let nix_hook::Answer::Declines(answer) = answer {
                            failed(&mut failures, format!("{} answers {answer}", self.program))?;
                        }
                        Step::Alone
                    }
                },
                Step::Alone => {
                    if is_gone(log, self.pause) {
                        return Ok(ExitStatus::default());
                    }
                    match ask(0, asked) {
                        Some(Answer { reply: HookReply::Taken { .. }, call }) => Step::Queued(call),
                        Some(_) => Step::Called(None),
                        None => {
                            let why = "the roost daemon does not answer";
                            failed(&mut failures, why.to_owned())?;
                            Step::Alone
                        }
                    }
                }
            };
        }
    }

    /// Starts a stock hook and asks it for this. What it says before its answer is for the log.
    fn offer(&mut self, asked: &Try, log: &mut impl Write) -> Result<Offered, HookError> {
        let mut stock = self.start(Stdio::piped())?;
        stock.tell(&asked.bytes);
        let mut answers = Answers::default();
        let mut answer = None;
        let mut part = [0; 4096];
        while let (None, Some(stderr)) = (&answer, &stock.child.stderr) {
            match read(stderr, &mut part)? {
                None => continue,
                Some(0) => break,
                Some(read) => answers.feed(&part[..read]),
            }
            loop {
                match answers.hear() {
                    Said::Nothing => break,
                    Said::Other(bytes) => pass_on(log, &bytes)?,
                    Said::Answer(given) => answer = answer.or(Some(given)),
                }
            }
        }
        match answer {
            Some(answer) => Ok(Offered::Answered(stock, answer)),
            None => stock.finish().map(Offered::Ended),
        }
    }

    /// Has the stock hook hear the rest of what Nix says, and Nix all that the stock hook says, to its end.
    fn hand_over(
        &mut self,
        nix: &impl AsFd,
        mut inputs: Inputs,
        stock: &mut Stock,
        log: &mut impl Write,
    ) -> Result<ExitStatus, HookError> {
        self.log_reader = None;
        let mut hears = stock.tell(&std::mem::take(&mut inputs.bytes)) && !inputs.ended;
        let mut part = [0; 4096];
        loop {
            if !hears {
                drop(stock.child.stdin.take());
            }
            let Some(stderr) = &stock.child.stderr else { return stock.finish() };
            let ready = thrift::wait_any([
                Some(stderr.as_fd()),
                stock.ended.as_ref().map(AsFd::as_fd),
                hears.then(|| nix.as_fd()),
            ]);
            match ready {
                [true, ..] => match read(stderr, &mut part)? {
                    Some(0) => return stock.finish(),
                    Some(read) => pass_on(log, &part[..read])?,
                    None => {}
                },
                // Others may hold its standard error open for longer.
                [false, true, _] => return stock.finish(),
                [false, false, _] => {}
            }
            if ready[2] {
                match read(nix, &mut part)? {
                    Some(0) => hears = false,
                    Some(read) => hears = stock.tell(&part[..read]),
                    None => {}
                }
            }
        }
    }
}

impl Inputs {
    /// Takes in what Nix says, until the daemon calls: Nix would wait for a hook that does not listen.
    /// Whether the call comes.
    fn listen(&mut self, nix: &impl AsFd, call: &mut Call) -> Result<bool, HookError> {
        let mut part = [0; 4096];
        while !call.is_at_hand() && self.bytes.len() <= MAX_SETTINGS {
            let nix_speaks = (!self.ended).then(|| nix.as_fd());
            let [from_nix, _] = thrift::wait_any([nix_speaks, Some(call.as_fd())]);
            if !from_nix {
                return Ok(call.comes());
            }
            match read(nix, &mut part)? {
                Some(0) => self.ended = true,
                Some(read) => self.bytes.extend_from_slice(&part[..read]),
                None => {}
            }
        }
        Ok(true)
    }
}

/// Nobody has taken it once more: an error if that was too often.
fn failed(failures: &mut u32, why: String) -> Result<(), HookError> {
    *failures += 1;
    if *failures < MAX_FAILURES { Ok(()) } else { Err(HookError::NotTaken(why)) }
}

/// Waits for so long, or until nobody reads what is said to Nix any more. Whether that is so.
fn is_gone(log: &impl AsFd, pause: Duration) -> bool {
    // No events are asked for: the kernel tells of errors only.
    let mut fds = [PollFd::new(log, PollFlags::empty())];
    let pause = Timespec::try_from(pause).ok();
    poll(&mut fds, pause.as_ref()).is_ok_and(|ready| ready > 0)
}

fn pass_on(log: &mut impl Write, bytes: &[u8]) -> Result<(), HookError> {
    log.write_all(bytes).map_err(HookError::io("tell Nix what the stock build hook says"))
}
