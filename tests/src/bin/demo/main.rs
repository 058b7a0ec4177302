//! `make demo`: a workstation and two boards on one machine, and one `nix build` across them, each
//! step said in plain words and done for real.

mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    match steps::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo stopped: {error}");
            ExitCode::FAILURE
        }
    }
}
