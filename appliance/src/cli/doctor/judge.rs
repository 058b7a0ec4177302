//! What the facts mean: pure.

use super::{
    Facts, Finding, Verdict,
    facts::{NixDaemon, Seen},
    hardware::hardware,
    local_builds::local_builds,
    second_store::second_store,
};
use crate::{config::Config, discover::AnnounceState, names, observe::nix::IMPLIED};

/// The oldest Nix whose protocol is spoken here.
const OLDEST_NIX: (u32, u32) = (2, 18);

/// The start of 2025 in seconds since 1970, before this program was written: no true clock shows
/// less.
pub(super) const RELEASED_S: u64 = 1_735_689_600;

/// The checks, in the order in which a fix for one may cure the next.
#[must_use]
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let config = facts.config.as_ref().cloned().unwrap_or_default();
    let mut findings = vec![configuration(facts), clock(facts), bus(facts)];
    if config.board.announce && config.board.enable || config.workstation.enable {
        findings.push(avahi(facts, &config));
    }
    findings.extend([nix_daemon(facts), daemon(facts), fleet(facts)]);
    if config.board.enable {
        findings.extend([offers(facts, &config), power_cuts(facts), user(facts)]);
        findings.extend([sshd(facts), update(facts)]);
    }
    if config.workstation.enable {
        findings.extend([builders(facts), bash(facts), local_builds(facts, &config)]);
    }
    findings.extend(hardware(facts, &config));
    findings.extend(facts.second_nix.as_ref().map(|way| second_store(facts, way)));
    findings
}

pub(super) fn finding(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Finding {
    Finding { check, verdict, found: found.into(), fix: String::new() }
}

impl Finding {
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// Failed, or, for what only root sees, skipped when we are not root.
fn unseen(facts: &Facts, check: &'static str, why: &str) -> Finding {
    if facts.root {
        finding(check, Verdict::Failed, why)
    } else {
        finding(check, Verdict::Skipped, format!("{why}; root may see more"))
    }
}

fn configuration(facts: &Facts) -> Finding {
    let check = "configuration";
    match &facts.config {
        Ok(config) => finding(check, Verdict::Ok, roles(config)),
        Err(why) => finding(check, Verdict::Failed, why.lines().next().unwrap_or_default())
            .fix("correct that line, then `roost check-config`"),
    }
}

fn roles(config: &Config) -> &'static str {
    match (config.board.enable, config.workstation.enable) {
        (true, true) => "a board and a workstation",
        (true, false) => "a board",
        (false, true) => "a workstation",
        (false, false) => "neither board nor workstation: this node does nothing",
    }
}

fn clock(facts: &Facts) -> Finding {
    if facts.clock_s >= RELEASED_S {
        return finding("clock", Verdict::Ok, "plausible");
    }
    let days = (RELEASED_S - facts.clock_s).div_ceil(86_400);
    finding("clock", Verdict::Failed, format!("at least {days} days slow: older than this program"))
        .fix("start a time service (systemd-timesyncd, chrony) and give the board a battery for its clock if it has a place for one")
}

fn bus(facts: &Facts) -> Finding {
    match &facts.system_bus {
        Ok(()) => finding("system bus", Verdict::Ok, "reachable"),
        Err(why) => finding("system bus", Verdict::Failed, why)
            .fix("install dbus and start it: systemctl enable --now dbus.socket"),
    }
}

fn avahi(facts: &Facts, config: &Config) -> Finding {
    let check = "avahi";
    let avahi = match &facts.avahi {
        Ok(avahi) => avahi,
        Err(AnnounceState::NoBus(_)) => {
            return finding(check, Verdict::Skipped, "cannot be asked without the system bus");
        }
        Err(AnnounceState::NoAvahi) => {
            return finding(check, Verdict::Failed, "is not running")
                .fix("install avahi-daemon, then: systemctl enable --now avahi-daemon.socket");
        }
        Err(other) => return finding(check, Verdict::Failed, other.to_string()),
    };
    match &avahi.publishing {
        Ok(()) => finding(check, Verdict::Ok, format!("{}, publishes for us", avahi.version)),
        Err(_) if !config.board.enable => {
            finding(check, Verdict::Ok, format!("{}, enough to find boards", avahi.version))
        }
        Err(AnnounceState::NotPermitted) => {
            finding(check, Verdict::Failed, format!("{} lets nobody publish", avahi.version)).fix(
                "in /etc/avahi/avahi-daemon.conf, section [publish], set disable-publishing=no and \
                 disable-user-service-publishing=no\n(NixOS: services.avahi.publish.enable and \
                 .userServices), then: systemctl restart avahi-daemon",
            )
        }
        Err(other) => finding(check, Verdict::Failed, other.to_string()),
    }
}

fn nix_daemon(facts: &Facts) -> Finding {
    let check = "nix-daemon";
    let nix = match &facts.nix {
        Ok(nix) => nix,
        Err(why) => {
            return finding(check, Verdict::Failed, why).fix(format!(
                "install Nix with its daemon and start it: systemctl enable --now \
                 nix-daemon.socket\n(its socket is {})",
                names::NIX_DAEMON_SOCKET
            ));
        }
    };
    match version(&nix.version) {
        Some(version) if version < OLDEST_NIX => {
            let (major, minor) = OLDEST_NIX;
            finding(check, Verdict::Failed, format!("Nix {} is too old", nix.version))
                .fix(format!("install Nix {major}.{minor} or later"))
        }
        _ => trust(facts, nix),
    }
}

fn trust(facts: &Facts, nix: &NixDaemon) -> Finding {
    let check = "nix-daemon";
    match nix.trusted {
        Some(false) if facts.root => {
            finding(check, Verdict::Failed, format!("Nix {} does not trust root", nix.version))
                .fix("add root to trusted-users in nix.conf: boards accept unsigned inputs from it")
        }
        Some(false) => finding(
            check,
            Verdict::Ok,
            format!(
                "Nix {}; the roost daemon asks it as root, whom it trusts by default",
                nix.version
            ),
        ),
        _ => finding(check, Verdict::Ok, format!("Nix {}, trusts us", nix.version)),
    }
}

/// The first two numbers of a version text such as `2.26.3` or `2.91.1 (Lix)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn daemon(facts: &Facts) -> Finding {
    let check = "roost daemon";
    match &facts.daemon {
        Err(why) if facts.system_bus.is_err() => finding(check, Verdict::Skipped, why),
        Ok(node) if node.version == env!("CARGO_PKG_VERSION") => {
            finding(check, Verdict::Ok, format!("runs as {}", node.name))
        }
        Ok(node) => finding(
            check,
            Verdict::Warning,
            format!("runs version {}, this is {}", node.version, env!("CARGO_PKG_VERSION")),
        )
        .fix("systemctl restart roost"),
        Err(why) => finding(check, Verdict::Failed, why).fix(
            "systemctl enable --now roost; if it does not stay up, journalctl -u roost says why",
        ),
    }
}

