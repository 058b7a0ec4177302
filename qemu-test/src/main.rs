//! `roost-qemu`: boots boards under QEMU, and tests roost on them.

mod cli;

use std::process::ExitCode;

use clap::Parser;

/// Boots boards under QEMU's virt machines, and tests roost on them.
#[derive(Parser)]
#[command(name = "roost-qemu", version, after_help = EXIT_STATUS)]
enum Cli {
    /// Boot a kernel or an image, and wait until its console says something
    Boot(cli::Boot),
    /// Flash boards, boot them beside a workstation on one LAN, and try all that a fleet does
    Test(cli::Test),
    /// Boot boards beside a workstation on one LAN, and open a shell on the workstation
    Shell(cli::Shell),
}

const EXIT_STATUS: &str = "Exit status:
  0  done
  1  a step of the test failed, or the machine did not say what was waited for
  2  wrong use
  3  it could not begin: a tool, an image or a right is missing";

fn main() -> ExitCode {
    let ended = match Cli::parse() {
        Cli::Boot(boot) => boot.run(),
        Cli::Test(test) => test.run(),
        Cli::Shell(shell) => shell.run(),
    };
    match ended {
        Ok(passed) => ExitCode::from(u8::from(!passed)),
        Err(error) => {
            eprintln!("roost-qemu: {error}");
            ExitCode::from(3)
        }
    }
}
