use std::{
    cell::RefCell,
    fs::File,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::Command,
    thread::{self, JoinHandle},
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

fn word(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn number(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn settings(builders: &str) -> Vec<u8> {
    let set = |(name, value)| [number(1), word(name), word(value)].concat();
    let all = [("builders", builders), ("max-jobs", "2"), ("system", "x86_64-linux")];
    [all.map(set).concat(), number(0)].concat()
}

fn ours() -> Vec<u8> {
    settings("@/run/roost/machines")
}

fn a_try(name: &str, willing: u64, system: &str) -> Vec<u8> {
    [word("try"), number(willing), word(system), word(&format!("/nix/store/{name}")), number(0)]
        .concat()
}

/// A stock hook that keeps what it hears in a file, and ends as it is told.
struct Scene {
    folder: tempfile::TempDir,
    then: &'static str,
    asked: RefCell<Vec<String>>,
}

/// How it went.
struct Story {
    /// What the stock hook heard; none if it was never started.
    heard: Option<Vec<u8>>,
    /// What Nix was answered, by roost.
    answers: String,
    status: ExitStatus,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), then: "exec cat", asked: RefCell::default() }
    }

    fn stock(&self) -> Command {
        let heard = self.folder.path().join("heard");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec >{}; {}", heard.display(), self.then));
        command
    }

    /// Nix says all this, and hears from the daemon what `advice` says.
    fn play(&self, told: Vec<u8>, advice: Option<Advice>) -> Story {
        let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let nix_speaks = speak(writer, told);
        self.finish(nix, nix_speaks, advice)
    }

    fn finish(&self, nix: OwnedFd, speaks: JoinHandle<()>, advice: Option<Advice>) -> Story {
        let mut answers = Vec::new();
        let mut hook = Hook::new(self.stock(), None);
        let advise = |slots, asked: &Try| {
            assert_eq!(slots, 2);
            self.asked.borrow_mut().push(asked.drv_path.clone());
            advice
        };
        hook.relay(&nix, &mut answers, &advise).unwrap();
        let status = hook.finish().unwrap();
        drop(nix);
        speaks.join().unwrap();
        Story {
            heard: std::fs::read(self.folder.path().join("heard")).ok(),
            answers: String::from_utf8(answers).unwrap(),
            status,
        }
    }
}

fn speak(writer: OwnedFd, told: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        // The hook may end before it has heard all.
        drop(File::from(writer).write_all(&told));
    })
}

#[test]
fn what_is_built_here_is_declined_and_the_stock_hook_never_started() {
    let scene = Scene::new();
    let told = [ours(), a_try("a", 1, "x86_64-linux"), a_try("b", 1, "x86_64-linux")].concat();
    let story = scene.play(told, Some(Advice::Local));
    assert_eq!(story.answers, "# decline\n# decline\n");
    assert_eq!(story.heard, None);
    assert!(story.status.success());
    assert_eq!(*scene.asked.borrow(), ["/nix/store/a", "/nix/store/b"]);
}

#[test]
fn everything_else_reaches_the_stock_hook_unchanged() {
    let inputs = [number(1), word("/nix/store/c"), number(1), word("out")].concat();
    let told = [ours(), a_try("a", 1, "x86_64-linux"), inputs].concat();
    for advice in [None, Some(Advice::Elsewhere)] {
        let story = Scene::new().play(told.clone(), advice);
        assert_eq!(story.heard.as_deref(), Some(&told[..]));
        assert_eq!(story.answers, "");
    }
}

#[test]
fn the_stock_hook_does_not_know_of_what_was_built_here() {
    let scene = Scene::new();
    let told = [ours(), a_try("a", 1, "x86_64-linux"), a_try("b", 1, "riscv64-linux")].concat();
    let story = scene.play(told, Some(Advice::Local));
    assert_eq!(story.answers, "# decline\n");
    assert_eq!(story.heard, Some([ours(), a_try("b", 1, "riscv64-linux")].concat()));
}

