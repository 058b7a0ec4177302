//! What the facts of the second store mean: whether this machine emulates as it is configured to. Pure.

use super::{
    Facts, Finding, Verdict,
    facts::{SecondWay, Seen},
    judge::finding,
};
use crate::{model::NodeView, names};

const CHECK: &str = "second store";

/// How systemd is told to start a nix-daemon for it.
const ENABLE: &str = "systemctl enable --now roost-emulation.socket";

/// The check, in a machine that is configured to have such a store.
pub(super) fn second_store(facts: &Facts, way: &SecondWay) -> Finding {
    let systems = match usable(facts) {
        Ok(systems) => systems,
        Err(problem) => return *problem,
    };
    if !facts.root {
        return finding(CHECK, Verdict::Skipped, "only root may ask its nix-daemon");
    }
    if way.systemd && !way.listens {
        let found = format!(
            "nobody listens at {}, and a nix-daemon that roost's own service starts may make no \
             sandbox",
            names::EMULATION_SOCKET
        );
        return finding(CHECK, Verdict::Failed, found).fix(ENABLE);
    }
    match &way.nix {
        Err(why) => no_answer(way, why),
        Ok(version) => by_daemon(&facts.second_store).unwrap_or_else(|| {
            let by = if way.listens { names::EMULATION_SOCKET } else { "roost itself" };
            let found = format!("Nix {version}, started by {by}, emulates {}", systems.join(", "));
            finding(CHECK, Verdict::Ok, found)
        }),
    }
}

/// What can be emulated in Nix's sandbox, which has no interpreter but those of the kernel.
fn usable(facts: &Facts) -> Result<Vec<&str>, Box<Finding>> {
    let machine = match &facts.machine {
        Ok(machine) => machine,
        Err(why) => return Err(Box::new(finding(CHECK, Verdict::Skipped, why))),
    };
    let foreign = || machine.emulated.iter().filter(|it| !it.shadows_native);
    let systems: Vec<_> = foreign().filter(|it| it.fixed).map(|it| it.system.as_str()).collect();
    if !systems.is_empty() {
        return Ok(systems);
    }
    let found = match foreign().next() {
        Some(it) => format!(
            "nothing is emulated: {} has not the flag F in binfmt_misc, so no sandbox sees it",
            it.interpreter
        ),
        None => "nothing is emulated: binfmt_misc has no interpreter".to_owned(),
    };
    Err(Box::new(finding(CHECK, Verdict::Warning, found).fix(
        "apt install qemu-user-static (NixOS: boot.binfmt.emulatedSystems, and \
         boot.binfmt.preferStaticEmulators = true), then: systemctl restart roost\nor take \
         workstation.emulate_here out of the configuration",
    )))
}

fn no_answer(way: &SecondWay, why: &str) -> Finding {
    let failed = finding(CHECK, Verdict::Failed, why);
    if way.listens {
        return failed.fix(
            "journalctl -u 'roost-emulation@*' says why; if it is not on the PATH of \
             roost-emulation@.service, add its folder there",
        );
    }
    failed.fix(format!(
        "see that the PATH of the roost daemon has nix-daemon, and systemctl restart roost; with \
         systemd: {ENABLE}"
    ))
}

