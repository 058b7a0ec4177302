//! Sessions recorded from real Nix: both directions are decoded completely and encoded again to the
//! same bytes. `fixtures/README.md` says how they were made.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use nix_compat::{
    derivation::Derivation,
    nar::NarScanner,
    nix_daemon::{
        BuildResult, Missing, Operation, PathInfo, ProtocolVersion, Request, StderrMessage,
        client::Client, read_keyed_results, read_realisations, server, write_keyed_results,
        write_realisations,
    },
    nix_serve::{self, Command, ServeVersion},
    wire::{
        FramedReader, Scan, WireError, copy_framed, copy_scanned, read_bytes_list, read_count,
        read_optional_store_path, read_store_path, read_store_path_set, read_string, read_u64,
        write_bytes, write_bytes_list, write_optional_store_path, write_store_path_set, write_u64,
    },
};
use tokio::io::{AsyncReadExt, BufReader};

const WORD: u64 = 4096;

/// A recorded session: what the client sent, and what the server sent.
struct Session {
    name: String,
    client: Vec<u8>,
    server: Vec<u8>,
}

fn sessions(is_serve: bool) -> Vec<Session> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut sessions = Vec::new();
    for release in fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()) {
        if !release.is_dir() {
            continue;
        }
        for client in fs::read_dir(release).unwrap().map(|entry| entry.unwrap().path()) {
            if client.extension().is_some_and(|extension| extension == "client") {
                let name = client.file_stem().unwrap().to_str().unwrap().to_owned();
                if name.starts_with("serve-") == is_serve {
                    let server = fs::read(client.with_extension("server")).unwrap();
                    sessions.push(Session { name, client: fs::read(client).unwrap(), server });
                }
            }
        }
    }
    assert!(!sessions.is_empty());
    sessions
}

#[tokio::test]
async fn worker_sessions_decode_and_encode_to_the_same_bytes() {
    let mut operations = BTreeSet::new();
    for Session { name, client, server } in sessions(false) {
        // Both handshakes, each against what the other side of the real session said.
        let (ours, hello) =
            Client::handshake(server.as_slice(), Vec::new(), ProtocolVersion::MAX).await.unwrap();
        let (mut replies, mut sent) = ours.into_parts();
        let mut requests = client.as_slice();
        let mut answered = Vec::new();
        server::accept(&mut requests, &mut answered, &hello, &[]).await.unwrap();

        loop {
            let request = match Request::read(&mut requests, hello.version).await {
                Err(WireError::HungUp) => break,
                request => request.unwrap(),
            };
            operations.insert(request.operation());
            sent.extend(request.encode(hello.version));
            if request.has_framed_payload() {
                let start = sent.len();
                copy_framed(&mut requests, &mut sent).await.unwrap();
                check_payload(&request, &sent[start..]).await;
            }
            if copy_messages(&mut replies, &mut answered).await {
                copy_reply(&request, &mut replies, &mut answered, hello.version).await;
            }
        }
        assert!(sent == client, "{name}: the client's bytes differ");
        let mut rest = Vec::new();
        replies.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{name}: the server said more");
        assert!(answered == server, "{name}: the server's bytes differ");
    }
    let worth_having = [
        Operation::AddToStore,
        Operation::AddMultipleToStore,
        Operation::BuildDerivation,
        Operation::BuildPathsWithResults,
        Operation::NarFromPath,
        Operation::QueryPathInfo,
        Operation::QueryValidPaths,
        Operation::QueryMissing,
        Operation::SetOptions,
    ];
    for operation in worth_having {
        assert!(operations.contains(&operation), "no recording of {operation:?}");
    }
}

/// Copies log messages up to the end; returns whether a reply follows.
async fn copy_messages(replies: &mut BufReader<&[u8]>, out: &mut Vec<u8>) -> bool {
    loop {
        let message = StderrMessage::read(replies).await.unwrap();
        message.write(out);
        match message {
            StderrMessage::Last => return true,
            StderrMessage::Error(_) => return false,
            _ => {}
        }
    }
}

