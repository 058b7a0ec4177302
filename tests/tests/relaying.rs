//! A board that is asked for a system it does not run natively hands the job to a peer that does,
//! and gives its client the outputs as if it had built them.

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, Release, Result, Running, Service,
    fixtures::{
        builds::{self, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, ssh, steered,
    },
};

/// What the peers run, and the board that is asked does not.
const FOREIGN: &str = "riscv64-linux";
/// The board that is asked, as a store.
const STORE: &str = "ssh-ng://roost@front";
const CA: &str = "extra-experimental-features = ca-derivations";
const SOON: Duration = Duration::from_secs(60);

/// A board with the workstation's role, too: what it has of peers, it may use for its clients.
fn front(lan: &Lan, config: &str) -> Result<HostSpec> {
    let config = format!(
        "[board]\nenable = true\nslots = 2\n{}\n\n[workstation]\nenable = true\n\
         away_timeout_s = 20\n{config}",
        roost::reload_sshd(),
    );
    let spec = fleet::board(lan, "front", 2, "")?.nix_conf(CA);
    Ok(spec.file("/etc/roost/roost.toml", 0o644, config))
}

/// A board that runs what the front one does not.
fn peer(lan: &Lan, name: &str) -> Result<HostSpec> {
    roost::board(steered::allow(lan.host(name).system(FOREIGN).nix_conf(CA)), 2, "")
}

/// Stock Nix, the board that it asks, and two peers of that one.
fn lan_with(lan: &Lan, release: Release) -> Result<[Host; 4]> {
    let hosts = lan.start([
        lan.host("stock").release(release).nix_conf(CA),
        front(lan, "")?,
        peer(lan, "far-a")?,
        peer(lan, "far-b")?,
    ])?;
    let [stock, front, a, b] = &hosts;
    roost::direct(stock, &[front])?;
    steered::prepare(front)?;
    fleet::join(lan, front, &[a, b])?;
    Ok(hosts)
}

/// The options by which stock Nix has the board as a builder.
fn as_builder(scheme: &str) -> [String; 4] {
    let features = "ca-derivations";
    let builder =
        format!("{scheme}://roost@front {SYSTEM},{FOREIGN} {} 4 1 {features} - -", ssh::KEY);
    ["--max-jobs", "0", "--builders", &builder].map(str::to_owned)
}

fn build(stock: &Host, expr: &str, scheme: &str) -> Result<roost_lab::Command> {
    let options = as_builder(scheme);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Nix::DashBuild.command(stock, expr, &options)
}

fn greeting(system: &str, salt: &str) -> Drv {
    Drv::new("greeting", system, "echo spoken; echo hello >$out").salt(salt)
}

/// The nodes that built what is named so, as the board that was asked remembers.
fn nodes_of(front: &Host, name: &str) -> Result<Vec<String>> {
    let jobs = fleet::jobs(front)?.into_iter().filter(|job| job.name == name);
    Ok(jobs.map(|job| job.node.unwrap_or_default()).collect())
}

/// The peer that a steered build runs on, and the other one.
fn where_it_runs<'a>(lan: &Lan, name: &str, peers: [&'a Host; 2]) -> Result<[&'a Host; 2]> {
    let [a, b] = peers;
    lan.wait_for(SOON, &format!("{name} runs on a peer"), || {
        let runs = |host| steered::starts(host, name).is_ok_and(|times| times > 0);
        [[a, b], [b, a]].into_iter().find(|[here, _]| runs(here))
    })
}

#[test]
fn stock_clients_get_what_a_peer_has_built() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, front, a, b] = lan_with(&lan, Release::Trixie)?;
    for scheme in ["ssh-ng", "ssh"] {
        let input = greeting(SYSTEM, &format!("input {scheme}"));
        let script = "echo spoken far; cat $input >$out; echo and far >>$out; echo $out >$dev";
        let drv = Drv::new(&format!("far-{scheme}"), FOREIGN, script)
            .attr("outputs", "[ \"out\" \"dev\" ]")
            .attr("input", &input.expr());
        let built = build(&stock, &drv.expr(), scheme)?.run()?.ok()?;
        let out = built.stdout.trim();
        assert_eq!(stock.read(out)?, "hello\nand far\n", "{scheme}");
        assert_eq!(front.read(out)?, "hello\nand far\n", "it is in the store of who was asked");
        assert!(built.stderr.contains("spoken far"), "the log comes along: {built}");
    }
    assert!(nodes_of(&front, "greeting")?.iter().all(|node| node == "front"));
    let why = fleet::why(&front, "far-ssh")?;
    assert!(why.contains("runs riscv64-linux natively"), "{why}");
    for far in [&a, &b] {
        // Fetched: nothing is held for anybody any more.
        let what = format!("{} holds nothing", far.name());
        lan.wait_until(SOON, &what, || {
            far.check("ls /nix/var/nix/gcroots/roost").is_ok_and(|held| held.is_empty())
        })?;
    }
    Ok(())
}

