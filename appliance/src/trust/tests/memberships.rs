//! What a node has to show and whom it believes, whatever becomes of it.

use super::*;

fn seed(number: u8, token: Option<&Token>) -> Seed {
    Seed::new(public(number), token, NOW_S)
}

fn file(node: &Node, name: &str) -> std::path::PathBuf {
    node.places().trust.join(name)
}

fn text(node: &Node, name: &str) -> String {
    fs::read_to_string(file(node, name)).unwrap()
}

/// A board that a fleet has let in, and the fleet's holder.
fn enrolled() -> (Node, Membership, Registrar, Node) {
    let (holder, board) = (Node::workstation("desk", 5), Node::board("b1", 1));
    let (mut fleet, registrar) = holder.holder();
    let mut membership = board.membership();
    let token = Token::random().unwrap();
    membership.adopt(Seed::new(registrar.authority(), Some(&token), NOW_S)).unwrap();
    board.certify(&mut membership, &registrar, NOW_S);
    registrar.enlist(&mut fleet, board.member(&registrar), NOW_S).unwrap();
    membership.accept(fleet.signed().unwrap()).unwrap();
    membership.drop_token(NOW_S).unwrap();
    (board, membership, registrar, holder)
}

#[test]
fn a_new_node_belongs_to_nobody_and_its_sshd_lets_nobody_in() {
    let node = Node::board("b1", 1);
    let membership = node.membership();
    assert_eq!(membership.enrolment(NOW_S), Enrolment::None { problem: None });
    assert!(membership.tag().is_none() && membership.proof().is_none());
    assert_eq!((text(&node, "authorities"), text(&node, "revoked_keys")), Default::default());
    assert_eq!(mode(&node.places().trust), 0o700);
}

#[test]
fn a_seed_makes_it_wait_with_what_proves_the_seed() {
    let node = Node::board("b1", 1);
    let token = Token::random().unwrap();
    let mut membership = node.membership();
    membership.adopt(seed(9, Some(&token))).unwrap();
    for membership in [membership, node.membership()] {
        assert_eq!(membership.enrolment(NOW_S), Enrolment::Waiting { token: true });
        assert_eq!(membership.tag(), fleet_tag(&public(9)));
        assert_eq!(membership.earliest_s(), NOW_S);
        let proof = membership.proof().unwrap();
        assert!(token.key().verify("b1", &node.host_print(), &proof));
    }
    assert_eq!(mode(&file(&node, "seed.toml")), 0o600);
    assert_eq!(text(&node, "authorities").trim(), public(9).to_openssh().unwrap());
    let other = Node::board("b2", 2);
    let mut without = other.membership();
    without.adopt(seed(9, None)).unwrap();
    assert_eq!(without.enrolment(NOW_S), Enrolment::Waiting { token: false });
    assert_eq!(without.proof(), None);
}

#[test]
fn the_passphrase_of_a_network_is_not_kept() {
    let node = Node::board("b1", 1);
    let passphrase = zeroize::Zeroizing::new("hunter2hunter2".to_owned());
    let wifi = Wifi { ssid: "workshop".into(), passphrase: passphrase.into() };
    node.membership().adopt(Seed { wifi: Some(wifi), ..seed(9, None) }).unwrap();
    assert!(!text(&node, "seed.toml").contains("hunter2"));
}

#[test]
fn a_seed_that_was_taken_before_changes_nothing() {
    let (board, mut membership, registrar, _holder) = enrolled();
    let token = Token::random().unwrap();
    membership.adopt(Seed::new(registrar.authority(), Some(&token), NOW_S)).unwrap();
    assert!(!membership.has_token());
    assert!(matches!(board.membership().enrolment(NOW_S), Enrolment::Enrolled { .. }));
}

#[test]
fn another_seed_of_the_same_second_is_another_one() {
    let node = Node::board("b1", 1);
    let [first, second] = [(); 2].map(|()| Token::random().unwrap());
    let mut membership = node.membership();
    membership.adopt(seed(9, Some(&first))).unwrap();
    membership.adopt(seed(9, Some(&second))).unwrap();
    let proof = node.membership().proof().unwrap();
    assert!(second.key().verify("b1", &node.host_print(), &proof));
}

