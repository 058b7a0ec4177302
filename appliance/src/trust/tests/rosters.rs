//! The roster.

use std::{collections::BTreeSet, process::Command};

use proptest::prelude::*;

use super::*;

fn member(id: &str, key: u8) -> Member {
    roster(9, &[(id, key)]).members.remove(0)
}

/// As it is signed, with something changed in its text.
fn changed(signed: &SignedRoster, from: &str, to: &str) -> SignedRoster {
    let text = serde_json::to_string(signed).unwrap();
    assert!(text.contains(from), "no {from} in {text}");
    serde_json::from_str(&text.replacen(from, to, 1)).unwrap()
}

#[test]
fn a_roster_is_believed_if_a_trusted_key_has_signed_it() {
    let roster = roster(9, &[("b1", 1), ("b2", 2)]);
    let signed = authority(9).sign(&roster).unwrap();
    assert_eq!(signed.verified(&[public(8), public(9)]).unwrap(), roster);
    for trusted in [&[public(8)][..], &[]] {
        assert!(matches!(signed.verified(trusted), Err(BadRoster::Signature)));
    }
    let both = authority(9).sign_with(&authority(8), &roster).unwrap();
    for trusted in [public(8), public(9)] {
        assert_eq!(both.verified(&[trusted]).unwrap(), roster);
    }
    assert!(both.verified(&[public(7)]).is_err());
}

#[test]
fn a_tampered_roster_is_refused() {
    let signed = authority(9).sign(&roster(9, &[("b1", 1)])).unwrap();
    for (from, to) in [
        ("the-b1", "the-b2"),
        ("\\\"number\\\":0", "\\\"number\\\":1"),
        ("\\\"members\\\":[", "\\\"members\\\":[ "),
        ("\\\"revoked\\\":[]", "\\\"revoked\\\":[ ]"),
    ] {
        let changed = changed(&signed, from, to);
        assert!(matches!(changed.verified(&[public(9)]), Err(BadRoster::Signature)), "{from}");
    }
    // The signature of another text by the same key.
    let other = authority(9).sign(&roster(9, &[])).unwrap();
    let [one, two] = [&signed, &other].map(|it| serde_json::to_value(it).unwrap());
    let mixed = serde_json::json!({"roster": one["roster"], "signatures": two["signatures"]});
    let mixed: SignedRoster = serde_json::from_value(mixed).unwrap();
    assert!(matches!(mixed.verified(&[public(9)]), Err(BadRoster::Signature)));
}

#[test]
fn another_version_and_a_fleet_without_a_key_are_refused() {
    let later = Roster { version: 2, ..roster(9, &[]) };
    let signed = authority(9).sign(&later).unwrap();
    let error = signed.verified(&[public(9)]).unwrap_err().to_string();
    assert!(error.contains("version 2"), "{error}");
    let nobody = Roster { authorities: vec![], ..roster(9, &[]) };
    let signed = authority(9).sign(&nobody).unwrap();
    assert!(matches!(signed.verified(&[public(9)]), Err(BadRoster::NoAuthority)));
}

#[test]
fn what_is_too_long_is_neither_signed_nor_read() {
    let long = "x".repeat(ROSTER_MAX_BYTES);
    let mut large = roster(9, &[("b1", 1)]);
    let signed = authority(9).sign(&large).unwrap();
    large.members[0].name = long.clone();
    let error = authority(9).sign(&large).unwrap_err().to_string();
    assert!(error.contains("more nodes"), "{error}");
    assert!(changed(&signed, "the-b1", &long).verified(&[public(9)]).is_err());
    let mut value = serde_json::to_value(&signed).unwrap();
    let signature = value["signatures"][0].clone();
    value["signatures"] = serde_json::Value::Array(vec![signature; 9]);
    let many: SignedRoster = serde_json::from_value(value).unwrap();
    assert!(many.verified(&[public(9)]).unwrap_err().to_string().contains("too long"));
}

