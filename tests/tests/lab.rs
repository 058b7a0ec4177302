//! The lab itself: what the tests of roost stand on.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use roost_lab::{
    Addressing, Disk, Error, Host, Lan, Release, Result, Service, Signal,
    fixtures::{
        nix::{self, Drv},
        ssh,
    },
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn hosts_see_each_other_by_both_protocols_and_multicast_dns() -> Result<()> {
    let lan = Lan::new()?;
    let begin = roost_lab::now();
    let [a, b] = lan.start([lan.host("alpha"), lan.host("beta")])?;
    println!("two hosts started in {:?}", begin.elapsed());
    let v4 = b.ipv4().expect("dual");
    let v6 = b.ipv6().expect("dual");
    a.check(&format!("ping -c 1 -W 2 {v4}"))?;
    a.check(&format!("ping -c 1 -W 2 {v6}%eth0"))?;
    lan.wait_until(SOON, "alpha resolves beta.local", || {
        a.sh("avahi-resolve -4 -n beta.local").is_ok_and(|o| o.stdout.contains(&v4.to_string()))
    })?;
    lan.wait_until(SOON, "alpha resolves beta.local over IPv6", || {
        a.sh("avahi-resolve -6 -n beta.local").is_ok_and(|o| o.stdout.contains(&v6.to_string()))
    })?;
    let _announced = b.spawn("exec avahi-publish -s beta _nix-builder._tcp 22 txtvers=1")?;
    lan.wait_until(SOON, "alpha sees the service of beta", || {
        a.sh("avahi-browse -prt _nix-builder._tcp").is_ok_and(|o| o.stdout.contains("txtvers=1"))
    })
}

#[test]
fn stock_nix_builds_for_another_architecture_over_ssh() -> Result<()> {
    let lan = Lan::new()?;
    let [old, new, board] = lan.start([
        lan.host("old"),
        lan.host("new").release(Release::Sid),
        lan.host("board").system("aarch64-linux").max_jobs(2),
    ])?;
    for client in [&old, &new] {
        println!("{}: {}", client.name(), client.check("nix --version")?);
        ssh::stock(client, &[&board])?;
        for scheme in ["ssh-ng", "ssh"] {
            let salt = format!("{} {scheme}", client.name());
            let script = "echo building on $(cat /proc/sys/kernel/hostname); echo done >$out";
            let drv = Drv::new("hello", "aarch64-linux", script).salt(&salt);
            nix::write(client, "/root/hello.nix", &drv.expr())?;
            let builders = ssh::builder(scheme, &board, "aarch64-linux", 2);
            let build = |command: &str| {
                client.check(&format!("{command} --builders '{builders}' --max-jobs 0"))
            };
            let out = build("nix build --no-link --print-out-paths -L --file /root/hello.nix")?;
            assert_eq!(client.read(&out)?, "done\n");
            assert_eq!(board.read(&out)?, "done\n");
            assert_eq!(build("nix-build --no-out-link /root/hello.nix")?, out);
        }
    }
    Ok(())
}

#[test]
fn a_host_with_one_protocol_has_only_that_and_is_reached_by_it() -> Result<()> {
    let lan = Lan::new()?;
    let base = [Service::SSHD];
    let [ws, v4, v6] = lan.start([
        lan.host("ws").services(&[]),
        lan.host("four").addressing(Addressing::V4Only).services(&base),
        lan.host("six").addressing(Addressing::V6Only).services(&base),
    ])?;
    assert_eq!((v4.ipv6(), v6.ipv4()), (None, None));
    assert_eq!(v4.check("ip -6 address show dev eth0")?, "");
    assert_eq!(v6.check("ip -4 address show dev eth0")?, "");
    ssh::stock(&ws, &[&v4, &v6])?;
    for board in [&v4, &v6] {
        assert_eq!(ws.check(&format!("ssh builder@{} hostname", board.name()))?, board.name());
    }
    Ok(())
}

