//! What this machine is, as it describes itself.

use std::{collections::BTreeSet, num::NonZeroU32, path::Path};

use board_support::{Announcement, Compatible, HostKeyHash, List, NodeId};
use tracing::{info, warn};

use super::{DaemonError, emulation};
use crate::{
    config::Config,
    execute::nix,
    model::NodeView,
    names,
    observe::{self, Machine, ObserveError, nix::NixConfig},
    place::local::LocalFacts,
};

/// Features that an emulated build can have, if the local Nix knows them.
const EMULATED_FEATURES: [&str; 3] = ["benchmark", "big-parallel", "ca-derivations"];

/// What was found out.
pub(super) struct Facts {
    machine: Machine,
    pub(super) cores: NonZeroU32,
    id: String,
    name: String,
    nix: Option<NixConfig>,
    nix_version: String,
    speed: f64,
}

/// Looks at the machine, its Nix and its nix-daemon. A machine without a working Nix still runs the
/// daemon, so that `roost doctor` and `roost status` can say what is missing.
pub(super) async fn observe(config: &Config) -> Result<Facts, DaemonError> {
    let root = Path::new("/");
    let machine = Machine::observe(root)?;
    let (id, name) = who(config)?;
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
    let speed = match config.board.speed {
        Some(speed) => speed,
        // A machine on which no thread can be started does not know.
        None => tokio::task::spawn_blocking(observe::speed::measure).await.unwrap_or_default(),
    };
    let cores = NonZeroU32::new(machine.cores).unwrap_or(NonZeroU32::MIN);
    Ok(Facts { machine, cores, id, name, nix, nix_version, speed })
}

/// This node's id and name.
pub(super) fn who(config: &Config) -> Result<(String, String), ObserveError> {
    let id = match &config.node.id {
        Some(id) => id.clone(),
        None => observe::node_id(Path::new("/"), names::STATE_DIR.as_ref())?,
    };
    Ok((id, config.node.name.clone().unwrap_or_else(host_name)))
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
            board: machine.compatible.first().cloned().unwrap_or_default(),
            cores: machine.cores,
            mem_mib: machine.mem_mib,
            temperature_mc: observe::vitals::temperature_mc("/".as_ref()),
            nix_version: self.nix_version.clone(),
            speed: self.speed,
            labels: config.node.labels.clone(),
            ..NodeView::default()
        };
        if board.enable {
            view.slots = board.slots_for(self.cores, machine.mem_mib);
            let runs = self.runs();
            let systems = match board.systems.clone() {
                Some(wanted) => self.offered("board.systems", wanted, &runs.all()),
                None => runs.all(),
            };
            (view.emulated, view.systems) =
                systems.into_iter().partition(|system| runs.emulated.contains(system));
            let features = self.features();
            view.features = match board.features.clone() {
                Some(configured) => self.offered("board.features", configured, &features),
                None => features.into_iter().collect(),
            };
        }
        view
    }

    /// The local Nix as a builder of what its own clients want. None on a node that is no workstation, or
    /// has no Nix.
    pub(super) fn local(&self, config: &Config) -> Option<LocalFacts> {
        let nix = self.nix.as_ref().filter(|_| config.workstation.enable)?;
        let forbidden = (!config.workstation.build_here)
            .then(|| "workstation.build_here is off on this machine".to_owned());
        Some(LocalFacts {
            id: self.id.clone(),
            name: self.name.clone(),
            labels: config.node.labels.clone(),
            // Told by those who know other nodes, too.
            speed: 1.0,
            systems: Runs::sort(nix, &self.machine).native,
            features: self.features().into_iter().collect(),
            forbidden,
        })
    }

    /// This node's emulation as a node of its own, which builds in a second store: none if nothing is
    /// emulated here that a build in Nix's sandbox could use.
    pub(super) fn emulation(&self, config: &Config, view: &NodeView) -> Option<NodeView> {
        let mut systems = Vec::new();
        for it in self.machine.emulated.iter().filter(|it| !it.shadows_native) {
            if it.fixed {
                systems.push(it.system.clone());
            } else {
                warn!(
                    "{} is not emulated here: {} was registered in binfmt_misc without the flag F, \
                     so no sandbox sees it",
                    it.system, it.interpreter
                );
            }
        }
        let slots = config.board.slots_for(self.cores, self.machine.mem_mib);
        let features: BTreeSet<_> = self.features().into_iter().collect();
        let offered = EMULATED_FEATURES.iter().map(|&word| word.to_owned());
        let features = offered.filter(|word| features.contains(word)).collect();
        let node = NodeView { features, ..view.clone() };
        (!systems.is_empty()).then(|| emulation::describe(&node, systems, slots))
    }

    /// What is configured, without what the local Nix would refuse to build or nothing here runs.
    fn offered<C>(&self, key: &str, configured: C, accepted: &[String]) -> C
    where
        C: IntoIterator<Item = String> + FromIterator<String>,
    {
        let known = |word: &String| self.nix.is_none() || accepted.contains(word);
        let (offered, refused): (Vec<_>, Vec<_>) = configured.into_iter().partition(known);
        if !refused.is_empty() {
            let refused = refused.join(", ");
            warn!(
                "{key}: {refused} not offered: not named in nix.conf, or not true of this machine"
            );
        }
        offered.into_iter().collect()
    }

    /// What the local Nix builds and this machine runs; without a Nix, what the CPU is.
    fn runs(&self) -> Runs {
        let Some(nix) = &self.nix else {
            return Runs { native: vec![self.machine.system.clone()], ..Runs::default() };
        };
        let runs = Runs::sort(nix, &self.machine);
        for system in &runs.neither {
            warn!(
                "nix.conf names {system} in extra-platforms, which neither this CPU nor a \
                 binfmt_misc entry runs: not offered. Take it out there, or register an emulator"
            );
        }
        runs
    }

    /// What the local Nix accepts and is true. NixOS names `kvm` whether or not there is one.
    fn features(&self) -> Vec<String> {
        let mut features: Vec<_> =
            self.nix.iter().flat_map(|nix| nix.system_features.clone()).collect();
        if !self.machine.features.contains("kvm") && features.iter().any(|word| word == "kvm") {
            info!("nix.conf names the feature kvm, but /dev/kvm cannot be opened: not offered");
            features.retain(|word| word != "kvm");
        }
        features
    }
}

