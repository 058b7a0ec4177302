//! The record against the announcement, and against what the LAN may send.

use proptest::{collection::vec, option, prelude::*};

use super::{DecodeError, Key, Record};
use crate::{
    announcement::{Announcement, HostKeyHash, NodeId},
    kind::System,
    word::{Kind, List, WordError},
};

fn visionfive() -> Announcement {
    Announcement {
        id: "visionfive-7c2a".parse().unwrap(),
        systems: List::of(["riscv64-linux"]),
        emulated: List::of(["aarch64-linux", "x86_64-linux"]),
        features: List::of(["big-parallel", "kvm"]),
        slots: 2,
        cores: 4,
        memory_gib: 8,
        board: Some("starfive,visionfive-2-v1.3b".parse().unwrap()),
        host_key: HostKeyHash([0; 32]),
        fleet: None,
        proof: None,
        more: false,
    }
}

fn text(record: &Record) -> Vec<&str> {
    record.entries().map(|entry| core::str::from_utf8(entry).unwrap()).collect()
}

fn decode(entries: &[&str]) -> Result<Announcement, DecodeError> {
    Record::decode(entries.iter().map(|entry| entry.as_bytes()))
}

/// The least that is accepted, with one more entry, which comes first.
fn with(entry: &str) -> Result<Announcement, DecodeError> {
    let hk = format!("hk={}", "A".repeat(43));
    decode(&[entry, "txtvers=1", "id=a", "sys=aarch64-linux", &hk])
}

#[test]
fn reads_as_the_documentation_says() {
    assert_eq!(
        text(&Record::encode(&visionfive())),
        [
            "txtvers=1",
            "id=visionfive-7c2a",
            "sys=riscv64-linux",
            "slots=2",
            "cores=4",
            "memg=8",
            "hk=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "board=starfive,visionfive-2-v1.3b",
            "emu=aarch64-linux,x86_64-linux",
            "feat=big-parallel,kvm",
        ]
    );
}

#[test]
fn drops_features_first_then_emulated_systems_and_says_so() {
    let mut board = visionfive();
    for number in 0..12 {
        board.features.push(&format!("gccarch-armv8.{number}-a")).unwrap();
    }
    let record = Record::encode(&board);
    assert!(text(&record).contains(&"more=1"));
    assert!(text(&record).contains(&"emu=aarch64-linux,x86_64-linux"));
    assert!(!text(&record).iter().any(|entry| entry.starts_with("feat=")));

    for number in 0..14 {
        board.emulated.push(&format!("machine{number}-linux")).unwrap();
    }
    let decoded = Record::decode(Record::encode(&board).entries()).unwrap();
    assert!(decoded.more && decoded.emulated.is_empty() && decoded.features.is_empty());
    assert_eq!(decoded.systems, board.systems);
}

#[test]
fn the_longest_record_without_what_may_be_dropped_fits() {
    let longest = Announcement {
        id: "i".repeat(63).parse().unwrap(),
        systems: List::of(["a23456789012345-li", "b23456789012345-li"].into_iter().chain([
            "c23456789012345-li",
            "d23456789012345-li",
            "e23456789012345-li",
        ])),
        emulated: List::of(["f-linux"]),
        features: List::of(["f".repeat(63), "g".repeat(63), "h".repeat(63)].iter().map(|f| &**f)),
        slots: u16::MAX,
        cores: u16::MAX,
        memory_gib: u16::MAX,
        board: Some("m".repeat(48).parse().unwrap()),
        host_key: HostKeyHash([255; 32]),
        fleet: Some("f".repeat(22).parse().unwrap()),
        proof: Some("p".repeat(43).parse().unwrap()),
        more: true,
    };
    assert!(longest.systems.as_str().len() >= Announcement::MAX_SYSTEMS_LEN - 1);
    let record = Record::encode(&longest);
    assert!(!record.as_wire().is_empty());
    let decoded = Record::decode(record.entries()).unwrap();
    assert_eq!((decoded.slots, decoded.cores), (Announcement::MAX_SLOTS, Announcement::MAX_CORES));
    assert_eq!(decoded.proof, longest.proof);
}

#[test]
fn tolerates_what_a_later_version_may_add() {
    assert_eq!(with("colour=blue").map(|a| a.slots), Ok(1));
    assert_eq!(with("feat").map(|a| a.features.is_empty()), Ok(true));
    assert_eq!(with("").map(|a| a.cores), Ok(1));
    assert_eq!(with("=empty key").map(|a| a.memory_gib), Ok(0));
    assert_eq!(with("MemG=16").map(|a| a.memory_gib), Ok(16));
}

#[test]
fn of_a_key_that_comes_twice_the_first_counts() {
    assert_eq!(with("ID=first").map(|a| a.id), Ok(NodeId::new("first").unwrap()));
}

