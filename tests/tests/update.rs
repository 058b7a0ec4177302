//! A board is given another system by its workstation, and goes back if it does not work with it. The
//! tests do what systemd and a boot loader do.

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, Result, Running, Service,
    fixtures::{
        fleet::{self, SYSTEM},
        roost, trust,
    },
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// What a system's own program does here: it notes what is started next.
const SWITCH: &str = r#"#!/bin/sh
[ "$1" = boot ] || exit 2
[ ! -e "/srv/no-room-for-$(basename "$(dirname "$(dirname "$0")")" | cut -d- -f2)" ] || {
  echo 'cannot write /boot: No space left on device' >&2
  exit 1
}
dirname "$(dirname "$0")" >/srv/boot-entry
"#;

fn board(lan: &Lan, name: &str) -> Result<HostSpec> {
    let spec = roost::board(lan.host(name).system(SYSTEM), 1, "")?;
    Ok(spec.file(
        "/usr/local/sbin/systemctl",
        0o755,
        "#!/bin/sh\n[ \"$*\" != reboot ] || touch /run/restart\n",
    ))
}

/// Adds a system to a host's store.
fn system(host: &Host, name: &str) -> Result<String> {
    host.write(&format!("/srv/{name}/bin/switch-to-configuration"), 0o755, SWITCH)?;
    host.write(&format!("/srv/{name}/system"), 0o644, SYSTEM)?;
    host.add_to_store(&format!("/srv/{name}"))
}

/// Has a board run a system as if it had been installed with it; gives the system.
fn installed(board: &Host) -> Result<String> {
    let old = system(board, "old")?;
    board.check(&format!("nix-env -p /nix/var/nix/profiles/system --set {old}"))?;
    started(board)?;
    Ok(old)
}

/// What a boot leaves: a link to the system, and an id of its own.
fn started(board: &Host) -> Result<()> {
    board
        .check(
            "ln -sfn \"$(readlink -f /nix/var/nix/profiles/system)\" /run/booted-system
             cat /proc/sys/kernel/random/uuid >/run/boot-id
             mount --bind /run/boot-id /proc/sys/kernel/random/boot_id",
        )
        .map(drop)
}

/// A workstation and boards, enrolled and up.
fn joined<const N: usize>(lan: &Lan, names: [&str; N]) -> Result<(Host, Vec<Host>)> {
    let ws = fleet::workstation(lan, "ws", "")?.start()?;
    let mut boards = Vec::new();
    for name in names {
        boards.push(board(lan, name)?.start()?);
    }
    let members: Vec<&Host> = boards.iter().collect();
    roost::join(&ws, &members)?;
    boards.iter().try_for_each(|board| fleet::wait_reach(lan, &ws, board, "up"))?;
    Ok((ws, boards))
}

fn there(host: &Host, path: &str) -> bool {
    host.sh(&format!("test -e {path}")).is_ok_and(|output| output.success())
}

/// Waits until a service of systemd's asks for a restart, and ends it as a shutdown does.
fn until_restart(lan: &Lan, board: &Host, mut service: Running) -> Result<()> {
    lan.wait_until(SOON, "the board is told to restart", || {
        there(board, "/run/restart") || service.ended().is_some()
    })?;
    let said = service.kill();
    assert!(there(board, "/run/restart"), "{said}");
    board.check("rm /run/restart").map(drop)
}

/// What roost-update.path and roost-update.service do, up to the restart.
fn apply(lan: &Lan, board: &Host) -> Result<()> {
    lan.wait_until(SOON, "the order is there", || there(board, "/var/lib/roost/update/order"))?;
    until_restart(lan, board, board.spawn("roost apply-update")?)
}

/// The machine is restarted.
fn restart(board: &Host) -> Result<()> {
    board.power_off()?;
    board.power_on()?;
    started(board)
}

/// What roost-update-trial.service does, in a machine that was started so long ago.
fn settle(board: &Host, uptime_s: u64) -> Result<Running> {
    board.spawn(&format!(
        "[ -e /var/lib/roost/update/trial ] || exit 0
         read -r now _ </proc/uptime
         exec unshare --time --boottime -$((${{now%.*}} - {uptime_s})) --fork --kill-child \
           roost settle-update"
    ))
}

