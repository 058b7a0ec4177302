//! What a node can only emulate is built on native hardware while any is reachable, whoever asks,
//! and emulated only as its configuration says.

use std::{collections::BTreeSet, time::Duration};

use roost_lab::{
    Host, Lan, Result, Running,
    fixtures::{
        builds::{FLEET, Nix},
        fleet, foreign,
        native::{self, RISCV},
        steered,
    },
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A stock machine, a board that emulates RISC-V, and one that runs it.
fn trio(lan: &Lan, config: &str) -> Result<[Host; 3]> {
    let hosts = lan.start([
        lan.host("stock"),
        native::arm(lan, "arm", 2, config)?,
        native::riscv(lan, "riscv", 2)?,
    ])?;
    let [stock, arm, riscv] = &hosts;
    native::join(lan, arm, &[riscv])?;
    native::open_to(stock, arm)?;
    Ok(hosts)
}

/// `r00` and so on.
fn names(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("r{n:02}")).collect()
}

/// Steered builds of these names, as one expression.
fn steered_all(names: &[String]) -> String {
    let drvs = names.iter().map(|name| foreign::steered(name, RISCV).expr() + "\n");
    format!("[ {} ]", drvs.collect::<String>())
}

/// The jobs that a node has given to another one, or built itself.
fn built_by(host: &Host, node: &str) -> Result<BTreeSet<String>> {
    let jobs = fleet::jobs(host)?.into_iter();
    let built = jobs.filter(|job| job.state == "built" && job.node.as_deref() == Some(node));
    Ok(built.map(|job| job.name).collect())
}

/// Waits for a build of so many derivations, and looks at what they made.
fn all_built(client: &Host, build: &mut Running, count: usize) -> Result<()> {
    let output = build.wait(Duration::from_secs(120))?.ok()?;
    assert_eq!(output.stdout.lines().count(), count, "{output}");
    for path in output.stdout.lines() {
        assert_eq!(client.read(path)?, foreign::output(RISCV), "{path}");
    }
    Ok(())
}

#[test]
fn what_a_stock_client_asks_of_a_board_that_emulates_is_built_on_the_native_one() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, arm, riscv] = trio(&lan, "")?;
    let status = arm.check("roost status")?;
    assert!(status.contains(RISCV) && status.contains("emulate"), "{status}");
    for scheme in ["ssh-ng", "ssh"] {
        let drv = foreign::drv(scheme, RISCV);
        let output = native::ask_by(&stock, scheme, &arm, &drv.expr())?.run()?.ok()?;
        assert_eq!(stock.read(output.stdout.trim())?, foreign::output(RISCV));
        let why = fleet::why(&arm, scheme)?;
        assert!(why.contains("riscv runs riscv64-linux natively"), "{why}");
        assert!(why.contains("arm would have to emulate it"), "{why}");
    }
    let expr = foreign::drv("many", RISCV).times(20);
    let mut build = native::ask(&stock, &arm, &expr)?.spawn()?;
    all_built(&stock, &mut build, 20)?;
    let jobs = fleet::jobs(&arm)?;
    let native = jobs.iter().filter(|job| job.node.as_deref() == Some("riscv")).count();
    assert_eq!((jobs.len(), native), (22, 22), "{jobs:#?}");
    assert_eq!(fleet::jobs(&riscv)?.len(), 22, "each once");
    Ok(())
}

/// Twenty builds on the native board, which is cut off in the middle: those that it had begun then.
fn cut_off_midway(
    lan: &Lan,
    [stock, arm, riscv]: &[Host; 3],
) -> Result<(Running, BTreeSet<String>)> {
    let build = native::ask(stock, arm, &steered_all(&names(20)))?.spawn()?;
    lan.wait_until(SOON, "all are accepted", || fleet::jobs(arm).is_ok_and(|all| all.len() == 20))?;
    lan.wait_until(SOON, "some are built", || {
        let ended = built_by(arm, "riscv").unwrap_or_default();
        let begun = steered::started(riscv).unwrap_or_default();
        if ended.len() < 6 {
            let _ = begun.iter().try_for_each(|name| steered::release(riscv, name));
        }
        // Two more than were let go on.
        ended.len() >= 6 && begun.len() >= ended.len() + 2
    })?;
    assert_eq!(steered::started(arm)?, BTreeSet::new(), "native hardware was there");
    riscv.cut_link()?;
    let ended = built_by(arm, "riscv")?;
    let running = steered::started(riscv)?.difference(&ended).cloned().collect();
    fleet::wait_reach(lan, arm, riscv, "away")?;
    Ok((build, running))
}

