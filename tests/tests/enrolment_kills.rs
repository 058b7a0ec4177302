//! Whatever is killed while a board is being enrolled, it is enrolled in the end, and never half.

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, Result, Service,
    fixtures::{fleet, roost, trust},
};

const SOON: Duration = Duration::from_secs(60);

/// What shows that a step is done: where, and by which files.
const STEPS: &[(Side, &str)] = &[
    (Side::Board, "test -e /run/roost/console"),
    (Side::Workstation, "grep -q bound /var/lib/roost/fleet/*.json"),
    (Side::Board, "test -e /var/lib/roost/ssh/id_ed25519-cert.pub"),
    (Side::Board, "test -e /var/lib/roost/trust/ssh_host_ed25519_key-cert.pub"),
    (Side::Workstation, "grep -q BOARD /var/lib/roost/trust/roster.json"),
    (Side::Board, "grep -q BOARD /var/lib/roost/trust/roster.json"),
    (Side::Board, "! grep -q ^token /var/lib/roost/trust/seed.toml"),
    (Side::Workstation, "grep -q spent.*BOARD /var/lib/roost/fleet/*.json"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Workstation,
    Board,
}

/// A board that calls itself by its id, so that files can be searched for it.
fn board(lan: &Lan, id: &str) -> Result<HostSpec> {
    roost::board(lan.host(id).system("aarch64-linux"), 1, &format!("[node]\nid = \"{id}\""))
}

/// It has its token, or a certificate and a place in the roster: nothing between.
fn is_whole(ws: &Host, board: &Host) -> Result<bool> {
    let token = board.sh("grep -q ^token /var/lib/roost/trust/seed.toml")?.success();
    let certificate =
        board.sh("test -s /var/lib/roost/trust/ssh_host_ed25519_key-cert.pub")?.success();
    let listed = ws.sh(&format!("grep -q {} /var/lib/roost/trust/roster.json", board.name()))?;
    Ok(token || (certificate && listed.success()))
}

fn killed_at_every_step(victim: Side) -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.start()?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    for (number, (side, shown)) in STEPS.iter().enumerate() {
        let id = format!("step{number}-{}", if victim == Side::Board { "b" } else { "w" });
        let board = board(&lan, &id)?.start()?;
        trust::seed(&ws, &board)?;
        board.enable_service(Service::ROOST)?;
        let at = if *side == Side::Board { &board } else { &ws };
        let shown = shown.replace("BOARD", &id);
        lan.wait_until(SOON, &shown, || at.sh(&shown).is_ok_and(|output| output.success()))?;
        let killed = if victim == Side::Board { &board } else { &ws };
        killed.kill9(Service::ROOST)?;
        assert!(is_whole(&ws, &board)?, "{shown}: neither enrolled nor waiting");
        killed.start_service(Service::ROOST)?;
        fleet::wait_reach(&lan, &ws, &board, "up")?;
        lan.wait_until(SOON, "both have dropped what let it in", || {
            let forgotten = board.sh("grep -q ^token /var/lib/roost/trust/seed.toml");
            let spent = ws.sh("grep -qE 'bound|unused' /var/lib/roost/fleet/*.json");
            [forgotten, spent].iter().all(|it| it.as_ref().is_ok_and(|it| !it.success()))
        })?;
        board.power_off()?;
    }
    Ok(())
}

#[test]
fn a_board_whose_daemon_is_killed_at_any_step_is_enrolled_after_all() -> Result<()> {
    killed_at_every_step(Side::Board)
}

#[test]
fn a_board_is_enrolled_after_all_if_the_workstations_daemon_is_killed_at_any_step() -> Result<()> {
    killed_at_every_step(Side::Workstation)
}
