use nix_compat::{
    nar::Node,
    nix_daemon::{
        BuildMode, BuildResult, BuildStatus, ClientOptions, PathInfo, client::ClientError,
        client::Discard, write_keyed_results,
    },
    wire::{write_bool, write_u64},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::OwnedWriteHalf},
    task::JoinHandle,
};

use super::*;
use crate::{
    model::{JobEvent, Payload, Refusal},
    wire::testing::{
        Asked, Calls, FakeNix, NixConnection, WorkerClient, drv, finish, pass, path, result, soon,
        streams,
    },
};

type Session = JoinHandle<Result<(), SessionError>>;

/// Starts a session; the handshakes are still to come.
fn start(nix: LocalNix, builds: Asked, lifetime: Lifetime) -> (UnixStream, Session) {
    let (client, input, output) = streams();
    let session = tokio::spawn(async move {
        let who = Client { label: "ssh from ::1".to_owned() };
        Relay::open(input, output, &nix, &builds, who, lifetime).await?.run().await
    });
    (client, session)
}

/// A session with a stock client, after the handshakes.
struct Stage {
    nix: FakeNix,
    client: WorkerClient,
    daemon: NixConnection,
    calls: Calls,
    session: Session,
}

impl Stage {
    async fn new() -> Self {
        Self::with(FakeNix::new(), Lifetime::Session).await
    }

    async fn with(nix: FakeNix, lifetime: Lifetime) -> Self {
        let (builds, calls) = Asked::new();
        let (stream, session) = start(nix.local(), builds, lifetime);
        let (read, write) = stream.into_split();
        let (client, daemon) =
            tokio::join!(WorkerClient::handshake(read, write, ProtocolVersion::MAX), nix.accept(),);
        let (client, hello) = client.unwrap();
        assert_eq!((hello.nix_version.as_str(), hello.trusted), ("2.26", Some(true)));
        Self { nix, client, daemon, calls, session }
    }

    fn writer(&mut self) -> &mut OwnedWriteHalf {
        self.client.writer_mut()
    }

    async fn send(&mut self, request: &Request) {
        let bytes = request.encode(self.client.version());
        soon(self.writer().write_all(&bytes)).await.unwrap();
    }

    async fn message(&mut self) -> StderrMessage {
        soon(StderrMessage::read(self.client.reader_mut())).await.unwrap()
    }

    /// What the client is told before the session ends.
    async fn last_words(mut self) -> (String, SessionError) {
        let StderrMessage::Error(error) = self.message().await else { panic!("expected an error") };
        let ended = soon(self.session).await.unwrap().unwrap_err();
        assert_eq!(soon(self.client.reader_mut().read(&mut [0])).await.unwrap(), 0);
        (error.to_string(), ended)
    }
}

