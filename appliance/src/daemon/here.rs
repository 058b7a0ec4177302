//! What this machine is, as it describes itself.

use std::{num::NonZeroU32, path::Path};

use board_support::{Announcement, Compatible, HostKeyHash, List, NodeId};
use tracing::warn;

use super::DaemonError;
use crate::{
    config::Config,
    execute::nix,
    model::NodeView,
    names,
    observe::{self, Machine, nix::NixConfig},
};

/// What was found out.
pub(super) struct Facts {
    machine: Machine,
    pub(super) cores: NonZeroU32,
    id: String,
    name: String,
    nix: Option<NixConfig>,
    nix_version: String,
}

/// Looks at the machine, its Nix and its nix-daemon. A machine without a working Nix still runs the
/// daemon, so that `roost doctor` and `roost status` can say what is missing.
pub(super) async fn observe(config: &Config) -> Result<Facts, DaemonError> {
    let root = Path::new("/");
    let machine = Machine::observe(root)?;
    let id = match &config.node.id {
        Some(id) => id.clone(),
        None => observe::node_id(root, names::STATE_DIR.as_ref())?,
    };
    let name = match &config.node.name {
        Some(name) => name.clone(),
        None => host_name(),
    };
    let nix = match observe::nix::nix_config("nix".as_ref()).await {
        Ok(nix) => Some(nix),
        Err(error) => {
            warn!("{error}");
            None
        }
    };
    let nix_version = match nix::connect(names::NIX_DAEMON_SOCKET.as_ref()).await {
        Ok((_, hello)) => hello.nix_version,
        Err(error) => {
            warn!("{error}");
            String::new()
        }
    };
    let cores = NonZeroU32::new(machine.cores).unwrap_or(NonZeroU32::MIN);
    Ok(Facts { machine, cores, id, name, nix, nix_version })
}

impl Facts {
    /// This node's description; a node that offers no slots offers no systems either.
    pub(super) fn view(&self, config: &Config) -> NodeView {
        let board = &config.board;
        let machine = &self.machine;
        let mut view = NodeView {
            id: self.id.clone(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            board: machine.compatible.clone().unwrap_or_default(),
            cores: machine.cores,
            mem_mib: machine.mem_mib,
            temperature_mc: observe::vitals::temperature_mc("/".as_ref()),
            nix_version: self.nix_version.clone(),
            ..NodeView::default()
        };
        if board.enable {
            view.slots = board.slots_for(self.cores, machine.mem_mib);
            view.systems = self.systems();
            if let Some(systems) = board.systems.clone() {
                view.systems = self.offered("board.systems", systems, &view.systems);
            }
            let features: Vec<_> =
                self.nix.iter().flat_map(|nix| nix.system_features.clone()).collect();
            view.features = match board.features.clone() {
                Some(configured) => self.offered("board.features", configured, &features),
                None => features.into_iter().collect(),
            };
        }
        view
    }

    /// What is configured, without what the local Nix would refuse to build.
    fn offered<C>(&self, key: &str, configured: C, accepted: &[String]) -> C
    where
        C: IntoIterator<Item = String> + FromIterator<String>,
    {
        let known = |word: &String| self.nix.is_none() || accepted.contains(word);
        let (offered, refused): (Vec<_>, Vec<_>) = configured.into_iter().partition(known);
        if !refused.is_empty() {
            let refused = refused.join(", ");
            warn!("{key}: {refused} not offered: nix-daemon refuses what nix.conf does not name");
        }
        offered.into_iter().collect()
    }

    /// What the local Nix builds; without one, what the CPU is.
    fn systems(&self) -> Vec<String> {
        match &self.nix {
            Some(nix) => {
                let others = nix.extra_platforms.iter().filter(|system| **system != nix.system);
                std::iter::once(&nix.system).chain(others).cloned().collect()
            }
            None => vec![self.machine.system.clone()],
        }
    }
}

/// The first label of the host name.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    name.split('.').next().unwrap_or("roost").to_owned()
}

/// What is told to the LAN; the reason if it cannot be put into a TXT record.
pub(super) fn announcement(view: &NodeView, host_key: [u8; 32]) -> Result<Announcement, String> {
    let number = |value: u64, most: u16| u16::try_from(value).unwrap_or(u16::MAX).clamp(1, most);
    Ok(Announcement {
        id: NodeId::new(&view.id).map_err(|error| format!("its id {:?}: {error}", view.id))?,
        systems: List::of(view.systems.iter().map(String::as_str)),
        emulated: List::of(view.emulated.iter().map(String::as_str)),
        features: List::of(view.features.iter().map(String::as_str)),
        slots: number(u64::from(view.slots), Announcement::MAX_SLOTS),
        cores: number(u64::from(view.cores), Announcement::MAX_CORES),
        memory_gib: u16::try_from(view.mem_mib.div_ceil(1024)).unwrap_or(u16::MAX),
        board: Compatible::new(&view.board).ok(),
        host_key: HostKeyHash(host_key),
        fleet: None,
        proof: None,
        more: false,
    })
}
