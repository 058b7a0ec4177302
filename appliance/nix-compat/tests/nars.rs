//! The NAR scanner against random trees, cut into random pieces, cut short and corrupted, judged by a
//! plain recursive reader.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use std::collections::BTreeMap;

use generate::now;
use nix_compat::{
    nar::{MAX_DEPTH, NarFault, NarScanner, Node, copy_nar},
    wire::{Scan, WireError},
};
use proptest::{collection::vec, prelude::*};

/// A whole NAR at the start of `bytes`, and what comes after it.
fn read_plainly(bytes: &[u8]) -> Option<(Node, &[u8])> {
    let mut rest = bytes;
    word(&mut rest, "nix-archive-1")?;
    let node = read_node(&mut rest)?;
    Some((node, rest))
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let padded = len.checked_next_multiple_of(8)?;
    let (string, after) = after.split_at_checked(padded)?;
    *rest = after;
    string[len..].iter().all(|zero| *zero == 0).then_some(&string[..len])
}

fn word(rest: &mut &[u8], expected: &str) -> Option<()> {
    (string(rest)? == expected.as_bytes()).then_some(())
}

fn read_node(rest: &mut &[u8]) -> Option<Node> {
    word(rest, "(")?;
    word(rest, "type")?;
    let node = match string(rest)? {
        b"regular" => {
            let mut key = string(rest)?;
            let executable = key == b"executable";
            if executable {
                word(rest, "")?;
                key = string(rest)?;
            }
            (key == b"contents").then_some(())?;
            Node::Regular { executable, contents: string(rest)?.to_vec() }
        }
        b"symlink" => {
            word(rest, "target")?;
            let target = string(rest)?.to_vec();
            (!target.is_empty() && !target.contains(&0)).then_some(())?;
            Node::Symlink { target }
        }
        b"directory" => return read_entries(rest).map(Node::Directory),
        _ => return None,
    };
    word(rest, ")")?;
    Some(node)
}

fn read_entries(rest: &mut &[u8]) -> Option<BTreeMap<Vec<u8>, Node>> {
    let mut entries = BTreeMap::<Vec<u8>, Node>::new();
    loop {
        match string(rest)? {
            b")" => return Some(entries),
            b"entry" => {}
            _ => return None,
        }
        word(rest, "(")?;
        word(rest, "name")?;
        let name = string(rest)?.to_vec();
        let is_name = !name.is_empty() && name != b"." && name != b"..";
        let in_order = entries.last_key_value().is_none_or(|(last, _)| last < &name);
        let is_sound = name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0);
        (is_name && in_order && is_sound).then_some(())?;
        word(rest, "node")?;
        entries.insert(name, read_node(rest)?);
        word(rest, ")")?;
    }
}

