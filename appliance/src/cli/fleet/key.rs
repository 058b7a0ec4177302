//! The fleet's key: making and replacing it.

use std::{io::Write, path::PathBuf};

use serde::Serialize;

use super::{
    super::{args::Output, commands::print_json, error::CommandError},
    Done, Here,
};
use crate::trust::{Registrar, TrustError, Trusted, fingerprint_text};

#[derive(Serialize)]
struct Made {
    fleet: String,
    key_file: PathBuf,
}

pub(super) fn init(here: &Here, output: Output, out: &mut impl Write) -> Done {
    let folder = &here.trust.places().fleet;
    let key_file = Registrar::key_file(folder);
    let fleet = here.trust.change(here.now_s, |Trusted { membership, registrar }| {
        if registrar.is_some() {
            return Err(TrustError::FleetExists { path: key_file.clone() });
        }
        if let Some(authority) = membership.authorities().first() {
            return Err(TrustError::InFleet {
                fleet: fingerprint_text(authority),
                instead: format!(
                    "to make one of its own, move {} away before",
                    here.trust.places().trust.display()
                ),
            });
        }
        let new = Registrar::init(folder, here.now_s)?;
        new.certify_own(membership, here.role, here.now_s)?;
        let fleet = fingerprint_text(&new.authority());
        *registrar = Some(new);
        Ok(fleet)
    })?;
    if output.json {
        return print_json(&Made { fleet, key_file }, out);
    }
    Ok(write!(
        out,
        "\
Made the fleet {fleet}.

Its key is {path}
Copy that file to a place that is not this machine: it is the only one to keep. To restore the
fleet, put it back as root's with mode 0600, on this machine or on a fresh one, and start the daemon
there: who belongs to the fleet, and who no longer does, is learnt again from the boards. Seeds that
no board has used yet are lost then, and have to be written anew.

Next: `roost flash --board BOARD /dev/sdX` writes a board's card, with what lets it in.
",
        path = key_file.display()
    )?)
}

pub(super) fn rotate(here: &Here, out: &mut impl Write) -> Done {
    let role = here.role;
    let fleet = here.with_key(|membership, registrar| {
        let key = registrar.rotate(membership, here.now_s)?;
        registrar.certify_own(membership, role, here.now_s)?;
        Ok(fingerprint_text(&key))
    })?;
    let path = Registrar::key_file(&here.trust.places().fleet);
    Ok(write!(
        out,
        "\
The fleet has a new key, {fleet}.
The old one counts, too, until `roost fleet rotate --finish`.

Copy {path} again to where its copy is kept, and keep the old copy until the end.
Each board is given certificates of the new key when it is connected; `roost fleet list` shows which
have them. Invited workstations take theirs from the boards when they are on; a machine without roost
needs one of `roost fleet invite --certificate`. Seeds that were written before have to be written
anew, unless their boards are enrolled before the end.
",
        path = path.display()
    )?)
}

pub(super) fn finish_rotation(
    here: &Here,
    force: bool,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let invited = here.with_key(|membership, registrar| {
        registrar.finish_rotation(membership, force, here.now_s)?;
        let members = membership.roster().map(|it| it.members.clone()).unwrap_or_default();
        Ok(members.into_iter().filter(|it| it.certificate.is_some()).map(|it| it.name))
    })?;
    writeln!(
        out,
        "The old key counts no longer: every node that can be reached knows within seconds.\nThe copy of \
         the old key is of no use any more."
    )?;
    // They take what is new out of the roster, and nobody is told of it.
    let invited: Vec<_> = invited.collect();
    if !invited.is_empty() {
        writeln!(
            out,
            "Whichever of these was off since the new key was made has to be invited again: {}",
            invited.join(", ")
        )?;
    }
    Ok(())
}
