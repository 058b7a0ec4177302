//! Tokens and seeds.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    super::{commands::print_json, error::CommandError},
    Done, Here,
    args::{Content, Seed as SeedArgs, Source, Token as TokenArgs},
    moment, read_text,
};
use crate::{
    media::SeedPlace,
    trust::{PublicKey, Secret, Seed, TokenId, Wifi},
};

/// A seed, and the token that was made for it.
struct Made {
    text: Zeroizing<String>,
    token: Option<Issued>,
}

/// A token by its id, and when it ends, in seconds since 1970.
pub(in crate::cli) type Issued = (TokenId, u64);

/// A seed in which nothing is wrong, and which has no token yet.
pub(in crate::cli) enum Draft<'h> {
    /// To be made here; for so many seconds and for one kind of board if there is to be a token.
    New { here: &'h Here, seed: Box<Seed>, token: Option<(u64, Option<String>)> },
    /// One that was made elsewhere.
    Given(Zeroizing<String>),
}

/// `roost fleet token`, as JSON.
#[derive(Serialize)]
struct TokenMade<'a> {
    token: Option<String>,
    expires_s: Option<u64>,
    seed: &'a str,
}

/// `roost seed`, as JSON.
#[derive(Serialize)]
struct Written<'a> {
    target: &'a Path,
    token: Option<String>,
    expires_s: Option<u64>,
}

pub(super) fn token(
    here: &Here,
    args: &TokenArgs,
    out: &mut impl Write,
    told: &mut impl Write,
) -> Done {
    if let Some(id) = &args.withdraw {
        return withdraw(here, id, out);
    }
    let made = Draft::new(here, &args.content, true)?.make()?;
    let printed = print(&made, args.output.json, out).and_then(|()| Ok(out.flush()?));
    if let (Err(_), Some((id, _))) = (&printed, made.token) {
        // Nobody has it.
        here.with_key(|_, registrar| registrar.tokens.withdraw(id))?;
    }
    printed?;
    if let (Some((id, expires_s)), false) = (made.token, args.output.json) {
        writeln!(
            told,
            "This seed is a secret: whoever has it can enrol one board. It is good until {}; `roost \
             fleet token --withdraw {id}` ends it before.",
            moment(expires_s)
        )?;
    }
    Ok(())
}

fn print(made: &Made, json: bool, out: &mut impl Write) -> Done {
    if json {
        let token = made.token.map(|(id, _)| id.to_string());
        let expires_s = made.token.map(|(_, expires_s)| expires_s);
        return print_json(&TokenMade { token, expires_s, seed: &made.text }, out);
    }
    Ok(out.write_all(made.text.as_bytes())?)
}

fn withdraw(here: &Here, text: &str, out: &mut impl Write) -> Done {
    let unknown = || {
        let why = format!("there is no token {text}; `roost fleet list --tokens` lists them");
        CommandError::NoBoard(why)
    };
    let id = TokenId::parse(text).ok_or_else(unknown)?;
    let (used, found) = here.with_key(|_, registrar| {
        let used = registrar.tokens.list().into_iter().find(|it| it.id == text);
        Ok((used.and_then(|it| it.holder), registrar.tokens.withdraw(id)?))
    })?;
    if !found {
        return Err(unknown());
    }
    writeln!(out, "the token {id} lets nobody in any more")?;
    if let Some(holder) = used {
        let id = holder.id;
        writeln!(out, "board {id} has used it before; `roost fleet revoke {id}` sends it away")?;
    }
    Ok(())
}

impl<'h> Draft<'h> {
    /// Finds out what can be wrong with a seed before there is a token for it.
    pub(in crate::cli) fn of(
        here: Option<&'h Here>,
        source: &Source,
    ) -> Result<Self, CommandError> {
        match here {
            Some(here) => Self::new(here, &source.content, !source.no_token),
            None => {
                let text = read_text(source.from.as_deref().unwrap_or(Path::new("-")))?;
                Seed::parse(text.as_bytes())?;
                Ok(Self::Given(text))
            }
        }
    }

    fn new(here: &'h Here, content: &Content, with_token: bool) -> Result<Self, CommandError> {
        let wifi = match (&content.wifi, &content.wifi_passphrase_file) {
            (Some(ssid), Some(file)) => {
                Some(Wifi { ssid: ssid.clone(), passphrase: passphrase(file)? })
            }
            _ => None,
        };
        let console_key = content.console_key.as_deref().map(console_key).transpose()?;
        let hostname = content.hostname.clone();
        let authority = here.with_key(|_, registrar| Ok(registrar.authority()))?;
        let mut seed = Seed::new(authority, None, here.now_s);
        (seed.hostname, seed.console_key, seed.wifi) = (hostname, console_key, wifi);
        seed.checked().map_err(|bad| CommandError::Refused(bad.why().to_owned()))?;
        let token = with_token.then(|| (content.valid.as_secs(), content.for_board.clone()));
        Ok(Self::New { here, seed: Box::new(seed), token })
    }

