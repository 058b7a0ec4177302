//! Changes the files of real machines at random and looks at what the parsers make of them:
//!
//! ```text
//! cargo run --release -p board-support --example fuzz -- binfmt 600 [SEED]
//! ```
//!
//! No bytes may make a parser panic or invent a system, a feature or a board. The same seed makes
//! the same files; a file that breaks a rule is written to the temporary folder. What a file becomes
//! is the next one's start now and then, so that changes add up.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a tool for developers ends with a message, and measures real time"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use board_support::{
    Compatible, binfmt, boards,
    cpu::{self, Extras, riscv::Common},
    device_tree, vitals,
};

/// A parser: its name, which files it is fed, and what must hold of what it finds.
struct Target {
    name: &'static str,
    feeds_on: fn(&Path) -> bool,
    /// Looks at a file; the number tells what was found apart, roughly.
    check: fn(&[u8]) -> usize,
}

const TARGETS: [Target; 4] = [
    Target { name: "device-tree", feeds_on: |path| below(path, "device-tree"), check: device_tree },
    Target { name: "binfmt", feeds_on: |path| below(path, "binfmt_misc"), check: binfmt },
    Target { name: "cpu", feeds_on: |path| path.ends_with("cpuinfo"), check: cpu },
    Target { name: "vitals", feeds_on: |path| below(path, "thermal"), check: vitals },
];

fn below(path: &Path, folder: &str) -> bool {
    path.components().any(|part| part.as_os_str() == folder)
}

fn device_tree(file: &[u8]) -> usize {
    let names: Vec<_> = device_tree::compatible(file).collect();
    assert!(names.iter().all(|name| Compatible::new(name.as_str()).is_ok()), "a name that is none");
    let board = boards::find(names.iter().map(Compatible::as_str));
    if let Some(board) = board {
        let named = names.iter().any(|name| board.compatible.contains(&name.as_str()));
        assert!(named && boards::BOARDS.contains(board), "an invented board");
    }
    let model = device_tree::model(file);
    assert!(model.is_none_or(|model| model.bytes().all(|c| (b' '..=b'~').contains(&c))), "a model");
    names.len() * 4 + usize::from(board.is_some()) * 2 + usize::from(model.is_some())
}

fn binfmt(file: &[u8]) -> usize {
    if let Ok(text) = std::str::from_utf8(file) {
        let status = binfmt::status(text);
        assert!(status.is_none() || text.contains("abled"), "an invented status");
    }
    let Some(entry) = binfmt::Entry::parse(file) else { return 0 };
    let systems = entry.systems();
    let known = |system: &&str| binfmt::systems().any(|known| known == *system);
    assert!(systems.iter().all(known), "an invented system");
    let text = String::from_utf8_lossy(file).to_lowercase();
    assert!(systems.is_empty() || text.contains("7f454c46"), "a system without ELF's magic");
    assert!(!entry.interpreter.is_empty(), "no interpreter");
    1 + systems.len() * 8 + systems.first().map_or(0, |system| system.len())
}

fn cpu(file: &[u8]) -> usize {
    let common = Common::of(file);
    let text = String::from_utf8_lossy(file);
    let extensions = ["c", "v", "zicntr", "sscofpmf", "xtheadc", "zvl128b"];
    let has = extensions.map(|name| common.has(name));
    let invented = |(name, has): (&&str, &bool)| *has && !text.contains(*name);
    assert!(!extensions.iter().zip(&has).any(invented), "an invented extension");
    let x86_level = cpu::x86_level(file);
    assert!((1..=4).contains(&x86_level), "a level that is none");
    let extras = Extras { arm32: cpu::any_cpu(file), x86_level };
    assert!(!extras.arm32 || file.iter().any(u8::is_ascii_digit), "invented CPUs");
    let known = |system: &str| cpu::systems().any(|known| known == system);
    for machine in ["x86_64", "riscv64", "aarch64", text.lines().next().unwrap_or_default()] {
        assert!(cpu::native_systems(machine, extras).all(known), "an invented system");
        let features = cpu::gccarch_features(machine, extras, &common);
        for feature in features.filter(|feature| *feature == "gccarch-rv64gc") {
            assert!(text.contains("rv64"), "an invented {feature}");
        }
    }
    has.iter().fold(usize::from(x86_level), |sum, has| sum * 2 + usize::from(*has))
}

