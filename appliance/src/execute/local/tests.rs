use nix_compat::{
    nix_daemon::{Field, NixError, PathInfo, Request, StderrMessage},
    wire,
};

use std::sync::Arc;

use super::*;
use crate::{
    execute::activity,
    model::{Client, JobKey, Mode, Site},
    wire::testing::{FakeNix, NixConnection, drv, path, result, soon},
};

/// What a run tells, in words.
#[derive(Default)]
struct Told(Vec<String>);

impl Report for Told {
    fn accepted(&mut self) {
        self.0.push("accepted".to_owned());
    }

    fn stage(&mut self, stage: Stage) {
        self.0.push(match stage {
            Stage::Building { node, phase } => format!("{node} {}", phase.unwrap_or_default()),
            other => format!("{other:?}"),
        });
    }

    fn line(&mut self, line: &[u8]) {
        self.0.push(format!("> {}", String::from_utf8_lossy(line)));
    }

    fn measured(&mut self, measured: Measured) {
        self.0.push(format!("{measured:?}"));
    }
}

/// The executor, a nix-daemon played by the test, and where outputs are held.
struct Scene {
    nix: FakeNix,
    executor: LocalNix,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (nix, folder) = (FakeNix::new(), tempfile::tempdir().unwrap());
        let executor = LocalNix {
            pool: Pool::new(nix.local().socket),
            node: "nahe".to_owned(),
            settings: BuildSettings {
                cores: 3,
                timeout_s: 7200,
                max_silent_s: 600,
                features: ["kvm".to_owned()].into(),
            },
            roots: Roots::open(&folder.path().join("roots"), "/nix/store".as_ref()).unwrap(),
            trouble: Arc::default(),
            builds: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            memory_peak: folder.path().join("memory.peak"),
        };
        Self { nix, executor, folder }
    }

    /// Accepts the connection of a run, up to its request to build.
    async fn request(&self) -> NixConnection {
        self.request_of(Cores::Share).await
    }

    /// The same of a run that was ordered with these cores.
    async fn request_of(&self, cores: Cores) -> NixConnection {
        let expected = if cores == Cores::All { 0 } else { 3 };
        let mut daemon = self.nix.accept().await;
        let Request::SetOptions(options) = daemon.request().await else { panic!("no options") };
        assert_eq!((options.max_build_jobs, options.build_cores), (1, expected));
        assert_eq!(options.max_silent_time_s, 600);
        let overridden = |name: &str| options.overrides[name].clone();
        assert_eq!((overridden("builders"), overridden("timeout")), (String::new(), "7200".into()));
        assert_eq!(overridden("system-features"), "kvm");
        daemon.reply(&[]).await;
        assert!(matches!(daemon.request().await, Request::BuildDerivation { .. }));
        daemon
    }

    fn outputs(&self) -> Vec<String> {
        let dir = self.folder.path().join("roots").join(order().key.id().as_str()).join("outputs");
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn run(&self) -> (Verdict, Vec<String>) {
        let mut told = Told::default();
        let verdict = self.executor.run(order(), &mut told).await;
        (verdict, told.0)
    }
}

fn order() -> Order {
    Order {
        key: JobKey {
            drv_path: path("hello.drv"),
            outputs: [JobKey::ALL_OUTPUTS.to_owned()].into(),
            mode: Mode::Normal,
            site: Site::Here,
        },
        payload: Payload::Derivation(Box::new(drv("hello"))),
        client: Client { label: "alice (pid 4711)".to_owned() },
        cores: Cores::Share,
    }
}

fn built(daemon: &NixConnection) -> Vec<u8> {
    let mut reply = Vec::new();
    result(BuildStatus::Built).write(&mut reply, daemon.version);
    reply
}

/// Plays the rest of a build that ends well: its outputs are protected, and asked for their size.
async fn hold(daemon: &mut NixConnection) {
    let reply = built(daemon);
    daemon.reply(&reply).await;
    for _ in 0..2 {
        assert!(matches!(daemon.request().await, Request::AddTempRoot(_)));
        let mut reply = Vec::new();
        wire::write_u64(&mut reply, 1);
        daemon.reply(&reply).await;
    }
    for _ in 0..2 {
        let Request::QueryPathInfo(path) = daemon.request().await else { panic!("no question") };
        let info = PathInfo {
            path,
            deriver: None,
            nar_hash: "0".repeat(64),
            references: BTreeSet::new(),
            registration_time_s: 0,
            nar_size: 1000,
            ultimate: true,
            signatures: BTreeSet::new(),
            ca: String::new(),
        };
        let mut reply = Vec::new();
        PathInfo::write_reply(Some(&info), &mut reply);
        daemon.reply(&reply).await;
    }
}

/// What is told of a build's measurements.
fn measured(peak_mib: Option<u32>) -> String {
    format!("{:?}", Measured { output_bytes: Some(2000), peak_mib })
}

