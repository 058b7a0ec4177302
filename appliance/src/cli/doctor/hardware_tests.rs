use super::{
    super::fixtures,
    Facts, Finding, Verdict,
    judge::judge,
    judge_tests::{after, healthy, set},
};
use crate::{
    model::Reach,
    observe::{Emulated, vitals::Heat},
};

fn emulate(facts: &mut Facts, system: &str, interpreter: &str) {
    let machine = facts.machine.as_mut().unwrap();
    machine.emulated.push(Emulated {
        system: system.into(),
        interpreter: interpreter.into(),
        entry: interpreter.rsplit('/').next().unwrap().into(),
        fixed: true,
        shadows_native: machine.native.iter().any(|it| it == system),
    });
}

fn workstation(facts: &mut Facts) {
    facts.config.as_mut().unwrap().board.enable = false;
}

#[track_caller]
fn is(finding: &Finding, verdict: Verdict, found: &str) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.found.contains(found), "{finding:?}");
    assert_eq!(finding.fix.is_empty(), verdict == Verdict::Ok, "{finding:?}");
}

#[test]
fn what_every_hart_has_is_told() {
    let machine = after("machine", |facts| {
        let machine = facts.machine.as_mut().unwrap();
        machine.native = vec!["riscv64-linux".into()];
        machine.isa = vec!["rv64gc", "zba", "zbb"];
    });
    is(&machine, Verdict::Ok, "executes riscv64-linux; every hart has rv64gc, zba, zbb");
}

#[test]
fn emulation_is_explained_with_what_is_native_on_the_lan() {
    let told = |away| {
        let mut facts = healthy();
        emulate(&mut facts, "riscv64-linux", "/usr/bin/qemu-riscv64");
        emulate(&mut facts, "s390x-linux", "/usr/bin/qemu-s390x");
        emulate(&mut facts, "mips-linux", "/usr/bin/qemu-mips");
        let mut boards = fixtures::boards();
        boards[0].node.systems = vec!["riscv64-linux".into()];
        boards[1].reach = if away { Reach::Away } else { Reach::Up };
        facts.boards = Ok(boards);
        let findings = judge(&facts).into_iter().filter(|finding| finding.check == "emulator");
        findings.map(|finding| finding.found).collect::<Vec<_>>()
    };
    let is_emulated =
        "riscv64-linux is emulated here by /usr/bin/qemu-riscv64 (binfmt entry qemu-riscv64)";
    assert_eq!(
        told(false),
        [
            format!("{is_emulated}; 2 native boards are on the LAN"),
            "2 emulated systems without a board or a use in Nix".to_owned()
        ]
    );
    assert_eq!(told(true)[0], format!("{is_emulated}; one native board is on the LAN"));
}

#[test]
fn without_the_daemon_emulators_of_systems_that_nix_wants_are_told() {
    let finding = after("emulator", |facts| {
        emulate(facts, "riscv64-linux", "/usr/bin/qemu-riscv64");
        set(&mut facts.nix_settings, "extra-platforms", "riscv64-linux");
        facts.boards = Err("is not running".into());
    });
    is(&finding, Verdict::Ok, "(binfmt entry qemu-riscv64)");
    assert!(finding.found.ends_with(')'), "{finding:?}");
}

#[test]
fn emulation_by_nix_itself_is_warned_of_on_a_workstation() {
    let finding = after("emulation", |facts| {
        workstation(facts);
        set(&mut facts.nix_settings, "extra-platforms", "i686-linux riscv64-linux");
    });
    is(&finding, Verdict::Warning, "Nix may emulate riscv64-linux itself");
    assert!(finding.fix.contains("extra-platforms"), "{finding:?}");
    let finding = after("emulation", workstation);
    is(&finding, Verdict::Ok, "Nix emulates nothing by itself");
}

#[test]
fn a_board_may_offer_what_it_emulates_and_not_what_nothing_runs() {
    let finding = after("emulation", |facts| {
        emulate(facts, "riscv64-linux", "/usr/bin/qemu-riscv64");
        set(&mut facts.nix_settings, "extra-platforms", "i686-linux riscv64-linux");
    });
    is(&finding, Verdict::Ok, "offers riscv64-linux as emulated");
    let finding = after("emulation", |facts| {
        set(&mut facts.nix_settings, "extra-platforms", "riscv64-linux");
    });
    is(&finding, Verdict::Warning, "riscv64-linux, which nothing here runs");
}

#[test]
fn an_interpreter_that_the_sandbox_lacks_is_warned_of() {
    let emulation = |sandbox, paths| {
        after("emulation", |facts| {
            emulate(facts, "riscv64-linux", "/run/binfmt/riscv64-linux");
            facts.machine.as_mut().unwrap().emulated[0].fixed = false;
            for (name, value) in [
                ("extra-platforms", "riscv64-linux"),
                ("sandbox", sandbox),
                ("sandbox-paths", paths),
            ] {
                set(&mut facts.nix_settings, name, value);
            }
        })
    };
    is(
        &emulation("true", "/bin/sh=/nix/store/x"),
        Verdict::Warning,
        "lack /run/binfmt/riscv64-linux",
    );
    is(&emulation("true", "/bin/sh=/nix/store/x /run/binfmt"), Verdict::Ok, "offers");
    is(&emulation("false", ""), Verdict::Ok, "offers");
}

#[test]
fn the_system_of_nix_itself_is_believed() {
    let finding = after("emulation", |facts| {
        workstation(facts);
        set(&mut facts.nix_settings, "system", "riscv64-linux");
        set(&mut facts.nix_settings, "extra-platforms", "riscv64-linux");
    });
    is(&finding, Verdict::Ok, "nothing");
}

#[test]
fn an_emulator_for_what_runs_natively_is_warned_of() {
    let finding = after("shadow", |facts| {
        emulate(facts, "i686-linux", "/usr/bin/qemu-i386");
    });
    is(&finding, Verdict::Warning, "i686-linux runs natively here");
    assert!(finding.fix.contains("/proc/sys/fs/binfmt_misc/qemu-i386"), "{finding:?}");
}

#[test]
fn features_that_are_not_true_are_told() {
    let finding = after("features", |facts| {
        set(&mut facts.nix_settings, "system-features", "benchmark kvm");
    });
    is(&finding, Verdict::Ok, "/dev/kvm cannot be opened");
    assert!(finding.found.ends_with("too: gccarch-x86-64"), "{finding:?}");
    let finding = after("features", |facts| {
        set(&mut facts.nix_settings, "system-features", "gccarch-x86-64");
    });
    assert_eq!(finding.found, "benchmark, big-parallel here");
}

#[test]
fn heat_is_told_and_warned_of_close_to_the_trip_point() {
    is(&after("heat", |_| {}), Verdict::Ok, "52 °C, slows down at 70 °C; at 1200 of 2400 MHz");
    let heat = |temperature_mc, passive_mc| {
        after("heat", |facts| {
            facts.heat = Some(Heat { temperature_mc, passive_mc });
            facts.clock_mhz = None;
        })
    };
    is(&heat(66_000, Some(70_000)), Verdict::Warning, "66 °C, slows down at 70 °C");
    is(&heat(90_000, None), Verdict::Ok, "90 °C, and no trip point");
    is(&after("heat", |facts| facts.heat = None), Verdict::Ok, "no sensor");
}

#[test]
fn a_machine_that_cannot_be_looked_at_is_not_judged() {
    let finding = after("machine", |facts| facts.machine = Err("no /proc".into()));
    assert_eq!(finding.verdict, Verdict::Skipped);
}
