//! What the machine does that holds the fleet's key.

use super::*;

struct Fleet {
    node: Node,
    membership: Membership,
    registrar: Registrar,
}

fn fleet() -> Fleet {
    let node = Node::workstation("desk", 5);
    let (membership, registrar) = node.holder();
    Fleet { node, membership, registrar }
}

impl Fleet {
    fn enlist(&mut self, board: &Node) {
        let member = board.member(&self.registrar);
        self.registrar.enlist(&mut self.membership, member, NOW_S).unwrap();
    }

    fn roster(&self) -> &Roster {
        self.membership.roster().unwrap()
    }

    fn reopen(&mut self) {
        self.membership = self.node.membership();
        self.registrar = self.node.registrar();
    }

    fn key_file(&self, name: &str) -> std::path::PathBuf {
        self.node.places().fleet.join(name)
    }
}

#[test]
fn whoever_makes_a_fleet_is_its_first_member() {
    let it = fleet();
    assert_eq!(ids(it.roster()), ["desk"]);
    assert_eq!(it.membership.authorities(), [it.registrar.authority()]);
    assert!(matches!(it.membership.enrolment(NOW_S), Enrolment::Enrolled { .. }));
    let error = Registrar::init(&it.node.places().fleet, NOW_S).unwrap_err();
    assert!(matches!(error, TrustError::FleetExists { .. }), "{error}");
}

#[test]
fn a_machine_without_the_key_has_no_registrar() {
    let node = Node::workstation("laptop", 3);
    assert!(Registrar::open(&node.places().fleet, NOW_S).unwrap().is_none());
}

#[test]
fn own_certificates_are_renewed_in_time_and_not_before() {
    let mut it = fleet();
    let number = it.roster().number;
    let renew = |it: &mut Fleet, now_s: u64| {
        it.registrar.certify_own(&mut it.membership, Role::Workstation, now_s).unwrap();
        it.membership.user_certificate(now_s).unwrap().until_s
    };
    assert_eq!(renew(&mut it, NOW_S + LIFETIME_S / 2 - 1), NOW_S + LIFETIME_S);
    let later_s = NOW_S + LIFETIME_S / 2;
    assert_eq!(renew(&mut it, later_s), later_s + LIFETIME_S);
    assert_eq!(it.roster().number, number, "the roster says nothing new");
}

#[test]
fn a_member_is_listed_once_and_keeps_its_time() {
    let mut it = fleet();
    let board = Node::board("b1", 1);
    it.enlist(&board);
    let number = it.roster().number;
    it.enlist(&board);
    assert_eq!(it.roster().number, number, "nothing new");
    let member = Member { name: "renamed".into(), ..board.member(&it.registrar) };
    it.registrar.enlist(&mut it.membership, member, NOW_S + 100).unwrap();
    let member = it.roster().member("b1").unwrap();
    assert_eq!((member.name.as_str(), member.since_s), ("renamed", NOW_S));
    assert_eq!(it.roster().number, number + 1);
    assert_eq!(it.node.membership().roster(), it.membership.roster());
}

#[test]
fn who_is_revoked_is_out_with_all_its_keys() {
    let mut it = fleet();
    let board = Node::board("b1", 1);
    it.enlist(&board);
    let gone = it.registrar.revoke(&mut it.membership, "the-b1", NOW_S).unwrap();
    assert_eq!(gone.id, "b1");
    it.reopen();
    assert_eq!(ids(it.roster()), ["desk"]);
    assert!(it.membership.is_revoked(&board.host_print()));
    assert!(it.membership.is_revoked(&fingerprint(&board.own.client_key)));
    let member = board.member(&it.registrar);
    let error = it.registrar.enlist(&mut it.membership, member, NOW_S).unwrap_err();
    assert!(matches!(error, TrustError::Revoked { .. }), "{error}");
    let error = it.registrar.revoke(&mut it.membership, "the-b1", NOW_S).unwrap_err();
    assert!(matches!(error, TrustError::Unknown(_)), "{error}");
}

#[test]
fn the_holder_of_the_key_does_not_send_itself_away() {
    let mut it = fleet();
    for called in ["desk", "the-desk"] {
        let error = it.registrar.revoke(&mut it.membership, called, NOW_S).unwrap_err();
        assert!(error.to_string().contains("this machine"), "{error}");
    }
    assert_eq!(ids(it.roster()), ["desk"]);
}

