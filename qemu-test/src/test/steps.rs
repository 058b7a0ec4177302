//! What is tried, in this order: each step starts from where the one before has ended.

use std::time::Duration;

use roost_lab::now;
use serde_json::Value;

use super::{
    daemon::{self, MAX_RSS_MIB},
    fleet::{BOOT, BUILD, Board, Desk, Fleet, FleetSpec, SOON, SOURCES, ensure_content},
    idle,
    report::Figure,
};
use crate::{
    Arch,
    error::{Error, Result, ensure},
};

/// A step: what it is called, what has to hold, and what does it.
pub struct Step {
    /// Its name, on the command line and in reports.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The architectures without which there is nothing to try.
    pub needs: &'static [Arch],
    pub(super) run: Run,
}

impl Step {
    /// Whether it goes on from where the one before has ended.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        matches!(self.run, Run::InOrder(_))
    }
}

/// How a step is run.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// On the fleet that all such steps have in common, one after the other.
    InOrder(InOrder),
    /// On a fleet of its own, in a folder of its own, meanwhile. It tells when it has no more need of the
    /// machine's CPUs.
    Apart(Apart),
}

/// Gives what was measured, or why it does not hold.
type InOrder = fn(&mut Fleet) -> Result<Vec<Figure>>;

/// The same. What it is given in the end is to be called at rest.
type Apart = fn(&FleetSpec, &Options, &dyn Fn()) -> Result<Vec<Figure>>;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the boards are watched while they are idle.
    pub idle: Duration,
}

const fn in_order(name: &'static str, shows: &'static str, run: InOrder) -> Step {
    Step { name, shows, needs: &[], run: Run::InOrder(run) }
}

/// All of them.
pub const STEPS: &[Step] = &[
    in_order("enrol", "boards that are switched on enrol themselves", Fleet::enrol),
    in_order("grow", "the root has grown to the disk", grow),
    in_order("graph", "C programs are compiled and run natively on the boards", graph),
    in_order(
        "power-cut",
        "a power cut in mid-build loses and damages nothing, and a second boot re-enrols nothing",
        power_cut,
    ),
    in_order("link", "a board whose cable was out is used again", link),
    in_order("drain", "a drained board is given nothing until it is resumed", drain),
    Step {
        needs: &Arch::ALL,
        ..in_order("native", "the RISC-V board builds what the ARM board is asked for", native)
    },
    in_order("update", "a board is given a system built on it, and keeps it", update),
    Step {
        name: "idle",
        shows: "an idle board is small and quiet",
        needs: &[],
        run: Run::Apart(idle::run),
    },
];

fn grow(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let disk = crate::DISK_MIB;
        let grown = || {
            let mib =
                desk.ssh(board.name(), "df --output=size --block-size=1M / | tail -n 1").ok()?;
            mib.trim().parse::<u64>().ok().filter(|mib| mib * 10 >= disk * 9)
        };
        let what = format!("the root of {} has grown to its disk of {disk} MiB", board.name());
        let mib = desk.wait_for(SOON, &what, grown)?;
        #[expect(clippy::cast_precision_loss, reason = "MiB of a disk")]
        Ok(Figure::new(board.arch(), "root file system", mib as f64, "MiB"))
    })
}

fn graph(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let (arch, started) = (board.arch(), now());
        build_graph(desk, board, "graph")?;
        Ok(Figure::new(arch, "graph of 6 derivations", started.elapsed().as_secs_f64(), "s"))
    })
}

/// Builds the graph on a board, and looks at what came to the workstation.
fn build_graph(desk: &Desk, board: &Board, salt: &str) -> Result<()> {
    let (arch, system) = (board.arch(), board.system());
    let expected = expected(arch);
    let report = desk.nix_build("report", system, salt).run()?.ok()?.stdout;
    ensure_content(&desk.ws, report.trim(), &expected)?;
    let program = desk.nix_build("program", system, salt).run()?.ok()?.stdout;
    let program = program.trim();
    let machine = desk.ws.check(&format!("od -An -t u2 -j 18 -N 2 {program}"))?;
    ensure(machine.trim() == arch.elf_machine().to_string(), || {
        format!("{program} is to be for {arch}, and its ELF header says machine {machine}")
    })?;
    // It runs elsewhere, too.
    let said = desk.ws.check(&format!("qemu-{arch} {program}"))? + "\n";
    ensure(said == expected, || format!("{program} is to say\n{expected}\nand says\n{said}"))?;
    let job = desk.wait_job(("report", system), "built", |job| job.state == "built")?;
    ensure(job.node.as_deref() == Some(board.name()), || {
        format!("report for {system} is to be built on {}, and was on {:?}", board.name(), job.node)
    })
}

