//! Gives memory back before a long wait.
//!
//! One `roost connect` waits for each build, so a hundred of them do. Starting up has mapped some
//! megabytes of program text and constants, most of it never needed again: the kernel maps sixteen
//! pages and more around each fault.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::sys;

/// A wait that has lasted this long may last longer: it is worth giving memory back for. (Where hundreds of
/// short builds were waited for, doing so after 0.1 s took 1 % of the machine's time.)
const SHORT_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits until there is something to be read, or nobody is left to write. Should that take more
/// than a moment, this process gets small meanwhile. Errors are left for the read to find.
pub(super) fn wait_readable(stream: &impl AsFd) {
    wait(&mut [PollFd::new(stream, PollFlags::IN)], &SHORT_WAIT);
}

/// Waits, in the same way, for any of several. Which of them are ready; what is not there never is.
pub(super) fn wait_any<const N: usize>(streams: [Option<BorrowedFd<'_>>; N]) -> [bool; N] {
    let there = streams.iter().flatten();
    let mut fds: Vec<_> = there.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    wait(&mut fds, &SHORT_WAIT);
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    streams.map(|stream| stream.is_some() && ready.next().unwrap_or_default())
}

fn wait(fds: &mut [PollFd<'_>], short: &Timespec) {
    if poll(fds, Some(short)) != Ok(0) {
        return;
    }
    sys::give_back_unwritten();
    while poll(fds, None) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
        thread,
    };

    use super::*;

    #[test]
    fn a_long_wait_ends_when_something_comes_or_nobody_is_left() {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let (here, mut there) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || there.write_all(b"x"));
        wait(&mut [PollFd::new(&here, PollFlags::IN)], &AT_ONCE);
        writer.join().unwrap().unwrap();
        assert_eq!((&here).read(&mut [0]).unwrap(), 1);
        wait(&mut [PollFd::new(&here, PollFlags::IN)], &AT_ONCE);
        assert_eq!((&here).read(&mut [0]).unwrap(), 0);
    }
}
