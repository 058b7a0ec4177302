//! What is tried, in this order: each step starts from where the one before has ended.

use std::time::Duration;

use roost_lab::now;
use serde_json::Value;

use super::{
    fleet::{BOOT, BUILD, Board, Desk, Fleet, SOON, SOURCES, ensure_content},
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
    run: fn(&mut Fleet, &Options) -> Result<Vec<Figure>>,
}

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the boards are watched while they are idle.
    pub idle: Duration,
}

impl Step {
    /// Runs it; gives what was measured.
    ///
    /// # Errors
    ///
    /// What it shows does not hold.
    pub fn run(&self, fleet: &mut Fleet, options: &Options) -> Result<Vec<Figure>> {
        (self.run)(fleet, options)
    }
}

/// All of them.
pub const STEPS: &[Step] = &[
    Step { name: "enrol", shows: "boards that are switched on enrol themselves", run: enrol },
    Step { name: "grow", shows: "the root has grown to the disk", run: grow },
    Step {
        name: "graph",
        shows: "C programs are compiled and run natively on the boards",
        run: graph,
    },
    Step {
        name: "power-cut",
        shows: "a power cut in mid-build loses no job, and a second boot re-enrols nothing",
        run: power_cut,
    },
    Step { name: "link", shows: "a board whose cable was out is used again", run: link },
    Step {
        name: "drain",
        shows: "a drained board is given nothing until it is resumed",
        run: drain,
    },
    Step {
        name: "native",
        shows: "the RISC-V board builds what the ARM board is asked for",
        run: native,
    },
    Step {
        name: "update",
        shows: "a board is given a system built on it, and keeps it",
        run: update,
    },
    Step { name: "idle", shows: "an idle board is small and quiet", run: idle },
];

fn enrol(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
    let enrolled = fleet.each(|desk, board| {
        board.guest.power_on()?;
        let name = board.name().to_owned();
        desk.wait_reach(&name, "up", BOOT)?;
        Ok(Figure::new(
            board.arch(),
            "power-on to enrolled",
            board.guest.console()?.age().as_secs_f64(),
            "s",
        ))
    })?;
    Ok(enrolled)
}

fn grow(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
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
        Ok(Figure::new(board.arch(), "root on a disk of 4096 MiB", mib as f64, "MiB"))
    })
}

fn graph(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
    fleet.each(|desk, board| {
        let (arch, started) = (board.arch(), now());
        build_graph(desk, board, "graph")?;
        Ok(Figure::new(arch, "graph of 7 derivations", started.elapsed().as_secs_f64(), "s"))
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
    let (said, expected) = (without_machine(&said), without_machine(&expected));
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

/// qemu-user says the emulated machine's name; not every version does.
fn without_machine(said: &str) -> &str {
    said.split_once('\n').map_or(said, |(_, rest)| rest)
}

/// What makes a board the one that it is: were it to enrol again, some of it would change.
fn identity(desk: &Desk, board: &Board) -> Result<String> {
    let script = "cd /var/lib/roost/trust && sha256sum /etc/ssh/ssh_host_ed25519_key $(find . -type f | grep -v lock | sort)";
    desk.ssh(board.name(), script)
}

fn boot_id(desk: &Desk, board: &str) -> Result<String> {
    desk.ssh(board, "cat /proc/sys/kernel/random/boot_id")
}

fn power_cut(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
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

fn link(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
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

fn drain(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
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
        ensure_content(&desk.ws, output.stdout.trim(), "quick\n")
    })?;
    Ok(Vec::new())
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

fn native(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
    let desk = fleet.desk();
    let of = |arch| fleet.boards.iter().find(|board| board.arch() == arch);
    let (Some(arm), Some(riscv)) = (of(Arch::Aarch64), of(Arch::Riscv64)) else {
        return Ok(Vec::new());
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

fn update(fleet: &mut Fleet, _: &Options) -> Result<Vec<Figure>> {
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

/// What is said of the daemon: its memory, its program, and how often its threads have run.
const DAEMON: &str = r#"pid=$(systemctl show --property=MainPID --value roost)
    awk '$1 == "VmRSS:" { print $2 }' /proc/$pid/status
    stat -L -c %s /proc/$pid/exe
    cat /proc/$pid/task/*/status | awk '/ctxt_switches/ { sum += $2 } END { print sum }'"#;

/// See [`DAEMON`].
struct DaemonFacts {
    rss_kib: f64,
    program_bytes: f64,
    switches: f64,
}

fn daemon(desk: &Desk, board: &str) -> Result<DaemonFacts> {
    let said = desk.ssh(board, DAEMON)?;
    let numbers: Vec<f64> = said.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [rss_kib, program_bytes, switches] = numbers[..] else {
        return Err(Error::Wrong(format!("{board} tells nothing of its daemon: {said}")));
    };
    Ok(DaemonFacts { rss_kib, program_bytes, switches })
}

/// The most memory that the daemon may have when it is idle, in MiB, and the most bytes of its program.
const MAX_RSS_MIB: f64 = 15.0;
const MAX_PROGRAM_MIB: f64 = 10.0;

fn idle(fleet: &mut Fleet, options: &Options) -> Result<Vec<Figure>> {
    let minutes = options.idle.as_secs_f64() / 60.0;
    let figures = fleet.each(|desk, board| {
        let (name, arch) = (board.name().to_owned(), board.arch());
        // What the builds before have left to be written is not of the idle time.
        desk.ssh(&name, "sync")?;
        let before = daemon(desk, &name)?;
        let written = board.guest.disk_use()?.written_bytes;
        let ended = board.guest.wait_for_end(options.idle);
        ensure(!ended, || format!("{name} ended"))?;
        let written = board.guest.disk_use()?.written_bytes - written;
        let after = daemon(desk, &name)?;
        #[expect(clippy::cast_precision_loss, reason = "what an idle machine writes is little")]
        let written_kib = written as f64 / 1024.0;
        Ok([
            Figure::new(arch, "daemon, idle", after.rss_kib / 1024.0, "MiB").at_most(MAX_RSS_MIB),
            Figure::new(arch, "program", after.program_bytes / 1_000_000.0, "MB")
                .at_most(MAX_PROGRAM_MIB),
            Figure::new(
                arch,
                "daemon's wake-ups when idle",
                (after.switches - before.switches) / minutes,
                "a minute",
            ),
            Figure::new(arch, "written when idle", written_kib / minutes, "KiB a minute"),
        ])
    })?;
    let figures: Vec<Figure> = figures.into_iter().flatten().collect();
    for figure in &figures {
        figure.ensure_within()?;
    }
    Ok(figures)
}
