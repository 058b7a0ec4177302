use proptest::prelude::*;

use super::{
    hwprobe::{Pair, QUESTIONS},
    riscv::{Common, Isa},
    *,
};

fn native(machine: &str, arm32: bool, x86_level: u8) -> Vec<&'static str> {
    native_systems(machine, Extras { arm32, x86_level }).collect()
}

#[test]
fn systems_are_named_as_nix_does() {
    for (machine, own) in [
        ("aarch64", "aarch64-linux"),
        ("riscv64", "riscv64-linux"),
        ("x86_64", "x86_64-linux"),
        ("i586", "i686-linux"),
        ("armv7l", "armv7l-linux"),
        ("armv8l", "armv7l-linux"),
        ("ppc64le", "powerpc64le-linux"),
    ] {
        assert_eq!(native(machine, false, 0)[0], own);
    }
    assert!(native("pdp11", true, 4).is_empty());
}

#[test]
fn what_a_cpu_executes_beside_its_own_depends_on_it() {
    assert_eq!(native("aarch64", false, 0), ["aarch64-linux"]);
    assert_eq!(native("aarch64", true, 0), ["aarch64-linux", "armv7l-linux", "armv6l-linux"]);
    assert_eq!(native("x86_64", true, 0), ["x86_64-linux", "i686-linux", "x86_64-v1-linux"]);
    assert_eq!(native("x86_64", false, 3).last(), Some(&"x86_64-v3-linux"));
    assert_eq!(native("x86_64", false, 9).len(), 6);
    assert_eq!(native("riscv64", true, 4), ["riscv64-linux"]);
}

#[test]
fn gccarch_features_follow_the_cpu() {
    let features = |machine, arm32, x86_level, cpuinfo: &'static str| {
        let extras = Extras { arm32, x86_level };
        gccarch_features(machine, extras, &Common::of(cpuinfo.as_bytes())).collect::<Vec<_>>()
    };
    assert_eq!(features("aarch64", false, 0, ""), ["gccarch-armv8-a"]);
    assert_eq!(
        features("aarch64", true, 0, ""),
        ["gccarch-armv8-a", "gccarch-armv7-a", "gccarch-armv6"]
    );
    assert_eq!(features("x86_64", false, 2, ""), ["gccarch-x86-64", "gccarch-x86-64-v2"]);
    assert_eq!(features("riscv64", false, 0, "isa : rv64imafdc\n"), ["gccarch-rv64gc"]);
    assert!(features("riscv64", false, 0, "isa : rv64imafdc\nisa : rv64imac\n").is_empty());
    assert!(features("riscv64", false, 0, "").is_empty());
}

#[test]
fn the_x86_level_is_that_of_every_cpu() {
    let v2 = "flags\t: fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3\n";
    let v3 = v2.replace(" fpu", " fpu avx avx2 bmi1 bmi2 f16c fma abm movbe xsave");
    assert_eq!(x86_level(v2.as_bytes()), 2);
    assert_eq!(x86_level(v3.as_bytes()), 3);
    assert_eq!(x86_level(format!("{v3}\n{v2}").as_bytes()), 2);
    assert_eq!(x86_level(b"flags : fpu sse4_1\n"), 1);
    assert_eq!(x86_level(b""), 1);
}

#[test]
fn lists_of_cpus_are_empty_or_not() {
    assert!(any_cpu(b"4-7\n") && any_cpu(b"0"));
    assert!(!any_cpu(b"\n") && !any_cpu(b"") && !any_cpu(b"none\n"));
}

fn written(name: &str) -> Vec<&str> {
    Isa::parse(name).unwrap().written().collect()
}