#[test]
fn whoever_is_approved_is_let_in_until_that_has_happened() {
    let mut it = fleet();
    let (board, other) = (Node::board("b1", 1), Node::board("b1", 2));
    let holder = Holder::new("b1", &board.host_print());
    it.registrar.approve(holder.clone()).unwrap();
    it.registrar.approve(holder.clone()).unwrap();
    it.reopen();
    assert!(it.registrar.is_approved("b1", &board.host_print()) && it.registrar.awaits(&holder));
    assert!(!it.registrar.is_approved("b1", &other.host_print()));
    assert_eq!(mode(&it.key_file("approved")), 0o600);
    it.registrar.settle(&holder).unwrap();
    it.registrar.settle(&holder).unwrap();
    it.reopen();
    assert!(!it.registrar.is_approved("b1", &board.host_print()) && !it.registrar.awaits(&holder));
}

#[test]
fn whoever_cannot_be_let_in_is_not_approved() {
    let mut it = fleet();
    let board = Node::board("b1", 1);
    let check = |it: &Fleet, id: &str, key: u8| {
        it.registrar.check_admissible(&it.membership, id, &fingerprint(&public(key)))
    };
    check(&it, "b1", 1).unwrap();
    it.enlist(&board);
    check(&it, "b1", 1).unwrap();
    assert!(matches!(check(&it, "b1", 2), Err(TrustError::IdTaken { .. })));
    it.registrar.revoke(&mut it.membership, "b1", NOW_S).unwrap();
    let error = check(&it, "b1", 1).unwrap_err().to_string();
    assert!(error.contains("the-b1 was revoked"), "{error}");
    check(&it, "b1", 2).unwrap();
}

#[test]
fn an_invitation_again_is_a_new_certificate_for_the_same_machine() {
    let mut it = fleet();
    let request = JoinRequest::new("hydra".into(), "hydra".into(), public(30));
    let first = it.registrar.invite(&mut it.membership, &request, NOW_S).unwrap();
    let second = it.registrar.invite(&mut it.membership, &request, NOW_S + 5).unwrap();
    assert_ne!(first.certificate, second.certificate);
    assert_eq!(ids(it.roster()), ["desk", "hydra"]);
    assert_eq!(it.roster().member("hydra").unwrap().since_s, NOW_S);
    let other = JoinRequest::new("hydra".into(), "hydra".into(), public(31));
    let error = it.registrar.invite(&mut it.membership, &other, NOW_S).unwrap_err();
    assert!(matches!(error, TrustError::IdTaken { .. }), "{error}");
}

#[test]
fn certificates_of_the_invited_are_renewed_in_the_roster() {
    let mut it = fleet();
    let request = JoinRequest::new("hydra".into(), "hydra".into(), public(30));
    let invitation = it.registrar.invite(&mut it.membership, &request, NOW_S).unwrap();
    let mut certificate = |now_s: u64| {
        it.registrar.certify_own(&mut it.membership, Role::Workstation, now_s).unwrap();
        it.membership.roster().unwrap().member("hydra").unwrap().certificate.clone().unwrap()
    };
    assert_eq!(certificate(NOW_S + 1), invitation.certificate);
    let later_s = NOW_S + LIFETIME_S / 2;
    let renewed = certificate(later_s);
    let ours = [it.registrar.authority()];
    let checked = Purpose::User.check(&renewed, &public(30), crate::names::USER, &ours, later_s);
    assert_eq!(checked.unwrap().until_s, later_s + LIFETIME_S);
}

#[test]
fn what_others_know_is_merged() {
    let mut it = fleet();
    it.enlist(&Node::board("b1", 1));
    let key = fs::read(it.key_file("ca")).unwrap();
    // The same key on a machine that knows nothing else.
    let restored = Node::workstation("new", 6);
    fs::create_dir_all(restored.places().fleet).unwrap();
    fs::write(restored.places().fleet.join("ca"), key).unwrap();
    let registrar = restored.registrar();
    let mut membership = restored.membership();
    registrar.certify_own(&mut membership, Role::Workstation, NOW_S).unwrap();
    let learnt = it.membership.signed().unwrap().clone();
    assert!(registrar.merge(&mut membership, &learnt, NOW_S).unwrap());
    assert!(!registrar.merge(&mut membership, &learnt, NOW_S).unwrap());
    assert_eq!(ids(membership.roster().unwrap()), ["b1", "desk", "new"]);
    assert!(membership.roster().unwrap().number > it.roster().number);

    // Both agree after one exchange, and neither writes for ever.
    let theirs = membership.signed().unwrap().clone();
    assert!(it.registrar.merge(&mut it.membership, &theirs, NOW_S).unwrap());
    assert_eq!(it.membership.signed(), Some(&theirs));
    assert!(!registrar.merge(&mut membership, it.membership.signed().unwrap(), NOW_S).unwrap());
}