/// Plugs the native board in again, and lets everything go on to its end.
fn come_back(lan: &Lan, [stock, arm, riscv]: &[Host; 3], build: &mut Running) -> Result<()> {
    riscv.restore_link()?;
    fleet::wait_reach(lan, arm, riscv, "up")?;
    steered::release_all(riscv)?;
    steered::release_all(arm)?;
    all_built(stock, build, 20)?;
    assert_eq!(
        (steered::overlaps(arm)?, steered::overlaps(riscv)?),
        (String::new(), String::new())
    );
    let jobs = fleet::jobs(arm)?;
    assert_eq!(jobs.len(), 20, "{jobs:#?}");
    Ok(())
}

#[test]
fn while_the_native_board_is_away_jobs_are_emulated_and_it_gets_the_rest_when_it_is_back()
-> Result<()> {
    let lan = Lan::new()?;
    let hosts = trio(&lan, "")?;
    let [_, arm, riscv] = &hosts;
    let (mut build, running) = cut_off_midway(&lan, &hosts)?;
    lan.wait_until(SOON, "two are emulated", || steered::started(arm).is_ok_and(|n| n.len() == 2))?;
    for name in steered::started(arm)? {
        let why = fleet::why(arm, &name)?;
        assert!(why.contains("arm emulates riscv64-linux"), "{why}");
        assert!(why.contains("placement.emulation = \"fallback\""), "{why}");
        steered::release(arm, &name)?;
    }
    lan.wait_until(SOON, "two more are", || steered::started(arm).is_ok_and(|n| n.len() == 4))?;
    come_back(&lan, &hosts, &mut build)?;

    // What was emulated then is; nothing else.
    let emulated = steered::started(arm)?;
    assert_eq!(emulated.len(), 4, "{emulated:?}");
    assert_eq!(built_by(arm, "arm")?, emulated);
    assert_eq!(built_by(arm, "riscv")?.len(), 16);
    for name in names(20) {
        let starts = (steered::starts(arm, &name)?, steered::starts(riscv, &name)?);
        // What ran when the board was cut off began there, too.
        let expected = match (emulated.contains(&name), running.contains(&name)) {
            (true, true) => (1, 1),
            (true, false) => (1, 0),
            (false, _) => (0, 1),
        };
        assert_eq!(starts, expected, "{name}, of {running:?} and {emulated:?}");
    }
    Ok(())
}

#[test]
fn where_emulation_is_forbidden_jobs_wait_for_the_native_board_to_come_back() -> Result<()> {
    let lan = Lan::new()?;
    let hosts = trio(&lan, "[placement.systems.riscv64-linux]\nemulation = \"never\"\n")?;
    let [_, arm, riscv] = &hosts;
    let (mut build, running) = cut_off_midway(&lan, &hosts)?;
    for name in &running {
        fleet::wait_job(&lan, arm, name, "waiting", |job| {
            job.state == "queued" && job.reason.contains("placement.emulation = \"never\"")
        })?;
    }
    come_back(&lan, &hosts, &mut build)?;
    assert_eq!(steered::started(arm)?, BTreeSet::new());
    for name in names(20) {
        assert_eq!(steered::starts(riscv, &name)?, 1, "{name}, of {running:?}");
    }
    Ok(())
}

/// Has a node know a native board that is away.
fn without_native(lan: &Lan, config: &str) -> Result<[Host; 3]> {
    let hosts = trio(lan, config)?;
    let [_, arm, riscv] = &hosts;
    riscv.power_off()?;
    fleet::wait_reach(lan, arm, riscv, "away")?;
    Ok(hosts)
}

