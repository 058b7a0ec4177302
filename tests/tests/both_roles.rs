//! Machines that build for each other: each is a board and a workstation.

use roost_lab::{
    Host, HostSpec, Lan, Result, Service,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet::{self, SYSTEM},
        native,
        nix::Drv,
        roost, steered,
    },
};

/// A board that is a workstation, too.
fn both(lan: &Lan, name: &str) -> Result<HostSpec> {
    native::both(steered::allow(lan.host(name).system(SYSTEM)), 2, "")
}

fn pair(lan: &Lan) -> Result<[Host; 2]> {
    let hosts = lan.start([both(lan, "one")?, both(lan, "two")?])?;
    let [one, two] = &hosts;
    for (ws, board) in [(one, two), (two, one)] {
        roost::acquaint(ws, &[board])?;
        steered::prepare(board)?;
    }
    one.enable_service(Service::ROOST)?;
    two.enable_service(Service::ROOST)?;
    fleet::wait_reach(lan, one, two, "up")?;
    fleet::wait_reach(lan, two, one, "up")?;
    Ok(hosts)
}

fn hello(salt: &str) -> Drv {
    Drv::new("hello", SYSTEM, "echo hello >$out").salt(salt)
}

#[test]
fn each_builds_for_the_other_and_never_for_itself() -> Result<()> {
    let lan = Lan::new()?;
    let [one, two] = pair(&lan)?;
    let mut builds = [
        Nix::DashBuild.command(&one, &hello("one").times(6), FLEET)?.spawn()?,
        Nix::DashBuild.command(&two, &hello("two").times(6), FLEET)?.spawn()?,
    ];
    for build in &mut builds {
        let output = build.wait(builds::BUILD_TIMEOUT)?.ok()?;
        assert_eq!(output.stdout.lines().count(), 6, "{output}");
    }
    for (host, other) in [(&one, &two), (&two, &one)] {
        let jobs = fleet::jobs(host)?;
        // Those that its own Nix asked for, and those that the other one sent.
        assert_eq!(jobs.len(), 12, "{jobs:#?}");
        for (node, client) in [(other, "root (pid "), (host, other.name())] {
            let built = |job: &&fleet::Job| job.node.as_deref() == Some(node.name());
            let count = jobs.iter().filter(built).count();
            assert_eq!(count, 6, "those of {client}: {jobs:#?}");
        }
    }
    Ok(())
}

#[test]
fn what_a_client_asks_of_a_board_stays_there_while_its_own_nix_has_the_same_built() -> Result<()> {
    let lan = Lan::new()?;
    let [one, two] = pair(&lan)?;
    let stock = lan.host("stock").start()?;
    roost::direct(&stock, &[&one])?;
    let builder = roost::builder("ssh-ng", &one, SYSTEM, 2);
    let options = ["--max-jobs", "0", "--builders", &builder];
    for salt in ["a", "b", "c"] {
        let build = Nix::DashBuild.command(&stock, &hello(salt).expr(), &options)?.run()?.ok()?;
        assert_eq!(stock.read(build.stdout.trim())?, "hello\n");
    }
    assert_eq!(fleet::jobs(&two)?.len(), 0, "handed on");

    let shared = steered::drv("shared", SYSTEM).expr();
    let mut own = Nix::DashBuild.command(&one, &shared, FLEET)?.spawn()?;
    steered::wait_started(&lan, &two, "shared", 1)?;
    let mut direct = Nix::DashBuild.command(&stock, &shared, &options)?.spawn()?;
    fleet::wait_job(&lan, &one, "shared", "asked for by both", |job| {
        job.node.as_deref() == Some("one")
    })?;
    for host in [&one, &two] {
        steered::release_all(host)?;
    }
    for (host, build) in [(&one, &mut own), (&stock, &mut direct)] {
        let output = build.wait(builds::BUILD_TIMEOUT)?.ok()?;
        assert_eq!(host.read(output.stdout.trim())?, "shared\n");
    }
    assert_eq!(steered::starts(&one, "shared")?, 0, "it was built once");
    Ok(())
}
