//! Certificates, as made here and as OpenSSH reads them.

use std::process::Command;

use ssh_key::{
    Certificate,
    certificate::{Builder, CertType},
    rand_core::OsRng,
};

use super::*;

const HOUR_S: u64 = 3600;

fn user(text: &str, key: u8, authorities: &[PublicKey], now_s: u64) -> Result<Checked, String> {
    let checked = Purpose::User.check(text, &public(key), crate::names::USER, authorities, now_s);
    checked.map_err(|bad| bad.to_string())
}

#[test]
fn a_certificate_is_good_for_its_key_purpose_and_time_and_nothing_else() {
    let ca = authority(9);
    let trusted = [ca.public()];
    let text = ca.certify_user(&public(1), "desk", NOW_S).unwrap();
    let checked = user(&text, 1, &trusted, NOW_S).unwrap();
    assert_eq!(checked.until_s, NOW_S + LIFETIME_S);
    assert_eq!(checked.signed_by, fingerprint(&ca.public()));
    // A board without a clock, and one whose clock ran backwards.
    for now_s in [0, 12, NOW_S - DAY_S, NOW_S + LIFETIME_S - 1] {
        assert!(user(&text, 1, &trusted, now_s).is_ok(), "{now_s}");
    }
    let refused = |result: Result<Checked, String>, why: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(user(&text, 1, &trusted, NOW_S + LIFETIME_S), "has ended");
    refused(user(&text, 2, &trusted, NOW_S), "another key");
    refused(user(&text, 1, &[public(8)], NOW_S), "not of a key that this node trusts");
    refused(user(&text, 1, &[], NOW_S), "not of a key that this node trusts");
    refused(user("", 1, &trusted, NOW_S), "not to be used");
    refused(user(&"x".repeat(9000), 1, &trusted, NOW_S), "too long");
    let host = ca.certify_host(&public(1), "b1", NOW_S).unwrap();
    refused(user(&host, 1, &trusted, NOW_S), "other kind");

    let check = |text: &str, id: &str| {
        let checked = Purpose::Host.check(text, &public(1), id, &trusted, NOW_S);
        checked.map_err(|bad| bad.to_string())
    };
    assert!(check(&host, "b1").is_ok());
    refused(check(&host, "b2"), "not for \"b2\" alone");
    refused(check(&text, "b1"), "other kind");
}

#[test]
fn what_others_would_sign_is_refused() {
    let ca = private(9);
    let trusted = [public(9)];
    let make = |change: &dyn Fn(&mut Builder) -> Result<(), ssh_key::Error>| {
        let until_s = NOW_S + HOUR_S;
        let key = public(1).key_data().clone();
        let mut builder = Builder::new_with_random_nonce(&mut OsRng, key, 0, until_s).unwrap();
        builder.cert_type(CertType::User).unwrap().key_id("x").unwrap();
        change(&mut builder).unwrap();
        builder.sign(&ca).unwrap().to_openssh().unwrap()
    };
    let good = make(&|it| it.valid_principal(crate::names::USER).map(|_| ()));
    assert!(user(&good, 1, &trusted, NOW_S).is_ok());
    let two =
        make(&|it| it.valid_principal(crate::names::USER)?.valid_principal("root").map(|_| ()));
    assert!(user(&two, 1, &trusted, NOW_S).unwrap_err().contains("alone"));
    let all = make(&|it| it.all_principals_valid().map(|_| ()));
    assert!(user(&all, 1, &trusted, NOW_S).unwrap_err().contains("alone"));
    let forced = make(&|it| {
        it.valid_principal(crate::names::USER)?;
        it.critical_option("force-command", "/bin/sh").map(|_| ())
    });
    assert!(user(&forced, 1, &trusted, NOW_S).unwrap_err().contains("options"));
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let ca = authority(9);
    let text = ca.certify_user(&public(1), "desk", NOW_S).unwrap();
    let (name, rest) = text.split_once(' ').unwrap();
    let bytes = data_encoding::BASE64.decode(rest.split(' ').next().unwrap().as_bytes()).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let text = format!("{name} {}", data_encoding::BASE64.encode(&changed));
        assert!(user(&text, 1, &[ca.public()], NOW_S).is_err(), "byte {at}");
    }
}