/// What the program of the graph says on a machine.
fn expected(arch: Arch) -> String {
    format!(
        "machine {arch}\nprimes 78498\n\
         sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
    )
}

/// What makes a board the one that it is: were it to enrol again, some of it would change.
fn identity(desk: &Desk, board: &Board) -> Result<String> {
    let script = "cd /var/lib/roost/trust && sha256sum /etc/ssh/ssh_host_ed25519_key $(find . -type f | grep -v lock | sort)";
    desk.ssh(board.name(), script)
}

fn boot_id(desk: &Desk, board: &str) -> Result<String> {
    desk.ssh(board, "cat /proc/sys/kernel/random/boot_id")
}

fn power_cut(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let (name, system) = (board.name().to_owned(), board.system());
        let (before, boot) = (identity(desk, board)?, boot_id(desk, &name)?);
        let mut build = desk.nix_build("slow", system, "cut").spawn()?;
        let running = |job: &roost_lab::fixtures::fleet::Job| {
            job.state == "running" && job.node.as_deref() == Some(name.as_str())
        };
        let job = desk.wait_job(("slow", system), "running", running)?;
        // The builder itself, not only what goes before.
        let begun = || {
            desk.ws.check(&format!("roost logs {}", job.id)).is_ok_and(|log| log.contains("begun"))
        };
        desk.wait_until(BUILD, "the build has begun", begun)?;
        board.guest.power_off();
        desk.wait_reach(&name, "away", SOON)?;
        let kept = desk.wait_job(("slow", system), "in the queue", |job| job.state != "built")?;
        ensure(kept.state == "queued", || {
            format!("the job is to be queued, and is {}", kept.state)
        })?;
        board.guest.power_on()?;
        let output = build.wait(BOOT + BUILD)?.ok()?;
        ensure_content(&desk.ws, output.stdout.trim(), "slow\n")?;
        let started = board.guest.console()?.age();
        ensure(boot != boot_id(desk, &name)?, || format!("{name} has not been restarted"))?;
        // Nix tells damaged paths by their hashes, on standard error and by its exit status.
        desk.ssh(&name, "nix-store --verify --check-contents 2>&1")?;
        let after = identity(desk, board)?;
        ensure(before == after, || {
            format!("{name} has enrolled again: before\n{before}\nafter\n{after}")
        })?;
        Ok(Figure::new(
            board.arch(),
            "power-on to the result of the cut build",
            started.as_secs_f64(),
            "s",
        ))
    })
}

fn link(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet
        .each(|desk, board| {
            let name = board.name().to_owned();
            let boot = boot_id(desk, &name)?;
            board.guest.set_link(false)?;
            let pulled = now();
            desk.wait_reach(&name, "away", SOON)?;
            let noticed = pulled.elapsed();
            board.guest.set_link(true)?;
            let plugged = now();
            desk.wait_reach(&name, "up", SOON)?;
            let back = plugged.elapsed();
            build_one(desk, board, "after the link")?;
            ensure(boot == boot_id(desk, &name)?, || format!("{name} was restarted"))?;
            Ok([
                Figure::new(board.arch(), "cable pulled to away", noticed.as_secs_f64(), "s"),
                Figure::new(board.arch(), "cable plugged in to up", back.as_secs_f64(), "s"),
            ])
        })
        .map(|figures| figures.into_iter().flatten().collect())
}

/// A small build on the one board of its system.
fn build_one(desk: &Desk, board: &Board, salt: &str) -> Result<()> {
    let output = desk.nix_build("quick", board.system(), salt).run()?.ok()?;
    ensure_content(&desk.ws, output.stdout.trim(), "quick\n")
}

fn drain(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let (name, system) = (board.name(), board.system());
        desk.ssh(name, "roost drain")?;
        let draining = || desk.shown(name).is_ok_and(|it| it["node"]["draining"] == true);
        desk.wait_until(SOON, "the workstation sees it drain", draining)?;
        let mut build = desk.nix_build("quick", system, "drained").spawn()?;
        let waiting = desk.wait_job(("quick", system), "queued", |job| job.state == "queued")?;
        ensure(waiting.reason.contains("drain"), || {
            format!(
                "quick is to wait because {name} is drained, and waits because {}",
                waiting.reason
            )
        })?;
        desk.ssh(name, "roost resume")?;
        let output = build.wait(BUILD)?.ok()?;
        ensure_content(&desk.ws, output.stdout.trim(), "quick\n")?;
        let rss_mib = daemon::facts(desk, name)?.rss_mib;
        let figure = Figure::new(board.arch(), "daemon's memory after builds", rss_mib, "MiB");
        let figure = figure.at_most(MAX_RSS_MIB);
        figure.ensure_within()?;
        Ok(figure)
    })
}

