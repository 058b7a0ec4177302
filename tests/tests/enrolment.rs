//! Boards join a fleet by themselves, from their seeds alone, and stay in it.

#![expect(clippy::expect_used, reason = "helpers of tests, outside of test functions")]

use std::time::Duration;

use roost_lab::{
    Host, HostSpec, Lan, Result, Service,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, steered,
        trust::{self, SEED_FOLDER},
    },
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

fn hello(salt: &str) -> String {
    Drv::new("hello", SYSTEM, "echo hello >$out").salt(salt).expr()
}

/// A board that anything may build on.
fn board(lan: &Lan, name: &str) -> Result<HostSpec> {
    roost::board(lan.host(name).system(SYSTEM), 1, "")
}

/// Makes a fleet of a workstation and boards, and waits until all are up.
fn join(lan: &Lan, ws: &Host, boards: &[&Host]) -> Result<()> {
    roost::join(ws, boards)?;
    boards.iter().try_for_each(|board| fleet::wait_reach(lan, ws, board, "up"))
}

fn json(host: &Host, command: &str) -> Result<Value> {
    Ok(serde_json::from_str(&host.check(command)?).expect("it prints JSON"))
}

/// How a node stands to its fleet, in its own words.
fn enrolment(host: &Host) -> Result<String> {
    let status = json(host, "roost status --json")?;
    Ok(status["node"]["enrolment"].as_str().unwrap_or_default().to_owned())
}

/// The names of a fleet's boards, by the roster that this node has.
fn boards(host: &Host) -> Result<Vec<String>> {
    let members = json(host, "roost fleet list --json")?;
    let members = members.as_array().expect("a list of members").clone();
    let boards = members.iter().filter(|member| member["role"] == "board");
    Ok(boards.map(|member| member["name"].as_str().unwrap_or_default().to_owned()).collect())
}

fn is_forgotten(board: &Host) -> Result<bool> {
    // The token is 43 characters of base64url, in the seed and nowhere else.
    Ok(board.sh("grep -rqs '^token' /var/lib/roost /run/seed")?.code() == Some(1))
}

#[test]
fn ten_boards_that_are_switched_on_at_once_are_all_enrolled_once_each() -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.start()?;
    let names: Vec<_> = (0..10).map(|n| format!("board{n}")).collect();
    let boards_ =
        names.iter().map(|name| board(&lan, name)?.start()).collect::<Result<Vec<Host>>>()?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    boards_.iter().try_for_each(|board| trust::seed(&ws, board))?;
    boards_.iter().try_for_each(|board| board.enable_service(Service::ROOST))?;
    for board in &boards_ {
        fleet::wait_reach(&lan, &ws, board, "up")?;
    }
    let mut listed = boards(&ws)?;
    listed.sort();
    assert_eq!(listed, names);
    for board in &boards_ {
        lan.wait_until(SOON, "it is enrolled and has dropped its token", || {
            enrolment(board).is_ok_and(|word| word == "enrolled")
                && is_forgotten(board).is_ok_and(|forgotten| forgotten)
        })?;
    }
    // Avahi asks for it and ssh connects: nothing of roost listens to the network.
    assert_eq!(ws.check("ss -Hlntup | grep roost || true")?, "");
    let tokens = json(&ws, "roost fleet list --tokens --json")?;
    let spent = tokens.as_array().expect("a list of tokens").clone();
    assert!(spent.iter().all(|token| token["state"] == "spent"), "{spent:#?}");
    builds::on_fleet(&ws, &hello("ten")).map(drop)
}

#[test]
fn a_board_keeps_its_place_under_another_name_at_another_address_and_without_its_workstation()
-> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?])?;
    join(&lan, &ws, &[&board])?;
    builds::on_fleet(&ws, &hello("before"))?;
    board.check(
        "sed -i '/\\[board\\]/i [node]\\nname = \"renamed\"\\n' /etc/roost/roost.toml
         ip address add 10.42.0.200/24 dev eth0 && ip address del 10.42.0.11/24 dev eth0",
    )?;
    board.restart_service(Service::ROOST)?;
    lan.wait_until(SOON, "it is used under its new name", || {
        json(&ws, "roost status --json").is_ok_and(|status| {
            let board = &status["boards"][0];
            board["node"]["name"] == "renamed" && board["reach"] == "up"
        })
    })?;
    builds::on_fleet(&ws, &hello("after"))?;
    // It goes on alone, and is the same board to a workstation that comes back.
    ws.stop_service(Service::ROOST)?;
    board.restart_service(Service::ROOST)?;
    assert_eq!(enrolment(&board)?, "enrolled");
    ws.start_service(Service::ROOST)?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    builds::on_fleet(&ws, &hello("again"))?;
    assert_eq!(boards(&ws)?.len(), 1);
    Ok(())
}

