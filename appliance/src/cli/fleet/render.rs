//! What the commands on a fleet print, from views alone.

use super::{
    super::{
        human,
        render::{lines, table},
    },
    list::{Gone, Listed, Shown},
    moment,
};
use crate::trust::{Role, TokenView};

/// `roost fleet show`.
pub(super) fn show(shown: &Shown, now_s: u64) -> String {
    let Some((present, earlier)) = shown.fleet.split_first() else {
        let mut text = format!("{} ({}) belongs to no fleet.\n", shown.name, shown.id);
        if let Some(problem) = &shown.problem {
            text += &format!("{problem}.\n");
        }
        return text
            + match shown.role {
                Role::Board => "`roost seed` on the workstation lets it in.\n",
                Role::Workstation => {
                    "`roost fleet init` makes one, `roost fleet join` joins one.\n"
                }
            };
    };
    let mut text = format!("{} ({}) is of the fleet\n{present}\n", shown.name, shown.id);
    for key in earlier {
        text += &format!("{key}, which is being replaced\n");
    }
    text += &match (shown.enrolment, shown.until_s) {
        (_, Some(until_s)) => {
            format!("enrolled until {}, in {}\n", moment(until_s), human::between(now_s, until_s))
        }
        ("ended", _) => "its certificates have ended\n".to_owned(),
        _ => "waiting for its certificates\n".to_owned(),
    };
    if shown.holds_key {
        text += "this machine holds the fleet's key\n";
    }
    if shown.holds_key && shown.rotating {
        text += "the key is being replaced: `roost fleet rotate --finish` ends that\n";
    }
    text + &format!(
        "roster {}: {}, {} sent away\n",
        shown.roster,
        human::count(count(shown.members), "node"),
        shown.revoked
    )
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `roost fleet list`.
pub(super) fn members(members: &[Listed], now_s: u64) -> String {
    if members.is_empty() {
        return "No nodes: `roost fleet init` makes a fleet, `roost fleet join` joins one.\n"
            .to_owned();
    }
    let mut table = table(&["NAME", "ID", "ROLE", "MEMBER FOR", "CERTIFICATE"]);
    for member in members {
        let role = match member.role {
            Role::Board => "board",
            Role::Workstation => "workstation",
        };
        let mut certificate =
            if member.current { "current".to_owned() } else { "of the old key".to_owned() };
        if let Some(until_s) = member.until_s {
            certificate += &format!(", ends in {}", human::between(now_s, until_s));
        }
        let since = human::between(member.since_s, now_s);
        table.add_row(vec![&member.name, &member.id, role, &since, &certificate]);
    }
    lines(&table)
}

/// `roost fleet list --revoked`.
pub(super) fn revoked(gone: &[Gone], now_s: u64) -> String {
    if gone.is_empty() {
        return "Nobody was sent away.\n".to_owned();
    }
    let mut table = table(&["NAME", "ID", "GONE FOR", "KEYS"]);
    for it in gone {
        let for_ = human::between(it.at_s, now_s);
        table.add_row(vec![&it.name, &it.id, &for_, &it.keys.join(" ")]);
    }
    lines(&table)
}

/// `roost fleet list --tokens`.
pub(super) fn tokens(tokens: &[TokenView], now_s: u64) -> String {
    if tokens.is_empty() {
        return "No tokens: `roost seed` makes one.\n".to_owned();
    }
    let mut table = table(&["TOKEN", "MADE", "EXPIRES", "FOR BOARD", "STATE"]);
    for token in tokens {
        let made = format!("{} ago", human::between(token.made_s, now_s));
        let expires = match (token.holder.is_some(), token.expires_s > now_s) {
            (true, _) => "-".to_owned(),
            (false, true) => format!("in {}", human::between(now_s, token.expires_s)),
            (false, false) => "expired".to_owned(),
        };
        let state = match &token.holder {
            Some(holder) => format!("{} by {} ({})", token.state, holder.id, holder.host_key),
            None => token.state.to_owned(),
        };
        let for_board = token.for_board.as_deref().unwrap_or("any");
        table.add_row(vec![&token.id, &made, &expires, for_board, &state]);
    }
    lines(&table)
}
