//! What is known of the fleet.

use std::io::Write;

use serde::Serialize;

use super::{
    super::{args::Output, commands::print_json},
    Done, Here,
    args::List,
    render,
};
use crate::{
    names,
    trust::{
        Enrolment, Member, Membership, PublicKey, Purpose, Registrar, Revoked, Role, Trusted,
        fingerprint_text,
    },
};

/// How this node stands to its fleet.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role: Role,
    /// The fleet's keys that count, as `SHA256:…`, the present one first.
    pub(super) fleet: Vec<String>,
    /// Whether the fleet's key is on this machine.
    pub(super) holds_key: bool,
    /// Whether it is being replaced, as far as this node knows.
    pub(super) rotating: bool,
    /// `none`, `waiting`, `enrolled` or `ended`.
    pub(super) enrolment: &'static str,
    /// What was wrong with the seed.
    pub(super) problem: Option<String>,
    /// Until when this node's certificates last, in seconds since 1970.
    pub(super) until_s: Option<u64>,
    /// The number of the roster.
    pub(super) roster: u64,
    /// How many nodes the fleet has.
    pub(super) members: usize,
    /// How many were sent away.
    pub(super) revoked: usize,
}

/// A node of the fleet.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) role: Role,
    pub(super) since_s: u64,
    /// Fingerprints of its keys, as `SHA256:…`.
    pub(super) host_key: Option<String>,
    pub(super) client_key: String,
    /// Whether its certificates are of the fleet's present key.
    pub(super) current: bool,
    /// Until when its certificate lasts, if the roster has it.
    pub(super) until_s: Option<u64>,
}

/// A node that was sent away.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Gone {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) at_s: u64,
    /// Fingerprints of its keys, as `SHA256:…`.
    pub(super) keys: Vec<String>,
}

pub(super) fn show(here: &Here, output: Output, out: &mut impl Write) -> Done {
    let shown = here.trust.look(|it| shown(it, here.role, here.now_s));
    if output.json {
        return print_json(&shown, out);
    }
    Ok(out.write_all(render::show(&shown, here.now_s).as_bytes())?)
}

fn shown(trusted: &Trusted, role: Role, now_s: u64) -> Shown {
    let Trusted { membership, registrar } = trusted;
    let own = membership.own();
    let (enrolment, problem, until_s) = match membership.enrolment(now_s) {
        Enrolment::None { problem } => ("none", problem, None),
        Enrolment::Waiting { .. } => ("waiting", None, None),
        Enrolment::Enrolled { until_s } => ("enrolled", None, Some(until_s)),
        Enrolment::Ended => ("ended", None, None),
    };
    let fleet: Vec<_> = membership.authorities().iter().map(fingerprint_text).collect();
    let roster = membership.roster();
    Shown {
        id: own.id.clone(),
        name: own.name.clone(),
        role,
        holds_key: registrar.is_some(),
        rotating: fleet.len() > 1 || registrar.as_ref().is_some_and(Registrar::is_rotating),
        fleet,
        enrolment,
        problem,
        until_s,
        roster: roster.map_or(0, |roster| roster.number),
        members: roster.map_or(0, |roster| roster.members.len()),
        revoked: roster.map_or(0, |roster| roster.revoked.len()),
    }
}

pub(super) fn list(here: &Here, what: List, out: &mut impl Write) -> Done {
    let now_s = here.now_s;
    if what.tokens {
        let tokens = here.with_key(|_, registrar| Ok(registrar.tokens.list()))?;
        return match what.output.json {
            true => print_json(&tokens, out),
            false => Ok(out.write_all(render::tokens(&tokens, now_s).as_bytes())?),
        };
    }
    if what.revoked {
        let gone = here.trust.look(|it| gone(&it.membership));
        return match what.output.json {
            true => print_json(&gone, out),
            false => Ok(out.write_all(render::revoked(&gone, now_s).as_bytes())?),
        };
    }
    let members = here.trust.look(|it| members(&it.membership, now_s));
    match what.output.json {
        true => print_json(&members, out),
        false => Ok(out.write_all(render::members(&members, now_s).as_bytes())?),
    }
}

fn members(membership: &Membership, now_s: u64) -> Vec<Listed> {
    let authorities = membership.authorities();
    let present = authorities.first().map(fingerprint_text).unwrap_or_default();
    let members = membership.roster().map(|roster| roster.members.as_slice());
    let listed = |member: &Member| Listed {
        name: member.name.clone(),
        id: member.id.clone(),
        role: member.role,
        since_s: member.since_s,
        host_key: member.host_key.as_ref().map(fingerprint_text),
        client_key: fingerprint_text(&member.client_key),
        current: member.signed_by == present,
        until_s: until_s(member, &authorities, now_s),
    };
    members.unwrap_or_default().iter().map(listed).collect()
}

fn until_s(member: &Member, authorities: &[PublicKey], now_s: u64) -> Option<u64> {
    let text = member.certificate.as_ref()?;
    let key = &member.client_key;
    Purpose::User.check(text, key, names::USER, authorities, now_s).ok().map(|it| it.until_s)
}

fn gone(membership: &Membership) -> Vec<Gone> {
    let revoked = membership.roster().map(|roster| roster.revoked.as_slice());
    let gone = |it: &Revoked| Gone {
        name: it.name.clone(),
        id: it.id.clone(),
        at_s: it.at_s,
        keys: it.keys.iter().map(fingerprint_text).collect(),
    };
    revoked.unwrap_or_default().iter().map(gone).collect()
}
