//! QEMU's `virt` machines: what is started, as data, and the arguments for it. Pure.

use std::{ffi::OsString, path::PathBuf};

use super::Arch;

/// What executes the machine's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU itself, by translation.
    #[default]
    Tcg,
    /// The CPU, which has to be of the machine's architecture.
    Kvm,
}

/// What the machine starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// What is on its disk, by firmware: UEFI on ARM; on RISC-V U-Boot, which QEMU's OpenSBI starts.
    Firmware(PathBuf),
    /// A kernel.
    Kernel {
        /// An `Image`, or a compressed one that QEMU understands.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: Option<PathBuf>,
        /// Its command line. The console is added.
        append: String,
    },
}

/// Its disk, a virtio one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// A raw image; what is written is dropped when the machine ends.
    Snapshot(PathBuf),
    /// The socket of an NBD server, which keeps what it is told to.
    Nbd(PathBuf),
}

/// Its network card, a virtio one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The tap device that is its cable.
    pub tap: String,
    /// Its hardware address.
    pub mac: String,
    /// Where the beginning of every frame is written to (pcap).
    pub capture: PathBuf,
}

/// The name of the network card, for [`crate::Qmp`].
pub(crate) const CARD: &str = "card";

/// The name of the disk, for [`crate::Qmp`].
pub(crate) const DISK: &str = "disk";

/// How much of each frame is captured: headers, and the beginning of what they carry.
const CAPTURED_BYTES: u32 = 192;

/// A machine. Its first serial port is QEMU's standard input, QMP (the QEMU Machine Protocol) is on its
/// standard output; both are sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its architecture.
    pub arch: Arch,
    /// What executes its code.
    pub accelerator: Accelerator,
    /// CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub mem_mib: u32,
    /// What it starts.
    pub start: Start,
    /// Its disk.
    pub disk: Option<Disk>,
    /// Its network card.
    pub card: Option<Card>,
    /// Whether a restart ends it.
    pub once: bool,
}

impl Machine {
    /// One CPU and 1 GiB, enough for any of our images.
    #[must_use]
    pub fn new(arch: Arch, start: Start) -> Self {
        Self {
            arch,
            accelerator: Accelerator::Tcg,
            cpus: 1,
            mem_mib: 1024,
            start,
            disk: None,
            card: None,
            once: false,
        }
    }

    /// Arguments for [`Arch::program`]. There is nothing in the machine but what is asked for
    /// (`-nodefaults`), and a source of randomness.
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Tcg => ("tcg", self.arch.cpu()),
            Accelerator::Kvm => ("kvm", "host"),
        };
        let machine = match (self.arch, self.accelerator) {
            // Many of ARM's servers have no interrupt controller of version 2, which is the default.
            (Arch::Aarch64, Accelerator::Kvm) => "virt,gic-version=host",
            _ => "virt",
        };
        add(&["-machine", machine, "-accel", accelerator, "-cpu", cpu]);
        add(&["-smp", &self.cpus.to_string(), "-m", &self.mem_mib.to_string()]);
        add(&["-nodefaults", "-display", "none"]);
        add(&["-chardev", "socket,id=console,fd=0", "-serial", "chardev:console"]);
        add(&["-chardev", "socket,id=qmp,fd=1", "-mon", "chardev=qmp,mode=control"]);
        add(&["-device", "virtio-rng-pci"]);
        if self.once {
            add(&["-no-reboot"]);
        }
        self.add_start(&mut args);
        if let Some(disk) = &self.disk {
            let (how, path) = match disk {
                Disk::Snapshot(path) => ("format=raw,snapshot=on,file=", path),
                Disk::Nbd(path) => (
                    "format=raw,cache=none,file.driver=nbd,file.server.type=unix,file.server.path=",
                    path,
                ),
            };
            let device = format!("virtio-blk-pci,drive={DISK}");
            args.extend(["-drive".into(), join(&format!("if=none,id={DISK},{how}"), path)]);
            args.extend(["-device".into(), device.into()]);
        }
        if let Some(card) = &self.card {
            let tap =
                format!("tap,id={CARD},ifname={},script=no,downscript=no,vnet_hdr=off", card.tap);
            let device = format!("virtio-net-pci,netdev={CARD},mac={},romfile=", card.mac);
            let dump = format!("filter-dump,id=dump,netdev={CARD},maxlen={CAPTURED_BYTES},file=");
            args.extend(["-netdev".into(), tap.into(), "-device".into(), device.into()]);
            args.extend(["-object".into(), join(&dump, &card.capture)]);
        }
        args
    }

    fn add_start(&self, args: &mut Vec<OsString>) {
        match &self.start {
            Start::Firmware(firmware) => {
                let how = match self.arch {
                    Arch::Aarch64 => "-bios",
                    Arch::Riscv64 => "-kernel",
                };
                args.extend([how.into(), firmware.into()]);
            }
            Start::Kernel { kernel, initrd, append } => {
                let line = format!("{append} console={}", self.arch.console());
                args.extend(["-kernel".into(), kernel.into()]);
                args.extend(["-append".into(), line.trim_start().into()]);
                if let Some(initrd) = initrd {
                    args.extend(["-initrd".into(), initrd.into()]);
                }
            }
        }
    }
}

