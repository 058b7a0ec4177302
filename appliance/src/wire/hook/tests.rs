use std::{
    cell::RefCell,
    fs::File,
    io::{BufRead as _, BufReader},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
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
        command.arg(self.folder.path());
        command
    }

    /// Nix says all this, and the daemon answers so, and calls at once.
    fn play(&self, told: Vec<u8>, reply: Option<&HookReply>) -> Story {
        let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let nix_speaks = speak(writer, told);
        self.finish(nix, nix_speaks, reply)
    }

    fn finish(&self, nix: OwnedFd, speaks: JoinHandle<()>, reply: Option<&HookReply>) -> Story {
        let answer = |_: &Try| Some(Answer { reply: reply?.clone(), call: called() });
        let status = self.serve(&nix, &mut self.nix_hears(), &answer).unwrap();
        drop(nix);
        speaks.join().unwrap();
        let answers = std::fs::read_to_string(self.folder.path().join("answers")).unwrap();
        Story { heard: self.heard(), answers, status }
    }

    fn serve(
        &self,
        nix: &OwnedFd,
        answers: &mut File,
        answer: &dyn Fn(&Try) -> Option<Answer>,
    ) -> Result<ExitStatus, HookError> {
        let mut hook = Hook { pause: Duration::ZERO, ..Hook::new(self.stock(), None) };
        let ask = |slots, asked: &Try| {
            assert_eq!(slots, if asked.system == "x86_64-linux" { 2 } else { 0 });
            self.asked.borrow_mut().push(asked.drv_path.clone());
            answer(asked)
        };
        hook.serve(nix, answers, &ask)
    }

    fn nix_hears(&self) -> File {
        File::create(self.folder.path().join("answers")).unwrap()
    }

    fn heard(&self) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join("heard")).ok()
    }
}

/// A call, and the daemon's end of it.
fn call() -> (Call, UnixStream) {
    let (call, daemon) = UnixStream::pair().unwrap();
    (Call::new(call, UnixStream::pair().unwrap().0), daemon)
}

/// The daemon has called.
fn called() -> Call {
    let (call, mut daemon) = call();
    daemon.write_all(HookReply::CALL.as_bytes()).unwrap();
    call
}

fn taken() -> HookReply {
    HookReply::Taken { builder: "ssh-ng://there".to_owned() }
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
    let story = scene.play(told, Some(&HookReply::Local));
    assert_eq!(story.answers, "# decline\n# decline\n");
    assert_eq!(story.heard, None);
    assert!(story.status.success());
    assert_eq!(*scene.asked.borrow(), ["/nix/store/a", "/nix/store/b"]);
}

#[test]
fn everything_else_reaches_the_stock_hook_unchanged() {
    let inputs = [number(1), word("/nix/store/c"), number(1), word("out")].concat();
    let told = [ours(), a_try("a", 1, "x86_64-linux"), inputs].concat();
    for reply in [None, Some(&HookReply::Elsewhere)] {
        let story = Scene::new().play(told.clone(), reply);
        assert_eq!(story.heard.as_deref(), Some(&told[..]));
        assert_eq!(story.answers, "");
    }
}

#[test]
fn the_stock_hook_does_not_know_of_what_was_built_here() {
    let scene = Scene::new();
    let told = [ours(), a_try("a", 1, "x86_64-linux"), a_try("b", 1, "riscv64-linux")].concat();
    let story = scene.play(told, Some(&HookReply::Local));
    assert_eq!(story.answers, "# decline\n");
    assert_eq!(story.heard, Some([ours(), a_try("b", 1, "riscv64-linux")].concat()));
}

#[test]
fn the_daemon_is_not_asked_where_there_are_other_builders_than_its_own() {
    let others = "@/run/roost/machines ; @/etc/nix/machines";
    for told in [
        [settings(others), a_try("others", 1, "x86_64-linux")].concat(),
        [settings(""), a_try("none", 1, "x86_64-linux")].concat(),
    ] {
        let scene = Scene::new();
        let story = scene.play(told.clone(), Some(&HookReply::Local));
        assert_eq!(story.heard, Some(told));
        assert!(scene.asked.borrow().is_empty(), "{:?}", scene.asked);
    }
}

/// Has accepted what it is asked for, says something, and ends when Nix has said all.
const ACCEPTS: &str = "echo '@nix 1' >&2; printf '# accept\\nthe stock name\\n@nix 2\\n' >&2; cat; \
                       echo '@nix 3' >&2; exit 4";

