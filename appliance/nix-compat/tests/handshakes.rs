//! Handshakes, with clients and servers of all ages.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use std::{collections::BTreeSet, time::Duration};

use nix_compat::{
    nix_daemon::{
        NixError, ProtocolVersion, ServerHello, StderrMessage,
        client::{Client, ClientError},
        server,
    },
    wire::WireError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

const PIPE: usize = 256;
const DEADLINE: Duration = Duration::from_secs(30);

fn hello(version: ProtocolVersion) -> ServerHello {
    ServerHello { version, nix_version: "2.26.3".to_owned(), trusted: Some(true) }
}

/// Numbers as a peer would send them.
fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a server answers to these bytes, offering this version.
fn answer(client: &[u8], offer: ProtocolVersion) -> (Result<ProtocolVersion, WireError>, Vec<u8>) {
    let (mut r, mut w) = (client, Vec::new());
    let agreed = generate::now(server::accept(&mut r, &mut w, &hello(offer), &[]));
    assert!(agreed.is_err() || r.is_empty());
    (agreed.map(|agreement| agreement.version), w)
}

const MAGIC: u64 = 0x6e69_7863;

#[test]
fn the_smaller_version_counts() {
    let (agreed, _) = answer(&words(&[MAGIC, 0x126, 0, 0, 0]), ProtocolVersion::MAX);
    assert_eq!(agreed.unwrap(), ProtocolVersion::V1_38);
    let (agreed, _) = answer(&words(&[MAGIC, 0x123, 0, 0]), ProtocolVersion::MAX);
    assert_eq!(agreed.unwrap(), ProtocolVersion::V1_35);
    let (agreed, _) = answer(&words(&[MAGIC, 0x126, 0, 0]), ProtocolVersion::V1_37);
    assert_eq!(agreed.unwrap(), ProtocolVersion::V1_37);
    let (agreed, _) = answer(&words(&[MAGIC, 0x1ff, 0, 0, 0]), ProtocolVersion::MAX);
    assert_eq!(agreed.unwrap(), ProtocolVersion::V1_38);
}

#[test]
fn nix_2_23_which_sends_its_version_twice_is_understood() {
    let (agreed, _) = answer(&words(&[MAGIC, 0x125, 0x125, 0, 0]), ProtocolVersion::MAX);
    assert_eq!(agreed.unwrap(), ProtocolVersion::V1_37);
}

#[test]
fn features_are_offered_and_the_common_ones_agreed_on() {
    let mut client = words(&[0x126]);
    let features = ["a".to_owned(), "b".to_owned()];
    nix_compat::wire::write_string_list(&mut client, &features);
    let (mut r, mut w) = (client.as_slice(), Vec::new());
    let negotiation = server::negotiate(&mut r, &mut w, ProtocolVersion::MAX, &["b", "c"]);
    let agreement = generate::now(negotiation).unwrap();
    assert_eq!(agreement.features, BTreeSet::from(["b".to_owned()]));
    let mut offered = Vec::new();
    nix_compat::wire::write_string_list(&mut offered, &["b", "c"]);
    assert!(w.ends_with(&offered));
}

#[tokio::test]
async fn a_client_that_waits_for_the_servers_version_is_not_kept_waiting() {
    let (near, far) = duplex(PIPE);
    let client = async {
        let (mut r, mut w) = split(near);
        w.write_all(&words(&[MAGIC])).await.unwrap();
        assert_eq!(r.read_u64_le().await.unwrap(), 0x6478_696f);
        assert_eq!(r.read_u64_le().await.unwrap(), 0x126);
        w.write_all(&words(&[0x123, 0, 0])).await.unwrap();
        (r, w)
    };
    let (mut r, mut w) = split(far);
    let hello = hello(ProtocolVersion::MAX);
    let both = async { tokio::join!(client, server::accept(&mut r, &mut w, &hello, &[])) };
    let (_open, agreed) = tokio::time::timeout(DEADLINE, both).await.unwrap();
    assert_eq!(agreed.unwrap().version, ProtocolVersion::V1_35);
}

#[test]
fn an_old_client_is_told_in_its_own_words() {
    let offer = words(&[0x6478_696f, 0x126]);
    // 1.34 (Nix 2.8): its version of Nix comes first, and errors are structured.
    let (agreed, said) = answer(&words(&[MAGIC, 0x122, 0, 0]), ProtocolVersion::MAX);
    assert!(matches!(agreed, Err(WireError::UnsupportedVersion { found: 0x122, .. })));
    let mut rest = said.strip_prefix(offer.as_slice()).unwrap().strip_prefix(&[0; 8]).unwrap();
    let message = generate::now(StderrMessage::read(&mut rest)).unwrap();
    let StderrMessage::Error(error) = message else { panic!("{message:?}") };
    assert!(error.to_string().contains("1.34"), "{error}");
    assert!(rest.is_empty());
    // 1.20 (Nix 2.0): text and exit status.
    let (_, said) = answer(&words(&[MAGIC, 0x114, 0, 0]), ProtocolVersion::MAX);
    let rest = said.strip_prefix(offer.as_slice()).unwrap();
    assert_eq!(&rest[..8], &words(&[0x6378_7470]));
    assert!(rest.ends_with(&words(&[1])));
    // Something else.
    let (agreed, said) = answer(b"SSH-2.0-OpenSSH_10.0", ProtocolVersion::MAX);
    assert!(matches!(agreed, Err(WireError::BadMagic { .. })));
    assert!(said.is_empty());
}

#[test]
fn a_server_that_is_none_or_too_old_or_refuses_is_told_apart() {
    let connect = |server: &[u8]| {
        let handshake = Client::handshake(server, Vec::new(), ProtocolVersion::MAX);
        generate::now(handshake).map(|_| ()).unwrap_err()
    };
    let none = connect(b"Welcome to the machine");
    assert!(matches!(none, ClientError::Wire(WireError::BadMagic { .. })));
    let old = connect(&words(&[0x6478_696f, 0x122]));
    assert!(matches!(old, ClientError::Wire(WireError::UnsupportedVersion { .. })));
    let mut refusing = words(&[0x6478_696f, 0x123, 0, 0]);
    StderrMessage::Error(NixError::new("go away")).write(&mut refusing);
    assert!(matches!(connect(&refusing), ClientError::Nix(error) if error.message == b"go away"));
    assert!(connect(&[]).is_disconnect());
}
