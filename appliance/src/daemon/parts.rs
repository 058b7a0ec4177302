//! Opens everything that lasts, in the order in which things need each other.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32},
    },
    time::Duration,
};

use tracing::{info, warn};

use super::{
    DaemonError,
    belonging::{self, Belonging},
    builder::Here,
    emulation::{self, Second},
    here::{self, Facts},
    nodes::{AllNodes, AllStores, LocalStore},
    own::{self, open_trust},
    sshd::Sshd,
    system,
    updates::Updates,
};
use crate::{
    config::{Config, Placement, Rule},
    discover::Service,
    dispatch::{self, Dispatcher, Inputs, Paths, Patience, Policies, Stores},
    execute::{BuildSettings, LocalNix, Pool, Queries},
    fleet::{self, Fleet, Places},
    graph::{self, Keeper},
    model::{Demand, Emulation, NodeView},
    names,
    place::{Policy, admission},
    queue::{
        Limits, Queue, Recovery,
        logs::{LogLimits, Logs},
        roots::Roots,
    },
    trust::Trust,
};

/// The store, where builds need room.
const STORE: &str = "/nix/store";

/// What a running daemon has.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) belonging: Belonging,
    pub(super) view: NodeView,
    pub(super) here: Option<Arc<Here>>,
    pub(super) fleet: Option<Fleet>,
    pub(super) emulation: Option<Arc<Second>>,
    pub(super) places: Places,
    pub(super) dispatcher: Dispatcher,
    /// What clients of the local Nix wait for.
    pub(super) graph: Option<Keeper>,
    pub(super) logs: Logs,
    pub(super) socket: PathBuf,
    pub(super) queries: Queries,
}

impl Parts {
    pub(super) async fn open(config: Config) -> Result<Self, DaemonError> {
        make_folders()?;
        let facts = here::observe(&config).await?;
        let socket = PathBuf::from(names::NIX_DAEMON_SOCKET);
        let store = Pool::new(socket.clone());
        let queries = Queries::new(store.clone());
        let belonging = belonging(&config, queries.clone())?;
        belonging.settle()?;
        let view = belonging.describe(&facts.view(&config));
        let (queue, recovery) = open_queue(&config, &view.id).await?;
        let logs = Logs::open(
            names::LOG_DIR.as_ref(),
            LogLimits {
                job_bytes: u64::from(config.queue.log_mib) << 20,
                total_bytes: u64::from(config.queue.logs_total_mib) << 20,
            },
        )?;
        let roots = Roots::open(names::GCROOTS_DIR.as_ref(), STORE.as_ref())?;
        let waiting = recovery.jobs.iter().map(crate::model::Job::id).collect();
        for name in roots.sweep(&waiting)? {
            info!(job = name, "garbage-collection roots of a job that is not there were removed");
        }
        let here = config.board.enable.then(|| builder(&config, &facts, &view, &socket, &roots));
        let fleet = match config.workstation.enable {
            true => Some(open_fleet(&belonging.trust, &view)?),
            false => None,
        };
        let emulation = second_store(&config, &facts, &view)?;
        let nodes = AllNodes {
            own: own_ids(&view.id).into(),
            speed: view.speed,
            here: here.clone(),
            fleet: fleet.clone(),
            local: facts.local(&config),
            emulation: emulation.clone(),
            store,
            substitute: config.workstation.substitute_on_boards,
            roots: roots.clone(),
        };
        let inputs: Option<Arc<dyn Inputs>> = match &here {
            Some(_) => Some(Arc::new(LocalStore(queries.clone()))),
            None => None,
        };
        let stores = fleet.clone().map(|fleet| {
            Arc::new(AllStores { queries: queries.clone(), fleet }) as Arc<dyn Stores>
        });
        let graph = config.workstation.enable.then(graph);
        let paths = graph.clone().map(|graph| Arc::new(graph) as Arc<dyn Paths>);
        let dispatcher = Dispatcher::new(dispatch::Parts {
            queue,
            recovery,
            roots,
            logs: logs.clone(),
            nodes: Arc::new(nodes),
            inputs,
            stores,
            paths,
            max_jobs: config.queue.max_jobs as usize,
            patience: Patience {
                orphan_grace: Duration::from_secs(config.queue.orphan_grace_s),
                output_grace: Duration::from_secs(config.queue.output_grace_s),
                away: Duration::from_secs(config.workstation.away_timeout_s),
            },
            policy: policies(config.placement.clone()),
            rules: rules(&config.rule),
        });
        let own = emulation.iter().map(|emulation| emulation.view.clone()).collect();
        let places = places(&config, view.mem_mib, own)?;
        Ok(Self {
            config,
            belonging,
            view,
            here,
            fleet,
            emulation,
            places,
            dispatcher,
            graph,
            logs,
            socket,
            queries,
        })
    }