#[test]
fn what_the_daemon_takes_is_accepted_at_once_and_the_stock_hook_started_when_it_calls() {
    let scene = Scene { then: ACCEPTS, ..Scene::new() };
    let inputs = [number(1), word("/nix/store/c"), number(1), word("out")].concat();
    let told = [ours(), a_try("a", 0, "riscv64-linux")].concat();
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((nix, to_hook), (from_hook, mut answers)) = (pipe(), {
        let (read, write) = pipe();
        (read, File::from(write))
    });
    let (call, mut daemon) = call();
    let heard = scene.folder.path().join("heard");
    let plays_nix = thread::spawn({
        let (told, inputs) = (told.clone(), inputs.clone());
        move || {
            let mut to_hook = File::from(to_hook);
            to_hook.write_all(&told).unwrap();
            let mut lines = BufReader::new(File::from(from_hook)).lines().map(Result::unwrap);
            let accepted = [lines.next().unwrap(), lines.next().unwrap()];
            assert_eq!(accepted, ["# accept", "ssh-ng://there"]);
            assert!(!heard.exists(), "the stock hook is not started yet");
            to_hook.write_all(&inputs).unwrap();
            daemon.write_all(HookReply::CALL.as_bytes()).unwrap();
            drop(to_hook);
            lines.collect::<Vec<_>>()
        }
    });
    let call = RefCell::new(Some(call));
    let answer = |_: &Try| Some(Answer { reply: taken(), call: call.take().unwrap() });
    let status = scene.serve(&nix, &mut answers, &answer).unwrap();
    drop(answers);
    assert_eq!(status.code(), Some(4));
    assert_eq!(scene.heard(), Some([told, inputs].concat()));
    assert_eq!(plays_nix.join().unwrap(), ["@nix 1", "@nix 2", "@nix 3"]);
}

#[test]
fn a_stock_hook_that_puts_off_what_was_taken_is_asked_again() {
    let scene = Scene {
        then: r#"n=$(cat "$0/n" 2>/dev/null || echo 0); echo $((n + 1)) >"$0/n"
            if [ "$n" -lt 2 ]; then echo '# postpone' >&2; cat; exit; fi
            printf '# accept\nx\n' >&2; cat"#,
        ..Scene::new()
    };
    let told = [ours(), a_try("a", 0, "riscv64-linux")].concat();
    let story = scene.play([told.clone(), number(0)].concat(), Some(&taken()));
    assert_eq!(story.answers, "# accept\nssh-ng://there\n");
    assert_eq!(
        story.heard,
        Some([told, number(0)].concat()),
        "the third one, and no other, has the inputs"
    );
    assert!(story.status.success());
}

#[test]
fn a_stock_hook_that_never_takes_what_was_taken_is_an_error_that_says_so() {
    let scene = Scene { then: "echo '# decline' >&2; cat", ..Scene::new() };
    let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let speaks = speak(writer, [ours(), a_try("a", 0, "riscv64-linux")].concat());
    let answer = |_: &Try| Some(Answer { reply: taken(), call: called() });
    let error = scene.serve(&nix, &mut scene.nix_hears(), &answer).unwrap_err().to_string();
    speaks.join().unwrap();
    assert!(error.contains("cannot have it built: sh answers decline"), "{error}");
}

#[test]
fn a_daemon_that_ends_before_it_calls_is_asked_again_and_no_stock_hook_started_meanwhile() {
    let scene = Scene { then: ACCEPTS, ..Scene::new() };
    let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let told = [ours(), a_try("a", 0, "riscv64-linux"), number(0)].concat();
    let speaks = speak(writer, told.clone());
    let times = RefCell::new(0);
    let answer = |_: &Try| {
        *times.borrow_mut() += 1;
        assert_eq!(scene.heard(), None);
        match *times.borrow() {
            // It ends without a word, is away, and is back.
            1 => Some(Answer { reply: taken(), call: call().0 }),
            2 | 3 => None,
            _ => Some(Answer { reply: taken(), call: called() }),
        }
    };
    scene.serve(&nix, &mut scene.nix_hears(), &answer).unwrap();
    speaks.join().unwrap();
    assert_eq!((*times.borrow(), scene.heard()), (4, Some(told)));
}

