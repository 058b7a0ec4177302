//! What Nix tells its build hook, as recorded and however it comes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use nix_compat::nix_hook::{Answer, Answers, Heard, Listener, Said, Try, accept};
use proptest::{collection::vec, prelude::*};

/// What the Nix of each release said: of one derivation that was declined, and one that was accepted.
fn recordings() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let releases = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let recorded: Vec<_> =
        releases.filter_map(|release| fs::read(release.join("tries.hook")).ok()).collect();
    assert_eq!(recorded.len(), 2);
    recorded
}

/// What is heard when this has come.
fn feed(listener: &mut Listener, piece: &[u8]) -> Vec<Heard> {
    listener.feed(piece);
    let next = || Some(listener.hear()).filter(|heard| *heard != Heard::Nothing);
    std::iter::from_fn(next).collect()
}

/// What is heard of these pieces, and what is left.
fn hear<'a>(
    listener: &mut Listener,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Heard>, Vec<u8>) {
    let heard = pieces.into_iter().flat_map(|piece| feed(listener, piece)).collect();
    (heard, listener.rest())
}

fn bytes(heard: &Heard) -> &[u8] {
    match heard {
        Heard::Setting(bytes) | Heard::Other(bytes) | Heard::Try(Try { bytes, .. }) => bytes,
        Heard::Nothing => &[],
    }
}

fn tries(heard: &[Heard]) -> Vec<&Try> {
    let tries = heard.iter().filter_map(|heard| match heard {
        Heard::Try(asked) => Some(asked),
        _ => None,
    });
    tries.collect()
}

