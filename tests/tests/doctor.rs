//! `roost doctor`: all is well on a machine that is as it should be, and each thing that is broken
//! is named with its fix.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Service,
    fixtures::{builds, fleet, native::RISCV, roost, trust},
};
use serde_json::Value;

const USER: &str = "alice";

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The findings that are not `ok`, as `verdict check: found; fix`.
fn complaints(host: &Host) -> Result<Vec<String>> {
    let output = host.run(["roost", "doctor", "--json"])?;
    let findings: Value = serde_json::from_str(&output.stdout).expect("doctor prints JSON");
    let findings = findings.as_array().expect("a list of findings");
    let failed = findings.iter().any(|finding| finding["verdict"] == "failed");
    assert_eq!(output.code(), Some(i32::from(failed)), "{output}");
    let text = |finding: &Value| {
        let field = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}; {}", field("verdict"), field("check"), field("found"), field("fix"))
    };
    Ok(findings.iter().filter(|finding| finding["verdict"] != "ok").map(text).collect())
}

/// Something broken, and what doctor says of it: its verdict and check, and a part of the fix.
struct Broken {
    by: &'static str,
    mended_by: &'static str,
    told: &'static str,
    fix: &'static str,
}

fn each_is_named_with_its_fix(host: &Host, broken: &[Broken]) -> Result<()> {
    for Broken { by, mended_by, told, fix } in broken {
        host.check(by)?;
        let complaints = complaints(host)?;
        let named = complaints.iter().any(|text| text.starts_with(told) && text.contains(fix));
        assert!(named, "after {by}: {complaints:#?}");
        host.check(mended_by)?;
    }
    Ok(())
}

/// A service that is stopped, likewise.
fn a_stopped_service_is_named(host: &Host, service: Service, told: &str, fix: &str) -> Result<()> {
    host.kill9(service)?;
    let complaints = complaints(host)?;
    let named = complaints.iter().any(|text| text.starts_with(told) && text.contains(fix));
    assert!(named, "without {}: {complaints:#?}", service.name);
    host.start_service(service)
}

#[test]
fn a_workstation_is_well_and_what_is_broken_is_named_with_its_fix() -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.start()?;
    builds::add_user(&ws, USER)?;
    ws.enable_service(Service::ROOST)?;
    let lonely = complaints(&ws)?;
    assert!(lonely.len() == 1 && lonely[0].starts_with("warning fleet: "), "{lonely:#?}");
    assert!(lonely[0].contains("roost fleet init"), "{lonely:#?}");
    trust::found(&ws)?;
    lan.wait_until(Duration::from_secs(10), "the daemon knows of its fleet", || {
        ws.check("roost status --json").is_ok_and(|text| text.contains("\"enrolled\""))
    })?;
    assert_eq!(complaints(&ws)?, [""; 0]);
    let shown = ws.check("roost doctor")?;
    assert!(shown.ends_with("Nothing is wrong."), "{shown}");
    let as_user = ws.command(["roost", "doctor"]).user(USER).run()?.ok()?;
    assert!(!as_user.stdout.contains("FAILED"), "{as_user}");

    each_is_named_with_its_fix(
        &ws,
        &[
            Broken {
                by: "mv /etc/nix/nix.conf /root/; sed /builders/d /root/nix.conf >/etc/nix/nix.conf",
                mended_by: "mv /root/nix.conf /etc/nix/",
                told: "failed builders: ",
                fix: "builders = @/run/roost/machines",
            },
            Broken {
                by: "cp /etc/nix/nix.conf /root/; echo extra-platforms = riscv64-linux \
                 >>/etc/nix/nix.conf",
                mended_by: "mv /root/nix.conf /etc/nix/",
                told: "warning emulation: Nix may emulate riscv64-linux itself",
                fix: "extra-platforms",
            },
            Broken {
                by: "echo 'builds = 3' >>/etc/roost/roost.toml",
                mended_by: "sed -i /builds/d /etc/roost/roost.toml",
                told: "failed configuration: ",
                fix: "roost check-config",
            },
        ],
    )?;
    a_stopped_service_is_named(
        &ws,
        Service::AVAHI,
        "failed avahi: is not running",
        "avahi-daemon",
    )?;
    let nix = "systemctl enable --now nix-daemon.socket";
    a_stopped_service_is_named(&ws, Service::NIX_DAEMON, "failed nix-daemon: ", nix)?;
    let start = "systemctl enable --now roost";
    a_stopped_service_is_named(&ws, Service::ROOST, "failed roost daemon: ", start)?;
    ws.kill9(Service::DBUS)?;
    let complaints = complaints(&ws)?;
    let named = complaints.iter().find(|text| text.starts_with("failed"));
    assert!(named.is_some_and(|text| text.contains("dbus.socket")), "{complaints:#?}");
    assert_eq!(complaints.iter().filter(|text| text.starts_with("failed")).count(), 1, "the cause");
    Ok(())
}