#[test]
fn a_daemon_that_is_not_back_in_time_is_an_error_that_says_so() {
    let scene = Scene::new();
    let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let speaks = speak(writer, [ours(), a_try("a", 0, "riscv64-linux")].concat());
    let first = RefCell::new(Some(call().0));
    let answer = |_: &Try| Some(Answer { reply: taken(), call: first.take()? });
    let error = scene.serve(&nix, &mut scene.nix_hears(), &answer).unwrap_err().to_string();
    speaks.join().unwrap();
    assert!(error.contains("the roost daemon does not answer"), "{error}");
    assert_eq!(scene.heard(), None);
}

#[test]
fn what_nobody_takes_ends_with_the_nix_that_wants_it() {
    let scene = Scene { then: "echo '# postpone' >&2; cat", ..Scene::new() };
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((nix, writer), (reader, answers)) = (pipe(), pipe());
    let speaks = speak(writer, [ours(), a_try("a", 0, "riscv64-linux")].concat());
    let reader = RefCell::new(Some(reader));
    let answer = |_: &Try| {
        // When it is asked for the second time, Nix has gone.
        if scene.asked.borrow().len() > 1 {
            drop(reader.take());
        }
        Some(Answer { reply: taken(), call: called() })
    };
    assert!(scene.serve(&nix, &mut File::from(answers), &answer).unwrap().success());
    speaks.join().unwrap();
}

#[test]
fn a_stock_hook_that_ends_without_an_answer_to_what_was_taken_is_ended_like() {
    let scene = Scene { then: "exit 3", ..Scene::new() };
    let told = [ours(), a_try("a", 0, "riscv64-linux")].concat();
    assert_eq!(scene.play(told, Some(&taken())).status.code(), Some(3));
}

#[test]
fn what_is_taken_has_a_stock_hook_of_its_own() {
    let scene = Scene { then: r"printf '# accept\nx\n' >&2; cat", ..Scene::new() };
    let (nix, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let others = a_try("others", 0, "riscv64-linux");
    let own = a_try("own", 0, "riscv64-linux");
    let speaks = speak(writer, [ours(), others, own.clone(), number(0)].concat());
    let answer = |asked: &Try| {
        let takes = asked.drv_path.ends_with("own");
        let reply = if takes { taken() } else { HookReply::Elsewhere };
        Some(Answer { reply, call: called() })
    };
    scene.serve(&nix, &mut scene.nix_hears(), &answer).unwrap();
    speaks.join().unwrap();
    assert_eq!(scene.heard(), Some([ours(), own, number(0)].concat()));
    let answers = std::fs::read_to_string(scene.folder.path().join("answers")).unwrap();
    assert_eq!(answers, "# accept\nssh-ng://there\n", "the first one's answer is its own");
}

#[test]
fn what_makes_no_sense_reaches_the_stock_hook_unchanged() {
    for told in [vec![0xff; 100], [ours(), vec![3]].concat(), b"{}".to_vec()] {
        let story = Scene::new().play(told.clone(), Some(&HookReply::Local));
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
    async fn answered(word: &'static str) -> Option<HookReply> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        let door = Door::open(&socket, Access::default()).unwrap();
        let daemon = tokio::spawn(door.run(move |mut visit| async move {
            let Request::Advise { system, features, .. } = &visit.request else { return };
            assert_eq!((system.as_str(), features.len()), ("x86_64-linux", 1));
            visit.output.write_all(word.as_bytes()).await.unwrap();
            visit.notes.end(0).await;
        }));
        let answer = tokio::task::spawn_blocking(move || ask::ask(&socket, 2, &asked())).await;
        daemon.abort();
        answer.unwrap().map(|answer| answer.reply)
    }

    #[tokio::test]
    async fn the_daemon_is_asked_and_its_word_taken() {
        assert_eq!(answered("local").await, Some(HookReply::Local));
        assert_eq!(answered("elsewhere").await, Some(HookReply::Elsewhere));
        assert_eq!(answered("later, perhaps").await, None);
        assert_eq!(answered("").await, None);
    }

    #[test]
    fn a_daemon_that_is_gone_or_never_answers_gives_no_advice_soon() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        assert!(ask::ask(&socket, 2, &asked()).is_none());
        // It takes the connection, as the kernel does for a stopped process.
        let _listener = UnixListener::bind(&socket).unwrap();
        let begun = tokio::time::Instant::now();
        assert!(ask::ask(&socket, 2, &asked()).is_none());
        assert!(begun.elapsed().as_secs() < 5);
    }
}