#[test]
fn of_three_boards_from_one_card_one_is_enrolled_and_two_are_told_why_not() -> Result<()> {
    let lan = Lan::new()?;
    let hosts = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "one")?,
        board(&lan, "two")?,
        board(&lan, "three")?,
    ])?;
    let (ws, boards) = hosts.split_first().expect("there are four");
    trust::found(ws)?;
    let card = ws.check("roost fleet token 2>/dev/null")?;
    ws.enable_service(Service::ROOST)?;
    for board in boards {
        trust::plant(board, &card)?;
        board.enable_service(Service::ROOST)?;
    }
    let shown = lan.wait_for(SOON, "one is up and two are pending, with the reason", || {
        let status = json(ws, "roost status --json").ok()?;
        let boards = status["boards"].as_array()?.clone();
        let up = boards.iter().filter(|board| board["reach"] == "up").count();
        let refused = boards.iter().filter(|board| {
            let why = board["reason"].as_str().unwrap_or_default();
            board["reach"] == "pending" && why.contains("its token belongs to board")
        });
        (up == 1 && refused.count() == 2).then(|| ws.check("roost status"))
    })??;
    assert!(shown.contains("was one card copied?"), "{shown}");
    // A seed of its own lets the second one in.
    let late = boards.iter().find(|board| enrolment(board).is_ok_and(|word| word == "waiting"));
    let late = late.expect("two are waiting");
    trust::seed(ws, late)?;
    fleet::wait_reach(&lan, ws, late, "up")
}

#[test]
fn a_board_without_a_seed_lets_nobody_in_and_its_console_says_what_to_do() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?])?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    board.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "pending")?;
    let console = board.read("/run/roost/console")?;
    assert!(console.contains("no seed") && console.contains("roost seed"), "{console}");
    let key = board.check("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")?;
    let print = key.split(' ').nth(1).unwrap_or_default();
    assert!(console.contains(print), "{console} has not {print}");
    assert_eq!(enrolment(&board)?, "none");
    assert!(!board.service_log(Service::SSHD).contains("Accepted"));
    // A seed that comes later, on its console, needs no restart.
    trust::seed(&ws, &board)?;
    fleet::wait_reach(&lan, &ws, &board, "up")
}

#[test]
fn a_broken_seed_is_reported_and_left_for_its_owner() -> Result<()> {
    let lan = Lan::new()?;
    let board = board(&lan, "board")?.start()?;
    trust::plant(&board, "version = 1\nauthority = \"ssh-ed25519 garbage\"\ntoken = \"secret\"")?;
    board.enable_service(Service::ROOST)?;
    let console = board.read("/run/roost/console")?;
    assert!(console.contains("the seed is not usable"), "{console}");
    let note = board.check(
        "busctl --system get-property org.roost.Node1 /org/roost/Node1 org.roost.Node1 EnrolmentNote \
         2>/dev/null || dbus-send --system --print-reply --dest=org.roost.Node1 /org/roost/Node1 \
         org.freedesktop.DBus.Properties.Get string:org.roost.Node1 string:EnrolmentNote",
    )?;
    assert!(note.contains("the seed is not usable") && !note.contains("secret"), "{note}");
    assert!(board.read(&format!("{SEED_FOLDER}/roost-seed.toml"))?.contains("garbage"));
    Ok(())
}

#[test]
fn a_board_without_a_token_is_let_in_by_hand() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?])?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    let card = ws.check("roost fleet token 2>/dev/null | grep -v '^token'")?;
    trust::plant(&board, &card)?;
    board.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "pending")?;
    let wrong = ws.run(["roost", "fleet", "approve", "board", "--fingerprint", "SHA256:AAAA"])?;
    assert!(!wrong.success(), "{wrong}");
    let key = board.check("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")?;
    let print = key.split(' ').nth(1).unwrap_or_default();
    ws.run(["roost", "fleet", "approve", "board", "--fingerprint", print])?.ok()?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    builds::on_fleet(&ws, &hello("approved")).map(drop)
}

