//! Programs on D-Bus: an ordinary user reads and hears of everything, and acts on nothing.

use std::time::Duration;

use roost_lab::{
    Command, Host, Lan, Result, Service,
    fixtures::{
        builds,
        fleet::{self, SYSTEM},
        steered,
    },
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);
const READER: &str = "alice";
const OPERATOR: &str = "olga";

fn busctl(host: &Host, user: &str, verb: &[&str], rest: &[&str]) -> Command {
    let node = ["org.roost.Node1", "/org/roost/Node1"];
    let words = ["busctl", "--system", "--json=short"].into_iter();
    host.command(words.chain(verb.iter().copied()).chain(node).chain(rest.iter().copied()))
        .user(user)
}

fn call(host: &Host, user: &str, rest: &[&str]) -> Command {
    busctl(host, user, &["call"], &[&["org.roost.Node1"], rest].concat())
}

#[test]
fn a_reader_hears_of_a_job_from_its_acceptance_to_its_end_and_only_operators_end_it() -> Result<()>
{
    let lan = Lan::new()?;
    let [ws, board] =
        lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
    builds::add_user(&ws, READER)?;
    builds::add_user(&ws, OPERATOR)?;
    ws.check(&format!("usermod --append --groups roost {OPERATOR}"))?;
    fleet::join(&lan, &ws, &[&board])?;

    // Signals, without any right to listen to what is not for everyone.
    let listen = "exec stdbuf -oL dbus-monitor --system \"interface='org.roost.Node1'\"";
    let listener = ws.command(["bash", "-c", listen]).user(READER).spawn()?;
    lan.wait_until(SOON, "it listens", || listener.stdout().contains("NameAcquired"))?;
    let mut build = fleet::build(&ws, "heard")?;
    steered::wait_started(&lan, &board, "heard", 1)?;
    for state in ["queued", "running"] {
        lan.wait_until(SOON, "the job's state is signalled", || {
            let heard = listener.stdout();
            heard.contains("member=JobChanged") && heard.contains(&format!("string \"{state}\""))
        })?;
    }

    let jobs = call(&ws, READER, &["ListJobs"]).run()?.ok()?;
    let jobs: Value = serde_json::from_str(&jobs.stdout).expect("busctl prints JSON");
    let job = &jobs["data"][0][0];
    assert_eq!((&job["name"]["data"], &job["system"]["data"]), (&"heard".into(), &SYSTEM.into()));
    let id = job["id"]["data"].as_str().expect("a job has an id");
    for property in ["Version", "Slots", "Running", "State"] {
        let get = busctl(&ws, READER, &["get-property"], &["org.roost.Node1", property]);
        get.run()?.ok()?;
    }
    let described = busctl(&ws, READER, &["introspect"], &[]).run()?.ok()?.stdout;
    for member in ["CancelJob", "JobChanged", "ListBoards"] {
        assert!(described.contains(member), "{described}");
    }

    let refused = call(&ws, READER, &["CancelJob", "s", id]).run()?;
    assert!(!refused.success() && refused.stderr.contains("Access denied"), "{refused}");
    assert!(build.ended().is_none(), "still running");
    call(&ws, OPERATOR, &["CancelJob", "s", id]).run()?.ok()?;
    lan.wait_until(SOON, "its end is signalled", || {
        listener.stdout().contains("string \"failed\"")
    })?;
    assert!(!build.wait(SOON)?.success());
    Ok(())
}

#[test]
fn a_daemon_that_is_ready_can_be_asked_and_one_without_a_bus_is_ready_too() -> Result<()> {
    let lan = Lan::new()?;
    let ws = fleet::workstation(&lan, "ws", "")?.start()?;
    ws.enable_service(Service::ROOST)?;
    ws.check("roost status")?;
    for _ in 0..5 {
        ws.restart_service(Service::ROOST)?;
        ws.check("roost status")?;
    }
    ws.kill9(Service::DBUS)?;
    ws.restart_service(Service::ROOST)
}
