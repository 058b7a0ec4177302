//! What this machine is.

use std::path::Path;

use super::{ObserveError, leading_number, read};

/// What does not change while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cores: u32,
    /// Memory in MiB, as far as the kernel has it: a board's GPU may hold some of what was bought.
    pub mem_mib: u64,
    /// The first, most specific `compatible` of the device tree, such as
    /// `raspberrypi,4-model-b`; `None` on machines without one.
    pub compatible: Option<String>,
    /// The device tree's `model`, for people, such as `Raspberry Pi 4 Model B Rev 1.4`.
    pub model: Option<String>,
    /// Nix's word for what the CPU and kernel execute, such as `riscv64-linux`. The local Nix may
    /// have another opinion, which wins: see [`super::nix::NixConfig::system`].
    pub system: String,
}

impl Machine {
    /// Looks at this machine, with `/proc` below `root`.
    ///
    /// # Errors
    ///
    /// [`ObserveError`] if the kernel does not tell its memory.
    pub fn observe(root: &Path) -> Result<Self, ObserveError> {
        let meminfo = root.join("proc/meminfo");
        let mem_mib = mem_mib(&read(&meminfo)?, "MemTotal")
            .ok_or(ObserveError::Content { path: meminfo, what: "the size of memory" })?;
        let device_tree = root.join("proc/device-tree");
        let property = |name| read(&device_tree.join(name)).ok();
        Ok(Self {
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            mem_mib,
            compatible: property("compatible").and_then(|bytes| first_string(&bytes)),
            model: property("model").and_then(|bytes| first_string(&bytes)),
            system: system_of(&rustix::system::uname().machine().to_string_lossy()),
        })
    }
}

/// How many builds at once suit a machine when nobody says otherwise: one for each 2 GiB of
/// memory, at most one a core, at least one.
///
/// A build runs `make -j<cores>` of its own, so slots beyond one help where a build is serial
/// (configuring, linking, unpacking), and each costs memory: C++ compilers take about 1 GiB each,
/// linkers more, and a board that swaps to its SD card is slower than one that waits. Memory is
/// rounded to the nearest step since "4 GiB" boards report 3.7.
#[must_use]
pub fn default_slots(cores: u32, mem_mib: u64) -> u32 {
    const MIB_PER_SLOT: u64 = 2048;
    let by_memory = mem_mib.saturating_add(MIB_PER_SLOT / 2) / MIB_PER_SLOT;
    u32::try_from(by_memory).unwrap_or(u32::MAX).min(cores).max(1)
}

/// Nix's system for what `uname -m` says. Nix names the instruction set that programs are
/// compiled for: any 32-bit x86 is `i686`, and `armv8l` is what a 64-bit ARM kernel calls itself
/// to 32-bit programs.
#[must_use]
pub fn system_of(machine: &str) -> String {
    let cpu = match machine {
        "i386" | "i486" | "i586" | "i686" => "i686",
        "armv8l" => "armv7l",
        "ppc64le" => "powerpc64le",
        "ppc64" => "powerpc64",
        other => other,
    };
    format!("{cpu}-linux")
}

/// A line of `/proc/meminfo`, which counts in KiB, in MiB.
pub(super) fn mem_mib(meminfo: &[u8], name: &str) -> Option<u64> {
    meminfo.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        leading_number(value).map(|kib| kib / 1024)
    })
}

/// The first of a device tree property's NUL-terminated strings, if it is plain and short enough
/// to be shown and announced.
fn first_string(property: &[u8]) -> Option<String> {
    const MAX_LEN: usize = 128;
    let first = property.split(|byte| *byte == 0).next()?;
    let plain = !first.is_empty()
        && first.len() <= MAX_LEN
        && first.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    plain.then(|| String::from_utf8_lossy(first).into_owned())
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
        assert_eq!(machine.compatible.as_deref(), Some("raspberrypi,4-model-b"));
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
    fn slots_follow_memory_and_cores() {
        for (cores, mem_mib, slots) in [
            (1, 430, 1),
            (4, 930, 1),
            (4, 1_890, 1),
            (4, 3_793, 2),
            (4, 7_900, 4),
            (4, 15_900, 4),
            (8, 15_900, 8),
            (64, 128_000, 63),
            (0, 0, 1),
            (u32::MAX, u64::MAX, u32::MAX),
        ] {
            assert_eq!(default_slots(cores, mem_mib), slots, "{cores} cores, {mem_mib} MiB");
        }
    }

    #[test]
    fn systems_are_named_as_nix_does() {
        for (machine, system) in [
            ("aarch64", "aarch64-linux"),
            ("riscv64", "riscv64-linux"),
            ("x86_64", "x86_64-linux"),
            ("i586", "i686-linux"),
            ("armv7l", "armv7l-linux"),
            ("armv8l", "armv7l-linux"),
            ("armv6l", "armv6l-linux"),
            ("ppc64le", "powerpc64le-linux"),
        ] {
            assert_eq!(system_of(machine), system);
        }
    }

    #[test]
    fn a_device_tree_that_is_not_plain_text_tells_nothing() {
        assert_eq!(first_string(b""), None);
        assert_eq!(first_string(b"\0a\0"), None);
        assert_eq!(first_string(b"a\nb\0"), None);
        assert_eq!(first_string(b"\xff\xfe\0"), None);
        assert_eq!(first_string(&[b'a'; 129]), None);
        assert_eq!(first_string(b"no end").as_deref(), Some("no end"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = first_string(&bytes);
            let _ = mem_mib(&bytes, "MemTotal");
            let _ = mem_mib(&[b"MemTotal:", bytes.as_slice()].concat(), "MemTotal");
        }
    }
}
