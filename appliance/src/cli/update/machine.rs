//! This machine, which is updated.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    convert::Infallible,
    fs,
    path::Path,
    time::Duration,
};

use nix_compat::store_path::StorePath;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::{
    bus::{Client, ClientError, SystemBus},
    execute::{Pool, Queries},
    model::NodeView,
    names,
    update::{DRAIN_WITHIN, Machine, Switch, run},
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long `systemctl reboot` may take to say yes.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long systemd may take to end this process once it has said so; it does that first.
const RESTART_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a question to the daemon or to nix-daemon may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often running builds are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// This machine.
pub(super) struct ThisMachine {
    switch: Switch,
    /// Whether its daemon was told to begin no builds, by this process.
    drained: Cell<bool>,
    /// Why it did not work when it was asked last.
    told: RefCell<String>,
}

impl ThisMachine {
    pub(super) fn new() -> Self {
        let (drained, told) = (Cell::default(), RefCell::default());
        Self { switch: Switch::system(), drained, told }
    }

    async fn drained(&self) -> Result<(), ClientError> {
        let client = Client::connect(&SystemBus::default()).await?;
        if !client.node().await?.draining {
            client.drain(None).await?;
            self.drained.set(true);
        }
        let until = Instant::now() + DRAIN_WITHIN;
        loop {
            let running = client.node().await?.running;
            if running == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                warn!("{running} builds still run, and are begun again after the restart");
                return Ok(());
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn works(&self) -> Result<(), String> {
        let ask = async { Client::connect(&SystemBus::default()).await?.node().await };
        let node = timeout(ANSWER_TIMEOUT, ask).await;
        let node = node.map_err(|_| "the roost daemon gave no answer".to_owned())?;
        judge(&node.map_err(|error| error.to_string())?)?;
        let queries = Queries::new(Pool::new(names::NIX_DAEMON_SOCKET.into()));
        let paths = BTreeSet::from([self.switch.next()?]);
        let asked = timeout(ANSWER_TIMEOUT, queries.valid(&paths)).await;
        let valid = asked.map_err(|_| "nix-daemon gave no answer".to_owned())?;
        match valid.map_err(|error| error.to_string())? == paths {
            true => Ok(()),
            false => Err("nix-daemon does not know the system that runs".to_owned()),
        }
    }
}

/// Why a node does not work, by its own words, if so.
fn judge(node: &NodeView) -> Result<(), String> {
    if node.enrolment != "enrolled" {
        return Err(format!("the board was not enrolled: {}", node.enrolment_note));
    }
    if !node.contacted {
        return Err("no node of the fleet had connected to the board".to_owned());
    }
    Ok(())
}

impl Machine for ThisMachine {
    fn boot(&self) -> Result<String, String> {
        let read = fs::read_to_string(Path::new(BOOT_ID));
        let id = read.map_err(|error| format!("cannot read {BOOT_ID}: {error}"))?;
        Ok(id.trim().to_owned())
    }

    fn booted(&self) -> Option<String> {
        self.switch.booted()
    }

    fn next(&self) -> Result<StorePath, String> {
        self.switch.next()
    }

    async fn install(&self, system: &StorePath) -> Result<(), String> {
        self.switch.install(system).await
    }

    async fn drain(&self) {
        if let Err(error) = self.drained().await {
            info!("builds are not waited for: {error}");
        }
    }

    async fn resume(&self) {
        if !self.drained.take() {
            return;
        }
        let resume = async { Client::connect(&SystemBus::default()).await?.resume(None).await };
        if let Err(error) = resume.await {
            warn!("`roost resume` has to be said here, which failed: {error}");
        }
    }

    async fn restart(&self) -> Result<Infallible, String> {
        run(Path::new("systemctl"), &["reboot".as_ref()], SYSTEMCTL_TIMEOUT).await?;
        sleep(RESTART_TIMEOUT).await;
        let limit_s = RESTART_TIMEOUT.as_secs();
        Err(format!("the machine was told to restart, and did not begin to within {limit_s} s"))
    }

    async fn health(&self) -> Result<(), String> {
        let health = self.works().await;
        if let Err(why) = &health {
            if *self.told.borrow() != *why {
                info!("not yet: {why}");
                self.told.replace(why.clone());
            }
        }
        health
    }

    fn uptime(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_works_that_is_enrolled_and_was_connected_to() {
        let node = |enrolment: &str, contacted| NodeView {
            enrolment: enrolment.to_owned(),
            enrolment_note: "Do this.".to_owned(),
            contacted,
            ..NodeView::default()
        };
        assert_eq!(judge(&node("enrolled", true)), Ok(()));
        assert!(judge(&node("enrolled", false)).unwrap_err().contains("had connected"));
        for enrolment in ["none", "waiting", "ended", ""] {
            assert!(judge(&node(enrolment, true)).unwrap_err().contains("Do this."), "{enrolment}");
        }
    }
}
