//! The steps, in their order.

use std::{fmt::Write as _, time::Duration};

use roost_lab::{
    Host, Lan, Result,
    fixtures::{
        fleet,
        nix::{self, Drv},
        roost,
    },
};

/// Longest time for the build of the graph.
const BUILD: Duration = Duration::from_secs(120);

/// The boards of the demo: a name and the system that its Nix builds for.
const BOARDS: [(&str, &str); 2] =
    [("rockpro64", "aarch64-linux"), ("visionfive2", "riscv64-linux")];

pub(super) fn run() -> Result<()> {
    say(
        1,
        "Three hosts on one network: a workstation and two boards, each with its own D-Bus, \
         Avahi, sshd and nix-daemon. (They are namespaces of this machine; the boards play their \
         architectures.)",
    );
    let lan = Lan::new()?;
    let board =
        |(name, system)| -> Result<_> { roost::board(lan.host(name).system(system), 2, "") };
    let [ws, one, two] = lan.start([
        roost::workstation(lan.host("workstation"), "")?,
        board(BOARDS[0])?,
        board(BOARDS[1])?,
    ])?;

    say(
        2,
        "The workstation is given the boards' host keys, and the boards the workstation's key. \
         Nothing else is configured: no address, no machines file. Then roost starts everywhere.",
    );
    roost::join(&ws, &[&one, &two])?;

    say(3, "The boards announce themselves over Avahi, and the workstation finds them.");
    for board in [&one, &two] {
        fleet::wait_reach(&lan, &ws, board, "up")?;
    }
    show(&ws, "roost status")?;

    say(4, "For stock Nix the whole fleet is these lines, which roost keeps up to date.");
    show(&ws, "cat /run/roost/machines")?;

    say(
        5,
        "A graph of five derivations, for two systems. `report` needs what both boards made, so \
         outputs travel from board to board. This is the graph:",
    );
    nix::write(&ws, "/root/graph.nix", &graph())?;
    println!("{GRAPH}");

    say(6, "Stock Nix builds it. It knows nothing of boards, only of one line a system.");
    let build = "nix build --print-out-paths --no-link --print-build-logs --max-jobs 0 \
                 --builders @/run/roost/machines --file /root/graph.nix";
    let output = show_within(&ws, build, BUILD)?;

    say(7, "What was built, where, and why there:");
    show(&ws, "roost jobs --all")?;
    show(&ws, "roost why report")?;

    say(8, "The result is in the workstation's store, and `nix log` has the builds' logs:");
    show(&ws, &format!("cat {}", output.trim()))?;
    show(&ws, &format!("nix log {}", output.trim()))?;

    say(9, "Everything is torn down.");
    drop(lan);
    println!("    Nothing is left: no process, no mount, no network interface.");
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

fn say(step: u32, text: &str) {
    println!("\n{step}. {text}\n");
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
