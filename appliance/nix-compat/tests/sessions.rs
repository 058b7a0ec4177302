//! Both ends of a worker-protocol session, joined by pipes so small that whoever does not listen
//! while it talks blocks the other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nix_compat::{
    nar::Node,
    nix_daemon::{
        NixError, PathInfo, ProtocolVersion, Realisation, Request, ServerHello, StderrMessage,
        client::{Client, ClientError, Discard},
        server,
    },
    nixhash::NixHash,
    store_path::StorePath,
    wire::{FramedReader, WireError, read_u64, write_bool, write_store_path_set, write_u64},
};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};

const PIPE: usize = 256;
const DEADLINE: Duration = Duration::from_secs(30);

type Reader = ReadHalf<DuplexStream>;
type Writer = WriteHalf<DuplexStream>;

fn path(n: usize) -> StorePath {
    format!("/nix/store/{n:032}-a").parse().unwrap()
}

fn info(n: usize, nar: &[u8]) -> PathInfo {
    PathInfo {
        path: path(n),
        deriver: None,
        nar_hash: NixHash::sha256(nar).to_base16(),
        references: BTreeSet::new(),
        registration_time_s: 1,
        nar_size: nar.len() as u64,
        ultimate: false,
        signatures: BTreeSet::new(),
        ca: String::new(),
    }
}

fn nar() -> Vec<u8> {
    let file = Node::file(vec![b'x'; 100_000]);
    let link = Node::Symlink { target: b"file".to_vec() };
    Node::Directory(BTreeMap::from([(b"file".to_vec(), file), (b"link".to_vec(), link)])).to_nar()
}

fn hello(version: ProtocolVersion) -> ServerHello {
    ServerHello { version, nix_version: "2.26.3".to_owned(), trusted: Some(true) }
}

/// A server in the middle of a session.
struct Server {
    r: BufReader<Reader>,
    w: Writer,
    version: ProtocolVersion,
}

impl Server {
    async fn accept(stream: DuplexStream) -> Self {
        let (r, mut w) = split(stream);
        let mut r = BufReader::new(r);
        let hello = hello(ProtocolVersion::MAX);
        let agreed = server::accept(&mut r, &mut w, &hello, &[]).await.unwrap();
        Self { r, w, version: agreed.version }
    }

    async fn request(&mut self) -> Request {
        Request::read(&mut self.r, self.version).await.unwrap()
    }

    async fn say(&mut self, messages: &[StderrMessage]) {
        for message in messages {
            self.w.write_all(&message.encode()).await.unwrap();
        }
    }

    async fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = StderrMessage::Last.encode();
        write(&mut out);
        self.w.write_all(&out).await.unwrap();
    }

    /// The content of the framed stream that comes next.
    async fn framed(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        FramedReader::new(&mut self.r).read_to_end(&mut content).await.unwrap();
        content
    }
}

async fn connect(stream: DuplexStream) -> Client<Reader, Writer> {
    let (r, w) = split(stream);
    Client::handshake(r, w, ProtocolVersion::MAX).await.unwrap().0
}

/// Runs both ends to their end, within the deadline.
async fn run(server: impl AsyncFnOnce(Server), client: impl AsyncFnOnce(Client<Reader, Writer>)) {
    let (near, far) = duplex(PIPE);
    let both = async {
        tokio::join!(async { server(Server::accept(far).await).await }, async {
            client(connect(near).await).await;
        },)
    };
    assert!(tokio::time::timeout(DEADLINE, both).await.is_ok(), "each end waits for the other");
}

fn lines(n: usize) -> Vec<StderrMessage> {
    (0..n).map(|i| StderrMessage::Next(format!("line {i}").into_bytes())).collect()
}

