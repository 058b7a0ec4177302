//! The client ends of the door: `roost serve`, started by sshd, and `roost connect`, started by Nix.
//!
//! They hand their standard input and output to the daemon and wait for the exit code. There may be
//! hundreds of them, so they are synchronous and small.

use std::{
    io::{self, IoSlice, IsTerminal, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    cmsg_space,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType, connect as connect_socket, sendmsg, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::{
    command::{Command, NotAccepted},
    hello::{self, END, FRAME_MAX, HELLO_MAX, Hello, Request, TEXT},
    thrift,
};

/// How long connecting and handing over may take. The daemon answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a client could not be served.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// No command: somebody tried to log in.
    #[error(
        "this account is for Nix and gives no shell; use it as a store or builder: \
         ssh-ng://{user}@{host}", user = crate::names::USER, host = "THIS-BOARD"
    )]
    NoCommand,
    /// A command that this account does not run.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
    /// Nobody listens.
    #[error(
        "the roost daemon is not running ({socket}: {source}); see `systemctl status roost` on \
         this machine"
    )]
    NotRunning {
        /// Where it should listen.
        socket: PathBuf,
        /// What connecting gave.
        source: io::Error,
    },
    /// It listens, and could not be told.
    #[error("could not hand over to the roost daemon ({socket}): {source}")]
    Send {
        /// Where it listens.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The command or the selector is longer than any real one.
    #[error("the request is longer than {HELLO_MAX} bytes")]
    TooLong,
    /// It died, or was killed.
    #[error(
        "the roost daemon stopped while this connection was open; jobs that it had accepted go on \
         when it is back: ask again (`systemctl status roost` tells why it stopped)"
    )]
    DaemonStopped,
    /// It said something else than agreed.
    #[error(
        "the roost daemon's answer makes no sense; is the daemon of the same version as this \
         program? `systemctl restart roost` makes it so"
    )]
    Garbled,
}

/// Serves the client of an SSH connection: hands it over and waits for the end.
///
/// `command` is sshd's `SSH_ORIGINAL_COMMAND`, `peer` the client's address for display, `key` the
/// fingerprint of the key that it logged in with. Returns the
/// exit code the daemon gave.
///
/// # Errors
/// [`HandoverError`], to be shown on standard error.
pub fn serve(
    socket: &Path,
    command: Option<&str>,
    peer: &str,
    key: Option<String>,
) -> Result<u8, HandoverError> {
    let command = command.ok_or(HandoverError::NoCommand)?;
    // Refused here, too, so that a wrong command is named even when no daemon runs.
    let command: Command = command.parse()?;
    let peer = peer.chars().take(200).collect();
    hand_over(socket, Request::Serve { command, peer, key }, &mut io::stderr().lock())
}

/// Makes the local Nix that started this program a client of the daemon. `selector` names the line
/// of the machines file. Returns the exit code the daemon gave.
///
/// # Errors
/// [`HandoverError`], to be shown on standard error.
pub fn connect(socket: &Path, selector: &str) -> Result<u8, HandoverError> {
    let request = Request::Connect { selector: selector.to_owned() };
    hand_over(socket, request, &mut HookLog(io::stderr().lock()))
}

/// Tells the user behind Nix's build hook why [`connect`] failed.
pub fn tell_hook(text: &str) {
    // Nowhere to complain if standard error is closed.
    drop(HookLog(io::stderr().lock()).write_all(text.as_bytes()));
}

/// Standard error below Nix's build hook. Nix shows the user only what is a message of its own log
/// (`@nix` and JSON, `logging.cc`) and drops everything else. Each write is one message.
struct HookLog<W>(W);

impl<W: Write + IsTerminal> Write for HookLog<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.0.is_terminal() {
            self.0.write_all(text)?;
        } else {
            self.0.write_all(&log_message(text))?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An error (level 0) in the form of Nix's log.
fn log_message(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let message = serde_json::json!({ "action": "msg", "level": 0, "msg": text.trim_end() });
    format!("@nix {message}\n").into_bytes()
}

/// Sends the request with our standard streams and waits. What the daemon says goes to `stderr`.
fn hand_over(
    socket: &Path,
    request: Request,
    stderr: &mut impl Write,
) -> Result<u8, HandoverError> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let stream = open(socket, CONNECT_TIMEOUT)
        .map_err(|source| HandoverError::NotRunning { socket: socket.to_owned(), source })?;
    send(&stream, socket, request, [stdin.as_fd(), stdout.as_fd()])?;
    wait(|| thrift::wait_readable(&stream), &stream, stderr)
}

