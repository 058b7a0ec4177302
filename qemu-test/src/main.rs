//! `roost-qemu`: boots a kernel and waits for what it says.

use std::{io, path::PathBuf, process::ExitCode};

use clap::Parser;
use roost_qemu::{Arch, BootError, Machine, boot};

/// Boots kernels on QEMU's `virt` machines.
#[derive(Parser)]
#[command(name = "roost-qemu", version)]
enum Cli {
    /// Boot a kernel and wait until its console says something.
    Boot(Boot),
}

#[derive(clap::Args)]
struct Boot {
    /// The machine's architecture.
    #[arg(long, value_enum)]
    arch: Arch,
    /// The kernel.
    #[arg(long)]
    kernel: PathBuf,
    /// The initial RAM disk.
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// A raw disk image; it is not changed.
    #[arg(long)]
    disk: Option<PathBuf>,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "")]
    append: String,
    /// Memory in MiB.
    #[arg(long, default_value_t = 1024)]
    mem_mib: u32,
    /// What the console has to say.
    #[arg(long, value_name = "TEXT")]
    wait_for: String,
    /// How long it may take.
    #[arg(long, default_value_t = 300)]
    timeout_s: u64,
}

impl Boot {
    fn machine(&self) -> Machine {
        Machine {
            mem_mib: self.mem_mib,
            initrd: self.initrd.clone(),
            disk: self.disk.clone(),
            append: self.append.clone(),
            ..Machine::new(self.arch, &self.kernel)
        }
    }
}

fn main() -> ExitCode {
    let Cli::Boot(args) = Cli::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roost-qemu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Boot) -> Result<(), BootError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (machine, console) = (args.machine(), &mut io::stdout().lock());
    let booting = boot(&machine, &args.wait_for, args.timeout_s, console);
    let booted = runtime.block_on(booting)?;
    eprintln!("roost-qemu: said \"{}\" after {:.1} s", args.wait_for, booted.after.as_secs_f64());
    Ok(())
}