#[test]
fn a_new_seed_of_the_same_fleet_keeps_what_is_known_of_it() {
    let (board, mut membership, registrar, _holder) = enrolled();
    let token = Token::random().unwrap();
    membership.adopt(Seed::new(registrar.authority(), Some(&token), NOW_S + 1)).unwrap();
    let mut membership = board.membership();
    assert!(membership.roster().is_some() && membership.host_certificate(NOW_S).is_some());
    // Until it was seen with its certificates.
    assert_eq!(membership.enrolment(NOW_S), Enrolment::Waiting { token: true });
    membership.drop_token(NOW_S).unwrap();
    assert!(matches!(membership.enrolment(NOW_S), Enrolment::Enrolled { .. }));
}

#[test]
fn a_seed_of_another_fleet_replaces_everything() {
    let (board, mut membership, registrar, holder) = enrolled();
    let gone = Node::board("b2", 2);
    let mut fleet = holder.membership();
    registrar.enlist(&mut fleet, gone.member(&registrar), NOW_S).unwrap();
    registrar.revoke(&mut fleet, "b2", NOW_S).unwrap();
    membership.accept(fleet.signed().unwrap()).unwrap();
    assert!(membership.is_revoked(&gone.host_print()));

    let token = Token::random().unwrap();
    membership.adopt(seed(8, Some(&token))).unwrap();
    for membership in [membership, board.membership()] {
        assert_eq!(membership.authorities(), [public(8)]);
        assert_eq!(membership.enrolment(NOW_S), Enrolment::Waiting { token: true });
        assert!(membership.roster().is_none() && !membership.is_revoked(&gone.host_print()));
        assert!(!membership.user_file().exists() && !membership.host_file().exists());
    }
    assert_eq!(text(&board, "authorities").trim(), public(8).to_openssh().unwrap());
    assert_eq!(text(&board, "revoked_keys"), "");
}

#[test]
fn enrolled_is_who_has_good_certificates_for_all_its_keys() {
    let (board, mut membership, registrar, _holder) = enrolled();
    let until_s = NOW_S + LIFETIME_S;
    assert_eq!(membership.enrolment(NOW_S), Enrolment::Enrolled { until_s });
    assert_eq!(membership.enrolment(until_s - 1), Enrolment::Enrolled { until_s });
    assert_eq!(membership.enrolment(until_s), Enrolment::Ended);
    board.certify(&mut membership, &registrar, until_s);
    assert!(matches!(membership.enrolment(until_s), Enrolment::Enrolled { .. }));
    fs::remove_file(membership.host_file()).unwrap();
    assert_eq!(membership.enrolment(NOW_S), Enrolment::Ended);
    // Nobody connects to a workstation.
    let desk = Node::workstation("laptop", 3);
    let mut membership = desk.membership();
    membership.adopt(Seed::new(registrar.authority(), None, NOW_S)).unwrap();
    desk.certify(&mut membership, &registrar, NOW_S);
    assert!(matches!(membership.enrolment(NOW_S), Enrolment::Enrolled { .. }));
}

#[test]
fn a_token_is_dropped_only_by_who_is_certified() {
    let node = Node::board("b1", 1);
    let token = Token::random().unwrap();
    let ca = authority(9);
    let mut membership = node.membership();
    membership.adopt(seed(9, Some(&token))).unwrap();
    assert!(matches!(membership.drop_token(NOW_S), Err(TrustError::NotCertified)));
    let user = ca.certify_user(&node.own.client_key, "b1", NOW_S).unwrap();
    membership.install(None, &user, NOW_S).unwrap();
    assert!(matches!(membership.drop_token(NOW_S), Err(TrustError::NotCertified)));
    let host = ca.certify_host(node.own.host_key.as_ref().unwrap(), "b1", NOW_S).unwrap();
    membership.install(Some(&host), &user, NOW_S).unwrap();
    let ended_s = NOW_S + LIFETIME_S;
    assert!(matches!(membership.drop_token(ended_s), Err(TrustError::NotCertified)));
    assert!(node.membership().has_token());
    membership.drop_token(NOW_S).unwrap();
    membership.drop_token(NOW_S).unwrap();
    assert!(!node.membership().has_token() && node.membership().proof().is_none());
    assert!(!text(&node, "seed.toml").contains(&*token.to_text()));
}

#[test]
fn a_certificate_for_somebody_else_is_not_installed() {
    let (board, mut membership, registrar, _holder) = enrolled();
    let before = (text(&board, "ssh_host_ed25519_key-cert.pub"), fs::read(membership.user_file()));
    let certificates = |id: &str, host: u8, client: u8| {
        registrar.certify(id, Some(&public(host)), &public(client), NOW_S + 1).unwrap()
    };
    for wrong in [certificates("b2", 1, 101), certificates("b1", 2, 101), certificates("b1", 1, 7)]
    {
        let host = wrong.host.as_deref();
        assert!(membership.install(host, &wrong.user, NOW_S).is_err());
    }
    let other = authority(8).certify_user(&public(101), "b1", NOW_S + 1).unwrap();
    assert!(membership.install(None, &other, NOW_S).is_err());
    let after = (text(&board, "ssh_host_ed25519_key-cert.pub"), fs::read(membership.user_file()));
    assert_eq!((after.0, after.1.unwrap()), (before.0, before.1.unwrap()));
}