fn profile(board: &Host) -> Result<String> {
    board.check("readlink -f /nix/var/nix/profiles/system")
}

/// `roost update --json` without a system: the phase and the reason.
fn last(ws: &Host, board: &Host) -> Result<String> {
    ws.check(&format!("roost update {} --json", board.name()))
}

#[test]
fn a_board_keeps_a_system_with_which_it_works_and_an_order_is_good_once_and_for_one_board()
-> Result<()> {
    let lan = Lan::new()?;
    let (ws, boards) = joined(&lan, ["one", "two"])?;
    let [one, two] = &boards[..] else { unreachable!() };
    installed(one)?;
    assert_eq!(ws.check("roost update one")?, "one was never updated by `roost update`");
    let new = system(&ws, "new")?;
    ws.check(&format!("ln -s {new} /root/result"))?;
    // What is said to the boards, for whoever comes by.
    ws.write(
        "/usr/local/sbin/ssh",
        0o755,
        "#!/bin/sh\ncase $* in *trust*) tee -a /srv/said | /usr/bin/ssh \"$@\" ;; *) exec /usr/bin/ssh \"$@\" ;; esac\n",
    )?;
    let mut update = ws.spawn("roost update one /root/result")?;
    apply(&lan, one)?;
    assert_eq!((profile(one)?, one.read("/srv/boot-entry")?.trim()), (new.clone(), new.as_str()));
    restart(one)?;
    settle(one, 20)?.wait(SOON)?.ok()?;
    let said = update.wait(SOON)?.ok()?;
    assert_eq!(said.stdout, format!("one: runs {new}, and keeps it\n"));
    assert!(said.stderr.contains("one: copying") && said.stderr.contains("one: "), "{said}");
    assert!(last(&ws, one)?.contains("\"phase\": \"kept\""));
    assert!(!there(one, "/nix/var/nix/gcroots/roost-update"));
    assert!(one.sh("ls /var/lib/roost/update | grep -v state.json")?.stdout.is_empty());

    // Whoever carries an order: it was followed before, and is for nobody else.
    for (board, why) in [(one, "it was given before"), (two, "an order to update is for the board")]
    {
        let id = board.check("roost status --json | grep -m1 '\"id\"' | cut -d'\"' -f4")?;
        let answer = ws.check(&format!(
            "grep '^{{\"update\"' /srv/said |
               /usr/bin/ssh -F /var/lib/roost/ssh/{id}.config {id}-0 roost peer trust"
        ))?;
        assert!(answer.contains("refused") && answer.contains(why), "{answer}");
        assert!(!there(board, "/var/lib/roost/update/order"));
    }
    Ok(())
}

#[test]
fn a_board_whose_daemon_does_not_start_goes_back_and_the_workstation_says_why() -> Result<()> {
    let lan = Lan::new()?;
    let (ws, boards) = joined(&lan, ["board"])?;
    let board = &boards[0];
    let old = installed(board)?;
    let new = system(&ws, "new")?;
    let mut update = ws.spawn(&format!("roost update board {new}"))?;
    apply(&lan, board)?;
    restart(board)?;
    board.stop_service(Service::ROOST)?;
    // Three seconds are left of its five minutes.
    until_restart(&lan, board, settle(board, 297)?)?;
    assert_eq!(
        (profile(board)?, board.read("/srv/boot-entry")?.trim()),
        (old.clone(), old.as_str())
    );
    restart(board)?;
    settle(board, 20)?.wait(SOON)?.ok()?;
    let said = update.wait(SOON)?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stdout.contains("went back") && said.stdout.contains("not running"), "{said}");
    fleet::wait_reach(&lan, &ws, board, "up")?;
    let status = ws.check("roost status")?;
    assert!(status.contains("its last update was rolled back"), "{status}");
    Ok(())
}