#[test]
fn refuses_values_that_are_not_what_they_should_be() {
    let word = |key, what| Err(DecodeError::Word { key, error: WordError::Invalid { what } });
    assert_eq!(with("txtvers=2"), Err(DecodeError::Version));
    assert_eq!(with("txtvers"), Err(DecodeError::Version));
    assert_eq!(with("id=Board"), word("id", "node id"));
    assert_eq!(with("id=a\nb"), word("id", "node id"));
    assert_eq!(with("id=a/../b"), word("id", "node id"));
    assert_eq!(with("sys=aarch64-linux,rm -rf"), word("sys", "system"));
    assert_eq!(with("feat=kvm,\u{1b}[2J"), word("feat", "system feature"));
    assert_eq!(with("board=a\tb"), word("board", "device tree compatible"));
    assert_eq!(with("fleet=+/"), word("fleet", "base64url text"));
    assert_eq!(with("hk=AAAA"), Err(DecodeError::HostKey));
    for slots in ["slots=0", "slots=1025", "slots=+1", "slots=x", "slots=99999999999999999999"] {
        let error = DecodeError::Number { key: "slots", min: 1, max: 1024 };
        assert_eq!(with(slots), Err(error), "{slots}");
    }
    let too_long = WordError::TooLong { what: "node id", capacity: 63 };
    let error = DecodeError::Word { key: "id", error: too_long };
    assert_eq!(with(&format!("id={}", "a".repeat(64))), Err(error));
    assert_eq!(decode(&["txtvers=1"]), Err(DecodeError::Missing { key: "id" }));
    assert_eq!(decode(&["txtvers=1", "id=a", "sys=,"]), Err(DecodeError::Missing { key: "sys" }));
}

#[test]
fn refuses_text_that_is_not_utf8() {
    let entries: [&[u8]; 2] = [b"txtvers=1", b"id=\xff\xfe"];
    assert_eq!(Record::decode(entries), Err(DecodeError::NotUtf8 { key: "id" }));
}

#[test]
fn refuses_more_than_it_is_ready_to_read() {
    let many = vec![&b"x=1"[..]; Record::MAX_READ_ENTRIES + 1];
    assert_eq!(Record::decode(many), Err(DecodeError::TooLarge));
    let long = [b'x'; Record::MAX_READ_LEN];
    assert_eq!(Record::decode([&long[..]]), Err(DecodeError::TooLarge));
}

prop_compose! {
    fn announcements()(
        id in "[a-z0-9-]{1,63}",
        systems in vec("[a-z0-9_]{1,12}-[a-z]{1,8}", 1..8),
        emulated in vec("[a-z0-9_]{1,12}-[a-z]{1,8}", 0..12),
        features in vec("[A-Za-z0-9._+-]{1,63}", 0..12),
        (slots, cores) in (1..=Announcement::MAX_SLOTS, 1..=Announcement::MAX_CORES),
        memory_gib: u16,
        board in option::of("[!-~]{1,48}"),
        key: [u8; 32],
        fleet in option::of("[A-Za-z0-9_-]{1,22}"),
        proof in option::of("[A-Za-z0-9_-]{1,43}"),
        more: bool,
    ) -> Announcement {
        Announcement {
            id: id.parse().unwrap(),
            systems: List::of(systems.iter().map(String::as_str)),
            emulated: List::of(emulated.iter().map(String::as_str)),
            features: List::of(features.iter().map(String::as_str)),
            slots,
            cores,
            memory_gib,
            board: board.map(|text| text.parse().unwrap()),
            host_key: HostKeyHash(key),
            fleet: fleet.map(|text| text.parse().unwrap()),
            proof: proof.map(|text| text.parse().unwrap()),
            more,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(board in announcements()) {
        let record = Record::encode(&board);
        prop_assert!((1..=Record::MAX_LEN).contains(&record.as_wire().len()));
        let read = Record::decode(record.entries()).unwrap();
        let dropped = |is: bool, was: bool| is || (read.more && was);
        prop_assert!(dropped(read.features == board.features, read.features.is_empty()));
        prop_assert!(dropped(read.emulated == board.emulated, read.emulated.is_empty()));
        let expected = Announcement {
            features: read.features.clone(),
            emulated: read.emulated.clone(),
            more: read.more,
            ..board
        };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_give_an_announcement_or_an_error(entries in vec(vec(any::<u8>(), 0..300), 0..80)) {
        let _ = Record::decode(entries.iter().map(Vec::as_slice));
    }

    #[test]
    fn any_value_of_a_known_key_gives_an_announcement_or_an_error(
        values in vec((0..Key::NAMES.len(), vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let entry = |(key, value): &(usize, Vec<u8>)| {
            [Key::NAMES[*key].as_bytes(), b"=", value].concat()
        };
        let entries: Vec<_> = values.iter().map(entry).collect();
        let _ = Record::decode(entries.iter().map(Vec::as_slice));
    }

    #[test]
    fn system_lists_with_a_foreign_character_are_refused(foreign in "[^a-z0-9_,-]") {
        let word = format!("a{foreign}-linux");
        prop_assert!(!System::is_valid(&word));
    }
}