#[test]
fn the_key_in_a_safe_place_brings_a_lost_workstations_fleet_back() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, one, two, fresh] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "one")?,
        board(&lan, "two")?,
        fleet::workstation(&lan, "fresh", "")?,
    ])?;
    let told = ws.check("roost fleet init")?;
    let backup = told.split_whitespace().find(|word| word.starts_with("/var/lib/roost/fleet/"));
    let backup = backup.expect("it names what to keep").trim_end_matches(['.', ',', ':', ';']);
    let key = ws.read(backup)?;
    trust::note_holder(&ws)?;
    join(&lan, &ws, &[&one, &two])?;
    ws.power_off()?;
    fresh.write(backup, 0o600, key)?;
    fresh.enable_service(Service::ROOST)?;
    for board in [&one, &two] {
        fleet::wait_reach(&lan, &fresh, board, "up")?;
    }
    builds::on_fleet(&fresh, &hello("restored"))?;
    let mut listed = boards(&fresh)?;
    listed.sort();
    assert_eq!(listed, ["one", "two"]);
    Ok(())
}

#[test]
fn without_the_key_boards_are_seeded_again_by_another_fleet() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, fresh] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "board")?,
        fleet::workstation(&lan, "fresh", "")?,
    ])?;
    join(&lan, &ws, &[&board])?;
    ws.power_off()?;
    trust::found(&fresh)?;
    fresh.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &fresh, &board, "pending")?;
    trust::seed(&fresh, &board)?;
    fleet::wait_reach(&lan, &fresh, &board, "up")?;
    builds::on_fleet(&fresh, &hello("seeded again")).map(drop)
}

#[test]
fn a_revoked_board_gets_no_job_from_any_workstation_and_is_not_taken_back() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, guest, bad, good] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::workstation(&lan, "guest", "")?,
        board(&lan, "bad")?,
        board(&lan, "good")?,
    ])?;
    join(&lan, &ws, &[&bad, &good])?;
    trust::invite(&ws, &guest)?;
    guest.enable_service(Service::ROOST)?;
    for board in [&bad, &good] {
        fleet::wait_reach(&lan, &guest, board, "up")?;
    }
    ws.check("roost fleet revoke bad --yes")?;
    // Ten seconds are what is promised.
    let promised = Duration::from_secs(10);
    for node in [&ws, &guest] {
        lan.wait_until(promised, "the board is used no more", || {
            json(node, "roost status --json").is_ok_and(|status| {
                let boards = status["boards"].as_array().cloned().unwrap_or_default();
                let bad = boards.iter().find(|board| board["node"]["name"] == "bad");
                bad.is_none_or(|bad| bad["reach"] == "pending")
            })
        })?;
    }
    for (node, salt) in [(&ws, "ws"), (&guest, "guest")] {
        for n in 0..3 {
            builds::on_fleet(node, &hello(&format!("{salt} {n}")))?;
        }
    }
    assert!(fleet::jobs(&bad)?.is_empty());
    // Nor with a new token: its keys are what nobody believes.
    trust::seed(&ws, &bad)?;
    bad.restart_service(Service::ROOST)?;
    lan.wait_until(SOON, "it is told why", || {
        ws.check("roost status").is_ok_and(|text| text.contains("it was revoked"))
    })?;
    builds::on_fleet(&ws, &hello("last"))?;
    assert!(fleet::jobs(&bad)?.is_empty());
    Ok(())
}

#[test]
fn what_a_revoked_board_was_building_is_built_by_another_one() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, bad, good] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::board(&lan, "bad", 1, "")?,
        fleet::board(&lan, "good", 1, "")?,
    ])?;
    fleet::join(&lan, &ws, &[&bad])?;
    let mut build = fleet::build(&ws, "a")?;
    steered::wait_started(&lan, &bad, "a", 1)?;
    steered::prepare(&good)?;
    trust::seed(&ws, &good)?;
    good.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &good, "up")?;
    ws.check("roost fleet revoke bad --yes")?;
    steered::wait_started(&lan, &good, "a", 1)?;
    // What comes of it there is not waited for.
    steered::release_all(&bad)?;
    steered::release_all(&good)?;
    assert_eq!(fleet::result(&ws, &mut build, SOON)?, "a\n");
    let why = fleet::why(&ws, "a")?;
    assert!(why.contains("good"), "{why}");
    let job = fleet::jobs(&ws)?.into_iter().find(|job| job.name == "a");
    assert_eq!(job.and_then(|job| job.node).as_deref(), Some("good"));
    Ok(())
}

