//! The `machines` lines that stock Nix reads. Pure.
//!
//! One line for each system and set of features that a board really has: Nix offers a derivation on
//! the strength of one line, so a line that united two boards' features would promise what no board
//! keeps. Nix counts the slots of a line by its URI, so each line has a URI of its own: the program
//! it names is a link, named by the line's selector, to roost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use crate::{
    model::{How, NodeView},
    names,
};

/// Nix opens a lock file for each job of a line whenever it tries the line.
const MAX_JOBS: u32 = 200;
/// Resident memory of the process that stock Nix keeps for each build that waits (measured with
/// Nix 2.26: 3.5 MiB).
const HOOK_MIB: u64 = 4;
/// Nix names a lock file after the URI; file names hold 255 bytes.
const MAX_SELECTOR: usize = 40;
/// How the selectors of one board's lines begin. No system does: `only` is no CPU.
const ONLY: &str = "only-";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Name of the link that Nix starts, of `[a-z0-9-]`, at most 40 bytes, the same whenever the
    /// system and the features are the same.
    pub selector: String,
    /// The system.
    pub system: String,
    /// Its features.
    pub features: BTreeSet<String>,
    /// Jobs that Nix may give it at once.
    pub max_jobs: u32,
}

impl Line {
    /// The address of the builder in it: the URI of a store.
    #[must_use]
    pub fn address(&self) -> String {
        format!("ssh-ng://localhost?remote-program={}/{}", names::CONNECT_DIR, self.selector)
    }

    /// Whether Nix offers this line what is for `system` and requires `features`.
    #[must_use]
    pub fn is_for(&self, system: &str, features: &BTreeSet<String>) -> bool {
        self.system == system && features.is_subset(&self.features)
    }

    /// As in Nix's `machines` file.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { system, features, max_jobs, .. } = self;
        let features = match features.len() {
            0 => "-".to_owned(),
            _ => features.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        };
        format!("{} {system} - {max_jobs} 1 {features} - -", self.address())
    }
}

/// Jobs that each of several lines may promise, on a machine of so much memory: an eighth of it
/// may go to waiting builds, and Nix postpones what is beyond.
#[must_use]
pub fn jobs_a_line(mem_mib: u64, lines: usize) -> u32 {
    let fit = mem_mib / 8 / HOOK_MIB / u64::try_from(lines.max(1)).unwrap_or(u64::MAX);
    u32::try_from(fit).unwrap_or(u32::MAX).clamp(8, MAX_JOBS)
}

/// The lines for a fleet, with systems that a board only emulates where `emulates` says that jobs for
/// them may be: a line that no board will ever keep would hold up a build that Nix can refuse at
/// once. `max_jobs` is what each promises; unset, what memory holds.
#[must_use]
pub fn lines(
    boards: &[NodeView],
    emulates: impl Fn(&str) -> bool,
    mem_mib: u64,
    max_jobs: Option<u32>,
) -> Vec<Line> {
    let kinds: BTreeSet<_> = boards.iter().flat_map(|board| kinds(board, &emulates)).collect();
    let max_jobs = promised(max_jobs, mem_mib, kinds.len());
    let mut taken = BTreeMap::<String, usize>::new();
    kinds
        .into_iter()
        .map(|(system, features)| {
            let name = selector(&system, &features);
            let times = taken.entry(name.clone()).or_default();
            *times += 1;
            let selector = if *times > 1 { hashed(&name, &system, &features) } else { name };
            Line { selector, system, features, max_jobs }
        })
        .collect()
}

/// The lines for one board alone, as [`lines`]. Their selectors are [`only`] the board's.
#[must_use]
pub fn lines_of(
    board: &NodeView,
    emulates: impl Fn(&str) -> bool,
    mem_mib: u64,
    max_jobs: Option<u32>,
) -> Vec<Line> {
    let kinds = kinds(board, &emulates);
    let max_jobs = promised(max_jobs, mem_mib, kinds.len());
    let stem = only(&board.id);
    kinds
        .into_iter()
        .zip(1_usize..)
        .map(|((system, features), number)| {
            let selector = format!("{stem}-{number}");
            Line { selector, system, features, max_jobs }
        })
        .collect()
}