#[test]
fn renewal_is_due_when_half_of_the_time_is_over() {
    let ca = authority(9);
    let text = ca.certify_user(&public(1), "desk", NOW_S).unwrap();
    let checked = user(&text, 1, &[ca.public()], NOW_S).unwrap();
    assert_eq!(checked.due_s(), NOW_S + LIFETIME_S / 2);
    assert!(!checked.is_due(NOW_S) && !checked.is_due(checked.due_s() - 1));
    assert!(checked.is_due(checked.due_s()) && checked.is_due(u64::MAX));
}

/// What OpenSSH itself makes of them. Its client is a run-time dependency of roost.
#[test]
fn ssh_keygen_reads_what_was_meant() {
    let ca = authority(9);
    let dir = tempfile::tempdir().unwrap();
    let shown = |text: String| {
        let path = dir.path().join("key-cert.pub");
        fs::write(&path, text).unwrap();
        let output = Command::new("ssh-keygen").arg("-Lf").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
    };
    let user = shown(ca.certify_user(&public(1), "desk", NOW_S).unwrap());
    let host = shown(ca.certify_host(&public(1), "b1", NOW_S).unwrap());
    for line in [
        "ssh-ed25519-cert-v01@openssh.com user certificate",
        &format!("Public key: ED25519-CERT {}", fingerprint_text(&public(1))),
        &format!("Signing CA: ED25519 {}", fingerprint_text(&ca.public())),
        "Key ID: \"desk\"",
        "Valid: before ",
        "Principals:\nroost\nCritical Options: (none)\nExtensions: (none)",
    ] {
        assert!(user.contains(line), "no {line:?} in {user}");
    }
    assert!(host.contains("ssh-ed25519-cert-v01@openssh.com host certificate"), "{host}");
    assert!(host.contains("Key ID: \"b1\"") && host.contains("Principals:\nb1\n"), "{host}");
}

#[test]
fn no_two_certificates_have_one_serial_number() {
    let ca = authority(9);
    let serial = || {
        let text = ca.certify_user(&public(1), "desk", NOW_S).unwrap();
        Certificate::from_openssh(&text).unwrap().serial()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn the_fleets_key_is_made_once_for_root_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet/ca");
    assert!(Authority::load(&path).unwrap().is_none());
    let made = Authority::init(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let error = Authority::init(&path).unwrap_err().to_string();
    assert!(error.contains("fleet/ca") && error.contains("roost fleet show"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(Authority::load(&path).unwrap().unwrap().public(), made.public());
    let key = PrivateKey::from_openssh(&text).unwrap();
    let secret = key.key_data().ed25519().unwrap().private.to_bytes();
    let shown = format!("{made:?}");
    assert!(!shown.contains(&format!("{:?}", &secret[..4])), "{shown}");
}

#[test]
fn a_damaged_key_of_a_fleet_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca");
    fs::write(&path, "secret garbage").unwrap();
    let error = Authority::load(&path).unwrap_err().to_string();
    assert!(error.contains("ca is damaged") && !error.contains("garbage"), "{error}");
    assert!(Authority::init(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"secret garbage");
}

#[test]
fn boards_announce_a_short_fingerprint() {
    let tag = fleet_tag(&public(9)).unwrap();
    assert_eq!(tag.as_str().len(), 16);
    assert_ne!(fleet_tag(&public(8)).unwrap(), tag);
    let text = fingerprint_text(&public(9));
    assert_eq!(parse_fingerprint(&text), Some(fingerprint(&public(9))));
    assert_eq!(fingerprint_of(&fingerprint(&public(9))), text);
    for wrong in ["", "SHA256:", "SHA256:abc", "MD5:00:11", &text[1..]] {
        assert_eq!(parse_fingerprint(wrong), None, "{wrong:?}");
    }
}

#[test]
fn the_key_of_a_login_is_that_which_was_certified() {
    let ca = authority(9);
    let certificate = ca.certify_user(&public(1), "desk", NOW_S).unwrap();
    let plain = public(1).to_openssh().unwrap();
    for key in [certificate.trim(), &plain] {
        assert_eq!(login_key(&format!("publickey {key}")), Some(fingerprint_text(&public(1))));
    }
    for wrong in ["", "publickey ", "password", "publickey ssh-ed25519 AAAA", &plain] {
        assert_eq!(login_key(wrong), None, "{wrong:?}");
    }
}
