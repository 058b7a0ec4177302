//! The `roost` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    roost::cli::main()
}