/// What is in a framed stream has to make sense too.
async fn check_payload(request: &Request, framed: &[u8]) {
    let mut payload = BufReader::new(FramedReader::new(framed));
    match request.operation() {
        Operation::AddMultipleToStore => {
            for _ in 0..read_u64(&mut payload, "count").await.unwrap() {
                let info = PathInfo::read(&mut payload).await.unwrap();
                assert_eq!(copy_nar(&mut payload).await, info.nar_size);
            }
        }
        Operation::AddToStoreNar => {
            let Request::AddToStoreNar { info, .. } = request else { unreachable!() };
            assert_eq!(copy_nar(&mut payload).await, info.nar_size);
        }
        _ => {
            let mut content = Vec::new();
            payload.read_to_end(&mut content).await.unwrap();
            if matches!(request, Request::AddToStore { name, .. } if name.ends_with(".drv")) {
                let drv = Derivation::parse(&content).unwrap();
                assert!(drv.to_aterm() == content, "a derivation's bytes differ");
            }
        }
    }
    assert_eq!(payload.read(&mut [0]).await.unwrap(), 0);
    assert!(payload.into_inner().is_at_end());
}

async fn copy_nar(r: &mut BufReader<FramedReader<&[u8]>>) -> u64 {
    let mut scanner = NarScanner::new();
    let copied = copy_scanned(r, &mut tokio::io::sink(), &mut scanner).await.unwrap();
    assert!(scanner.is_done());
    copied
}

async fn copy_reply(
    request: &Request,
    r: &mut BufReader<&[u8]>,
    out: &mut Vec<u8>,
    version: ProtocolVersion,
) {
    match request.operation() {
        Operation::SetOptions
        | Operation::AddToStoreNar
        | Operation::AddMultipleToStore
        | Operation::RegisterDrvOutput => {}
        Operation::IsValidPath
        | Operation::BuildPaths
        | Operation::EnsurePath
        | Operation::AddTempRoot
        | Operation::AddIndirectRoot
        | Operation::SyncWithGc
        | Operation::OptimiseStore
        | Operation::VerifyStore
        | Operation::AddSignatures
        | Operation::AddBuildLog => write_u64(out, read_u64(r, "number").await.unwrap()),
        Operation::QueryReferrers
        | Operation::QueryDerivationOutputs
        | Operation::QueryAllValidPaths
        | Operation::QueryValidPaths
        | Operation::QuerySubstitutablePaths
        | Operation::QueryValidDerivers => {
            write_store_path_set(out, &read_store_path_set(r, "paths").await.unwrap());
        }
        Operation::QueryPathInfo => {
            let Request::QueryPathInfo(path) = request else { unreachable!() };
            let info = PathInfo::read_reply(r, path.clone()).await.unwrap();
            PathInfo::write_reply(info.as_ref(), out);
        }
        Operation::AddToStore => PathInfo::read(r).await.unwrap().write(out),
        Operation::NarFromPath => {
            nix_compat::nar::copy_nar(r, out).await.unwrap();
        }
        Operation::BuildDerivation => {
            BuildResult::read(r, version).await.unwrap().write(out, version);
        }
        Operation::BuildPathsWithResults => {
            let results = read_keyed_results(r, version).await.unwrap();
            write_keyed_results(out, &results, version);
        }
        Operation::QueryMissing => Missing::read(r).await.unwrap().write(out),
        Operation::QueryRealisation => {
            write_realisations(out, &read_realisations(r).await.unwrap());
        }
        operation => copy_untyped_reply(operation, r, out).await,
    }
}

