//! The files the package ships agree with `names.json`, which the program itself is built from.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use roost::{config::Config, names};

fn share(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("share").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const UNIT: &str = "systemd/system/roost.service";
const EMULATION_SOCKET: &str = "systemd/system/roost-emulation.socket";
const EMULATION: &str = "systemd/system/roost-emulation@.service";
const FIRST_BOOT: &str = "systemd/system/roost-first-boot.service";
const UPDATE_PATH: &str = "systemd/system/roost-update.path";
const TRIAL: &str = "systemd/system/roost-update-trial.service";
const NIX_DAEMON: &str = "roost/nix-daemon.conf";
const SYSUSERS: &str = "sysusers.d/roost.conf";
const SSHD: &str = "ssh/sshd_config.d/50-roost.conf";

/// All files in these folders of `share`, with their texts.
fn files<const N: usize>(folders: [&str; N]) -> Vec<(String, String)> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("share");
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(base.join(folder)).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
            found.push((name.clone(), share(&name)));
        }
    }
    found
}

/// Lines that say something.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Absolute paths with our name in them.
fn our_paths(text: &str) -> BTreeSet<PathBuf> {
    lines(text)
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '=' || c == '"'))
        .map(|word| word.trim_start_matches('-'))
        .filter(|word| word.starts_with('/') && word.contains("roost"))
        .map(PathBuf::from)
        .collect()
}

/// The value of `key` in a unit file or sshd configuration.
fn value<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    lines(text).find_map(|line| line.strip_prefix(key)?.strip_prefix(separator))
}

#[test]
fn every_path_of_ours_is_a_shared_one() {
    let config_dir = Path::new(names::CONFIG_FILE).parent().unwrap();
    let shared: BTreeSet<PathBuf> = [
        PathBuf::from("/usr/bin/roost"),
        config_dir.to_owned(),
        names::STATE_DIR.into(),
        names::SSH_DIR.into(),
        names::TRUST_DIR.into(),
        names::FLEET_DIR.into(),
        names::AUTHORITIES_FILE.into(),
        names::REVOKED_FILE.into(),
        names::HOST_CERTIFICATE_FILE.into(),
        names::CONSOLE_FILE.into(),
        "/run/issue.d/50-roost.issue".into(),
        names::GCROOTS_DIR.into(),
        names::EMULATION_DIR.into(),
        names::EMULATION_SOCKET.into(),
        names::UPDATE_DIR.into(),
        names::UPDATE_ORDER_FILE.into(),
        names::UPDATE_TRIAL_FILE.into(),
    ]
    .into();
    for (file, text) in
        files(["roost", "systemd/system", "sysusers.d", "tmpfiles.d", "ssh/sshd_config.d"])
    {
        for path in our_paths(&text) {
            assert!(shared.contains(&path), "{file} names {}, names.json does not", path.display());
        }
    }
}

#[test]
fn the_service_owns_the_folders_it_uses() {
    let unit = share(UNIT);
    let under = |dir: &str, base: &str| dir.strip_prefix(base).unwrap().to_owned();
    assert_eq!(
        value(&unit, "RuntimeDirectory", '=').unwrap(),
        format!("{} {}", under(names::RUNTIME_DIR, "/run/"), under(names::CONNECT_DIR, "/run/"))
    );
    assert_eq!(value(&unit, "StateDirectory", '='), names::STATE_DIR.strip_prefix("/var/lib/"));
    let writable = value(&unit, "ReadWritePaths", '=').unwrap().trim_start_matches('-');
    assert_eq!(Path::new(names::GCROOTS_DIR).parent(), Some(Path::new(writable)));
    for path in [
        names::QUEUE_DIR,
        names::LOG_DIR,
        names::SSH_DIR,
        names::TRUST_DIR,
        names::FLEET_DIR,
        names::FLEET_FILE,
        names::EMULATION_DIR,
        names::UPDATE_DIR,
    ] {
        assert!(Path::new(path).starts_with(names::STATE_DIR), "{path}");
    }
    for path in [names::SOCKET, names::MACHINES_FILE, names::ONLY_DIR, names::CONSOLE_FILE] {
        assert!(Path::new(path).starts_with(names::RUNTIME_DIR), "{path}");
    }
}

#[test]
fn the_seed_is_taken_before_anybody_asks_for_what_it_gives() {
    let unit = share(FIRST_BOOT);
    let before: BTreeSet<&str> = lines(&unit)
        .filter_map(|line| line.strip_prefix("Before="))
        .flat_map(str::split_whitespace)
        .collect();
    for later in ["network-pre.target", "sshd.service", "ssh.service", "roost.service"] {
        assert!(before.contains(later), "{later}");
    }
    let mounts = value(&unit, "RequiresMountsFor", '=').unwrap();
    for path in [names::SSH_HOST_KEY, names::HOSTNAME_FILE, names::TRUST_DIR] {
        assert!(mounts.split(' ').any(|mount| Path::new(path).starts_with(mount)), "{path}");
    }
    let writable = value(&unit, "ReadWritePaths", '=').unwrap();
    for path in [
        names::SSH_HOST_KEY,
        names::HOSTNAME_FILE,
        names::TRUST_DIR,
        "/root/.ssh/authorized_keys",
        "/var/lib/iwd",
    ] {
        assert!(writable.split(' ').any(|it| Path::new(path).starts_with(it)), "{path}");
    }
}

