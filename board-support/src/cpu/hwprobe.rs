//! What the system call riscv_hwprobe(2) tells of all harts at once
//! (`Documentation/arch/riscv/hwprobe.rst`, `arch/riscv/include/uapi/asm/hwprobe.h`).
//!
//! It says what programs may use, which is less than what harts have: a kernel without support for
//! vectors says that there are none, and so it does of those from before the standard.

/// A question and its answer, as the kernel's `struct riscv_hwprobe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// What is asked. A kernel that does not know it makes it -1.
    pub key: i64,
    /// The answer.
    pub value: u64,
}

const BASE_BEHAVIOR: i64 = 3;
/// Of [`BASE_BEHAVIOR`]: I, M and A.
const IMA: u64 = 1;
const IMA_EXT_0: i64 = 4;

/// What is to be asked.
pub const QUESTIONS: [Pair; 2] =
    [Pair { key: BASE_BEHAVIOR, value: 0 }, Pair { key: IMA_EXT_0, value: 0 }];

/// F and D are one bit.
const FD: &str = "fd";

/// The bits of [`IMA_EXT_0`], from the lowest on. Those above mean nothing here.
const EXTENSIONS: [&str; 64] = [
    FD,
    "c",
    "v",
    "zba",
    "zbb",
    "zbs",
    "zicboz",
    "zbc",
    "zbkb",
    "zbkc",
    "zbkx",
    "zknd",
    "zkne",
    "zknh",
    "zksed",
    "zksh",
    "zkt",
    "zvbb",
    "zvbc",
    "zvkb",
    "zvkg",
    "zvkned",
    "zvknha",
    "zvknhb",
    "zvksed",
    "zvksh",
    "zvkt",
    "zfh",
    "zfhmin",
    "zihintntl",
    "zvfh",
    "zvfhmin",
    "zfa",
    "ztso",
    "zacas",
    "zicond",
    "zihintpause",
    "zve32x",
    "zve32f",
    "zve64x",
    "zve64f",
    "zve64d",
    "zimop",
    "zca",
    "zcb",
    "zcd",
    "zcf",
    "zcmop",
    "zawrs",
    "supm",
    "zicntr",
    "zihpm",
    "zfbfmin",
    "zvfbfmin",
    "zvfbfwma",
    "zicbom",
    "zaamo",
    "zalrsc",
    "zabha",
    "zalasr",
    "zicbop",
    "zilsd",
    "zclsd",
    "zicfilp",
];

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Whether the base is I, M and A; the extensions mean nothing without.
    ima: bool,
    extensions: u64,
}

impl Answers {
    /// Reads the answers to [`QUESTIONS`]; none if the kernel does not know all of them.
    #[must_use]
    pub fn of(pairs: &[Pair]) -> Option<Self> {
        let answer = |key| pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value);
        let ima = answer(BASE_BEHAVIOR)? & IMA != 0;
        Some(Self { ima, extensions: answer(IMA_EXT_0)? })
    }

    /// Whether programs may use an extension on every hart. Of one that the kernel has no bit for,
    /// nothing is known.
    #[must_use]
    pub fn has(self, extension: &str) -> bool {
        let name = match extension {
            "i" | "m" | "a" => return self.ima,
            "f" | "d" => FD,
            FD => return false,
            other => other,
        };
        let bit = EXTENSIONS.iter().position(|known| *known == name);
        self.ima && bit.is_some_and(|bit| self.extensions >> bit & 1 != 0)
    }
}

/// Parts of `rv64gc` among the extensions.
const IN_RV64GC: [&str; 6] = [FD, "c", "zca", "zcd", "zaamo", "zalrsc"];

/// The extensions that a kernel can be asked for, without those of `rv64gc`.
pub(super) fn beyond_rv64gc() -> impl Iterator<Item = &'static str> {
    EXTENSIONS.into_iter().filter(|name| !IN_RV64GC.contains(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answers(base: u64, extensions: u64) -> Answers {
        let pairs = [(BASE_BEHAVIOR, base), (IMA_EXT_0, extensions)];
        Answers::of(&pairs.map(|(key, value)| Pair { key, value })).unwrap()
    }

    #[test]
    fn each_bit_is_its_extension_of_the_kernels_header() {
        for (bit, name) in [
            (0, "d"),
            (1, "c"),
            (2, "v"),
            (3, "zba"),
            (5, "zbs"),
            (6, "zicboz"),
            (16, "zkt"),
            (17, "zvbb"),
            (26, "zvkt"),
            (27, "zfh"),
            (31, "zvfhmin"),
            (32, "zfa"),
            (35, "zicond"),
            (41, "zve64d"),
            (44, "zcb"),
            (48, "zawrs"),
            (49, "supm"),
            (55, "zicbom"),
            (58, "zabha"),
            (60, "zicbop"),
            (63, "zicfilp"),
        ] {
            assert!(answers(IMA, 1 << bit).has(name), "{name}");
            assert!(!answers(IMA, !(1 << bit)).has(name), "{name}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_know_a_question_tells_nothing() {
        let [base, extensions] = QUESTIONS;
        let unknown = Pair { key: -1, value: 0 };
        assert!(Answers::of(&[base, extensions]).is_some());
        assert_eq!(Answers::of(&[base, unknown]), None);
        assert_eq!(Answers::of(&[unknown, extensions]), None);
        assert_eq!(Answers::of(&[]), None);
    }

    #[test]
    fn without_its_base_no_extension_means_anything() {
        assert!(answers(IMA, 0).has("m") && !answers(IMA, 0).has("c"));
        for name in ["i", "d", "c", "zba"] {
            assert!(!answers(0, u64::MAX).has(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn only_known_names_are_had(extensions: u64, name in "[a-z]{0,6}") {
            let known = EXTENSIONS.contains(&name.as_str()) && name != FD;
            let known = known || ["i", "m", "a", "f", "d"].contains(&name.as_str());
            prop_assert!(known || !answers(IMA, extensions).has(&name));
        }
    }
}