/// What the running daemon has to say, if it is not as it should be.
fn by_daemon(store: &Seen<Option<NodeView>>) -> Option<Finding> {
    match store {
        // That it does not run is told elsewhere.
        Err(_) => None,
        Ok(None) => {
            let found = "the running daemon does not emulate: it was started with another \
                         configuration, or before there was an interpreter";
            Some(finding(CHECK, Verdict::Warning, found).fix("systemctl restart roost"))
        }
        Ok(Some(store)) if !store.trouble.is_empty() => {
            let fix = format!(
                "make room on the file system of {}, or see what journalctl -u roost says",
                names::EMULATION_DIR
            );
            Some(finding(CHECK, Verdict::Failed, &store.trouble).fix(fix))
        }
        Ok(Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::judge_tests::healthy, *};
    use crate::{cli::doctor::judge, observe::Emulated};

    fn emulated(fixed: bool) -> Emulated {
        Emulated {
            system: "riscv64-linux".into(),
            interpreter: "/usr/bin/qemu-riscv64".into(),
            entry: "qemu-riscv64".into(),
            fixed,
            shadows_native: false,
        }
    }

    /// A machine that emulates in a second store, and all is well.
    fn emulating() -> Facts {
        let mut facts = healthy();
        facts.machine.as_mut().unwrap().emulated = vec![emulated(true)];
        facts.second_store = Ok(Some(NodeView::default()));
        facts.second_nix =
            Some(SecondWay { systemd: true, listens: true, nix: Ok("2.26.3".into()) });
        facts
    }

    fn after(change: impl FnOnce(&mut Facts)) -> Option<Finding> {
        let mut facts = emulating();
        change(&mut facts);
        judge(&facts).into_iter().find(|finding| finding.check == CHECK)
    }

    fn way(facts: &mut Facts) -> &mut SecondWay {
        facts.second_nix.as_mut().unwrap()
    }

    #[test]
    fn where_all_is_well_it_says_what_is_emulated_and_by_whom() {
        let found = after(|_| {}).unwrap();
        assert_eq!(found.verdict, Verdict::Ok, "{found:?}");
        assert_eq!(
            found.found,
            "Nix 2.26.3, started by /run/roost-emulation.sock, emulates riscv64-linux"
        );
        let found = after(|facts| {
            *way(facts) = SecondWay { systemd: false, listens: false, ..way(facts).clone() };
        });
        assert!(found.unwrap().found.contains("started by roost itself"));
    }

    #[test]
    fn without_the_setting_nothing_is_said() {
        assert_eq!(after(|facts| facts.second_nix = None), None);
    }

    #[test]
    fn each_thing_that_is_wrong_comes_with_its_fix() {
        type Change = fn(&mut Facts);
        let cases: [(Change, Verdict, &str, &str); 7] = [
            (
                |facts| facts.machine.as_mut().unwrap().emulated.clear(),
                Verdict::Warning,
                "has no interpreter",
                "qemu-user-static",
            ),
            (
                |facts| facts.machine.as_mut().unwrap().emulated = vec![emulated(false)],
                Verdict::Warning,
                "/usr/bin/qemu-riscv64 has not the flag F",
                "preferStaticEmulators",
            ),
            (|facts| way(facts).listens = false, Verdict::Failed, "nobody listens", ENABLE),
            (
                |facts| way(facts).nix = Err("nix-daemon went away".into()),
                Verdict::Failed,
                "nix-daemon went away",
                "journalctl -u 'roost-emulation@*'",
            ),
            (
                |facts| {
                    let nix = Err("cannot start nix-daemon".into());
                    *way(facts) = SecondWay { systemd: false, listens: false, nix };
                },
                Verdict::Failed,
                "cannot start nix-daemon",
                "PATH of the roost daemon",
            ),
            (
                |facts| facts.second_store = Ok(None),
                Verdict::Warning,
                "the running daemon does not emulate",
                "systemctl restart roost",
            ),
            (
                |facts| {
                    let trouble = "less than 1024 MiB are free".to_owned();
                    facts.second_store = Ok(Some(NodeView { trouble, ..NodeView::default() }));
                },
                Verdict::Failed,
                "less than 1024 MiB",
                "make room",
            ),
        ];
        for (change, verdict, found, fix) in cases {
            let finding = after(change).unwrap();
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found) && finding.fix.contains(fix), "{finding:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_held_against_it() {
        let skipped = |change: fn(&mut Facts)| after(change).unwrap().verdict;
        assert_eq!(skipped(|facts| facts.root = false), Verdict::Skipped);
        assert_eq!(skipped(|facts| facts.machine = Err("no memory".into())), Verdict::Skipped);
        assert_eq!(skipped(|facts| facts.second_store = Err("no bus".into())), Verdict::Ok);
    }
}
