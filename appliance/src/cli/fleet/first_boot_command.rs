//! `roost first-boot`: what systemd runs on a board before sshd, the network and the daemon.

use std::{io::Write, path::Path};

use super::{super::error::CommandError, Done, Here, must_be_root};
use crate::{
    first_boot::{self, Files, FirstBootError, Imported},
    names,
};

pub(in crate::cli) fn first_boot(from: Option<&Path>, out: &mut impl Write) -> Done {
    must_be_root()?;
    first_boot::make_host_key(Path::new(names::SSH_HOST_KEY)).map_err(FirstBootError::Key)?;
    let files = Files::system();
    // A name that was given before is given again, whatever becomes of the seed.
    let imported = import(from, &files);
    let named = first_boot::apply_host_name(&files).map_err(CommandError::from);
    match imported? {
        Imported::Nothing => {}
        Imported::Taken => writeln!(out, "the seed was taken, and erased from its medium")?,
        Imported::Unusable(why) => writeln!(out, "{why}; it was left where it is")?,
    }
    named
}

fn import(from: Option<&Path>, files: &Files) -> Result<Imported, CommandError> {
    let here = Here::open()?;
    let place = from.map_or_else(first_boot::default_place, Path::to_owned);
    Ok(first_boot::import(&place, files, &here.trust, here.now_s)?)
}
