//! Seeds, requests and invitations as text.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "correct-horse-battery";

fn authority_line() -> String {
    public(9).to_openssh().unwrap()
}

/// A seed with everything.
fn full() -> Seed {
    let token = Token::random().unwrap();
    let mut seed = Seed::new(public(9), Some(&token), NOW_S);
    seed.hostname = Some("rock5".into());
    seed.console_key = Some(public(1));
    let passphrase = zeroize::Zeroizing::new(SECRET.to_owned()).into();
    seed.wifi = Some(Wifi { ssid: "Ünser \"Netz\"".into(), passphrase });
    seed
}

fn error(text: &str) -> String {
    Seed::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_seed_is_read_as_it_is_written() {
    for seed in [full(), Seed::new(public(9), None, NOW_S)] {
        let text = seed.to_toml().unwrap();
        let again = Seed::parse(text.as_bytes()).unwrap();
        assert_eq!(again.to_toml().unwrap(), text);
        assert_eq!(again.token().map(|it| it.to_text()), seed.token().map(|it| it.to_text()));
        assert_eq!(again.hostname, seed.hostname);
        assert_eq!(again.wifi.map(|it| it.ssid), seed.wifi.map(|it| it.ssid));
    }
}

#[test]
fn every_value_that_makes_no_sense_is_named() {
    let good = full().to_toml().unwrap().to_string();
    let with = |key: &str, value: &str| {
        let lines = good.lines().map(|line| match line.starts_with(&format!("{key} =")) {
            true => format!("{key} = {value}\n"),
            false => format!("{line}\n"),
        });
        lines.collect::<String>()
    };
    assert!(Seed::parse(good.as_bytes()).is_ok());
    for (key, value) in [
        ("version", "2"),
        ("token", "\"abc\""),
        ("hostname", "\"Rock 5\""),
        ("hostname", "\"-rock\""),
        ("hostname", "\"\""),
        ("ssid", "\"\""),
        ("ssid", "\"0123456789012345678901234567890123\""),
        ("ssid", "\"a\\nb\""),
        ("passphrase", "\"short\""),
        ("passphrase", "\"pässwort12\""),
        ("passphrase", "\"line\\nbreak12\""),
    ] {
        let told = error(&with(key, value));
        assert!(told.contains(key) && told.contains("roost seed"), "{key} = {value}: {told}");
    }
    let comment = format!("\"{} a\\nssh-ed25519 AAAA\"", public(1).to_openssh().unwrap());
    assert!(Seed::parse(with("console_key", &comment).as_bytes()).is_err());
    for (key, value) in [("authority", "\"ssh-ed25519 AAAA\""), ("made_s", "\"now\"")] {
        let told = error(&with(key, value));
        assert!(told.contains("line "), "{told}");
    }
    assert!(error(&format!("{good}\nport = 22\n")).contains("port"));
    assert!(error(&good.replace("made_s", "made")).contains("made"));
    assert!(error("").contains("missing field"));
    assert!(error(&format!("{good}{}", " ".repeat(SEED_MAX_BYTES))).contains("too long"));
    assert!(Seed::parse(b"\xff\xfe").unwrap_err().to_string().contains("no text"));
}

#[test]
fn no_error_quotes_a_secret() {
    let head = format!("version = 1\nauthority = {:?}\nmade_s = 1\n", authority_line());
    for text in [
        // A value of the wrong type or in the wrong place.
        format!("wifi = {SECRET:?}\n"),
        format!("wifi = [{SECRET:?}]\n"),
        format!("wifi = {{ ssid = [{SECRET:?}], passphrase = 1 }}\n"),
        format!("wifi = {{ ssid = \"a\", passphrase = {{ a = {SECRET:?} }} }}\n"),
        "wifi = { ssid = \"a\", passphrase = 12345678901 }\n".to_owned(),
        format!("token = [{SECRET:?}]\n"),
        format!("token = {SECRET:?}\n"),
        format!("hostname = {SECRET:?}\nconsole_key = {SECRET:?}\n"),
        format!("hostname = {{ x = {SECRET:?} }}\n"),
        // No TOML at all.
        format!("passphrase {SECRET}\n"),
        format!("wifi = {SECRET}\n"),
        format!("token = \"{SECRET}\n"),
        format!("token = '{SECRET}' {SECRET}\n"),
        format!("[wifi\npassphrase = {SECRET:?}\n"),
        format!("token = \"\\q{SECRET}\"\n"),
    ] {
        let told = error(&format!("{head}{text}"));
        assert!(!told.contains(SECRET) && !told.contains("12345678901"), "{text}: {told}");
    }
    for key in ["version", "authority", "made_s"] {
        let told = error(&format!("{key} = {SECRET:?}\n"));
        assert!(!told.contains(SECRET), "{told}");
    }
}

#[test]
fn a_secret_is_not_shown_by_debugging() {
    let seed = full();
    let shown = format!("{seed:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(&*seed.token().unwrap().to_text()));
    assert!(shown.contains("rock5"), "{shown}");
}

#[test]
fn a_seed_that_cannot_be_read_is_not_written() {
    let mut seed = full();
    seed.hostname = Some("Rock 5".into());
    assert!(seed.to_toml().is_err());
}

#[test]
fn requests_and_invitations_are_checked() {
    let request = JoinRequest::new("laptop".into(), "Anna's laptop".into(), public(3));
    let text = request.to_toml().unwrap();
    assert_eq!(JoinRequest::parse(&text).unwrap(), request);
    for (from, to, told) in [
        ("version = 1", "version = 2", "version 2"),
        ("\"laptop\"", "\"Laptop!\"", "`id`"),
        ("Anna's laptop", "", "`name`"),
        ("Anna's laptop", "a\\u001b[31m", "`name`"),
        ("ssh-ed25519", "ssh-ed25518", "line"),
        ("name =", "nom =", "nom"),
    ] {
        assert!(text.contains(from), "{text}");
        let error = JoinRequest::parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains("roost fleet join"), "{error}");
        assert!(told == "line" || error.contains(told), "{error}");
    }
    let roster = authority(9).sign(&roster(9, &[("b1", 1)])).unwrap();
    let certificate = authority(9).certify_user(&public(3), "laptop", NOW_S).unwrap();
    let text = Invitation::new(public(9), "laptop".into(), certificate, roster).to_toml().unwrap();
    let invitation = Invitation::parse(&text).unwrap();
    assert!(invitation.roster.verified(&[public(9)]).is_ok());
    let error = Invitation::parse(&text.replace("version = 1", "version = 2")).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(Invitation::parse("roster = 1").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes: Vec<u8>, text in ".{0,300}") {
        prop_assert!(Seed::parse(&bytes).is_err());
        prop_assert!(Seed::parse(text.as_bytes()).is_err());
        prop_assert!(JoinRequest::parse(&text).is_err());
        prop_assert!(Invitation::parse(&text).is_err());
    }

    /// A seed with anything anywhere in it is either a seed or an error without the token.
    #[test]
    fn a_damaged_seed_keeps_its_secrets(at: prop::sample::Index, cut: prop::sample::Index, new in "\\PC{0,3}|\n|\"") {
        let mut text = full().to_toml().unwrap().to_string();
        let token = Seed::parse(text.as_bytes()).unwrap().token().unwrap().to_text();
        let place = |index: prop::sample::Index, text: &str| {
            let mut at = index.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (place(at, &text), place(cut, &text));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 12));
        let to = (to..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        text.replace_range(from..to, &new);
        if let Err(error) = Seed::parse(text.as_bytes()) {
            let error = error.to_string();
            prop_assert!(!error.contains(SECRET), "{}", error);
            // Nor a large part of one.
            for part in token.as_bytes().windows(12) {
                prop_assert!(!error.contains(std::str::from_utf8(part).unwrap()), "{}", error);
            }
        }
    }

    #[test]
    fn what_is_checked_can_be_written_and_read(
        hostname in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", ssid in "\\PC{1,8}", passphrase in "[ -~]{8,63}",
    ) {
        let mut seed = Seed::new(public(9), None, NOW_S);
        seed.hostname = Some(hostname);
        let secret = zeroize::Zeroizing::new(passphrase.clone()).into();
        seed.wifi = Some(Wifi { ssid: ssid.clone(), passphrase: secret });
        let again = Seed::parse(seed.to_toml().unwrap().as_bytes()).unwrap();
        let wifi = again.wifi.unwrap();
        prop_assert_eq!(&*wifi.passphrase, passphrase.as_str());
        prop_assert_eq!(wifi.ssid, ssid);
    }
}
