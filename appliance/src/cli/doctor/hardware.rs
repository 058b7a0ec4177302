//! What the facts of the hardware mean: what runs natively, what is emulated by what, and heat. Pure.

use std::{collections::BTreeSet, path::Path};

use super::{super::human, Facts, Finding, Verdict, judge::finding};
use crate::{
    config::Config,
    model::Reach,
    observe::{Emulated, Machine},
};

/// The checks.
pub(super) fn hardware(facts: &Facts, config: &Config) -> Vec<Finding> {
    let machine = match &facts.machine {
        Ok(machine) => machine,
        Err(why) => return vec![finding("machine", Verdict::Skipped, why)],
    };
    let mut findings = vec![what(machine)];
    if config.board.enable {
        findings.extend([features(facts, machine), heat(facts, config)]);
    }
    if config.board.enable || config.workstation.enable {
        findings.push(emulation(facts, config, machine));
    }
    findings.extend(shadows(machine));
    findings.extend(emulators(facts, machine));
    findings
}

fn what(machine: &Machine) -> Finding {
    let name = match (machine.board, &machine.model) {
        (Some(board), _) => board.name,
        (None, Some(model)) => model,
        (None, None) => "this CPU",
    };
    let mut found = format!("{name} executes {}", machine.native.join(", "));
    if !machine.isa.is_empty() {
        found += &format!("; every hart has {}", machine.isa.join(", "));
    }
    finding("machine", Verdict::Ok, found)
}

/// What of the features is true here, and what more could be offered.
fn features(facts: &Facts, machine: &Machine) -> Finding {
    let named = setting(facts, "system-features");
    let mut found = Vec::from_iter(machine.features.iter().copied()).join(", ") + " here";
    if named.contains("kvm") && !machine.features.contains("kvm") {
        found += "; nix.conf names kvm, which is not offered: /dev/kvm cannot be opened";
    }
    let more: Vec<_> =
        machine.gccarch.iter().copied().filter(|feature| !named.contains(*feature)).collect();
    if !more.is_empty() {
        found += &format!(
            "; system-features in nix.conf may name what this CPU runs, too: {}",
            more.join(", ")
        );
    }
    finding("features", Verdict::Ok, found)
}

fn heat(facts: &Facts, config: &Config) -> Finding {
    let check = "heat";
    let Some(heat) = facts.heat else {
        return finding(check, Verdict::Ok, "there is no sensor to tell");
    };
    let mut found = human::temperature(heat.temperature_mc);
    match heat.passive_mc {
        Some(passive_mc) => found += &format!(", slows down at {}", human::temperature(passive_mc)),
        None => found += ", and no trip point at which it slows down",
    }
    if let Some((now, most)) = facts.clock_mhz {
        found += &format!("; at {now} of {most} MHz");
    }
    let narrow_mc = i32::try_from(config.admission.heat_margin_c * 1000).unwrap_or(i32::MAX);
    if heat.margin_mc().is_none_or(|margin_mc| margin_mc > narrow_mc) {
        return finding(check, Verdict::Ok, found);
    }
    finding(check, Verdict::Warning, found)
        .fix("a heat sink or a fan: this close to it no build is begun (admission.heat_margin_c)")
}

/// What the local Nix would have emulated by itself, or could not run at all.
fn emulation(facts: &Facts, config: &Config, machine: &Machine) -> Finding {
    let check = "emulation";
    if let Err(why) = &facts.nix_settings {
        return finding(check, Verdict::Skipped, why);
    }
    let own = setting(facts, "system");
    let foreign: Vec<_> = setting(facts, "extra-platforms")
        .into_iter()
        .filter(|system| !own.contains(system) && !machine.native.iter().any(|it| it == system))
        .collect();
    let by_interpreter = |system: &&str| machine.emulated.iter().any(|it| it.system == **system);
    let (emulated, dead): (Vec<&str>, Vec<&str>) =
        foreign.iter().copied().partition(by_interpreter);
    if !config.board.enable && !foreign.is_empty() {
        let found =
            format!("Nix may emulate {} itself instead of asking a board", foreign.join(", "));
        return finding(check, Verdict::Warning, found).fix(
            "remove them from extra-platforms in nix.conf, and roost finds a board (NixOS: \
             boot.binfmt.addEmulatedSystemsToNixSandbox = false): with a free local slot Nix asks \
             no builder",
        );
    }
    if !dead.is_empty() {
        let found = format!(
            "extra-platforms in nix.conf names {}, which nothing here runs: not offered",
            dead.join(", ")
        );
        return finding(check, Verdict::Warning, found)
            .fix("take it out there, or register an emulator: apt install qemu-user-binfmt");
    }
    let hidden = |it: &&Emulated| emulated.contains(&it.system.as_str()) && !in_sandbox(facts, it);
    if let Some(Emulated { system, interpreter, .. }) = machine.emulated.iter().find(hidden) {
        let found = format!("{system} is offered, and builds in Nix's sandbox lack {interpreter}");
        return finding(check, Verdict::Warning, found).fix(format!(
            "register it with the flag F (apt install qemu-user-static), or in nix.conf: \
             extra-sandbox-paths = {interpreter} and what it is linked with"
        ));
    }
    if !emulated.is_empty() {
        let found = format!("this board offers {} as emulated", emulated.join(", "));
        return finding(check, Verdict::Ok, found);
    }
    finding(check, Verdict::Ok, "Nix emulates nothing by itself")
}