/// What the selectors of a board's own lines have before their number.
#[must_use]
pub fn only(id: &str) -> String {
    /// A number has six digits at most: a description is no longer.
    const LONGEST: usize = MAX_SELECTOR - ONLY.len() - "-123456".len();
    let name = tame(id);
    if name.len() <= LONGEST && name == id {
        return format!("{ONLY}{name}");
    }
    let hash = nix_compat::nixbase32::encode(&Sha256::digest(id)[..10]);
    let beginning: String = name.chars().take(LONGEST - 1 - hash.len()).collect();
    format!("{ONLY}{beginning}-{hash}")
}

/// What a selector has before its number if it is one of a board's own lines.
#[must_use]
pub fn stem_of_only(selector: &str) -> Option<&str> {
    let (stem, number) = selector.rsplit_once('-')?;
    let numbered = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    (stem.starts_with(ONLY) && numbered).then_some(stem)
}

/// The systems that a board runs, each with the features that it has there.
fn kinds(
    board: &NodeView,
    emulates: &impl Fn(&str) -> bool,
) -> BTreeSet<(String, BTreeSet<String>)> {
    if board.slots == 0 {
        return BTreeSet::new();
    }
    let native = board.systems.iter().map(|system| (system, How::Native));
    let emulated = board.emulated.iter().filter(|system| emulates(system));
    let all = native.chain(emulated.map(|system| (system, How::Emulated)));
    let features = |how: How| board.features.iter().filter(move |feature| how.has(feature));
    all.map(|(system, how)| (system.clone(), features(how).cloned().collect())).collect()
}

/// Jobs that each line promises: as configured, else as memory allows.
fn promised(max_jobs: Option<u32>, mem_mib: u64, lines: usize) -> u32 {
    max_jobs.unwrap_or_else(|| jobs_a_line(mem_mib, lines)).min(MAX_JOBS)
}

/// The file's text.
#[must_use]
pub fn render(lines: &[Line]) -> String {
    let mut text = String::from("# Written by roost whenever its fleet changes.\n");
    for line in lines {
        let _ = writeln!(text, "{}", line.render());
    }
    text
}

/// A plain line for one board, for Nix without roost.
#[must_use]
pub fn direct(board: &NodeView, address: &str, port: u16, host_key: &str) -> String {
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let features = match board.features.len() {
        0 => "-".to_owned(),
        _ => board.features.iter().map(String::as_str).collect::<Vec<_>>().join(","),
    };
    let port = if port == 22 { String::new() } else { format!(":{port}") };
    format!(
        "ssh-ng://{}@{address}{port} {} - {} 1 {features} - {}",
        names::USER,
        board.systems.join(","),
        board.slots,
        BASE64.encode(host_key.as_bytes()),
    )
}

/// System and features in words, or a hash where they are too long for a file name.
fn selector(system: &str, features: &BTreeSet<String>) -> String {
    let words = std::iter::once(system).chain(features.iter().map(String::as_str));
    let name = words.map(tame).collect::<Vec<_>>().join("-");
    if name.len() <= MAX_SELECTOR { name } else { hashed(&tame(system), system, features) }
}

fn hashed(beginning: &str, system: &str, features: &BTreeSet<String>) -> String {
    let mut hash = Sha256::new();
    hash.update(system);
    for feature in features {
        hash.update([0]);
        hash.update(feature);
    }
    let hash = nix_compat::nixbase32::encode(&hash.finalize()[..5]);
    let beginning: String = beginning.chars().take(MAX_SELECTOR - 1 - hash.len()).collect();
    format!("{beginning}-{hash}")
}

