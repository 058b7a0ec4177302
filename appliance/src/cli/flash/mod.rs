//! `roost flash`: an image, a target and a seed come together here.
//!
//! Whatever can be refused is refused before anything is built, and again before anything is written.

pub mod args;
mod boards;
mod progress;
mod show;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use board_support::boards::Board;
use serde::Serialize;

use super::{
    commands::print_json,
    error::CommandError,
    fleet::{self, Draft, Issued},
};
use crate::{
    flash::{self, Asked, Image, Place, Target},
    media::Kernel,
};
use args::Flash;
use boards::For;
use progress::{Progress, Signals};
use show::Shown;

type Done = Result<(), CommandError>;

/// What was done, as JSON.
#[derive(Serialize)]
struct Flashed<'a> {
    target: &'a Path,
    image: &'a Path,
    board: Option<&'a str>,
    version: Option<&'a str>,
    size_bytes: u64,
    verified: bool,
    seeded: bool,
    token: Option<String>,
    expires_s: Option<u64>,
}

/// Runs the command.
pub(super) fn run(args: &Flash, out: &mut impl Write) -> Done {
    let kernel = Kernel::default();
    if args.list {
        return list(&kernel, args, out);
    }
    let Some(target) = &args.target else {
        list(&kernel, args, out)?;
        let why = "which of these? Name the device, or a file: roost flash … /dev/sdX";
        return Err(CommandError::Refused(why.to_owned()));
    };
    let board = args.board.as_deref().map(boards::find).transpose()?;
    match (board, &args.image) {
        (None, None) => return Err(which_image()),
        (Some(board), None) => boards::has_image(board)?,
        (_, Some(_)) => {}
    }
    let mut asked = Asked { size_bytes: None, force: args.force };
    flash::look(&kernel, target)?.refuse(target, asked)?;
    // A seed takes the fleet's key: that there is one is known before anything takes long.
    let here = if args.no_seed { None } else { fleet::maker(&args.source)? };
    let draft = match args.no_seed {
        true => None,
        false => Some(Draft::of(here.as_ref(), &args.source)?),
    };

    let file = match &args.image {
        Some(image) => image.clone(),
        None => built(args, board)?,
    };
    let mut image = Image::open(&file)?;
    let mut progress = Progress::new(Signals::default());
    let says = flash::label_of(&image, &progress)?;
    let is_for = boards::agree(board, says, draft.is_some())?;
    let size_bytes = image.measure(&mut progress)?;
    drop(progress);
    if let Some(notice) = &is_for.notice {
        eprintln!("roost: {notice}");
    }

    asked.size_bytes = Some(size_bytes);
    let place = flash::look(&kernel, target)?;
    place.refuse(target, asked)?;
    confirm(args, target, &place)?;
    let signals = Signals::catch().map_err(CommandError::Signals)?;
    let mut opened = Target::open(target, &place, &image, size_bytes)?;
    let mut progress = Progress::new(signals.clone());
    let written = flash::write(&image, size_bytes, &opened, &mut progress);
    drop(progress);
    written.map_err(|why| match signals.caught().filter(|_| why.is_stop()) {
        Some(signal) => CommandError::Stopped { why, signal },
        None => why.into(),
    })?;

    let seeded = draft.is_some();
    let issued = seed(draft, &mut opened, target)?;
    opened.finish()?;
    if args.output.json {
        let flashed = Flashed {
            target,
            image: image.path(),
            board: is_for.id.as_deref(),
            version: is_for.version.as_deref(),
            size_bytes,
            verified: true,
            seeded,
            token: issued.map(|(id, _)| id.to_string()),
            expires_s: issued.map(|(_, expires_s)| expires_s),
        };
        return print_json(&flashed, out);
    }
    tell(args, target, &is_for, issued, out)
}

fn list(kernel: &Kernel, args: &Flash, out: &mut impl Write) -> Done {
    let asked = Asked { size_bytes: None, force: args.force };
    let disks = flash::disks(kernel)?;
    let shown: Vec<_> = disks.iter().map(|disk| Shown::of(disk, asked)).collect();
    if args.output.json {
        return print_json(&shown, out);
    }
    Ok(out.write_all(show::table(&shown).as_bytes())?)
}

/// The image that Nix builds for a board.
fn built(args: &Flash, board: Option<&Board>) -> Result<PathBuf, CommandError> {
    let Some(board) = board else { return Err(which_image()) };
    Ok(flash::build(&args.flake, board.id)?)
}

fn which_image() -> CommandError {
    let why = "which image? Say for which board (--board), or give one (--image)";
    CommandError::Refused(why.to_owned())
}

fn confirm(args: &Flash, target: &Path, place: &Place) -> Done {
    match show::question(target, place) {
        Some(question) if !args.yes => {
            let otherwise = format!(
                "nothing was done: {} would be overwritten, and there is no terminal to ask at; \
                 --yes answers",
                target.display()
            );
            fleet::confirm(&question, &otherwise)
        }
        _ => Ok(()),
    }
}

/// Puts the seed there; a token whose seed is not there is good for nothing.
fn seed(
    draft: Option<Draft<'_>>,
    opened: &mut Target,
    target: &Path,
) -> Result<Option<Issued>, CommandError> {
    let Some(draft) = draft else { return Ok(None) };
    draft
        .put(|seed| Ok(opened.seed(seed)?))
        .map_err(|why| CommandError::NoSeed { target: target.to_owned(), why: Box::new(why) })
}

fn tell(
    args: &Flash,
    target: &Path,
    is_for: &For,
    issued: Option<Issued>,
    out: &mut impl Write,
) -> Done {
    let name = is_for.id.as_deref().map_or("the board", boards::name);
    let target = target.display();
    writeln!(out, "Wrote and verified {target}.")?;
    if args.no_seed {
        writeln!(out, "It has no seed: `roost seed {target}` lets its board into a fleet.")?;
    } else if let Some(issued) = issued {
        let how_long = fleet::how_long(issued);
        writeln!(out, "Plug it into {name}; it appears in `roost status`.\n{how_long}")?;
    } else {
        writeln!(out, "Plug it into {name}. {}", fleet::what_next(None, &args.source))?;
    }
    if let Some(id) = &is_for.id {
        if let Some(first_boot) = boards::first_boot(id) {
            writeln!(out, "Before that: {first_boot}")?;
        }
        writeln!(out, "How {name} starts from it: {}", boards::page(id))?;
    }
    Ok(())
}
