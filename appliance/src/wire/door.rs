//! The daemon's Unix socket: where local programs hand over their clients' streams.
//!
//! A program that sshd or Nix started connects, says in one bounded message what it wants, and
//! passes its standard input and output along (`SCM_RIGHTS`). From then on the daemon owns the
//! streams. The socket stays open as the lifeline of the session: text for standard error and at
//! the end the exit code go down it, and each side notices on it when the other one dies.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    cmsg_space,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, UCred},
    },
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

pub use super::hello::Request;
use super::{
    hello::{self, END, HELLO_MAX, Hello, TEXT},
    stream::{Incoming, Outgoing, StreamError},
};

/// Sessions at once. More are refused, with the reason.
pub const MAX_SESSIONS: usize = 1024;

/// How long a client may take to say what it wants.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the listener rests when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody answers on it.
    #[error("another roost daemon is listening on {0}; stop it first (systemctl stop roost)")]
    Taken(PathBuf),
    /// Something that is no socket is in the way.
    #[error("{0} exists and is not a socket; move it away")]
    NotASocket(PathBuf),
    /// The file system refused.
    #[error("could not {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who may use the door. User 0 always may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The user that sshd's forced command runs as: may ask to be served.
    pub serve_uid: Option<u32>,
    /// The group of the socket's file.
    pub gid: Option<u32>,
}

impl Access {
    /// Looks a user and a group up in `/etc/passwd` and `/etc/group`; what is not there is `None`.
    #[must_use]
    pub fn lookup(user: &str, group: &str) -> Self {
        let id = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
            line.split(':').nth(2)?.parse().ok()
        };
        Self { serve_uid: id("/etc/passwd", user), gid: id("/etc/group", group) }
    }

    /// Whether a process of `uid` may ask for `request`.
    fn allows(self, uid: u32, request: &Request) -> bool {
        match request {
            _ if uid == 0 => true,
            Request::Serve { .. } => self.serve_uid == Some(uid),
            Request::Connect { .. } | Request::Advise { .. } => false,
        }
    }
}

/// The process at the other end of the socket, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its process id, 0 if it is in a process namespace that we do not see.
    pub pid: i32,
}

/// A client that has said what it wants and handed over its streams.
#[derive(Debug)]
pub struct Visit {
    /// What it wants.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// What it sends.
    pub input: Incoming,
    /// What it receives.
    pub output: Outgoing,
    /// Tells when the process that handed over is gone.
    pub lifeline: Lifeline,
    /// Its standard error and its exit code.
    pub notes: Notes,
}

/// The reading half of a session's socket.
#[derive(Debug)]
pub struct Lifeline(OwnedReadHalf);

impl Lifeline {
    /// Returns when the process that handed over its streams has died. Cancel safe.
    pub async fn gone(&mut self) {
        // Nothing is expected; whatever comes is thrown away.
        let mut scrap = [0; 64];
        while matches!(self.0.read(&mut scrap).await, Ok(1..)) {}
    }
}

/// The writing half of a session's socket.
#[derive(Debug)]
pub struct Notes(OwnedWriteHalf);

impl Notes {
    /// Sends text to the client's standard error. Text that cannot be sent is lost with its client.
    pub async fn text(&mut self, text: impl AsRef<[u8]>) {
        for part in text.as_ref().chunks(hello::FRAME_MAX - 1) {
            if self.0.write_all(&hello::frame(Some(TEXT), part)).await.is_err() {
                return;
            }
        }
    }

    /// Ends the session: the client's process exits with `code`.
    pub async fn end(mut self, code: u8) {
        // A client that is gone needs no exit code.
        drop(self.0.write_all(&hello::frame(Some(END), &[code])).await);
    }
}

/// Why a client was not let in. It is told so, and the others never notice.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("the roost daemon has {MAX_SESSIONS} sessions open, its limit; try again later")]
    Full,
    #[error("the hello did not come within {} s", HELLO_TIMEOUT.as_secs())]
    Late,
    #[error("could not read the hello: {0}")]
    Read(#[from] io::Error),
    #[error(
        "the hello is not one: {0}; are the roost program and the running daemon the same version?"
    )]
    Malformed(String),
    #[error(
        "user {uid} may not ask the roost daemon for this; connect and advise are for root, serve for root and user roost"
    )]
    Forbidden { uid: u32 },
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// The listening socket. Its file goes away with it.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    access: Access,
    sessions: Arc<Semaphore>,
}