fn tame(word: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.to_ascii_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(system: &str, features: &[&str]) -> NodeView {
        NodeView {
            systems: vec![system.to_owned()],
            features: features.iter().map(|&f| f.to_owned()).collect(),
            slots: 2,
            ..NodeView::default()
        }
    }

    #[test]
    fn boards_alike_share_a_line_and_others_have_their_own() {
        let boards = [
            board("aarch64-linux", &["big-parallel"]),
            board("aarch64-linux", &["big-parallel"]),
            board("aarch64-linux", &["kvm"]),
            board("x86_64-linux", &[]),
        ];
        let lines: Vec<_> =
            lines(&boards, |_| true, 32 << 10, Some(64)).iter().map(Line::render).collect();
        assert_eq!(
            lines,
            [
                "ssh-ng://localhost?remote-program=/run/roost/connect/aarch64-linux-big-parallel \
                 aarch64-linux - 64 1 big-parallel - -",
                "ssh-ng://localhost?remote-program=/run/roost/connect/aarch64-linux-kvm \
                 aarch64-linux - 64 1 kvm - -",
                "ssh-ng://localhost?remote-program=/run/roost/connect/x86-64-linux \
                 x86_64-linux - 64 1 - - -",
            ]
        );
    }

    #[test]
    fn a_long_selector_is_cut_and_told_apart_by_a_hash() {
        let many =
            ["benchmark", "big-parallel", "gccarch-rv64gc", "kvm", "nixos-test", "uid-range"];
        let selector = |features: &[&str]| {
            let lines = lines(&[board("riscv64-linux", features)], |_| true, 1024, None);
            lines[0].selector.clone()
        };
        let (a, b) = (selector(&many), selector(&many[..5]));
        assert_ne!(a, b);
        for name in [&a, &b] {
            assert!(name.len() <= MAX_SELECTOR, "{name}");
            assert!(name.starts_with("riscv64-linux-"), "{name}");
        }
        assert_eq!(a, selector(&many));
    }

    #[test]
    fn selectors_that_look_alike_differ() {
        let boards = [board("aarch64-linux", &["a-b"]), board("aarch64-linux", &["a", "b"])];
        let lines = lines(&boards, |_| true, 1024, None);
        assert_ne!(lines[0].selector, lines[1].selector);
    }

    #[test]
    fn a_boards_own_lines_name_it_and_nobody_else() {
        let of = |id: &str| NodeView { id: id.to_owned(), ..board("aarch64-linux", &["kvm"]) };
        let lines = lines_of(&of("rock5-0a1b"), |_| true, 1024, Some(4));
        let lines: Vec<_> = lines.iter().map(Line::render).collect();
        assert_eq!(
            lines,
            ["ssh-ng://localhost?remote-program=/run/roost/connect/only-rock5-0a1b-1 \
              aarch64-linux - 4 1 kvm - -"]
        );
        let long = "x".repeat(60);
        for id in ["a", "a-1", "only-a", "A", "a_1", &long, &format!("{long}y")] {
            let line = &lines_of(&of(id), |_| true, 1024, None)[0];
            assert!(line.selector.len() <= MAX_SELECTOR, "{}", line.selector);
            assert_eq!(stem_of_only(&line.selector), Some(only(id).as_str()));
        }
        let stems: BTreeSet<_> = ["a", "a-1", "A", "a_1", &long].map(only).into();
        assert_eq!(stems.len(), 5);
        for other in ["aarch64-linux-kvm", "only-a", "only-a-", "only"] {
            assert_eq!(stem_of_only(other), None, "{other}");
        }
    }

    #[test]
    fn a_board_without_slots_has_no_line() {
        let mut idle = board("aarch64-linux", &[]);
        idle.slots = 0;
        assert_eq!(lines(&[idle], |_| true, 1024, None), []);
    }

    #[test]
    fn what_a_board_emulates_has_a_line_only_where_jobs_may_be_emulated() {
        let mut board = board("aarch64-linux", &["big-parallel", "gccarch-armv8-a", "kvm"]);
        board.emulated = vec!["armv7l-linux".to_owned(), "riscv64-linux".to_owned()];
        let lines = lines(&[board], |system| system == "riscv64-linux", 1024, None);
        let systems: Vec<_> = lines.iter().map(|line| line.system.as_str()).collect();
        assert_eq!(systems, ["aarch64-linux", "riscv64-linux"]);
        // Its CPU's features are not those of what it emulates.
        assert_eq!(lines[1].features, ["big-parallel".to_owned()].into());
    }

    #[test]
    fn jobs_a_line_follow_memory() {
        assert_eq!(jobs_a_line(512, 1), 16);
        assert_eq!(jobs_a_line(16 << 10, 1), 200);
        assert_eq!(jobs_a_line(1 << 10, 4), 8);
    }

    #[test]
    fn a_direct_line_names_user_address_and_host_key() {
        let line = direct(&board("riscv64-linux", &[]), "fd00::7", 2222, "ssh-ed25519 AAAA");
        assert_eq!(
            line,
            "ssh-ng://roost@[fd00::7]:2222 riscv64-linux - 2 1 - - c3NoLWVkMjU1MTkgQUFBQQ=="
        );
    }
}
