//! Whether a 64-bit ARM machine runs 32-bit programs: newer cores cannot, some big.LITTLE machines
//! can on some cores only, and kernels with pages of 16 KiB or more usually do not. No file tells for
//! all of them, so a program is run.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use board_support::cpu::any_cpu;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::read;

/// What such programs are to Nix.
pub(super) const SYSTEM: &str = "armv7l-linux";

/// How long the program may take. It ends in microseconds, from a busy machine in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The status with which the program ends.
const STATUS: i32 = 42;

/// A static 32-bit ARM program (ELF for the Arm Architecture) that calls exit(42) and is nothing
/// but its headers and three instructions.
#[rustfmt::skip]
const PROGRAM: [u8; 96] = [
    // ELF header: 32 bits, little-endian; a program for ARM; entry point 0x10054; one program
    // header; EABI version 5, which 64-bit kernels insist on.
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 0, 0x28, 0, 1, 0, 0, 0, 0x54, 0, 1, 0, 52, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 5, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // Program header: all of the file at 0x10000, to be read and executed.
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0,
    96, 0, 0, 0, 96, 0, 0, 0, 5, 0, 0, 0, 0, 0, 1, 0,
    // mov r7, #1 (exit); mov r0, #42; svc 0
    0x01, 0x70, 0xa0, 0xe3, STATUS as u8, 0x00, 0xa0, 0xe3, 0x00, 0x00, 0x00, 0xef,
];

/// Whether 32-bit programs run here, on a 64-bit ARM kernel. `emulated` tells that binfmt_misc gives
/// them to an interpreter: then they do not run on the CPU, whatever it could do. If the program
/// cannot be tried, the kernel's list of CPUs that run such programs counts.
pub(super) fn runs(root: &Path, emulated: bool) -> bool {
    if emulated {
        return false;
    }
    let tried = program().and_then(|program| try_program(&program, PATIENCE));
    tried.unwrap_or_else(|_| {
        read(&root.join("sys/devices/system/cpu/aarch32_el0")).is_ok_and(|list| any_cpu(&list))
    })
}

/// The program in memory: no file system needs to be writable, or allow programs.
fn program() -> io::Result<OwnedFd> {
    let make = |flags| memfd_create("arm32", MemfdFlags::CLOEXEC | flags);
    // Kernels before 6.3 do not know the flag.
    let fd = make(MemfdFlags::EXEC).or_else(|_| make(MemfdFlags::empty()))?;
    let mut file = File::from(fd);
    file.write_all(&PROGRAM)?;
    Ok(file.into())
}

/// Runs it: true if it ended as it should, false if the kernel does not know what to do with it, or
/// it ended otherwise.
fn try_program(program: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let (stdin, stdout, stderr) = (Stdio::null(), Stdio::null(), Stdio::null());
    match Command::new(path).stdin(stdin).stdout(stdout).stderr(stderr).spawn() {
        Ok(child) => ended_well(child, patience),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits until it ends, and makes it if it does not.
fn ended_well(mut child: Child, patience: Duration) -> io::Result<bool> {
    if wait(&child, patience).is_err() {
        // It may have ended meanwhile.
        let _ = child.kill();
    }
    Ok(child.wait()?.code() == Some(STATUS))
}

fn wait(child: &Child, patience: Duration) -> io::Result<()> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let patience =
        Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos() as _ };
    let mut ready = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut ready, Some(&patience))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_cpu_of_another_kind_does_not_run_it() {
        // Unless this machine emulates ARM, or is one.
        let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
        let emulated = super::super::emulation::emulated("/".as_ref());
        if machine == "x86_64" && emulated.iter().all(|it| it.system != SYSTEM) {
            assert!(!try_program(&program().unwrap(), PATIENCE).unwrap());
        }
    }

    #[test]
    fn what_is_emulated_does_not_run_on_the_cpu() {
        let root = tempfile::tempdir().unwrap();
        let list = root.path().join("sys/devices/system/cpu/aarch32_el0");
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(list, "0-3\n").unwrap();
        assert!(!runs(root.path(), true));
    }

    #[test]
    fn a_program_is_judged_by_its_end_and_not_waited_for_long() {
        let shell = |script: &str| Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        assert!(ended_well(shell("exit 42"), PATIENCE).unwrap());
        assert!(!ended_well(shell("kill -ILL $$"), PATIENCE).unwrap());
        assert!(!ended_well(shell("exec sleep 1000"), Duration::from_millis(20)).unwrap());
    }
}
