//! Descriptors that tell of events by being readable: of inotify(7), timerfd_create(2), pidfd_open(2) and
//! their like.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd};

use rustix::io::{Errno, read};
use tokio::io::unix::AsyncFd;

/// Room for what is read away at once: no event of these descriptors is larger.
const BUFFER_BYTES: usize = 4096;

/// A descriptor that does not block.
#[derive(Debug)]
pub(crate) struct Events(AsyncFd<OwnedFd>);

impl Events {
    /// Takes a descriptor. It has to be called within a runtime.
    ///
    /// # Errors
    /// The system's, if the descriptor cannot be waited for.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd owns what it names until it is dropped, and always gives the same number.
        #[expect(unsafe_code, reason = "tokio's safe form is unsound for other types")]
        let registered = unsafe { AsyncFd::register(descriptor) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Returns when it is readable, and leaves it so: for a descriptor that tells of one event only, as
    /// that of a process does (pidfd_open(2)), and of which nothing can be read.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Returns when there was an event since the last time, however many. Cancel safe.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            // What happened does not matter, only that something did: all of it is read away.
            let mut events = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
            match read(ready.get_inner(), &mut events[..]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
