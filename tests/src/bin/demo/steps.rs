//! The steps, in their order.

use std::{fmt::Write as _, time::Duration};

use roost_lab::{
    Host, Lan, Result, Service,
    fixtures::{
        fleet, foreign,
        native::{self, RISCV},
        nix::{self, Drv},
        rogue, roost, trust,
    },
    runs_foreign_programs,
};

/// Longest time for the build of the graph.
const BUILD: Duration = Duration::from_secs(120);

/// The boards of the demo: a name and the system that its Nix builds for.
const BOARDS: [(&str, &str); 2] = [("rockpro64", "aarch64-linux"), ("visionfive2", RISCV)];

pub(super) fn run() -> Result<()> {
    let mut steps = Steps::default();
    steps.say(
        "Five hosts on one network: a workstation, two boards, a laptop, and one that nobody invited, \
         each with its own D-Bus, Avahi, sshd and nix-daemon. (They are namespaces of this machine; the \
         boards play their architectures.)",
    );
    let lan = Lan::new()?;
    let [mut arm, mut riscv] = BOARDS.map(|(name, system)| lan.host(name).system(system));
    if runs_foreign_programs() {
        arm = arm.emulates([RISCV]);
        riscv = riscv.runs([RISCV]);
    }
    let [ws, one, two, laptop, rogue] = lan.start([
        roost::workstation(lan.host("workstation"), "")?,
        native::both(arm, 2, "")?,
        roost::board(riscv, 2, "")?,
        lan.host("laptop"),
        lan.host("rogue"),
    ])?;
    steps.say("The workstation makes a fleet, which is one key, and its daemon starts.");
    show(&ws, "roost fleet init")?;
    trust::note_holder(&ws)?;
    ws.enable_service(Service::ROOST)?;

    steps.say(
        "Each board's card is given a seed: the fleet's public key, and a token that is good for one board. \
         (A folder stands for the card.)",
    );
    for board in [&one, &two] {
        let (command, card) = trust::seed_command(board.name());
        ws.check(&format!("mkdir -p {card}"))?;
        show(&ws, &command)?;
        trust::carry(&ws, &card, board)?;
    }

    steps.say(
        "The boards are switched on. Nothing else is configured: no address, no key, no machines file. They \
         announce themselves over Avahi, prove their tokens, and are enrolled.",
    );
    for board in [&one, &two] {
        board.enable_service(Service::ROOST)?;
    }
    for board in [&one, &two] {
        fleet::wait_reach(&lan, &ws, board, "up")?;
    }
    show(&ws, "roost status")?;
    show(&ws, "roost fleet list")?;

    steps.say(
        "One more host announces all that rockpro64 does, under another name and with a key of its own. It \
         gets nothing, and here is why:",
    );
    let record = rogue::with(&rogue::txt(&lan, &rogue, &one)?, "hk", &rogue::host_key(&rogue)?);
    let claims = rogue::announce(&rogue, &[], "free-builder", &record)?;
    fleet::wait_reach_of(&lan, &ws, "free-builder", "pending")?;
    show(&ws, "roost status")?;
    drop(claims);

    steps.say("For stock Nix the whole fleet is these lines, which roost keeps up to date.");
    show(&ws, "cat /run/roost/machines")?;

    steps.say(
        "A graph of five derivations, for two systems. `report` needs what both boards made, so \
         outputs travel from board to board. This is the graph:",
    );
    nix::write(&ws, "/root/graph.nix", &graph())?;
    println!("{GRAPH}");

    steps.say("Stock Nix builds it. It knows nothing of boards, only of one line a system.");
    let build = "nix build --print-out-paths --no-link --print-build-logs --max-jobs 0 \
                 --builders @/run/roost/machines --file /root/graph.nix";
    let output = show_within(&ws, build, BUILD)?;

    steps.say("What was built, where, and why there:");
    show(&ws, "roost jobs --all")?;
    show(&ws, "roost why report")?;
    show(&ws, "roost timeline")?;

    steps.say("The result is in the workstation's store, and `nix log` has the builds' logs:");
    show(&ws, &format!("cat {}", output.trim()))?;
    show(&ws, &format!("nix log {}", output.trim()))?;

    if runs_foreign_programs() {
        by_way_of_a_board(&mut steps, &lan, &laptop, [&one, &two])?;
    } else {
        steps.say("What a board that emulates does needs Linux 6.7 or later to be shown.");
    }
    steps.say("Everything is torn down.");
    drop(lan);
    println!("    Nothing is left: no process, no mount, no network interface.");
    Ok(())
}

