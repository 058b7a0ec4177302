//! Other machines that use the fleet: asking, inviting and joining.

use std::io::Write;

use super::{super::error::CommandError, Done, Here};
use crate::{
    first_boot::{self, Files},
    trust::{
        Invitation, JoinRequest, PublicKey, Registrar, Role, Seed, TrustError, Trusted,
        fingerprint_text,
    },
};

/// Prints this machine's request to be invited.
pub(super) fn request(here: &Here, out: &mut impl Write, told: &mut impl Write) -> Done {
    refuse_board(here)?;
    let own = here.trust.own();
    let request = JoinRequest::new(own.id.clone(), own.name.clone(), own.client_key.clone());
    out.write_all(request.to_toml()?.as_bytes())?;
    Ok(writeln!(
        told,
        "Carry this to the machine that holds the fleet's key (it is no secret): `roost fleet invite FILE` \
         there prints the invitation, and `roost fleet join FILE` here takes it."
    )?)
}

fn refuse_board(here: &Here) -> Done {
    match here.role {
        Role::Workstation => Ok(()),
        Role::Board => Err(CommandError::Refused(
            "this node is a board, and joins with a seed: `roost fleet token` on the machine that holds \
             the fleet's key prints one, and `roost fleet join FILE` here takes it"
                .to_owned(),
        )),
    }
}

pub(super) fn invite(
    here: &Here,
    text: &str,
    name: Option<String>,
    certificate: bool,
    out: &mut impl Write,
    told: &mut impl Write,
) -> Done {
    let request = asked(text, name)?;
    let invitation =
        here.with_key(|membership, registrar| registrar.invite(membership, &request, here.now_s))?;
    let print = fingerprint_text(&request.key);
    let JoinRequest { name, id, .. } = &request;
    if certificate {
        writeln!(out, "{}", invitation.certificate.trim())?;
        return Ok(write!(
            told,
            "\
Let in {name} ({id}) with the key {print}.
Put the line beside that machine's private key, as KEY-cert.pub: its ssh shows it by itself then.
`roost machines --direct` prints the lines for its /etc/nix/machines. The certificate lasts 90 days:
run this again before they are over.
"
        )?);
    }
    out.write_all(invitation.to_toml()?.as_bytes())?;
    Ok(writeln!(
        told,
        "Let in {name} ({id}) with the key {print}. Carry this invitation there (it is no secret): `roost \
         fleet join FILE` takes it."
    )?)
}

/// What a request or a public key asks for.
fn asked(text: &str, name: Option<String>) -> Result<JoinRequest, CommandError> {
    let refused = |why: &str| Err(CommandError::Refused(why.to_owned()));
    if text.contains("PRIVATE KEY-----") {
        return refused(
            "this is a private key, which belongs on its own machine alone; give its .pub file",
        );
    }
    if let Ok(key) = PublicKey::from_openssh(text.trim()) {
        let Some(name) = name else {
            return refused("a public key says not whose it is: --name says it");
        };
        let key = PublicKey::from(key.key_data().clone());
        return Ok(JoinRequest::new(name.clone(), name, key));
    }
    let mut request = JoinRequest::parse(text)?;
    request.name = name.unwrap_or(request.name);
    Ok(request)
}

/// Takes an invitation or a seed.
pub(super) fn join(
    here: &Here,
    text: &str,
    force: bool,
    files: &Files,
    out: &mut impl Write,
) -> Done {
    let is_invitation =
        toml::from_str::<toml::Table>(text).is_ok_and(|it| it.contains_key("roster"));
    let fleet = if is_invitation {
        let invitation = Invitation::parse(text)?;
        refuse_board(here)?;
        here.trust.change(here.now_s, |it| {
            refuse_other(here, it, &invitation.authority, it.membership.knows(&invitation), force)?;
            it.membership.join(&invitation, here.now_s)
        })?;
        fingerprint_text(&invitation.authority)
    } else {
        let seed = Seed::parse(text.as_bytes())?;
        take_seed(here, seed, force, files)?
    };
    Ok(writeln!(out, "This machine is of the fleet {fleet} now; `roost fleet show` tells more.")?)
}

fn take_seed(here: &Here, seed: Seed, force: bool, files: &Files) -> Result<String, CommandError> {
    if here.trust.own().host_key.is_none() {
        return Err(CommandError::Refused(
            "a seed is for boards, and this node is none (`board.enable`); `roost fleet join` prints the \
             request of a workstation"
                .to_owned(),
        ));
    }
    let fleet = fingerprint_text(&seed.authority);
    here.trust.look(|it| {
        let known = it.membership.authorities().contains(&seed.authority);
        refuse_other(here, it, &seed.authority, known, force)
    })?;
    first_boot::take(seed, files, &here.trust, here.now_s)?;
    Ok(fleet)
}

/// A fleet is not left in silence, and never by the machine that holds its key.
fn refuse_other(
    here: &Here,
    trusted: &Trusted,
    authority: &PublicKey,
    known: bool,
    force: bool,
) -> Result<(), TrustError> {
    let Some(present) = trusted.membership.authorities().first().cloned() else { return Ok(()) };
    let fleet = fingerprint_text(&present);
    let key_file = Registrar::key_file(&here.trust.places().fleet);
    let instead = match (&trusted.registrar, known) {
        (Some(_), true) => "it holds that fleet's key, and needs no invitation".to_owned(),
        (Some(_), false) => {
            format!("it holds that fleet's key: move {} away before", key_file.display())
        }
        (None, false) if !force => {
            format!("--force leaves it for {}", fingerprint_text(authority))
        }
        (None, _) => return Ok(()),
    };
    Err(TrustError::InFleet { fleet, instead })
}