    /// The systems that this node builds natively, if there is another way for others.
    pub(super) fn native_systems(&self) -> Arc<BTreeSet<String>> {
        let otherwise = self.fleet.is_some() || !self.view.emulated.is_empty();
        let systems =
            self.here.iter().filter(|_| otherwise).flat_map(|_| self.view.systems.clone());
        Arc::new(systems.collect())
    }

    /// What is announced, if anything is.
    pub(super) fn announcement(&self) -> Result<Option<Service>, DaemonError> {
        if !self.config.board.enable || !self.config.board.announce {
            return Ok(None);
        }
        let host_key = belonging::announced_key(&self.belonging.trust);
        let host_key =
            host_key.ok_or_else(|| DaemonError::Announce("it has no host key".to_owned()))?;
        let announcement =
            here::announcement(&self.view, host_key).map_err(DaemonError::Announce)?;
        let service = Service {
            instance: self.view.name.clone(),
            port: self.config.board.port,
            announcement,
        };
        Ok(Some(service))
    }
}

/// Where stock Nix finds its builder; `own` are nodes beside the boards.
fn places(config: &Config, mem_mib: u64, own: Vec<NodeView>) -> Result<Places, DaemonError> {
    let placement = config.placement.clone();
    Ok(Places {
        machines: names::MACHINES_FILE.into(),
        connect_dir: names::CONNECT_DIR.into(),
        only_dir: names::ONLY_DIR.into(),
        program: std::env::current_exe().map_err(system("find this program's own file"))?,
        mem_mib,
        own,
        max_jobs: config.workstation.max_jobs_per_line,
        emulates: Arc::new(move |system| placement.emulation(system) != Emulation::Never),
    })
}

fn policies(placement: Placement) -> Policies {
    Box::new(move |system| Policy {
        emulation: placement.emulation(system),
        native_wait: placement.native_wait_s(system).map(Duration::from_secs),
    })
}

/// What the rules that apply to a job ask for, all together.
fn rules(rules: &[Rule]) -> dispatch::Rules {
    let rules: Vec<_> =
        rules.iter().zip(1..).map(|(rule, number)| (rule.clone(), rule.demand(number))).collect();
    Box::new(move |job| {
        let apply = rules.iter().filter(|it| it.0.applies(job.name, job.system, job.features));
        apply.fold(Demand::default(), |all, (_, demand)| all.and(demand))
    })
}

fn make_folders() -> Result<(), DaemonError> {
    for (path, mode) in [
        (names::RUNTIME_DIR, 0o755),
        (names::STATE_DIR, 0o750),
        (names::SSH_DIR, 0o700),
        (names::LOG_DIR, 0o750),
        (names::TRUST_DIR, 0o700),
        (names::FLEET_DIR, 0o700),
        (names::GCROOTS_DIR, 0o755),
    ] {
        if Path::new(path).is_dir() {
            continue;
        }
        fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .map_err(system(format!("make the folder {path}")))?;
    }
    Ok(())
}

/// The ids of what this node builds itself, the second store included.
fn own_ids(id: &str) -> [String; 2] {
    [id.to_owned(), emulation::id(id)]
}