#[test]
fn installing_what_is_there_is_no_change() {
    let (board, mut membership, registrar, _holder) = enrolled();
    let own = &board.own;
    let new = registrar.certify("b1", own.host_key.as_ref(), &own.client_key, NOW_S).unwrap();
    let install = |membership: &mut Membership| {
        membership.install(new.host.as_deref(), &new.user, NOW_S).unwrap()
    };
    assert!(install(&mut membership));
    assert!(!install(&mut membership));
    assert!(!install(&mut board.membership()));
    assert_eq!(mode(&membership.host_file()), 0o644);
}

#[test]
fn only_a_newer_roster_is_accepted() {
    let (board, mut membership, registrar, holder) = enrolled();
    let mut fleet = holder.membership();
    let old = fleet.signed().unwrap().clone();
    assert!(!membership.accept(&old).unwrap(), "the same one");
    registrar.enlist(&mut fleet, Node::board("b2", 2).member(&registrar), NOW_S + 1).unwrap();
    let new = fleet.signed().unwrap().clone();
    assert!(membership.accept(&new).unwrap());
    assert!(!membership.accept(&old).unwrap(), "an older one");
    assert_eq!(ids(board.membership().roster().unwrap()), ["b1", "b2", "desk"]);
    let foreign = Node::workstation("other", 6).holder().0;
    let mut high = foreign.roster().unwrap().clone();
    high.number = 1000;
    let error = membership.accept(&authority(8).sign(&high).unwrap()).unwrap_err();
    assert!(matches!(error, TrustError::Roster(BadRoster::Signature)), "{error}");
}

#[test]
fn a_revoked_key_stays_revoked_when_a_later_roster_lacks_it() {
    let (board, mut membership, registrar, holder) = enrolled();
    let gone = Node::board("b2", 2);
    let mut fleet = holder.membership();
    registrar.enlist(&mut fleet, gone.member(&registrar), NOW_S).unwrap();
    registrar.revoke(&mut fleet, "b2", NOW_S).unwrap();
    membership.accept(fleet.signed().unwrap()).unwrap();

    let mut forgetful = fleet.roster().unwrap().clone();
    forgetful.revoked.clear();
    forgetful.number += 1;
    let key = fs::read_to_string(Registrar::key_file(&holder.places().fleet)).unwrap();
    let key = PrivateKey::from_openssh(key).unwrap();
    let signed = SignedRoster::new(&forgetful, &[&key]).unwrap();
    assert!(membership.accept(&signed).unwrap());
    for membership in [membership, board.membership()] {
        assert!(membership.is_revoked(&gone.host_print()));
        assert!(membership.is_revoked(&fingerprint(&gone.own.client_key)));
    }
    assert_eq!(text(&board, "revoked_keys").lines().count(), 2);
}

#[test]
fn a_problem_is_told_until_there_is_none() {
    let node = Node::board("b1", 1);
    let problem = || node.membership().enrolment(NOW_S);
    let told = Enrolment::None { problem: Some("the seed is broken".to_owned()) };
    node.membership().note_problem("the seed is broken").unwrap();
    assert_eq!(problem(), told);
    node.membership().forget_problem().unwrap();
    assert_eq!(problem(), Enrolment::None { problem: None });
    node.membership().note_problem("the seed is broken").unwrap();
    node.membership().adopt(seed(9, None)).unwrap();
    assert!(!file(&node, "seed-problem").exists());
}

