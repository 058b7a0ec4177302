//! The package under a real systemd: its units as they are shipped, Debian's own for the rest.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::{io::Cursor, time::Duration};

use roost_lab::{
    Host, Lan, Output, Result,
    fixtures::{
        builds::{self, FLEET, Nix},
        card::Card,
        fleet::{self, SYSTEM},
        nix::Drv,
        systemd::{self, EMULATION, FIRST_BOOT, ROOST},
        trust,
    },
};
use serde_json::Value;

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn hello(salt: &str) -> String {
    Drv::new("hello", SYSTEM, "echo hello >$out").salt(salt).expr()
}

/// An empty FAT volume with the seed's label, as a card has it.
fn volume() -> Vec<u8> {
    let mut image = Cursor::new(vec![0; 4 << 20]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"ROOST_SEED ");
    fatfs::format_volume(&mut image, options).expect("a volume is made in memory");
    image.into_inner()
}

/// A card with a seed that a workstation has written to it, with all that a seed can hold.
fn seeded_card(ws: &Host) -> Result<Card> {
    ws.write("/root/card.img", 0o644, volume())?;
    ws.check(
        "ssh-keygen -q -t ed25519 -N '' -f /root/console && echo 'correct horse' >/root/passphrase
         roost seed --hostname rock5 --wifi workshop --wifi-passphrase-file /root/passphrase \\
           --console-key /root/console.pub /root/card.img",
    )?;
    let image = ws.check("od -An -v -tx1 /root/card.img")?;
    let bytes = image.split_whitespace().map(|hex| u8::from_str_radix(hex, 16));
    Card::of(&bytes.collect::<std::result::Result<Vec<_>, _>>().expect("od prints bytes"))
}

/// A workstation with a fleet, and a board that has joined it by its seed.
struct Fleet {
    lan: Lan,
    ws: Host,
    board: Host,
    card: Card,
}

impl Fleet {
    fn start() -> Result<Self> {
        let lan = Lan::new()?;
        let ws = systemd::workstation(&lan, "ws", "")?.start()?;
        trust::found(&ws)?;
        let card = seeded_card(&ws)?;
        let board = card.inserted(systemd::board(&lan, "board", "")?);
        let board = board.prepare("rm /etc/ssh/ssh_host_*").start()?;
        fleet::wait_reach_of(&lan, &ws, "rock5", "up")?;
        Ok(Self { lan, ws, board, card })
    }
}

/// Nothing that systemd runs has failed, and our units have nothing to complain of.
fn is_well(host: &Host) -> Result<()> {
    assert_eq!(host.check("systemctl --failed --no-legend --plain")?, "", "on {}", host.name());
    // sshd's and the kernel's complaints of a sandbox would be there, too.
    assert_eq!(systemd::journal(host, "--priority=warning")?, "", "on {}", host.name());
    let findings = host.check("roost doctor --json")?;
    let findings: Vec<Value> = serde_json::from_str(&findings).expect("doctor prints a list");
    let complaints: Vec<_> = findings.iter().filter(|it| it["verdict"] != "ok").collect();
    assert!(complaints.is_empty(), "on {}: {complaints:#?}", host.name());
    Ok(())
}