#[test]
fn a_revoked_workstation_is_let_go_at_once_and_let_in_no_more() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, guest, board] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::workstation(&lan, "guest", "")?,
        board(&lan, "board")?,
    ])?;
    join(&lan, &ws, &[&board])?;
    trust::invite(&ws, &guest)?;
    guest.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &guest, &board, "up")?;
    builds::on_fleet(&guest, &hello("guest"))?;
    ws.check("roost fleet revoke guest --yes")?;
    fleet::wait_reach(&lan, &guest, &board, "away")?;
    let build = Nix::DashBuild.command(&guest, &hello("refused"), FLEET)?;
    let mut build = build.spawn()?;
    fleet::wait_job(&lan, &guest, "hello", "waiting", |job| job.state == "queued")?;
    builds::on_fleet(&ws, &hello("still"))?;
    build.signal(roost_lab::Signal::INT);
    build.wait(SOON).map(drop)
}

#[test]
fn a_new_key_of_the_fleet_replaces_the_old_one_while_builds_go_on() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, guest, board, late] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::workstation(&lan, "guest", "")?,
        board(&lan, "board")?,
        board(&lan, "late")?,
    ])?;
    join(&lan, &ws, &[&board, &late])?;
    trust::invite(&ws, &guest)?;
    guest.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &guest, &board, "up")?;
    late.power_off()?;
    ws.check("roost fleet rotate")?;
    builds::on_fleet(&ws, &hello("rotating"))?;
    builds::on_fleet(&guest, &hello("rotating, too"))?;
    let early = ws.run(["roost", "fleet", "rotate", "--finish"])?;
    assert!(!early.success() && early.stderr.contains("late"), "{early}");
    late.power_on()?;
    fleet::wait_reach(&lan, &ws, &late, "up")?;
    lan.wait_until(SOON, "all nodes show the new key's certificates", || {
        ws.sh("roost fleet rotate --finish").is_ok_and(|output| output.success())
    })?;
    for node in [&ws, &guest] {
        node.restart_service(Service::ROOST)?;
        for board in [&board, &late] {
            fleet::wait_reach(&lan, node, board, "up")?;
        }
    }
    builds::on_fleet(&guest, &hello("new")).map(drop)
}

/// A board without a clock: its daemon believes that it is 1970, and cannot set the machine's time.
const WITHOUT_CLOCK: Service = Service {
    argv: &[
        "/bin/sh",
        "-euc",
        "mkdir -p /run/roost/connect /var/lib/roost; systemd-tmpfiles --create roost.conf; \
         exec setpriv --bounding-set=-sys_time faketime '1970-01-01 00:10:00' /usr/bin/roost daemon",
    ],
    ..Service::ROOST
};

#[test]
fn a_board_that_boots_in_1970_is_enrolled_and_takes_the_time_from_its_fleet() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?])?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    trust::seed(&ws, &board)?;
    board.enable_service(WITHOUT_CLOCK)?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    builds::on_fleet(&ws, &hello("1970"))?;
    let log = board.service_log(Service::ROOST);
    assert!(log.contains("1970-01-01T00:10"), "its clock is right: {log}");
    // It would be set, were the clock not the machine's own.
    assert!(log.contains("the clock is wrong and cannot be set"), "{log}");
    Ok(())
}

/// An empty FAT volume with the seed's label, as a card has it.
fn card() -> std::io::Result<Vec<u8>> {
    let mut image = std::io::Cursor::new(vec![0; 4 << 20]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"ROOST_SEED ");
    fatfs::format_volume(&mut image, options)?;
    Ok(image.into_inner())
}

#[test]
fn a_seed_goes_from_an_image_into_the_board_and_is_erased_there() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?])?;
    trust::found(&ws)?;
    ws.enable_service(Service::ROOST)?;
    ws.write("/root/card.img", 0o644, card().expect("a volume is made in memory"))?;
    let told = ws.check("roost seed /root/card.img")?;
    assert!(told.contains("roost status"), "it says what comes next: {told}");
    let twice = ws.run(["roost", "seed", "/root/card.img"])?;
    assert!(!twice.success() && twice.stderr.contains("--replace"), "{twice}");
    // Flashed.
    let image = ws.check("base64 -w0 /root/card.img")?;
    board.command(["sh", "-c", "base64 -d >/root/card.img"]).stdin(image).run()?.ok()?;
    assert_eq!(board.check("grep -ac '^token = ' /root/card.img")?, "1");
    board.check("roost first-boot --from /root/card.img")?;
    let left = board.sh("grep -aE 'token|authority' /root/card.img")?;
    assert_eq!(left.code(), Some(1), "{left}");
    // Again, as at every boot.
    board.check("roost first-boot --from /root/card.img")?;
    board.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &board, "up")
}
