//! What the CPU executes, as Nix and nixpkgs call it.

pub mod hwprobe;
pub mod riscv;

/// What is known of the CPU beyond the kernel's word for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Whether a 64-bit ARM CPU and its kernel run 32-bit programs: newer cores, and kernels with
    /// pages of 16 KiB, do not.
    pub arm32: bool,
    /// The x86-64 microarchitecture level, 1 to 4; see [`x86_level`]. 0 is taken for 1.
    pub x86_level: u8,
}

/// Kernel's words for machines (`uname -m`), and the systems that each executes: its own first.
/// Any 32-bit x86 is `i686` to Nix, and `armv8l` is what a 64-bit ARM kernel calls itself to 32-bit
/// programs.
const MACHINES: [(&[&str], &[&str]); 18] = [
    (&["aarch64"], &["aarch64-linux"]),
    (&["riscv64"], &["riscv64-linux"]),
    (&["riscv32"], &["riscv32-linux"]),
    (&["x86_64"], &["x86_64-linux", "i686-linux"]),
    (&["i386", "i486", "i586", "i686"], &["i686-linux"]),
    (&["armv7l", "armv8l"], &["armv7l-linux", "armv6l-linux", "armv5tel-linux"]),
    (&["armv6l"], &["armv6l-linux", "armv5tel-linux"]),
    (&["armv5tel", "armv5tejl"], &["armv5tel-linux"]),
    (&["ppc64le"], &["powerpc64le-linux"]),
    (&["ppc64"], &["powerpc64-linux"]),
    (&["ppc"], &["powerpc-linux"]),
    (&["s390x"], &["s390x-linux"]),
    (&["loongarch64"], &["loongarch64-linux"]),
    (&["mips64"], &["mips64-linux"]),
    (&["mips"], &["mips-linux"]),
    (&["aarch64_be"], &["aarch64_be-linux"]),
    (&["m68k"], &["m68k-linux"]),
    (&["sparc64"], &["sparc64-linux"]),
];

/// What a 64-bit ARM CPU executes beside its own system if it runs 32-bit programs.
const ARM32: &[&str] = &["armv7l-linux", "armv6l-linux"];

/// Levels of x86-64 as systems of their own, which Nix adds to `extra-platforms` by itself.
const X86_LEVELS: &[&str] =
    &["x86_64-v1-linux", "x86_64-v2-linux", "x86_64-v3-linux", "x86_64-v4-linux"];

/// The systems that a machine executes without an interpreter, its own first; none if the kernel's
/// word for it is not known.
pub fn native_systems(machine: &str, extras: Extras) -> impl Iterator<Item = &'static str> {
    let own = MACHINES.iter().find(|(words, _)| words.contains(&machine));
    let more = match machine {
        "aarch64" if extras.arm32 => ARM32,
        "x86_64" => &X86_LEVELS[..usize::from(extras.x86_level.clamp(1, 4))],
        _ => &[],
    };
    own.map_or(&[][..], |(_, systems)| *systems).iter().chain(more).copied()
}

/// The `gccarch-` features, by nixpkgs' names for architectures (`lib/systems/architectures.nix`),
/// of code that a machine executes: nixpkgs makes one of `gcc.arch` wherever a platform sets it.
/// nixpkgs has no list of RISC-V architectures; `rv64gc` is GCC's name for what its riscv64 is
/// compiled for, and `common` tells whether every hart has that.
pub fn gccarch_features(
    machine: &str,
    extras: Extras,
    common: &riscv::Common<'_>,
) -> impl Iterator<Item = &'static str> {
    const X86: &[&str] =
        &["gccarch-x86-64", "gccarch-x86-64-v2", "gccarch-x86-64-v3", "gccarch-x86-64-v4"];
    const ARMV6: &[&str] = &["gccarch-armv6", "gccarch-armv5te"];
    const ARMV7: &[&str] = &["gccarch-armv7-a", "gccarch-armv6", "gccarch-armv5te"];
    let (own, more): (&[&str], &[&str]) = match machine {
        "aarch64" if extras.arm32 => (&["gccarch-armv8-a"], &ARMV7[..2]),
        "aarch64" => (&["gccarch-armv8-a"], &[]),
        "armv7l" | "armv8l" => (ARMV7, &[]),
        "armv6l" => (ARMV6, &[]),
        "x86_64" => (&X86[..usize::from(extras.x86_level.clamp(1, 4))], &[]),
        "riscv64" if common.is_rv64gc() => (&["gccarch-rv64gc"], &[]),
        _ => (&[], &[]),
    };
    own.iter().chain(more).copied()
}

/// Flags of `/proc/cpuinfo` that each level of x86-64 adds to the one below (System V ABI for
/// x86-64, section 3.1.1), in the kernel's spelling.
const LEVEL_FLAGS: [&[&str]; 3] = [
    &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"],
    &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"],
    &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
];

/// The x86-64 microarchitecture level that every CPU of `/proc/cpuinfo` has, 1 to 4.
#[must_use]
pub fn x86_level(cpuinfo: &[u8]) -> u8 {
    let has = |wanted: &&str| {
        let mut cpus = values(cpuinfo, "flags").peekable();
        cpus.peek().is_some()
            && cpus.all(|flags| flags.split_ascii_whitespace().any(|flag| flag == *wanted))
    };
    LEVEL_FLAGS.iter().take_while(|flags| flags.iter().all(has)).fold(1, |level, _| level + 1)
}

/// Whether a list of CPUs, as in `/sys/devices/system/cpu/aarch32_el0`, has any. The kernel has the
/// file where only some CPUs run 32-bit programs
/// (`Documentation/ABI/testing/sysfs-devices-system-cpu`).
#[must_use]
pub fn any_cpu(list: &[u8]) -> bool {
    list.trim_ascii().first().is_some_and(u8::is_ascii_digit)
}

/// The values of a key of `/proc/cpuinfo`, in order. A line that is no text is passed over.
fn values<'a>(cpuinfo: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> {
    pairs(cpuinfo).filter(move |(name, _)| *name == key).map(|(_, value)| value)
}

/// Lines of `/proc/cpuinfo` as key and value.
fn pairs(cpuinfo: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let lines = cpuinfo.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| core::str::from_utf8(line).ok()?.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
}

/// Every system that a machine can be found to execute.
pub fn systems() -> impl Iterator<Item = &'static str> {
    let own = MACHINES.iter().flat_map(|(_, systems)| systems.iter());
    own.chain(X86_LEVELS).copied()
}

#[cfg(test)]
mod tests;