#[test]
fn nobody_elses_roster_is_merged() {
    let mut it = fleet();
    let other = authority(8).sign(&roster(8, &[("b1", 1)])).unwrap();
    let error = it.registrar.merge(&mut it.membership, &other, NOW_S).unwrap_err();
    assert!(matches!(error, TrustError::Roster(BadRoster::Signature)), "{error}");
}

#[test]
fn a_holder_that_was_set_up_anew_finds_its_place() {
    let mut it = fleet();
    it.enlist(&Node::board("b1", 1));
    // The same machine by its id, with new keys.
    let anew = Node::workstation("desk", 6);
    fs::create_dir_all(anew.places().fleet).unwrap();
    fs::copy(it.key_file("ca"), anew.places().fleet.join("ca")).unwrap();
    let (registrar, mut membership) = (anew.registrar(), anew.membership());
    registrar.certify_own(&mut membership, Role::Workstation, NOW_S).unwrap();
    registrar.merge(&mut membership, it.membership.signed().unwrap(), NOW_S).unwrap();
    registrar.certify_own(&mut membership, Role::Workstation, NOW_S).unwrap();
    assert_eq!(ids(membership.roster().unwrap()), ["b1", "desk"]);
    let desk = membership.roster().unwrap().member("desk").unwrap();
    assert_eq!(desk.client_key, anew.own.client_key);
}

#[test]
fn while_the_key_is_replaced_both_count() {
    let mut it = fleet();
    let board = Node::board("b1", 1);
    it.enlist(&board);
    let old = it.registrar.authority();
    let mut there = board.membership();
    there.adopt(Seed::new(old.clone(), None, NOW_S)).unwrap();
    board.certify(&mut there, &it.registrar, NOW_S);

    let new = it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
    assert!(it.registrar.is_rotating() && new != old);
    assert_eq!(mode(&it.key_file("ca")), 0o600);
    assert_eq!(mode(&it.key_file("ca-previous")), 0o600);
    let error = it.registrar.rotate(&mut it.membership, NOW_S).unwrap_err().to_string();
    assert!(error.contains("--finish"), "{error}");
    it.reopen();
    assert_eq!(it.membership.authorities(), [new.clone(), old.clone()]);
    assert_eq!(it.membership.tags().len(), 2);
    it.registrar.certify_own(&mut it.membership, Role::Workstation, NOW_S).unwrap();
    assert!(it.membership.earlier_user_file().exists());

    // Whoever knows the old key learns of the new one, and goes on with its certificates.
    assert!(there.accept(it.membership.signed().unwrap()).unwrap());
    assert_eq!(there.authorities(), [new.clone(), old.clone()]);
    assert!(matches!(there.enrolment(NOW_S), Enrolment::Enrolled { .. }));

    let error = it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap_err();
    assert!(error.to_string().contains("the-b1") && error.to_string().contains("--force"));
    board.certify(&mut there, &it.registrar, NOW_S);
    it.enlist(&board);
    it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap();
    it.reopen();
    assert!(!it.registrar.is_rotating() && !it.key_file("ca-previous").exists());
    assert_eq!(it.membership.authorities(), std::slice::from_ref(&new));
    there.accept(it.membership.signed().unwrap()).unwrap();
    assert_eq!(there.authorities(), [new]);
    assert!(matches!(there.enrolment(NOW_S), Enrolment::Enrolled { .. }));
    let error = it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap_err();
    assert!(error.to_string().contains("roost fleet rotate"), "{error}");
    it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
}

