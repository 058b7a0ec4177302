//! `roost fleet` and `roost seed`: they act on the files as root, and the daemon notices.

pub mod args;
mod boards;
mod first_boot_command;
mod join;
mod key;
mod list;
mod render;
mod seed;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufRead, IsTerminal, Read, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use zeroize::Zeroizing;

pub(super) use first_boot_command::first_boot;
pub(super) use seed::{Draft, Issued, how_long, maker, what_next, write as seed};

use super::{error::CommandError, now_s};
use crate::{
    config::Config,
    daemon,
    first_boot::{self, Files},
    names,
    trust::{Membership, Registrar, Role, Trust, TrustError, Trusted},
};
use args::Fleet;

type Done = Result<(), CommandError>;

/// Where a command acts.
pub(super) struct Here {
    pub(super) trust: Trust,
    role: Role,
    pub(super) now_s: u64,
    /// What tells the time when a seed is made, which can be a while later.
    clock: fn() -> u64,
    /// Asks whoever sits at the terminal; the second text is what a program is to do instead.
    confirm: fn(&str, &str) -> Done,
}

impl Here {
    /// This machine.
    pub(super) fn open() -> Result<Self, CommandError> {
        must_be_root()?;
        let config = Config::load_or_default(Path::new(names::CONFIG_FILE))?;
        let trust = daemon::open_trust(&config).map_err(CommandError::Node)?;
        Ok(Self { trust, role: daemon::role(&config), now_s: now_s(), clock: now_s, confirm })
    }

    /// Changes something that takes the fleet's key.
    pub(super) fn with_key<T>(
        &self,
        change: impl FnOnce(&mut Membership, &mut Registrar) -> Result<T, TrustError>,
    ) -> Result<T, CommandError> {
        let path = || Registrar::key_file(&self.trust.places().fleet);
        let change = |Trusted { membership, registrar }: &mut Trusted| match registrar {
            Some(registrar) => change(membership, registrar),
            None => Err(TrustError::NoFleet { path: path() }),
        };
        Ok(self.trust.change(self.now_s, change)?)
    }
}

pub(super) fn must_be_root() -> Done {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(CommandError::NotRoot),
    }
}

/// Runs a command.
pub(super) async fn run(command: Fleet, out: &mut impl Write) -> Done {
    let here = Here::open()?;
    let told = &mut io::stderr();
    match command {
        Fleet::Init(output) => key::init(&here, output, out),
        Fleet::Show(output) => list::show(&here, output, out),
        Fleet::List(list) => list::list(&here, list, out),
        Fleet::Token(token) => seed::token(&here, &token, out, told),
        Fleet::Approve { board, fingerprint } => {
            let boards = super::connect().await?.boards().await?;
            boards::approve(&here, &boards, &board, fingerprint.as_deref(), out)
        }
        Fleet::Revoke { node, yes } => boards::revoke(&here, &node, yes, out),
        Fleet::Rotate { finish: false, .. } => key::rotate(&here, out),
        Fleet::Rotate { finish: true, force } => key::finish_rotation(&here, force, out),
        Fleet::Invite { file, name, certificate } => {
            let text = read_text(&file)?;
            join::invite(&here, &text, name, certificate, out, told)
        }
        Fleet::Join { file: None, .. } => join::request(&here, out, told),
        Fleet::Join { file: Some(file), force } => {
            let files = Files::system();
            join::join(&here, &read_text(&file)?, force, &files, out)?;
            Ok(first_boot::apply_host_name(&files)?)
        }
    }
}

/// More than any text that these commands read: an invitation with the longest roster.
const MAX_TEXT: u64 = 4 << 20;

/// A file, or standard input if it is called `-`.
fn read_text(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let stdin = path == Path::new("-");
    let file = if stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = Zeroizing::new(String::new());
    let read = if stdin {
        io::stdin().lock().take(MAX_TEXT).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|it| it.take(MAX_TEXT).read_to_string(&mut text))
    };
    read.map_err(|source| CommandError::Read { file, source })?;
    Ok(text)
}

/// Asks at the terminal, if there is one.
pub(super) fn confirm(question: &str, otherwise: &str) -> Done {
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(CommandError::Refused(otherwise.to_owned()));
    }
    is_confirmed(question, &mut stdin.lock(), &mut stderr)
}

fn is_confirmed(question: &str, answers: &mut impl BufRead, told: &mut impl Write) -> Done {
    write!(told, "{question} (yes/no) ")?;
    told.flush()?;
    let mut answer = String::new();
    answers.take(100).read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(CommandError::Refused("nothing was done: the answer was not \"yes\"".to_owned())),
    }
}

/// A moment in seconds since 1970 as a date and time, in UTC.
fn moment(at_s: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at_s));
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    text.map_or_else(|| "for ever".to_owned(), |text| text.replace('T', " ").replace('Z', " UTC"))
}
