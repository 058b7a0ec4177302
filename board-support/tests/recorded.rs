//! What is found in the files of real machines; `data/README.md` says where they are from.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use board_support::{
    Compatible,
    binfmt::{self, Entry},
    boards,
    cpu::{
        self, Extras,
        hwprobe::{Pair, QUESTIONS},
        riscv::Common,
    },
    device_tree,
    vitals::{last_passive_mc, temperature_mc},
};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn read(path: &str) -> Vec<u8> {
    fs::read(data(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn boards_are_known_by_their_device_trees() {
    for (folder, board) in [
        ("raspberry-pi-4b", Some("raspberry-pi-4b")),
        ("raspberry-pi-5", Some("raspberry-pi-5")),
        ("rock-5b", Some("rock-5b")),
        ("nanopi-r5s", Some("nanopi-r5s")),
        ("rockpro64", Some("rockpro64")),
        ("orange-pi-5-plus", Some("orange-pi-5-plus")),
        ("orange-pi-zero-3", Some("orange-pi-zero-3")),
        ("visionfive-2", Some("visionfive-2")),
        ("visionfive-2-vendor", Some("visionfive-2")),
        ("star64", Some("star64")),
        ("lichee-pi-4a", Some("lichee-pi-4a")),
        ("banana-pi-f3", Some("banana-pi-f3")),
        ("pioneer", Some("pioneer")),
        ("hifive-premier-p550", Some("hifive-premier-p550")),
        // Of the same SoC as three others, and none of them.
        ("mars", None),
    ] {
        let property = read(&format!("{folder}/proc/device-tree/compatible"));
        let list: Vec<_> = device_tree::compatible(&property).collect();
        assert!(list.len() >= 2, "{folder}: {list:?}");
        let found = boards::find(list.iter().map(Compatible::as_str));
        assert_eq!(found.map(|found| found.id), board, "{folder}");
        if let Some(soc) = found.and_then(|found| found.soc) {
            assert!(list.iter().any(|name| name.as_str() == soc), "{folder}: {list:?}");
        }
        let model = read(&format!("{folder}/proc/device-tree/model"));
        assert!(device_tree::model(&model).is_some(), "{folder}");
    }
}

#[test]
fn harts_have_what_their_kernels_say() {
    for (folder, rv64gc, has, lacks) in [
        ("visionfive-2-vendor", true, &["c"][..], &["zba", "v"][..]),
        ("visionfive-2", true, &["zba", "zbb", "zicsr"], &["zbs", "v"]),
        ("mars", true, &["zca", "zbb"], &["v"]),
        ("lichee-pi-4a", true, &["d", "c"], &["s", "u"]),
        ("banana-pi-f3", true, &["v", "zvfh", "svpbmt"], &["h"]),
        ("hifive-premier-p550", true, &["h", "zba", "sscofpmf"], &["v", "zbs"]),
        ("litex-vexriscv", false, &["m", "a"], &["f", "c"]),
        ("octeon-ii", false, &[], &["m", "i"]),
        ("rock-5b", false, &[], &["i"]),
        ("zen-x86_64", false, &[], &["i"]),
    ] {
        let cpuinfo = read(&format!("{folder}/proc/cpuinfo"));
        let common = Common::of(&cpuinfo);
        assert_eq!(common.is_rv64gc(), rv64gc, "{folder}");
        assert!(has.iter().all(|name| common.has(name)), "{folder}");
        assert!(!lacks.iter().any(|name| common.has(name)), "{folder}");
        let features: Vec<_> =
            cpu::gccarch_features("riscv64", Extras::default(), &common).collect();
        assert_eq!(features.contains(&"gccarch-rv64gc"), rv64gc, "{folder}");
    }
}

/// The answers of a kernel whose base is I, M and A.
fn answers(extensions: u64) -> [Pair; 2] {
    let [base, others] = QUESTIONS;
    [Pair { value: 1, ..base }, Pair { value: extensions, ..others }]
}

/// What qemu-riscv64 10.0.13 answers to both questions for some of its CPUs (option `-cpu`).
#[test]
fn harts_have_what_their_kernel_answers() {
    for (cpu, extensions, names) in [
        ("sifive-u54", 0x3, "rv64gc"),
        ("thead-c906", 0x1800_0003, "rv64gc zfh zfhmin"),
        ("veyron-v1", 0xfb, "rv64gc zba zbb zbs zicboz zbc"),
        ("rva22s64", 0x1001_007b, "rv64gc zba zbb zbs zicboz zkt zfhmin"),
        ("rv64,v=true", 0x1_2000_00ff, "rv64gc v zba zbb zbs zicboz zbc zihintntl zfa"),
        (
            "rva23s64",
            0x9_b40b_007f,
            "rv64gc v zba zbb zbs zicboz zkt zvbb zvkb zvkt zfhmin zihintntl zvfhmin zfa zicond",
        ),
    ] {
        let pairs = answers(extensions);
        let common = Common::default().probed(&pairs);
        assert_eq!(common.names().collect::<Vec<_>>().join(" "), names, "{cpu}");
        assert!(common.has("d") && !common.has("h"), "{cpu}");
    }
}

/// What Linux 7.2 on QEMU's `virt` machine answers and lists.
#[test]
fn a_kernel_answers_what_it_lists() {
    for (extensions, isa) in [
        (
            0x30c_2810_0000_00bb,
            "rv64imafdch_zicntr_zicsr_zifencei_zihintpause_zihpm_zaamo_zalrsc_zca_zcd_zba_zbb_zbc_zbs_sstc",
        ),
        (0x30c_2800_0000_0003, "rv64imafdc_zicntr_zicsr_zifencei_zihpm_zaamo_zalrsc_zca_zcd"),
    ] {
        let cpuinfo = format!("isa\t\t: {isa}\nhart isa\t: {isa}\n");
        let listed = Common::of(cpuinfo.as_bytes());
        let pairs = answers(extensions);
        let (listed, answered) = (listed.names(), listed.probed(&pairs).names());
        assert_eq!(answered.collect::<Vec<_>>(), listed.collect::<Vec<_>>(), "{isa}");
    }
}

#[test]
fn the_level_of_an_x86_cpu_is_found() {
    assert_eq!(cpu::x86_level(&read("zen-x86_64/proc/cpuinfo")), 4);
    assert_eq!(cpu::x86_level(&read("raspberry-pi-5/proc/cpuinfo")), 1);
}

/// What a machine's entries run: their names and the first of their systems.
fn emulated(machine: &str) -> Vec<(String, &'static str)> {
    let folder = format!("{machine}/proc/sys/fs/binfmt_misc");
    let mut found = Vec::new();
    for entry in fs::read_dir(data(&folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = read(&format!("{folder}/{name}"));
        if name == "status" {
            assert_eq!(binfmt::status(std::str::from_utf8(&file).unwrap()), Some(true));
            continue;
        }
        let entry = Entry::parse(&file).unwrap();
        assert!(entry.enabled && entry.interpreter.starts_with('/'), "{machine}/{name}");
        found.extend(entry.systems().first().map(|system| (name, *system)));
    }
    found.sort_unstable();
    found
}

#[test]
fn emulators_are_found_for_what_they_run() {
    let pairs = |machine| {
        let found = emulated(machine).into_iter();
        found.map(|(name, system)| format!("{name}: {system}")).collect::<Vec<_>>()
    };
    assert_eq!(
        pairs("debian-x86_64"),
        [
            "qemu-aarch64: aarch64-linux",
            "qemu-arm: armv7l-linux",
            "qemu-loongarch64: loongarch64-linux",
            "qemu-mips64el: mips64el-linux",
            "qemu-mipsel: mipsel-linux",
            "qemu-ppc64: powerpc64-linux",
            "qemu-ppc64le: powerpc64le-linux",
            "qemu-riscv32: riscv32-linux",
            "qemu-riscv64: riscv64-linux",
            "qemu-s390x: s390x-linux",
        ]
    );
    assert_eq!(
        pairs("debian-arm64"),
        [
            "qemu-i386: i686-linux",
            "qemu-riscv64: riscv64-linux",
            "qemu-sparc64: sparc64-linux",
            "qemu-x86_64: x86_64-linux",
        ]
    );
    assert_eq!(pairs("docker-x86_64"), ["aarch64: aarch64-linux", "qemu-arm: armv7l-linux"]);
    assert_eq!(pairs("raspberry-pi-4b"), ["qemu-x86_64: x86_64-linux"]);
}

#[test]
fn zones_slow_down_where_their_sources_say() {
    let last = |machine: &str, zone: u32| {
        let path =
            |file: String| data(&format!("{machine}/sys/class/thermal/thermal_zone{zone}/{file}"));
        let read = |index: usize, what| fs::read(path(format!("trip_point_{index}_{what}"))).ok();
        let trips: Vec<_> =
            (0..).map_while(|index| Some((read(index, "type")?, read(index, "temp")?))).collect();
        assert!(!trips.is_empty(), "{machine}");
        assert!(temperature_mc(&fs::read(path("temp".to_owned())).unwrap()).is_some(), "{machine}");
        last_passive_mc(trips.iter().map(|(kind, temp)| (kind.as_slice(), temp.as_slice())))
    };
    assert_eq!(last("nanopi-r5s", 0), Some(75_000));
    assert_eq!(last("visionfive-2", 0), Some(85_000));
    assert_eq!(last("laptop-x86_64", 2), None);
}
