//! The architectures, and what they are called where.

use std::{fmt, path::Path};

use clap::ValueEnum;

/// A CPU architecture, by the kernel's and QEMU's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Arch {
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Aarch64, Self::Riscv64];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// Nix's name of a machine of it.
    #[must_use]
    pub fn system(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-linux",
            Self::Riscv64 => "riscv64-linux",
        }
    }

    /// The board whose image QEMU's `virt` machine takes (board-support/boards).
    #[must_use]
    pub fn board(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-aarch64-virt",
            Self::Riscv64 => "qemu-riscv64-virt",
        }
    }

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

    /// The firmware that Debian has for the `virt` machine: UEFI on ARM, U-Boot for OpenSBI on RISC-V.
    #[must_use]
    pub fn firmware(self) -> &'static Path {
        Path::new(match self {
            Self::Aarch64 => "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
            Self::Riscv64 => "/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin",
        })
    }

    /// The Debian package that has [`Arch::firmware`].
    #[must_use]
    pub fn firmware_package(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-efi-aarch64",
            Self::Riscv64 => "u-boot-qemu",
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

    /// The CPU that is emulated: on ARM that of a Raspberry Pi 4, which emulates faster than `max` with
    /// its pointer authentication; on RISC-V the generic one.
    #[must_use]
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Aarch64 => "cortex-a72",
            Self::Riscv64 => "rv64",
        }
    }

    /// `e_machine` of an ELF file for it (elf(5)).
    #[must_use]
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::Aarch64 => 0xb7,
            Self::Riscv64 => 0xf3,
        }
    }

    /// Whether it is this machine's own, so that KVM could run it.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.name() == std::env::consts::ARCH
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