/// Configurations of a board that asks nobody, and of one that asks others for what it does not run.
const BOARD_ONLY: &str = "[board]\nenable = true\n\n[workstation]\nenable = false\n";
const BOTH_ROLES: &str = "[board]\nenable = true\n\n[workstation]\nenable = true\n";

fn configure(desk: &Desk, board: &str, config: &str) -> Result<()> {
    let script = format!(
        "printf '{}' >/etc/roost/roost.toml && systemctl restart roost",
        config.replace('\n', "\\n")
    );
    desk.ssh(board, &script).map(drop)
}

fn native(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    let desk = fleet.desk();
    let of = |arch| fleet.boards.iter().find(|board| board.arch() == arch);
    let (Some(arm), Some(riscv)) = (of(Arch::Aarch64), of(Arch::Riscv64)) else {
        return Err(Error::Wrong("this takes a board of each architecture".to_owned()));
    };
    let (arm, system) = (arm.name(), riscv.system());
    configure(&desk, arm, BOTH_ROLES)?;
    desk.wait_reach(arm, "up", SOON)?;
    let sees = || {
        let status = desk.ssh(arm, "roost status --json").ok()?;
        let status: Value = serde_json::from_str(&status).ok()?;
        let boards = status["boards"].as_array()?;
        let up = |it: &&Value| it["node"]["name"] == riscv.name() && it["reach"] == "up";
        boards.iter().find(up).map(drop)
    };
    desk.wait_for(SOON, &format!("{arm} sees {}", riscv.name()), sees)?;
    // As any stock Nix asks a board that it knows: by SSH, with a certificate of the fleet.
    let builder = stock_builder(&desk, arm, system)?;
    let output = desk
        .nix_build_with("quick", system, "by way of the other board", &["--builders", &builder])
        .run()?
        .ok()?;
    ensure_content(&desk.ws, output.stdout.trim(), "quick\n")?;
    let jobs: Value = serde_json::from_str(&desk.ssh(arm, "roost jobs --all --json")?)
        .map_err(|error| Error::Wrong(format!("roost jobs on {arm}: {error}")))?;
    let jobs = jobs.as_array().cloned().unwrap_or_default();
    let there = |job: &&Value| {
        job["system"] == system && job["state"] == "built" && job["node"] == riscv.name()
    };
    ensure(jobs.iter().any(|job| there(&job)), || {
        format!("{arm} is to have the build done by {}; its jobs: {jobs:#?}", riscv.name())
    })?;
    configure(&desk, arm, BOARD_ONLY)?;
    desk.wait_reach(arm, "up", SOON)?;
    Ok(Vec::new())
}

/// Lets root on the workstation use a board as a machine without roost does; gives its `builders` entry.
fn stock_builder(desk: &Desk, board: &str, system: &str) -> Result<String> {
    desk.ws.check(
        "[ -e /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
         roost fleet invite --certificate --name stock /root/.ssh/id_ed25519.pub >/root/.ssh/id_ed25519-cert.pub",
    )?;
    Ok(format!("ssh-ng://roost@{board} {system} /root/.ssh/id_ed25519 1 1 - - -"))
}

fn update(fleet: &mut Fleet) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let (name, system) = (board.name().to_owned(), board.system());
        let boot = boot_id(desk, &name)?;
        let before = desk.ssh(&name, "readlink /run/booted-system")?;
        // The board's own program that makes a system the next one to start is a part of the new one, too.
        let switch = desk.ssh(&name, "cat /run/booted-system/bin/switch-to-configuration")?;
        let source = format!("{SOURCES}/switch-{system}");
        desk.ws.write(&source, 0o644, switch + "\n")?;
        let options = ["--argstr", "switch", &source];
        let output = desk.nix_build_with("toplevel", system, "new", &options).run()?.ok()?;
        let new = output.stdout.trim().to_owned();
        let started = now();
        desk.ws.command(["roost", "update", &name, &new]).timeout(BOOT + BUILD).run()?.ok()?;
        let took = started.elapsed();
        let after = desk.ssh(&name, "readlink /run/booted-system")?;
        ensure(after == new && before != new, || {
            format!("{name} is to run {new}, and runs {after}; before that {before}")
        })?;
        ensure(boot != boot_id(desk, &name)?, || format!("{name} was not restarted"))?;
        build_one(desk, board, "after the update")?;
        Ok(Figure::new(board.arch(), "roost update until it is kept", took.as_secs_f64(), "s"))
    })
}
