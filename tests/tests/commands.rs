//! What people type, on daemons that live and on one that does not.

use std::time::Duration;

use quick_xml::{Reader, events::Event};
use roost_lab::{
    Host, Lan, Output, Result, Service,
    fixtures::{
        builds::{self, FLEET, Nix},
        fleet::{self, SYSTEM},
        nix::Drv,
        roost, steered, trust,
    },
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);
const USER: &str = "alice";
const OPERATOR: &str = "olga";

/// A workstation with an ordinary user and one of group roost, and a board with one slot.
fn hosts(lan: &Lan) -> Result<[Host; 2]> {
    let hosts =
        lan.start([fleet::workstation(lan, "ws", "")?, fleet::board(lan, "board", 1, "")?])?;
    let [ws, board] = &hosts;
    builds::add_user(ws, USER)?;
    builds::add_user(ws, OPERATOR)?;
    ws.check(&format!("usermod --append --groups roost {OPERATOR}"))?;
    fleet::join(lan, ws, &[board])?;
    Ok(hosts)
}

/// A command as the ordinary user.
fn ask(host: &Host, line: &str) -> Result<Output> {
    host.command(["bash", "-c", line]).user(USER).run()
}

fn ask_ok(host: &Host, line: &str) -> Result<String> {
    Ok(ask(host, line)?.ok()?.stdout)
}

#[test]
fn a_job_is_followed_from_its_place_in_the_queue_to_its_end() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan)?;
    assert_eq!(ask_ok(&ws, "roost jobs")?, "No jobs.\n");
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &ws, "second", "waiting", |job| job.reason.contains("next in line"))?;

    let status = ask_ok(&ws, "roost status")?;
    let line = status.lines().find(|line| line.starts_with("board")).expect("a line for the board");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..6], ["board", "up", SYSTEM, "1", "1", "1"], "{status}");
    assert!(line.contains("2 jobs from here"), "{status}");

    let jobs = ask_ok(&ws, "roost jobs")?;
    assert_eq!(jobs.lines().count(), 3, "{jobs}");
    assert!(jobs.contains("building on board") && jobs.contains("root (pid "), "{jobs}");

    let drv = builds::instantiate(&ws, &steered::drv("first", SYSTEM).expr())?;
    for name in ["first", &drv, &format!("{drv}!out"), &format!("{drv}^out")] {
        let why = ask_ok(&ws, &format!("roost why '{name}'"))?;
        assert!(why.contains("running on board"), "{why}");
        assert!(
            why.contains("board runs aarch64-linux natively and has 1 of 1 slots free"),
            "{why}"
        );
        assert!(why.contains("1 client waiting for it"), "{why}");
    }
    let why = ask_ok(&ws, "roost why second")?;
    assert!(why.contains("all 1 slot for aarch64-linux are busy (board); next in line"), "{why}");

    let mut follow = ws.command(["roost", "logs", "-f", "first"]).user(USER).spawn()?;
    lan.wait_until(SOON, "the log is followed", || follow.stdout() == "first has begun\n")?;
    assert_eq!(ask_ok(&ws, "roost logs first")?, "first has begun\n");
    steered::release(&board, "first")?;
    first.wait(builds::BUILD_TIMEOUT)?.ok()?;
    let log = "first has begun\nfirst goes on\n";
    assert_eq!(follow.wait(SOON)?.ok()?.stdout, log);
    assert_eq!(ask_ok(&ws, "roost logs first")?, log);
    assert!(ask_ok(&ws, "roost why first")?.contains("built on board"));
    // The board has its own view of it.
    assert_eq!(board.check("roost logs first")?, log.trim_end());
    steered::release_all(&board)?;
    second.wait(builds::BUILD_TIMEOUT)?.ok()?;
    assert_eq!(ask_ok(&ws, "roost jobs")?, "No jobs.\n");
    let all = ask_ok(&ws, "roost jobs --all")?;
    assert_eq!(all.matches(" built ").count(), 2, "{all}");
    Ok(())
}