/// What doctor finds of the second store, if it looks at one.
fn second_store(host: &Host) -> Result<Option<Value>> {
    let output = host.run(["roost", "doctor", "--json"])?;
    let findings: Value = serde_json::from_str(&output.stdout).expect("doctor prints JSON");
    let findings = findings.as_array().expect("a list of findings");
    Ok(findings.iter().find(|finding| finding["check"] == "second store").cloned())
}

#[test]
fn the_way_to_a_nix_daemon_for_the_second_store_is_checked_where_there_is_one() -> Result<()> {
    let lan = Lan::new()?;
    let spec = lan.host("ws").emulates([RISCV]).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, "emulate_here = true\n")?.start()?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    assert_eq!(complaints(&ws)?, [""; 0]);
    let found = second_store(&ws)?.expect("it is checked");
    let text = found["found"].as_str().unwrap_or_default();
    assert!(text.contains("started by roost itself, emulates riscv64-linux"), "{text}");
    each_is_named_with_its_fix(
        &ws,
        &[
            Broken {
                by: "mv /usr/bin/nix-daemon /root/",
                mended_by: "mv /root/nix-daemon /usr/bin/",
                told: "failed second store: cannot start nix-daemon --stdio: ",
                fix: "PATH of the roost daemon",
            },
            Broken {
                by: "mkdir -p /run/systemd/system",
                mended_by: "rm -r /run/systemd",
                told: "failed second store: nobody listens at /run/roost-emulation.sock",
                fix: "systemctl enable --now roost-emulation.socket",
            },
        ],
    )?;
    // What listens starts something else.
    let mut other = ws.spawn(
        "exec systemd-socket-activate --accept --inetd --listen=/run/roost-emulation.sock false",
    )?;
    lan.wait_until(SOON, "the socket is there", || {
        ws.sh("test -S /run/roost-emulation.sock").is_ok_and(|test| test.success())
    })?;
    let complaint = complaints(&ws)?.join("\n");
    for words in ["failed second store: nix-daemon for /var/lib/roost/emulation: ", "journalctl"] {
        assert!(complaint.contains(words), "{complaint}");
    }
    other.kill();

    ws.check("sed -i /emulate_here/d /etc/roost/roost.toml")?;
    assert_eq!(second_store(&ws)?, None);
    Ok(())
}

#[test]
fn a_board_is_well_and_what_is_broken_is_named_with_its_fix() -> Result<()> {
    let lan = Lan::new()?;
    let host = lan.host("board").system("aarch64-linux").nix_conf("sync-before-registering = true");
    let board = roost::board(host, 2, "")?.start()?;
    trust::found(&board)?;
    board.enable_service(Service::ROOST)?;
    assert_eq!(complaints(&board)?, [""; 0]);
    each_is_named_with_its_fix(
        &board,
        &[
            Broken {
                by: "mv /etc/ssh/sshd_config.d/50-roost.conf /root/",
                mended_by: "mv /root/50-roost.conf /etc/ssh/sshd_config.d/",
                told: "failed sshd: gives our user a shell",
                fix: "50-roost.conf",
            },
            Broken {
                by: "cp /etc/ssh/sshd_config.d/50-roost.conf /root/; \
                 sed -i '/Forwarding/d' /etc/ssh/sshd_config.d/50-roost.conf",
                mended_by: "mv /root/50-roost.conf /etc/ssh/sshd_config.d/",
                told: "failed sshd: has allow",
                fix: "50-roost.conf",
            },
            Broken {
                by: "usermod --shell /usr/sbin/nologin roost",
                mended_by: "usermod --shell /bin/sh roost",
                told: "failed build user: the shell of roost runs no commands",
                fix: "usermod --shell /bin/sh roost",
            },
            Broken {
                by: "echo sync-before-registering = false >>/etc/nix/nix.conf",
                mended_by: "sed -i '$d' /etc/nix/nix.conf",
                told: "warning power cuts: may leave valid paths with empty files",
                fix: "sync-before-registering = true",
            },
        ],
    )?;
    let conf = "/etc/avahi/avahi-daemon.conf";
    board.check(&format!("sed -i 's/^\\(disable-user-service-publishing=\\)no/\\1yes/' {conf}"))?;
    board.stop_service(Service::AVAHI)?;
    board.start_service(Service::AVAHI)?;
    let complaints = complaints(&board)?;
    let named = complaints.iter().any(|text| {
        text.starts_with("failed avahi: ") && text.contains("disable-user-service-publishing=no")
    });
    assert!(named, "{complaints:#?}");
    Ok(())
}