impl Door {
    /// Opens the socket at `path`: mode 0660, of the group in `access`, its folder made if needed.
    /// The socket of a daemon that has died is replaced; that of a living one is not.
    ///
    /// # Errors
    /// [`OpenError`], which names the path and what to do.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let failed = |action, source| OpenError::File { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| failed("make the folder of", e))?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(OpenError::NotASocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(OpenError::Taken(path.to_owned()));
            }
            _ => {}
        }
        // Made beside its place and moved there when its rights are right: nobody finds it half open.
        let made = path.with_extension(format!("new.{}", std::process::id()));
        drop(std::fs::remove_file(&made));
        let listener = UnixListener::bind(&made).map_err(|e| failed("listen on", e))?;
        chown(&made, None, access.gid).map_err(|e| failed("set the group of", e))?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o660))
            .map_err(|e| failed("set the mode of", e))?;
        std::fs::rename(&made, path).map_err(|e| failed("put in place", e))?;
        let sessions = Arc::new(Semaphore::new(MAX_SESSIONS));
        Ok(Self { listener, path: path.to_owned(), access, sessions })
    }

    /// Lets clients in, for ever, and gives each to `attend` in a task of its own. Dropping the
    /// returned future ends all sessions.
    pub async fn run<F, A>(self, attend: F)
    where
        F: Fn(Visit) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send,
    {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("could not accept a client on {}: {error}", self.path.display());
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = self.sessions.clone().try_acquire_owned() else {
                refuse_at_once(&stream, &Turned::Full);
                continue;
            };
            let (attend, access) = (attend.clone(), self.access);
            tasks.spawn(async move {
                let _permit = permit;
                if let Some(visit) = greet(stream, access).await {
                    attend(visit).await;
                }
            });
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Tells a client in one write that never waits why it is not let in.
fn refuse_at_once(stream: &UnixStream, why: &Turned) {
    let mut message = hello::frame(Some(TEXT), format!("roost: {why}\n").as_bytes());
    message.extend(hello::frame(Some(END), &[1]));
    // A fresh socket has room for it; a client that is gone needs no answer.
    drop(stream.try_write(&message));
}

/// Reads the hello and makes a visit of it, or tells the client why not.
async fn greet(stream: UnixStream, access: Access) -> Option<Visit> {
    let cred = stream.peer_cred();
    let asked = timeout(HELLO_TIMEOUT, receive(&stream)).await.unwrap_or(Err(Turned::Late));
    let admitted = cred.map_err(Turned::from).and_then(|cred| admit(asked?, &cred, access));
    match admitted {
        Ok((request, caller, input, output)) => {
            let (lifeline, notes) = halves(stream);
            Some(Visit { request, caller, input, output, lifeline, notes })
        }
        Err(why) => {
            tracing::debug!("turned a client away: {why}");
            refuse_at_once(&stream, &why);
            None
        }
    }
}

/// The two halves of a session's socket.
pub(super) fn halves(stream: UnixStream) -> (Lifeline, Notes) {
    let (read, write) = stream.into_split();
    (Lifeline(read), Notes(write))
}

/// Checks the rights and takes the streams.
fn admit(
    (hello, streams): (Hello, Vec<OwnedFd>),
    cred: &UCred,
    access: Access,
) -> Result<(Request, Caller, Incoming, Outgoing), Turned> {
    let caller = Caller { uid: cred.uid(), pid: cred.pid().unwrap_or(0) };
    if !access.allows(caller.uid, &hello.request) {
        return Err(Turned::Forbidden { uid: caller.uid });
    }
    let [input, output] = <[OwnedFd; 2]>::try_from(streams)
        .map_err(|got| Turned::Malformed(format!("{} streams instead of 2", got.len())))?;
    Ok((hello.request, caller, Incoming::new(input)?, Outgoing::new(output)?))
}

/// Receives the one bounded message of a client, and what came with it.
async fn receive(stream: &UnixStream) -> Result<(Hello, Vec<OwnedFd>), Turned> {
    let mut bytes = Vec::with_capacity(512);
    let mut streams = Vec::new();
    loop {
        let mut part = [0; 1024];
        let read = stream
            .async_io(Interest::READABLE, || receive_part(stream, &mut part, &mut streams))
            .await?;
        bytes.extend_from_slice(&part[..read]);
        if read == 0 {
            return Err(Turned::Malformed("it ends early".to_owned()));
        }
        let Some((len, text)) = bytes.split_first_chunk::<4>() else { continue };
        let len = u32::from_le_bytes(*len) as usize;
        if len > HELLO_MAX || text.len() > len {
            return Err(Turned::Malformed(format!("more than {} bytes", len.min(HELLO_MAX))));
        }
        if text.len() == len {
            return Ok((parse(text)?, streams));
        }
    }
}

/// One `recvmsg`; received file descriptors are added to `streams`, and any beyond the two that
/// belong there make it fail.
fn receive_part(
    socket: impl AsFd,
    part: &mut [u8],
    streams: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(socket, &mut [IoSliceMut::new(part)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            streams.extend(fds);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || streams.len() > 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many streams came with it"));
    }
    Ok(got.bytes)
}

/// Reads a hello of our version.
fn parse(text: &[u8]) -> Result<Hello, Turned> {
    let hello: Hello =
        serde_json::from_slice(text).map_err(|error| Turned::Malformed(error.to_string()))?;
    if hello.version == hello::VERSION {
        Ok(hello)
    } else {
        Err(Turned::Malformed(format!("version {} instead of {}", hello.version, hello::VERSION)))
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
