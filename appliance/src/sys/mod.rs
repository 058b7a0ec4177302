//! What the system does for unsafe code alone. There is no other in the program; each use says here
//! why it is right, and what is offered is safe.

mod events;

use std::{
    fs::{self, File},
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use board_support::cpu::hwprobe::Pair;
use rustix::{
    ioctl,
    mm::{Advice, madvise},
};

pub(crate) use events::Events;

/// Gives back the memory of everything that was mapped from files and not written to, most of it
/// the program's own text. What is needed again is read from its file again.
pub(crate) fn give_back_unwritten() {
    let unwritten = unwritten(&fs::read_to_string("/proc/self/smaps").unwrap_or_default());
    // Everything that is called from here on is mapped again: the less, the better.
    for (start, length) in unwritten {
        // SAFETY: the range is a mapping of this process, as the kernel has just told, and nothing in
        // this program unmaps a file. It is of a file, cannot be written to, and no page of it ever
        // was (none is anonymous, in memory or swapped out), so dropping its pages and reading them
        // from the file again gives the same bytes (madvise(2), MADV_DONTNEED).
        #[expect(unsafe_code, reason = "madvise has no safe form; see above")]
        let dropped = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
        if dropped.is_err() {
            // The pages stay, and nothing else is different.
            return;
        }
    }
}

/// The file descriptor of this number that the program was started with, if there is one. To be called
/// once for a number, and before the program has opened anything.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    fs::symlink_metadata(format!("/proc/self/fd/{number}")).ok()?;
    // SAFETY: it is open, as the kernel has just told. Whoever started the program has opened it, for it
    // was called before the program opens anything, so nothing else in the program owns it.
    #[expect(unsafe_code, reason = "a number is no proof of ownership; see above")]
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has the kernel read the partition table of a block device anew (BLKRRPART of `linux/fs.h`).
///
/// # Errors
/// The device has no partitions for the kernel, or one is in use.
pub(crate) fn reread_partition_table(device: &File) -> io::Result<()> {
    const BLKRRPART: ioctl::Opcode = ioctl::opcode::none(0x12, 95);
    // SAFETY: the request has this number and takes no argument, so it reads and writes no memory of
    // this process.
    #[expect(unsafe_code, reason = "no crate has a safe form of it")]
    let done = unsafe { ioctl::ioctl(device, ioctl::NoArg::<BLKRRPART>::new()) };
    Ok(done?)
}

/// Start and length of the mappings of files in which nothing was written, by `/proc/self/smaps`. What
/// has nothing in memory is left out: there is nothing to give back, and qemu-user says so of all.
fn unwritten(smaps: &str) -> Vec<(usize, usize)> {
    let is_zero = |amount: &str| amount.trim() == "0 kB";
    let mut ranges = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        // The kernel writes them in this order.
        match line.split_once(':') {
            Some(("Rss", amount)) => last = last.filter(|_| !is_zero(amount)),
            Some(("Anonymous", amount)) => last = last.filter(|_| is_zero(amount)),
            Some(("Swap", amount)) => ranges.extend(last.take().filter(|_| is_zero(amount))),
            _ if line.contains("kB") => {}
            _ => last = read_only_file(line),
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

/// Has the kernel answer questions about all harts that are online together: riscv_hwprobe(2).
///
/// # Errors
/// There is no such call: this is no RISC-V, the kernel is older than 6.4, or a filter of system calls
/// does not let it pass.
#[cfg(target_arch = "riscv64")]
pub(crate) fn hwprobe(questions: &mut [Pair]) -> io::Result<()> {
    /// Its number (Linux, `include/uapi/asm-generic/unistd.h`: 244, and 14 that is RISC-V's own).
    const RISCV_HWPROBE: libc::c_long = 258;
    let no_set = std::ptr::null_mut::<libc::c_ulong>();
    let no_flags: libc::c_uint = 0;
    // SAFETY: on this architecture the number is that of this call. It takes the pairs, how many they
    // are, the size of a set of CPUs and the set, where 0 and none stand for all, and flags. It reads
    // and writes as many pairs as it is told, which are borrowed for as long as it takes and laid out
    // as it has them; whatever it writes is a pair. It keeps nothing.
    #[expect(unsafe_code, reason = "no crate has a safe form of it")]
    let status = unsafe {
        libc::syscall(
            RISCV_HWPROBE,
            questions.as_mut_ptr(),
            questions.len(),
            0_usize,
            no_set,
            no_flags,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel answer questions about all harts that are online together: riscv_hwprobe(2).
///
/// # Errors
/// Always: on other machines its number is that of another call.
#[cfg(not(target_arch = "riscv64"))]
pub(crate) fn hwprobe(_: &mut [Pair]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use board_support::cpu::hwprobe::QUESTIONS;

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
    fn what_was_written_is_kept_even_where_it_was_swapped_out() {
        let told = |rss: u32, anonymous: u32, swap: u32| {
            let smaps = format!(
                "1000-3000 r--p 00000000 fe:00 7   /usr/bin/roost\nSize:    8 kB\nRss:    {rss} kB\n\
                 Anonymous:    {anonymous} kB\nSwap:    {swap} kB\nSwapPss:    0 kB\nTHPeligible: 0\n\
                 VmFlags: rd mr\n"
            );
            unwritten(&smaps)
        };
        assert_eq!(told(8, 0, 0), [(0x1000, 0x2000)]);
        for (rss, anonymous, swap) in [(8, 4, 0), (4, 0, 4), (0, 0, 0)] {
            assert_eq!(told(rss, anonymous, swap), [], "{rss}, {anonymous}, {swap}");
        }
        // Each amount is of the mapping before it.
        let two = "1000-2000 r--p 0 fe:00 7 /a\nRss: 4 kB\nAnonymous: 4 kB\nSwap: 0 kB\nVmFlags: rd\n\
                   3000-4000 r-xp 0 fe:00 7 /a\nRss: 4 kB\nAnonymous: 0 kB\nSwap: 0 kB\nVmFlags: rd\n";
        assert_eq!(unwritten(two), [(0x3000, 0x1000)]);
    }

    #[test]
    fn relocated_constants_are_kept() {
        // Every program that is not linked to a fixed address has some: read-only by now, written
        // by the dynamic linker.
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let all = smaps.lines().filter_map(read_only_file).count();
        let given_back = unwritten(&smaps).len();
        assert!(given_back < all, "{given_back} of {all}");
        give_back_unwritten();
    }

    #[test]
    fn the_kernel_of_a_riscv_machine_answers_and_no_other_is_asked() {
        let mut pairs = QUESTIONS;
        let answered = hwprobe(&mut pairs).is_ok();
        assert!(!answered || cfg!(target_arch = "riscv64"));
        if answered {
            // I, M and A are what every Linux needs.
            assert_eq!((pairs[0].key, pairs[0].value & 1), (QUESTIONS[0].key, 1));
            assert_eq!(pairs[1].key, QUESTIONS[1].key);
        } else {
            // A RISC-V kernel may be older than the call.
            assert_eq!(pairs, QUESTIONS);
        }
        let mut unknown = [Pair { key: 1 << 40, value: 7 }];
        if hwprobe(&mut unknown).is_ok() {
            assert_eq!(unknown, [Pair { key: -1, value: 0 }]);
        }
    }
}