#[test]
fn what_happened_is_drawn() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan)?;
    let mut first = fleet::build(&ws, "first")?;
    steered::wait_started(&lan, &board, "first", 1)?;
    let mut second = fleet::build(&ws, "second")?;
    fleet::wait_job(&lan, &ws, "second", "waiting", |job| job.reason.contains("next in line"))?;
    steered::release_all(&board)?;
    for build in [&mut first, &mut second] {
        build.wait(builds::BUILD_TIMEOUT)?.ok()?;
    }
    let drawn = ask_ok(&ws, "COLUMNS=90 roost timeline")?;
    assert!(drawn.starts_with("2 jobs in "), "{drawn}");
    for part in ["\nboard   ", "└0", "█ building"] {
        assert!(drawn.contains(part), "{part:?}: {drawn}");
    }
    assert!(drawn.lines().all(|line| line.chars().count() <= 90), "{drawn}");
    assert!(!drawn.contains('\x1b'), "colours are for terminals: {drawn}");
    let json: Value = serde_json::from_str(&ask_ok(&ws, "roost timeline --json")?).unwrap();
    let lanes = json["rows"][0]["lanes"].as_array().expect("lanes of the board");
    let bars: Vec<_> = lanes.iter().filter_map(Value::as_array).flatten().collect();
    let names: Vec<_> = bars.iter().filter_map(|bar| bar["name"].as_str()).collect();
    assert_eq!(names, ["first", "second"], "{json}");
    assert!(bars.iter().all(|bar| bar["end"] == "good"), "{json}");
    let waited = |bar: &Value| bar["segments"][0]["kind"] == "waiting";
    assert!(waited(bars[1]), "for the slot: {json}");

    let titles = svg_titles(&ask_ok(&ws, "roost timeline --svg -")?).unwrap();
    for part in ["first on board, from ", "building "] {
        assert!(titles.contains(part), "{part}: {titles}");
    }
    assert_eq!(ws.check("roost timeline --last 1 --svg /root/drawn.svg")?, "");
    let titles = svg_titles(&ws.read("/root/drawn.svg")?).unwrap();
    assert!(titles.contains("second on board") && !titles.contains("first on"), "{titles}");
    let nowhere = ask(&ws, "roost timeline --svg /nowhere/drawn.svg")?;
    assert_eq!(nowhere.code(), Some(1), "{nowhere}");
    assert!(nowhere.stderr.contains("cannot write /nowhere/drawn.svg"), "{nowhere}");

    // The board knows its own part of it, and where the time of a job went.
    let there = board.check("roost timeline")?;
    assert!(there.starts_with("2 jobs in ") && there.contains("\nboard   "), "{there}");
    let why = fleet::why(&ws, "first")?;
    assert!(why.contains("building ") && why.contains("built on board"), "{why}");
    Ok(())
}

/// What an SVG document says of itself and its bars.
fn svg_titles(text: &str) -> std::result::Result<String, quick_xml::Error> {
    let (mut reader, mut titles, mut within) = (Reader::from_str(text), String::new(), false);
    loop {
        match reader.read_event()? {
            Event::Eof => return Ok(titles),
            Event::Start(tag) => within = tag.name().as_ref() == b"title",
            Event::Text(text) if within => titles += &text.decode()?,
            _ => within = false,
        }
    }
}

#[test]
fn everything_that_lists_prints_json_on_request() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan)?;
    let mut build = fleet::build(&ws, "only")?;
    steered::wait_started(&lan, &board, "only", 1)?;
    let json = |line: &str| -> Result<Value> {
        let text = ask(&ws, line)?.stdout;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}")))
    };
    assert_eq!(json("roost status --json")?["boards"][0]["reach"], "up");
    assert_eq!(json("roost jobs --json")?[0]["name"], "only");
    assert_eq!(json("roost jobs --all --json")?[0]["state"], "running");
    assert_eq!(json("roost timeline --json")?["rows"][0]["name"], "board");
    assert_eq!(json("roost why only --json")?["job"]["attached"], 1);
    let lines = json("roost machines --json")?;
    assert!(lines[0].as_str().is_some_and(|line| line.contains(SYSTEM)), "{lines}");
    assert_eq!(json("roost machines --direct --json")?[0]["board"], "board");
    let findings = json("roost doctor --json")?;
    assert!(findings.as_array().is_some_and(|all| all.len() > 5), "{findings}");
    assert_eq!(json("roost check-config --json")?["workstation"]["enable"], true);
    steered::release_all(&board)?;
    build.wait(builds::BUILD_TIMEOUT)?.ok().map(drop)
}

#[test]
fn a_drained_board_ends_what_it_runs_and_gets_nothing_until_it_is_resumed() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan)?;
    // From the workstation by an operator, then on the board itself by root.
    for (n, (host, user, of)) in
        [(&ws, OPERATOR, " board"), (&board, "root", "")].into_iter().enumerate()
    {
        let run = |verb: &str| {
            let line = format!("roost {verb}{of}");
            host.command(["bash", "-c", &line]).user(user).run()?.ok()
        };
        let (runs, waits) = (format!("runs{n}"), format!("waits{n}"));
        let mut running = fleet::build(&ws, &runs)?;
        steered::wait_started(&lan, &board, &runs, 1)?;
        run("drain")?;
        lan.wait_until(SOON, "the board drains", || {
            ask_ok(&ws, "roost status").is_ok_and(|text| text.contains("draining"))
        })?;
        let mut waiting = fleet::build(&ws, &waits)?;
        fleet::wait_job(&lan, &ws, &waits, "waiting", |job| {
            job.state == "queued" && job.reason.contains("roost resume")
        })?;
        steered::release(&board, &runs)?;
        running.wait(builds::BUILD_TIMEOUT)?.ok()?;
        assert!(waiting.ended().is_none());
        assert_eq!(steered::starts(&board, &waits)?, 0, "by {user}");
        run("resume")?;
        steered::release(&board, &waits)?;
        waiting.wait(builds::BUILD_TIMEOUT)?.ok()?;
    }
    let nowhere = ws.run(["roost", "drain", "nowhere"])?;
    assert_eq!(nowhere.code(), Some(4), "{nowhere}");
    let here = ws.run(["roost", "drain"])?;
    assert!(here.code() == Some(1) && here.stderr.contains("name a board"), "{here}");
    Ok(())
}

