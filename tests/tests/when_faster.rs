//! `placement.emulation = "when-faster"`: a job is emulated where earlier builds of its package say
//! that this ends sooner than its turn on native hardware, and begun anew natively where that does.
//!
//! Builds take as long as these tests hold them, so that what is compared is far apart.

use std::time::Duration;

use roost_lab::{
    Host, Lan, Result, Running, Service,
    fixtures::{
        builds::Nix,
        fleet, foreign,
        native::{self, RISCV},
        roost, steered,
    },
    now,
};

/// For whatever should take a few seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = "[placement]\nemulation = \"when-faster\"\n";

/// Who asks, the node that is asked and emulates, and the native board that it has.
struct Fleet<'a> {
    lan: &'a Lan,
    client: &'a Host,
    node: &'a Host,
    native: &'a Host,
}

impl Fleet<'_> {
    /// Asks for a steered build. Names that differ in their version are of one package.
    fn ask(&self, name: &str) -> Result<Running> {
        let expr = foreign::steered(name, RISCV).expr();
        if self.client.name() == self.node.name() {
            return Nix::DashBuild.command(self.client, &expr, &[])?.spawn();
        }
        native::ask(self.client, self.node, &expr)?.spawn()
    }

    /// Lets a build go on, and waits for its output.
    fn finish(&self, name: &str, at: &Host, build: &mut Running) -> Result<()> {
        steered::release(at, name)?;
        let output = build.wait(SOON)?.ok()?;
        assert_eq!(self.client.read(output.stdout.trim())?, foreign::output(RISCV));
        Ok(())
    }

    /// A build that begins on this host and takes so long. How long everything took: it took no more.
    fn takes(&self, long: Duration, name: &str, at: &Host) -> Result<Duration> {
        let asked = now();
        let mut build = self.ask(name)?;
        steered::wait_started(self.lan, at, name, 1)?;
        let begun = now();
        self.lan.wait_until(SOON, "it has taken long enough", || begun.elapsed() >= long)?;
        let known = self.told();
        self.finish(name, at, &mut build)?;
        let took = asked.elapsed();
        if at.name() == self.native.name() {
            self.lan.wait_until(SOON, "the board has told of it", || self.told() > known)?;
        }
        Ok(took)
    }

    /// The number of the last build that the native board has told the node of.
    fn told(&self) -> u64 {
        let shown = fleet::shown(self.node, self.native.name());
        shown.and_then(|it| it["node"]["history"].as_u64()).unwrap_or_default()
    }

    /// Starts the node's daemon anew. What it has built itself it still knows, and what the board has
    /// built it is told again.
    fn restart(&self) -> Result<()> {
        let known = self.told();
        self.node.restart_service(Service::ROOST)?;
        fleet::wait_reach(self.lan, self.node, self.native, "up")?;
        self.lan.wait_until(SOON, "the board has told of everything", || self.told() >= known)
    }

    /// Has the native board take jobs, or none.
    fn drain(&self, draining: bool) -> Result<()> {
        let (name, verb) = (self.native.name(), if draining { "drain" } else { "resume" });
        self.node.check(&format!("roost {verb} {name}"))?;
        self.lan.wait_until(SOON, &format!("{verb} has reached the node"), || {
            fleet::shown(self.node, name).is_some_and(|it| it["node"]["draining"] == draining)
        })
    }
}

/// A stock machine, a board that emulates, and a native one that has a single slot.
fn boards(lan: &Lan) -> Result<[Host; 3]> {
    let hosts = lan.start([
        lan.host("stock"),
        native::arm(lan, "arm", 2, POLICY)?,
        native::riscv(lan, "riscv", 1)?,
    ])?;
    let [stock, arm, riscv] = &hosts;
    native::join(lan, arm, &[riscv])?;
    native::open_to(stock, arm)?;
    Ok(hosts)
}

#[test]
fn a_job_is_emulated_where_that_ends_sooner_than_its_turn_on_the_busy_native_board() -> Result<()> {
    const NATIVE: Duration = Duration::from_secs(8);
    let lan = Lan::new()?;
    let [stock, arm, riscv] = &boards(&lan)?;
    let fleet = Fleet { lan: &lan, client: stock, node: arm, native: riscv };
    let native = fleet.takes(NATIVE, "pays-1", riscv)?;
    fleet.drain(true)?;
    let emulated = fleet.takes(native, "pays-2", arm)?;
    assert!(emulated < NATIVE * 2, "this machine is too slow to tell: {emulated:?}");
    fleet.drain(false)?;
    fleet.restart()?;

    // Slower than native, so it is not emulated while there is a slot.
    let mut idle = fleet.ask("pays-3")?;
    steered::wait_started(&lan, riscv, "pays-3", 1)?;
    // Sooner than the next turn there.
    let mut busy = fleet.ask("pays-4")?;
    steered::wait_started(&lan, arm, "pays-4", 1)?;
    let why = fleet::why(arm, "pays-4")?;
    for words in ["running on arm (emulated)", "arm emulates riscv64-linux: earlier builds took"] {
        assert!(why.contains(words), "{why}");
    }
    assert!(why.contains("(placement.emulation = \"when-faster\")"), "{why}");
    fleet.finish("pays-4", arm, &mut busy)?;
    fleet.finish("pays-3", riscv, &mut idle)?;
    let why = fleet::why(arm, "pays-3")?;
    assert!(why.contains("riscv runs riscv64-linux natively"), "{why}");
    assert_eq!((steered::starts(arm, "pays-3")?, steered::starts(riscv, "pays-4")?), (0, 0));
    Ok(())
}