#[test]
fn floating_outputs_come_with_what_they_realise() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, front, _a, _b] = lan_with(&lan, Release::Trixie)?;
    let floating = |drv: Drv| {
        drv.attr("__contentAddressed", "true")
            .attr("outputHashMode", "\"recursive\"")
            .attr("outputHashAlgo", "\"sha256\"")
    };
    let late = |salt: &str| {
        let tool = Drv::new("tool", SYSTEM, "echo tool >$out").salt(salt);
        let early = Drv::new("early", FOREIGN, "cat $tool >$out; echo early >>$out");
        let early = floating(early.attr("tool", &tool.expr()));
        let late = Drv::new("late", SYSTEM, "cat $early >$out; echo late >>$out");
        floating(late.attr("early", &early.expr())).expr()
    };
    let content = "tool\nearly\nlate\n";
    let built = build(&stock, &late("as a builder"), "ssh-ng")?.run()?.ok()?;
    assert_eq!(stock.read(built.stdout.trim())?, content);
    let nodes = |name: &str| nodes_of(&front, name);
    assert!(nodes("early")?.iter().all(|node| node.starts_with("far-")));
    assert_eq!(nodes("late")?, ["front"]);

    // The board's own nix-daemon looks up there what the peer's has realised.
    let options = ["--store", STORE, "--eval-store", "auto"];
    let built = Nix::Build.command(&stock, &late("as a store"), &options)?.run()?.ok()?;
    assert_eq!(front.read(built.stdout.trim())?, content);
    assert_eq!((nodes("early")?.len(), nodes("late")?.len()), (2, 2));
    Ok(())
}

#[test]
fn a_peer_that_dies_under_a_build_is_replaced_by_the_next() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, _front, a, b] = lan_with(&lan, Release::Trixie)?;
    let mut building = build(&stock, &steered::drv("far", FOREIGN).expr(), "ssh-ng")?.spawn()?;
    let [first, second] = where_it_runs(&lan, "far", [&a, &b])?;
    first.power_off()?;
    steered::wait_started(&lan, second, "far", 1)?;
    steered::release_all(second)?;
    let built = building.wait(SOON)?.ok()?;
    assert_eq!(stock.read(built.stdout.trim())?, "far\n");
    assert!(built.stderr.contains(&format!("to {} was lost", first.name())), "{built}");
    Ok(())
}

/// A peer whose large output is on its way over a slow cable, and the build that waits for it.
fn coming_home(lan: &Lan) -> Result<([Host; 3], roost_lab::Command, Running)> {
    let hosts = lan.start([lan.host("stock"), front(lan, "")?, peer(lan, "far")?])?;
    let [stock, front, far] = &hosts;
    roost::direct(stock, &[front])?;
    steered::prepare(front)?;
    fleet::join(lan, front, &[far])?;
    far.check("tc qdisc add dev eth0 root tbf rate 32mbit burst 64kb latency 100ms")?;
    let script = "dd if=/dev/urandom of=$out bs=1M count=16";
    let drv = steered::before("far", FOREIGN, script).expr();
    let building = build(stock, &drv, "ssh-ng")?.spawn()?;
    steered::wait_started(lan, far, "far", 1)?;
    steered::release_all(far)?;
    fleet::wait_job(lan, front, "far", "on its way home", |job| {
        job.reason.contains("copying outputs from far")
    })?;
    let again = build(stock, &drv, "ssh-ng")?;
    Ok((hosts, again, building))
}

/// Sees that the output is the same everywhere, and was built once.
fn came_home([stock, front, far]: [&Host; 3], path: &str) -> Result<()> {
    let sum = |host: &Host| host.check(&format!("md5sum {}", path.trim()));
    assert_eq!(sum(stock)?, sum(front)?);
    assert_eq!(sum(stock)?, sum(far)?);
    assert_eq!(steered::starts(far, "far")?, 1, "it was built once");
    Ok(())
}

#[test]
fn a_connection_lost_while_outputs_come_home_costs_no_second_build() -> Result<()> {
    let lan = Lan::new()?;
    let ([stock, front, far], _, mut building) = coming_home(&lan)?;
    far.signal_matching("KILL", "of sshd for a session", |p| {
        p.command().starts_with("sshd-session") || p.command().starts_with("sshd: roost")
    })?;
    far.check("tc qdisc delete dev eth0 root")?;
    far.check("nix-collect-garbage")?;
    came_home([&stock, &front, &far], &building.wait(SOON)?.ok()?.stdout)
}