fn info(name: &str, nar: &[u8]) -> PathInfo {
    PathInfo {
        path: path(name),
        deriver: None,
        nar_hash: "0".repeat(64),
        references: [].into(),
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

async fn fetch(client: &mut WorkerClient, name: &str) -> Vec<u8> {
    let mut received = Vec::new();
    soon(client.nar_from_path(&path(name), &mut received, &mut Discard)).await.unwrap();
    received
}

async fn build(client: &mut WorkerClient, name: &str) -> Result<BuildResult, ClientError> {
    let drv_path = path(&format!("{name}.drv"));
    soon(client.build_derivation(&drv_path, &drv(name), BuildMode::Normal, &mut Discard)).await
}

#[tokio::test]
async fn what_does_not_build_is_relayed_both_ways() {
    let mut stage = Stage::new().await;
    let (asked, valid) = (path("x"), async {
        assert_eq!(stage.daemon.request().await, Request::IsValidPath(path("x")));
        let mut reply = Vec::new();
        write_bool(&mut reply, true);
        stage.daemon.send(&StderrMessage::Next(b"hm\n".to_vec()).encode()).await;
        stage.daemon.reply(&reply).await;
    });
    let mut heard = Vec::new();
    let mut sink = |message| heard.push(message);
    let (is_valid, ()) = tokio::join!(stage.client.is_valid_path(&asked, &mut sink), valid);
    assert!(is_valid.unwrap());
    assert_eq!(heard, [StderrMessage::Next(b"hm\n".to_vec())]);
    drop(stage.client);
    soon(stage.session).await.unwrap().unwrap();
    assert!(stage.daemon.is_closed().await);
}

#[tokio::test]
async fn the_smaller_version_counts_and_nix_daemon_speaks_it() {
    let nix = FakeNix::new();
    let (stream, _session) = start(nix.local(), Asked::new().0, Lifetime::Session);
    let (read, write) = stream.into_split();
    let (client, daemon) =
        tokio::join!(WorkerClient::handshake(read, write, ProtocolVersion::V1_35), async {
            drop(nix.accept().await);
            nix.accept().await
        },);
    assert_eq!(client.unwrap().1.version, ProtocolVersion::V1_35);
    assert_eq!(daemon.version, ProtocolVersion::V1_35);

    let old = Stage::with(FakeNix::of_version(ProtocolVersion::V1_35), Lifetime::Session).await;
    assert_eq!(old.client.version(), ProtocolVersion::V1_35);
}

#[tokio::test]
async fn an_upload_flows_while_replies_flow_back() {
    let mut stage = Stage::new().await;
    let nar = nar(&[7; 3_000_000]);
    let upload = async {
        let (info, mut source) = (info("x", &nar), nar.as_slice());
        stage.client.add_to_store_nar(&info, &mut source, false, true, &mut Discard).await
    };
    let (sent, ()) = tokio::join!(upload, async {
        assert!(stage.daemon.request().await.has_framed_payload());
        // More than the pipes between us hold, before anything is read.
        let line = StderrMessage::Next(vec![b'.'; 500_000]).encode();
        for _ in 0..8 {
            stage.daemon.send(&line).await;
        }
        let mut frames = nix_compat::wire::FramedReader::new(&mut stage.daemon.read);
        let mut received = Vec::new();
        soon(frames.read_to_end(&mut received)).await.unwrap();
        assert!(received == nar);
        stage.daemon.reply(&[]).await;
    });
    assert_eq!(sent.unwrap(), nar.len() as u64);
}

#[tokio::test]
async fn an_upload_is_read_to_its_end_after_an_error() {
    let mut stage = Stage::new().await;
    let frames = {
        let mut frames = Vec::new();
        for _ in 0..100 {
            write_u64(&mut frames, 100_000);
            frames.extend([1; 100_000]);
        }
        write_u64(&mut frames, 0);
        frames
    };
    stage.send(&Request::AddMultipleToStore { repair: false, dont_check_sigs: true }).await;
    stage.daemon.request().await;
    let refusal = StderrMessage::Error(NixError::new("no signature"));
    stage.daemon.send(&refusal.encode()).await;
    drop((stage.daemon.read, stage.daemon.write));
    // Nobody reads this at the other end any more, and yet it can be written.
    soon(stage.client.writer_mut().write_all(&frames)).await.unwrap();
    let told = soon(StderrMessage::read(stage.client.reader_mut())).await.unwrap();
    assert_eq!(told, refusal);
    let ended = soon(stage.session).await.unwrap().unwrap_err();
    assert!(matches!(ended, SessionError::DaemonLost(_)), "{ended}");
}

#[tokio::test]
async fn a_nix_daemon_that_dies_before_its_reply_is_reported_in_the_protocol() {
    let mut stage = Stage::new().await;
    stage.send(&Request::EnsurePath(path("x"))).await;
    stage.daemon.request().await;
    drop(std::mem::replace(&mut stage.daemon, dead()));
    let (told, ended) = stage.last_words().await;
    assert!(told.contains("lost the connection to nix-daemon"), "{told}");
    assert!(matches!(ended, SessionError::DaemonLost(_)), "{ended}");
}

/// A connection that nobody uses.
fn dead() -> NixConnection {
    let (stream, _) = UnixStream::pair().unwrap();
    let (read, write) = stream.into_split();
    NixConnection { read: BufReader::new(read), write, version: ProtocolVersion::MAX }
}

#[tokio::test]
async fn a_nix_daemon_that_dies_within_its_reply_ends_the_session_without_a_forged_rest() {
    let mut stage = Stage::new().await;
    stage.send(&Request::NarFromPath(path("x"))).await;
    stage.daemon.request().await;
    stage.daemon.reply(&nar(b"half")[..40]).await;
    drop(stage.daemon);
    let mut received = Vec::new();
    soon(stage.client.reader_mut().read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), 8 + 40);
    assert!(soon(stage.session).await.unwrap().is_err());
}

#[tokio::test]
async fn unknown_operations_and_absurd_lengths_are_refused_and_end_only_that_session() {
    for (garbage, complaint) in [(&[4711][..], "4711"), (&[1, 1 << 60], "too long")] {
        let mut stage = Stage::new().await;
        let bytes: Vec<u8> = garbage.iter().copied().flat_map(u64::to_le_bytes).collect();
        soon(stage.writer().write_all(&bytes)).await.unwrap();
        let (told, ended) = stage.last_words().await;
        assert!(told.contains(complaint), "{told}");
        assert!(matches!(ended, SessionError::Client(_)), "{ended}");
    }
}

#[tokio::test]
async fn other_protocols_and_old_versions_are_refused_in_the_handshake() {
    let nix = FakeNix::new();
    let (mut client, session) = start(nix.local(), Asked::new().0, Lifetime::Session);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let ended = soon(session).await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("does not speak Nix's worker protocol"), "{ended}");

    let (mut client, session) = start(nix.local(), Asked::new().0, Lifetime::Session);
    let mut hello = Vec::new();
    write_u64(&mut hello, 0x6e69_7863);
    write_u64(&mut hello, 0x115);
    client.write_all(&hello).await.unwrap();
    let _daemon = nix.accept().await;
    let ended = soon(session).await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("1.21") && ended.contains("newer Nix"), "{ended}");
    let mut told = Vec::new();
    soon(client.read_to_end(&mut told)).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("newer Nix"));
}

