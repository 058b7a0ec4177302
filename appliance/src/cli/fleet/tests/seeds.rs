//! Tokens and seeds.

use super::*;

#[test]
fn a_token_is_printed_in_a_seed_and_explained_beside_it() {
    let desk = desk();
    let (mut out, mut told) = (Vec::new(), Vec::new());
    let mut args = token_args();
    args.content.hostname = Some("rock5".into());
    args.content.for_board = Some("radxa,rock-5b".into());
    seed::token(&desk.here, &args, &mut out, &mut told).unwrap();
    let seed = Seed::parse(&out).unwrap();
    let token = seed.token().unwrap();
    assert_eq!((seed.hostname.as_deref(), seed.made_s), (Some("rock5"), NOW_S));
    let [view]: [TokenView; 1] = desk.tokens().try_into().unwrap();
    assert_eq!(view.id, token.key().id().to_string());
    assert_eq!(view.expires_s, NOW_S + 24 * 3600);
    assert_eq!(view.for_board.as_deref(), Some("radxa,rock-5b"));
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("secret") && told.contains(&format!("--withdraw {}", view.id)), "{told}");
    assert!(!told.contains(&*token.to_text()), "{told}");

    let made = json(&desk.token(&TokenArgs { output: JSON, ..token_args() }).unwrap());
    assert!(Seed::parse(made["seed"].as_str().unwrap().as_bytes()).is_ok());
    assert_eq!(made["expires_s"], NOW_S + 24 * 3600);
    let withdraw =
        TokenArgs { withdraw: made["token"].as_str().map(str::to_owned), ..token_args() };
    assert!(desk.token(&withdraw).unwrap().contains("lets nobody in"));
    assert_eq!(desk.tokens().len(), 1);
    let unknown = TokenArgs { withdraw: Some("nonsense".into()), ..token_args() };
    for error in [desk.token(&withdraw), desk.token(&unknown)] {
        assert!(error.unwrap_err().contains("roost fleet list --tokens"));
    }
}

#[test]
fn whoever_has_used_a_withdrawn_token_is_told() {
    let desk = desk();
    desk.token(&token_args()).unwrap();
    let id = desk.tokens()[0].id.clone();
    let token = crate::trust::TokenId::parse(&id).unwrap();
    let bind = |_: &mut Membership, registrar: &mut Registrar| {
        registrar.tokens.bind(token, Holder::new("b1", &[1; 32]), NOW_S)
    };
    desk.here.with_key(bind).unwrap();
    let told = desk.token(&TokenArgs { withdraw: Some(id), ..token_args() }).unwrap();
    assert!(told.contains("roost fleet revoke b1"), "{told}");
}

/// A reader that has left.
struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_token_that_nobody_has_read_is_taken_back() {
    let desk = desk();
    assert!(seed::token(&desk.here, &token_args(), &mut Closed, &mut Vec::new()).is_err());
    assert_eq!(desk.tokens(), []);
}

#[test]
fn a_seed_is_written_once_and_replaced_when_asked() {
    let desk = desk();
    let target = desk.dir.path().join("volume");
    fs::create_dir(&target).unwrap();
    let write = |args: &SeedArgs| print(|out| seed::write_with(Some(&desk.here), args, out));
    let told = write(&seed_args(&target)).unwrap();
    let written = || Seed::parse(&fs::read(target.join(SEED_FILE)).unwrap()).unwrap();
    let first = written().token().unwrap().key().id();
    assert!(told.contains(&first.to_string()) && told.contains("roost status"), "{told}");

    let error = write(&seed_args(&target)).unwrap_err();
    assert!(error.contains("--replace"), "{error}");
    assert_eq!(desk.tokens().len(), 1, "none was made in vain");
    let replace = SeedArgs { replace: true, output: JSON, ..seed_args(&target) };
    let told = json(&write(&replace).unwrap());
    assert_eq!(told["token"], written().token().unwrap().key().id().to_string());
    let source = Source { no_token: true, ..seed_args(&target).source };
    let without = SeedArgs { replace: true, source, ..seed_args(&target) };
    assert!(write(&without).unwrap().contains("roost fleet approve"));
    assert!(written().token().is_none());
    assert_eq!(desk.tokens().len(), 2);
}

#[test]
fn a_token_is_taken_back_if_its_seed_cannot_be_written() {
    let desk = desk();
    let target = desk.dir.path().join("volume");
    fs::create_dir_all(target.join(SEED_FILE)).unwrap();
    let args = SeedArgs { replace: true, ..seed_args(&target) };
    assert!(print(|out| seed::write_with(Some(&desk.here), &args, out)).is_err());
    assert_eq!(desk.tokens(), []);
    let nowhere = seed_args(&desk.dir.path().join("nowhere"));
    assert!(print(|out| seed::write_with(Some(&desk.here), &nowhere, out)).is_err());
    assert_eq!(desk.tokens(), []);
}

#[test]
fn a_seed_from_elsewhere_is_checked_and_written_as_it_is() {
    let desk = desk();
    let target = desk.dir.path().join("volume");
    fs::create_dir(&target).unwrap();
    let text = desk.token(&token_args()).unwrap();
    let from = |text: &str| {
        let file = desk.write("seed.toml", text);
        let source = Source { from: Some(file), ..seed_args(&target).source };
        let args = SeedArgs { source, ..seed_args(&target) };
        print(|out| seed::write_with(None, &args, out))
    };
    assert!(from(&text.replace("version = 1", "version = 2")).unwrap_err().contains("version 2"));
    assert!(!target.join(SEED_FILE).exists());
    assert!(from(&text).unwrap().contains("enrols by itself"));
    assert_eq!(fs::read_to_string(target.join(SEED_FILE)).unwrap(), text);
}

#[test]
fn a_seed_carries_a_network_and_a_console_key_from_files() {
    let desk = desk();
    let mut args = token_args();
    args.content.wifi = Some("workshop".into());
    args.content.wifi_passphrase_file = Some(desk.write("passphrase", "correct horse \r\n"));
    args.content.console_key = Some(desk.write("key.pub", &public(7).to_openssh().unwrap()));
    let seed = Seed::parse(desk.token(&args).unwrap().as_bytes()).unwrap();
    assert_eq!(&*seed.wifi.unwrap().passphrase, "correct horse ");
    assert_eq!(seed.console_key, Some(public(7)));

    let mut wrong = token_args();
    wrong.content.hostname = Some("Rock 5".into());
    let error = desk.token(&wrong).unwrap_err();
    assert!(error.contains("hostname") && !error.contains("roost seed"), "{error}");
    args.content.console_key = Some(desk.write("key", "-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert!(desk.token(&args).unwrap_err().contains(".pub"));
    args.content.console_key = None;
    args.content.wifi_passphrase_file = Some(desk.write("passphrase", "secret"));
    let error = desk.token(&args).unwrap_err();
    assert!(error.contains("wifi.passphrase") && !error.contains("secret"), "{error}");
    assert_eq!(desk.tokens().len(), 1, "none was made in vain");
}
