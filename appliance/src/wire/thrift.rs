//! Gives memory back before a long wait. The only unsafe code of the program.
//!
//! One `roost connect` waits for each build, so a hundred of them do. Starting up has mapped some
//! megabytes of program text and constants, most of it never needed again: the kernel maps sixteen
//! pages and more around each fault.

use std::{fs, os::fd::AsFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    mm::{Advice, madvise},
};

/// A wait that has lasted this long may last longer: it is worth giving memory back for.
const SHORT_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Waits until there is something to be read, or nobody is left to write. Should that take more
/// than a moment, this process gets small meanwhile. Errors are left for the read to find.
pub(super) fn wait_readable(stream: &impl AsFd) {
    wait(stream, &SHORT_WAIT);
}

fn wait(stream: &impl AsFd, short: &Timespec) {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    if poll(&mut fds, Some(short)) != Ok(0) {
        return;
    }
    let unwritten = unwritten();
    // Everything that is called from here on is mapped again: the less, the better.
    for (start, length) in unwritten {
        // SAFETY: the range is a mapping of this process, as the kernel has just told, and nothing
        // here unmaps any. It is of a file, cannot be written to, and no page of it ever was (none
        // is anonymous), so dropping its pages and reading them from the file again gives the same
        // bytes (madvise(2), MADV_DONTNEED).
        #[expect(unsafe_code, reason = "madvise has no safe form; see above")]
        let dropped = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
        if dropped.is_err() {
            // The pages stay, and nothing else is different.
            break;
        }
    }
    while poll(&mut fds, None) == Err(Errno::INTR) {}
}

/// Start and length of the mappings of files in which nothing was written; none without `/proc`.
fn unwritten() -> Vec<(usize, usize)> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut ranges = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        if let Some(amount) = line.strip_prefix("Anonymous:") {
            ranges.extend(last.take().filter(|_| amount.trim() == "0 kB"));
        } else if !line.contains("kB") {
            last = read_only_file(line);
        }
    }
    ranges
}

/// Start and length of a mapping by its first line in `/proc/<pid>/smaps` (proc_pid_smaps(5)), if
/// it is of a file and cannot be written to.
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let fits = matches!(fields.next()?, "r-xp" | "r--p") && fields.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (fits && start < end).then(|| (start, end - start))
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
    fn only_mappings_of_files_that_cannot_be_written_are_given_back() {
        for protection in ["r-xp", "r--p"] {
            let line = format!("7f00-7f80 {protection} 00001000 fe:00 1234    /usr/bin/roost");
            assert_eq!(read_only_file(&line), Some((0x7f00, 0x80)));
        }
        for other in [
            "7f00-7f80 rw-p 00001000 fe:00 1234    /usr/bin/roost",
            "7f00-7f80 r--s 00001000 fe:00 1234    /usr/bin/roost",
            "7f00-7f80 r-xp 00000000 00:00 0       [vdso]",
            "7f00-7f80 r-xp 00000000 00:00 0",
            "7f80-7f00 r-xp 00001000 fe:00 1234    /usr/bin/roost",
            "VmFlags: rd ex mr mw me",
            "nonsense",
            "",
        ] {
            assert_eq!(read_only_file(other), None, "{other}");
        }
    }

    #[test]
    fn relocated_constants_are_kept() {
        // Every program that is not linked to a fixed address has some: read-only by now, written
        // by the dynamic linker.
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let all = smaps.lines().filter_map(read_only_file).count();
        let given_back = unwritten().len();
        assert!(0 < given_back && given_back < all, "{given_back} of {all}");
    }

    #[test]
    fn a_long_wait_ends_when_something_comes_or_nobody_is_left() {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let (here, mut there) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || there.write_all(b"x"));
        wait(&here, &AT_ONCE);
        writer.join().unwrap().unwrap();
        assert_eq!((&here).read(&mut [0]).unwrap(), 1);
        wait(&here, &AT_ONCE);
        assert_eq!((&here).read(&mut [0]).unwrap(), 0);
    }
}
