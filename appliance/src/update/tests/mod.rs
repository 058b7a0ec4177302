//! Updates from their order to their end, on a machine that is played: whenever a process is killed, and
//! whenever the power fails.

mod ends;
mod kills;
mod refusals;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    time::Duration,
};

use nix_compat::store_path::StorePath;
use tokio::{sync::Notify, time::Instant};

use super::*;
use crate::trust::Order;

const OLD: &str = "/nix/store/0c2rnmvx8q4kbqh1sb0bsqm5xsbv8sqq-nixos-system-old";
const NEW: &str = "/nix/store/1c2rnmvx8q4kbqh1sb0bsqm5xsbv8sqq-nixos-system-new";
const OTHER: &str = "/nix/store/2c2rnmvx8q4kbqh1sb0bsqm5xsbv8sqq-nixos-system-other";

thread_local! {
    /// Steps until the process is killed.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Counts a step; whether the process does not get over it.
pub(super) fn is_killed() -> bool {
    LEFT.with(|left| match left.get() {
        Some(0) => true,
        Some(more) => {
            left.set(Some(more - 1));
            false
        }
        None => false,
    })
}

/// Has the process killed after so many steps, or never.
fn kill_after(steps: Option<u32>) {
    LEFT.with(|left| left.set(steps));
}

fn path(path: &str) -> StorePath {
    StorePath::parse(path).unwrap()
}

fn order(number: u64) -> Order {
    Order::new("b1", NEW, number, false).unwrap()
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
enum Ended {
    Done,
    Again(String),
    Killed,
    Restarted,
}

/// A machine and its disk.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    boot: Cell<u32>,
    booted_at: Cell<Instant>,
    /// How long the machine takes to come to whoever looks after a trial.
    slow: Cell<Duration>,
    booted: RefCell<StorePath>,
    next: RefCell<StorePath>,
    /// Systems whose installation fails.
    broken: RefCell<Vec<StorePath>>,
    /// Why a system does not work, if so, at this time after it was started.
    health: fn(&str, Duration) -> Result<(), String>,
    /// Whether the machine tells which system it has started.
    tells: Cell<bool>,
    /// What the boot loader starts, whatever it is told.
    stubborn: RefCell<Option<StorePath>>,
    /// Whether `systemctl reboot` works.
    restarts: Cell<bool>,
    drained: Cell<u32>,
    resumed: Cell<u32>,
    killed: Notify,
    restarted: Notify,
}

impl World {
    fn new(health: fn(&str, Duration) -> Result<(), String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Store::in_folder(folder.path()),
            folder,
            boot: Cell::new(1),
            booted_at: Cell::new(Instant::now()),
            slow: Cell::default(),
            booted: RefCell::new(path(OLD)),
            next: RefCell::new(path(OLD)),
            broken: RefCell::default(),
            health,
            tells: Cell::new(true),
            stubborn: RefCell::default(),
            restarts: Cell::new(true),
            drained: Cell::default(),
            resumed: Cell::default(),
            killed: Notify::new(),
            restarted: Notify::new(),
        }
    }

    /// Waits for ever if the process is killed here.
    async fn step(&self) {
        if is_killed() {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    async fn accept(&self, order: Order) -> Result<(), UpdateError> {
        self.store.hold()?.accept(order, async { Ok(()) }).await
    }

    fn progress(&self) -> Option<Progress> {
        self.store.read().unwrap().map(|update| update.progress)
    }

    fn flag(&self, name: &str) -> bool {
        self.folder.path().join("update").join(name).exists()
    }

    fn has_root(&self) -> bool {
        self.folder.path().join("gcroot").is_symlink()
    }

    /// The power fails, or the machine is restarted.
    fn start(&self) {
        self.boot.set(self.boot.get() + 1);
        self.booted_at.set(Instant::now());
        let next = self.next.borrow().clone();
        self.booted.replace(self.stubborn.borrow().clone().unwrap_or(next));
    }

    async fn apply(&self) -> Ended {
        let held = self.store.hold().unwrap();
        self.run(apply(&held, self)).await
    }

    async fn settle(&self) -> Ended {
        let held = self.store.hold().unwrap();
        self.run(settle(&held, self)).await
    }

    async fn run(&self, process: impl Future<Output = Result<(), UpdateError>>) -> Ended {
        tokio::select! {
            ended = process => match ended {
                Ok(()) => Ended::Done,
                Err(UpdateError::Again(why)) if why == "killed" => Ended::Killed,
                Err(error) => Ended::Again(error.to_string()),
            },
            () = self.killed.notified() => Ended::Killed,
            () = self.restarted.notified() => Ended::Restarted,
        }
    }

    /// What systemd does with the units: until nothing is to be done, or for so many starts.
    async fn systemd(&self, mut restarted: bool) {
        for _ in 0..20 {
            if restarted && self.flag("trial") {
                match self.settle().await {
                    Ended::Restarted => {
                        self.start();
                        continue;
                    }
                    // Restart=on-failure.
                    Ended::Again(_) | Ended::Killed => continue,
                    Ended::Done => {}
                }
            }
            restarted = false;
            if !self.flag("order") {
                return;
            }
            if self.apply().await == Ended::Restarted {
                self.start();
                restarted = true;
            }
        }
        panic!("it does not end: {:?}", self.progress());
    }
}

impl Machine for World {
    fn boot(&self) -> Result<String, String> {
        Ok(format!("boot {}", self.boot.get()))
    }

    fn booted(&self) -> Option<String> {
        self.tells.get().then(|| self.booted.borrow().to_string())
    }

    fn next(&self) -> Result<StorePath, String> {
        Ok(self.next.borrow().clone())
    }

    async fn install(&self, system: &StorePath) -> Result<(), String> {
        self.step().await;
        self.next.replace(system.clone());
        self.step().await;
        match self.broken.borrow().contains(system) {
            true => Err("the boot loader could not be written\n  no space".to_owned()),
            false => Ok(()),
        }
    }

    async fn drain(&self) {
        self.drained.set(self.drained.get() + 1);
        self.step().await;
    }

    async fn resume(&self) {
        self.resumed.set(self.resumed.get() + 1);
    }

    async fn restart(&self) -> Result<Infallible, String> {
        self.step().await;
        if !self.restarts.get() {
            return Err("systemctl failed".to_owned());
        }
        self.restarted.notify_one();
        std::future::pending().await
    }

    async fn health(&self) -> Result<(), String> {
        self.step().await;
        (self.health)(self.booted.borrow().as_str(), self.uptime())
    }

    fn uptime(&self) -> Duration {
        self.slow.get() + self.booted_at.get().elapsed()
    }
}

/// All systems work.
fn well(_: &str, _: Duration) -> Result<(), String> {
    Ok(())
}

/// The new system never works.
fn ill(system: &str, _: Duration) -> Result<(), String> {
    match system {
        NEW => Err("no node of the fleet has connected".to_owned()),
        _ => Ok(()),
    }
}
