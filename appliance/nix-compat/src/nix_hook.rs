//! What Nix tells its build hook (the setting `build-hook`, stock: `nix __build-remote`), from Nix 2.18 to
//! 2.34.
//!
//! On the hook's standard input come Nix's settings (a 1, name and value for each; a 0), then one
//! *try* after another: the word `try`, whether Nix has a slot of its own free, the system, the
//! derivation and the features it requires. The hook answers each on standard error with a line, of
//! which [`DECLINE`] has Nix build by itself. Once it has accepted one, the inputs and the wanted outputs
//! follow, and then nothing more. Nothing tells them from a try but their bytes: they begin with a count,
//! and if that should be the length of `try`, what follows is the length of a store path.
//!
//! [`Listener`] cuts this into messages, as they come, and keeps every byte: whoever stands between Nix
//! and a hook can pass all of them on as they were. [`Answers`] does so with what a hook says: its answers,
//! each a line that begins with `# `, and Nix's log messages.

use std::collections::BTreeSet;

use crate::wire::{MAX_WORD, padding};

/// The answer to a try that has Nix build by itself, as a line of its own. If it has no slot free, it asks
/// again as soon as any build that it waits for has ended.
pub const DECLINE: &[u8] = b"# decline\n";

/// The answer to a try that has Nix leave the derivation to the hook, and `builder` be named as the machine
/// that builds it. Nix then tells the inputs and the wanted outputs, and asks no more.
#[must_use]
pub fn accept(builder: &str) -> Vec<u8> {
    format!("{ANSWER}{ACCEPT}\n{builder}\n").into_bytes()
}

/// What an answer begins with, and no message of the log.
const ANSWER: &str = "# ";

/// The answer of a hook that builds it. The next line names the machine.
const ACCEPT: &str = "accept";

/// The answer of a hook that would build it, and has no place for it now.
const POSTPONE: &str = "postpone";

/// The word that a try begins with.
const TRY: &str = "try";

/// Longest try: Nix's own are below 1 KiB. What is longer is not understood.
const MAX_TRY: usize = 64 << 10;

/// Longest line of a hook: messages of the log are shorter. A longer one is no answer.
const MAX_LINE: usize = 1 << 20;

/// Longest setting: a name and a value of [`MAX_WORD`] each, and their lengths.
const MAX_SETTING: usize = (128 << 10) + 24;

/// Nix asks whether the hook builds a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Whether Nix has a slot of its own free (`amWilling`).
    pub willing: bool,
    /// The derivation's system.
    pub system: String,
    /// The derivation, as an absolute path.
    pub drv_path: String,
    /// The features that it requires.
    pub features: BTreeSet<String>,
    /// The message as it came.
    pub bytes: Vec<u8>,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A setting, or the end of the settings.
    Setting(Vec<u8>),
    /// What follows the last try, and everything that is not understood.
    Other(Vec<u8>),
    /// A try, which wants an answer.
    Try(Try),
    /// Nothing, until more has come.
    Nothing,
}

/// The settings that say where Nix builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    system: String,
    extra_platforms: BTreeSet<String>,
    features: BTreeSet<String>,
    builders: String,
    max_jobs: u32,
}

/// How far the conversation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Settings,
    Tries,
    /// Nothing more is looked at: the hook has accepted, or what came is not understood.
    Over,
}

/// Listens to what Nix tells its hook.
#[derive(Debug, Default)]
pub struct Listener {
    phase: Phase,
    held: Vec<u8>,
    settings: Settings,
}

impl Listener {
    /// Takes what has come. It is held until [`Listener::hear`] gives it back.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next message, if it is complete. To be called until it is [`Heard::Nothing`]; what is held
    /// then is less than one message, of bounded length.
    pub fn hear(&mut self) -> Heard {
        if self.held.is_empty() {
            return Heard::Nothing;
        }
        let heard = match self.phase {
            Phase::Settings => self.setting(),
            Phase::Tries => self.a_try(),
            Phase::Over => Err(Lack::Sense),
        };
        let max = if self.phase == Phase::Settings { MAX_SETTING } else { MAX_TRY };
        match heard {
            Ok(heard) => heard,
            Err(Lack::Bytes) if self.held.len() <= max => Heard::Nothing,
            Err(_) => {
                self.phase = Phase::Over;
                Heard::Other(self.rest())
            }
        }
    }

    /// What is held of an incomplete message, when no more will come.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether Nix, by its settings, can build such a thing by itself, now or when it has a slot free. A
    /// build that is declined and that it cannot do fails.
    #[must_use]
    pub fn builds_itself(&self, wanted: &Try) -> bool {
        let Settings { system, extra_platforms, features, max_jobs, .. } = &self.settings;
        *max_jobs > 0
            && (*system == wanted.system || extra_platforms.contains(&wanted.system))
            && wanted.features.is_subset(features)
    }

    /// The setting `builders`: where else Nix may have things built.
    #[must_use]
    pub fn builders(&self) -> &str {
        &self.settings.builders
    }