#[test]
fn a_board_that_nobody_connects_to_goes_back() -> Result<()> {
    let lan = Lan::new()?;
    let (ws, boards) = joined(&lan, ["board"])?;
    let board = &boards[0];
    let old = installed(board)?;
    let new = system(&ws, "new")?;
    let said = ws.check(&format!("roost update board {new} --no-wait"))?;
    assert!(said.contains("accepted"), "{said}");
    let again = ws.sh(&format!("roost update board {new}"))?;
    assert!(!again.success() && again.stderr.contains("is being updated"), "{again}");
    apply(&lan, board)?;
    ws.stop_service(Service::ROOST)?;
    restart(board)?;
    until_restart(&lan, board, settle(board, 297)?)?;
    restart(board)?;
    settle(board, 20)?.wait(SOON)?.ok()?;
    assert_eq!(profile(board)?, old);
    ws.start_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, board, "up")?;
    let how = last(&ws, board)?;
    assert!(how.contains("rolled-back") && how.contains("no node of the fleet"), "{how}");
    Ok(())
}

#[test]
fn a_system_that_cannot_be_installed_and_one_of_somebody_else_change_nothing() -> Result<()> {
    let lan = Lan::new()?;
    let (ws, boards) = joined(&lan, ["board"])?;
    let board = &boards[0];
    let old = installed(board)?;
    let new = system(&ws, "new")?;
    board.write("/srv/no-room-for-new", 0o644, "")?;
    let mut update = ws.spawn(&format!("roost update board {new}"))?;
    lan.wait_until(SOON, "the order is there", || there(board, "/var/lib/roost/update/order"))?;
    board.check("roost apply-update")?;
    let said = update.wait(SOON)?;
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stdout.contains("No space left on device"), "{said}");
    assert_eq!(
        (profile(board)?, board.read("/srv/boot-entry")?.trim()),
        (old.clone(), old.as_str())
    );
    assert!(!there(board, "/run/restart"));

    // What is no system, or not for this board, is not even copied.
    ws.write("/srv/none/x", 0o644, "")?;
    let none = ws.add_to_store("/srv/none")?;
    let said = ws.sh(&format!("roost update board {none}"))?;
    assert!(!said.success() && said.stderr.contains("is no NixOS system"), "{said}");
    ws.write("/srv/other/bin/switch-to-configuration", 0o755, SWITCH)?;
    ws.write("/srv/other/system", 0o644, "riscv64-linux")?;
    let other = ws.add_to_store("/srv/other")?;
    let said = ws.sh(&format!("roost update board {other}"))?;
    assert!(said.stderr.contains("is for riscv64-linux"), "{said}");
    assert!(!there(board, &none) && !there(board, &other));

    // A workstation that was invited builds on the board, and does not choose its system.
    let guest = fleet::workstation(&lan, "guest", "")?.start()?;
    trust::invite(&ws, &guest)?;
    guest.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &guest, board, "up")?;
    let new = system(&guest, "new")?;
    let said = guest.sh(&format!("roost update board {new}"))?;
    assert!(!said.success() && said.stderr.contains("holds the fleet's key"), "{said}");
    // Nor with a key of its own.
    guest.check("ssh-keygen -q -t ed25519 -N '' -f /root/key")?;
    let id = board.check("roost status --json | grep -m1 '\"id\"' | cut -d'\"' -f4")?;
    let order = format!(
        r#"{{"version":1,"board":"{id}","system":"{new}","number":9999999999999,"now":true}}"#
    );
    guest.write("/root/order", 0o600, order.clone())?;
    guest.check("ssh-keygen -q -Y sign -f /root/key -n roost-update@roost /root/order")?;
    let signature = guest.read("/root/order.sig")?;
    let request = serde_json::json!({"update": {"order": order, "signatures": [signature]}});
    guest.write("/root/request", 0o600, format!("{request}\n"))?;
    let answer = guest.check(&format!(
        "ssh -F /var/lib/roost/ssh/{id}.config {id}-0 roost peer trust </root/request"
    ))?;
    assert!(answer.contains("not signed by the fleet's key"), "{answer}");
    assert!(!there(board, "/var/lib/roost/update/order"));
    Ok(())
}