/// Replies for which this crate has no type of its own.
async fn copy_untyped_reply(operation: Operation, r: &mut BufReader<&[u8]>, out: &mut Vec<u8>) {
    match operation {
        Operation::AddTextToStore
        | Operation::QueryDeriver
        | Operation::QueryPathFromHashPart
        | Operation::AddPermRoot => {
            write_bytes(out, read_string(r, "word", WORD).await.unwrap());
        }
        Operation::QueryDerivationOutputNames => {
            write_bytes_list(out, &read_bytes_list(r, "names", WORD).await.unwrap());
        }
        Operation::QueryDerivationOutputMap => {
            let count = read_count(r, "outputs").await.unwrap();
            write_u64(out, count);
            for _ in 0..count {
                write_bytes(out, read_string(r, "name", WORD).await.unwrap());
                let path = read_optional_store_path(r, "path").await.unwrap();
                write_optional_store_path(out, path.as_ref());
            }
        }
        Operation::QuerySubstitutablePathInfos => {
            assert_eq!(read_u64(r, "count").await.unwrap(), 0);
            write_u64(out, 0);
        }
        Operation::FindRoots => {
            let count = read_count(r, "roots").await.unwrap();
            write_u64(out, count);
            for _ in 0..count {
                write_bytes(out, read_string(r, "link", WORD).await.unwrap());
                write_bytes(out, read_store_path(r, "path").await.unwrap().as_str());
            }
        }
        Operation::CollectGarbage => {
            write_bytes_list(out, &read_bytes_list(r, "paths", WORD).await.unwrap());
            for _ in 0..2 {
                write_u64(out, read_u64(r, "number").await.unwrap());
            }
        }
        operation => panic!("{operation:?} is new to this test"),
    }
}

#[tokio::test]
async fn serve_sessions_decode_and_encode_to_the_same_bytes() {
    let mut commands = BTreeSet::new();
    for Session { name, client, server } in sessions(true) {
        let (mut replies, mut requests) = (server.as_slice(), client.as_slice());
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        let version = nix_serve::handshake(&mut replies, &mut sent).await.unwrap();
        assert_eq!(nix_serve::accept(&mut requests, &mut answered).await.unwrap(), version);
        loop {
            let command = match Command::read(&mut requests, version).await {
                Err(WireError::HungUp) => break,
                command => command.unwrap(),
            };
            commands.insert(command.number() as u8);
            sent.extend(command.encode(version));
            if let Command::AddToStoreNar(info) = &command {
                let copied = nix_compat::nar::copy_nar(&mut requests, &mut sent).await.unwrap();
                assert_eq!(copied, info.nar_size);
            }
            copy_serve_reply(&command, &mut replies, &mut answered, version).await;
        }
        assert!(sent == client, "{name}: the client's bytes differ");
        assert!(replies.is_empty(), "{name}: the server said more");
        assert!(answered == server, "{name}: the server's bytes differ");
    }
    for number in [1, 2, 3, 8, 9] {
        assert!(commands.contains(&number), "no recording of serve command {number}");
    }
}

async fn copy_serve_reply(
    command: &Command,
    r: &mut &[u8],
    out: &mut Vec<u8>,
    version: ServeVersion,
) {
    match command {
        Command::QueryValidPaths { .. } | Command::QueryClosure { .. } => {
            write_store_path_set(out, &read_store_path_set(r, "paths").await.unwrap());
        }
        Command::QueryPathInfos(_) => {
            let infos = nix_serve::read_path_infos(r).await.unwrap();
            nix_serve::write_path_infos(out, &infos);
        }
        Command::DumpStorePath(_) => {
            nix_compat::nar::copy_nar(r, out).await.unwrap();
        }
        Command::BuildPaths { .. } => {
            let reply = nix_serve::read_build_paths_reply(r).await.unwrap();
            nix_serve::write_build_paths_reply(out, &reply);
        }
        Command::BuildDerivation { .. } => {
            let result = nix_serve::read_build_result(r, version).await.unwrap();
            nix_serve::write_build_result(out, &result, version);
        }
        Command::AddToStoreNar(_) => write_u64(out, read_u64(r, "number").await.unwrap()),
    }
}
