//! Hosts on the network that talk like a board of the fleet, or like its workstation, and get nowhere:
//! no job, no input, no certificate; and nobody else is kept waiting by them.

use std::{fmt::Write as _, time::Duration};

use roost_lab::{
    Host, HostSpec, Lan, Result, Service,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        nix::Drv,
        rogue::{announce, host_key, txt, value, with},
        roost, ssh, trust,
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

/// Makes a fleet of a workstation and a board, and waits until it is up.
fn join(lan: &Lan, ws: &Host, board: &Host) -> Result<()> {
    roost::join(ws, &[board])?;
    fleet::wait_reach(lan, ws, board, "up")
}

/// The boards that a node sees: name, how it stands to them, why.
fn seen(ws: &Host) -> Result<Vec<(String, String, String)>> {
    let status: Value = serde_json::from_str(&ws.check("roost status --json")?).unwrap_or_default();
    let boards = status["boards"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |board: &Value| {
        (text(&board["node"]["name"]), text(&board["reach"]), text(&board["reason"]))
    };
    Ok(boards.iter().map(row).collect())
}

/// Waits until a board is pending for a reason.
fn wait_pending(lan: &Lan, ws: &Host, board: &str, why: &str) -> Result<()> {
    let what = format!("{board} is pending: {why}");
    let mut last = Vec::new();
    let fits = lan.wait_until(SOON, &what, || {
        last = seen(ws).unwrap_or_default();
        last.iter().any(|(name, reach, reason)| {
            name == board && reach == "pending" && reason.contains(why)
        })
    });
    fits.inspect_err(|_| eprintln!("seen: {last:#?}"))
}

/// Nobody has logged in there, or been given a command to run.
fn got_nothing(rogue: &Host) {
    let log = rogue.service_log(Service::SSHD);
    assert!(!log.contains("Accepted"), "{log}");
}

#[test]
fn who_copies_what_a_board_announces_gets_nothing_and_the_board_is_used() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, rogue] =
        lan.start([fleet::workstation(&lan, "ws", "")?, board(&lan, "board")?, lan.host("rogue")])?;
    trust::unite(&ws, &board)?;
    // Before the workstation is there: with its proof, which is good until it has been used.
    board.enable_service(Service::ROOST)?;
    let record = txt(&lan, &rogue, &board)?;
    assert!(!value(&record, "proof").is_empty(), "{record:?}");
    let copies = [
        announce(&rogue, &[], "board", &record)?,
        announce(&rogue, &["-H", "board.local"], "twin", &record)?,
        announce(&rogue, &[], "third", &record)?,
    ];
    lan.wait_until(SOON, "the copies are announced", || {
        let browse = ws.check("avahi-browse -ptk _nix-builder._tcp").unwrap_or_default();
        ["twin", "third"].iter().all(|name| browse.contains(name))
    })?;
    ws.enable_service(Service::ROOST)?;
    builds::wait_for_lines(&lan, &ws, &[SYSTEM])?;
    for salt in ["one", "two", "three"] {
        builds::on_fleet(&ws, &hello(salt))?;
    }
    assert_eq!(fleet::jobs(&board)?.len(), 3);
    // Its proof is worth nothing with a key of the rogue's own.
    let own = with(&record, "hk", &host_key(&rogue)?);
    let replayed = announce(&rogue, &[], "replayed", &own)?;
    wait_pending(&lan, &ws, "replayed", "its token belongs to board")?;
    board.stop_service(Service::ROOST)?;
    let build = builds::Nix::DashBuild.command(&ws, &hello("four"), builds::FLEET)?;
    let mut build = build.spawn()?;
    fleet::wait_job(&lan, &ws, "hello", "waiting for the real one", |job| job.state == "queued")?;
    got_nothing(&rogue);
    board.start_service(Service::ROOST)?;
    build.wait(builds::BUILD_TIMEOUT)?.ok()?;
    drop((copies, replayed));
    Ok(())
}