#[test]
fn a_forced_command_is_all_that_a_key_is_good_for() -> Result<()> {
    let lan = Lan::new()?;
    let sshd = [Service::SSHD];
    let [ws, board] =
        lan.start([lan.host("ws").services(&[]), lan.host("board").services(&sshd)])?;
    board.write("/usr/bin/roost", 0o755, "#!/bin/sh\necho \"$1: $SSH_ORIGINAL_COMMAND\"\n")?;
    let key = ssh::key(&ws, ssh::KEY)?;
    ssh::authorize(&board, "roost", &key, Some("/usr/bin/roost serve"))?;
    ssh::introduce(&ws, &board)?;
    assert_eq!(ws.check("ssh roost@board cat /etc/passwd")?, "serve: cat /etc/passwd");
    Ok(())
}

#[test]
fn a_cut_link_is_silent_and_a_restored_one_works_again() -> Result<()> {
    let lan = Lan::new()?;
    let [a, b] = lan.start([lan.host("a").services(&[]), lan.host("b").services(&[])])?;
    let ping = || a.sh(&format!("ping -c 1 -W 1 {}", b.address())).is_ok_and(|o| o.success());
    assert!(ping());
    b.cut_link()?;
    assert!(!ping());
    b.restore_link()?;
    lan.wait_until(SOON, "b answers again", ping)
}

#[test]
fn a_disk_outlives_the_power_and_a_full_one_says_so() -> Result<()> {
    let lan = Lan::new()?;
    let host = lan.host("board").disk(Disk::Memory(64)).start()?;
    let pid = host.service_pid(Service::NIX_DAEMON)?;
    let kept = host.add_to_store("/etc/hostname")?;
    host.power_off()?;
    assert!(matches!(host.check("true"), Err(Error::Off { .. })));
    host.power_on()?;
    host.check(&format!("nix-store --verify-path {kept}"))?;
    assert!(host.service_runs(Service::NIX_DAEMON), "a new one than {pid}");
    host.fill_disk()?;
    let full = host.sh("echo more >/nix/more")?;
    assert!(full.stderr.contains("No space left"), "{full}");
    host.free_disk()?;
    host.check("echo more >/nix/more")?;
    Ok(())
}

#[test]
fn services_are_stopped_killed_and_started_again() -> Result<()> {
    const NOTIFIES: Service = Service {
        name: "notifies",
        argv: &["/bin/bash", "-c", "echo READY=1 | socat - UNIX-SENDTO:$NOTIFY_SOCKET; sleep 9999"],
        env: &[],
        ready: roost_lab::Ready::Notify,
    };
    const FAILS: Service = Service {
        name: "fails",
        argv: &["/bin/sh", "-c", "echo the reason >&2; exit 1"],
        env: &[],
        ready: roost_lab::Ready::Notify,
    };
    let lan = Lan::new()?;
    let host = lan.host("board").services(&[NOTIFIES, Service::NIX_DAEMON]).start()?;
    assert!(host.service_runs(NOTIFIES));
    host.kill9(Service::NIX_DAEMON)?;
    assert!(!host.service_runs(Service::NIX_DAEMON));
    assert!(!host.sh("nix store info")?.success());
    host.start_service(Service::NIX_DAEMON)?;
    host.check("nix store info")?;
    host.stop_service(Service::NIX_DAEMON)?;
    host.start_service(Service::NIX_DAEMON)?;
    let error = host.start_service(FAILS).expect_err("it fails").to_string();
    assert!(error.contains("board") && error.contains("the reason"), "{error}");
    Ok(())
}

