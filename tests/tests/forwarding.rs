//! Jobs that are sent on: once, to where they run natively, and with the same outcome.

use std::collections::BTreeMap;

use roost_lab::{
    Host, HostSpec, Lan, Result,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        foreign,
        native::{self, RISCV},
        nix::Drv,
        steered,
    },
};

/// A board that takes the others' help, and emulates what it is not.
fn board(lan: &Lan, name: &str, system: &str, emulates: &'static str) -> Result<HostSpec> {
    let spec = lan.host(name).system(system).emulates([emulates]);
    native::both(steered::allow(spec), 2, "")
}

/// Builds of both systems: programs of the machine, which every host runs.
fn mixed(salt: &str, count: u32) -> String {
    let of =
        |system| Drv::new("mixed", system, "sleep 0.2; echo done >$out").salt(salt).times(count);
    format!("({} ++ {})", of(SYSTEM), of(RISCV))
}

/// A node's record of a job: which node's, whether another one sent it there, and where it was built.
type Record = (String, bool, String);

/// All records of each derivation.
fn records(hosts: &[&Host]) -> Result<BTreeMap<String, Vec<Record>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for host in hosts {
        for job in fleet::jobs(host)? {
            // It waited there, and was taken back for another node.
            if job.forwarded && job.reason.contains("cancelled by who asked for it") {
                continue;
            }
            assert_eq!(job.state, "built", "on {}: {job:#?}", host.name());
            let node = job.node.clone().unwrap_or_default();
            all.entry(job.drv_path).or_default().push((
                host.name().to_owned(),
                job.forwarded,
                node,
            ));
        }
    }
    Ok(all)
}

/// Looks at all records: each job was asked of one node, which built it or sent it to another one,
/// which built it.
fn at_most_one_hop(hosts: &[&Host]) -> Result<usize> {
    let all = records(hosts)?;
    let mut sent_on = 0;
    for (drv, records) in &all {
        for (host, forwarded, node) in records {
            if *forwarded {
                assert_eq!(node, host, "sent on twice: {drv} {records:?}");
            } else if node != host {
                sent_on += 1;
                let there = (node.clone(), true, node.clone());
                assert!(records.contains(&there), "{drv} {records:?}");
            }
        }
        assert!(records.len() <= 2, "{drv} {records:?}");
    }
    Ok(sent_on)
}

#[test]
fn of_three_boards_that_could_send_jobs_on_to_each_other_none_does_so_twice() -> Result<()> {
    const EACH: u32 = 6;
    let lan = Lan::new()?;
    let [stock, one, two, three] = lan.start([
        lan.host("stock"),
        board(&lan, "one", SYSTEM, RISCV)?,
        board(&lan, "two", RISCV, SYSTEM)?,
        board(&lan, "three", SYSTEM, RISCV)?,
    ])?;
    let boards = [&one, &two, &three];
    native::join_all(&lan, &boards)?;
    boards.iter().try_for_each(|board| native::open_to(&stock, board))?;

    let ask = |round: &str| -> Result<()> {
        let mut builds = Vec::new();
        for board in boards {
            let expr = mixed(&format!("{round} {}", board.name()), EACH);
            builds.push(native::ask(&stock, board, &expr)?.spawn()?);
        }
        for build in &mut builds {
            let output = build.wait(2 * builds::BUILD_TIMEOUT)?.ok()?;
            assert_eq!(output.stdout.lines().count(), 2 * EACH as usize, "{output}");
        }
        Ok(())
    };
    ask("all there")?;
    // What is native elsewhere is sent on: two's for ARM, and the others' for RISC-V.
    assert_eq!(at_most_one_hop(&boards)?, 3 * EACH as usize);

    // No native RISC-V board takes jobs now: two boards could emulate what each other is asked for.
    two.check("roost drain")?;
    for board in [&one, &three] {
        lan.wait_until(builds::BUILD_TIMEOUT, "that two drains is known", || {
            board.check("roost status").is_ok_and(|text| text.contains("draining"))
        })?;
    }
    ask("two drains")?;
    at_most_one_hop(&boards)?;
    two.check("roost resume")?;
    ask("all there again")?;
    at_most_one_hop(&boards)?;
    Ok(())
}

#[test]
fn when_the_board_that_has_a_job_dies_the_next_native_one_gets_it() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, arm, alder, birch] = lan.start([
        lan.host("stock"),
        native::arm(&lan, "arm", 2, "")?,
        native::riscv(&lan, "alder", 1)?,
        native::riscv(&lan, "birch", 1)?,
    ])?;
    native::join(&lan, &arm, &[&alder, &birch])?;
    native::open_to(&stock, &arm)?;
    let expr = foreign::steered("a", RISCV).expr();
    let mut build = native::ask(&stock, &arm, &expr)?.spawn()?;
    // Equal boards: the first by name.
    steered::wait_started(&lan, &alder, "a", 1)?;
    alder.power_off()?;
    steered::wait_started(&lan, &birch, "a", 1)?;
    steered::release_all(&birch)?;
    let output = build.wait(builds::BUILD_TIMEOUT)?.ok()?;
    assert_eq!(stock.read(output.stdout.trim())?, foreign::output(RISCV));
    assert_eq!(steered::starts(&arm, "a")?, 0, "emulated");
    let why = fleet::why(&arm, "a")?;
    assert!(why.contains("the connection to alder was lost"), "{why}");
    Ok(())
}

#[test]
fn the_outcome_is_the_same_whichever_way_a_build_went() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, sends, near, direct, emulates] = lan.start([
        lan.host("stock"),
        native::arm(&lan, "sends", 1, "")?,
        native::riscv(&lan, "near", 1)?,
        native::riscv(&lan, "direct", 1)?,
        native::arm(&lan, "emulates", 1, "")?,
    ])?;
    native::join(&lan, &sends, &[&near])?;
    native::join(&lan, &direct, &[])?;
    native::join(&lan, &emulates, &[])?;
    let expr = foreign::drv("same", RISCV).expr();
    let mut hashes = BTreeMap::new();
    let mut note = |way: &str, host: &Host, path: &str| -> Result<()> {
        hashes.insert(way.to_owned(), host.check(&format!("nix-store -q --hash {path}"))?);
        Ok(())
    };
    for node in [&sends, &direct, &emulates] {
        native::open_to(&stock, node)?;
        let path = native::ask(&stock, node, &expr)?.run()?.ok()?.stdout.trim().to_owned();
        note(node.name(), &stock, &path)?;
        note(&format!("on {}", node.name()), node, &path)?;
        stock.check(&format!("nix-store --delete {path}"))?;
    }
    assert_eq!(hashes.len(), 6);
    let first = hashes.values().next().cloned();
    assert!(hashes.values().all(|hash| Some(hash) == first.as_ref()), "{hashes:#?}");

    for (host, node) in [(&sends, "near"), (&direct, "direct"), (&emulates, "emulates")] {
        let job = fleet::wait_job(&lan, host, "same", "built", |job| job.state == "built")?;
        assert_eq!(job.node.as_deref(), Some(node), "asked of {}", host.name());
    }
    Ok(())
}