/// A machine without roost asks a board for what that one could only emulate.
fn by_way_of_a_board(
    steps: &mut Steps,
    lan: &Lan,
    laptop: &Host,
    [one, two]: [&Host; 2],
) -> Result<()> {
    steps.say(
        "The laptop has no roost. To its stock Nix, rockpro64 is a builder for riscv64-linux, too: \
         qemu-user is registered there.",
    );
    fleet::wait_reach(lan, one, two, "up")?;
    native::open_to(laptop, one)?;
    nix::write(laptop, "/root/machine.nix", &foreign::drv("machine", RISCV).expr())?;
    show(one, "head -n 2 /proc/sys/fs/binfmt_misc/qemu-riscv64")?;
    let builder = roost::builder("ssh-ng", one, RISCV, 2);
    let build = format!(
        "nix-build --no-out-link --max-jobs 0 --builders '{builder}' /root/machine.nix 2>/dev/null"
    );
    let output = show_within(laptop, &build, BUILD)?;

    steps.say("But rockpro64 knows a board that needs no emulator, and has sent the build on:");
    show(one, "roost why machine")?;
    show(laptop, &format!("head -n 1 {}", output.trim()))?;
    Ok(())
}

/// What [`graph`] says, as people draw it.
const GRAPH: &str = "
      kernel (aarch64-linux)  ──┐
                                ├──  image-arm (aarch64-linux)   ──┐
      source (aarch64-linux)  ──┤                                  ├──  report (aarch64-linux)
                                └──  image-riscv (riscv64-linux) ──┘";

/// The graph in the Nix language. Each build takes a second and says what it does.
fn graph() -> String {
    let [(_, arm), (_, riscv)] = BOARDS;
    let leaf = |name: &str| {
        Drv::new(name, arm, &format!("echo making {name}; sleep 1; echo {name} for {arm} >$out"))
    };
    let image = |name: &str, system: &str| {
        let script = format!(
            "echo {name} is put together; sleep 1; cat $parts >$out; echo {name} for {system} >>$out"
        );
        Drv::new(name, system, &script).attr("parts", "[ kernel source ]")
    };
    let report = Drv::new("report", arm, "echo reading both images; cat $images >$out")
        .attr("images", "[ image-arm image-riscv ]");
    let mut text = String::from("let\n");
    for (name, drv) in [
        ("kernel", leaf("kernel")),
        ("source", leaf("source")),
        ("image-arm", image("image-arm", arm)),
        ("image-riscv", image("image-riscv", riscv)),
    ] {
        let _ = writeln!(text, "  {name} = {};", drv.expr());
    }
    let _ = write!(text, "in {}", report.expr());
    text
}

/// Counts the steps.
#[derive(Default)]
struct Steps(u32);

impl Steps {
    fn say(&mut self, text: &str) {
        self.0 += 1;
        println!("\n{}. {text}\n", self.0);
    }
}

/// Shows a command and what it prints; gives its standard output.
fn show(host: &Host, command: &str) -> Result<String> {
    show_within(host, command, Duration::from_secs(30))
}

fn show_within(host: &Host, command: &str, timeout: Duration) -> Result<String> {
    println!("    {}$ {command}", host.name());
    let output = host.command(["sh", "-c", command]).timeout(timeout).run()?.ok()?;
    for line in output.stderr.lines().chain(output.stdout.lines()) {
        println!("    {line}");
    }
    println!();
    Ok(output.stdout)
}