#[test]
fn names_of_instruction_sets_are_taken_apart() {
    assert_eq!(written("rv64imafdc"), ["i", "m", "a", "f", "d", "c"]);
    assert_eq!(written("rv64gc_zba_sscofpmf"), ["g", "c", "zba", "sscofpmf"]);
    assert_eq!(written("rv64imac_zve32x_zvl128b"), ["i", "m", "a", "c", "zve32x", "zvl128b"]);
    // Old firmware lists the privilege modes, too.
    assert_eq!(written("rv64imafdcvsu"), ["i", "m", "a", "f", "d", "c", "v"]);
    assert_eq!(written("rv64imafdcxtheadc_zfh"), ["i", "m", "a", "f", "d", "c", "xtheadc", "zfh"]);
    for bad in [
        "",
        "rv64",
        "rv128i",
        "RV64I",
        "rv64m",
        "rv64i zba",
        "rv64i2p1_m2p0",
        "mips64r2",
        "rv64\u{e9}",
    ] {
        assert_eq!(Isa::parse(bad), None, "{bad}");
    }
}

#[test]
fn some_names_stand_for_others() {
    let isa = Isa::parse("rv64gcb").unwrap();
    assert!(["i", "d", "c", "zicsr", "zba", "zbs"].iter().all(|name| isa.has(name)));
    assert!(!isa.has("v") && !isa.has("zbc"));
}

#[test]
fn only_what_every_hart_has_counts() {
    let common = Common::of(b"isa : rv64gc_zba_zbb\nhart isa : rv64gc_zba_zbb_zbs\n\nisa : rv64gc_zba_zbb\nhart isa : rv64imafdc_zba\n");
    assert!(common.is_rv64gc() && common.has("zba") && common.has("d") && !common.has("zbb"));
    let odd = Common::of(b"isa : rv64gc\nisa : what\n");
    assert!(!odd.has("i") && !odd.is_rv64gc() && !Common::default().is_rv64gc());
    assert!(!Common::of(b"isa : rv32gc\n").is_rv64gc());
}

/// What a kernel answers to both questions.
fn answers(base: u64, extensions: u64) -> [Pair; 2] {
    let [first, second] = QUESTIONS;
    [Pair { value: base, ..first }, Pair { value: extensions, ..second }]
}

#[test]
fn what_the_kernel_answers_goes_before_what_it_lists() {
    let common = Common::of(b"isa : rv64imafdcv_zba_zbb_zicbom\n");
    let names = |common: Common<'_>| common.names().collect::<Vec<_>>();
    assert_eq!(names(common), ["rv64gc", "v", "zba", "zbb", "zicbom"]);
    let asked = common.probed(&answers(1, 0b1011));
    assert_eq!(names(asked), ["rv64gc", "zba"]);
    assert!(asked.has("m") && asked.has("d") && !asked.has("v") && !asked.has("zicsr"));
    assert!(!common.probed(&answers(1, 0b1010)).is_rv64gc(), "no floating point");
    assert!(names(common.probed(&answers(0, u64::MAX))).is_empty(), "another base");
    for unanswered in [&[][..], &[Pair { key: -1, value: 0 }; 2], &answers(1, 3)[..1]] {
        assert_eq!(common.probed(unanswered), common, "{unanswered:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_words_only(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        name in "rv(32|64)[a-z0-9_]{0,60}",
        pairs in proptest::collection::vec((-1_i64..8, any::<u64>()), 0..4),
    ) {
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| Pair { key, value }).collect();
        for cpuinfo in [bytes.clone(), format!("isa : {name}\nhart isa : {name}").into_bytes()] {
            prop_assert!((1..=4).contains(&x86_level(&cpuinfo)));
            let common = Common::of(&cpuinfo);
            // `b` stands for `zba` and others.
            for (extension, sign) in [("c", 'c'), ("zba", 'b')] {
                let named = String::from_utf8_lossy(&cpuinfo).contains(sign);
                prop_assert!(!common.has(extension) || named);
            }
            prop_assert!(!common.is_rv64gc() || common.has("m"));
            let probed = common.probed(&pairs);
            prop_assert!(!probed.is_rv64gc() || probed.has("m"));
            prop_assert!(probed == common || pairs.len() >= 2);
        }
        prop_assert!(!any_cpu(&bytes) || bytes.iter().any(u8::is_ascii_digit));
    }
}