/// The systems that the local Nix builds, by what runs them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Runs {
    /// The CPU, Nix's own system first.
    native: Vec<String>,
    /// An interpreter.
    emulated: Vec<String>,
    /// Nothing.
    neither: Vec<String>,
}

impl Runs {
    /// Nix's own system is believed to be native: whoever set it knows better. Of the others the
    /// kernel asks binfmt_misc before it looks at what the CPU can do.
    fn sort(nix: &NixConfig, machine: &Machine) -> Self {
        let mut runs = Self { native: vec![nix.system.clone()], ..Self::default() };
        for system in nix.extra_platforms.iter().filter(|system| **system != nix.system) {
            let list = if machine.emulated.iter().any(|it| it.system == *system) {
                &mut runs.emulated
            } else if machine.native.contains(system) {
                &mut runs.native
            } else {
                &mut runs.neither
            };
            list.push(system.clone());
        }
        runs
    }

    fn all(&self) -> Vec<String> {
        [self.native.as_slice(), &self.emulated].concat()
    }
}

/// The first label of the host name.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    name.split('.').next().unwrap_or("roost").to_owned()
}

/// What is told to the LAN; the reason if it cannot be put into a TXT record.
pub(super) fn announcement(view: &NodeView, host_key: HostKeyHash) -> Result<Announcement, String> {
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
        host_key,
        fleet: None,
        proof: None,
        more: false,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::observe::Emulated;

    use super::*;

    fn words<C: FromIterator<String>>(words: &[&str]) -> C {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// A machine that runs `native`, emulates `emulated`, and whose Nix has `system` and `extra`.
    fn facts(native: &[&str], emulated: &[&str], system: &str, extra: &[&str]) -> Facts {
        let emulated = emulated.iter().map(|&system| Emulated {
            system: system.to_owned(),
            interpreter: "/usr/bin/qemu".to_owned(),
            entry: "qemu".to_owned(),
            fixed: true,
            shadows_native: native.contains(&system),
        });
        let machine = Machine {
            cores: 4,
            mem_mib: 8_000,
            compatible: words(&["radxa,rock-5b", "rockchip,rk3588"]),
            board: None,
            model: None,
            system: native[0].to_owned(),
            native: words(native),
            emulated: emulated.collect(),
            gccarch: Vec::new(),
            isa: Vec::new(),
            features: BTreeSet::from(["benchmark"]),
        };
        let nix = NixConfig {
            system: system.to_owned(),
            extra_platforms: words(extra),
            system_features: words(&["benchmark", "kvm", "gccarch-armv8-a"]),
            ..NixConfig::default()
        };
        Facts {
            machine,
            cores: NonZeroU32::MIN,
            id: "rock5".to_owned(),
            name: "rock5".to_owned(),
            nix: Some(nix),
            nix_version: String::new(),
            speed: 1.0,
        }
    }

    fn config(board: &str) -> Config {
        Config::parse(&format!("[board]\nenable = true\n{board}"), Path::new("test")).unwrap()
    }

    const ARM: &[&str] = &["aarch64-linux", "armv7l-linux", "armv6l-linux"];

    #[test]
    fn a_board_offers_what_it_runs_and_says_what_it_emulates() {
        let extra = ["armv7l-linux", "riscv64-linux", "s390x-linux"];
        let facts = facts(ARM, &["riscv64-linux", "x86_64-linux"], "aarch64-linux", &extra);
        let view = facts.view(&config(""));
        assert_eq!(view.systems, ["aarch64-linux", "armv7l-linux"]);
        assert_eq!(view.emulated, ["riscv64-linux"], "what Nix would refuse is not offered");
        assert_eq!(view.board, "radxa,rock-5b");
        assert_eq!(facts.runs().neither, ["s390x-linux"]);
    }

    #[test]
    fn what_goes_to_an_interpreter_is_not_native_whatever_the_cpu_could_do() {
        let view =
            facts(ARM, &["armv7l-linux", "aarch64-linux"], "aarch64-linux", &["armv7l-linux"])
                .view(&config(""));
        assert_eq!(view.systems, ["aarch64-linux"]);
        assert_eq!(view.emulated, ["armv7l-linux"]);
    }

    #[test]
    fn the_system_of_nix_is_believed() {
        let facts = facts(&["x86_64-linux", "i686-linux"], &[], "riscv64-linux", &["i686-linux"]);
        let view = facts.view(&config(""));
        assert_eq!(view.systems, ["riscv64-linux", "i686-linux"]);
        let without = Facts { nix: None, ..facts };
        assert_eq!(without.view(&config("")).systems, ["x86_64-linux"]);
    }

    #[test]
    fn configured_systems_are_offered_as_what_they_are() {
        let facts = facts(ARM, &["riscv64-linux"], "aarch64-linux", &["riscv64-linux"]);
        let view = facts.view(&config("systems = ['aarch64-linux', 's390x-linux']"));
        assert_eq!(view.systems, ["aarch64-linux"]);
        assert!(view.emulated.is_empty());
        let view = facts.view(&config("systems = ['riscv64-linux', 'aarch64-linux']"));
        assert_eq!(view.systems, ["aarch64-linux"]);
        assert_eq!(view.emulated, ["riscv64-linux"]);
    }

    #[test]
    fn the_local_nix_builds_what_is_native_unless_it_is_told_not_to() {
        let facts = facts(ARM, &["riscv64-linux"], "aarch64-linux", &["riscv64-linux"]);
        let local = |text: &str| facts.local(&Config::parse(text, Path::new("test")).unwrap());
        let able = local("").unwrap();
        assert_eq!(able.systems, ["aarch64-linux"]);
        assert_eq!(able.features, words(&["benchmark", "gccarch-armv8-a"]));
        assert_eq!(able.forbidden, None);
        assert!(local("[workstation]\nbuild_here = false").unwrap().forbidden.is_some());
        assert_eq!(local("[workstation]\nenable = false"), None);
    }

    #[test]
    fn kvm_is_offered_only_where_there_is_one() {
        let mut facts = facts(ARM, &[], "aarch64-linux", &[]);
        let offered = |facts: &Facts, board| Vec::from_iter(facts.view(&config(board)).features);
        assert_eq!(offered(&facts, ""), ["benchmark", "gccarch-armv8-a"]);
        assert_eq!(offered(&facts, "features = ['kvm', 'benchmark']"), ["benchmark"]);
        facts.machine.features.insert("kvm");
        assert_eq!(offered(&facts, ""), ["benchmark", "gccarch-armv8-a", "kvm"]);
        assert_eq!(offered(&facts, "features = ['kvm', 'gpu']"), ["kvm"]);
    }
}
