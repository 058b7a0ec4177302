use std::collections::{BTreeMap, BTreeSet};

use super::{
    Facts, Finding, Verdict,
    facts::{NixDaemon, User},
    judge::{self, judge},
};
use crate::{
    config::Config,
    discover::{AnnounceState, Probe},
    model::NodeView,
    names,
    observe::{Machine, vitals::Heat},
};

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// An ordinary PC, without anything registered with binfmt_misc.
fn machine() -> Machine {
    Machine {
        cores: 8,
        mem_mib: 15_900,
        compatible: Vec::new(),
        board: None,
        model: None,
        system: "x86_64-linux".into(),
        native: vec!["x86_64-linux".into(), "i686-linux".into()],
        emulated: Vec::new(),
        gccarch: vec!["gccarch-x86-64"],
        isa: Vec::new(),
        features: BTreeSet::from(["benchmark", "big-parallel"]),
    }
}

/// A machine on which everything is as it should be, both board and workstation.
pub(super) fn healthy() -> Facts {
    let mut config = Config::default();
    config.board.enable = true;
    Facts {
        config: Ok(config),
        root: true,
        clock_s: 2_000_000_000,
        system_bus: Ok(()),
        avahi: Ok(Probe { version: "avahi 0.8".into(), publishing: Ok(()) }),
        daemon: Ok(NodeView {
            name: "rock5".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            fleet: "SHA256:abc".into(),
            enrolment: "enrolled".into(),
            ..NodeView::default()
        }),
        boards: Ok(Vec::new()),
        second_store: Ok(None),
        second_nix: None,
        machine: Ok(machine()),
        heat: Some(Heat { temperature_mc: 52_300, passive_mc: Some(70_000) }),
        clock_mhz: Some((1_200, 2_400)),
        nix: Ok(NixDaemon { version: "2.26.3".into(), trusted: Some(true) }),
        nix_settings: Ok(settings(&[
            ("builders", "@/run/roost/machines"),
            ("extra-platforms", "i686-linux x86_64-linux"),
            ("sync-before-registering", "true"),
            ("system", "x86_64-linux"),
        ])),
        nix_has_bash: Ok(true),
        nix_asks: Ok(true),
        sshd: Ok(settings(&[
            ("authorizedkeysfile", "none"),
            ("trustedusercakeys", names::AUTHORITIES_FILE),
            ("revokedkeys", names::REVOKED_FILE),
            ("allowagentforwarding", "no"),
            ("allowtcpforwarding", "no"),
            ("forcecommand", "/usr/bin/roost serve"),
            ("maxsessions", "128"),
            ("permittty", "no"),
            ("permituserrc", "no"),
            ("usepam", "yes"),
        ])),
        user: Ok(User { shell: true, locked: true }),
    }
}

/// What was found about one check after something was changed on a healthy machine.
#[track_caller]
pub(super) fn after(check: &str, change: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = healthy();
    change(&mut facts);
    let found = judge(&facts).into_iter().find(|finding| finding.check == check);
    found.unwrap_or_else(|| panic!("{check} was not checked"))
}

#[track_caller]
fn fails(check: &str, says: &str, fix: &str, change: impl FnOnce(&mut Facts)) {
    let finding = after(check, change);
    assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
    assert!(finding.found.contains(says), "{finding:?}");
    assert!(finding.fix.contains(fix), "{finding:?}");
}

#[track_caller]
pub(super) fn set(
    settings: &mut super::facts::Seen<BTreeMap<String, String>>,
    key: &str,
    value: &str,
) {
    settings.as_mut().unwrap().insert(key.into(), value.into());
}

#[test]
fn nothing_is_wrong_with_a_healthy_machine() {
    let findings = judge(&healthy());
    let wrong: Vec<_> = findings.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(findings.len(), 19);
}

