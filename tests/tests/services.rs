//! Services that stop, start and restart around a fleet at work.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Service,
    fixtures::{fleet, steered},
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// How long the daemon may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A workstation and a board with one slot, joined, with one job running and one waiting.
struct AtWork {
    lan: Lan,
    ws: Host,
    board: Host,
    builds: Vec<(&'static str, roost_lab::Running)>,
}

impl AtWork {
    fn start() -> Result<Self> {
        let lan = Lan::new()?;
        let [ws, board] =
            lan.start([fleet::workstation(&lan, "ws", "")?, fleet::board(&lan, "board", 1, "")?])?;
        fleet::join(&lan, &ws, &[&board])?;
        let mut builds = vec![("first", fleet::build(&ws, "first")?)];
        steered::wait_started(&lan, &board, "first", 1)?;
        builds.push(("second", fleet::build(&ws, "second")?));
        fleet::wait_job(&lan, &board, "second", "queued", |job| job.state == "queued")?;
        Ok(Self { lan, ws, board, builds })
    }

    /// Lets the builds go on, and sees that every client gets its result.
    fn finish(mut self) -> Result<()> {
        steered::release_all(&self.board)?;
        for (name, build) in &mut self.builds {
            assert_eq!(fleet::result(&self.ws, build, SOON)?, format!("{name}\n"));
        }
        assert_eq!(steered::overlaps(&self.board)?, "");
        Ok(())
    }
}

#[test]
fn a_boards_daemon_stops_at_once_and_its_jobs_go_on_after_it() -> Result<()> {
    let fleet = AtWork::start()?;
    let begin = roost_lab::now();
    fleet.board.stop_service(Service::ROOST)?;
    assert!(begin.elapsed() < STOP, "{:?}", begin.elapsed());
    fleet.board.start_service(Service::ROOST)?;
    steered::wait_started(&fleet.lan, &fleet.board, "first", 2)?;
    for host in [&fleet.board, &fleet.ws] {
        let why = fleet::why(host, "first")?;
        assert!(!why.contains("death"), "on {}: {why}", host.name());
    }
    fleet.finish()
}

#[test]
fn a_workstations_daemon_stops_at_once_and_its_jobs_go_on_after_it() -> Result<()> {
    let mut fleet = AtWork::start()?;
    let begin = roost_lab::now();
    fleet.ws.stop_service(Service::ROOST)?;
    assert!(begin.elapsed() < STOP, "{:?}", begin.elapsed());
    for (_, build) in &mut fleet.builds {
        let output = build.wait(SOON)?;
        assert!(output.stderr.contains("roost daemon stopped"), "{output}");
    }
    fleet.ws.start_service(Service::ROOST)?;
    for (name, build) in &mut fleet.builds {
        *build = fleet::build(&fleet.ws, name)?;
        fleet::wait_job(&fleet.lan, &fleet.ws, name, "attended", |job| job.attached == 1)?;
    }
    let why = fleet::why(&fleet.ws, "first")?;
    assert!(!why.contains("death"), "{why}");
    assert_eq!(steered::starts(&fleet.board, "first")?, 1);
    fleet.finish()
}

#[test]
fn avahi_and_dbus_restart_and_the_fleet_comes_back_by_itself() -> Result<()> {
    let fleet = AtWork::start()?;
    let AtWork { lan, ws, board, .. } = &fleet;
    for host in [ws, board] {
        host.restart_service(Service::AVAHI)?;
    }
    for host in [ws, board] {
        // As a package upgrade would: with what depends on it.
        host.stop_service(Service::AVAHI)?;
        host.restart_service(Service::DBUS)?;
        host.start_service(Service::AVAHI)?;
    }
    // The commands work again, and jobs go on.
    fleet::wait_reach(lan, ws, board, "up")?;
    // A workstation that starts only now finds the board by what it announces.
    ws.stop_service(Service::ROOST)?;
    ws.check("rm /var/lib/roost/fleet.json")?;
    ws.start_service(Service::ROOST)?;
    fleet::wait_reach(lan, ws, board, "up")?;
    // And one that runs sees the board that starts only now.
    board.stop_service(Service::ROOST)?;
    fleet::wait_reach(lan, ws, board, "away")?;
    board.start_service(Service::ROOST)?;
    fleet::wait_reach(lan, ws, board, "up")?;
    let mut fleet = fleet;
    for (name, build) in &mut fleet.builds {
        *build = fleet::build(&fleet.ws, name)?;
    }
    fleet.finish()
}
