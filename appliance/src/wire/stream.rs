//! Asynchronous reading and writing on file descriptors that another process handed over.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::{
    fs::{FileType, fstat},
    pipe::fcntl_setpipe_size,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, Interest, ReadBuf},
    net::{
        UnixStream,
        unix::pipe::{Receiver, Sender},
    },
};

use super::session::SessionError;

/// Pipes are grown to this, where the system allows it: fewer, larger copies.
const PIPE_BYTES: usize = 1 << 20;

/// A file descriptor that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is a file, a terminal or the like, which cannot be waited for or is shared with others.
    #[error(
        "standard {which} is {kind}, and must be a pipe or a socket; this program is started by \
         sshd or by Nix, not by hand"
    )]
    Kind {
        /// `input` or `output`.
        which: &'static str,
        /// What it is.
        kind: &'static str,
    },
    /// The kernel refused to prepare it.
    #[error("could not prepare standard {which} for waiting: {source}")]
    Prepare {
        /// `input` or `output`.
        which: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What a client sends: the reading end of a pipe, or a socket.
#[derive(Debug)]
pub struct Incoming(Either<Receiver>);

/// What a client receives: the writing end of a pipe, or a socket.
#[derive(Debug)]
pub struct Outgoing(Either<Sender>);

/// The two kinds of file descriptor that sshd and Nix use.
#[derive(Debug)]
enum Either<P> {
    Pipe(P),
    Socket(UnixStream),
}

impl Incoming {
    /// Takes a client's standard input. Sets `O_NONBLOCK` on it.
    ///
    /// # Errors
    /// [`StreamError`] if it is neither pipe nor Unix socket, or cannot be waited for.
    pub fn new(fd: OwnedFd) -> Result<Self, StreamError> {
        prepare("input", fd, Receiver::from_owned_fd).map(Self)
    }
}

impl Outgoing {
    /// Takes a client's standard output. Sets `O_NONBLOCK` on it.
    ///
    /// # Errors
    /// [`StreamError`] if it is neither pipe nor Unix socket, or cannot be waited for.
    pub fn new(fd: OwnedFd) -> Result<Self, StreamError> {
        prepare("output", fd, Sender::from_owned_fd).map(Self)
    }

    /// Returns when nobody reads this pipe any more. For a socket that is seen at the reading end
    /// instead, and this never returns.
    pub async fn hung_up(&self) {
        if let Either::Pipe(pipe) = &self.0 {
            // epoll reports EPOLLERR for the writing end of a pipe without readers.
            if pipe.ready(Interest::ERROR).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Checks the kind and makes it ready for epoll.
fn prepare<P>(
    which: &'static str,
    fd: OwnedFd,
    pipe: impl FnOnce(OwnedFd) -> io::Result<P>,
) -> Result<Either<P>, StreamError> {
    let failed = |source: io::Error| StreamError::Prepare { which, source };
    let stat = fstat(&fd).map_err(|e| failed(e.into()))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {
            // Best effort: without the privilege the pipe keeps its size and works as well.
            let _ = fcntl_setpipe_size(&fd, PIPE_BYTES);
            return pipe(fd).map(Either::Pipe).map_err(failed);
        }
        FileType::Socket => {
            let socket = std::os::unix::net::UnixStream::from(fd);
            socket.set_nonblocking(true).map_err(failed)?;
            return UnixStream::from_std(socket).map(Either::Socket).map_err(failed);
        }
        FileType::CharacterDevice => "a terminal or device",
        FileType::RegularFile => "a regular file",
        _ => "no stream",
    };
    Err(StreamError::Kind { which, kind })
}

impl AsyncRead for Incoming {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Either::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Either::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Either::Pipe(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            Either::Socket(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a client has sent, which is something, or an error. Cancel safe.
pub(super) async fn next_bytes(input: &mut BufReader<Incoming>) -> Result<&[u8], SessionError> {
    match input.fill_buf().await {
        Ok([]) => Err(SessionError::client_gone()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(SessionError::reading(error)),
    }
}

/// Returns when a client has hung up while a request of its is worked on. Cancel safe.
pub(super) async fn hung_up(input: &mut BufReader<Incoming>, output: &Outgoing) {
    let input_ended = async {
        // A client that says something before it has its answer is there, at least.
        if let Ok([_, ..]) = input.fill_buf().await {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = input_ended => {}
        () = output.hung_up() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::pipe::pipe;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn more_than_a_pipe_holds_goes_through_unchanged() {
        let (read, write) = pipe().unwrap();
        let (mut incoming, mut outgoing) =
            (Incoming::new(read).unwrap(), Outgoing::new(write).unwrap());
        let sent: Vec<u8> = (0..5_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut received = Vec::new();
        let ((), read) = tokio::join!(
            async {
                outgoing.write_all(&sent).await.unwrap();
                drop(outgoing);
            },
            incoming.read_to_end(&mut received),
        );
        assert_eq!(read.unwrap(), sent.len());
        assert!(received == sent);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_noticed_without_writing() {
        let (read, write) = pipe().unwrap();
        let outgoing = Outgoing::new(write).unwrap();
        assert!(timeout(Duration::from_millis(20), outgoing.hung_up()).await.is_err());
        drop(read);
        timeout(DEADLINE, outgoing.hung_up()).await.unwrap();
    }

    #[tokio::test]
    async fn files_and_devices_are_refused() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let error = Incoming::new(file).unwrap_err().to_string();
        assert!(error.contains("a regular file"), "{error}");
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(matches!(Outgoing::new(null), Err(StreamError::Kind { which: "output", .. })));
    }
}
