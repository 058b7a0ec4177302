use std::{os::fd::BorrowedFd, os::unix::net::UnixStream as Client, time::Duration};

use rustix::pipe::pipe;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{super::command::Command, *};

const DEADLINE: Duration = Duration::from_secs(10);

/// A door in a temporary folder that passes its visits to the test.
struct House {
    folder: tempfile::TempDir,
    visits: mpsc::UnboundedReceiver<Visit>,
    task: JoinHandle<()>,
}

impl House {
    fn new(access: Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(&folder.path().join("run/daemon.sock"), access).unwrap();
        let (sender, visits) = mpsc::unbounded_channel();
        let task = tokio::spawn(door.run(move |visit| {
            let sender = sender.clone();
            async move { drop(sender.send(visit)) }
        }));
        Self { folder, visits, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/daemon.sock")
    }

    fn client(&self) -> Client {
        Client::connect(self.socket()).unwrap()
    }

    async fn visit(&mut self) -> Visit {
        timeout(DEADLINE, self.visits.recv()).await.unwrap().unwrap()
    }
}

/// Everything the daemon says on a client's socket.
async fn answer(client: Client) -> String {
    client.set_nonblocking(true).unwrap();
    let mut stream = UnixStream::from_std(client).unwrap();
    let mut bytes = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn say(client: &Client, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(client, &[io::IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

const CONNECT: &[u8] = br#"{"version":1,"kind":"connect","selector":"aarch64-linux"}"#;

#[tokio::test]
async fn a_client_hands_over_its_streams_and_gets_text_and_exit_code() {
    let mut house = House::new(Access::default());
    let (client, (stdin, to_stdin), (from_stdout, stdout)) =
        (house.client(), pipe().unwrap(), pipe().unwrap());
    say(&client, &hello::frame(None, CONNECT), &[stdin.as_fd(), stdout.as_fd()]);
    let mut visit = house.visit().await;
    assert_eq!(visit.request, Request::Connect { selector: "aarch64-linux".to_owned() });
    assert_eq!(visit.caller.pid, i32::try_from(std::process::id()).unwrap());

    rustix::io::write(&to_stdin, b"ping").unwrap();
    let mut bytes = [0; 4];
    timeout(DEADLINE, visit.input.read_exact(&mut bytes)).await.unwrap().unwrap();
    visit.output.write_all(b"pong").await.unwrap();
    let mut reply = [0; 4];
    rustix::io::read(&from_stdout, &mut reply).unwrap();
    assert_eq!((&bytes, &reply), (b"ping", b"pong"));

    visit.notes.text("a line\n").await;
    visit.notes.end(3).await;
    drop(visit.lifeline);
    assert_eq!(answer(client).await, "\u{8}\0\0\0Ta line\n\u{2}\0\0\0E\u{3}");
}

#[tokio::test]
async fn a_hello_may_come_in_pieces() {
    let mut house = House::new(Access::default());
    let (client, (read, write)) = (house.client(), pipe().unwrap());
    let bytes = hello::frame(None, CONNECT);
    say(&client, &bytes[..3], &[read.as_fd(), write.as_fd()]);
    for piece in bytes[3..].chunks(5) {
        tokio::task::yield_now().await;
        say(&client, piece, &[]);
    }
    house.visit().await;
}

#[tokio::test]
async fn a_client_that_dies_is_noticed() {
    let mut house = House::new(Access::default());
    let (client, (read, write)) = (house.client(), pipe().unwrap());
    say(&client, &hello::frame(None, CONNECT), &[read.as_fd(), write.as_fd()]);
    let mut visit = house.visit().await;
    assert!(timeout(Duration::from_millis(20), visit.lifeline.gone()).await.is_err());
    drop(client);
    timeout(DEADLINE, visit.lifeline.gone()).await.unwrap();
}

#[tokio::test]
async fn bad_hellos_are_refused_and_the_next_client_is_served() {
    let mut house = House::new(Access::default());
    let (read, write) = pipe().unwrap();
    let (two, three) = ([read.as_fd(), write.as_fd()], [read.as_fd(), read.as_fd(), write.as_fd()]);
    let hellos: [(Vec<u8>, &[BorrowedFd<'_>]); 7] = [
        (vec![0xff; 8], &two),
        (hello::frame(None, b"not json"), &two),
        (hello::frame(None, br#"{"version":2,"kind":"connect","selector":"x"}"#), &two),
        (hello::frame(None, br#"{"version":1,"kind":"dance"}"#), &two),
        (hello::frame(None, CONNECT), &two[..1]),
        (hello::frame(None, CONNECT), &three),
        ([hello::frame(None, CONNECT), vec![0]].concat(), &two),
    ];
    for (bytes, fds) in hellos {
        let client = house.client();
        say(&client, &bytes, fds);
        let answer = answer(client).await;
        assert!(answer.contains("roost: ") && answer.ends_with("E\u{1}"), "{answer:?}");
    }
    let client = house.client();
    say(&client, &hello::frame(None, CONNECT), &two);
    house.visit().await;
}

#[tokio::test]
async fn a_file_as_standard_input_is_refused() {
    let house = House::new(Access::default());
    let (file, (_read, write)) = (tempfile::tempfile().unwrap(), pipe().unwrap());
    let client = house.client();
    say(&client, &hello::frame(None, CONNECT), &[file.as_fd(), write.as_fd()]);
    let answer = answer(client).await;
    assert!(answer.contains("standard input is a regular file"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_turned_away_in_time() {
    let house = House::new(Access::default());
    let answer = answer(house.client()).await;
    assert!(answer.contains("within 5 s"), "{answer:?}");
}

#[test]
fn only_root_connects_and_only_root_and_roost_are_served() {
    let access = Access { serve_uid: Some(990), gid: None };
    let connect = Request::Connect { selector: String::new() };
    let serve = Request::Serve { command: Command::Worker, peer: String::new(), key: None };
    let allowed = |uid| (access.allows(uid, &connect), access.allows(uid, &serve));
    assert_eq!(allowed(0), (true, true));
    assert_eq!(allowed(990), (false, true));
    assert_eq!(allowed(1000), (false, false));
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let house = House::new(Access::default());
    let socket = house.socket();
    assert!(matches!(Door::open(&socket, Access::default()), Err(OpenError::Taken(_))));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    house.task.abort();
    drop(house.task.await);
    assert!(!socket.exists());

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    drop(Door::open(&socket, Access::default()).unwrap());

    std::fs::write(&socket, "precious").unwrap();
    assert!(matches!(Door::open(&socket, Access::default()), Err(OpenError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn beyond_the_limit_of_sessions_clients_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut door = Door::open(&folder.path().join("daemon.sock"), Access::default()).unwrap();
    door.sessions = Arc::new(Semaphore::new(0));
    let socket = door.path.clone();
    let task = tokio::spawn(door.run(|_| async {}));
    let answer = answer(Client::connect(&socket).unwrap()).await;
    assert!(answer.contains("its limit"), "{answer:?}");
    task.abort();
}
