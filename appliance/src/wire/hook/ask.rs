//! Asks the daemon whether the local Nix should build something by itself.

use std::{
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use nix_compat::nix_hook::Try;

use super::super::{handover, hello::Request};
use crate::model::Advice;

/// How long connecting, asking and the answer may take, each: Nix does nothing else meanwhile. The daemon
/// answers within a few milliseconds; one that is stopped takes connections, and never answers.
const PATIENCE: Duration = Duration::from_millis(200);

/// Longer than any answer.
const ANSWER_MAX: usize = 16;

/// The daemon's advice to a Nix with so many slots; none if it does not answer in time.
pub(super) fn ask(socket: &Path, slots: u32, asked: &Try) -> Option<Advice> {
    let stream = handover::open(socket, PATIENCE).ok()?;
    // The door takes two streams from whoever comes. Here both are one end of a pair.
    let (ours, theirs) = UnixStream::pair().ok()?;
    let request = Request::Advise {
        willing: asked.willing,
        slots,
        drv_path: asked.drv_path.clone(),
        system: asked.system.clone(),
        features: asked.features.clone(),
    };
    handover::send(&stream, socket, request, [theirs.as_fd(), theirs.as_fd()]).ok()?;
    drop(theirs);
    ours.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = [0; ANSWER_MAX];
    let read = (&ours).read(&mut answer).ok()?;
    std::str::from_utf8(&answer[..read]).ok()?.parse().ok()
}