#[test]
fn a_daemon_killed_while_outputs_come_home_costs_no_second_build() -> Result<()> {
    let lan = Lan::new()?;
    let ([stock, front, far], again, mut building) = coming_home(&lan)?;
    front.kill9(Service::ROOST)?;
    assert!(!building.wait(SOON)?.success());
    far.check("tc qdisc delete dev eth0 root")?;
    far.check("nix-collect-garbage")?;
    front.start_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &front, &far, "up")?;
    came_home([&stock, &front, &far], &again.run()?.ok()?.stdout)
}

/// A derivation of the board that is asked, which needs one of a peer, which needs one of the board.
fn mixed(salt: &str) -> Drv {
    let tool = Drv::new("tool", SYSTEM, "echo tool >$out").salt(salt);
    let script = "echo far away; cat $tool >$out; echo far >>$out";
    let far = Drv::new("far", FOREIGN, script).attr("tool", &tool.expr());
    let lib = Drv::new("lib", SYSTEM, "cat $far >$out").attr("far", &far.expr());
    let script = "cat $lib $far >$out; echo top >>$out";
    Drv::new("top", SYSTEM, script).attr("lib", &lib.expr()).attr("far", &far.expr())
}

const MIXED: &str = "tool\nfar\ntool\nfar\ntop\n";

#[test]
fn a_store_builds_mixed_closures_with_its_peers() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, front, _a, _b] = lan_with(&lan, Release::Trixie)?;
    let options = ["--store", STORE, "--eval-store", "auto", "-L"];
    let built = Nix::Build.command(&stock, &mixed("built").expr(), &options)?.run()?.ok()?;
    assert_eq!(front.read(built.stdout.trim())?, MIXED);
    assert!(built.stderr.contains("far away"), "the logs of all come along: {built}");
    let nodes = |name: &str| nodes_of(&front, name);
    assert!(nodes("far")?.iter().all(|node| node.starts_with("far-")) && !nodes("far")?.is_empty());
    assert_eq!((nodes("top")?, nodes("tool")?), (vec!["front".into()], vec!["front".into()]));
    assert!(nodes("lib")?.is_empty(), "what needs no job of its own has none");
    let jobs = fleet::jobs(&front)?.len();
    let again = Nix::Build.command(&stock, &mixed("built").expr(), &options)?.run()?.ok()?;
    assert_eq!(again.stdout, built.stdout);
    assert!(fleet::jobs(&front)?.len() <= jobs + 1, "nothing is built again");

    let drv = builds::instantiate(&stock, &mixed("realised").expr())?;
    stock.check(&format!("nix copy --derivation --to {STORE} {drv}"))?;
    let realised = stock.check(&format!("nix-store --store {STORE} --realise {drv}"))?;
    assert_eq!(front.read(&realised)?, MIXED);
    stock.check(&format!("nix copy --no-check-sigs --from {STORE} {realised}"))?;
    assert_eq!(stock.read(&realised)?, MIXED);
    Ok(())
}

#[test]
fn a_foreign_target_has_its_outputs_and_its_failure_told() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, front, _a, _b] = lan_with(&lan, Release::Sid)?;
    let options = ["--store", STORE, "--eval-store", "auto", "-L"];
    let script = "echo program >$out; echo headers >$dev";
    let several = Drv::new("several", FOREIGN, script).attr("outputs", "[ \"out\" \"dev\" ]");
    let dev = format!("{}^dev", builds::instantiate(&stock, &several.expr())?);
    let words = ["nix", "build", "--no-link", "--print-out-paths", &dev];
    let built = stock.command(words.into_iter().chain(options)).run()?.ok()?;
    assert_eq!(built.stdout.lines().count(), 1, "{built}");
    assert_eq!(front.read(built.stdout.trim())?, "headers\n");

    let broken = Drv::new("broken", FOREIGN, "echo it breaks; exit 1");
    let top = Drv::new("top", SYSTEM, "cat $broken >$out").attr("broken", &broken.expr());
    let failed = Nix::Build.command(&stock, &top.expr(), &options)?.run()?;
    assert!(!failed.success() && failed.stderr.contains("it breaks"), "{failed}");
    assert!(failed.stderr.contains("broken.drv failed"), "{failed}");
    assert!(nodes_of(&front, "top")?.is_empty(), "what needs it was not begun");
    Ok(())
}