#[test]
fn a_workstation_joins_with_its_invitation_and_nobody_elses() {
    let holder = Node::workstation("desk", 5);
    let (mut fleet, registrar) = holder.holder();
    let laptop = Node::workstation("laptop", 3);
    let own = &laptop.own;
    let request = JoinRequest::new(own.id.clone(), own.name.clone(), own.client_key.clone());
    let request = JoinRequest::parse(&request.to_toml().unwrap()).unwrap();
    let invitation = registrar.invite(&mut fleet, &request, NOW_S).unwrap();
    let invitation = Invitation::parse(&invitation.to_toml().unwrap()).unwrap();

    let mut other = Node::workstation("other", 4).membership();
    let error = other.join(&invitation, NOW_S).unwrap_err().to_string();
    assert!(error.contains("for laptop") && error.contains("is other"), "{error}");
    let mut same_id = Node::workstation("laptop", 4).membership();
    assert!(matches!(same_id.join(&invitation, NOW_S), Err(TrustError::Certificate(_))));
    let mut forged = invitation.clone();
    forged.authority = public(8);
    assert!(matches!(same_id.join(&forged, NOW_S), Err(TrustError::Roster(_))));
    for membership in [other, same_id] {
        assert_eq!(membership.enrolment(NOW_S), Enrolment::None { problem: None });
    }

    let mut membership = laptop.membership();
    assert!(!membership.knows(&invitation));
    membership.join(&invitation, NOW_S).unwrap();
    membership.join(&invitation, NOW_S).unwrap();
    let membership = laptop.membership();
    assert!(membership.knows(&invitation));
    assert_eq!(membership.authorities(), [registrar.authority()]);
    assert_eq!(ids(membership.roster().unwrap()), ["desk", "laptop"]);
    assert!(matches!(membership.enrolment(NOW_S), Enrolment::Enrolled { .. }));
}

#[test]
fn an_invitation_tells_a_member_of_a_new_key_of_its_fleet() {
    let holder = Node::workstation("desk", 5);
    let (mut fleet, mut registrar) = holder.holder();
    let laptop = Node::workstation("laptop", 3);
    let request = JoinRequest::new("laptop".into(), "laptop".into(), laptop.own.client_key.clone());
    let mut membership = laptop.membership();
    membership.join(&registrar.invite(&mut fleet, &request, NOW_S).unwrap(), NOW_S).unwrap();
    let gone = Node::board("b2", 2);
    registrar.enlist(&mut fleet, gone.member(&registrar), NOW_S).unwrap();
    registrar.revoke(&mut fleet, "b2", NOW_S).unwrap();
    membership.accept(fleet.signed().unwrap()).unwrap();
    let new = registrar.rotate(&mut fleet, NOW_S).unwrap();
    let invitation = registrar.invite(&mut fleet, &request, NOW_S).unwrap();
    assert!(membership.knows(&invitation));
    membership.join(&invitation, NOW_S).unwrap();
    assert_eq!(membership.authorities().first(), Some(&new));
    assert!(membership.is_revoked(&gone.host_print()), "nothing was forgotten");
}

#[test]
fn a_renewed_certificate_in_the_roster_is_better_than_what_one_has() {
    let holder = Node::workstation("desk", 5);
    let (mut fleet, mut registrar) = holder.holder();
    let laptop = Node::workstation("laptop", 3);
    let request = JoinRequest::new("laptop".into(), "laptop".into(), laptop.own.client_key.clone());
    let mut membership = laptop.membership();
    let invitation = registrar.invite(&mut fleet, &request, NOW_S).unwrap();
    membership.join(&invitation, NOW_S).unwrap();
    assert!(!membership.is_better(&invitation.certificate, NOW_S));
    let key = &laptop.own.client_key;
    let renewed = registrar.certify("laptop", None, key, NOW_S + 1).unwrap().user;
    assert!(membership.is_better(&renewed, NOW_S));
    // Of a new key, in the same second.
    registrar.rotate(&mut fleet, NOW_S).unwrap();
    membership.accept(fleet.signed().unwrap()).unwrap();
    let of_new_key = registrar.certify("laptop", None, key, NOW_S).unwrap().user;
    assert!(membership.is_better(&of_new_key, NOW_S));
    membership.install(None, &of_new_key, NOW_S).unwrap();
    assert!(membership.earlier_user_file().exists(), "for those who know the old key only");
    assert!(!membership.is_better(&renewed, NOW_S));
    assert!(!membership.is_better("nonsense", NOW_S));
}

