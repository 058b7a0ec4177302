//! Whether the local Nix asks roost what to build by itself. Pure.

use super::{Facts, Finding, Verdict, judge::finding};
use crate::{config::Config, model::Reach};

const CHECK: &str = "local builds";

/// What has Nix ask (docs/operations.md).
const ENABLE: &str = "\
mkdir -p /etc/systemd/system/nix-daemon.service.d
ln -s /usr/share/roost/nix-daemon.conf /etc/systemd/system/nix-daemon.service.d/roost.conf
systemctl daemon-reload; systemctl restart nix-daemon
or set workstation.build_here to false";

/// The check, on a workstation.
pub(super) fn local_builds(facts: &Facts, config: &Config) -> Finding {
    let asks = match &facts.nix_asks {
        Ok(asks) => *asks || in_nix_conf(facts),
        Err(why) => return finding(CHECK, Verdict::Skipped, why),
    };
    let is_lix = facts.nix.as_ref().is_ok_and(|nix| nix.version.contains("Lix"));
    if asks && is_lix {
        return finding(CHECK, Verdict::Failed, "Lix speaks another language with its build hook")
            .fix(
                "take `build-hook` out of nix-daemon's NIX_CONFIG and of nix.conf, then: systemctl \
                 daemon-reload; systemctl restart nix-daemon",
            );
    }
    let system = own_system(facts);
    let boards = boards_of(facts, system);
    match (config.workstation.build_here, asks) {
        (false, _) => finding(CHECK, Verdict::Ok, "left to Nix: workstation.build_here is off"),
        (true, true) => finding(CHECK, Verdict::Ok, "Nix asks roost, and builds here what ends soonest so"),
        (true, false) if boards == 0 => {
            finding(CHECK, Verdict::Ok, format!("all of {system}: no board builds for it"))
        }
        (true, false) if is_lix => {
            finding(CHECK, Verdict::Ok, format!("none of {system} while boards are busy, with Lix"))
        }
        (true, false) => finding(
            CHECK,
            Verdict::Warning,
            format!(
                "Nix does not ask roost: builds for {system} wait for boards while this machine idles"
            ),
        )
        .fix(ENABLE),
    }
}

/// Where Nix reads it there: up to 2.24, and from 2.34 on.
fn in_nix_conf(facts: &Facts) -> bool {
    let settings = facts.nix_settings.as_ref().ok();
    settings.and_then(|all| all.get("build-hook")).is_some_and(|hook| is_ours(hook))
}

/// Whether a value of the setting `build-hook` is our hook.
pub(super) fn is_ours(hook: &str) -> bool {
    let mut words = hook.split_whitespace();
    words.next().is_some_and(|program| program.ends_with("/roost")) && words.next() == Some("hook")
}

fn own_system(facts: &Facts) -> &str {
    let settings = facts.nix_settings.as_ref().ok();
    settings.and_then(|all| all.get("system")).map_or("its own system", String::as_str)
}

/// Boards of the fleet that build for it, whether they are there or not.
fn boards_of(facts: &Facts, system: &str) -> usize {
    let fleet = facts.boards.iter().flatten().filter(|board| board.reach != Reach::Pending);
    fleet.filter(|board| board.node.systems.iter().any(|it| it == system)).count()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            facts::NixDaemon,
            judge_tests::{after, set},
        },
        *,
    };
    use crate::cli::fixtures;

    /// What is found where Nix does not ask, and a board builds for the machine's own system.
    fn found(change: impl FnOnce(&mut Facts)) -> Finding {
        after(CHECK, |facts| {
            facts.nix_asks = Ok(false);
            let mut boards = fixtures::boards();
            boards[0].node.systems = vec!["x86_64-linux".into()];
            facts.boards = Ok(boards);
            change(facts);
        })
    }

    #[test]
    fn a_machine_that_idles_beside_busy_boards_is_told_how_to_take_part() {
        let finding = found(|_| ());
        assert_eq!(finding.verdict, Verdict::Warning, "{finding:?}");
        assert!(finding.fix.contains("/usr/share/roost/nix-daemon.conf"), "{finding:?}");
    }

    #[test]
    fn there_is_nothing_to_do_where_nix_asks_must_not_or_has_no_such_board() {
        let changes: [fn(&mut Facts); 4] = [
            |facts| facts.nix_asks = Ok(true),
            |facts| set(&mut facts.nix_settings, "build-hook", "/opt/bin/roost hook"),
            |facts| facts.config.as_mut().unwrap().workstation.build_here = false,
            |facts| facts.boards = Ok(Vec::new()),
        ];
        for change in changes {
            let finding = found(change);
            assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
        }
    }

    #[test]
    fn lix_is_not_to_be_given_our_hook() {
        let lix = |facts: &mut Facts| {
            facts.nix = Ok(NixDaemon { version: "2.94.0 (Lix)".into(), trusted: Some(true) });
        };
        assert_eq!(found(lix).verdict, Verdict::Ok);
        let finding = found(|facts| {
            lix(facts);
            facts.nix_asks = Ok(true);
        });
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.fix.contains("build-hook"), "{finding:?}");
    }

    #[test]
    fn what_cannot_be_seen_is_not_held_against_anybody() {
        let finding = found(|facts| facts.nix_asks = Err("only root may look".into()));
        assert_eq!(finding.verdict, Verdict::Skipped);
    }

    #[test]
    fn our_hook_is_known_wherever_it_is() {
        assert!(is_ours("/nix/store/x-roost/bin/roost hook"));
        assert!(is_ours(" /usr/bin/roost  hook /opt/nix __build-remote"));
        assert!(!is_ours("/usr/bin/nix __build-remote"));
        assert!(!is_ours("/usr/bin/roost"));
        assert!(!is_ours(""));
    }
}
