//! Letting nodes in by hand, and sending them away.

use std::io::Write;

use super::{super::error::CommandError, Done, Here};
use crate::{
    model::{BoardView, Reach},
    trust::{Holder, Member, Role, parse_fingerprint},
};

pub(super) fn approve(
    here: &Here,
    boards: &[BoardView],
    called: &str,
    fingerprint: Option<&str>,
    out: &mut impl Write,
) -> Done {
    let board = chosen(boards, called, fingerprint)?;
    let (name, id) = (&board.node.name, &board.node.id);
    let Some(host_key) = parse_fingerprint(&board.fingerprint) else {
        let why =
            format!("the daemon says no fingerprint of {name}: restart it, it is an older one");
        return Err(CommandError::Refused(why));
    };
    here.with_key(|membership, registrar| registrar.check_admissible(membership, id, &host_key))?;
    if fingerprint.is_none() {
        let print = &board.fingerprint;
        (here.confirm)(
            &format!(
                "Board {name} ({id}) has the host key\n  {print}\nCompare it with the board's console. \
                 Is it the same?"
            ),
            &format!(
                "nobody is at a terminal to compare {name}'s fingerprint; pass the one that its console \
                 shows as --fingerprint"
            ),
        )?;
    }
    here.with_key(|membership, registrar| {
        registrar.check_admissible(membership, id, &host_key)?;
        registrar.approve(Holder::new(id, &host_key))
    })?;
    Ok(writeln!(out, "{name} ({id}) is let in; `roost status` shows when it is up")?)
}

/// The board that is meant.
fn chosen<'a>(
    boards: &'a [BoardView],
    called: &str,
    fingerprint: Option<&str>,
) -> Result<&'a BoardView, CommandError> {
    let by_id: Vec<_> = boards.iter().filter(|it| it.node.id == called).collect();
    let found = match by_id.is_empty() {
        true => boards.iter().filter(|it| it.node.name == called).collect(),
        false => by_id,
    };
    let waiting: Vec<_> = found.iter().filter(|it| it.reach != Reach::Up).copied().collect();
    if waiting.is_empty() && !found.is_empty() {
        return Err(CommandError::Refused(format!("{called} is up: it was let in before")));
    }
    let matching = |it: &&&BoardView| fingerprint.is_none_or(|wanted| it.fingerprint == wanted);
    let mut matched = waiting.iter().filter(matching);
    match (waiting.as_slice(), matched.next(), matched.next()) {
        ([], ..) => Err(CommandError::NoBoard(format!(
            "no board that waits is called {called}; `roost status` lists those that are seen"
        ))),
        (_, Some(board), None) => Ok(board),
        ([board], None, _) => Err(CommandError::Refused(format!(
            "{called} announces {}, which is not the given fingerprint: it is another board, or \
             somebody pretends to be yours",
            board.fingerprint
        ))),
        (several, ..) => {
            let list = several.iter().map(|it| format!("{} ({})", it.node.id, it.fingerprint));
            Err(CommandError::NoBoard(format!(
                "{} boards are called {called}; say which with --fingerprint: {}",
                several.len(),
                list.collect::<Vec<_>>().join(" or ")
            )))
        }
    }
}

pub(super) fn revoke(here: &Here, called: &str, yes: bool, out: &mut impl Write) -> Done {
    let member = here.with_key(|membership, _| match membership.roster() {
        Some(roster) => roster.called(called).cloned(),
        None => Err(crate::trust::TrustError::Unknown(called.to_owned())),
    })?;
    if !yes {
        let Member { name, id, role, .. } = &member;
        let role = match role {
            Role::Board => "board",
            Role::Workstation => "workstation",
        };
        (here.confirm)(
            &format!("Send the {role} {name} ({id}) away? It comes back with new keys only."),
            "nobody is at a terminal to say yes; --yes goes without asking",
        )?;
    }
    // By its id: a name may have come to mean another node meanwhile.
    let Member { name, id, .. } = here
        .with_key(|membership, registrar| registrar.revoke(membership, &member.id, here.now_s))?;
    Ok(write!(
        out,
        "\
{name} ({id}) was sent away. Every node that can be reached knows within seconds, and
neither gives it new jobs nor takes any from it; one that is off knows when it is back.

It comes back with new keys and a new seed: write its card anew, or remove these on it,
and give it a seed of `roost seed`:
  {host_key}
  {ssh_dir}
",
        host_key = crate::names::SSH_HOST_KEY,
        ssh_dir = crate::names::SSH_DIR,
    )?)
}

#[cfg(test)]
mod tests {
    use super::{super::super::fixtures, *};

    fn error(result: Result<&BoardView, CommandError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_board_is_chosen_by_name_or_id_among_those_that_are_not_up() {
        let boards = fixtures::boards();
        for called in ["pi4", "pi4-9e00"] {
            assert_eq!(chosen(&boards, called, None).unwrap().node.id, "pi4-9e00");
        }
        assert!(error(chosen(&boards, "rock5", None)).contains("was let in before"));
        let unknown = chosen(&boards, "pi5", None).unwrap_err();
        assert!(unknown.to_string().contains("roost status"), "{unknown}");
        assert!(matches!(unknown, CommandError::NoBoard(_)));
    }

    #[test]
    fn a_fingerprint_has_to_fit_and_tells_namesakes_apart() {
        let mut boards = fixtures::boards();
        let right = boards[2].fingerprint.clone();
        assert!(chosen(&boards, "pi4", Some(&right)).is_ok());
        let wrong = error(chosen(&boards, "pi4", Some("SHA256:x")));
        assert!(wrong.contains(&right), "{wrong}");
        let other = BoardView { fingerprint: "SHA256:other".into(), ..boards[2].clone() };
        boards.push(other);
        let several = error(chosen(&boards, "pi4", None));
        assert!(several.contains("2 boards") && several.contains("SHA256:other"), "{several}");
        assert_eq!(chosen(&boards, "pi4", Some(&right)).unwrap().fingerprint, right);
        assert!(error(chosen(&boards, "pi4", Some("SHA256:x"))).contains("2 boards"));
    }
}