/// Feeds pieces of the given sizes, round and round; returns how many bytes belong to the NAR, or
/// `None` if it goes on.
fn scan(bytes: &[u8], sizes: &[usize]) -> Result<Option<usize>, WireError> {
    let mut scanner = NarScanner::new();
    let (mut fed, mut sizes) = (0, sizes.iter().cycle());
    while fed < bytes.len() && !scanner.is_done() {
        let piece = &bytes[fed..bytes.len().min(fed + sizes.next().unwrap())];
        let taken = scanner.feed(piece)?;
        assert!(taken == piece.len() || scanner.is_done());
        fed += taken;
        assert_eq!(scanner.offset(), fed as u64);
    }
    Ok(scanner.is_done().then_some(fed))
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (any::<bool>(), vec(any::<u8>(), 0..40))
            .prop_map(|(executable, contents)| Node::Regular { executable, contents }),
        vec(1..=255u8, 1..20).prop_map(|target| Node::Symlink { target }),
    ];
    let name = "[a-zA-Z0-9ä +.-]{1,12}"
        .prop_filter("a name", |name| name != "." && name != "..")
        .prop_map(String::into_bytes);
    leaf.prop_recursive(5, 30, 5, move |node| {
        prop::collection::btree_map(name.clone(), node, 0..5).prop_map(Node::Directory)
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(1..70usize, 1..10)
}

proptest! {
    #[test]
    fn the_end_is_found_whatever_the_pieces(tree in tree(), after in vec(any::<u8>(), 0..50), sizes in sizes()) {
        let mut bytes = tree.to_nar();
        let len = bytes.len();
        bytes.extend(after);
        prop_assert_eq!(read_plainly(&bytes).map(|(read, _)| read), Some(tree));
        prop_assert_eq!(scan(&bytes, &sizes).unwrap(), Some(len));
        let (mut rest, mut copy) = (bytes.as_slice(), Vec::new());
        prop_assert_eq!(now(copy_nar(&mut rest, &mut copy)).unwrap(), len as u64);
        prop_assert_eq!(&copy, &bytes[..len]);
        prop_assert_eq!(rest, &bytes[len..]);
    }

    #[test]
    fn a_nar_cut_short_goes_on(tree in tree(), cut in any::<prop::sample::Index>(), sizes in sizes()) {
        let nar = tree.to_nar();
        let cut = &nar[..cut.index(nar.len())];
        prop_assert_eq!(scan(cut, &sizes).unwrap(), None);
        let error = now(copy_nar(&mut &*cut, &mut Vec::new())).unwrap_err();
        prop_assert!(error.is_disconnect());
    }

    #[test]
    fn corruption_is_judged_as_the_plain_reader_does(
        tree in tree(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        sizes in sizes(),
    ) {
        let mut nar = tree.to_nar();
        let at = at.index(nar.len());
        nar[at] = byte;
        let plainly = read_plainly(&nar).map(|(_, rest)| nar.len() - rest.len());
        prop_assert_eq!(scan(&nar, &sizes).ok().flatten(), plainly);
    }

    #[test]
    fn anything_is_scanned_without_harm(bytes in vec(any::<u8>(), 0..300), sizes in sizes()) {
        let mut nar = Node::file(Vec::new()).to_nar();
        nar.truncate(24);
        nar.extend(bytes);
        let _ = scan(&nar, &sizes);
    }
}

fn fault(nar: &[u8]) -> NarFault {
    match scan(nar, &[4096]) {
        Err(WireError::Nar(error)) => error.fault,
        other => panic!("{other:?}"),
    }
}

fn directory(names: &[&[u8]]) -> Vec<u8> {
    let entries = names.iter().enumerate().map(|(i, name)| {
        // Stands in for the name: the map sorts, and this test must not.
        let stand_in = format!("{i:08}").into_bytes();
        (stand_in, (*name).to_vec())
    });
    let entries: Vec<_> = entries.collect();
    let tree = entries.iter().map(|(key, _)| (key.clone(), Node::file("x"))).collect();
    let mut nar = Node::Directory(tree).to_nar();
    for (stand_in, name) in entries {
        let at = nar.windows(8).position(|window| window == stand_in).unwrap();
        let mut string = (name.len() as u64).to_le_bytes().to_vec();
        string.extend(&name);
        string.resize(string.len().next_multiple_of(8), 0);
        nar.splice(at - 8..at + 8, string);
    }
    nar
}

#[test]
fn directories_have_to_be_sound() {
    assert!(scan(&directory(&[b"a", b"b"]), &[7]).unwrap().is_some());
    assert_eq!(fault(&directory(&[b"b", b"a"])), NarFault::Unsorted);
    assert_eq!(fault(&directory(&[b"a", b"a"])), NarFault::Unsorted);
    for name in [b"".as_slice(), b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(fault(&directory(&[name])), NarFault::BadName);
    }
    let long = [b'x'; 256];
    assert!(scan(&directory(&[&long[1..]]), &[7]).unwrap().is_some());
    assert!(matches!(fault(&directory(&[&long])), NarFault::TooLong { len: 256, max: 255, .. }));
}

#[test]
fn directories_are_nested_only_so_deep() {
    // Put together from its two halves: a tree this deep would end the stack of a recursive writer.
    let nested = |depth: usize| {
        let one = directory(&[b"d"]);
        let leaf = Node::file("x").to_nar()[24..].to_vec();
        let at = one.windows(leaf.len()).position(|window| window == leaf).unwrap();
        let (open, close) = (&one[24..at], &one[at + leaf.len()..]);
        [&one[..24], &open.repeat(depth), &leaf, &close.repeat(depth)].concat()
    };
    let deepest = nested(MAX_DEPTH);
    assert_eq!(scan(&deepest, &[4096]).unwrap(), Some(deepest.len()));
    assert_eq!(fault(&nested(MAX_DEPTH + 1)), NarFault::TooDeep);
}

#[test]
fn contents_of_any_announced_length_are_passed_without_being_held() {
    let mut nar = Node::file(vec![0; 8]).to_nar();
    let at = nar.len() - 16 - 16;
    assert_eq!(nar[at..at + 8], 8u64.to_le_bytes());
    nar.truncate(at);
    nar.extend((1u64 << 60).to_le_bytes());
    let mut scanner = NarScanner::new();
    scanner.feed(&nar).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        assert_eq!(scanner.feed(&piece).unwrap(), piece.len());
    }
    assert!(!scanner.is_done());
}

#[test]
fn names_and_words_of_huge_lengths_are_refused_at_once() {
    let huge = (1u64 << 60).to_le_bytes();
    assert_eq!(fault(&huge), NarFault::Expected("\"nix-archive-1\""));
    let mut link = Node::Symlink { target: b"t".to_vec() }.to_nar();
    let at = link.len() - 32;
    link[at..at + 8].copy_from_slice(&huge);
    assert!(matches!(fault(&link), NarFault::TooLong { max: 4095, .. }));
}