fn vitals(file: &[u8]) -> usize {
    let degrees = vitals::temperature_mc(file);
    assert!(degrees.is_none_or(|mc| (-60_000..=200_000).contains(&mc)), "impossible heat");
    let last = vitals::last_passive_mc(file.chunks(16).map(|temp| (&b"passive\n"[..], temp)));
    assert!(last.is_none_or(|mc| mc > 0), "a trip point below zero");
    let clock = vitals::clock_mhz(file);
    assert!(clock.is_none_or(|mhz| mhz > 0), "no clock");
    let pressure = vitals::Pressure::parse(file);
    [degrees.is_some(), last.is_some(), clock.is_some(), pressure.is_some()]
        .iter()
        .fold(0, |sum, found| sum * 2 + usize::from(*found))
}

/// xorshift64*: enough to choose by, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }
}

/// What parsers look for, so that changes hit more than by chance.
const WORDS: [&[u8]; 26] = [
    b"enabled\n",
    b"disabled\n",
    b"interpreter ",
    b"offset ",
    b"magic 7f454c46",
    b"mask ffffffff",
    b"0201",
    b"f300",
    b"00",
    b"\n",
    b"\0",
    b"isa\t: ",
    b"hart isa : rv64gc_",
    b"rv32",
    b"_zba",
    b"su",
    b"cpu-vector : 0.7",
    b"flags : ",
    b"some avg10=1.00",
    b"full avg10=",
    b"-",
    b"99999999999",
    b"\xff\xfe",
    b":",
    b"radxa,rock-5b\0",
    b" ",
];

fn change(random: &mut Random, file: &mut Vec<u8>, others: &[Vec<u8>]) {
    const MAX_LEN: usize = 8 << 10;
    for _ in 0..=random.below(4) {
        let at = random.below(file.len() + 1);
        let end = (at + random.below(24)).min(file.len());
        match random.below(7) {
            0 => drop(file.drain(at..end)),
            1 => drop(file.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            2 => drop(file.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len());
                drop(file.splice(at.., other[from..].iter().copied()));
            }
            4 => {
                let piece = file[at..end].to_vec();
                let to = random.below(file.len() + 1);
                drop(file.splice(to..to, piece));
            }
            kind => {
                let byte = u8::try_from(random.below(256)).unwrap_or(0);
                match file.get_mut(at) {
                    Some(place) if kind == 5 => *place ^= 1 << (byte % 8),
                    Some(place) => *place = byte,
                    None => file.push(byte),
                }
            }
        }
        file.truncate(MAX_LEN);
    }
}

/// Every file below a folder that a target feeds on.
fn corpus(folder: &Path, wanted: fn(&Path) -> bool, files: &mut Vec<Vec<u8>>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the data are beside this program's source")
        .map(|entry| entry.expect("the data can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            corpus(&path, wanted, files);
        } else if wanted(&path) {
            files.push(fs::read(&path).expect("the data can be read"));
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let target = args.first().and_then(|name| TARGETS.iter().find(|target| target.name == name));
    let seconds = args.get(1).and_then(|text| text.parse().ok());
    let (Some(target), Some(seconds)) = (target, seconds) else {
        let names = TARGETS.map(|target| target.name).join("|");
        eprintln!("usage: fuzz {names} SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let seed = args.get(2).and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut originals = Vec::new();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    corpus(&data, target.feeds_on, &mut originals);
    let (mut random, mut pool) = (Random(seed | 1), originals.clone());
    let (mut tried, mut found) = (0u64, BTreeSet::new());
    let end = Instant::now() + Duration::from_secs(seconds);
    while tried % 1024 != 0 || Instant::now() < end {
        let at = random.below(pool.len());
        let mut file = pool[at].clone();
        change(&mut random, &mut file, &originals);
        tried += 1;
        let Ok(kind) = catch_unwind(|| (target.check)(&file)) else {
            let path = env::temp_dir().join(format!("fuzz-{}-{seed}-{tried}", target.name));
            fs::write(&path, &file).expect("the temporary folder can be written");
            panic!("try {tried} of seed {seed} broke a rule: {}", path.display());
        };
        // What is found for the first time is worth going on from.
        if found.insert(kind) {
            pool.push(file);
        }
    }
    println!(
        "{}: {tried} files in {seconds} s from seed {seed}: no rule broken; {} outcomes, from {} files",
        target.name,
        found.len(),
        originals.len()
    );
    ExitCode::SUCCESS
}