#[test]
fn who_claims_to_belong_to_the_fleet_has_to_show_its_certificate() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, rogue, other] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "board")?,
        lan.host("rogue"),
        board(&lan, "other")?,
    ])?;
    join(&lan, &ws, &board)?;
    let record = lan.wait_for(SOON, "the proof has gone with the token", || {
        txt(&lan, &rogue, &board).ok().filter(|record| value(record, "proof").is_empty())
    })?;
    // A host without a certificate; one with a certificate of its own fleet; a member's id.
    let claims = with(&with(&record, "id", "rogue-id"), "hk", &host_key(&rogue)?);
    let claimed = announce(&rogue, &[], "claims", &claims)?;
    wait_pending(&lan, &ws, "claims", "does not prove it")?;
    trust::found(&other)?;
    let theirs = with(&with(&record, "id", "other-id"), "hk", &host_key(&other)?);
    let foreign = announce(&other, &[], "foreign", &theirs)?;
    wait_pending(&lan, &ws, "foreign", "does not prove it")?;
    let stolen = announce(&rogue, &[], "stolen", &with(&record, "hk", &host_key(&rogue)?))?;
    wait_pending(&lan, &ws, "stolen", "its id belongs to board")?;
    builds::on_fleet(&ws, &hello("one"))?;
    fleet::wait_reach(&lan, &ws, &board, "up")?;
    got_nothing(&rogue);
    got_nothing(&other);
    drop((claimed, foreign, stolen));
    Ok(())
}

#[test]
fn a_token_that_is_spent_expired_unknown_or_for_another_board_lets_nobody_in() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, first, second, third, fourth, fifth] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "first")?,
        board(&lan, "second")?,
        board(&lan, "third")?,
        board(&lan, "fourth")?,
        board(&lan, "fifth")?,
    ])?;
    trust::found(&ws)?;
    let card = ws.check("roost fleet token 2>/dev/null")?;
    ws.enable_service(Service::ROOST)?;
    trust::plant(&first, &card)?;
    first.enable_service(Service::ROOST)?;
    fleet::wait_reach(&lan, &ws, &first, "up")?;
    trust::plant(&second, &card)?;
    second.enable_service(Service::ROOST)?;
    wait_pending(&lan, &ws, "second", "its token belongs to board")?;
    let withdrawn = ws.check("roost fleet token 2>/dev/null")?;
    let tokens: Value =
        serde_json::from_str(&ws.check("roost fleet list --tokens --json")?).unwrap_or_default();
    let unused = tokens.as_array().into_iter().flatten().find(|token| token["state"] == "unused");
    let id = unused.and_then(|token| token["id"].as_str()).unwrap_or_default();
    ws.check(&format!("roost fleet token --withdraw {id}"))?;
    trust::plant(&third, &withdrawn)?;
    third.enable_service(Service::ROOST)?;
    wait_pending(&lan, &ws, "third", "no token that this workstation knows")?;
    let other =
        ws.check("roost fleet token --for-board starfive,visionfive-2-v1.3b 2>/dev/null")?;
    trust::plant(&fourth, &other)?;
    fourth.enable_service(Service::ROOST)?;
    wait_pending(&lan, &ws, "fourth", "its token is for starfive")?;
    let stale = ws.check("faketime '3 days ago' roost fleet token 2>/dev/null")?;
    trust::plant(&fifth, &stale)?;
    fifth.enable_service(Service::ROOST)?;
    wait_pending(&lan, &ws, "fifth", "no token that this workstation knows")?;
    for board in [&second, &third, &fourth, &fifth] {
        got_nothing(board);
    }
    Ok(())
}

