//! Other machines: asking, inviting, joining.

use super::*;

#[test]
fn a_machine_of_a_fleet_does_not_make_another() {
    let (desk, laptop) = (desk(), machine("laptop", 3, Role::Workstation));
    let invitation = desk.invite(&laptop.request().unwrap(), None, false).unwrap();
    laptop.join(&invitation, false).unwrap();
    let error = print(|out| key::init(&laptop.here, TEXT, out)).unwrap_err();
    assert!(error.contains(&desk.fleet()[0]) && error.contains("/trust away"), "{error}");
    assert!(!laptop.dir.path().join("fleet/ca").exists());
}

#[test]
fn a_workstation_asks_is_invited_and_joins() {
    let (desk, laptop) = (desk(), machine("laptop", 3, Role::Workstation));
    let request = laptop.request().unwrap();
    let invitation = desk.invite(&request, Some("annas"), false).unwrap();
    let told = laptop.join(&invitation, false).unwrap();
    assert!(told.contains(&desk.fleet()[0]), "{told}");
    assert!(matches!(laptop.enrolment(), Enrolment::Enrolled { .. }));
    assert_eq!(laptop.members(), ["desk", "laptop"]);
    let name = desk.here.trust.look(|it| it.membership.roster().unwrap().members[1].name.clone());
    assert_eq!(name, "annas");
    laptop.join(&invitation, false).unwrap();
}

#[test]
fn a_fleet_is_not_left_in_silence() {
    let (desk, other) = (desk(), desk());
    let laptop = machine("laptop", 3, Role::Workstation);
    let request = laptop.request().unwrap();
    let [ours, theirs] = [&desk, &other].map(|it| it.invite(&request, None, false).unwrap());
    laptop.join(&ours, false).unwrap();
    let error = laptop.join(&theirs, false).unwrap_err();
    assert!(error.contains("--force") && error.contains(&desk.fleet()[0]), "{error}");
    assert_eq!(laptop.fleet(), desk.fleet());
    laptop.join(&theirs, true).unwrap();
    assert_eq!(laptop.fleet(), other.fleet());
    // Never by the machine that holds a fleet's key.
    let guest = machine("guest", 8, Role::Workstation);
    key::init(&guest.here, TEXT, &mut Vec::new()).unwrap();
    let invitation = desk.invite(&guest.request().unwrap(), None, false).unwrap();
    for force in [false, true] {
        let error = guest.join(&invitation, force).unwrap_err();
        assert!(error.contains("fleet/ca away"), "{error}");
    }
}

#[test]
fn an_invitation_for_another_machine_or_none_is_refused() {
    let (desk, laptop) = (desk(), machine("laptop", 3, Role::Workstation));
    let invitation = desk.invite(&laptop.request().unwrap(), None, false).unwrap();
    let other = machine("tower", 4, Role::Workstation);
    let error = other.join(&invitation, false).unwrap_err();
    assert!(error.contains("for laptop"), "{error}");
    let tampered = invitation.replace("the-laptop", "the-tower ");
    assert_ne!(tampered, invitation);
    let error = laptop.join(&tampered, false).unwrap_err();
    assert!(error.contains("not signed"), "{error}");
    assert!(laptop.join("nonsense", false).is_err());
    assert_eq!(laptop.enrolment(), Enrolment::None { problem: None });
}

#[test]
fn a_board_joins_with_a_seed_and_a_workstation_does_not() {
    let (desk, board) = (desk(), machine("b1", 1, Role::Board));
    let mut args = token_args();
    args.content.hostname = Some("rock5".into());
    let seed = desk.token(&args).unwrap();
    board.join(&seed, false).unwrap();
    assert_eq!(board.enrolment(), Enrolment::Waiting { token: true });
    assert_eq!(fs::read_to_string(board.files().hostname).unwrap(), "rock5\n");
    let error = board.join(&self::desk().token(&token_args()).unwrap(), false).unwrap_err();
    assert!(error.contains("--force"), "{error}");
    let error = board.request().unwrap_err();
    assert!(error.contains("roost fleet token"), "{error}");
    let laptop = machine("laptop", 3, Role::Workstation);
    let error = laptop.join(&seed, false).unwrap_err();
    assert!(error.contains("board.enable"), "{error}");
    let invitation = desk.invite(&laptop.request().unwrap(), None, false).unwrap();
    assert!(board.join(&invitation, true).unwrap_err().contains("is a board"));
}

#[test]
fn a_machine_without_roost_is_given_a_certificate() {
    let desk = desk();
    let key = format!("{} hydra@host\n", public(30).to_openssh().unwrap());
    let line = desk.invite(&key, Some("hydra"), true).unwrap();
    assert!(line.starts_with("ssh-ed25519-cert-v01@openssh.com "), "{line}");
    assert_eq!(line.lines().count(), 1);
    assert_eq!(desk.members(), ["desk", "hydra"]);
    let error = desk.invite(&key, None, true).unwrap_err();
    assert!(error.contains("--name"), "{error}");
    let private = PrivateKey::from(Ed25519Keypair::from_seed(&[30; 32]));
    let private = private.to_openssh(LineEnding::LF).unwrap();
    let error = desk.invite(&private, Some("hydra"), true).unwrap_err();
    assert!(error.contains("private key") && error.contains(".pub"), "{error}");
    let other = public(31).to_openssh().unwrap();
    assert!(desk.invite(&other, Some("hydra"), true).unwrap_err().contains("belongs to hydra"));
}

#[test]
fn an_invitation_is_no_secret() {
    let (desk, laptop) = (desk(), machine("laptop", 3, Role::Workstation));
    desk.token(&token_args()).unwrap();
    let text = desk.invite(&laptop.request().unwrap(), None, false).unwrap();
    assert!(Invitation::parse(&text).is_ok());
    let key = fs::read_to_string(desk.dir.path().join("fleet/ca")).unwrap();
    for secret in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!text.contains(secret));
    }
}
