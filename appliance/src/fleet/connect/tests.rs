use std::collections::BTreeMap;

use nix_compat::nix_daemon::{
    BuildResult, BuildStatus, Request,
    client::{self, AddMultiple},
};
use tokio::{
    io::{DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinHandle,
};

use super::*;
use crate::{
    execute::{Link, Pool},
    fleet::Missing,
    model::{JobId, JobKey, Origin, Refusal, Want, Wish},
    wire::testing::{Asked, Calls, FakeNix, drv, finish, path, result, soon},
};

type Hook = client::Client<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

/// Every board is away.
struct Away;

impl Whereabouts for Away {
    fn of(&self, _: &JobId) -> Result<Arc<Link>, Missing> {
        Err(Missing::Away("nahe is not connected".to_owned()))
    }

    fn told(&self, _: &JobId, _: &PathInfo) {}
}

/// Where this client wants its derivations.
fn asked_for(drv: &StorePath, system: &str) -> Demand {
    let nodes = [drv.name().to_owned(), system.to_owned()].into();
    Wish { origin: Origin::On, want: Want::Require, nodes }.into()
}

/// A build hook at one end, the session at the other, the test as dispatcher and nix-daemon.
struct Scene {
    hook: Hook,
    calls: Calls,
    nix: FakeNix,
    session: JoinHandle<Result<(), ConnectError>>,
}

impl Scene {
    async fn new() -> Self {
        Self::of(ProtocolVersion::MAX).await
    }

    async fn of(version: ProtocolVersion) -> Self {
        let (builds, calls) = Asked::new();
        Self::with(builds, calls, version).await
    }

    async fn with(builds: Asked, calls: Calls, version: ProtocolVersion) -> Self {
        let nix = FakeNix::new();
        let (near, far) = duplex(1 << 16);
        let (reader, writer) = split(far);
        let session = Session {
            builds,
            whereabouts: Arc::new(Away),
            patience: Duration::ZERO,
            deliveries: Deliveries::default(),
            queries: Queries::new(Pool::new(nix.local().socket)),
            socket: nix.local().socket,
            client: Client { label: "alice (pid 4711)".to_owned() },
            demand: Arc::new(|drv, system, _| asked_for(drv, system)),
            reader: BufReader::new(reader),
            writer,
        };
        let session = tokio::spawn(session.run());
        let (reader, writer) = split(near);
        let (hook, hello) = soon(Hook::handshake(reader, writer, version)).await.unwrap();
        assert_eq!((hello.version, hello.trusted), (version, Some(true)));
        Self { hook, calls, nix, session }
    }

    /// Has `hello` built, with this result.
    async fn built(&mut self, given: BuildResult) -> BuildResult {
        let (hello, drv_path) = (drv("hello"), path("hello.drv"));
        let mut discard = Discard;
        let asked = self.hook.build_derivation(&drv_path, &hello, BuildMode::Normal, &mut discard);
        let played = async {
            let (_, events) = self.calls.submission().await;
            finish(&events, given).await;
        };
        soon(async { tokio::join!(asked, played) }).await.0.unwrap()
    }
}

fn refusal(error: ClientError) -> String {
    match error {
        ClientError::Nix(error) => String::from_utf8(error.message).unwrap(),
        other => panic!("not a refusal: {other}"),
    }
}

fn info(name: &str) -> PathInfo {
    PathInfo {
        path: path(name),
        deriver: None,
        nar_hash: "0".repeat(64),
        references: BTreeSet::new(),
        registration_time_s: 0,
        nar_size: 0,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: String::new(),
    }
}

/// The smallest NAR: an empty file.
fn nar() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in ["nix-archive-1", "(", "type", "regular", "contents", "", ")"] {
        wire::write_bytes(&mut bytes, word);
    }
    bytes
}