#[test]
fn processes_are_found_stopped_and_killed() -> Result<()> {
    let lan = Lan::new()?;
    let host = lan.host("board").services(&[]).start()?;
    let mut victim = host.spawn("echo begun; exec sleep 4242")?;
    lan.wait_until(SOON, "it has begun", || victim.stdout() == "begun\n")?;
    let pid = victim.pid().expect("it runs");
    let sleeps = |p: &roost_lab::ProcessInfo| p.command() == "sleep 4242";
    lan.wait_until(SOON, "it sleeps", || {
        host.processes().is_ok_and(|all| all.iter().any(|p| sleeps(p) && p.pid == pid))
    })?;
    assert!(host.memory_kib(pid)?.rss_kib > 0);
    assert!(victim.signal(Signal::STOP) && victim.signal(Signal::CONT));
    assert_eq!(host.signal_matching("KILL", "that sleeps", sleeps)?, [pid]);
    let output = victim.wait(SOON)?;
    assert_eq!((output.code(), output.stdout.as_str()), (None, "begun\n"));
    let none = host.signal_matching("KILL", "that sleeps", sleeps);
    assert!(matches!(none, Err(Error::NoProcess { .. })));
    Ok(())
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() -> Result<()> {
    let lan = Lan::new()?;
    let host = lan.host("board").services(&[]).start()?;
    let slow = host.command(["bash", "-c", "echo partial; sleep 4343"]);
    let error = slow.timeout(Duration::from_millis(300)).run().expect_err("too slow").to_string();
    assert!(error.contains("board") && error.contains("partial"), "{error}");
    lan.wait_until(SOON, "the child is gone", || {
        host.processes().is_ok_and(|all| all.iter().all(|p| p.command() != "sleep 4343"))
    })
}

#[test]
fn a_condition_that_never_holds_shows_the_logs() -> Result<()> {
    let lan = Lan::new()?;
    let _host = lan.host("board").services(&[Service::SSHD]).start()?;
    let never = lan.wait_until(Duration::from_millis(50), "pigs fly", || false);
    let message = never.expect_err("they do not").to_string();
    assert!(message.contains("pigs fly") && message.contains("board: sshd.log"), "{message}");
    Ok(())
}

/// The other half of the next test: makes a LAN, says so, and waits to be killed.
#[test]
fn child_that_is_killed() -> Result<()> {
    if std::env::var_os("LAB_CHILD").is_none() {
        return Ok(());
    }
    let lan = Lan::new()?;
    let [a, b, _c] = lan.start([
        lan.host("a").disk(Disk::Real),
        lan.host("b").emulates(["riscv64-linux"]),
        lan.host("c").runs(["riscv64-linux"]),
    ])?;
    let _busy = [&a, &b].map(|host| host.spawn("sleep 4444 & setsid sleep 4444 & wait"));
    println!("\nready");
    lan.wait_until(Duration::from_secs(600), "killed", || false)
}

#[test]
fn nothing_is_left_when_the_test_process_is_killed() -> Result<()> {
    let marks = Marks::take;
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "--nocapture", "child_that_is_killed"])
        .env("LAB_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test itself runs");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    assert!(stdout.lines().map_while(std::io::Result::ok).any(|line| line == "ready"));
    let prefix = format!("/run/{}-", child.id());
    let during = marks();
    assert!(during.mentions(&prefix) && during.mentions("sleep 4444"), "{during:?}");
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    let left = |marks: &Marks| marks.mentions(&prefix) || marks.mentions("sleep 4444");
    roost_lab::poll(SOON, || (!left(&marks())).then_some(()))
        .unwrap_or_else(|| panic!("left behind: {:?}", marks()));
    let interfaces = fs::read_to_string("/proc/net/dev").expect("mounted");
    assert!(!interfaces.contains("port1") && !interfaces.contains(" lan:"), "{interfaces}");
    Ok(())
}

/// What LANs leave on the machine: command lines, mounts in any namespace, and folders.
#[derive(Debug)]
struct Marks(Vec<String>);

impl Marks {
    fn take() -> Self {
        let mut marks = Vec::new();
        for entry in fs::read_dir("/proc").expect("mounted").flatten() {
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            for name in ["cmdline", "mountinfo"] {
                marks.push(String::from_utf8_lossy(&read(name)).replace('\0', " "));
            }
        }
        let target = Release::Trixie.root().expect("built");
        let run = target.parent().expect("in a folder").join("run");
        let folders = fs::read_dir(run).expect("made").flatten();
        marks.extend(folders.map(|entry| format!("{}/", entry.path().display())));
        Self(marks)
    }

    fn mentions(&self, text: &str) -> bool {
        self.0.iter().any(|mark| mark.contains(text))
    }
}

/// A host that is used from several threads stays one host.
#[test]
fn hosts_are_shared_between_threads() -> Result<()> {
    fn is_shareable<T: Send + Sync + Clone>() {}
    is_shareable::<Host>();
    is_shareable::<Lan>();
    let lan = Lan::new()?;
    let host = lan.host("board").services(&[]).start()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let host = &host;
                scope.spawn(move || host.check(&format!("echo {n}")))
            })
            .collect();
        for (n, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().expect("no panic").expect("runs"), n.to_string());
        }
    });
    Ok(())
}
