//! Asks the daemon where something should be built that the local Nix has asked for.

use std::{
    io::Read,
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
const ANSWER_MAX: usize = 512;

/// What the daemon has answered.
pub(super) struct Answer {
    /// The answer.
    pub(super) reply: HookReply,
    /// Of something that it takes: when the stock hook is to be started.
    pub(super) call: Call,
}

/// Ends when the daemon calls: the job has been given to a node. (Or when the daemon stops.) While this is
/// held, the daemon keeps the job for the stock hook.
pub(super) struct Call {
    daemon: UnixStream,
    _session: Option<UnixStream>,
}

impl Call {
    /// One that comes when the other end of a socket is closed.
    #[cfg(test)]
    pub(super) fn of(daemon: UnixStream) -> Self {
        Self { daemon, _session: None }
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.daemon.as_fd()
    }
}

/// The daemon's answer to a Nix with so many slots; none if it does not come in time.
pub(super) fn ask(socket: &Path, slots: u32, asked: &Try) -> Option<Answer> {
    let stream = handover::open(socket, PATIENCE).ok()?;
    // The door takes two streams from whoever comes. Here both are one end of a pair.
    let (daemon, theirs) = UnixStream::pair().ok()?;
    let request = Request::Advise {
        willing: asked.willing,
        slots,
        drv_path: asked.drv_path.clone(),
        system: asked.system.clone(),
        features: asked.features.clone(),
    };
    handover::send(&stream, socket, request, [theirs.as_fd(), theirs.as_fd()]).ok()?;
    drop(theirs);
    daemon.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = Vec::new();
    let mut part = [0; ANSWER_MAX];
    // A line, and nothing after it.
    while !answer.ends_with(b"\n") && answer.len() < ANSWER_MAX {
        match (&daemon).read(&mut part).ok()? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let reply = std::str::from_utf8(&answer).ok()?.trim_end().parse().ok()?;
    Some(Answer { reply, call: Call { daemon, _session: Some(stream) } })
}