#[tokio::test]
async fn what_is_valid_is_what_the_local_store_has() {
    let Scene { mut hook, nix, .. } = Scene::new().await;
    let (asked, valid) = ([path("a"), path("b")].into(), BTreeSet::from([path("a")]));
    let daemon = async {
        let mut daemon = nix.accept().await;
        for _ in 0..2 {
            let Request::QueryValidPaths { substitute, .. } = daemon.request().await else {
                panic!("not a query of valid paths");
            };
            assert!(!substitute, "the local store is asked, not a cache");
            let mut reply = Vec::new();
            wire::write_store_path_set(&mut reply, &valid);
            daemon.reply(&reply).await;
        }
    };
    let queries = async {
        let answer = hook.query_valid_paths(&asked, true, &mut Discard).await.unwrap();
        assert_eq!(answer, valid);
        assert!(hook.is_valid_path(&path("a"), &mut Discard).await.unwrap());
    };
    soon(async { tokio::join!(daemon, queries) }).await;
}

#[tokio::test]
async fn an_empty_upload_bothers_no_daemon() {
    let Scene { mut hook, .. } = Scene::new().await;
    let upload: AddMultiple<'_, _, _> = hook.begin_add_multiple(0, false, true).await.unwrap();
    soon(upload.finish(&mut Discard)).await.unwrap();
    // Nobody answers at the daemon's socket: the session did not ask there.
    assert!(hook.is_idle());
}

#[tokio::test]
async fn an_upload_with_content_goes_to_the_local_store_whoever_asked_what_is_lacking() {
    let Scene { mut hook, nix, .. } = Scene::new().await;
    let daemon = async {
        let mut daemon = nix.accept().await;
        assert!(matches!(daemon.request().await, Request::AddMultipleToStore { .. }));
        let mut frames = BufReader::new(wire::FramedReader::new(&mut daemon.read));
        assert_eq!(wire::read_u64(&mut frames, "a count").await.unwrap(), 1);
        assert_eq!(PathInfo::read(&mut frames).await.unwrap().path, path("a"));
        let mut rest = Vec::new();
        tokio::io::copy_buf(&mut frames, &mut rest).await.unwrap();
        assert_eq!(rest, nar());
        daemon.reply(&[]).await;
    };
    let upload = async {
        let mut upload = hook.begin_add_multiple(1, false, true).await.unwrap();
        upload.add(&info("a"), &mut &nar()[..], &mut Discard).await.unwrap();
        upload.finish(&mut Discard).await.unwrap();
    };
    soon(async { tokio::join!(daemon, upload) }).await;
}

#[tokio::test]
async fn an_upload_that_the_local_store_refuses_is_refused_and_the_session_goes_on() {
    let mut scene = Scene::new().await;
    let daemon = async {
        let mut daemon = scene.nix.accept().await;
        daemon.request().await;
        wire::FramedReader::new(&mut daemon.read).drain().await.unwrap();
        daemon.send(&StderrMessage::Error(NixError::new("disk full")).encode()).await;
    };
    let upload = async {
        let mut upload = scene.hook.begin_add_multiple(1, false, true).await.unwrap();
        match upload.add(&info("a"), &mut &nar()[..], &mut Discard).await {
            Ok(_) => upload.finish(&mut Discard).await.unwrap_err(),
            Err(error) => error,
        }
    };
    let ((), error) = soon(async { tokio::join!(daemon, upload) }).await;
    assert_eq!(refusal(error), "disk full");
    assert!(scene.built(result(BuildStatus::Built)).await.is_success());
}

#[tokio::test]
async fn a_build_is_submitted_with_what_the_hook_says_and_its_messages_and_result_come_back() {
    let Scene { mut hook, mut calls, .. } = Scene::new().await;
    let (hello, drv_path) = (drv("hello"), path("hello.drv"));
    let mut heard = Vec::new();
    let mut sink = |message| heard.push(message);
    let activity = StderrMessage::StopActivity(7);
    let dispatcher = async {
        let (submission, events) = calls.submission().await;
        assert_eq!(submission.key.drv_path, drv_path);
        assert_eq!(submission.key.outputs, [JobKey::ALL_OUTPUTS.to_owned()].into());
        assert_eq!(
            (submission.key.mode, submission.system.as_str()),
            (Mode::Check, "riscv64-linux")
        );
        assert_eq!(submission.client.label, "alice (pid 4711)");
        assert_eq!(submission.demand, asked_for(&drv_path, "riscv64-linux"));
        events.send(JobEvent::Message(activity.clone())).await.unwrap();
        finish(&events, BuildResult::failure(BuildStatus::PermanentFailure, "exit 1")).await;
    };
    let build = hook.build_derivation(&drv_path, &hello, BuildMode::Check, &mut sink);
    let ((), built) = soon(async { tokio::join!(dispatcher, build) }).await;
    let built = built.unwrap();
    assert_eq!(
        (built.status, &built.error_msg[..]),
        (BuildStatus::PermanentFailure, &b"exit 1"[..])
    );
    assert_eq!(heard, [activity]);
}