/// OpenSSH checks the signature of what was signed here.
#[test]
fn ssh_keygen_accepts_the_signature() {
    let dir = tempfile::tempdir().unwrap();
    let signed = authority(9).sign(&roster(9, &[("b1", 1)])).unwrap();
    let value = serde_json::to_value(&signed).unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("text"), value["roster"].as_str().unwrap()).unwrap();
    fs::write(path("sig"), value["signatures"][0].as_str().unwrap()).unwrap();
    let key = public(9).to_openssh().unwrap();
    fs::write(path("signers"), format!("fleet {key}\n")).unwrap();
    let verify = |namespace: &str| {
        Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "fleet", "-n", namespace, "-f"])
            .arg(path("signers"))
            .arg("-s")
            .arg(path("sig"))
            .stdin(fs::File::open(path("text")).unwrap())
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify("roost-roster@roost"));
    assert!(!verify("file"));
}

#[test]
fn an_id_is_one_machines() {
    let fleet = roster(9, &[("b1", 1)]);
    let renamed = Member { name: "other".into(), ..member("b1", 1) };
    assert_eq!(fleet.with(renamed).unwrap().members[0].name, "other");
    // A board that has lost its client key, not its host key.
    let new_client = Member { client_key: public(50), ..member("b1", 1) };
    assert_eq!(fleet.with(new_client).unwrap().members[0].client_key, public(50));
    let error = fleet.with(member("b1", 2)).unwrap_err();
    assert!(matches!(error, TrustError::IdTaken { .. }), "{error}");
    let no_host = Member { host_key: None, ..member("b1", 2) };
    assert!(matches!(fleet.with(no_host), Err(TrustError::IdTaken { .. })));
    // An invited workstation that becomes a board.
    let invited = Member { host_key: None, ..member("b1", 1) };
    let fleet = roster(9, &[]).with(invited).unwrap();
    assert_eq!(ids(&fleet.with(member("b1", 1)).unwrap()), ["b1"]);
}