#[tokio::test]
async fn a_build_is_told_of_and_its_outputs_are_held() {
    let scene = Scene::new();
    let daemon = async {
        let mut daemon = scene.request().await;
        for (kind, text) in [(activity::SET_PHASE, "buildPhase"), (activity::LOG_LINE, "compiling")]
        {
            let fields = vec![Field::String(text.as_bytes().to_vec())];
            daemon.send(&StderrMessage::Result { id: 1, kind, fields }.encode()).await;
        }
        daemon.send(&StderrMessage::Next(b"one\ntwo\n".to_vec()).encode()).await;
        hold(&mut daemon).await;
        assert!(daemon.is_closed().await);
    };
    let ((verdict, told), ()) = soon(async { tokio::join!(scene.run(), daemon) }).await;
    assert!(matches!(verdict, Verdict::Ended(result) if result.is_success()));
    let measured = measured(None);
    let lines = ["> compiling", "> one", "> two", &measured];
    assert_eq!(told, [&["accepted", "nahe ", "nahe buildPhase"][..], &lines].concat());
    assert_eq!(scene.outputs(), [path("hello").base_name(), path("hello-dev").base_name()]);
}

#[tokio::test]
async fn a_build_that_is_to_have_all_cores_gets_them() {
    let scene = Scene::new();
    let daemon = async {
        let mut daemon = scene.request_of(Cores::All).await;
        hold(&mut daemon).await;
    };
    let (order, mut told) = (Order { cores: Cores::All, ..order() }, Told::default());
    let run = scene.executor.run(order, &mut told);
    let (verdict, ()) = soon(async { tokio::join!(run, daemon) }).await;
    assert!(matches!(verdict, Verdict::Ended(result) if result.is_success()));
}

#[tokio::test]
async fn the_memory_of_a_build_is_known_if_no_other_ran_meanwhile() {
    let scene = Scene::new();
    let peak = || std::fs::write(&scene.executor.memory_peak, "734003200\n").unwrap();
    peak();
    let alone = async {
        let mut daemon = scene.request().await;
        peak();
        hold(&mut daemon).await;
    };
    let ((_, told), ()) = soon(async { tokio::join!(scene.run(), alone) }).await;
    assert_eq!(told.last(), Some(&measured(Some(700))));
    let mut first = std::pin::pin!(scene.run());
    let mut one = soon(async {
        tokio::select! {
            one = scene.request() => one,
            _ = &mut first => panic!("nothing was built"),
        }
    })
    .await;
    let second = async {
        let mut other = scene.request().await;
        peak();
        hold(&mut other).await;
        hold(&mut one).await;
    };
    let ((_, one), (_, other), ()) = soon(async { tokio::join!(first, scene.run(), second) }).await;
    assert_eq!((one.last(), other.last()), (Some(&measured(None)), Some(&measured(None))));
}

#[tokio::test]
async fn a_nix_daemon_that_is_not_there_is_no_death() {
    let Scene { nix, executor, folder } = Scene::new();
    drop(nix);
    let (verdict, _) = Scene { nix: FakeNix::new(), executor, folder }.run().await;
    assert!(matches!(&verdict, Verdict::Lost(why) if why.contains("nix-daemon")), "{verdict:?}");
}

#[tokio::test]
async fn a_nix_daemon_that_dies_under_the_build_is_a_death() {
    let scene = Scene::new();
    let daemon = async { drop(scene.request().await) };
    let ((verdict, _), ()) = soon(async { tokio::join!(scene.run(), daemon) }).await;
    assert!(matches!(&verdict, Verdict::Died(why) if why.contains("nahe")), "{verdict:?}");
    assert!(scene.outputs().is_empty());
}

#[tokio::test]
async fn a_refusal_of_nix_daemons_is_the_jobs_result() {
    let scene = Scene::new();
    let daemon = async {
        let mut daemon = scene.request().await;
        daemon.send(&StderrMessage::Error(NixError::new("no such builder")).encode()).await;
    };
    let ((verdict, _), ()) = soon(async { tokio::join!(scene.run(), daemon) }).await;
    let Verdict::Ended(result) = verdict else { panic!("{verdict:?}") };
    assert_eq!(
        (result.status, &result.error_msg[..]),
        (BuildStatus::MiscFailure, &b"no such builder"[..])
    );
}

#[tokio::test]
async fn a_dropped_run_closes_its_connection() {
    let scene = Scene::new();
    let mut told = Told::default();
    let mut run = scene.executor.run(order(), &mut told);
    let mut daemon = soon(async {
        tokio::select! {
            daemon = scene.request() => daemon,
            verdict = &mut run => panic!("{verdict:?}"),
        }
    })
    .await;
    drop(run);
    assert!(daemon.is_closed().await);
}