#[test]
fn without_native_hardware_a_build_fails_after_the_configured_wait_where_emulation_is_forbidden()
-> Result<()> {
    let lan = Lan::new()?;
    let config = "away_timeout_s = 10\n\n[placement]\nemulation = \"never\"\n";
    let [stock, arm, _riscv] = without_native(&lan, config)?;
    let begun = roost_lab::now();
    let expr = foreign::drv("forbidden", RISCV).expr();
    let output = native::ask(&stock, &arm, &expr)?.run()?;
    let took = begun.elapsed();
    assert!(!output.success(), "{output}");
    for word in [RISCV, "riscv (", "placement.emulation", "away_timeout_s", "10 s"] {
        assert!(output.stderr.contains(word), "{word} is not in: {output}");
    }
    assert!((10..20).contains(&took.as_secs()), "after {took:?}");
    // Nix of the node itself is told the same.
    let own = Nix::DashBuild.command(&arm, &foreign::drv("own", RISCV).expr(), FLEET)?.run()?;
    assert!(!own.success() && own.stderr.contains("placement.emulation"), "{own}");
    // Of what no node ever had, Nix speaks for itself.
    let expr = foreign::drv("unknown", "s390x-linux").expr().replace("lab-s390x-linux", "lab");
    let unknown = Nix::DashBuild.command(&arm, &expr, FLEET)?.run()?;
    assert!(!unknown.success() && unknown.stderr.contains("s390x-linux"), "{unknown}");
    assert!(fleet::jobs(&arm)?.iter().all(|job| job.system == RISCV), "asked of roost");
    Ok(())
}

#[test]
fn without_native_hardware_a_build_is_emulated_where_that_is_the_fallback() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, arm, _riscv] = without_native(&lan, "[placement]\nemulation = \"fallback\"\n")?;
    for scheme in ["ssh-ng", "ssh"] {
        let expr = foreign::drv(scheme, RISCV).expr();
        let output = native::ask_by(&stock, scheme, &arm, &expr)?.run()?.ok()?;
        assert_eq!(stock.read(output.stdout.trim())?, foreign::output(RISCV));
        let why = fleet::why(&arm, scheme)?;
        assert!(why.contains("arm emulates riscv64-linux"), "{why}");
        assert!(why.contains("riscv (") && why.contains("\"fallback\""), "{why}");
    }
    assert_eq!(built_by(&arm, "arm")?.len(), 2);
    Ok(())
}

#[test]
fn a_busy_native_board_is_waited_for_as_long_as_is_configured() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, arm, riscv] = trio(&lan, "[placement]\nnative_wait_s = 3\n")?;
    let mut build = native::ask(&stock, &arm, &steered_all(&names(6)))?.spawn()?;
    lan.wait_until(SOON, "the wait is over", || {
        steered::started(&arm).is_ok_and(|n| n.len() == 2)
    })?;
    let emulated = steered::started(&arm)?;
    for name in &emulated {
        let why = fleet::why(&arm, name)?;
        assert!(why.contains("placement.native_wait_s"), "{why}");
    }
    steered::release_all(&riscv)?;
    lan.wait_until(SOON, "the others are native", || {
        built_by(&arm, "riscv").is_ok_and(|built| built.len() == 4)
    })?;
    steered::release_all(&arm)?;
    all_built(&stock, &mut build, 6)?;
    assert_eq!(built_by(&arm, "arm")?, emulated);
    Ok(())
}

#[test]
fn a_workstation_emulates_in_a_second_store_only_if_told_to() -> Result<()> {
    for (emulate_here, config) in [(false, ""), (true, "emulate_here = true\n")] {
        let lan = Lan::new()?;
        let spec = lan.host("ws").emulates([RISCV]).nix_conf("extra-platforms =");
        let spec = spec.nix_conf("builders = @/run/roost/machines");
        let ws = roost_lab::fixtures::roost::workstation(
            spec,
            &format!("away_timeout_s = 5\n{config}"),
        )?;
        let [ws, riscv] = lan.start([ws, native::riscv(&lan, "riscv", 2)?])?;
        fleet::join(&lan, &ws, &[&riscv])?;
        let build = |name: &str| {
            let drv = foreign::drv(name, RISCV);
            Nix::DashBuild.command(&ws, &drv.expr(), &[])?.run()
        };
        let output = build("native")?.ok()?;
        assert_eq!(ws.read(output.stdout.trim())?, foreign::output(RISCV));
        assert_eq!(built_by(&ws, "riscv")?.len(), 1);
        riscv.power_off()?;
        fleet::wait_reach(&lan, &ws, &riscv, "away")?;
        let output = build("here")?;
        assert_eq!(output.success(), emulate_here, "{output}");
        if emulate_here {
            assert_eq!(ws.read(output.stdout.trim())?, foreign::output(RISCV));
            let why = fleet::why(&ws, "here")?;
            assert!(why.contains("ws (emulation) emulates riscv64-linux"), "{why}");
            assert!(why.contains("\"fallback\""), "{why}");
        } else {
            assert!(output.stderr.contains("away_timeout_s"), "{output}");
        }
    }
    Ok(())
}
