//! Hosts of the lab that run programs of other architectures, and hardware that tests make up.

use std::{fs, time::Duration};

use roost_lab::{
    Host, Lan, Release, Result, Service,
    fixtures::{
        foreign,
        nix::{self, Drv},
        ssh, steered,
    },
};

const SOON: Duration = Duration::from_secs(30);
const RISCV: &str = "riscv64-linux";
const ARM: &str = "aarch64-linux";

/// What binfmt_misc of a host shows.
fn formats(host: &Host) -> Result<String> {
    host.check("ls /proc/sys/fs/binfmt_misc")
}

/// What binfmt_misc of the machine shows.
fn formats_of_the_machine() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn build(host: &Host, drv: &Drv) -> Result<String> {
    nix::write(host, "/root/build.nix", &drv.expr())?;
    let path = host.check("nix-build --no-out-link /root/build.nix")?;
    host.read(&path)
}

#[test]
fn a_host_emulates_what_its_binfmt_misc_shows_and_another_runs_the_same_without() -> Result<()> {
    let before = formats_of_the_machine();
    let lan = Lan::new()?;
    let [emulates, both, runs, neither] = lan.start([
        lan.host("emulates").system(ARM).emulates([RISCV]),
        lan.host("both").emulates([RISCV, ARM]).release(Release::Sid),
        lan.host("runs").system(RISCV).runs([RISCV]),
        lan.host("neither"),
    ])?;
    assert_eq!(formats(&emulates)?, "qemu-riscv64\nregister\nstatus");
    assert_eq!(formats(&both)?, "qemu-aarch64\nqemu-riscv64\nregister\nstatus");
    assert_eq!(formats(&runs)?, "");
    assert_eq!(formats(&neither)?, "");
    assert!(!runs.read("/proc/mounts")?.contains("binfmt"));

    for host in [&emulates, &both, &runs] {
        assert_eq!(host.check("/usr/lib/lab-riscv64-linux/bin/busybox uname -m")?, "riscv64");
        assert_eq!(build(host, &foreign::drv("proof", RISCV))?, foreign::output(RISCV));
    }
    assert_eq!(build(&both, &foreign::drv("proof", ARM))?, foreign::output(ARM));
    assert!(!emulates.sh("/usr/lib/lab-aarch64-linux/bin/busybox true")?.success());
    assert!(!neither.sh("/usr/lib/lab-riscv64-linux/bin/busybox true")?.success());
    assert_eq!(formats_of_the_machine(), before);
    Ok(())
}

#[test]
fn a_host_that_emulates_is_a_host_like_any_other() -> Result<()> {
    let lan = Lan::new()?;
    let [client, board] =
        lan.start([lan.host("client"), lan.host("board").system(ARM).emulates([RISCV])])?;
    let [v4, v6] = [board.ipv4().map(|a| a.to_string()), board.ipv6().map(|a| a.to_string())];
    client.check(&format!("ping -c 1 -W 2 {}", v4.as_deref().unwrap_or_default()))?;
    client.check(&format!("ping -c 1 -W 2 {}%eth0", v6.as_deref().unwrap_or_default()))?;
    lan.wait_until(SOON, "the client resolves board.local", || {
        client.sh("avahi-resolve -n board.local").is_ok_and(|o| o.success())
    })?;
    ssh::stock(&client, &[&board])?;
    let drv = foreign::drv("proof", RISCV);
    nix::write(&client, "/root/build.nix", &drv.expr())?;
    for (scheme, command) in [("ssh-ng", "nix-build --no-out-link"), ("ssh", "nix-build --check")] {
        let builders = ssh::builder(scheme, &board, RISCV, 1);
        client.check(&format!("{command} --builders '{builders}' --max-jobs 0 /root/build.nix"))?;
    }
    // The files of a build belong to a user of the host's, and it has its sandbox.
    let drv = Drv::new("sandboxed", ARM, "id -u >$out; ls -d /root /usr >>$out 2>/dev/null || :");
    assert_eq!(build(&board, &drv)?, "1000\n");

    board.power_off()?;
    board.power_on()?;
    let drv = foreign::drv("proof", RISCV).salt("after");
    assert_eq!(build(&board, &drv)?, foreign::output(RISCV));
    board.cut_link()?;
    board.restore_link()?;
    board.kill9(Service::SSHD)?;
    board.start_service(Service::SSHD)
}

#[test]
fn builds_by_foreign_programs_are_steered() -> Result<()> {
    let lan = Lan::new()?;
    let spec = lan.host("board").system(RISCV).runs([RISCV]);
    let board = steered::allow(spec).start()?;
    steered::prepare(&board)?;
    nix::write(&board, "/root/a.nix", &foreign::steered("a", RISCV).expr())?;
    let mut build = board.spawn("nix-build --no-out-link /root/a.nix")?;
    steered::wait_started(&lan, &board, "a", 1)?;
    steered::builder(&board, "a")?;
    assert!(build.ended().is_none());
    steered::release(&board, "a")?;
    let output = build.wait(SOON)?.ok()?;
    assert_eq!(board.read(output.stdout.trim())?, foreign::output(RISCV));
    assert_eq!(steered::overlaps(&board)?, "");
    Ok(())
}

#[test]
fn a_test_makes_up_hardware_and_builds_go_on_in_their_sandbox() -> Result<()> {
    let lan = Lan::new()?;
    let [plain, emulates] =
        lan.start([lan.host("plain").system(RISCV), lan.host("emulates").emulates([RISCV])])?;
    let zone = "/sys/class/thermal/thermal_zone0";
    for host in [&plain, &emulates] {
        host.write_hardware(&format!("{zone}/type"), "cpu-thermal\n")?;
        host.write_hardware(&format!("{zone}/temp"), "40000\n")?;
        host.write_hardware("/proc/meminfo", "MemTotal: 1024 kB\n")?;
        let mut reader = host.spawn(&format!(
            "exec <{zone}/temp; cat; until grep -q hot {zone}/type; do :; done; cat {zone}/temp"
        ))?;
        lan.wait_until(SOON, "it was read", || reader.stdout() == "40000\n")?;
        for text in ["39000\n", "81000\n"] {
            host.write_hardware(&format!("{zone}/temp"), text)?;
        }
        host.write_hardware(&format!("{zone}/type"), "hot\n")?;
        assert_eq!(reader.wait(SOON)?.ok()?.stdout, "40000\n81000\n");
        assert_eq!(host.check("ls /sys/class/thermal")?, "thermal_zone0");
        assert_eq!(host.read("/proc/meminfo")?, "MemTotal: 1024 kB\n");
        let drv = Drv::new("sandboxed", RISCV, "cat /proc/sys/kernel/hostname >$out");
        assert_eq!(build(host, &drv)?, "localhost\n", "in a sandbox of its own");
    }
    assert_ne!(fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal: 1024 kB\n");
    Ok(())
}
