//! A first boot, on a folder in the place of a volume.

use std::{os::unix::fs::PermissionsExt, process::Command};

use ssh_key::{PrivateKey, PublicKey, private::Ed25519Keypair};
use tempfile::TempDir;

use super::*;
use crate::{
    media::SEED_FILE,
    trust::{Enrolment, Own, Places, Token, Wifi, fingerprint},
};

const NOW_S: u64 = 1_790_000_000;

fn public(number: u8) -> PublicKey {
    PublicKey::from(Ed25519Keypair::from_seed(&[number; 32]).public)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

struct Board {
    dir: TempDir,
    files: Files,
    trust: Trust,
}

fn board() -> Board {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let files = Files {
        hostname: path("hostname"),
        wifi: path("iwd"),
        authorized_keys: path("root/.ssh/authorized_keys"),
    };
    fs::create_dir(path("volume")).unwrap();
    let own = Own {
        id: "b1".into(),
        name: "b1".into(),
        host_key: Some(public(1)),
        identity: path("id_ed25519"),
        client_key: public(101),
    };
    let places = Places { trust: path("trust"), fleet: path("fleet") };
    let trust = Trust::open(places, own, NOW_S).unwrap();
    Board { dir, files, trust }
}

impl Board {
    fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn seed_file(&self) -> PathBuf {
        self.volume().join(SEED_FILE)
    }

    fn put(&self, seed: &Seed) {
        fs::write(self.seed_file(), &*seed.to_toml().unwrap()).unwrap();
    }

    fn import(&self) -> Result<Imported, FirstBootError> {
        import(&self.volume(), &self.files, &self.trust, NOW_S)
    }

    fn enrolment(&self) -> Enrolment {
        self.trust.look(|it| it.membership.enrolment(NOW_S))
    }
}

fn wifi(ssid: &str, passphrase: &str) -> Wifi {
    let passphrase = zeroize::Zeroizing::new(passphrase.to_owned()).into();
    Wifi { ssid: ssid.to_owned(), passphrase }
}

fn full() -> (Seed, Token) {
    let token = Token::random().unwrap();
    let mut seed = Seed::new(public(9), Some(&token), NOW_S);
    seed.hostname = Some("rock5".into());
    seed.wifi = Some(wifi("workshop", "correct horse"));
    seed.console_key = Some(public(2));
    (seed, token)
}

#[test]
fn everything_of_a_seed_is_taken_and_the_seed_is_erased() {
    let it = board();
    let (seed, token) = full();
    it.put(&seed);
    assert_eq!(it.import().unwrap(), Imported::Taken);
    let proof = it.trust.look(|it| it.membership.proof()).unwrap();
    assert!(token.key().verify("b1", &fingerprint(&public(1)), &proof));
    assert_eq!(fs::read_to_string(&it.files.hostname).unwrap(), "rock5\n");
    let network = it.files.wifi.join("workshop.psk");
    let text = fs::read_to_string(&network).unwrap();
    assert_eq!(text, "[Security]\nPassphrase=correct horse\n");
    assert_eq!((mode(&network), mode(&it.files.wifi)), (0o600, 0o700));
    let key = format!("{}\n", public(2).to_openssh().unwrap());
    assert_eq!(fs::read_to_string(&it.files.authorized_keys).unwrap(), key);
    assert!(!it.seed_file().exists());

    assert_eq!(it.import().unwrap(), Imported::Nothing);
    assert_eq!(it.enrolment(), Enrolment::Waiting { token: true });
}

#[test]
fn without_a_volume_or_a_seed_there_is_nothing_to_do() {
    let it = board();
    assert_eq!(it.import().unwrap(), Imported::Nothing);
    fs::write(it.seed_file(), [0; 512]).unwrap();
    assert_eq!(it.import().unwrap(), Imported::Nothing, "one that was being erased");
    let nowhere = it.volume().join("by-label/ROOST_SEED");
    assert_eq!(import(&nowhere, &it.files, &it.trust, NOW_S).unwrap(), Imported::Nothing);
    assert_eq!(it.enrolment(), Enrolment::None { problem: None });
}

#[test]
fn a_broken_seed_is_told_of_and_left_where_it_is() {
    let it = board();
    let text = full().0.to_toml().unwrap().replace("version = 1", "version = 7");
    fs::write(it.seed_file(), &text).unwrap();
    let Imported::Unusable(why) = it.import().unwrap() else { panic!("it was taken") };
    assert!(why.contains("version 7") && why.contains("roost seed"), "{why}");
    assert_eq!(it.enrolment(), Enrolment::None { problem: Some(why) });
    assert_eq!(fs::read_to_string(it.seed_file()).unwrap(), text);
    assert!(!it.files.hostname.exists() && !it.files.wifi.exists());
    // Half a seed is none.
    fs::write(it.seed_file(), &text[..text.len() / 2]).unwrap();
    assert!(matches!(it.import().unwrap(), Imported::Unusable(_)));

    fs::remove_file(it.seed_file()).unwrap();
    assert_eq!(it.import().unwrap(), Imported::Nothing);
    assert_eq!(it.enrolment(), Enrolment::None { problem: None });
}

#[test]
fn what_is_no_medium_is_told_of() {
    let it = board();
    let image = it.dir.path().join("image");
    fs::write(&image, "no image").unwrap();
    let imported = import(&image, &it.files, &it.trust, NOW_S).unwrap();
    let Imported::Unusable(why) = imported else { panic!("{imported:?}") };
    assert!(why.contains("image"), "{why}");
}

#[test]
fn a_seed_is_kept_until_all_of_it_was_taken_and_the_token_is_safe_before() {
    let it = board();
    it.put(&full().0);
    for blocked in [it.files.authorized_keys.parent().unwrap(), &it.files.wifi] {
        fs::create_dir_all(blocked.parent().unwrap()).unwrap();
        fs::write(blocked, "in the way").unwrap();
    }
    for unblocked in [&*it.files.wifi, it.files.authorized_keys.parent().unwrap()] {
        let error = it.import().unwrap_err().to_string();
        assert!(error.contains(&unblocked.display().to_string()), "{error}");
        assert!(error.contains("next boot"), "{error}");
        assert!(it.seed_file().exists());
        assert_eq!(it.enrolment(), Enrolment::Waiting { token: true });
        fs::remove_file(unblocked).unwrap();
    }
    assert_eq!(it.import().unwrap(), Imported::Taken);
    assert!(!it.seed_file().exists());
}

#[test]
fn a_seed_that_came_back_after_its_token_was_dropped_does_not_bring_it_back() {
    let it = board();
    let token = Token::random().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let registrar = crate::trust::Registrar::init(dir.path(), NOW_S).unwrap();
    let seed = Seed::new(registrar.authority(), Some(&token), NOW_S);
    it.put(&seed);
    it.import().unwrap();
    let certificates = registrar.certify("b1", Some(&public(1)), &public(101), NOW_S).unwrap();
    let enrol = |it: &mut crate::trust::Trusted| {
        let host = certificates.host.as_deref();
        it.membership.install(host, &certificates.user, NOW_S)?;
        it.membership.drop_token(NOW_S)
    };
    it.trust.change(NOW_S, enrol).unwrap();
    // The medium was pulled, or could not be written, when it was to be erased.
    it.put(&seed);
    assert_eq!(it.import().unwrap(), Imported::Taken);
    assert!(!it.seed_file().exists());
    assert!(matches!(it.enrolment(), Enrolment::Enrolled { .. }));
}

#[test]
fn a_console_key_is_added_once_beside_others() {
    let it = board();
    let path = &it.files.authorized_keys;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "# mine\nssh-rsa nonsense\nno-pty ssh-ed25519 AAAA").unwrap();
    for _ in 0..2 {
        console_key::admit(path, &public(2)).unwrap();
    }
    let mut commented = public(2);
    commented.set_comment("me@desk");
    console_key::admit(path, &commented).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let key = public(2).to_openssh().unwrap();
    let expected = format!("# mine\nssh-rsa nonsense\nno-pty ssh-ed25519 AAAA\n{key}\n");
    assert_eq!(text, expected);
    assert_eq!(mode(path), 0o600);
    // One that is there with options is there.
    fs::write(path, format!("no-pty {key}\n")).unwrap();
    console_key::admit(path, &public(2)).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), format!("no-pty {key}\n"));
}