#[test]
fn every_failure_comes_with_a_fix() {
    fails("configuration", "roost.toml:3: unknown key", "check-config", |facts| {
        facts.config = Err("/etc/roost/roost.toml:3: unknown key `x`\n  3 | x = 1".into());
    });
    fails("clock", "at least 10 days slow", "time service", |facts| {
        facts.clock_s = judge::RELEASED_S - 10 * 86_400;
    });
    fails("system bus", "refused", "dbus", |facts| facts.system_bus = Err("refused".into()));
    fails("avahi", "not running", "install avahi-daemon", |facts| {
        facts.avahi = Err(AnnounceState::NoAvahi);
    });
    fails("avahi", "lets nobody publish", "disable-user-service-publishing=no", |facts| {
        facts.avahi.as_mut().unwrap().publishing = Err(AnnounceState::NotPermitted);
    });
    fails("nix-daemon", "no such file", names::NIX_DAEMON_SOCKET, |facts| {
        facts.nix = Err("no such file".into());
    });
    fails("nix-daemon", "2.17.1 is too old", "2.18", |facts| {
        facts.nix.as_mut().unwrap().version = "2.17.1".into();
    });
    fails("nix-daemon", "does not trust root", "trusted-users", |facts| {
        facts.nix.as_mut().unwrap().trusted = Some(false);
    });
    fails("roost daemon", "does not answer", "systemctl enable --now roost", |facts| {
        facts.daemon = Err("does not answer".into());
    });
    fails("build user", "no user roost", "useradd", |facts| {
        facts.user = Err("no user roost".into());
    });
    fails("build user", "runs no commands", "usermod --shell", |facts| {
        facts.user.as_mut().unwrap().shell = false;
    });
    fails("build user", "as locked", "UsePAM yes", |facts| set(&mut facts.sshd, "usepam", "no"));
    fails("builders", "builds without boards", "builders = @/run/roost/machines", |facts| {
        set(&mut facts.nix_settings, "builders", "@/etc/nix/machines");
    });
    fails("bash", "not on nix-daemon's PATH", "install bash", |facts| {
        facts.nix_has_bash = Ok(false);
    });
}

#[test]
fn sshd_must_confine_the_build_user() {
    let drop_in = "50-roost.conf";
    fails("sshd", "no sshd", "openssh-server", |facts| facts.sshd = Err("no sshd".into()));
    fails("sshd", "gives our user a shell", drop_in, |facts| {
        set(&mut facts.sshd, "forcecommand", "none");
    });
    fails("sshd", "runs \"nix-store --serve\"", drop_in, |facts| {
        set(&mut facts.sshd, "forcecommand", "nix-store --serve");
    });
    fails("sshd", "has allowtcpforwarding yes", drop_in, |facts| {
        set(&mut facts.sshd, "allowtcpforwarding", "yes");
    });
    let few = after("sshd", |facts| set(&mut facts.sshd, "maxsessions", "10"));
    assert_eq!(few.verdict, Verdict::Warning, "{few:?}");
}

#[test]
fn what_only_root_sees_is_not_held_against_others() {
    let finding = after("sshd", |facts| {
        facts.root = false;
        facts.sshd = Err("sshd: no hostkeys available".into());
    });
    assert_eq!(finding.verdict, Verdict::Skipped);
    let finding = after("nix-daemon", |facts| {
        facts.root = false;
        facts.nix.as_mut().unwrap().trusted = Some(false);
    });
    assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    let finding =
        after("bash", |facts| facts.nix_has_bash = Err("nix-daemon is not running".into()));
    assert_eq!(finding.verdict, Verdict::Skipped);
}

#[test]
fn only_what_a_node_does_is_checked() {
    let checks = |facts: &Facts| judge(facts).iter().map(|f| f.check).collect::<Vec<_>>();
    let mut board = healthy();
    board.config.as_mut().unwrap().workstation.enable = false;
    assert!(!checks(&board).contains(&"builders"));
    assert!(checks(&board).contains(&"sshd"));
    let mut workstation = healthy();
    workstation.config.as_mut().unwrap().board.enable = false;
    assert!(checks(&workstation).contains(&"builders"));
    assert!(!checks(&workstation).contains(&"sshd"));
    workstation.avahi.as_mut().unwrap().publishing = Err(AnnounceState::NotPermitted);
    let avahi = judge(&workstation).into_iter().find(|f| f.check == "avahi").unwrap();
    assert_eq!(avahi.verdict, Verdict::Ok, "looking for boards needs no right to publish");
}