#[tokio::test]
async fn an_older_client_gets_results_as_its_version_has_them() {
    let given = BuildResult {
        cpu_user_us: Some(1),
        built_outputs: BTreeMap::new(),
        ..result(BuildStatus::Built)
    };
    for version in [ProtocolVersion::V1_35, ProtocolVersion::V1_37] {
        let mut scene = Scene::of(version).await;
        for _ in 0..2 {
            assert!(scene.built(given.clone()).await.is_success(), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_said_in_words_and_the_session_goes_on() {
    let (_, calls) = Asked::new();
    let builds = Asked::refusing(Refusal::Full { held: 3 });
    let Scene { mut hook, .. } = Scene::with(builds, calls, ProtocolVersion::MAX).await;
    for _ in 0..2 {
        let (hello, drv_path) = (drv("hello"), path("hello.drv"));
        let mut discard = Discard;
        let build = hook.build_derivation(&drv_path, &hello, BuildMode::Normal, &mut discard);
        let error = soon(build).await.unwrap_err();
        assert!(refusal(error).contains("the queue holds 3 jobs"));
    }
}

#[tokio::test]
async fn a_daemon_that_stops_meanwhile_says_that_the_job_goes_on() {
    let Scene { mut hook, mut calls, .. } = Scene::new().await;
    let (hello, drv_path) = (drv("hello"), path("hello.drv"));
    let mut discard = Discard;
    let build = hook.build_derivation(&drv_path, &hello, BuildMode::Normal, &mut discard);
    let stop = async { drop(calls.submission().await) };
    let (built, ()) = soon(async { tokio::join!(build, stop) }).await;
    assert!(refusal(built.unwrap_err()).contains("ask again"));
}

#[tokio::test]
async fn a_hook_that_hangs_up_while_its_build_is_under_way_is_detached() {
    let Scene { mut hook, mut calls, session, .. } = Scene::new().await;
    let build = tokio::spawn(async move {
        let mut discard = Discard;
        let drv = drv("hello");
        hook.build_derivation(&path("hello.drv"), &drv, BuildMode::Normal, &mut discard).await
    });
    let (_, events) = calls.submission().await;
    build.abort();
    soon(events.closed()).await;
    assert!(matches!(soon(session).await.unwrap(), Err(ConnectError::Gone)));
    assert!(calls.is_quiet(), "nothing was fetched");
}

#[tokio::test]
async fn what_no_hook_asks_is_refused_by_name() {
    let Scene { mut hook, .. } = Scene::new().await;
    let error = soon(hook.ensure_path(&path("a"), &mut Discard)).await.unwrap_err();
    assert!(refusal(error).contains("EnsurePath"));
    assert!(hook.is_idle());
}

#[tokio::test]
async fn outputs_are_of_what_was_built_and_an_absent_board_is_named() {
    let mut scene = Scene::new().await;
    let error = soon(scene.hook.query_path_info(&path("hello"), &mut Discard)).await.unwrap_err();
    assert!(refusal(error).contains("is not an output of what was just built"));
    scene.built(result(BuildStatus::Built)).await;
    let error = soon(scene.hook.query_path_info(&path("hello"), &mut Discard)).await.unwrap_err();
    assert!(refusal(error).contains("nahe is not connected"));
    let error = soon(scene.hook.open_nar(&path("hello-dev"), &mut Discard)).await.unwrap_err();
    assert!(refusal(error).contains("nahe is not connected"));
}

#[tokio::test]
async fn a_session_ends_when_its_client_leaves_between_requests() {
    let Scene { hook, session, .. } = Scene::new().await;
    drop(hook);
    soon(session).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_speaks_something_else_is_let_go() {
    let Scene { mut hook, session, .. } = Scene::new().await;
    soon(hook.writer_mut().write_all(&[0xff; 64])).await.unwrap();
    assert!(matches!(soon(session).await.unwrap(), Err(ConnectError::Client(_))));
}