#[test]
fn damaged_files_are_named_and_not_taken_for_nothing() {
    for (name, garbage) in [
        ("seed.toml", "version = 1\ntoken = \"hunter2\"\n"),
        ("roster.json", "{}"),
        ("revoked_keys", "nonsense\n"),
    ] {
        let (board, ..) = enrolled();
        fs::write(file(&board, name), garbage).unwrap();
        let error = Membership::open(&board.places().trust, board.own.clone()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(name) && error.contains("is damaged"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // A roster that somebody without the fleet's key has written.
    let (board, membership, ..) = enrolled();
    let forged = authority(8).sign(membership.roster().unwrap()).unwrap();
    fs::write(file(&board, "roster.json"), serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(Membership::open(&board.places().trust, board.own.clone()).is_err());
}

#[test]
fn what_follows_from_other_files_is_made_again() {
    let (board, ..) = enrolled();
    let before = text(&board, "authorities");
    for name in ["authorities", "revoked_keys"] {
        fs::remove_file(file(&board, name)).unwrap();
    }
    board.membership();
    assert_eq!(text(&board, "authorities"), before);
    assert_eq!(text(&board, "revoked_keys"), "");
}

/// The state of a folder.
type Files = std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>;

fn files(node: &Node) -> Files {
    let mut files = Files::new();
    for folder in [node.places().trust, node.dir.path().to_owned()] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

fn set_files(node: &Node, wanted: &Files) {
    for path in files(node).keys().filter(|path| !wanted.contains_key(*path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in wanted {
        fs::write(path, bytes).unwrap();
    }
}

/// Every file is written or removed whole, and what is removed is so, durably, before the seed is
/// written. So a power cut leaves some of the changes done: whichever they are, the node opens, believes
/// one of the two fleets, and doing it again leads to the end.
#[test]
fn a_cut_between_any_two_writes_of_adopting_another_fleet_is_mended_by_doing_it_again() {
    let (board, mut membership, ..) = enrolled();
    let before = files(&board);
    let token = Token::random().unwrap();
    let other = || seed(8, Some(&token));
    membership.adopt(other()).unwrap();
    let after = files(&board);
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> =
        paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    assert!((5..=10).contains(&changed.len()), "{changed:?}");
    let bit = |path: &std::path::PathBuf| 1 << changed.iter().position(|it| it == path).unwrap();
    let gone = changed.iter().filter(|path| !after.contains_key(*path));
    let (gone, seeded): (u32, u32) = (gone.map(bit).sum(), bit(&file(&board, "seed.toml")));
    for done in (0..1_u32 << changed.len()).filter(|it| it & seeded == 0 || it & gone == gone) {
        let mut now = before.clone();
        for (number, path) in changed.iter().enumerate() {
            if done >> number & 1 == 1 {
                match after.get(path) {
                    Some(bytes) => drop(now.insert(path.clone(), bytes.clone())),
                    None => drop(now.remove(path)),
                }
            }
        }
        set_files(&board, &now);
        let mut membership = board.membership();
        assert_eq!(membership.authorities().len(), 1);
        membership.adopt(other()).unwrap();
        let membership = board.membership();
        assert_eq!(membership.authorities(), [public(8)], "{done:b}");
        assert_eq!(membership.enrolment(NOW_S), Enrolment::Waiting { token: true }, "{done:b}");
        assert!(membership.roster().is_none());
    }
}

#[test]
fn a_cut_between_any_two_writes_of_enrolling_loses_neither_token_nor_certificate() {
    let (holder, board) = (Node::workstation("desk", 5), Node::board("b1", 1));
    let (mut fleet, registrar) = holder.holder();
    let token = Token::random().unwrap();
    board.membership().adopt(Seed::new(registrar.authority(), Some(&token), NOW_S)).unwrap();
    registrar.enlist(&mut fleet, board.member(&registrar), NOW_S).unwrap();
    let steps: [&dyn Fn(&mut Membership); 3] = [
        &|it| board.certify(it, &registrar, NOW_S),
        &|it| assert!(it.accept(fleet.signed().unwrap()).unwrap() || it.roster().is_some()),
        &|it| it.drop_token(NOW_S).unwrap(),
    ];
    for (number, step) in steps.iter().enumerate() {
        let before = files(&board);
        step(&mut board.membership());
        let after = files(&board);
        // Each file by itself is the old one while all others are new.
        for path in after.keys().filter(|path| before.get(*path) != after.get(*path)) {
            let mut now = after.clone();
            match before.get(path) {
                Some(bytes) => drop(now.insert(path.clone(), bytes.clone())),
                None => drop(now.remove(path)),
            }
            set_files(&board, &now);
            let mut membership = board.membership();
            let enrolled = matches!(membership.enrolment(NOW_S), Enrolment::Enrolled { .. });
            assert!(enrolled || membership.has_token(), "step {number}, {}", path.display());
            step(&mut membership);
        }
        set_files(&board, &after);
    }
    assert!(!board.membership().has_token());
}

#[test]
fn no_secret_is_shown_by_debugging() {
    let node = Node::board("b1", 1);
    let token = Token::random().unwrap();
    let mut membership = node.membership();
    membership.adopt(seed(9, Some(&token))).unwrap();
    let shown = format!("{membership:?}");
    assert!(!shown.contains(&*token.to_text()), "{shown}");
}
