//! Asks the daemon where something should be built that the local Nix has asked for.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix_compat::nix_hook::Try;

use super::super::{handover, hello::Request};
use crate::model::HookReply;

/// How long connecting, asking and the answer may take, each: Nix does nothing else meanwhile. The daemon
/// answers within a few milliseconds; one that is stopped takes connections, and never answers.
const PATIENCE: Duration = Duration::from_millis(200);

/// Longer than any answer.
const ANSWER_MAX: u64 = 512;

/// What the daemon has answered.
pub(super) struct Answer {
    /// The answer.
    pub(super) reply: HookReply,
    /// Of something that it takes: when the stock hook is to be started.
    pub(super) call: Call,
}

/// What comes when the job has been given to a node. While this is held, the daemon keeps the job for the
/// stock hook.
pub(super) struct Call {
    daemon: BufReader<UnixStream>,
    _session: UnixStream,
}

impl Call {
    pub(super) fn new(daemon: UnixStream, session: UnixStream) -> Self {
        Self { daemon: BufReader::new(daemon), _session: session }
    }

    /// Whether it has come, and need not be waited for.
    pub(super) fn is_at_hand(&self) -> bool {
        !self.daemon.buffer().is_empty()
    }

    /// Whether it comes: it does not if the daemon ends before that.
    pub(super) fn comes(&mut self) -> bool {
        self.daemon.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.daemon.get_ref().as_fd()
    }
}

/// The daemon's answer to a Nix with so many slots; none if it does not come in time.
pub(super) fn ask(socket: &Path, slots: u32, asked: &Try) -> Option<Answer> {
    let session = handover::open(socket, PATIENCE).ok()?;
    // The door takes two streams from whoever comes. Here both are one end of a pair.
    let (daemon, theirs) = UnixStream::pair().ok()?;
    let request = Request::Advise {
        willing: asked.willing,
        slots,
        drv_path: asked.drv_path.clone(),
        system: asked.system.clone(),
        features: asked.features.clone(),
    };
    handover::send(&session, socket, request, [theirs.as_fd(), theirs.as_fd()]).ok()?;
    drop(theirs);
    daemon.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut call = Call::new(daemon, session);
    let mut answer = String::new();
    (&mut call.daemon).take(ANSWER_MAX).read_line(&mut answer).ok()?;
    Some(Answer { reply: answer.trim_end().parse().ok()?, call })
}