/// Whether an interpreter is there in a build: it was opened outside, or is let in.
fn in_sandbox(facts: &Facts, it: &Emulated) -> bool {
    let let_in = |path: &&str| {
        let path = path.split(['=', '?']).next().unwrap_or_default();
        Path::new(&it.interpreter).starts_with(path)
    };
    it.fixed
        || setting(facts, "sandbox").contains("false")
        || setting(facts, "sandbox-paths").iter().any(let_in)
}

/// Programs that the CPU could execute and an interpreter gets.
fn shadows(machine: &Machine) -> Vec<Finding> {
    let shadow = |it: &Emulated| {
        let Emulated { system, interpreter, entry, .. } = it;
        let found = format!(
            "{system} runs natively here, yet its programs go to {interpreter} (binfmt entry {entry})"
        );
        finding("shadow", Verdict::Warning, found).fix(format!(
            "echo -1 >/proc/sys/fs/binfmt_misc/{entry}, and remove what registers it: a file in \
             /usr/lib/binfmt.d or /etc/binfmt.d, or a container"
        ))
    };
    machine.emulated.iter().filter(|it| it.shadows_native).map(shadow).collect()
}

/// Every system that is emulated and matters: Nix is configured for it, or a board has it. The
/// others are summed up, since a distribution registers them all at once.
fn emulators(facts: &Facts, machine: &Machine) -> Vec<Finding> {
    let check = "emulator";
    let wanted = setting(facts, "extra-platforms");
    let mut findings = Vec::new();
    let (mut seen, mut others) = (BTreeSet::new(), 0);
    for it in machine.emulated.iter().filter(|it| !it.shadows_native) {
        if !seen.insert(&it.system) {
            continue;
        }
        let native = native_boards(facts, &it.system);
        if native.unwrap_or(0) == 0 && !wanted.contains(it.system.as_str()) {
            others += 1;
            continue;
        }
        let Emulated { system, interpreter, entry, .. } = it;
        let mut found =
            format!("{system} is emulated here by {interpreter} (binfmt entry {entry})");
        found += &match native {
            Some(0) => "; no native board is on the LAN".to_owned(),
            Some(1) => "; one native board is on the LAN".to_owned(),
            Some(number) => format!("; {number} native boards are on the LAN"),
            None => String::new(),
        };
        findings.push(finding(check, Verdict::Ok, found));
    }
    if others > 0 {
        let found =
            format!("{} without a board or a use in Nix", human::count(others, "emulated system"));
        findings.push(finding(check, Verdict::Ok, found));
    }
    findings
}

/// Boards that execute a system and are on the network now, if the daemon can tell.
fn native_boards(facts: &Facts, system: &str) -> Option<usize> {
    let boards = facts.boards.as_ref().ok()?;
    let native = boards.iter().filter(|board| {
        board.reach != Reach::Away && board.node.systems.iter().any(|it| it == system)
    });
    Some(native.count())
}

/// The words of one of Nix's settings.
fn setting<'a>(facts: &'a Facts, name: &str) -> BTreeSet<&'a str> {
    let text = facts.nix_settings.as_ref().ok().and_then(|settings| settings.get(name));
    text.map_or("", String::as_str).split_whitespace().collect()
}
