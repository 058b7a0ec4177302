use nix_compat::{
    nar::Node,
    nix_daemon::{Field, NixError, PathInfo, Request, StderrMessage},
    nix_serve::{BuildOptions, read_build_paths_reply, read_build_result, read_path_infos},
    nixhash::NixHash,
    wire::{FramedReader, read_store_path_set, read_u64, write_bytes},
};
use tokio::{
    io::AsyncReadExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

use super::*;
use crate::{
    model::JobEvent,
    wire::{
        command::Command as Started,
        door::{Caller, Request as Visitor, Visit, halves},
        session,
        testing::{Asked, Calls, FakeNix, NixConnection, drv, finish, path, result, soon, streams},
    },
};

/// A session with a stock client, after the handshakes.
struct Stage {
    nix: FakeNix,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    version: ServeVersion,
    /// What the program that sshd started receives.
    stderr: UnixStream,
    daemon: NixConnection,
    calls: Calls,
    session: JoinHandle<()>,
}

impl Stage {
    async fn new(write: bool) -> Self {
        let (nix, (builds, calls)) = (FakeNix::new(), Asked::new());
        let (client, input, output) = streams();
        let (stderr, ours) = UnixStream::pair().unwrap();
        let (lifeline, notes) = halves(ours);
        let request =
            Visitor::Serve { command: Started::Serve { write }, peer: "::1".to_owned(), key: None };
        let caller = Caller { uid: 0, pid: 0 };
        let visit = Visit { request, caller, input, output, lifeline, notes };
        let local = nix.local();
        let session = tokio::spawn(async move { session::attend(visit, &local, &builds).await });
        let (mut read, mut write) = client.into_split();
        let (version, daemon) =
            tokio::join!(soon(nix_serve::handshake(&mut read, &mut write)), nix.accept());
        let version = version.unwrap();
        Self { nix, read, write, version, stderr, daemon, calls, session }
    }

    async fn send(&mut self, command: &Command) {
        soon(self.write.write_all(&command.encode(self.version))).await.unwrap();
    }

    /// Everything that comes for standard error, frames and all, when the session has ended.
    async fn last_words(mut self) -> String {
        soon(self.session).await.unwrap();
        let mut bytes = Vec::new();
        soon(self.stderr.read_to_end(&mut bytes)).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn info(name: &str, nar: &[u8], references: &[&str]) -> PathInfo {
    PathInfo {
        path: path(name),
        deriver: None,
        nar_hash: "0".repeat(64),
        references: references.iter().map(|name| path(name)).collect(),
        registration_time_s: 0,
        nar_size: nar.len() as u64,
        ultimate: false,
        signatures: [].into(),
        ca: String::new(),
    }
}

fn nar(contents: &[u8]) -> Vec<u8> {
    Node::Regular { executable: false, contents: contents.to_vec() }.to_nar()
}

fn infos_reply(info: Option<&PathInfo>) -> Vec<u8> {
    let mut reply = Vec::new();
    PathInfo::write_reply(info, &mut reply);
    reply
}

#[tokio::test]
async fn a_build_as_a_stock_client_asks_for_it() {
    let mut stage = Stage::new(true).await;
    let paths: BTreeSet<_> = [path("in")].into();
    let command = Command::QueryValidPaths { lock: true, substitute: false, paths: paths.clone() };
    stage.send(&command).await;
    assert_eq!(stage.daemon.request().await, Request::AddTempRoot(path("in")));
    stage.daemon.reply(&1_u64.to_le_bytes()).await;
    let asked = Request::QueryValidPaths { paths, substitute: false };
    assert_eq!(stage.daemon.request().await, asked);
    stage.daemon.reply(&0_u64.to_le_bytes()).await;
    assert!(soon(read_store_path_set(&mut stage.read, "paths")).await.unwrap().is_empty());

    let sent = nar(&[3; 200_000]);
    let added = info("in", &sent, &[]);
    stage.send(&Command::AddToStoreNar(Box::new(added.clone()))).await;
    let (written, received) = tokio::join!(stage.write.write_all(&sent), async {
        let Request::AddToStoreNar { info, dont_check_sigs: true, repair: false } =
            stage.daemon.request().await
        else {
            panic!("expected an upload");
        };
        assert_eq!(*info, added);
        let mut received = Vec::new();
        soon(FramedReader::new(&mut stage.daemon.read).read_to_end(&mut received)).await.unwrap();
        received
    });
    written.unwrap();
    assert!(received == sent);
    stage.daemon.reply(&[]).await;
    assert_eq!(soon(read_u64(&mut stage.read, "one")).await.unwrap(), 1);

    let (drv_path, drv) = (path("x.drv"), Box::new(drv("x")));
    stage.send(&Command::BuildDerivation { drv_path, drv, options: BuildOptions::default() }).await;
    let (job, events) = stage.calls.submission().await;
    assert_eq!(job.client.label, "ssh from ::1");
    let fields = vec![Field::String(b"compiling".to_vec())];
    let line = StderrMessage::Result { id: 1, kind: 101, fields };
    events.send(JobEvent::Message(line)).await.unwrap();
    finish(&events, result(BuildStatus::Built)).await;
    let built = soon(read_build_result(&mut stage.read, stage.version)).await.unwrap();
    assert!(built.is_success());

    stage.send(&Command::QueryPathInfos([path("x")].into())).await;
    stage.daemon.request().await;
    let output = nar(b"output");
    stage.daemon.reply(&infos_reply(Some(&info("x", &output, &[])))).await;
    assert_eq!(soon(read_path_infos(&mut stage.read)).await.unwrap()[0].path, path("x"));

    for name in ["x", "x-dev"] {
        stage.send(&Command::DumpStorePath(path(name))).await;
        assert_eq!(stage.daemon.request().await, Request::NarFromPath(path(name)));
        stage.daemon.reply(&output).await;
        let mut received = vec![0; output.len()];
        soon(stage.read.read_exact(&mut received)).await.unwrap();
        assert_eq!(received, output);
    }
    assert_eq!(stage.calls.fetched().await, job.key.id());
    drop((stage.write, stage.read));
    soon(stage.session).await.unwrap();
    let mut stderr = Vec::new();
    soon(stage.stderr.read_to_end(&mut stderr)).await.unwrap();
    assert_eq!(stderr, b"\x0b\0\0\0Tcompiling\n\x02\0\0\0E\0");
}

#[tokio::test]
async fn paths_in_the_format_of_an_export_are_imported() {
    let mut stage = Stage::new(true).await;
    let sent = nar(b"exported");
    let mut bytes = Vec::new();
    write_u64(&mut bytes, 4);
    for name in ["a", "b"] {
        write_u64(&mut bytes, 1);
        bytes.extend(&sent);
        write_u64(&mut bytes, 0x4558_494e);
        write_bytes(&mut bytes, path(name).as_str());
        write_store_path_set(&mut bytes, &[path("a")].into());
        write_bytes(&mut bytes, "");
        write_u64(&mut bytes, 0);
    }
    write_u64(&mut bytes, 0);
    stage.write.write_all(&bytes).await.unwrap();
    for name in ["a", "b"] {
        let Request::AddToStoreNar { info: added, .. } = stage.daemon.request().await else {
            panic!("expected an upload");
        };
        let mut received = Vec::new();
        soon(FramedReader::new(&mut stage.daemon.read).read_to_end(&mut received)).await.unwrap();
        stage.daemon.reply(&[]).await;
        assert!(received == sent);
        let nar_hash = NixHash::sha256(&sent).to_base16();
        assert_eq!(*added, PathInfo { nar_hash, ..info(name, &sent, &["a"]) });
    }
    assert_eq!(soon(read_u64(&mut stage.read, "one")).await.unwrap(), 1);
}

#[tokio::test]
async fn without_write_nothing_is_built_or_added() {
    let options = BuildOptions::default();
    let commands = [
        Command::BuildPaths { targets: vec![path("x").to_string()], options: options.clone() },
        Command::BuildDerivation { drv_path: path("x.drv"), drv: Box::new(drv("x")), options },
        Command::AddToStoreNar(Box::new(info("x", &nar(b""), &[]))),
    ];
    for command in commands {
        let mut stage = Stage::new(false).await;
        stage.send(&command).await;
        assert!(stage.daemon.is_closed().await);
        let told = stage.last_words().await;
        assert!(told.contains("--write") && told.ends_with("E\u{1}"), "{told:?}");
    }
}

#[tokio::test]
async fn build_paths_tells_how_nix_store_would_exit() {
    for (status, expected) in [
        (BuildStatus::Built, None),
        (BuildStatus::PermanentFailure, Some(100)),
        (BuildStatus::TimedOut, Some(101)),
        (BuildStatus::TransientFailure, Some(1)),
    ] {
        let mut stage = Stage::new(true).await;
        let targets = vec![format!("{}!out", stage.nix.add_drv("x"))];
        stage.send(&Command::BuildPaths { targets, options: BuildOptions::default() }).await;
        let (_, events) = stage.calls.submission().await;
        finish(&events, result(status)).await;
        let reply = soon(read_build_paths_reply(&mut stage.read)).await.unwrap();
        assert_eq!(reply.err().map(|failure| failure.exit_status), expected);
    }
}

#[tokio::test]
async fn a_closure_is_followed_to_its_end_with_outputs_if_wanted() {
    let mut stage = Stage::new(true).await;
    let drv_path = stage.nix.add_drv("x");
    let command = Command::QueryClosure { include_outputs: true, paths: [drv_path].into() };
    stage.send(&command).await;
    // `x-dev` was never built, `y` refers to itself.
    let valid = [("x.drv", vec!["src"]), ("x", vec!["y"]), ("y", vec!["y"]), ("src", vec![])];
    for _ in 0..5 {
        let Request::QueryPathInfo(asked) = stage.daemon.request().await else {
            panic!("expected a query");
        };
        let found = valid.iter().find(|(name, _)| path(name) == asked);
        let found = found.map(|(name, references)| info(name, &[], references));
        stage.daemon.reply(&infos_reply(found.as_ref())).await;
    }
    let closure = soon(read_store_path_set(&mut stage.read, "paths")).await.unwrap();
    assert_eq!(closure, valid.map(|(name, _)| path(name)).into());
}

#[tokio::test]
async fn an_error_of_nix_daemon_ends_the_session_with_its_words() {
    let mut stage = Stage::new(true).await;
    stage.send(&Command::DumpStorePath(path("x"))).await;
    stage.daemon.request().await;
    let error = StderrMessage::Error(NixError::new("path is not valid"));
    stage.daemon.send(&error.encode()).await;
    let told = stage.last_words().await;
    assert!(told.contains("path is not valid") && told.ends_with("E\u{1}"), "{told:?}");
}

#[tokio::test]
async fn garbage_ends_the_session_with_an_error() {
    for garbage in [&[4711][..], &[4, 1, 13, 0, 0], &[4, 2], &[1, 0, 0, 1 << 60], &[8, 1 << 60]] {
        let mut stage = Stage::new(true).await;
        let bytes: Vec<u8> = garbage.iter().copied().flat_map(u64::to_le_bytes).collect();
        stage.write.write_all(&bytes).await.unwrap();
        let told = stage.last_words().await;
        assert!(told.contains("cannot serve this client"), "{told:?}");
    }
}