#[test]
fn a_job_waits_for_the_busy_native_board_where_emulation_takes_longer() -> Result<()> {
    let lan = Lan::new()?;
    let [stock, arm, riscv] = &boards(&lan)?;
    let fleet = Fleet { lan: &lan, client: stock, node: arm, native: riscv };
    let native = fleet.takes(Duration::from_secs(1), "costs-1", riscv)?;
    fleet.drain(true)?;
    fleet.takes(native * 3, "costs-2", arm)?;
    fleet.drain(false)?;

    let mut first = fleet.ask("costs-3")?;
    steered::wait_started(&lan, riscv, "costs-3", 1)?;
    let mut second = fleet.ask("costs-4")?;
    let waits = |job: &fleet::Job| {
        job.node.as_deref() == Some("riscv") && job.reason.contains("all 1 slot")
    };
    fleet::wait_job(&lan, arm, "costs-4", "waiting on riscv", waits)?;
    let why = fleet::why(arm, "costs-4")?;
    for words in ["expected to be done there first", "arm would have to emulate it"] {
        assert!(why.contains(words), "{why}");
    }
    fleet.finish("costs-3", riscv, &mut first)?;
    steered::wait_started(&lan, riscv, "costs-4", 1)?;
    fleet.finish("costs-4", riscv, &mut second)?;
    assert_eq!((steered::starts(arm, "costs-3")?, steered::starts(arm, "costs-4")?), (0, 0));
    Ok(())
}

/// A build that is emulated while the native board is off, and begun anew when it is there: earlier
/// builds say that this ends sooner.
fn begun_anew(fleet: &Fleet<'_>, emulated_on: &str) -> Result<()> {
    let Fleet { lan, node, native, .. } = fleet;
    let took = fleet.takes(Duration::ZERO, "anew-1", native)?;
    native.power_off()?;
    fleet::wait_reach(lan, node, native, "away")?;
    // Time enough for the board to start.
    fleet.takes(took + Duration::from_secs(25), "anew-2", node)?;
    let mut build = fleet.ask("anew-3")?;
    steered::wait_started(lan, node, "anew-3", 1)?;
    let why = fleet::why(node, "anew-3")?;
    for words in [&format!("running on {emulated_on} (emulated)"), "no native node takes it now"] {
        assert!(why.contains(words), "{why}");
    }

    native.power_on()?;
    steered::wait_started(lan, native, "anew-3", 1)?;
    lan.wait_until(SOON, "it is emulated no more", || steered::builder(node, "anew-3").is_err())?;
    let why = fleet::why(node, "anew-3")?;
    for words in ["running on riscv for", "riscv is free and runs it natively: about"] {
        assert!(why.contains(words), "{why}");
    }
    fleet.finish("anew-3", native, &mut build)?;
    let starts = (steered::starts(node, "anew-3")?, steered::starts(native, "anew-3")?);
    assert_eq!(starts, (1, 1));
    let job = fleet::wait_job(lan, node, "anew-3", "built", |job| job.state == "built")?;
    assert_eq!((job.node.as_deref(), job.emulated), (Some("riscv"), false));
    Ok(())
}

#[test]
fn what_a_board_emulates_is_begun_anew_on_a_native_one_that_comes_if_that_ends_sooner() -> Result<()>
{
    let lan = Lan::new()?;
    let [stock, arm, riscv] = &boards(&lan)?;
    begun_anew(&Fleet { lan: &lan, client: stock, node: arm, native: riscv }, "arm")
}

#[test]
fn what_a_workstation_emulates_is_begun_anew_on_a_native_board_that_comes_if_that_ends_sooner()
-> Result<()> {
    let lan = Lan::new()?;
    let spec = steered::allow(lan.host("ws").emulates([RISCV])).nix_conf("extra-platforms =");
    let spec = spec.nix_conf("builders = @/run/roost/machines");
    let ws = roost::workstation(spec, &format!("emulate_here = true\n\n{POLICY}"))?;
    let [ws, riscv] = &lan.start([ws, native::riscv(&lan, "riscv", 1)?])?;
    native::join(&lan, ws, &[riscv])?;
    begun_anew(&Fleet { lan: &lan, client: ws, node: ws, native: riscv }, "ws (emulation)")
}