#[tokio::test]
async fn a_client_gets_the_reply_and_what_was_said_before_it() {
    run(
        async |mut server| {
            let Request::QueryValidPaths { paths, substitute: true } = server.request().await
            else {
                panic!("another request")
            };
            server.say(&lines(3)).await;
            server.reply(|out| write_store_path_set(out, &paths)).await;
        },
        async |mut client| {
            let (paths, mut heard) = (BTreeSet::from([path(1), path(2)]), Vec::new());
            let mut sink = |message: StderrMessage| heard.push(message);
            assert_eq!(client.query_valid_paths(&paths, true, &mut sink).await.unwrap(), paths);
            assert_eq!(heard, lines(3));
        },
    )
    .await;
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_usable() {
    let refusal = NixError::new("no such path");
    run(
        async |mut server| {
            server.request().await;
            server.say(&[StderrMessage::Error(refusal.clone())]).await;
            server.request().await;
            server.reply(|out| write_bool(out, true)).await;
        },
        async |mut client| {
            let refused = client.ensure_path(&path(1), &mut Discard).await;
            assert!(matches!(refused, Err(ClientError::Nix(error)) if error == refusal));
            assert!(client.is_valid_path(&path(1), &mut Discard).await.unwrap());
        },
    )
    .await;
}

#[tokio::test]
async fn garbage_is_collected_and_what_was_built_elsewhere_is_registered() {
    run(
        async |mut server| {
            let Request::CollectGarbage(asked) = server.request().await else { panic!("another") };
            assert_eq!((asked.action, asked.max_freed), (2, 1 << 30));
            server
                .reply(|out| {
                    write_store_path_set(out, &[path(1), path(2)].into());
                    write_u64(out, 4711);
                    write_u64(out, 0);
                })
                .await;
            let realisation = Realisation("{}".to_owned());
            assert_eq!(server.request().await, Request::RegisterDrvOutput(realisation));
            server.reply(|_| ()).await;
        },
        async |mut client| {
            assert_eq!(client.collect_garbage(1 << 30, &mut Discard).await.unwrap(), 4711);
            let realisation = Realisation("{}".to_owned());
            client.register_drv_output(&realisation, &mut Discard).await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn path_infos_are_asked_for_ahead_of_the_replies() {
    let nar = b"a short one".to_vec();
    let known = |n: usize| n % 3 != 0;
    run(
        async |mut server| {
            for n in 0..600 {
                assert_eq!(server.request().await, Request::QueryPathInfo(path(n)));
                server.say(&lines(2)).await;
                let info = known(n).then(|| info(n, &nar));
                server.reply(|out| PathInfo::write_reply(info.as_ref(), out)).await;
            }
            for n in 0..3 {
                server.request().await;
                match n {
                    1 => server.say(&[StderrMessage::Error(NixError::new("no"))]).await,
                    _ => server.reply(|out| PathInfo::write_reply(None, out)).await,
                }
            }
        },
        async |mut client| {
            let paths: Vec<_> = (0..600).map(path).collect();
            let infos = client.query_path_infos(&paths, &mut Discard).await.unwrap();
            let expected: Vec<_> = (0..600).map(|n| known(n).then(|| info(n, &nar))).collect();
            assert!(infos == expected);
            let refused = client.query_path_infos(&paths[..3], &mut Discard).await;
            assert!(matches!(refused, Err(ClientError::Nix(_))));
            assert!(client.is_idle());
        },
    )
    .await;
}

#[tokio::test]
async fn an_upload_and_a_server_that_talks_all_the_while_do_not_block_each_other() {
    let nar = nar();
    run(
        async |mut server| {
            let request = server.request().await;
            assert_eq!(
                request,
                Request::AddMultipleToStore { repair: false, dont_check_sigs: true }
            );
            // Nothing is read until all of this has been heard.
            server.say(&lines(1000)).await;
            let mut content = server.framed().await;
            let mut content = content.as_mut_slice() as &[u8];
            assert_eq!(read_u64(&mut content, "count").await.unwrap(), 2);
            for n in 0..2 {
                assert_eq!(PathInfo::read(&mut content).await.unwrap(), info(n, &nar));
                assert_eq!(&content[..nar.len()], &nar);
                content = &content[nar.len()..];
            }
            assert!(content.is_empty());
            server.say(&lines(1000)).await;
            server.reply(|_| ()).await;
        },
        async |mut client| {
            let mut heard = 0;
            let mut sink = |_: StderrMessage| heard += 1;
            let mut upload = client.begin_add_multiple(2, false, true).await.unwrap();
            for n in 0..2 {
                let mut source = nar.as_slice();
                let sent = upload.add(&info(n, &nar), &mut source, &mut sink).await.unwrap();
                assert_eq!(sent, nar.len() as u64);
            }
            upload.finish(&mut sink).await.unwrap();
            assert!(client.is_idle());
            assert_eq!(heard, 2000);
        },
    )
    .await;
}

#[tokio::test]
async fn an_upload_refused_half_way_is_ended_and_the_next_request_follows() {
    let nar = nar();
    run(
        async |mut server| {
            server.request().await;
            server.r.read_exact(&mut [0; 8 + 1000]).await.unwrap();
            server.say(&[StderrMessage::Error(NixError::new("disk full"))]).await;
            // What is left of the first frame, then whole ones.
            let mut rest = vec![0; (64 << 10) - 1000];
            server.r.read_exact(&mut rest).await.unwrap();
            server.framed().await;
            assert_eq!(server.request().await, Request::IsValidPath(path(1)));
            server.reply(|out| write_bool(out, false)).await;
        },
        async |mut client| {
            let mut upload = client.begin_add_multiple(2, false, true).await.unwrap();
            let refused = upload.add(&info(1, &nar), &mut nar.as_slice(), &mut Discard).await;
            assert!(
                matches!(refused, Err(ClientError::Nix(error)) if error.message == b"disk full")
            );
            let more = upload.add(&info(2, &nar), &mut nar.as_slice(), &mut Discard).await;
            assert!(matches!(more, Err(ClientError::Busy)));
            assert!(!client.is_valid_path(&path(1), &mut Discard).await.unwrap());
        },
    )
    .await;
}

#[tokio::test]
async fn what_a_server_says_before_it_hangs_up_during_an_upload_is_heard() {
    let nar = nar();
    run(
        async |mut server| {
            server.request().await;
            server.say(&[StderrMessage::Error(NixError::new("dying"))]).await;
        },
        async |mut client| {
            let added = client
                .add_to_store_nar(&info(1, &nar), &mut nar.as_slice(), false, true, &mut Discard)
                .await;
            assert!(matches!(added, Err(ClientError::Nix(error)) if error.message == b"dying"));
            assert!(!client.is_idle());
        },
    )
    .await;
}

#[tokio::test]
async fn a_source_that_ends_too_early_ends_the_upload_and_not_the_connection() {
    let nar = nar();
    run(
        async |mut server| {
            let Request::AddToStoreNar { .. } = server.request().await else { panic!() };
            assert!(server.framed().await.len() < nar.len());
            server.say(&[StderrMessage::Error(NixError::new("too short"))]).await;
            server.request().await;
            server.reply(|out| write_bool(out, true)).await;
        },
        async |mut client| {
            let mut source = &nar[..nar.len() - 1];
            let added = client
                .add_to_store_nar(&info(1, &nar), &mut source, false, true, &mut Discard)
                .await;
            assert!(matches!(added, Err(ClientError::Source(WireError::Truncated { .. }))));
            assert!(client.is_valid_path(&path(1), &mut Discard).await.unwrap());
        },
    )
    .await;
}

#[tokio::test]
async fn a_message_that_comes_in_two_halves_around_the_end_of_a_path_is_heard_whole() {
    let nar = Node::file("small").to_nar();
    let line = StderrMessage::Next(vec![b'x'; 40]);
    let (tell, told) = tokio::sync::oneshot::channel();
    run(
        async |mut server| {
            server.request().await;
            let bytes = line.encode();
            let (first, second) = bytes.split_at(20);
            server.w.write_all(first).await.unwrap();
            // The client has listened during the first path, and heard half a message.
            told.await.unwrap();
            server.w.write_all(second).await.unwrap();
            server.framed().await;
            server.reply(|_| ()).await;
        },
        async |mut client| {
            let mut heard = Vec::new();
            let mut sink = |message: StderrMessage| heard.push(message);
            let mut upload = client.begin_add_multiple(2, false, true).await.unwrap();
            // A source that gives the server time to say its half.
            let (mut give, slow) = duplex(PIPE);
            let mut slow = BufReader::new(slow);
            let feed = async {
                for byte in &nar {
                    give.write_u8(*byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let first = info(1, &nar);
            let (added, ()) = tokio::join!(upload.add(&first, &mut slow, &mut sink), feed);
            added.unwrap();
            tell.send(()).unwrap();
            upload.add(&info(2, &nar), &mut nar.as_slice(), &mut sink).await.unwrap();
            upload.finish(&mut sink).await.unwrap();
            assert_eq!(heard, std::slice::from_ref(&line));
        },
    )
    .await;
}

#[tokio::test]
async fn a_nar_is_piped_from_one_server_to_another() {
    let nar = nar();
    let (near, far) = duplex(PIPE);
    let source = async {
        let mut server = Server::accept(far).await;
        assert_eq!(server.request().await, Request::NarFromPath(path(1)));
        server.reply(|out| out.extend(&nar)).await;
        server.request().await;
        server.reply(|out| write_bool(out, true)).await;
    };
    let rest = run(
        async |mut server| {
            server.request().await;
            assert!(server.framed().await.ends_with(&nar));
            server.reply(|_| ()).await;
        },
        async |mut client| {
            let mut from = connect(near).await;
            let mut nar_reader = from.open_nar(&path(1), &mut Discard).await.unwrap();
            let added = client
                .add_to_store_nar(&info(1, &nar), &mut nar_reader, false, true, &mut Discard)
                .await;
            assert_eq!(added.unwrap(), nar.len() as u64);
            assert!(from.is_valid_path(&path(1), &mut Discard).await.unwrap());
        },
    );
    tokio::join!(source, rest);
}

#[tokio::test]
async fn a_request_dropped_half_way_leaves_the_connection_busy() {
    run(
        async |mut server| {
            server.request().await;
        },
        async |mut client| {
            let wanted = path(1);
            tokio::select! {
                biased;
                _ = async { client.ensure_path(&wanted, &mut Discard).await } => panic!("nobody has answered"),
                () = std::future::ready(()) => {}
            }
            let next = client.is_valid_path(&path(1), &mut Discard).await;
            assert!(matches!(next, Err(ClientError::Busy)));
        },
    )
    .await;
}

#[tokio::test]
async fn a_server_that_vanishes_is_told_from_one_that_refuses() {
    run(
        async |mut server| {
            server.request().await;
        },
        async |mut client| {
            let error = client.ensure_path(&path(1), &mut Discard).await.unwrap_err();
            assert!(error.is_disconnect(), "{error}");
        },
    )
    .await;
}

#[tokio::test]
async fn futures_can_move_between_threads() {
    fn assert_send<T: Send>(_: T) {}
    let (near, _far) = duplex(PIPE);
    let (r, w) = split(near);
    assert_send(async {
        let (mut client, _) = Client::handshake(r, w, ProtocolVersion::MAX).await.unwrap();
        let nar = nar();
        let mut upload = client.begin_add_multiple(1, false, true).await.unwrap();
        upload.add(&info(1, &nar), &mut nar.as_slice(), &mut Discard).await.unwrap();
        upload.finish(&mut Discard).await.unwrap();
        client.query_path_infos(&[path(1)], &mut Discard).await.unwrap();
        client.nar_from_path(&path(1), &mut Vec::new(), &mut Discard).await.unwrap();
    });
    let (mut r, mut w) = split(duplex(PIPE).0);
    assert_send(async move {
        server::accept(&mut r, &mut w, &hello(ProtocolVersion::MAX), &[]).await.unwrap();
        Request::read(&mut r, ProtocolVersion::MAX).await.unwrap();
        let mut out = Vec::new();
        write_u64(&mut out, 1);
        w.write_all(&out).await.unwrap();
    });
}