/// Whether Nix builds what the configuration offers.
fn offers(facts: &Facts, config: &Config) -> Finding {
    let check = "offers";
    let settings = match &facts.nix_settings {
        Ok(settings) => settings,
        Err(why) => return finding(check, Verdict::Skipped, why),
    };
    let words = |name: &str| settings.get(name).map_or("", String::as_str).split_whitespace();
    let implied = words("experimental-features").filter(|word| IMPLIED.contains(word));
    let features: Vec<&str> = words("system-features").chain(implied).collect();
    let systems: Vec<&str> = words("system").chain(words("extra-platforms")).collect();
    let refused = |offered: &mut dyn Iterator<Item = &String>, accepted: &[&str]| {
        let refused = offered.filter(|word| !accepted.contains(&word.as_str()));
        refused.map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let config = &config.board;
    let features = refused(&mut config.features.iter().flatten(), &features);
    let systems = refused(&mut config.systems.iter().flatten(), &systems);
    let (key, refused, setting) = match (features.as_str(), systems.as_str()) {
        ("", "") => return finding(check, Verdict::Ok, "nothing that Nix would refuse to build"),
        ("", systems) => ("board.systems", systems, "extra-platforms"),
        (features, _) => ("board.features", features, "system-features"),
    };
    let found = format!("Nix would refuse {refused} of {key}, so it is not offered");
    finding(check, Verdict::Warning, found).fix(format!(
        "add it to {setting} in nix.conf and restart nix-daemon and roost, or take it out of {key}"
    ))
}

fn user(facts: &Facts) -> Finding {
    let (check, name) = ("build user", names::USER);
    let pam = |settings: &Seen<std::collections::BTreeMap<String, String>>| {
        settings.as_ref().is_ok_and(|all| all.get("usepam").is_some_and(|pam| pam == "yes"))
    };
    match &facts.user {
        Err(why) => finding(check, Verdict::Failed, why)
            .fix("systemd-sysusers roost.conf, or: useradd --system --home-dir /var/lib/roost --shell /bin/sh roost"),
        Ok(user) if !user.shell => {
            finding(check, Verdict::Failed, format!("the shell of {name} runs no commands"))
                .fix(format!("usermod --shell /bin/sh {name}"))
        }
        Ok(user) if user.locked && facts.sshd.is_ok() && !pam(&facts.sshd) => finding(
            check,
            Verdict::Failed,
            format!("sshd without PAM takes the account of {name} as locked"),
        )
        .fix(format!("set `UsePAM yes` in sshd_config, or: usermod --password '*' {name}")),
        Ok(_) => finding(check, Verdict::Ok, format!("{name} can be logged in to")),
    }
}

/// What sshd must do with our user: setting, value, and what it is for.
const SSHD: [(&str, &str, &str); 7] = [
    ("authorizedkeysfile", "none", "only certificates of the fleet open it"),
    ("trustedusercakeys", names::AUTHORITIES_FILE, "it has to know the fleet's key"),
    ("revokedkeys", names::REVOKED_FILE, "it has to know who was sent away"),
    ("permittty", "no", "build sessions have no terminal"),
    ("allowtcpforwarding", "no", "a builder's key is no way into the network"),
    ("allowagentforwarding", "no", "a builder's key is no way to other keys"),
    ("permituserrc", "no", "nothing runs before the forced command"),
];

fn sshd(facts: &Facts) -> Finding {
    let check = "sshd";
    let drop_in = "put 50-roost.conf into /etc/ssh/sshd_config.d, see that sshd_config includes \
                   that folder, and reload sshd";
    let settings = match &facts.sshd {
        Ok(settings) => settings,
        Err(why) => return unseen(facts, check, why).fix("install openssh-server and start it"),
    };
    let value = |key: &str| settings.get(key).map_or("", String::as_str);
    if !value("forcecommand").ends_with("roost serve") {
        let found = match value("forcecommand") {
            "" | "none" => "gives our user a shell: the forced command is not set".to_owned(),
            other => format!("runs \"{other}\" for our user, not roost serve"),
        };
        return finding(check, Verdict::Failed, found).fix(drop_in);
    }
    if let Some((key, _, why)) = SSHD.iter().find(|(key, wanted, _)| value(key) != *wanted) {
        let found = format!("has {key} {} for our user, and {why}", value(key));
        return finding(check, Verdict::Failed, found).fix(drop_in);
    }
    if value("maxsessions").parse::<u32>().is_ok_and(|sessions| sessions < 32) {
        let found =
            format!("allows {} sessions a connection, fewer than jobs", value("maxsessions"));
        return finding(check, Verdict::Warning, found).fix(drop_in);
    }
    finding(check, Verdict::Ok, "runs roost serve for our user, and nothing else")
}

/// How this node stands to its fleet.
fn fleet(facts: &Facts) -> Finding {
    let check = "fleet";
    let Ok(node) = &facts.daemon else {
        return finding(check, Verdict::Skipped, "the daemon knows, and does not answer");
    };
    match node.enrolment.as_str() {
        "enrolled" => finding(check, Verdict::Ok, format!("enrolled in {}", node.fleet)),
        "ended" => finding(check, Verdict::Failed, "its certificates have ended")
            .fix(node.enrolment_note.clone()),
        "waiting" => {
            finding(check, Verdict::Warning, format!("waits to be let in by {}", node.fleet))
                .fix(node.enrolment_note.clone())
        }
        _ => finding(check, Verdict::Warning, "in no fleet").fix(node.enrolment_note.clone()),
    }
}

/// How this board's last update went.
fn update(facts: &Facts) -> Finding {
    let check = "update";
    match &facts.daemon {
        Err(_) => finding(check, Verdict::Skipped, "the daemon knows, and does not answer"),
        Ok(node) if node.update_note.is_empty() => {
            finding(check, Verdict::Ok, "nothing is left to do of an update")
        }
        Ok(node) => finding(check, Verdict::Warning, node.update_note.clone()).fix(
            "on the workstation, `roost update BOARD` tells more, and `roost update BOARD SYSTEM` tries \
             another system",
        ),
    }
}

/// Whether Nix has a path on the disk before it calls it valid. By default it does not: after a power cut
/// there are valid paths with empty files, and what is built with them is wrong.
fn power_cuts(facts: &Facts) -> Finding {
    let check = "power cuts";
    let setting = "sync-before-registering";
    let settings = match &facts.nix_settings {
        Ok(settings) => settings,
        Err(why) => return finding(check, Verdict::Skipped, why),
    };
    match settings.get(setting).map(String::as_str) {
        Some("true") => finding(check, Verdict::Ok, "leave no damaged paths in Nix's store"),
        Some(_) => finding(
            check,
            Verdict::Warning,
            "may leave valid paths with empty files in Nix's store, and wrong builds after them",
        )
        .fix(format!("in nix.conf: {setting} = true; then: systemctl restart nix-daemon")),
        None => finding(check, Verdict::Skipped, format!("this Nix has no setting {setting}")),
    }
}

fn builders(facts: &Facts) -> Finding {
    let check = "builders";
    let settings = match &facts.nix_settings {
        Ok(settings) => settings,
        Err(why) => return finding(check, Verdict::Skipped, why),
    };
    let builders = settings.get("builders").map_or("", String::as_str);
    let wanted = format!("@{}", names::MACHINES_FILE);
    if builders.split([';', '\n', ' ']).any(|word| word.trim() == wanted) {
        return finding(check, Verdict::Ok, format!("Nix reads {}", names::MACHINES_FILE));
    }
    finding(
        check,
        Verdict::Failed,
        "Nix does not know our machines file, and builds without boards",
    )
    .fix(format!("in nix.conf: builders = {wanted}"))
}

fn bash(facts: &Facts) -> Finding {
    let check = "bash";
    match &facts.nix_has_bash {
        Ok(true) => finding(check, Verdict::Ok, "on nix-daemon's PATH"),
        Ok(false) => finding(
            check,
            Verdict::Failed,
            "not on nix-daemon's PATH: Nix up to 2.19 and Lix start builders through it",
        )
        .fix("install bash (NixOS: systemd.services.nix-daemon.path = [ pkgs.bash ])"),
        Err(why) => finding(check, Verdict::Skipped, why),
    }
}
