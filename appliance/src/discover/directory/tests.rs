//! Sightings as a LAN gives them, and as a hostile one might.

use board_support::List;

use super::*;
use crate::discover::sighting::Protocol;

fn announcement(id: &str, key: u8) -> Announcement {
    Announcement {
        id: id.parse().unwrap(),
        systems: List::of(["riscv64-linux"]),
        emulated: List::new(),
        features: List::new(),
        slots: 2,
        cores: 4,
        memory_gib: 8,
        board: None,
        host_key: HostKeyHash([key; 32]),
        fleet: None,
        proof: None,
        more: false,
    }
}

fn source(instance: &str, interface: u32, protocol: Protocol) -> Source {
    Source { instance: instance.into(), domain: "local".into(), interface, protocol }
}

fn seen(source: Source, announcement: Announcement, addresses: &[&str]) -> Sighting {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Sighting::Seen(Box::new(Seen { source, announcement, addresses, port: 22 }))
}

fn key(id: &str, key: u8) -> BoardKey {
    BoardKey { id: id.parse().unwrap(), host_key: HostKeyHash([key; 32]) }
}

fn addresses(directory: &Directory, key: &BoardKey) -> Vec<String> {
    directory.get(key).unwrap().addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_board_seen_on_two_interfaces_counts_once_with_all_addresses_best_first() {
    let mut lan = Directory::new();
    let wire = source("a", 2, Protocol::Ipv6);
    let wifi = source("a", 3, Protocol::Ipv4);
    let link_local = ["[fe80::1%2]:22", "[fd00::1]:22"];
    let changes = lan.apply(seen(wire.clone(), announcement("a", 1), &link_local));
    assert_eq!(changes, [Change::Appeared(key("a", 1))]);
    let changes = lan.apply(seen(wifi.clone(), announcement("a", 1), &["192.168.1.7:22"]));
    assert_eq!(changes, [Change::Updated(key("a", 1))]);
    assert_eq!(lan.boards().count(), 1);
    assert_eq!(addresses(&lan, &key("a", 1)), ["192.168.1.7:22", "[fd00::1]:22", "[fe80::1%2]:22"]);

    assert_eq!(lan.apply(Sighting::Gone(wire)), [Change::Updated(key("a", 1))]);
    assert_eq!(addresses(&lan, &key("a", 1)), ["192.168.1.7:22"]);
    assert_eq!(lan.apply(Sighting::Gone(wifi)), [Change::Gone(key("a", 1))]);
    assert_eq!(lan.boards().count(), 0);
}

#[test]
fn what_is_heard_again_changes_nothing() {
    let mut lan = Directory::new();
    let sighting = seen(source("a", 2, Protocol::Ipv4), announcement("a", 1), &["10.0.0.1:22"]);
    lan.apply(sighting.clone());
    assert_eq!(lan.apply(sighting), []);
    assert_eq!(lan.apply(Sighting::Gone(source("b", 2, Protocol::Ipv4))), []);
}

#[test]
fn a_board_that_says_other_things_is_updated() {
    let mut lan = Directory::new();
    let at = source("a", 2, Protocol::Ipv4);
    lan.apply(seen(at.clone(), announcement("a", 1), &["10.0.0.1:22"]));
    let busier = Announcement { slots: 8, ..announcement("a", 1) };
    let changes = lan.apply(seen(at, busier, &["10.0.0.1:22"]));
    assert_eq!(changes, [Change::Updated(key("a", 1))]);
    assert_eq!(lan.get(&key("a", 1)).unwrap().announcement.slots, 8);
}

#[test]
fn another_key_under_the_same_id_is_another_board() {
    let mut lan = Directory::new();
    lan.apply(seen(source("a", 2, Protocol::Ipv4), announcement("a", 1), &["10.0.0.1:22"]));
    lan.apply(seen(source("b", 2, Protocol::Ipv4), announcement("a", 2), &["10.0.0.2:22"]));
    assert_eq!(addresses(&lan, &key("a", 1)), ["10.0.0.1:22"]);
    assert_eq!(addresses(&lan, &key("a", 2)), ["10.0.0.2:22"]);
}

#[test]
fn a_source_that_turns_into_another_board_leaves_the_first() {
    let mut lan = Directory::new();
    let at = source("a", 2, Protocol::Ipv4);
    lan.apply(seen(at.clone(), announcement("a", 1), &["10.0.0.1:22"]));
    let changes = lan.apply(seen(at, announcement("b", 1), &["10.0.0.1:22"]));
    assert_eq!(changes, [Change::Gone(key("a", 1)), Change::Appeared(key("b", 1))]);
    assert_eq!(lan.boards().count(), 1);
}

#[test]
fn a_flood_of_boards_is_ignored_beyond_the_limit_and_known_ones_stay() {
    let mut lan = Directory::new();
    for number in 0..Directory::MAX_BOARDS + 100 {
        let name = format!("board-{number}");
        lan.apply(seen(source(&name, 2, Protocol::Ipv4), announcement(&name, 1), &["10.0.0.1:22"]));
    }
    assert_eq!(lan.boards().count(), Directory::MAX_BOARDS);
    assert_eq!(lan.keys.len(), Directory::MAX_BOARDS);
    assert!(lan.get(&key("board-0", 1)).is_some());

    lan.apply(Sighting::Gone(source("board-0", 2, Protocol::Ipv4)));
    let late = source("late", 2, Protocol::Ipv4);
    let changes = lan.apply(seen(late, announcement("late", 1), &["10.0.0.1:22"]));
    assert_eq!(changes, [Change::Appeared(key("late", 1))]);
}

#[test]
fn a_flood_of_names_and_addresses_for_one_board_is_bounded() {
    let mut lan = Directory::new();
    for number in 0..200 {
        let address = format!("10.0.0.{number}:22");
        let at = source(&format!("name {number}"), 2, Protocol::Ipv4);
        lan.apply(seen(at, announcement("a", 1), &["[fe80::1%2]:22", &address]));
    }
    let board = lan.get(&key("a", 1)).unwrap();
    assert_eq!(board.addresses.len(), Directory::MAX_ADDRESSES);
    assert!(board.addresses.iter().all(SocketAddr::is_ipv4));
    assert_eq!(lan.keys.len(), Directory::MAX_SOURCES);
}
