//! The hosts of a benchmark: a workstation and boards of two slots, used by both sides.

use std::time::Duration;

use roost_lab::{
    Disk, Host, Lan, Result, Service,
    fixtures::{roost, ssh},
};

use crate::measure::Side;

/// What all boards play.
pub(crate) const SYSTEM: &str = "aarch64-linux";

/// Slots of a board, for both sides.
pub(crate) const SLOTS: u32 = 2;

/// How long the workstation may take to find its boards.
const MEET_TIMEOUT: Duration = Duration::from_secs(60);

/// A workstation and its boards, ready for both sides.
pub(crate) struct Fleet {
    lan: Lan,
    pub(crate) workstation: Host,
    pub(crate) boards: Vec<Host>,
}

/// Starts a fleet; returns when roost uses all of its boards.
pub(crate) fn start(boards: u32) -> Result<Fleet> {
    let lan = Lan::new()?;
    // fsync has to cost what it costs, for both sides.
    let host = |name: &str| lan.host(name).disk(Disk::Real);
    let workstation = roost::workstation(host("ws"), "")?.start()?;
    let boards = (1..=boards)
        .map(|n| {
            let spec = host(&format!("board{n}")).system(SYSTEM).max_jobs(SLOTS);
            roost::board(spec, SLOTS, "")?.start()
        })
        .collect::<Result<Vec<Host>>>()?;
    let all: Vec<&Host> = boards.iter().collect();
    ssh::stock(&workstation, &all)?;
    roost::join(&workstation, &all)?;
    for host in boards.iter().chain([&workstation]) {
        // The builder's shell is everywhere: its way there is not what is measured.
        host.add_to_store("/usr/lib/lab")?;
    }
    lan.wait_until(MEET_TIMEOUT, "roost uses all boards", || {
        let status = workstation.sh("roost status --json").map(|output| output.stdout);
        let status = status.unwrap_or_default().replace(char::is_whitespace, "");
        status.matches(r#""reach":"up""#).count() == boards.len()
    })?;
    Ok(Fleet { lan, workstation, boards })
}

impl Fleet {
    /// Shows the hosts' logs if something failed.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|_| eprintln!("{}", self.lan.logs()))
    }

    /// What `--builders` is for a side.
    pub(crate) fn builders(&self, side: Side) -> String {
        match side {
            Side::Roost => "@/run/roost/machines".to_owned(),
            Side::Stock => {
                let line = |board| ssh::builder("ssh-ng", board, SYSTEM, SLOTS);
                self.boards.iter().map(line).collect::<Vec<_>>().join(" ; ")
            }
            // On the board itself: no builders.
            Side::Ideal => String::new(),
        }
    }

    /// The most that an idle daemon has in memory, workstation's and boards'.
    pub(crate) fn daemon_rss_mib(&self) -> Result<f64> {
        let mut most = 0;
        for host in self.boards.iter().chain([&self.workstation]) {
            let memory = host.memory_kib(host.service_pid(Service::ROOST)?)?;
            most = most.max(memory.rss_kib);
        }
        Ok(mib(most))
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> f64 {
    // Far below 2^52: exact.
    #[expect(clippy::cast_precision_loss, reason = "sizes of processes")]
    let kib = kib as f64;
    kib / 1024.0
}