#[test]
fn a_key_is_one_machines() {
    let fleet = roster(9, &[("b1", 1)]);
    // It has proved that it is the same machine.
    assert_eq!(ids(&fleet.with(member("b2", 1)).unwrap()), ["b2"]);
    let thief = Member { client_key: public(101), ..member("b2", 2) };
    let error = fleet.with(thief).unwrap_err();
    assert!(matches!(error, TrustError::KeyTaken { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("the-b1 (b1)") && text.contains("/var/lib/roost/ssh"), "{text}");
}

#[test]
fn comments_do_not_make_another_key() {
    let commented = |key: u8| {
        let mut key = public(key);
        key.set_comment("x");
        key
    };
    let shown =
        Member { host_key: Some(commented(1)), client_key: commented(101), ..member("b1", 1) };
    assert_eq!(roster(9, &[]).with(shown.clone()).unwrap().members, [member("b1", 1)]);
    let fleet = roster(9, &[("b1", 1)]);
    let without = fleet.without(&fleet.members[0], NOW_S);
    assert!(matches!(without.with(shown.clone()), Err(TrustError::Revoked { .. })));
    let older = Roster { members: vec![shown], ..roster(9, &[]) };
    assert_eq!(ids(&without.merged(&older)), [""; 0]);
}

#[test]
fn a_revoked_key_does_not_come_back_and_new_keys_do() {
    let fleet = roster(9, &[("b1", 1)]);
    let fleet = fleet.without(&fleet.members[0], NOW_S + 5);
    assert_eq!(ids(&fleet), [""; 0]);
    let gone = fleet.revoked(&fingerprint(&public(1))).unwrap();
    assert_eq!((gone.id.as_str(), gone.at_s), ("b1", NOW_S + 5));
    assert!(fleet.revoked(&fingerprint(&public(101))).is_some());
    for back in
        [member("b1", 1), member("b2", 1), Member { client_key: public(101), ..member("b2", 2) }]
    {
        let error = fleet.with(back).unwrap_err().to_string();
        assert!(error.contains("the-b1 was revoked"), "{error}");
    }
    assert_eq!(ids(&fleet.with(member("b1", 2)).unwrap()), ["b1"]);
}

#[test]
fn a_node_is_called_by_its_id_or_else_by_its_name() {
    let mut fleet = roster(9, &[("b1", 1), ("b2", 2), ("b3", 3)]);
    fleet.members[1].name = "b1".into();
    fleet.members[2].name = "the-b1".into();
    assert_eq!(fleet.called("b1").unwrap().id, "b1");
    assert_eq!(fleet.called("b2").unwrap().id, "b2");
    let error = fleet.called("the-b1").unwrap_err().to_string();
    assert!(error.contains("2 nodes") && error.contains("b1 or b3"), "{error}");
    let error = fleet.called("b4").unwrap_err().to_string();
    assert!(error.contains("roost fleet list"), "{error}");
}

#[test]
fn a_board_is_known_by_id_and_host_key_together() {
    let fleet = roster(9, &[("b1", 1), ("b2", 2)]);
    assert!(fleet.board("b1", &fingerprint(&public(1))).is_some());
    assert!(fleet.board("b1", &fingerprint(&public(2))).is_none());
    assert!(fleet.board("b3", &fingerprint(&public(1))).is_none());
}

/// What a fleet may have lived through: who came with which key, and who was sent away.
fn histories() -> impl Strategy<Value = Vec<(bool, u8)>> {
    prop::collection::vec((any::<bool>(), 0_u8..12), 0..24)
}

fn live(start: &Roster, history: &[(bool, u8)]) -> Roster {
    let mut fleet = start.clone();
    for (comes, number) in history {
        let id = format!("b{number}");
        fleet = match (comes, fleet.member(&id).cloned()) {
            (true, None) => fleet.with(member(&id, *number)).unwrap_or(fleet),
            (false, Some(known)) => fleet.without(&known, NOW_S + u64::from(*number)),
            _ => continue,
        };
        fleet.number += 1;
    }
    fleet
}

fn keys(fleet: &Roster) -> BTreeSet<Fingerprint> {
    fleet.revoked.iter().flat_map(|it| &it.keys).map(fingerprint).collect()
}

proptest! {
    #[test]
    fn merging_keeps_everybody_and_every_revocation(
        common in histories(), one in histories(), other in histories(),
    ) {
        let start = live(&roster(9, &[]), &common);
        let (one, other) = (live(&start, &one), live(&start, &other));
        let merged = one.merged(&other);
        let gone: BTreeSet<_> = keys(&one).union(&keys(&other)).copied().collect();
        prop_assert_eq!(keys(&merged), gone.clone());
        let free = |it: &Member| !gone.contains(&fingerprint(it.host_key.as_ref().unwrap()));
        let wanted: BTreeSet<_> =
            one.members.iter().chain(&other.members).filter(|it| free(it)).map(|it| &it.id).collect();
        prop_assert_eq!(merged.members.iter().map(|it| &it.id).collect::<BTreeSet<_>>(), wanted);
        prop_assert_eq!(merged.members.len(), ids(&merged).iter().collect::<BTreeSet<_>>().len());
        // In whatever order, and as often as it is done.
        prop_assert!(other.merged(&one).says_the_same(&merged));
        prop_assert!(merged.merged(&other).says_the_same(&merged));
        prop_assert!(merged.merged(&one).says_the_same(&merged));
        prop_assert_eq!(merged.number, one.number.max(other.number));
    }

    #[test]
    fn any_text_is_read_without_harm(text in ".{0,200}", signature in ".{0,200}") {
        let value = serde_json::json!({"roster": text, "signatures": [signature]});
        let signed: SignedRoster = serde_json::from_value(value).unwrap();
        prop_assert!(signed.verified(&[public(9)]).is_err());
    }
}