#[test]
fn networks_are_named_and_written_as_iwd_reads_them() {
    for (ssid, name) in [
        ("workshop", "workshop.psk"),
        ("Net_2 - guests", "Net_2 - guests.psk"),
        ("caf\u{e9}", "=636166c3a9.psk"),
        ("a/../b", "=612f2e2e2f62.psk"),
        ("=x", "=3d78.psk"),
        (".hidden", "=2e68696464656e.psk"),
    ] {
        assert_eq!(wifi::file_name(ssid), name);
    }
    for (passphrase, value) in [
        ("plain text", "plain text"),
        (" leading", "\\sleading"),
        ("back\\slash", "back\\\\slash"),
        ("#=[]\"'end ", "#=[]\"'end "),
    ] {
        let network = wifi::network(&wifi("a", passphrase));
        assert_eq!(*network, format!("[Security]\nPassphrase={value}\n"));
    }
}

#[test]
fn a_host_key_is_made_once_as_sshd_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ssh_host_ed25519_key");
    let public = dir.path().join("ssh_host_ed25519_key.pub");
    make_host_key(&path).unwrap();
    assert_eq!((mode(&path), mode(&public)), (0o600, 0o644));
    let made = (fs::read(&path).unwrap(), fs::read_to_string(&public).unwrap());
    make_host_key(&path).unwrap();
    assert_eq!((fs::read(&path).unwrap(), fs::read_to_string(&public).unwrap()), made);
    // OpenSSH itself finds one in the other.
    let output = Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), made.1);
    assert!(made.1.contains(" root@"), "{}", made.1);
    fs::remove_file(&public).unwrap();
    make_host_key(&path).unwrap();
    assert_eq!(fs::read_to_string(&public).unwrap(), made.1, "the public half is made again");
}

#[test]
fn what_a_power_cut_leaves_of_a_host_key_is_made_anew_and_a_broken_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ssh_host_ed25519_key");
    fs::write(&path, "").unwrap();
    fs::write(path.with_extension("pub"), "").unwrap();
    make_host_key(&path).unwrap();
    let key = PrivateKey::from_openssh(fs::read(&path).unwrap()).unwrap();
    let text = fs::read_to_string(path.with_extension("pub")).unwrap();
    assert_eq!(PublicKey::from_openssh(&text).unwrap().key_data(), key.public_key().key_data());
    fs::write(&path, "secret garbage").unwrap();
    let error = make_host_key(&path).unwrap_err().to_string();
    assert!(error.contains("ssh_host_ed25519_key") && !error.contains("garbage"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"secret garbage");
}

#[test]
fn a_board_that_was_given_no_name_keeps_its_own() {
    let it = board();
    apply_host_name(&it.files).unwrap();
    let own = uname().nodename().to_bytes().to_vec();
    fs::write(&it.files.hostname, [&own[..], b"\n"].concat()).unwrap();
    apply_host_name(&it.files).unwrap();
    assert_eq!(uname().nodename().to_bytes(), own);
}
