//! What this machine is.

use std::{collections::BTreeSet, fs::OpenOptions, path::Path};

use board_support::{
    boards::{self, Board},
    cpu::{
        self, Extras,
        hwprobe::{Pair, QUESTIONS},
        riscv::Common,
    },
    device_tree,
};

use super::{
    ObserveError, arm32,
    emulation::{Emulated, emulated},
    leading_number, read, read_at_most,
};
use crate::sys;

/// `/proc/cpuinfo` has some 1.5 KiB a CPU on the most talkative machines.
const MAX_CPUINFO_BYTES: u64 = 1 << 20;

/// What does not change while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cores: u32,
    /// Memory in MiB, as far as the kernel has it: a board's GPU may hold some of what was bought.
    pub mem_mib: u64,
    /// The `compatible` strings of the device tree's root, the most specific one first, such as
    /// `raspberrypi,4-model-b`; empty on machines without one.
    pub compatible: Vec<String>,
    /// The board that it is, if it is one of the known ones.
    pub board: Option<&'static Board>,
    /// The device tree's `model`, for people, such as `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: Option<String>,
    /// Nix's word for what the CPU and kernel execute, such as `riscv64-linux`. The local Nix may
    /// have another opinion, which wins: see [`super::nix::NixConfig::system`].
    pub system: String,
    /// Every system that the CPU and kernel execute; its own first.
    pub native: Vec<String>,
    /// Systems that the kernel gives to an interpreter.
    pub emulated: Vec<Emulated>,
    /// `gccarch-` features of code that every CPU of it executes.
    pub gccarch: Vec<&'static str>,
    /// Of a RISC-V machine, what compilers can be told of every hart: see [`Common::names`].
    pub isa: Vec<&'static str>,
    /// Other system features that are true of it: see [`features`].
    pub features: BTreeSet<&'static str>,
}

impl Machine {
    /// Looks at this machine, with `/proc`, `/sys` and `/dev` below `root`. On a 64-bit ARM machine
    /// it runs a tiny 32-bit program, for two seconds at most; on a RISC-V machine it asks the kernel.
    ///
    /// # Errors
    ///
    /// [`ObserveError`] if the kernel does not tell its memory.
    pub fn observe(root: &Path) -> Result<Self, ObserveError> {
        let uname = rustix::system::uname();
        let mut answers = QUESTIONS;
        // Without the call `/proc/cpuinfo` tells, and without the file nothing is known.
        let answers = sys::hwprobe(&mut answers).map_or(&[][..], |()| &answers);
        Self::of(root, &uname.machine().to_string_lossy(), answers)
    }

    /// The same for a given kernel's word for the machine, and what it answered to [`QUESTIONS`].
    fn of(root: &Path, machine: &str, answers: &[Pair]) -> Result<Self, ObserveError> {
        let meminfo = root.join("proc/meminfo");
        let mem_mib = mem_mib(&read(&meminfo)?, "MemTotal")
            .ok_or(ObserveError::Content { path: meminfo, what: "the size of memory" })?;
        let cores = std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
        let property = |name| read(&root.join("proc/device-tree").join(name)).unwrap_or_default();
        let compatible: Vec<_> = device_tree::compatible(&property("compatible"))
            .map(|name| name.as_str().to_owned())
            .collect();
        let cpuinfo =
            read_at_most(&root.join("proc/cpuinfo"), MAX_CPUINFO_BYTES).unwrap_or_default();
        let mut emulated = emulated(root);
        let arm32 = || arm32::runs(root, emulated.iter().any(|it| it.system == arm32::SYSTEM));
        let extras =
            Extras { arm32: machine == "aarch64" && arm32(), x86_level: cpu::x86_level(&cpuinfo) };
        let system = system_of(machine);
        let mut native: Vec<_> = cpu::native_systems(machine, extras).map(str::to_owned).collect();
        if native.is_empty() {
            native.push(system.clone());
        }
        for it in &mut emulated {
            it.shadows_native = native.contains(&it.system);
        }
        let common = Common::of(&cpuinfo).probed(answers);
        let isa = match machine {
            "riscv64" => common.names().collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            cores,
            mem_mib,
            board: boards::find(compatible.iter().map(String::as_str)),
            compatible,
            model: device_tree::model(&property("model")).map(str::to_owned),
            system,
            native,
            emulated,
            gccarch: cpu::gccarch_features(machine, extras, &common).collect(),
            isa,
            features: features(root, cores, mem_mib),
        })
    }
}

/// The system features that are true of a machine, by what nixpkgs means by them:
///
/// - `kvm` only if `/dev/kvm` can be opened for reading and writing;
/// - `nixos-test` with `kvm`, without which those tests take hours;
/// - `big-parallel` from 4 cores and 7 GiB on, which "8 GiB" boards have: what requires it is
///   compiled by as many compilers as there are cores;
/// - `benchmark` always: a board does nothing else meanwhile.
#[must_use]
pub fn features(root: &Path, cores: u32, mem_mib: u64) -> BTreeSet<&'static str> {
    let mut features = BTreeSet::from(["benchmark"]);
    if cores >= 4 && mem_mib >= 7 << 10 {
        features.insert("big-parallel");
    }
    if OpenOptions::new().read(true).write(true).open(root.join("dev/kvm")).is_ok() {
        features.extend(["kvm", "nixos-test"]);
    }
    features
}

