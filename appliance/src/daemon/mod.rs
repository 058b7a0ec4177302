//! The daemon: finds out what this machine is, opens what lasts, joins the parts, and stops in an
//! orderly way.

mod belonging;
mod builder;
mod client;
mod control;
mod demands;
mod emulation;
mod here;
mod nodes;
mod notify;
mod own;
mod parts;
mod paths;
mod sshd;
mod taken;
mod updates;
mod visits;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    sync::oneshot,
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    bus::{self, SystemBus},
    config::Config,
    discover::{Avahi, Sighting},
    execute::SecondError,
    fleet::{self, Fleet, RegisterError},
    model::Change,
    names,
    observe::ObserveError,
    queue::{QueueError, logs::LogError, roots::RootsError},
    trust::{KeyError, TrustError},
    wire::door::{Access, Door, OpenError},
};
pub use own::{open_trust, role};

use control::Control;
use parts::Parts;

/// systemd is told that we stop, and gives us longer; people and tests do not want to wait.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How long being ready waits for the bus, without which everything else works.
const BUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// This machine could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The queue cannot be used.
    #[error("the queue in {}: {source}", path.display())]
    Queue {
        /// Its folder.
        path: PathBuf,
        /// Why not.
        source: QueueError,
    },
    /// Job logs cannot be kept.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Nothing can be held against garbage collection.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// What this node trusts cannot be read or written.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// This node's key, or its host key, cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The list of boards cannot be used.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The socket for local programs cannot be opened.
    #[error(transparent)]
    Door(#[from] OpenError),
    /// The second store cannot be used.
    #[error(transparent)]
    Second(#[from] SecondError),
    /// A folder cannot be made, a signal not be waited for, or the like.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A part of the daemon panicked.
    #[error("a part of the daemon failed (a panic, see the journal); it should be started again")]
    Defect,
    /// An announcement cannot be made of what this node is.
    #[error("this node cannot be announced: {0}")]
    Announce(String),
}

fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let doing = doing.into();
    move |source| DaemonError::System { doing, source }
}

/// Runs the daemon until it is told to stop (SIGTERM or SIGINT).
///
/// # Errors
/// [`DaemonError`], if it cannot start, or if a part of it panics. It does not end otherwise.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for SIGINT"))?;
    let parts = Parts::open(config).await?;
    let door = Door::open(names::SOCKET.as_ref(), Access::lookup(names::USER, names::GROUP))?;
    let bus = SystemBus::default();
    let avahi = Avahi::on(bus.clone());
    let announcer = parts.announcement()?.map(|service| {
        (Arc::new(avahi.announce(parts.belonging.announce(service.clone()))), service)
    });

    let mut tasks = JoinSet::new();
    let dispatcher = parts.dispatcher.clone();
    tasks.spawn({
        let dispatcher = dispatcher.clone();
        async move { dispatcher.run().await }
    });
    if let Some(graph) = parts.graph.clone() {
        let dispatcher = dispatcher.clone();
        let weigh = dispatcher.clone();
        tasks.spawn(
            graph.run(move || paths::weigh(&weigh.estimates()), move || dispatcher.look_again()),
        );
    }
    if let Some(fleet) = &parts.fleet {
        let known = fleet.clone();
        let sightings = avahi.browse(move |board| known.matters(board));
        follow(&mut tasks, fleet, sightings, &parts);
    }
    if let Some(emulation) = parts.emulation.clone() {
        tasks.spawn(async move { emulation.tidy().await });
    }
    let control = Control::new(&parts);
    let (refreshed, belonging) = (control.clone(), parts.belonging.clone());
    belonging.follow(&mut tasks, announcer.clone(), move || refreshed.refresh());
    tasks.spawn(control.clone().keep_view());
    tasks.spawn(control.clone().keep_health());
    let (trying, tried) = oneshot::channel();
    tasks.spawn(bus::serve(bus, control.clone(), trying));
    let visits = visits::Visits::new(&parts, &control);
    tasks.spawn(async move { door.run(move |visit| visits.clone().attend(visit)).await });
    notify::serve_watchdog(&mut tasks).map_err(system("make the watchdog's timer"))?;

    // Whoever starts us may ask us at once. The sender is never used, only dropped.
    drop(timeout(BUS_TIMEOUT, tried).await);
    info!(node = parts.view.name, id = parts.view.id, slots = parts.view.slots, "ready");
    notify::ready();
    let defect = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = panicked(&mut tasks) => true,
    };
    notify::stopping();
    info!("stopping");
    let stop = async {
        dispatcher.stop().await;
        if let Some((announcer, _)) = announcer {
            announcer.withdraw().await;
        }
    };
    if timeout(STOP_TIMEOUT, stop).await.is_err() {
        warn!("not everything ended within {} s; going all the same", STOP_TIMEOUT.as_secs());
    }
    tasks.shutdown().await;
    if defect { Err(DaemonError::Defect) } else { Ok(()) }
}

/// Follows the boards of the fleet: what is seen of them, and what that means for Nix and for waiting
/// jobs.
fn follow(
    tasks: &mut JoinSet<()>,
    fleet: &Fleet,
    sightings: mpsc::Receiver<Sighting>,
    parts: &Parts,
) {
    tasks.spawn({
        let fleet = fleet.clone();
        async move { fleet.run(sightings).await }
    });
    tasks.spawn({
        let (fleet, places) = (fleet.clone(), parts.places.clone());
        async move { fleet::publish(&fleet, &places).await }
    });
    let (mut changes, dispatcher) = (fleet.changes(), parts.dispatcher.clone());
    tasks.spawn(async move {
        while changes.changed().await.is_ok() {
            dispatcher.look_again();
            dispatcher.announce(Change::Boards);
        }
    });
}

/// Returns when one of the daemon's parts has panicked: what is left would accept jobs, say, and
/// never place them. Its queue lasts, so a new daemon is the better one.
async fn panicked(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            return;
        }
    }
    std::future::pending::<()>().await;
}