#[test]
fn a_board_takes_its_seed_when_it_boots_and_builds_for_the_fleet() -> Result<()> {
    let Fleet { lan, ws, board, card } = Fleet::start()?;
    let first_boot = systemd::journal(&board, &format!("--unit={FIRST_BOOT}"))?;
    assert_eq!(systemd::property(&board, FIRST_BOOT, "Result")?, "success", "{first_boot}");
    assert_eq!(board.check("hostname")?, "rock5");
    for secret in [&b"token"[..], b"correct horse"] {
        assert!(!card.has(secret)?, "the seed is still on the card");
    }
    assert!(board.read("/var/lib/iwd/workshop.psk")?.contains("correct horse"));
    let modes = "stat -c %a /etc/ssh/ssh_host_ed25519_key /var/lib/iwd/workshop.psk /root/.ssh/authorized_keys";
    assert_eq!(board.check(modes)?, "600\n600\n600");
    for host in [&ws, &board] {
        assert_eq!(systemd::property(host, ROOST, "StatusErrno")?, "0");
        assert_eq!(host.check("stat -c '%U %a' /var/lib/roost/trust")?, "root 700");
        assert_eq!(host.check("getent passwd roost | cut -d: -f 6-")?, "/var/lib/roost:/bin/sh");
    }
    // systemd had sshd read its configuration, for the daemon asked it to.
    let shown = "ssh-keyscan -c -t ed25519 127.0.0.1 2>/dev/null";
    lan.wait_until(SOON, "sshd shows the certificate", || {
        board.check(shown).is_ok_and(|text| text.contains("ssh-ed25519-cert-v01@openssh.com"))
    })?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    let output = Nix::Build.command(&ws, &hello("built"), &["--max-jobs", "0"])?.run()?.ok()?;
    assert_eq!(ws.read(output.stdout.trim())?, "hello\n");
    let job = fleet::wait_job(&lan, &ws, "hello", "built", |job| job.state == "built")?;
    assert_eq!(job.node.as_deref(), Some("rock5"));
    assert!(job.client.starts_with("root (pid "), "{job:?}");
    let issue = board.read("/run/issue.d/50-roost.issue")?;
    assert!(issue.contains("roost board rock5"), "{issue}");
    is_well(&ws)?;
    is_well(&board)?;
    // Again, as boards do.
    board.power_off()?;
    board.power_on()?;
    fleet::wait_reach_of(&lan, &ws, "rock5", "up")?;
    builds::on_fleet(&ws, &hello("after a boot"))?;
    is_well(&board)
}

#[test]
fn a_daemon_that_dies_or_hangs_is_started_again_with_its_queue() -> Result<()> {
    let Fleet { lan, ws, board, .. } = Fleet::start()?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    ws.check("roost drain rock5")?;
    lan.wait_until(SOON, "the workstation sees it drain", || {
        fleet::shown(&ws, "rock5").is_some_and(|it| it["node"]["draining"] == true)
    })?;
    let mut build = Nix::DashBuild.command(&ws, &hello("kept"), FLEET)?.spawn()?;
    let queued = fleet::wait_job(&lan, &ws, "hello", "queued", |job| job.state == "queued")?;
    // What is in the runtime folder outlives a restart, for Nix reads the machines file at any moment.
    ws.check("touch /run/roost/witness")?;
    let answers = |host: &Host, before: i32| {
        let pid = systemd::daemon_pid(host).unwrap_or(0);
        pid != 0 && pid != before && host.check("roost status --json").is_ok()
    };
    let hang = "mkdir -p /run/systemd/system/roost.service.d
        printf '[Service]\\nWatchdogSec=2\\n' >/run/systemd/system/roost.service.d/watchdog.conf
        systemctl daemon-reload && systemctl restart roost
        systemctl kill --kill-whom=main --signal=STOP roost";
    for (what, done) in [
        ("restart", "systemctl restart roost"),
        ("kill", "systemctl kill -s KILL roost"),
        ("hang", hang),
    ] {
        let before = systemd::daemon_pid(&ws)?;
        ws.check(done)?;
        lan.wait_until(SOON, &format!("the daemon is back after a {what}"), || {
            answers(&ws, before)
        })?;
        let job = fleet::wait_job(&lan, &ws, "hello", "kept", |job| job.state == "queued")?;
        assert_eq!(job.id, queued.id, "after a {what}");
        assert!(
            ws.check("ls /run/roost")?.contains("machines\nonly\nssh\nwitness"),
            "after a {what}"
        );
    }
    let journal = systemd::journal(&ws, "")?;
    assert!(journal.contains("watchdog") && journal.contains("status=9/KILL"), "{journal}");
    build.wait(SOON)?;
    ws.check("rm -r /run/systemd/system/roost.service.d && systemctl daemon-reload")?;
    ws.check("systemctl restart roost")?;
    fleet::wait_reach_of(&lan, &ws, "rock5", "up")?;
    ws.check("roost resume rock5")?;
    builds::on_fleet(&ws, &hello("kept"))?;
    for host in [&ws, &board] {
        host.check("systemctl stop roost")?;
        assert_eq!(
            host.check("ls -d /run/roost 2>/dev/null || true")?,
            "",
            "it goes with the service"
        );
        assert_eq!(systemd::property(host, ROOST, "Result")?, "success");
    }
    Ok(())
}