fn word(text: &str) -> Vec<u8> {
    let mut bytes = u64::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn number(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A setting's message, and the end of the settings.
fn settings(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(name, value)| [number(1), word(name), word(value)].concat());
    [pairs.collect::<Vec<_>>().concat(), number(0)].concat()
}

fn a_try(system: &str, features: &[&str]) -> Vec<u8> {
    let features: Vec<u8> = features.iter().flat_map(|feature| word(feature)).collect();
    let count = number(u64::try_from(features.len() / 16).unwrap());
    [word("try"), number(1), word(system), word("/nix/store/a.drv"), count, features].concat()
}

#[test]
fn two_tries_are_heard_and_what_follows_the_second_is_none() {
    for recording in recordings() {
        let mut listener = Listener::default();
        let (heard, rest) = hear(&mut listener, [&recording[..]]);
        let asked = tries(&heard);
        let shown = |it: &Try| (it.willing, it.system.clone(), it.features.clone());
        let system = || "x86_64-linux".to_owned();
        let features = BTreeSet::from(["big-parallel".to_owned()]);
        assert_eq!(asked.len(), 2);
        assert_eq!(shown(asked[0]), (true, system(), BTreeSet::new()));
        assert_eq!(shown(asked[1]), (true, system(), features));
        assert!(asked[0].drv_path.starts_with("/nix/store/"), "{}", asked[0].drv_path);
        assert!(asked[1].drv_path.ends_with("-top.drv"), "{}", asked[1].drv_path);
        assert!(matches!(heard.last(), Some(Heard::Other(_))));
        assert_eq!(heard.iter().flat_map(bytes).copied().collect::<Vec<_>>(), recording);
        assert_eq!(rest, b"");
        assert!(asked.iter().all(|it| listener.builds_itself(it)));
        assert!(listener.builders().starts_with("ssh-ng://localhost?"), "{}", listener.builders());
    }
}

#[test]
fn nix_builds_itself_what_its_settings_allow() {
    let told = settings(&[
        ("builders", "@/run/machines"),
        ("extra-platforms", "i686-linux x86_64-v1-linux"),
        ("max-jobs", "8"),
        ("system", "x86_64-linux"),
        ("system-features", "benchmark kvm"),
    ]);
    let mut listener = Listener::default();
    hear(&mut listener, [&told[..]]);
    assert_eq!((listener.builders(), listener.max_jobs()), ("@/run/machines", 8));
    for (system, features, can) in [
        ("x86_64-linux", &["kvm"][..], true),
        ("i686-linux", &[], true),
        ("riscv64-linux", &[], false),
        ("builtin", &[], false),
        ("x86_64-linux", &["big-parallel", "kvm"], false),
    ] {
        let features = features.iter().map(|&word| word.to_owned()).collect();
        let (system, drv_path) = (system.to_owned(), String::new());
        let asked = Try { willing: true, system, drv_path, features, bytes: Vec::new() };
        assert_eq!(listener.builds_itself(&asked), can, "{asked:?}");
    }
    let mut never = Listener::default();
    hear(&mut never, [&settings(&[("max-jobs", "0"), ("system", "x")])[..]]);
    let (system, drv_path, features) = ("x".to_owned(), String::new(), BTreeSet::new());
    let asked = Try { willing: false, system, drv_path, features, bytes: Vec::new() };
    assert!(!never.builds_itself(&asked), "it builds nothing by itself");
}

#[test]
fn inputs_that_are_as_many_as_try_is_long_are_no_try() {
    let inputs = [number(3), word("/nix/store/a"), word("/nix/store/b"), word("/nix/store/c")];
    let inputs = inputs.concat();
    let told = [settings(&[]), a_try("x", &[]), inputs.clone()].concat();
    let (heard, rest) = hear(&mut Listener::default(), [&told[..]]);
    assert_eq!(heard[2..], [Heard::Other(inputs)]);
    assert_eq!(rest, b"");
}

#[test]
fn nothing_is_looked_at_any_more_after_what_is_not_understood() {
    let odd = [number(3), b"why\0\0\0\0\0".to_vec()].concat();
    let told = [settings(&[]), odd.clone(), a_try("x", &[])].concat();
    let (heard, _) = hear(&mut Listener::default(), [&told[..]]);
    assert_eq!(heard.len(), 2);
    assert_eq!(bytes(&heard[1]), [odd, a_try("x", &[])].concat());
}

#[test]
fn what_is_held_is_bounded() {
    let endless = [word("try"), number(1), word("x"), word("/a"), number(u64::MAX)].concat();
    let long = [number(1), word("name"), number(u64::MAX)].concat();
    for (start, what) in [([settings(&[]), endless].concat(), "try"), (long, "setting")] {
        let mut listener = Listener::default();
        let (mut held, mut most) = (0_usize, 0);
        let pieces = std::iter::once(start).chain(std::iter::repeat_n(word(""), 40_000));
        for piece in pieces {
            held += piece.len();
            held -= feed(&mut listener, &piece).iter().map(|it| bytes(it).len()).sum::<usize>();
            most = most.max(held);
        }
        assert!(most <= (128 << 10) + 64, "{what}: {most} bytes were held");
        assert_eq!(held, 0, "{what}");
    }
}

proptest! {
    #[test]
    fn it_is_the_same_in_whatever_pieces_it_comes(size in 1_usize..700) {
        for recording in recordings() {
            let whole = hear(&mut Listener::default(), [&recording[..]]);
            let pieces = hear(&mut Listener::default(), recording.chunks(size));
            let last = |heard: &[Heard]| heard.iter().filter(|it| matches!(it, Heard::Other(_)))
                .flat_map(bytes).copied().collect::<Vec<_>>();
            prop_assert_eq!(tries(&whole.0), tries(&pieces.0));
            let ends = (last(&whole.0), [last(&pieces.0), pieces.1].concat());
            prop_assert_eq!(ends.0, ends.1);
        }
    }

    #[test]
    fn no_byte_is_lost_or_made_up(told in vec(any::<u8>(), 0..400), size in 1_usize..50, start in 0..3) {
        let start = match start {
            0 => Vec::new(),
            1 => settings(&[("system", "x")]),
            _ => [settings(&[]), word("try")].concat(),
        };
        let told = [start, told].concat();
        let (heard, rest) = hear(&mut Listener::default(), told.chunks(size));
        let again = heard.iter().flat_map(bytes).copied().chain(rest).collect::<Vec<_>>();
        prop_assert_eq!(again, told);
    }
}

/// All that a hook says for the log, and its answers, when it comes in parts of this size.
fn said(bytes: &[u8], part: usize) -> (Vec<u8>, Vec<Answer>) {
    let mut answers = Answers::default();
    let (mut log, mut given) = (Vec::new(), Vec::new());
    for part in bytes.chunks(part) {
        answers.feed(part);
        loop {
            match answers.hear() {
                Said::Nothing => break,
                Said::Other(bytes) => log.extend(bytes),
                Said::Answer(answer) => given.push(answer),
            }
        }
    }
    (log, given)
}

#[test]
fn a_hooks_answer_is_told_from_what_it_says_for_the_log_however_it_comes() {
    let accepts =
        [&b"@nix {}\n"[..], &accept("ssh-ng://there"), b"@nix 2\n# accept\nrest"].concat();
    for part in 1..accepts.len() {
        let (log, given) = said(&accepts, part);
        assert_eq!(log, b"@nix {}\n@nix 2\n# accept\nrest", "after the answer all is for the log");
        assert_eq!(given, [Answer::Accepts]);
        let (log, given) = said(b"warning\n# postpone\n# decline\n", part);
        assert_eq!(log, b"warning\n");
        assert_eq!(given, [Answer::Postpones, Answer::Declines("decline".to_owned())]);
    }
}

#[test]
fn a_line_of_a_hook_without_an_end_is_not_held_for_ever() {
    let endless = vec![b'#'; 3 << 20];
    let (log, given) = said(&endless, 4096);
    assert!(log.len() > 2 << 20 && given.is_empty());
}
