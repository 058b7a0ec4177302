//! Gives memory back before a long wait. The only unsafe code of the program.
//!
//! One `roost connect` waits for each build, so a hundred of them do. Starting up has mapped some
//! megabytes of program text, most of it never run: the kernel maps sixteen pages around each fault.

use std::fs;

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of program text that this process has touched: its own and its libraries'. What
/// runs again is mapped again, from the page cache. Without `/proc` nothing happens.
pub(super) fn give_back_text() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(text_of_a_file) {
        // SAFETY: the range is a mapping of this process, as the kernel has just told, and nothing
        // here unmaps anything. It is private, of a file and not writable, and executable, so it
        // was never written to (relocated data is not executable): dropping its pages and reading
        // them from the file again gives the same bytes (madvise(2), MADV_DONTNEED).
        #[expect(unsafe_code, reason = "madvise has no safe form; see above")]
        let dropped = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
        if dropped.is_err() {
            // The pages stay, and nothing else is different.
            return;
        }
    }
}

/// Start and length of a line of `/proc/<pid>/maps` (proc_pid_maps(5)), if it is a file's text.
fn text_of_a_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_text = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (is_text && start < end).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files_is_given_back() {
        let line = "7f00-7f80 r-xp 00001000 fe:00 1234    /usr/bin/roost";
        assert_eq!(text_of_a_file(line), Some((0x7f00, 0x80)));
        for other in [
            "7f00-7f80 r--p 00001000 fe:00 1234    /usr/bin/roost",
            "7f00-7f80 rw-p 00001000 fe:00 1234    /usr/bin/roost",
            "7f00-7f80 r-xp 00000000 00:00 0       [vdso]",
            "7f00-7f80 r-xp 00000000 00:00 0",
            "7f80-7f00 r-xp 00001000 fe:00 1234    /usr/bin/roost",
            "nonsense",
            "",
        ] {
            assert_eq!(text_of_a_file(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        give_back_text();
        assert!(fs::read_to_string("/proc/self/status").unwrap().contains("VmRSS"));
    }
}
