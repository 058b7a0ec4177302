//! Stand-ins for tests: a client, a nix-daemon and a dispatcher, each played by the test itself.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use nix_compat::{
    derivation::{BasicDerivation, Derivation, DerivationOutput},
    nix_daemon::{
        BuildResult, BuildStatus, ProtocolVersion, Request, ServerHello, StderrMessage, client,
        server,
    },
    store_path::StorePath,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use super::{
    local_nix::LocalNix,
    stream::{Incoming, Outgoing},
};
use crate::model::{Builds, JobEvent, JobId, Refusal, Submission, Ticket};

/// Nothing in a test takes this long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// Lets time pass for a test that otherwise lives in the machine's, when it waits for nothing else.
pub(crate) async fn pass(time: Duration) {
    // Whoever is about to wait begins to.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A client's end, and ours, joined as by sshd.
pub(crate) fn streams() -> (UnixStream, Incoming, Outgoing) {
    let (client, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let input = OwnedFd::from(ours.try_clone().unwrap());
    client.set_nonblocking(true).unwrap();
    let client = UnixStream::from_std(client).unwrap();
    (client, Incoming::new(input).unwrap(), Outgoing::new(ours.into()).unwrap())
}

/// A client of the worker protocol, after the handshake.
pub(crate) type WorkerClient = client::Client<OwnedReadHalf, OwnedWriteHalf>;

/// A store path with this name.
pub(crate) fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
}

/// A derivation with the outputs `out` and `dev`.
pub(crate) fn drv(name: &str) -> BasicDerivation {
    let output = |output: &str, suffix: &str| {
        let path = Some(path(&format!("{name}{suffix}")));
        let (hash_algo, hash) = (String::new(), String::new());
        (output.to_owned(), DerivationOutput { path, hash_algo, hash })
    };
    Derivation {
        outputs: [output("out", ""), output("dev", "-dev")].into(),
        input_drvs: [].into(),
        input_srcs: [].into(),
        platform: "riscv64-linux".to_owned(),
        builder: b"/bin/sh".to_vec(),
        args: Vec::new(),
        env: [].into(),
    }
    .into_basic([])
}

/// A result without an error text.
pub(crate) fn result(status: BuildStatus) -> BuildResult {
    BuildResult::failure(status, "")
}

/// A nix-daemon whose part is played by the test, and a store directory.
pub(crate) struct FakeNix {
    listener: UnixListener,
    folder: tempfile::TempDir,
    hello: ServerHello,
}

impl FakeNix {
    pub(crate) fn new() -> Self {
        Self::of_version(ProtocolVersion::MAX)
    }

    pub(crate) fn of_version(version: ProtocolVersion) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let hello = ServerHello { version, nix_version: "2.26".to_owned(), trusted: Some(true) };
        Self { listener, folder, hello }
    }

    /// Where the code under test finds it.
    pub(crate) fn local(&self) -> LocalNix {
        let folder = self.folder.path();
        LocalNix {
            socket: folder.join("socket"),
            store_dir: folder.to_owned(),
            trouble: Arc::default(),
            unfetched: crate::wire::unfetched::Unfetched::default(),
            native: Arc::default(),
        }
    }

    /// Puts a `.drv` into the store directory.
    pub(crate) fn add_drv(&self, name: &str) -> StorePath {
        let basic = drv(name);
        let drv_path = path(&format!("{name}.drv"));
        let drv = Derivation {
            outputs: basic.outputs,
            input_drvs: [].into(),
            input_srcs: [].into(),
            platform: basic.platform,
            builder: basic.builder,
            args: Vec::new(),
            env: [].into(),
        };
        self.write_drv(name, &drv);
        drv_path
    }

    /// Puts this `.drv` into the store directory.
    pub(crate) fn write_drv(&self, name: &str, drv: &Derivation) {
        let drv_path = path(&format!("{name}.drv"));
        std::fs::write(self.folder.path().join(drv_path.base_name()), drv.to_aterm()).unwrap();
    }

    /// Takes the next connection.
    pub(crate) async fn accept(&self) -> NixConnection {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let agreed = server::accept(&mut read, &mut write, &self.hello, &[]).await.unwrap();
        NixConnection { read, write, version: agreed.version }
    }
}

/// nix-daemon's end of a connection.
pub(crate) struct NixConnection {
    pub(crate) read: BufReader<OwnedReadHalf>,
    pub(crate) write: OwnedWriteHalf,
    pub(crate) version: ProtocolVersion,
}

impl NixConnection {
    pub(crate) async fn request(&mut self) -> Request {
        soon(Request::read(&mut self.read, self.version)).await.unwrap()
    }

    /// Says that the reply follows, and that.
    pub(crate) async fn reply(&mut self, reply: &[u8]) {
        self.send(&[StderrMessage::Last.encode(), reply.to_vec()].concat()).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.write.write_all(bytes)).await.unwrap();
    }

    /// Whether the other end closes the connection, after nothing more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        soon(Request::read(&mut self.read, self.version)).await.is_err()
    }
}

/// What a test learns of the calls to [`Asked`].
#[derive(Debug)]
pub(crate) enum Call {
    /// A submission, and where to send what happens.
    Submit(Box<Submission>, mpsc::Sender<JobEvent>),
    /// The client has everything.
    Fetched(JobId),
}

/// A dispatcher whose part is played by the test.
#[derive(Clone)]
pub(crate) struct Asked(mpsc::UnboundedSender<Call>, Option<Refusal>);

impl Asked {
    pub(crate) fn new() -> (Self, Calls) {
        let (sender, calls) = mpsc::unbounded_channel();
        (Self(sender, None), Calls(calls))
    }

    /// Refuses everything.
    pub(crate) fn refusing(refusal: Refusal) -> Self {
        Self(mpsc::unbounded_channel().0, Some(refusal))
    }
}

impl Builds for Asked {
    async fn submit(&self, submission: Submission) -> Result<Ticket, Refusal> {
        if let Some(refusal) = &self.1 {
            return Err(refusal.clone());
        }
        let (sender, events) = mpsc::channel(16);
        let id = submission.key.id();
        self.0.send(Call::Submit(Box::new(submission), sender)).unwrap();
        Ok(Ticket { id, events })
    }

    async fn fetched(&self, id: &JobId) {
        self.0.send(Call::Fetched(id.clone())).unwrap();
    }
}

/// The test's end of [`Asked`].
pub(crate) struct Calls(mpsc::UnboundedReceiver<Call>);

impl Calls {
    pub(crate) async fn submission(&mut self) -> (Box<Submission>, mpsc::Sender<JobEvent>) {
        match soon(self.0.recv()).await.unwrap() {
            Call::Submit(submission, events) => (submission, events),
            other => panic!("expected a submission: {other:?}"),
        }
    }

    pub(crate) async fn fetched(&mut self) -> JobId {
        match soon(self.0.recv()).await.unwrap() {
            Call::Fetched(id) => id,
            other => panic!("expected a fetched job: {other:?}"),
        }
    }

    /// Whether nothing was called since.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// Ends a job with this result.
pub(crate) async fn finish(events: &mpsc::Sender<JobEvent>, result: BuildResult) {
    events.send(JobEvent::Finished(Box::new(result))).await.unwrap();
}