    fn make(self) -> Result<Made, CommandError> {
        let (here, mut seed, token) = match self {
            Self::Given(text) => return Ok(Made { text, token: None }),
            Self::New { here, seed, token } => (here, seed, token),
        };
        // Writing an image took its time.
        let now_s = (here.clock)();
        seed.made_s = now_s;
        let Some((valid_s, for_board)) = token else {
            return Ok(Made { text: seed.to_toml()?, token: None });
        };
        let token =
            here.with_key(|_, registrar| registrar.tokens.issue(valid_s, for_board, now_s))?;
        let id = token.key().id();
        let text = (*seed).with_token(&token).to_toml()?;
        Ok(Made { text, token: Some((id, now_s.saturating_add(valid_s))) })
    }

    /// Makes the seed and has it written; takes its token back if that fails.
    pub(in crate::cli) fn put(
        self,
        write: impl FnOnce(&[u8]) -> Done,
    ) -> Result<Option<Issued>, CommandError> {
        let here = match &self {
            Self::New { here, .. } => Some(*here),
            Self::Given(_) => None,
        };
        let made = self.make()?;
        let Err(failed) = write(made.text.as_bytes()) else { return Ok(made.token) };
        if let (Some(here), Some((id, _))) = (here, made.token) {
            let withdrawn = here.with_key(|_, registrar| registrar.tokens.withdraw(id));
            if let Err(kept) = withdrawn {
                let why = format!("{failed}; and its token {id} could not be taken back: {kept}");
                return Err(CommandError::Refused(why));
            }
        }
        Err(failed)
    }
}

/// The file's text without the line end that editors leave.
fn passphrase(file: &Path) -> Result<Secret, CommandError> {
    let mut text = read_text(file)?;
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    Ok(text.into())
}

pub(super) fn console_key(file: &Path) -> Result<PublicKey, CommandError> {
    let text = read_text(file)?;
    PublicKey::from_openssh(text.trim()).map_err(|error| {
        let why = format!(
            "{} is no SSH public key ({error}); give a file that ends in .pub",
            file.display()
        );
        CommandError::Refused(why)
    })
}

/// This machine if a seed is to be made, for which it needs the fleet's key.
pub(in crate::cli) fn maker(source: &Source) -> Result<Option<Here>, CommandError> {
    match source.from {
        Some(_) => Ok(None),
        None => Here::open().map(Some),
    }
}

/// `roost seed`.
pub(in crate::cli) fn write(args: &SeedArgs, out: &mut impl Write) -> Done {
    write_with(maker(&args.source)?.as_ref(), args, out)
}

pub(super) fn write_with(here: Option<&Here>, args: &SeedArgs, out: &mut impl Write) -> Done {
    let target: &PathBuf = &args.target;
    let place = SeedPlace::open(target)?;
    if !args.replace && place.read()?.is_some() {
        return Err(CommandError::Refused(format!(
            "{} has a seed that no board has taken yet; --replace writes over it",
            target.display()
        )));
    }
    let draft = Draft::of(here, &args.source)?;
    let issued = draft.put(|seed| Ok(place.write(seed)?))?;
    if args.output.json {
        let token = issued.map(|(id, _)| id.to_string());
        let expires_s = issued.map(|(_, expires_s)| expires_s);
        return print_json(&Written { target, token, expires_s }, out);
    }
    let next = what_next(issued, &args.source);
    Ok(writeln!(out, "Wrote the seed to {}.\n{next}", target.display())?)
}

/// How long a token is good for.
pub(in crate::cli) fn how_long((id, expires_s): Issued) -> String {
    format!("Its token {id} lets in one board, until {}.", moment(expires_s))
}

/// What becomes of a board with the seed.
pub(in crate::cli) fn what_next(issued: Option<Issued>, source: &Source) -> String {
    match (issued, source.no_token) {
        (Some(issued), _) => format!(
            "{} Start the board with it on this network: it enrols by itself, and `roost status` \
             shows it.",
            how_long(issued)
        ),
        (None, true) => {
            "Start the board with it on this network; `roost fleet approve` then lets it \
                         in, when you have compared its fingerprint."
                .to_owned()
        }
        (None, false) => {
            "Start the board with it on the network of the machine that made the seed: \
                          it enrols by itself."
                .to_owned()
        }
    }
}
