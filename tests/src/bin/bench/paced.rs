//! Hosts of given speeds, and builds that sleep for their work divided by the speed of the host they are on.

use std::time::Duration;

use roost_lab::{
    Disk, Host, HostSpec, Lan, Result,
    fixtures::{roost, ssh},
};

use crate::measure::Side;

/// What a host's builds read through its sandbox: its speed in percent, and its name.
const PACE: &str = "/etc/pace";

/// What Nix asks by default. It is named for stock Nix, as the workstation's Nix would ask roost.
const STOCK_HOOK: &str = "/usr/bin/nix __build-remote";

/// How long the workstation may take to find its boards.
const MEET_TIMEOUT: Duration = Duration::from_secs(60);

/// The script of a builder whose environment has its work as `us`, in microseconds at speed 1. Its output
/// tells where it ran.
pub(crate) const SCRIPT: &str =
    "read percent host </etc/pace; usleep $((us * 100 / percent)); echo $host >$out";

/// A machine of a given speed.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) name: &'static str,
    pub(crate) slots: u32,
    /// Of one slot, in percent of speed 1.
    pub(crate) percent: u32,
}

impl Pace {
    /// Of one slot.
    pub(crate) fn speed(self) -> f64 {
        f64::from(self.percent) / 100.0
    }

    /// Of all slots together.
    pub(crate) fn power(self) -> f64 {
        self.speed() * f64::from(self.slots)
    }

    fn host(self, lan: &Lan, system: &str) -> HostSpec {
        let spec = lan.host(self.name).disk(Disk::Real).system(system).max_jobs(self.slots);
        let spec = spec.nix_conf(&format!("extra-sandbox-paths = {PACE}"));
        spec.file(PACE, 0o644, format!("{} {}\n", self.percent, self.name))
    }

    fn setting(self) -> String {
        format!("speed = {:.2}", self.speed())
    }

    /// As a board.
    fn board(self, lan: &Lan, system: &str) -> Result<HostSpec> {
        roost::board(self.host(lan, system), self.slots, &self.setting())
    }

    /// As a workstation whose Nix asks roost what to build by itself.
    pub(crate) fn workstation(self, lan: &Lan, system: &str) -> Result<HostSpec> {
        let config = format!("\n[board]\n{}", self.setting());
        Ok(roost::hooked(roost::workstation(self.host(lan, system), &config)?))
    }
}

/// A workstation and boards of given speeds.
pub(crate) struct Paced {
    lan: Lan,
    pub(crate) workstation: Host,
    pub(crate) boards: Vec<(Pace, Host)>,
    system: &'static str,
}

/// Starts them; returns when roost uses all of the boards.
pub(crate) fn start(
    lan: Lan,
    workstation: HostSpec,
    boards: &[Pace],
    system: &'static str,
) -> Result<Paced> {
    let workstation = workstation.start()?;
    let hosts = boards.iter().map(|pace| pace.board(&lan, system)?.start());
    let hosts = hosts.collect::<Result<Vec<Host>>>()?;
    let all: Vec<&Host> = hosts.iter().collect();
    ssh::stock(&workstation, &all)?;
    roost::join(&workstation, &all)?;
    for host in hosts.iter().chain([&workstation]) {
        host.add_to_store("/usr/lib/lab")?;
    }
    lan.wait_until(MEET_TIMEOUT, "roost uses all boards", || {
        let status = workstation.check("roost status --json").unwrap_or_default();
        status.replace(char::is_whitespace, "").matches(r#""reach":"up""#).count() == hosts.len()
    })?;
    let boards = boards.iter().copied().zip(hosts).collect();
    Ok(Paced { lan, workstation, boards, system })
}

impl Paced {
    /// Shows the hosts' logs if something failed.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| eprintln!("{}", self.lan.logs()))
    }

    /// `nix build` of a file for a side.
    pub(crate) fn nix_build(&self, side: Side, file: &str) -> Vec<String> {
        let argv = ["nix", "build", "--no-link", "--print-out-paths", "--file", file, "--builders"];
        let mut argv = argv.map(str::to_owned).to_vec();
        match side {
            Side::Roost => argv.push("@/run/roost/machines".to_owned()),
            Side::Stock => {
                argv.push(self.stock_builders());
                argv.extend(["--option", "build-hook", STOCK_HOOK].map(str::to_owned));
            }
            // What no machine beats is reckoned.
            Side::Ideal => argv.push(String::new()),
        }
        argv
    }

    fn stock_builders(&self) -> String {
        let line = |(pace, board): &(Pace, Host)| {
            ssh::builder_of("ssh-ng", board, self.system, pace.slots, pace.speed())
        };
        self.boards.iter().map(line).collect::<Vec<_>>().join(" ; ")
    }
}