#[test]
fn an_update_is_seen_by_systemd_and_nothing_keeps_its_trial_from_starting() {
    assert_eq!(value(&share(UPDATE_PATH), "PathExists", '='), Some(names::UPDATE_ORDER_FILE));
    let trial = share(TRIAL);
    assert_eq!(value(&trial, "ConditionPathExists", '='), Some(names::UPDATE_TRIAL_FILE));
    assert_eq!(value(&trial, "DefaultDependencies", '='), Some("no"));
    for (key, only) in [("After", Some("local-fs.target")), ("Requires", None), ("Wants", None)] {
        assert_eq!(value(&trial, key, '='), only, "{key}");
    }
    for path in [names::UPDATE_ORDER_FILE, names::UPDATE_TRIAL_FILE] {
        assert_eq!(Path::new(path).parent(), Some(Path::new(names::UPDATE_DIR)));
    }
    // What the daemon makes is where it may write, and not among the roots of jobs, which it sweeps.
    assert_eq!(Path::new(names::UPDATE_ROOT).parent(), Path::new(names::GCROOTS_DIR).parent());
}

#[test]
fn the_second_store_is_served_where_the_daemon_looks_for_it() {
    let socket = share(EMULATION_SOCKET);
    assert_eq!(value(&socket, "ListenStream", '='), Some(names::EMULATION_SOCKET));
    assert_eq!(value(&socket, "SocketMode", '='), Some("0600"));
    let unit = share(EMULATION);
    let state = value(&unit, "StateDirectory", '=').unwrap();
    assert_eq!(Path::new("/var/lib").join(state), Path::new(names::EMULATION_DIR));
    let store = format!("Environment=NIX_REMOTE=local?root={}", names::EMULATION_DIR);
    assert!(lines(&unit).any(|line| line == store));
}

#[test]
fn nix_daemon_is_given_one_setting_that_is_our_hook() {
    let drop_in = share(NIX_DAEMON);
    assert_eq!(
        lines(&drop_in).collect::<Vec<_>>(),
        ["[Service]", "Environment=\"NIX_CONFIG=build-hook = /usr/bin/roost hook\""]
    );
}

#[test]
fn the_user_is_the_one_sshd_confines() {
    let user = share(SYSUSERS);
    let user: Vec<&str> = lines(&user).next().unwrap().split_whitespace().collect();
    assert_eq!(user[..2], ["u", names::USER]);
    assert_eq!(user[user.len() - 2..], [names::STATE_DIR, "/bin/sh"]);
    assert_eq!(names::GROUP, names::USER, "sysusers makes a group of the user's name");

    let sshd = share(SSHD);
    let matched = format!("Match User {}", names::USER);
    let blocks: Vec<_> = lines(&sshd).filter(|line| line.starts_with("Match")).collect();
    assert_eq!(blocks, [matched.as_str(), "Match all"]);
    assert_eq!(value(&sshd, "HostCertificate", ' '), Some(names::HOST_CERTIFICATE_FILE));
    assert_eq!(value(&sshd, "TrustedUserCAKeys", ' '), Some(names::AUTHORITIES_FILE));
    assert_eq!(value(&sshd, "RevokedKeys", ' '), Some(names::REVOKED_FILE));
    assert_eq!(value(&sshd, "AuthorizedKeysFile", ' '), Some("none"));
    assert_eq!(value(&sshd, "ForceCommand", ' '), Some("/usr/bin/roost serve"));
    for off in ["PermitTTY", "PermitUserRC", "PermitTunnel", "AllowTcpForwarding"] {
        assert_eq!(value(&sshd, off, ' '), Some("no"), "{off}");
    }
}

#[test]
fn the_bus_lets_our_group_act_under_our_name() {
    let policy = share(&format!("dbus-1/system.d/{}.conf", names::BUS_NAME));
    for words in [
        format!("own=\"{}\"", names::BUS_NAME),
        format!("group=\"{}\"", names::GROUP),
        format!("send_interface=\"{}\"", names::BUS_INTERFACE),
    ] {
        assert!(policy.contains(&words), "{words} is not in the policy");
    }
}

/// Rows `| `key` | default | meaning |` of the page, under their `[section]` headings.
fn documented(page: &str) -> BTreeMap<String, String> {
    let (mut section, mut keys) = (String::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## `[") {
            section = heading.split(']').next().unwrap().to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            let key = format!("{section}.{}", cells.next().unwrap());
            keys.insert(key, cells.next().unwrap());
        }
    }
    keys
}

#[test]
fn the_configuration_page_lists_exactly_the_keys_with_their_defaults() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let config = serde_json::to_value(Config::default()).unwrap();
    let mut keys = BTreeMap::new();
    for (section, values) in config.as_object().unwrap() {
        for (key, value) in values.as_object().unwrap() {
            let default = if value.is_null() { String::new() } else { value.to_string() };
            keys.insert(format!("{section}.{key}"), default);
        }
    }
    assert_eq!(documented(&fs::read_to_string(page).unwrap()), keys);
}

#[test]
fn every_configuration_shown_in_the_documentation_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut shown = 0;
    for page in ["README.md", "docs/configuration.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            Config::parse(block, Path::new(page)).unwrap();
            shown += 1;
        }
    }
    assert_eq!(shown, 3);
}
