//! The fleet itself, and who belongs to it.

use super::*;

#[test]
fn a_fleet_is_made_once_and_its_key_is_what_to_keep() {
    let desk = machine("desk", 5, Role::Workstation);
    let told = print(|out| key::init(&desk.here, TEXT, out)).unwrap();
    let file = desk.dir.path().join("fleet/ca").display().to_string();
    for words in ["SHA256:", &file, "the only one to keep", "learnt again", "roost flash"] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    assert!(matches!(desk.enrolment(), Enrolment::Enrolled { .. }));
    let again = print(|out| key::init(&desk.here, TEXT, out)).unwrap_err();
    assert!(again.contains("roost fleet show"), "{again}");

    let other = machine("other", 6, Role::Workstation);
    let made = json(&print(|out| key::init(&other.here, JSON, out)).unwrap());
    assert_eq!(made["fleet"], other.fleet()[0]);
    assert!(made["key_file"].as_str().unwrap().ends_with("/fleet/ca"));
}

#[test]
fn without_the_key_every_command_that_takes_it_says_so() {
    let laptop = machine("laptop", 3, Role::Workstation);
    let tokens = List { tokens: true, ..List::default() };
    let hydra = public(30).to_openssh().unwrap();
    for error in [
        laptop.token(&token_args()),
        laptop.invite(&hydra, Some("hydra"), true),
        print(|out| list::list(&laptop.here, tokens, out)),
        print(|out| boards::revoke(&laptop.here, "b1", true, out)),
        print(|out| key::rotate(&laptop.here, out)),
        print(|out| key::finish_rotation(&laptop.here, true, out)),
        print(|out| seed::write_with(Some(&laptop.here), &seed_args(laptop.dir.path()), out)),
    ] {
        let error = error.unwrap_err();
        assert!(error.contains("roost fleet init"), "{error}");
    }
}

fn pending(id: &str, number: u8) -> BoardView {
    BoardView {
        node: NodeView { id: id.into(), name: format!("the-{id}"), ..NodeView::default() },
        addresses: vec![],
        port: 22,
        host_key: None,
        fingerprint: fingerprint_text(&public(number)),
        reach: Reach::Pending,
        reason: "it belongs to no fleet".into(),
        ours: 0,
    }
}

fn enlist(desk: &Machine, id: &str, number: u8) {
    let host_key = Some(public(number));
    let enlist = |membership: &mut Membership, registrar: &mut Registrar| {
        let name = format!("the-{id}");
        let member = registrar.member(id, &name, Role::Board, host_key, public(number + 100));
        registrar.enlist(membership, member, NOW_S)
    };
    desk.here.with_key(enlist).unwrap();
}

#[test]
fn a_board_is_approved_by_its_fingerprint() {
    let desk = desk();
    let boards = [pending("b1", 1)];
    let approve = |print_: Option<&str>| {
        print(|out| boards::approve(&desk.here, &boards, "the-b1", print_, out))
    };
    let approved = || {
        let print_ = crate::trust::fingerprint(&public(1));
        desk.here.with_key(|_, registrar| Ok(registrar.is_approved("b1", &print_))).unwrap()
    };
    let error = approve(None).unwrap_err();
    assert!(error.contains("--fingerprint"), "{error}");
    assert!(approve(Some(&fingerprint_text(&public(2)))).is_err());
    assert!(!approved());
    assert!(approve(Some(&boards[0].fingerprint)).unwrap().contains("roost status"));
    assert!(approved());
}

#[test]
fn whoever_was_sent_away_or_has_anothers_id_is_not_approved() {
    let desk = desk();
    enlist(&desk, "b1", 1);
    let approve = |board: BoardView| {
        let print_ = Some(board.fingerprint.clone());
        let (here, id) = (&desk.here, board.node.id.clone());
        print(|out| boards::approve(here, &[board], &id, print_.as_deref(), out))
    };
    assert!(approve(pending("b1", 2)).unwrap_err().contains("belongs to the-b1"));
    print(|out| boards::revoke(&desk.here, "b1", true, out)).unwrap();
    assert!(approve(pending("b1", 1)).unwrap_err().contains("was revoked"));
    assert!(approve(pending("b1", 2)).is_ok());
}

#[test]
fn sending_away_is_asked_for_and_said() {
    let desk = desk();
    enlist(&desk, "b1", 1);
    let revoke = |node: &str, yes: bool| print(|out| boards::revoke(&desk.here, node, yes, out));
    assert!(revoke("the-b1", false).unwrap_err().contains("--yes"));
    assert_eq!(desk.members(), ["b1", "desk"]);
    assert!(revoke("b9", true).unwrap_err().contains("roost fleet list"));
    assert!(revoke("desk", true).unwrap_err().contains("this machine"));
    let told = revoke("the-b1", true).unwrap();
    assert!(told.contains("within seconds") && told.contains("roost seed"), "{told}");
    assert_eq!(desk.members(), ["desk"]);
    let gone = List { revoked: true, output: JSON, ..List::default() };
    let gone = json(&print(|out| list::list(&desk.here, gone, out)).unwrap());
    assert_eq!(gone[0]["id"], "b1");
    assert_eq!(gone[0]["keys"][0], fingerprint_text(&public(1)));
}

#[test]
fn only_yes_is_a_yes() {
    let ask = |answer: &str| {
        let mut told = Vec::new();
        is_confirmed("Really?", &mut answer.as_bytes(), &mut told).map(|()| told)
    };
    assert_eq!(ask("yes\n").unwrap(), b"Really? (yes/no) ");
    for answer in ["", "\n", "y\n", "no\n", "YES please\n"] {
        assert!(ask(answer).is_err(), "{answer:?}");
    }
}

#[test]
fn a_key_is_replaced_in_two_steps() {
    let desk = desk();
    enlist(&desk, "b1", 1);
    let old = desk.fleet();
    let told = print(|out| key::rotate(&desk.here, out)).unwrap();
    assert!(told.contains(&desk.fleet()[0]) && told.contains("again"), "{told}");
    assert_eq!(desk.fleet()[1..], old);
    let members = print(|out| list::list(&desk.here, List::default(), out)).unwrap();
    assert!(members.contains("of the old key"), "{members}");
    let error = print(|out| key::finish_rotation(&desk.here, false, out)).unwrap_err();
    assert!(error.contains("the-b1") && error.contains("--force"), "{error}");
    desk.invite(&public(30).to_openssh().unwrap(), Some("hydra"), true).unwrap();
    let told = print(|out| key::finish_rotation(&desk.here, true, out)).unwrap();
    assert!(told.contains("invited again: hydra"), "{told}");
    assert_eq!(desk.fleet().len(), 1);
    assert_ne!(desk.fleet(), old);
}

#[test]
fn what_is_shown_follows_from_the_files() {
    let desk = desk();
    let show = |it: &Machine| json(&print(|out| list::show(&it.here, JSON, out)).unwrap());
    let shown = show(&desk);
    assert_eq!(shown["fleet"], serde_json::json!(desk.fleet()));
    assert_eq!(shown["holds_key"], true);
    assert_eq!((&shown["enrolment"], &shown["members"]), (&"enrolled".into(), &1.into()));
    let board = machine("b1", 1, Role::Board);
    assert_eq!(show(&board)["enrolment"], "none");
    board.here.trust.change(NOW_S, |it| it.membership.note_problem("broken")).unwrap();
    assert_eq!(show(&board)["problem"], "broken");
    let members = List { output: JSON, ..List::default() };
    let members = json(&print(|out| list::list(&desk.here, members, out)).unwrap());
    assert_eq!(members[0]["client_key"], fingerprint_text(&public(105)));
}