#[test]
fn force_ends_the_old_key_for_those_who_were_away() {
    let mut it = fleet();
    let board = Node::board("b1", 1);
    it.enlist(&board);
    let mut there = board.membership();
    there.adopt(Seed::new(it.registrar.authority(), None, NOW_S)).unwrap();
    board.certify(&mut there, &it.registrar, NOW_S);
    it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
    it.registrar.finish_rotation(&mut it.membership, true, NOW_S).unwrap();
    there.accept(it.membership.signed().unwrap()).unwrap();
    assert_eq!(there.enrolment(NOW_S), Enrolment::Ended);
}

/// The files of a rotation as they are after each of its steps, taken from one that was not cut.
#[test]
fn a_rotation_that_was_cut_anywhere_goes_on_or_begins_anew() {
    for cut in 0..5 {
        let mut it = fleet();
        let old_key = fs::read(it.key_file("ca")).unwrap();
        let old = it.registrar.authority();
        let roster = fs::read(it.node.places().trust.join("roster.json")).unwrap();
        it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
        let new_key = fs::read(it.key_file("ca")).unwrap();
        let new = it.registrar.authority();
        // ca-next is made, ca copied, ca-next renamed, the roster published.
        let put = |name: &str, bytes: &[u8]| fs::write(it.key_file(name), bytes).unwrap();
        if cut < 4 {
            fs::write(it.node.places().trust.join("roster.json"), roster).unwrap();
        }
        if cut < 3 {
            put("ca", &old_key);
            put("ca-next", &new_key);
        }
        if cut < 2 {
            fs::remove_file(it.key_file("ca-previous")).unwrap();
        }
        if cut < 1 {
            fs::remove_file(it.key_file("ca-next")).unwrap();
        }
        it.reopen();
        assert_eq!(it.registrar.is_rotating(), cut >= 3, "{cut}");
        assert_eq!(it.registrar.authority(), if cut >= 3 { new } else { old.clone() });
        it.registrar.certify_own(&mut it.membership, Role::Workstation, NOW_S).unwrap();
        if cut < 3 {
            it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
        }
        let present = it.registrar.authority();
        assert_eq!(it.membership.authorities(), [present.clone(), old.clone()], "{cut}");
        // Those who know the old key only are told.
        assert!(it.membership.signed().unwrap().verified(&[old]).is_ok(), "{cut}");
        it.registrar.certify_own(&mut it.membership, Role::Workstation, NOW_S).unwrap();
        it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap();
        it.reopen();
        assert_eq!(it.membership.authorities(), [present], "{cut}");
        assert!(!it.key_file("ca-next").exists() && !it.key_file("ca-previous").exists());
    }
}

#[test]
fn an_end_of_a_rotation_that_was_cut_is_done_again() {
    let mut it = fleet();
    it.registrar.rotate(&mut it.membership, NOW_S).unwrap();
    it.registrar.certify_own(&mut it.membership, Role::Workstation, NOW_S).unwrap();
    let previous = fs::read(it.key_file("ca-previous")).unwrap();
    it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap();
    fs::write(it.key_file("ca-previous"), previous).unwrap();
    it.reopen();
    assert!(it.registrar.is_rotating());
    it.registrar.certify_own(&mut it.membership, Role::Workstation, NOW_S).unwrap();
    assert_eq!(it.membership.authorities().len(), 1);
    it.registrar.finish_rotation(&mut it.membership, false, NOW_S).unwrap();
    it.reopen();
    assert!(!it.registrar.is_rotating());
}

#[test]
fn damaged_files_are_named() {
    for name in ["ca", "ca-previous", "approved"] {
        let it = fleet();
        fs::write(it.key_file(name), "garbage").unwrap();
        let error = Registrar::open(&it.node.places().fleet, NOW_S).unwrap_err().to_string();
        assert!(error.contains(&format!("fleet/{name} is damaged")), "{error}");
    }
}

#[test]
fn no_secret_is_shown_by_debugging() {
    let mut it = fleet();
    let token = it.registrar.tokens.issue(60, None, NOW_S).unwrap();
    let shown = format!("{:?}", it.registrar);
    assert!(!shown.contains(&*token.key().to_text()), "{shown}");
    let key = PrivateKey::from_openssh(fs::read(it.key_file("ca")).unwrap()).unwrap();
    let secret = key.key_data().ed25519().unwrap().private.to_bytes();
    assert!(!shown.contains(&format!("{:?}", &secret[..4])), "{shown}");
}