#[test]
fn the_daemon_is_not_asked_where_nix_could_not_build_by_itself() {
    let others = "@/run/roost/machines ; @/etc/nix/machines";
    for told in [
        [ours(), a_try("foreign", 1, "riscv64-linux")].concat(),
        [settings(others), a_try("others", 1, "x86_64-linux")].concat(),
        [settings(""), a_try("none", 1, "x86_64-linux")].concat(),
    ] {
        let scene = Scene::new();
        let story = scene.play(told.clone(), Some(Advice::Local));
        assert_eq!(story.heard, Some(told));
        assert!(scene.asked.borrow().is_empty(), "{:?}", scene.asked);
    }
}

#[test]
fn what_makes_no_sense_reaches_the_stock_hook_unchanged() {
    for told in [vec![0xff; 100], [ours(), vec![3]].concat(), b"{}".to_vec()] {
        let story = Scene::new().play(told.clone(), Some(Advice::Local));
        assert_eq!(story.heard, Some(told));
    }
}

#[test]
fn it_ends_as_the_stock_hook_does() {
    let told = || [ours(), a_try("a", 0, "x86_64-linux")].concat();
    let failing = Scene { then: "cat; exit 100", ..Scene::new() };
    assert_eq!(failing.play(told(), None).status.code(), Some(100));
    let killed = Scene { then: "cat; kill -KILL $$", ..Scene::new() };
    assert_eq!(killed.play(told(), None).status.signal(), Some(9));
}

#[test]
fn it_ends_when_the_stock_hook_does_though_nix_waits_for_an_answer() {
    let scene = Scene { then: "exit 7", ..Scene::new() };
    let (nix, mut writer) =
        pipe_with(PipeFlags::CLOEXEC).map(|(nix, writer)| (nix, File::from(writer))).unwrap();
    writer.write_all(&[ours(), a_try("a", 0, "x86_64-linux")].concat()).unwrap();
    // Nix goes on listening, and says nothing more.
    let story = scene.finish(nix, thread::spawn(|| ()), None);
    assert_eq!(story.status.code(), Some(7));
    drop(writer);
}

#[test]
fn other_builders_than_ours_are_known() {
    for (builders, ours) in [
        ("@/run/roost/machines", true),
        (" @/run/roost/machines ;\n", true),
        ("", false),
        (" ; ", false),
        ("@/etc/nix/machines", false),
        ("@/run/roost/machines ; @/etc/nix/machines", false),
        ("ssh-ng://a riscv64-linux", false),
    ] {
        assert_eq!(is_ours(builders), ours, "{builders:?}");
    }
}

mod asking {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::wire::door::{Access, Door, Request};
    use tokio::io::AsyncWriteExt as _;

    fn asked() -> Try {
        Try {
            willing: true,
            system: "x86_64-linux".to_owned(),
            drv_path: "/nix/store/a.drv".to_owned(),
            features: ["kvm".to_owned()].into(),
            bytes: Vec::new(),
        }
    }

    /// What the hook learns from a daemon that answers with this word.
    async fn answered(word: &'static str) -> Option<Advice> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        let door = Door::open(&socket, Access::default()).unwrap();
        let daemon = tokio::spawn(door.run(move |mut visit| async move {
            let Request::Advise { system, features, .. } = &visit.request else { return };
            assert_eq!((system.as_str(), features.len()), ("x86_64-linux", 1));
            visit.output.write_all(word.as_bytes()).await.unwrap();
            visit.notes.end(0).await;
        }));
        let advice = tokio::task::spawn_blocking(move || ask::ask(&socket, 2, &asked())).await;
        daemon.abort();
        advice.unwrap()
    }

    #[tokio::test]
    async fn the_daemon_is_asked_and_its_word_taken() {
        assert_eq!(answered("local").await, Some(Advice::Local));
        assert_eq!(answered("elsewhere").await, Some(Advice::Elsewhere));
        assert_eq!(answered("later, perhaps").await, None);
        assert_eq!(answered("").await, None);
    }

    #[test]
    fn a_daemon_that_is_gone_or_never_answers_gives_no_advice_soon() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        assert_eq!(ask::ask(&socket, 2, &asked()), None);
        // It takes the connection, as the kernel does for a stopped process.
        let _listener = UnixListener::bind(&socket).unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(ask::ask(&socket, 2, &asked()), None);
        assert!(begun.elapsed().as_secs() < 5);
    }
}
