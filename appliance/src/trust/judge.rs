//! Who may be used: what a board announces, held against what this node knows. No I/O.

use board_support::Announcement;

use super::{
    Fingerprint, membership::Membership, registrar::Registrar, roster::Member, token::TokenId,
};

/// How this node stands to a board that announces itself. Nothing of an announcement is believed: it
/// only says what the board has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the fleet, and has to show a certificate.
    Member,
    /// It may join: it has to prove this very host key, and gets a certificate.
    Enrol {
        /// The token that lets it in; none if it was approved by hand.
        token: Option<TokenId>,
    },
    /// It says that it belongs to the fleet, and nobody here knows it. A certificate would prove it.
    Claims,
    /// It was sent away.
    Revoked {
        /// What it was called.
        name: String,
    },
    /// It is not for us.
    Stranger {
        /// Why not, and what to do, in words.
        why: String,
    },
}

/// Judges a board.
#[must_use]
pub fn judge(
    membership: &Membership,
    registrar: Option<&Registrar>,
    board: &Announcement,
    now_s: u64,
) -> Verdict {
    let id = board.id.as_str();
    let host_key: &Fingerprint = &board.host_key.0;
    let roster = membership.roster();
    if membership.is_revoked(host_key) {
        let known = roster.and_then(|roster| roster.revoked(host_key));
        return Verdict::Revoked { name: known.map_or(id, |it| it.name.as_str()).to_owned() };
    }
    let member = roster.is_some_and(|roster| roster.board(id, host_key).is_some());
    if member && !registrar.is_some_and(|it| is_let_in_anew(it, board, now_s)) {
        return Verdict::Member;
    }
    if membership.authorities().is_empty() {
        let why = "this machine belongs to no fleet: `roost fleet init` makes one, `roost fleet join` \
                   joins one";
        return stranger(why);
    }
    let holder = roster.and_then(|roster| roster.member(id)).filter(|_| !member);
    if let Some(registrar) = registrar {
        let let_in = registrar.tokens.judge(board, now_s);
        if let_in.is_ok() || registrar.is_approved(id, host_key) {
            let enrol = Verdict::Enrol { token: let_in.ok() };
            return holder.map_or(enrol, id_taken);
        }
        if let (Some(_), Err(refusal)) = (&board.proof, let_in) {
            return if is_ours(membership, board) {
                stranger(&refusal.to_string())
            } else {
                stranger("it was seeded for another fleet")
            };
        }
    }
    match (&board.fleet, is_ours(membership, board)) {
        (None, _) => stranger("it belongs to no fleet: it needs a seed (`roost seed`)"),
        (Some(_), false) => stranger("it belongs to another fleet"),
        (Some(_), true) if board.proof.is_some() => {
            stranger("it waits for the workstation that made its seed")
        }
        (Some(_), true) => holder.map_or(Verdict::Claims, id_taken),
    }
}

fn stranger(why: &str) -> Verdict {
    Verdict::Stranger { why: why.to_owned() }
}

/// A board with the id of another one.
fn id_taken(holder: &Member) -> Verdict {
    stranger(&format!(
        "its id belongs to {name} of this fleet, with another host key. Unless {name} itself was set up \
         anew, it only says that it is {name}: compare its host key with the one on {name}'s console. If \
         it is the same board, `roost fleet revoke {id}` makes room for it",
        name = holder.name,
        id = holder.id
    ))
}

/// Whether a board says that it belongs to this fleet.
fn is_ours(membership: &Membership, board: &Announcement) -> bool {
    membership.tags().iter().any(|tag| Some(tag) == board.fleet.as_ref())
}

/// Whether a board that belongs to the fleet is to be given certificates as if it did not: those it had
/// have ended, and it was given a new seed, or approved.
fn is_let_in_anew(registrar: &Registrar, board: &Announcement, now_s: u64) -> bool {
    let token = registrar.tokens.judge(board, now_s);
    token.is_ok_and(|token| !registrar.tokens.is_spent(token))
        || registrar.is_approved(board.id.as_str(), &board.host_key.0)
}