/// What the daemon is not to do, and what it is to do, as the daemon itself tries it: by a command that
/// it starts. One line of a file each.
const TRIES: &str = r#"
    try() { if "$@" >/dev/null 2>&1; then echo "did: $*"; else echo "did not: $*"; fi; }
    {
        try touch /etc/roost/new
        try touch /usr/new
        try touch /root/new
        try ls /home/alice
        try ls /root/secret
        try mount -t tmpfs none /tmp
        try unshare --mount true
        try unshare --user true
        try mknod /var/lib/roost/node b 7 0
        try dd if=/dev/loop0 of=/dev/null count=1
        try sh -c 'echo 1 >/proc/sys/kernel/panic'
        try sh -c 'echo c >/sys/fs/cgroup/cgroup.procs'
        try hostname elsewhere
        try setpriv --reuid=nobody true
        try chmod u+s /var/lib/roost/tried
        try cat /etc/machine-id
        try test -c /dev/kvm
        try sh -c '! head -c 1 /dev/kvm 2>&1 | grep -q permitted'
        try touch /var/lib/roost/new
        try touch /nix/var/nix/gcroots/roost/new
        try systemctl is-active ssh.service
        try nix-store --version
    } >/var/lib/roost/tried"#;

/// The first so many of [`TRIES`] are refused.
const REFUSED: usize = 15;

#[test]
fn the_daemon_cannot_do_what_it_need_not() -> Result<()> {
    let lan = Lan::new()?;
    let reload = "reload_sshd = [\"sh\", \"/srv/tries\"]";
    let board = systemd::board(&lan, "board", reload)?.file("/srv/tries", 0o644, TRIES);
    // Whether or not the machine has a driver for it.
    let board =
        board.file("/etc/tmpfiles.d/kvm.conf", 0o644, "c /dev/kvm 0666 root root - 10:232\n");
    let board = board.prepare("useradd --create-home alice && touch /root/secret").start()?;
    // It certifies itself, and has its sshd show that.
    board.check("roost fleet init")?;
    lan.wait_until(SOON, "the daemon has tried", || {
        board.sh("grep -q nix-store /var/lib/roost/tried").is_ok_and(|output| output.success())
    })?;
    let tried = board.read("/var/lib/roost/tried")?;
    for (index, line) in tried.lines().enumerate() {
        let wanted = if index < REFUSED { "did not: " } else { "did: " };
        assert!(line.starts_with(wanted), "wanted {wanted}of {line}\n{tried}");
    }
    assert_eq!(tried.lines().count(), TRIES.matches("try ").count());
    let status = board.check(&format!("cat /proc/{}/status", systemd::daemon_pid(&board)?))?;
    let has = |line: &str| status.lines().any(|found| found.split_whitespace().eq(line.split(' ')));
    // CAP_CHOWN is 0, CAP_SYS_TIME is 25 (capabilities(7)).
    for line in
        ["CapBnd: 0000000002000001", "CapEff: 0000000002000001", "NoNewPrivs: 1", "Seccomp: 2"]
    {
        assert!(has(line), "{line}: {status}");
    }
    Ok(())
}

fn call(host: &Host, user: &str, method: &str) -> Result<Output> {
    let fixed = ["busctl", "--system", "call", "org.roost.Node1", "/org/roost/Node1"];
    let words = fixed.into_iter().chain(["org.roost.Node1"]).chain(method.split(' '));
    host.command(words).user(user).run()
}