/// Nix's system for what `uname -m` says. Of a machine that is not known it is assumed that Nix has
/// the kernel's word for it.
#[must_use]
pub fn system_of(machine: &str) -> String {
    let own = cpu::native_systems(machine, Extras::default()).next();
    own.map_or_else(|| format!("{machine}-linux"), str::to_owned)
}

/// A line of `/proc/meminfo`, which counts in KiB, in MiB.
pub(super) fn mem_mib(meminfo: &[u8], name: &str) -> Option<u64> {
    meminfo.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        leading_number(value).map(|kib| kib / 1024)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_machine_can_be_observed() {
        let machine = Machine::observe(Path::new("/")).unwrap();
        assert!(machine.cores >= 1);
        assert!(machine.mem_mib > 16);
        assert!(machine.system.ends_with("-linux"));
    }

    #[test]
    fn a_board_is_known_by_its_device_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal:        3884360 kB\nMemFree: 1 kB\n")
            .unwrap();
        let tree = root.path().join("proc/device-tree");
        fs::write(tree.join("compatible"), "raspberrypi,4-model-b\0brcm,bcm2711\0").unwrap();
        fs::write(tree.join("model"), "Raspberry Pi 4 Model B Rev 1.4\0").unwrap();
        let machine = Machine::observe(root.path()).unwrap();
        assert_eq!(machine.mem_mib, 3793);
        assert_eq!(machine.compatible, ["raspberrypi,4-model-b", "brcm,bcm2711"]);
        assert_eq!(machine.board.map(|board| board.id), Some("raspberry-pi-4b"));
        assert_eq!(machine.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    }

    #[test]
    fn without_memory_the_error_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        assert!(Machine::observe(root.path()).unwrap_err().to_string().contains("meminfo"));
        fs::write(root.path().join("proc/meminfo"), "MemTotal: lots\n").unwrap();
        assert!(Machine::observe(root.path()).unwrap_err().to_string().contains("meminfo"));
    }

    #[test]
    fn a_machine_that_is_not_known_has_a_system_all_the_same() {
        assert_eq!(system_of("riscv64"), "riscv64-linux");
        assert_eq!(system_of("pdp11"), "pdp11-linux");
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 4096 kB\n").unwrap();
        let machine = Machine::of(root.path(), "pdp11", &[]).unwrap();
        assert_eq!(machine.native, ["pdp11-linux"]);
        assert!(machine.gccarch.is_empty() && machine.emulated.is_empty());
    }

    #[test]
    fn what_a_riscv_kernel_answers_goes_before_what_it_lists() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 4096 kB\n").unwrap();
        fs::write(root.path().join("proc/cpuinfo"), "isa : rv64imafdcv_zba_zicbom\n").unwrap();
        let observed = |answers: &[Pair]| Machine::of(root.path(), "riscv64", answers).unwrap();
        let listed = observed(&[]);
        assert_eq!(listed.isa, ["rv64gc", "v", "zba", "zicbom"]);
        assert_eq!(listed.gccarch, ["gccarch-rv64gc"]);
        // Linux 6.4 without vectors: F, D and C.
        let [base, extensions] = QUESTIONS;
        let answers = [Pair { value: 1, ..base }, Pair { value: 0b11, ..extensions }];
        assert_eq!(observed(&answers).isa, ["rv64gc"]);
        let unknown = [answers[0], Pair { key: -1, value: 0 }];
        assert_eq!(observed(&unknown), listed);
        let without = [answers[0], Pair { value: 0b10, ..extensions }];
        assert!(observed(&without).gccarch.is_empty(), "no floating point");
    }

    #[test]
    fn features_are_those_that_are_true() {
        let root = tempfile::tempdir().unwrap();
        let list = |cores, mem_mib| Vec::from_iter(features(root.path(), cores, mem_mib));
        assert_eq!(list(4, 3_793), ["benchmark"]);
        assert_eq!(list(2, 15_900), ["benchmark"]);
        assert_eq!(list(4, 7_900), ["benchmark", "big-parallel"]);
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::create_dir(root.path().join("dev/kvm")).unwrap();
        assert_eq!(list(1, 900), ["benchmark"], "what cannot be opened is not there");
        fs::remove_dir(root.path().join("dev/kvm")).unwrap();
        fs::write(root.path().join("dev/kvm"), "").unwrap();
        assert_eq!(list(1, 900), ["benchmark", "kvm", "nixos-test"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = mem_mib(&bytes, "MemTotal");
            let _ = mem_mib(&[b"MemTotal:", bytes.as_slice()].concat(), "MemTotal");
        }
    }
}
