//! QEMU's `virt` machines: which program, and its arguments. Pure.

use std::{ffi::OsString, path::PathBuf};

use clap::ValueEnum;

/// A CPU architecture, by the kernel's and QEMU's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// QEMU's program that emulates a whole machine of it.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-system-aarch64",
            Self::Riscv64 => "qemu-system-riscv64",
        }
    }

    /// The Debian package that has [`Arch::program`].
    #[must_use]
    pub fn debian_package(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-system-arm",
            Self::Riscv64 => "qemu-system-misc",
        }
    }

    /// The kernel's name for the machine's first serial port: a PL011 on ARM, a 16550 on RISC-V.
    #[must_use]
    pub fn console(self) -> &'static str {
        match self {
            Self::Aarch64 => "ttyAMA0",
            Self::Riscv64 => "ttyS0",
        }
    }

    /// The CPU: on ARM that of a Raspberry Pi 4, which emulates faster than `max` with its pointer
    /// authentication; on RISC-V the generic one.
    #[must_use]
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Aarch64 => "cortex-a72",
            Self::Riscv64 => "rv64",
        }
    }
}

/// A machine and what it boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its architecture.
    pub arch: Arch,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub mem_mib: u32,
    /// The kernel, an `Image` or a compressed one that QEMU understands.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// A raw disk image, given as a virtio disk. What is written to it is dropped when the machine
    /// ends.
    pub disk: Option<PathBuf>,
    /// More words for the kernel's command line.
    pub append: String,
}

impl Machine {
    /// Two CPUs and 1 GiB, enough for any of our images.
    #[must_use]
    pub fn new(arch: Arch, kernel: impl Into<PathBuf>) -> Self {
        Self {
            arch,
            cpus: 2,
            mem_mib: 1024,
            kernel: kernel.into(),
            initrd: None,
            disk: None,
            append: String::new(),
        }
    }

    /// The kernel's command line. A panic ends the machine at once: QEMU is told not to reboot.
    #[must_use]
    pub fn command_line(&self) -> String {
        let line = format!("console={} panic=-1 {}", self.arch.console(), self.append);
        line.trim_end().to_owned()
    }

    /// Arguments for [`Arch::program`]: the serial port is standard input and output, and there is
    /// nothing else but what is asked for (`-nodefaults`).
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["-machine", "virt", "-accel", "tcg", "-cpu", self.arch.cpu()]);
        add(&["-smp", &self.cpus.to_string(), "-m", &self.mem_mib.to_string()]);
        add(&["-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
        add(&["-no-reboot", "-device", "virtio-rng-pci", "-append", &self.command_line()]);
        args.extend(["-kernel".into(), self.kernel.clone().into()]);
        if let Some(initrd) = &self.initrd {
            args.extend(["-initrd".into(), initrd.clone().into()]);
        }
        if let Some(disk) = &self.disk {
            let mut drive = OsString::from("if=virtio,format=raw,snapshot=on,file=");
            // QEMU reads a comma as the next option unless it is doubled.
            drive.push(disk.to_string_lossy().replace(',', ",,"));
            args.extend(["-drive".into(), drive]);
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> String {
        let args = machine.args();
        let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        format!("{} {}", machine.arch.program(), words.join(" "))
    }

    #[test]
    fn an_arm_machine_has_its_kernel_on_a_pl011() {
        assert_eq!(
            line(&Machine::new(Arch::Aarch64, "/boot/vmlinuz")),
            "qemu-system-aarch64 -machine virt -accel tcg -cpu cortex-a72 -smp 2 -m 1024 \
             -nodefaults -display none -monitor none -serial stdio -no-reboot \
             -device virtio-rng-pci -append console=ttyAMA0 panic=-1 -kernel /boot/vmlinuz"
        );
    }

    #[test]
    fn a_riscv_machine_has_what_it_is_given() {
        let machine = Machine {
            cpus: 4,
            mem_mib: 2048,
            initrd: Some("initrd".into()),
            disk: Some("a,b.raw".into()),
            append: "init=/bin/sh".into(),
            ..Machine::new(Arch::Riscv64, "Image")
        };
        assert_eq!(
            line(&machine),
            "qemu-system-riscv64 -machine virt -accel tcg -cpu rv64 -smp 4 -m 2048 \
             -nodefaults -display none -monitor none -serial stdio -no-reboot \
             -device virtio-rng-pci -append console=ttyS0 panic=-1 init=/bin/sh -kernel Image \
             -initrd initrd -drive if=virtio,format=raw,snapshot=on,file=a,,b.raw"
        );
    }

    #[test]
    fn the_command_line_is_one_argument() {
        let machine = Machine { append: "a b".into(), ..Machine::new(Arch::Aarch64, "k") };
        let args = machine.args();
        let append = args.iter().position(|arg| arg == "-append").unwrap();
        assert_eq!(args[append + 1], "console=ttyAMA0 panic=-1 a b");
    }
}