#[test]
fn a_cancelled_job_ends_on_the_board_and_its_client_is_told_why() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, board] = hosts(&lan)?;
    let mut build = fleet::build(&ws, "unwanted")?;
    steered::wait_started(&lan, &board, "unwanted", 1)?;
    let denied = ask(&ws, "roost cancel unwanted")?;
    assert_eq!(denied.code(), Some(1), "{denied}");
    assert!(denied.stderr.contains("group roost"), "{denied}");
    ws.command(["roost", "cancel", "unwanted"]).user(OPERATOR).run()?.ok()?;
    let output = build.wait(SOON)?;
    assert!(!output.success() && output.stderr.contains("cancelled by"), "{output}");
    let builders = || {
        let processes = board.processes().unwrap_or_default();
        processes.iter().filter(|process| process.command().contains("unwanted.go")).count()
    };
    lan.wait_until(SOON, "the board builds it no more", || builders() == 0)?;
    fleet::wait_job(&lan, &board, "unwanted", "failed", |job| job.state == "failed")?;
    let again = ws.run(["roost", "cancel", "unwanted"])?;
    assert!(!again.success() && again.stderr.contains("has ended already"), "{again}");
    // It can be asked for again.
    steered::release_all(&board)?;
    fleet::build(&ws, "unwanted")?.wait(builds::BUILD_TIMEOUT)?.ok().map(drop)
}

#[test]
fn direct_machines_lines_work_on_a_machine_without_roost() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, arm, riscv, stock] = lan.start([
        fleet::workstation(&lan, "ws", "")?,
        fleet::board(&lan, "arm", 1, "")?,
        roost::board(lan.host("riscv").system("riscv64-linux"), 3, "")?,
        lan.host("stock"),
    ])?;
    fleet::join(&lan, &ws, &[&arm, &riscv])?;
    for board in [&arm, &riscv] {
        trust::admit(&stock, board)?;
    }
    builds::add_user(&ws, USER)?;
    let lines = ask_ok(&ws, "roost machines --direct")?;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let riscv_line = lines.lines().find(|line| line.contains("riscv64-linux")).unwrap_or_default();
    assert_eq!(riscv_line.split(' ').nth(3), Some("3"), "slots: {riscv_line}");
    // Nothing but the lines: no known host, no ssh configuration.
    stock.write("/etc/nix/machines", 0o644, lines.clone())?;
    for system in [SYSTEM, "riscv64-linux"] {
        let drv = Drv::new("hello", system, "echo hello >$out").expr();
        let options = ["--builders", "@/etc/nix/machines", "--max-jobs", "0"];
        let output = Nix::DashBuild.command(&stock, &drv, &options)?.run()?.ok()?;
        assert_eq!(stock.read(output.stdout.trim())?, "hello\n");
    }
    Ok(())
}

#[test]
fn a_wrong_name_and_a_daemon_that_is_not_there_are_told_from_each_other() -> Result<()> {
    let lan = Lan::new()?;
    let [ws, _board] = hosts(&lan)?;
    for line in ["roost why nothing", "roost logs nothing", "roost logs -f nothing"] {
        let output = ask(&ws, line)?;
        assert_eq!(output.code(), Some(4), "{output}");
        assert!(output.stderr.contains("roost jobs --all"), "{output}");
    }
    ws.stop_service(Service::ROOST)?;
    for line in [
        "roost status",
        "roost jobs --json",
        "roost logs x",
        "roost why x",
        "roost timeline --json",
        "roost drain",
        "roost resume board",
        "roost cancel x",
        "roost machines --direct",
    ] {
        let output = ask(&ws, line)?;
        assert_eq!(output.code(), Some(3), "{output}");
        assert!(output.stderr.contains("systemctl start roost"), "{output}");
        assert_eq!(output.stdout, "");
    }
    // A build does not hang either.
    let drv = Drv::new("hello", SYSTEM, "echo hello >$out").expr();
    let build = Nix::DashBuild.command(&ws, &drv, FLEET)?.run()?;
    let told = build.stderr.contains("the roost daemon is not running");
    assert!(!build.success() && told, "{build}");
    Ok(())
}