#[test]
fn our_machines_file_is_found_among_other_builders() {
    for builders in [
        "@/etc/nix/machines;@/run/roost/machines",
        "@/run/roost/machines ; ssh://other aarch64-linux",
        "ssh://other aarch64-linux\n@/run/roost/machines",
    ] {
        let finding = after("builders", |facts| set(&mut facts.nix_settings, "builders", builders));
        assert_eq!(finding.verdict, Verdict::Ok, "{builders}");
    }
}

#[test]
fn a_daemon_of_another_version_is_to_be_restarted() {
    let finding = after("roost daemon", |facts| {
        facts.daemon.as_mut().unwrap().version = "0.0.1".into();
    });
    assert_eq!(finding.verdict, Verdict::Warning);
    assert_eq!(finding.fix, "systemctl restart roost");
}

#[test]
fn versions_of_lix_and_of_snapshots_are_read() {
    for (version, verdict) in [
        ("2.91.1 (Lix)", Verdict::Ok),
        ("2.18.0", Verdict::Ok),
        ("2.35pre20260801", Verdict::Ok),
        ("2.3.16", Verdict::Failed),
        ("unknown", Verdict::Ok),
    ] {
        let finding = after("nix-daemon", |facts| {
            facts.nix.as_mut().unwrap().version = version.into();
        });
        assert_eq!(finding.verdict, verdict, "{version}");
    }
}

#[test]
fn what_nix_would_refuse_is_no_offer() {
    let offers = |features: &[&str], systems: &[&str]| {
        after("offers", |facts| {
            let words =
                |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let board = &mut facts.config.as_mut().unwrap().board;
            board.features = Some(words(features).into_iter().collect());
            board.systems = Some(words(systems));
            let nix = facts.nix_settings.as_mut().unwrap();
            nix.insert("system-features".into(), "kvm big-parallel".into());
            nix.insert("experimental-features".into(), "flakes ca-derivations".into());
        })
    };
    let fine = offers(&["kvm", "ca-derivations"], &["i686-linux"]);
    assert_eq!(fine.verdict, Verdict::Ok, "{fine:?}");
    let features = offers(&["kvm", "gpu", "flakes"], &[]);
    assert_eq!(features.verdict, Verdict::Warning);
    assert!(features.found.contains("flakes, gpu of board.features"), "{features:?}");
    assert!(features.fix.contains("system-features"), "{features:?}");
    let systems = offers(&[], &["riscv64-linux"]);
    assert!(systems.found.contains("riscv64-linux of board.systems"), "{systems:?}");
}

#[test]
fn a_node_that_is_in_no_fleet_or_not_yet_is_told_what_to_do() {
    for (enrolment, verdict) in
        [("none", Verdict::Warning), ("waiting", Verdict::Warning), ("ended", Verdict::Failed)]
    {
        let mut facts = healthy();
        facts.daemon = facts.daemon.map(|node| NodeView {
            enrolment: enrolment.into(),
            enrolment_note: "Do this.".into(),
            ..node
        });
        let findings = judge(&facts);
        let fleet = findings.iter().find(|finding| finding.check == "fleet").unwrap();
        assert_eq!((fleet.verdict, fleet.fix.as_str()), (verdict, "Do this."), "{enrolment}");
    }
}

#[test]
fn an_update_that_was_rolled_back_is_a_warning_with_what_to_do() {
    let mut facts = healthy();
    facts.daemon = facts
        .daemon
        .map(|node| NodeView { update_note: "its last update was rolled back: x".into(), ..node });
    let findings = judge(&facts);
    let update = findings.iter().find(|finding| finding.check == "update").unwrap();
    assert_eq!(update.verdict, Verdict::Warning);
    assert!(update.found.contains("rolled back") && update.fix.contains("roost update"));
}

#[test]
fn a_board_whose_nix_calls_paths_valid_before_they_are_on_the_disk_is_warned_of() {
    let setting = "sync-before-registering";
    let finding = after("power cuts", |facts| set(&mut facts.nix_settings, setting, "false"));
    assert_eq!(finding.verdict, Verdict::Warning);
    assert!(finding.fix.contains("sync-before-registering = true"), "{finding:?}");
    let finding = after("power cuts", |facts| {
        facts.nix_settings.as_mut().unwrap().remove(setting);
    });
    assert_eq!(finding.verdict, Verdict::Skipped);
}