/// Services that avahi-daemon announces from files, many at once.
fn flood(rogue: &Host, tag: &str, services: u32) -> Result<()> {
    let mut script = String::from("set -e; cd /etc/avahi/services\n");
    for n in 0..services {
        let key = format!("{n:08}{}", "A".repeat(35));
        // More than is read of a record, now and then.
        let large = format!("<txt-record>x={}</txt-record>", "x".repeat(240));
        let odd = match n % 4 {
            // Bytes that are no UTF-8, and control characters that a terminal would obey.
            0 => "<txt-record value-format=\"binary-hex\">board=fffe1b5b324a0a0d</txt-record>",
            1 => "<txt-record value-format=\"binary-hex\">id=1b5d303b687fff</txt-record>",
            2 => {
                "<txt-record>feat=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</txt-record>"
            }
            3 if n % 20 == 3 => &large.repeat(6),
            _ => "",
        };
        let _ = writeln!(
            script,
            "cat >r{n}.service <<'END'\n<?xml version=\"1.0\"?>\n<!DOCTYPE service-group SYSTEM \
             \"avahi-service.dtd\">\n<service-group><name>rogue{n}</name><service>\
             <type>_nix-builder._tcp</type><port>22</port><txt-record>txtvers=1</txt-record>{odd}\
             <txt-record>id=rogue{n}</txt-record><txt-record>sys={SYSTEM}</txt-record>\
             <txt-record>hk={key}</txt-record><txt-record>fleet={tag}</txt-record>\
             </service></service-group>\nEND"
        );
    }
    rogue.command(["sh", "-s"]).stdin(script).run()?.ok()?;
    // It may be busy with the first of them already, and would take its time to end.
    rogue.kill9(Service::AVAHI)?;
    rogue.start_service(Service::AVAHI)
}

#[test]
fn a_flood_of_announcements_keeps_no_board_out_and_fills_neither_memory_nor_log() -> Result<()> {
    const FLOOD: u32 = 1000;
    // On a busy machine packets are lost in it, and Avahi waits 5 s for each that does not come.
    const FLOODED: Duration = Duration::from_secs(120);
    let lan = Lan::new()?;
    let [ws, known, new, rogue] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "known")?,
        board(&lan, "new")?,
        lan.host("rogue"),
    ])?;
    join(&lan, &ws, &known)?;
    let tag = value(&txt(&lan, &ws, &known)?, "fleet");
    flood(&rogue, &tag, FLOOD)?;
    lan.wait_until(FLOODED, "the flood is on", || {
        let browse = ws.check("avahi-browse -ptk _nix-builder._tcp | grep -c ';rogue'");
        browse.is_ok_and(|count| count.parse().is_ok_and(|count: u32| count >= FLOOD))
    })?;
    // One that is new, and one that is known to a daemon that has just started.
    trust::seed(&ws, &new)?;
    new.enable_service(Service::ROOST)?;
    fleet::wait_reach_within(FLOODED, &lan, &ws, "new", "up")?;
    ws.restart_service(Service::ROOST)?;
    for board in ["known", "new"] {
        fleet::wait_reach_within(FLOODED, &lan, &ws, board, "up")?;
    }
    builds::on_fleet(&ws, &hello("in the flood"))?;
    got_nothing(&rogue);
    let peak_mib = fleet::daemon_peak_mib(&ws)?;
    assert!(peak_mib < 64, "{peak_mib} MiB");
    let log = ws.service_log(Service::ROOST);
    assert!(log.lines().count() < 400, "{} lines:\n{log}", log.lines().count());
    assert!(!log.contains('\u{1b}'), "control characters in the log: {log:?}");
    let shown = ws.check("roost status")?;
    assert!(!shown.contains('\u{1b}'), "control characters on the terminal: {shown:?}");
    Ok(())
}

#[test]
fn who_talks_like_a_workstation_gets_nowhere_on_a_board() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board, rogue] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        board(&lan, "board")?,
        fleet::workstation(&lan, "rogue", "")?,
    ])?;
    join(&lan, &ws, &board)?;
    // It holds a fleet's key, only not this one's, and knows everything that is public.
    trust::found(&rogue)?;
    rogue.enable_service(Service::ROOST)?;
    ssh::introduce(&rogue, &board)?;
    let identity = "-i /var/lib/roost/ssh/id_ed25519 -o BatchMode=yes";
    for command in ["roost peer trust", "roost peer worker", "nix-daemon --stdio"] {
        let output = rogue.sh(&format!("ssh {identity} roost@board {command} </dev/null"))?;
        assert!(!output.success(), "{command}: {output}");
        assert!(output.stderr.contains("Permission denied (publickey)"), "{command}: {output}");
    }
    wait_pending(&lan, &rogue, "board", "another fleet")?;
    fleet::wait_reach(&lan, &ws, &board, "up")
}
