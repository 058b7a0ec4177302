//! The daemon on the system bus: who may do what, and that it comes back with the bus.

use std::time::Duration;

use roost_lab::{Host, Lan, Output, Result, Service, fixtures::roost};

const SOON: Duration = Duration::from_secs(30);

/// Everyone may call these.
const READING: [&str; 6] = [
    "org.roost.Node1.Describe",
    "org.roost.Node1.ListJobs",
    "org.roost.Node1.ListBoards",
    "org.roost.Node1.ListSecondStores",
    "org.freedesktop.DBus.Properties.GetAll string:org.roost.Node1",
    "org.freedesktop.DBus.Introspectable.Introspect",
];
/// These are for root and group `roost`.
const ACTING: [&str; 5] = [
    "org.roost.Node1.Drain",
    "org.roost.Node1.Resume",
    "org.roost.Node1.DrainBoard string:nowhere",
    "org.roost.Node1.ResumeBoard string:nowhere",
    "org.roost.Node1.CancelJob string:nothing",
];

fn call(host: &Host, user: &str, method: &str) -> Result<Output> {
    let fixed = ["dbus-send", "--system", "--print-reply", "--dest=org.roost.Node1"];
    let words = fixed.into_iter().chain(["/org/roost/Node1"]).chain(method.split(' '));
    host.command(words).user(user).run()
}

fn denied(output: &Output) -> bool {
    output.stderr.contains("org.freedesktop.DBus.Error.AccessDenied")
}

#[test]
fn everyone_may_read_and_only_root_and_the_group_may_act() -> Result<()> {
    let lan = Lan::new()?;
    let host = roost::workstation(lan.host("ws"), "")?.start()?;
    host.check("useradd --groups roost helper && useradd visitor")?;
    host.enable_service(Service::ROOST)?;
    lan.wait_until(SOON, "the daemon is on the bus", || {
        call(&host, "root", READING[0]).is_ok_and(|output| output.success())
    })?;
    for user in ["root", "helper", "visitor"] {
        for method in READING {
            call(&host, user, method)?.ok()?;
        }
        let output = call(&host, user, "org.roost.Node1.Why string:nothing")?;
        assert!(output.stderr.contains("org.roost.Error.NotFound"), "{user}: {output:?}");
        // Where their own builds go is everyone's to say.
        let demand = "org.roost.Node1.Demand array:string:nowhere array:string: array:string:";
        let output = call(&host, user, demand)?;
        assert!(!denied(&output), "{user}: {output:?}");
        let plan = "org.roost.Node1.Plan array:string: uint32:0";
        let output = call(&host, user, plan)?;
        assert!(!denied(&output), "{user}: {output:?}");
        for method in ACTING {
            let output = call(&host, user, method)?;
            assert_eq!(denied(&output), user == "visitor", "{user} {method}: {output:?}");
        }
    }
    // What is nobody's to call.
    let set = "org.freedesktop.DBus.Properties.Set string:org.roost.Node1 string:Slots \
               variant:uint32:9";
    assert!(denied(&call(&host, "visitor", set)?));
    // Nobody else can pose as the daemon.
    let name = ["string:org.roost.Node1", "uint32:0"];
    let request = ["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/"];
    let pose = request.into_iter().chain(["org.freedesktop.DBus.RequestName"]).chain(name);
    assert!(denied(&host.command(pose).user("helper").run()?));
    Ok(())
}

#[test]
fn the_daemon_comes_back_with_the_bus() -> Result<()> {
    let lan = Lan::new()?;
    let host = roost::workstation(lan.host("ws"), "")?.start()?;
    host.enable_service(Service::ROOST)?;
    let answers = || call(&host, "root", READING[0]).is_ok_and(|output| output.success());
    lan.wait_until(SOON, "the daemon is on the bus", answers)?;
    host.kill9(Service::DBUS)?;
    host.start_service(Service::DBUS)?;
    lan.wait_until(SOON, "the daemon is on the new bus", answers)?;
    assert!(host.service_runs(Service::ROOST));
    Ok(())
}