/// Connects, in bounded time.
pub(super) fn open(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // For a Unix socket this bounds connecting, too (unix(7): a full backlog blocks).
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    connect_socket(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Sends the hello; the streams travel with its first byte.
pub(super) fn send(
    stream: &UnixStream,
    socket: &Path,
    request: Request,
    fds: [BorrowedFd<'_>; 2],
) -> Result<(), HandoverError> {
    let failed = |source| HandoverError::Send { socket: socket.to_owned(), source };
    let hello = Hello { version: hello::VERSION, request };
    let text = serde_json::to_vec(&hello).map_err(|e| failed(e.into()))?;
    if text.len() > HELLO_MAX {
        return Err(HandoverError::TooLong);
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let bytes = hello::frame(None, &text);
    match sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
        Ok(sent) => (&*stream).write_all(&bytes[sent..]).map_err(failed),
        // It refused without reading; what it said is waiting for us.
        Err(rustix::io::Errno::PIPE) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// Copies the daemon's text to `stderr` until it says the exit code. `pause` waits for its next word.
fn wait(
    pause: impl Fn(),
    mut stream: impl Read,
    stderr: &mut impl Write,
) -> Result<u8, HandoverError> {
    let mut frame = Vec::new();
    loop {
        pause();
        let mut len = [0; 4];
        stream.read_exact(&mut len).map_err(|_| HandoverError::DaemonStopped)?;
        let len = u32::from_le_bytes(len) as usize;
        if len == 0 || len > FRAME_MAX {
            return Err(HandoverError::Garbled);
        }
        frame.resize(len, 0);
        stream.read_exact(&mut frame).map_err(|_| HandoverError::DaemonStopped)?;
        match (frame[0], &frame[1..]) {
            // Nowhere to complain if standard error is closed.
            (TEXT, text) => drop(stderr.write_all(text)),
            (END, &[code]) => return Ok(code),
            _ => return Err(HandoverError::Garbled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> (Result<u8, HandoverError>, String) {
        let mut stderr = Vec::new();
        let code = wait(|| (), bytes, &mut stderr);
        (code, String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn text_is_shown_and_the_code_returned() {
        let mut bytes = hello::frame(Some(TEXT), b"building\n");
        bytes.extend(hello::frame(Some(END), &[3]));
        let (code, stderr) = told(&bytes);
        assert_eq!((code.unwrap(), stderr.as_str()), (3, "building\n"));
    }

    #[test]
    fn below_the_build_hook_text_is_a_message_of_nixs_log() {
        assert_eq!(
            log_message(b"roost: \"a\" failed\n"),
            b"@nix {\"action\":\"msg\",\"level\":0,\"msg\":\"roost: \\\"a\\\" failed\"}\n"
        );
    }

    #[test]
    fn a_daemon_that_dies_is_named() {
        let (code, stderr) = told(&hello::frame(Some(TEXT), b"so far")[..9]);
        let error = code.unwrap_err();
        assert!(matches!(error, HandoverError::DaemonStopped), "{error}");
        assert!(error.to_string().contains("systemctl status roost"));
        assert_eq!(stderr, "");
    }

    #[test]
    fn garbage_is_an_error_and_no_allocation() {
        for bytes in [&[0xff; 8][..], &[0; 4], &[1, 0, 0, 0, b'?'], &[1, 0, 0, 0, END]] {
            assert!(matches!(told(bytes).0, Err(HandoverError::Garbled)), "{bytes:?}");
        }
    }

    #[test]
    fn without_a_daemon_it_says_so_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        let error =
            serve(&socket, Some("nix-daemon --stdio"), "::1", None).unwrap_err().to_string();
        assert!(error.contains("not running") && error.contains("daemon.sock"), "{error}");
        assert!(connect(&socket, "aarch64-linux").is_err());
    }

    #[test]
    fn other_commands_are_refused_without_asking_the_daemon() {
        let nowhere = Path::new("/nonexistent");
        let refused = serve(nowhere, Some("rm -rf /"), "::1", None).unwrap_err();
        assert!(matches!(refused, HandoverError::NotAccepted(_)), "{refused}");
        assert!(matches!(serve(nowhere, None, "::1", None), Err(HandoverError::NoCommand)));
    }
}