async fn open_queue(config: &Config, id: &str) -> Result<(Queue, Recovery), DaemonError> {
    let path = PathBuf::from(names::QUEUE_DIR);
    let limits = Limits {
        max_jobs: config.queue.max_jobs as usize,
        max_done: config.queue.max_done as usize,
        done_age_s: config.queue.done_age_s,
    };
    let dir = path.clone();
    let own = own_ids(id);
    let open = move || Queue::open(&dir, limits, &own, dispatch::now_s());
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(|error| system("open the queue")(error.into()))?;
    let (queue, recovery) = opened.map_err(|source| DaemonError::Queue { path, source })?;
    if let Some(damage) = &recovery.damage {
        warn!(
            moved_to = %damage.moved_to.display(), salvaged = damage.salvaged,
            "the queue was damaged ({}); what could be read of it goes on", damage.reason
        );
    }
    for record in &recovery.set_aside {
        warn!(record = record.key, "a record was set aside: {}", record.reason);
    }
    for record in &recovery.forgotten {
        warn!(record = record.key, "a record of earlier builds was dropped: {}", record.reason);
    }
    Ok((queue, recovery))
}

fn builder(
    config: &Config,
    facts: &Facts,
    view: &NodeView,
    socket: &Path,
    roots: &Roots,
) -> Arc<Here> {
    let executor = LocalNix {
        pool: Pool::new(socket.to_owned()),
        node: view.name.clone(),
        settings: BuildSettings {
            cores: config.board.cores_for(facts.cores, view.mem_mib),
            timeout_s: config.board.timeout_s,
            max_silent_s: config.board.max_silent_s,
            features: view.features.clone(),
        },
        roots: roots.clone(),
        trouble: Arc::default(),
        builds: AtomicU32::new(0),
        begun: AtomicU32::new(0),
        memory_peak: names::NIX_DAEMON_MEMORY_PEAK.into(),
    };
    Arc::new(Here {
        executor: Arc::new(executor),
        view: view.clone(),
        draining: AtomicBool::new(false),
        store: STORE.into(),
        min_free_mib: config.queue.min_free_mib,
        limits: admission::Limits {
            heat_margin_c: config.admission.heat_margin_c,
            max_memory_pressure_percent: config.admission.max_memory_pressure_percent,
            min_memory_mib: config.admission.min_memory_mib,
        },
        gates: Mutex::default(),
        last: Mutex::default(),
        told: Mutex::default(),
    })
}

/// The second store, if it is configured and there is anything to emulate.
fn second_store(
    config: &Config,
    facts: &Facts,
    view: &NodeView,
) -> Result<Option<Arc<Second>>, DaemonError> {
    if !config.workstation.enable || !config.workstation.emulate_here {
        return Ok(None);
    }
    let Some(node) = facts.emulation(config, view) else {
        warn!("workstation.emulate_here: binfmt_misc has no interpreter that builds could use");
        return Ok(None);
    };
    let cores = config.board.cores_for(facts.cores, view.mem_mib);
    Ok(Some(Arc::new(Second::open(config, node, cores)?)))
}

/// What clients of the local Nix wait for.
fn graph() -> Keeper {
    let places = graph::Places { temproots: names::TEMPROOTS_DIR.into(), store: STORE.into() };
    Keeper::new(places)
}

/// This node in its fleet.
fn belonging(config: &Config, queries: Queries) -> Result<Belonging, DaemonError> {
    let sshd = Sshd::new(config.board.port, config.board.reload_sshd.clone());
    Ok(Belonging::new(open_trust(config)?, own::role(config), sshd, Updates::new(queries)))
}

fn open_fleet(trust: &Trust, view: &NodeView) -> Result<Fleet, DaemonError> {
    let ssh_dir = PathBuf::from(names::SSH_DIR);
    let control_dir = Path::new(names::RUNTIME_DIR).join("ssh");
    fs::create_dir_all(&control_dir)
        .and_then(|()| fs::set_permissions(&control_dir, fs::Permissions::from_mode(0o700)))
        .map_err(system(format!("make the folder {}", control_dir.display())))?;
    let settings = fleet::Settings {
        trust: trust.clone(),
        register: names::FLEET_FILE.into(),
        ssh_dir,
        control_dir,
        client: view.name.clone(),
        now_s: dispatch::now_s,
    };
    Ok(Fleet::open(settings)?)
}