/// An option with a path in the end. QEMU reads a comma as the next option unless it is doubled.
fn join(option: &str, path: &std::path::Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path.to_string_lossy().replace(',', ",,"));
    word
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
    fn an_arm_machine_starts_by_uefi_from_a_disk_that_is_served() {
        let machine = Machine {
            disk: Some(Disk::Nbd("disk.sock".into())),
            ..Machine::new(Arch::Aarch64, Start::Firmware("efi.fd".into()))
        };
        assert_eq!(
            line(&machine),
            "qemu-system-aarch64 -machine virt -accel tcg -cpu cortex-a72 -smp 1 -m 1024 \
             -nodefaults -display none -chardev socket,id=console,fd=0 -serial chardev:console \
             -chardev socket,id=qmp,fd=1 -mon chardev=qmp,mode=control -device virtio-rng-pci \
             -bios efi.fd -drive if=none,id=disk,format=raw,cache=none,file.driver=nbd,\
             file.server.type=unix,file.server.path=disk.sock -device virtio-blk-pci,drive=disk"
        );
    }

    #[test]
    fn a_riscv_machine_starts_u_boot_as_its_kernel() {
        let machine = Machine::new(Arch::Riscv64, Start::Firmware("u-boot.bin".into()));
        assert!(line(&machine).ends_with("-device virtio-rng-pci -kernel u-boot.bin"));
    }

    #[test]
    fn a_machine_has_what_it_is_given() {
        let start = Start::Kernel {
            kernel: "Image".into(),
            initrd: Some("initrd".into()),
            append: "init=/bin/sh".into(),
        };
        let machine = Machine {
            accelerator: Accelerator::Kvm,
            cpus: 4,
            mem_mib: 2048,
            disk: Some(Disk::Snapshot("a,b.raw".into())),
            card: Some(Card {
                tap: "tap0".into(),
                mac: "02:00:00:00:00:01".into(),
                capture: "net.pcap".into(),
            }),
            once: true,
            ..Machine::new(Arch::Riscv64, start)
        };
        assert_eq!(
            line(&machine),
            "qemu-system-riscv64 -machine virt -accel kvm -cpu host -smp 4 -m 2048 \
             -nodefaults -display none -chardev socket,id=console,fd=0 -serial chardev:console \
             -chardev socket,id=qmp,fd=1 -mon chardev=qmp,mode=control -device virtio-rng-pci \
             -no-reboot -kernel Image -append init=/bin/sh console=ttyS0 -initrd initrd \
             -drive if=none,id=disk,format=raw,snapshot=on,file=a,,b.raw \
             -device virtio-blk-pci,drive=disk \
             -netdev tap,id=card,ifname=tap0,script=no,downscript=no,vnet_hdr=off \
             -device virtio-net-pci,netdev=card,mac=02:00:00:00:00:01,romfile= \
             -object filter-dump,id=dump,netdev=card,maxlen=192,file=net.pcap"
        );
    }

    #[test]
    fn the_command_line_is_one_argument() {
        let start = Start::Kernel { kernel: "k".into(), initrd: None, append: "a b".into() };
        let args = Machine::new(Arch::Aarch64, start).args();
        let append = args.iter().position(|arg| arg == "-append").unwrap();
        assert_eq!(args[append + 1], "a b console=ttyAMA0");
    }
}