    /// The setting `max-jobs`: how many builds Nix runs at once by itself.
    #[must_use]
    pub fn max_jobs(&self) -> u32 {
        self.settings.max_jobs
    }

    fn setting(&mut self) -> Result<Heard, Lack> {
        let mut reader = Reader { bytes: &self.held, at: 0 };
        if reader.number()? == 0 {
            self.phase = Phase::Tries;
        } else {
            let (name, value) = (reader.text(MAX_WORD)?, reader.bytes(MAX_WORD)?);
            let text = || String::from_utf8_lossy(value).into_owned();
            let words = || text().split_whitespace().map(str::to_owned).collect();
            match name {
                "system" => self.settings.system = text(),
                "extra-platforms" => self.settings.extra_platforms = words(),
                "system-features" => self.settings.features = words(),
                "builders" => self.settings.builders = text(),
                "max-jobs" => self.settings.max_jobs = text().parse().unwrap_or_default(),
                _ => {}
            }
        }
        let len = reader.at;
        Ok(Heard::Setting(self.held.drain(..len).collect()))
    }

    fn a_try(&mut self) -> Result<Heard, Lack> {
        let mut reader = Reader { bytes: &self.held, at: 0 };
        if reader.text(TRY.len() as u64)? != TRY {
            return Err(Lack::Sense);
        }
        let willing = reader.number()? != 0;
        let system = reader.text(MAX_WORD)?.to_owned();
        let drv_path = reader.text(MAX_WORD)?.to_owned();
        let count = reader.number()?;
        let mut features = BTreeSet::new();
        // As many as are said, and never more than have come.
        for _ in 0..count {
            features.insert(reader.text(MAX_WORD)?.to_owned());
        }
        let len = reader.at;
        let bytes = self.held.drain(..len).collect();
        Ok(Heard::Try(Try { willing, system, drv_path, features, bytes }))
    }
}

/// What a hook answers to a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It builds it. All that it says from now on is for Nix's log.
    Accepts,
    /// It would, and has no place for it now.
    Postpones,
    /// It does not, in this word.
    Declines(String),
}

/// What a hook has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something for Nix's log, as it came.
    Other(Vec<u8>),
    /// Its answer.
    Answer(Answer),
    /// Nothing, until more has come.
    Nothing,
}

/// How far a hook's answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// It accepts, and the name of the machine is still to come.
    Accepting,
    Accepted,
}

/// Listens to what a hook says.
#[derive(Debug, Default)]
pub struct Answers {
    held: Vec<u8>,
    stage: Stage,
}

impl Answers {
    /// Takes what has come. It is held until [`Answers::hear`] gives it back.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next line, if it is complete. To be called until it is [`Said::Nothing`]; what is held then is
    /// less than one line, of bounded length.
    pub fn hear(&mut self) -> Said {
        loop {
            let end = self.held.iter().position(|byte| *byte == b'\n');
            let len = match (self.stage, end) {
                (Stage::Accepted, _) => self.held.len(),
                (_, Some(end)) => end + 1,
                (_, None) if self.held.len() > MAX_LINE => self.held.len(),
                (_, None) => 0,
            };
            if len == 0 {
                return Said::Nothing;
            }
            let line: Vec<u8> = self.held.drain(..len).collect();
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            match (self.stage, text.strip_prefix(ANSWER.as_bytes())) {
                (Stage::Accepting, _) => {
                    self.stage = Stage::Accepted;
                    return Said::Answer(Answer::Accepts);
                }
                (Stage::Open, Some(answer)) => match String::from_utf8_lossy(answer) {
                    answer if answer == ACCEPT => self.stage = Stage::Accepting,
                    answer if answer == POSTPONE => return Said::Answer(Answer::Postpones),
                    answer => return Said::Answer(Answer::Declines(answer.into_owned())),
                },
                (Stage::Open, None) | (Stage::Accepted, _) => return Said::Other(line),
            }
        }
    }
}

/// Why there is no message.
enum Lack {
    /// It is not complete.
    Bytes,
    /// It is no message.
    Sense,
}

/// Reads from what has come.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Lack> {
        let end = self.at.checked_add(len).ok_or(Lack::Sense)?;
        let taken = self.bytes.get(self.at..end).ok_or(Lack::Bytes)?;
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, Lack> {
        let bytes = self.take(8)?.try_into().map_err(|_| Lack::Sense)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn bytes(&mut self, max: u64) -> Result<&'a [u8], Lack> {
        let len = self.number()?;
        let short = usize::try_from(len).ok().filter(|_| len <= max);
        let bytes = self.take(short.ok_or(Lack::Sense)?)?;
        let zeros = self.take(padding(len))?;
        if zeros.iter().all(|byte| *byte == 0) { Ok(bytes) } else { Err(Lack::Sense) }
    }

    fn text(&mut self, max: u64) -> Result<&'a str, Lack> {
        std::str::from_utf8(self.bytes(max)?).map_err(|_| Lack::Sense)
    }
}