#[test]
fn the_bus_keeps_to_our_policy_and_ssh_to_ours() -> Result<()> {
    let lan = Lan::new()?;
    let ws = systemd::workstation(&lan, "ws", "")?.prepare("useradd visitor").start()?;
    for method in ["Describe", "ListJobs"] {
        call(&ws, "visitor", method)?.ok()?;
    }
    for method in ["Drain", "Resume", "CancelJob s nothing"] {
        let refused = call(&ws, "visitor", method)?;
        assert!(refused.stderr.contains("denied"), "{refused}");
    }
    let request = "busctl --system call org.freedesktop.DBus / org.freedesktop.DBus RequestName su \
                   org.roost.Node1 0";
    let refused = ws.command(request.split(' ')).user("visitor").run()?;
    assert!(refused.stderr.contains("Access denied"), "{refused}");
    let sshd = ws.check("sshd -T -C user=roost,host=elsewhere,addr=10.42.0.99")?;
    for line in ["forcecommand /usr/bin/roost serve", "permittty no", "authorizedkeysfile none"] {
        assert!(sshd.lines().any(|found| found == line), "{line}: {sshd}");
    }
    Ok(())
}

#[test]
fn the_second_stores_nix_builds_in_its_sandbox() -> Result<()> {
    let lan = Lan::new()?;
    let ws = systemd::workstation(&lan, "ws", "")?.start()?;
    ws.check(&format!("systemctl enable --now {EMULATION}"))?;
    let system =
        ws.check("nix-instantiate --eval --expr builtins.currentSystem --raw || uname -m")?;
    let script = "echo $(id -u) $(ls /proc | grep -c cpuinfo) >$out";
    let expr = Drv::new("inside", system.trim(), script).expr();
    let build = Nix::DashBuild.command(&ws, &expr, &["--builders", ""])?;
    let store = "unix:///run/roost-emulation.sock?root=/var/lib/roost/emulation";
    let output = build.env("NIX_REMOTE", store).run()?.ok()?;
    let path = format!("/var/lib/roost/emulation{}", output.stdout.trim());
    assert_eq!(ws.read(&path)?, "1000 1\n");
    assert_eq!(ws.check("systemctl --failed --no-legend --plain")?, "");
    Ok(())
}

#[test]
fn nix_asks_roost_as_long_as_its_drop_in_is_linked_and_there() -> Result<()> {
    let lan = Lan::new()?;
    let ws = systemd::workstation(&lan, "ws", "")?.start()?;
    // As README has it.
    ws.check(
        "mkdir -p /etc/systemd/system/nix-daemon.service.d
         ln -s /usr/share/roost/nix-daemon.conf /etc/systemd/system/nix-daemon.service.d/roost.conf
         systemctl daemon-reload; systemctl restart nix-daemon",
    )?;
    let system = ws.check("uname -m")?;
    let build = |name: &str| {
        let drv = Drv::new(name, &format!("{}-linux", system.trim()), "echo built >$out");
        let output = Nix::DashBuild.command(&ws, &drv.expr(), &[])?.run()?.ok()?;
        ws.read(output.stdout.trim())
    };
    let asks = || -> Result<bool> {
        let findings: Vec<Value> =
            serde_json::from_str(&ws.check("roost doctor --json || true")?).expect("a list");
        let finding = findings.into_iter().find(|finding| finding["check"] == "local builds");
        Ok(finding.is_some_and(|it| it["found"].to_string().contains("Nix asks roost")))
    };
    assert_eq!(build("with")?, "built\n");
    assert!(asks()?);
    // The package is removed, and its link stays.
    ws.check("rm /usr/share/roost/nix-daemon.conf; systemctl daemon-reload; systemctl restart nix-daemon")?;
    assert_eq!(build("without")?, "built\n");
    assert!(!asks()?);
    assert_eq!(ws.check("systemctl --failed --no-legend --plain")?, "");
    Ok(())
}