#[tokio::test]
async fn without_nix_daemon_the_first_request_says_so() {
    let nix = FakeNix::new();
    let local = nix.local();
    drop(nix);
    let (stream, session) = start(local, Asked::new().0, Lifetime::Session);
    let (read, write) = stream.into_split();
    let (mut client, _) =
        soon(WorkerClient::handshake(read, write, ProtocolVersion::MAX)).await.unwrap();
    let asked = soon(client.is_valid_path(&path("x"), &mut Discard)).await;
    let told = asked.unwrap_err().to_string();
    assert!(told.contains("cannot connect to nix-daemon") && told.contains("systemctl"), "{told}");
    assert!(soon(session).await.unwrap().is_err());
}

#[tokio::test]
async fn a_derivation_becomes_a_job_and_is_done_with_when_its_outputs_are_fetched() {
    let Stage { mut client, mut daemon, mut calls, nix: _nix, .. } = Stage::new().await;
    let line = StderrMessage::Next(b"compiling\n".to_vec());
    let mut heard = Vec::new();
    let mut sink = |message| heard.push(message);
    let (drv_path, basic) = (path("x.drv"), drv("x"));
    let built = client.build_derivation(&drv_path, &basic, BuildMode::Normal, &mut sink);
    let (built, id) = tokio::join!(soon(built), async {
        let (job, events) = calls.submission().await;
        assert_eq!(job.payload, Payload::Derivation(Box::new(drv("x"))));
        assert_eq!((job.client.label.as_str(), job.forwarded), ("ssh from ::1", false));
        events.send(JobEvent::Message(line.clone())).await.unwrap();
        finish(&events, result(BuildStatus::Built)).await;
        job.key.id()
    });
    assert_eq!(built.unwrap(), result(BuildStatus::Built));
    assert_eq!(heard, [line]);

    for (name, last) in [("x-dev", false), ("x", true)] {
        let nar = nar(name.as_bytes());
        let (received, ()) = tokio::join!(fetch(&mut client, name), async {
            assert_eq!(daemon.request().await, Request::NarFromPath(path(name)));
            daemon.reply(&nar).await;
        });
        assert_eq!(received, nar);
        if last {
            assert_eq!(calls.fetched().await, id);
        } else {
            assert!(calls.is_quiet());
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_job_alone() {
    let Stage { mut client, mut daemon, mut calls, session, nix: _nix } = Stage::new().await;
    let request = Request::BuildDerivation {
        drv_path: path("x.drv"),
        drv: Box::new(drv("x")),
        mode: BuildMode::Normal,
    };
    let bytes = request.encode(client.version());
    client.writer_mut().write_all(&bytes).await.unwrap();
    let (_, events) = calls.submission().await;
    drop(client);
    soon(events.closed()).await;
    soon(session).await.unwrap().unwrap();
    assert!(daemon.is_closed().await);
}

#[tokio::test]
async fn a_refused_job_is_a_transient_failure() {
    let nix = FakeNix::new();
    let builds = Asked::refusing(Refusal::Full { held: 7 });
    let (stream, _session) = start(nix.local(), builds, Lifetime::Session);
    let (read, write) = stream.into_split();
    let (client, _daemon) =
        tokio::join!(WorkerClient::handshake(read, write, ProtocolVersion::MAX), nix.accept());
    let result = build(&mut client.unwrap().0, "x").await.unwrap();
    assert_eq!(result.status, BuildStatus::TransientFailure);
    assert!(String::from_utf8_lossy(&result.error_msg).contains("holds 7 jobs"));
}

#[tokio::test]
async fn several_targets_are_several_jobs_with_results_in_the_order_of_the_request() {
    let Stage { mut client, mut daemon, mut calls, nix, .. } = Stage::new().await;
    let [one, two] = ["one", "two"].map(|name| nix.add_drv(name));
    let targets = [format!("{one}!out"), path("plain").to_string(), format!("{two}!*")];
    let mut heard = Vec::new();
    let mut sink = |message| heard.push(message);
    let built = client.build_paths_with_results(&targets, BuildMode::Check, &mut sink);
    let (built, ()) = tokio::join!(soon(built), async {
        let Request::BuildPathsWithResults { targets: left, mode: BuildMode::Check } =
            daemon.request().await
        else {
            panic!("expected a build");
        };
        assert_eq!(left, [targets[1].clone()]);
        daemon.send(&StderrMessage::Next(b"fetching\n".to_vec()).encode()).await;
        let mut reply = Vec::new();
        let results = [(left[0].clone(), result(BuildStatus::Substituted))];
        write_keyed_results(&mut reply, &results, daemon.version);
        daemon.reply(&reply).await;

        let (first, first_events) = calls.submission().await;
        let (_, second_events) = calls.submission().await;
        assert_eq!(first.payload, Payload::Target(targets[0].clone()));
        for events in [&second_events, &first_events] {
            let line = StderrMessage::Next(b"line\n".to_vec());
            events.send(JobEvent::Message(line)).await.unwrap();
        }
        finish(&second_events, result(BuildStatus::TimedOut)).await;
        finish(&first_events, result(BuildStatus::Built)).await;
    });
    let built: Vec<_> = built.unwrap().into_iter().map(|(target, r)| (target, r.status)).collect();
    let [a, b, c] = targets;
    let statuses = [BuildStatus::Built, BuildStatus::Substituted, BuildStatus::TimedOut];
    assert_eq!(built, [a, b, c].into_iter().zip(statuses).collect::<Vec<_>>());
    assert_eq!(heard.len(), 3);
}

#[tokio::test]
async fn build_paths_answers_one_or_names_what_failed() {
    for (status, expected) in [(BuildStatus::Built, None), (BuildStatus::TimedOut, Some("x.drv"))] {
        let mut stage = Stage::new().await;
        let targets = vec![format!("{}!out", stage.nix.add_drv("x"))];
        stage.send(&Request::BuildPaths { targets, mode: BuildMode::Normal }).await;
        let (_, events) = stage.calls.submission().await;
        finish(&events, result(status)).await;
        match (stage.message().await, expected) {
            (StderrMessage::Last, None) => {
                assert_eq!(stage.client.reader_mut().read_u64_le().await.unwrap(), 1);
            }
            (StderrMessage::Error(error), Some(part)) => {
                assert!(error.to_string().contains(part), "{error}");
            }
            (message, _) => panic!("unexpected: {message:?}"),
        }
    }
}

#[tokio::test]
async fn a_job_whose_events_end_without_a_result_failed_for_now() {
    let Stage { mut client, mut calls, nix: _nix, daemon: _daemon, .. } = Stage::new().await;
    let (built, ()) =
        tokio::join!(build(&mut client, "x"), async { drop(calls.submission().await) });
    assert_eq!(built.unwrap().status, BuildStatus::TransientFailure);
}

#[tokio::test]
async fn a_clients_settings_are_answered_and_not_passed_on() {
    let mut stage = Stage::new().await;
    let options = ClientOptions::default();
    soon(stage.client.set_options(&options, &mut Discard)).await.unwrap();
    stage.send(&Request::SyncWithGc).await;
    assert_eq!(stage.daemon.request().await, Request::SyncWithGc);
}

#[tokio::test]
async fn a_peers_connection_to_nix_daemon_serves_its_next_jobs_until_it_is_idle_or_old() {
    let Stage { mut client, mut daemon, mut calls, nix, .. } =
        Stage::with(FakeNix::new(), Lifetime::Job).await;
    let mut options = ClientOptions::default();
    options.overrides.insert(CLIENT_SETTING.to_owned(), "alice on desk".to_owned());
    soon(client.set_options(&options, &mut Discard)).await.unwrap();

    let (failed, ()) = tokio::join!(build(&mut client, "x"), async {
        let (job, events) = calls.submission().await;
        assert_eq!(job.client.label, "alice on desk");
        assert!(job.forwarded, "it is sent on once at most");
        finish(&events, result(BuildStatus::PermanentFailure)).await;
    });
    assert!(!failed.unwrap().is_success());
    pass(KEPT_IDLE).await;
    assert!(daemon.is_closed().await, "it is idle");

    let (built, ()) = tokio::join!(build(&mut client, "y"), async {
        let (_, events) = calls.submission().await;
        finish(&events, result(BuildStatus::Built)).await;
    });
    assert!(built.unwrap().is_success());
    let (_, mut second) = tokio::join!(fetch(&mut client, "y"), async {
        let mut second = nix.accept().await;
        second.request().await;
        second.reply(&nar(b"y")).await;
        second
    });
    // `dev` is not fetched; the next job begins all the same.
    let request = Request::QueryValidPaths { paths: [path("z")].into(), substitute: false };
    let bytes = request.encode(client.version());
    client.writer_mut().write_all(&bytes).await.unwrap();
    assert_eq!(second.request().await, request, "the same connection");

    pass(USED_AGAIN).await;
    let (failed, ()) = tokio::join!(build(&mut client, "z"), async {
        let (_, events) = calls.submission().await;
        finish(&events, result(BuildStatus::PermanentFailure)).await;
    });
    assert!(!failed.unwrap().is_success());
    assert!(second.is_closed().await, "it is old");
}
