//! Boots boards under QEMU, on its `virt` machines, and tests roost on them.
//!
//! [`Machine`] says what QEMU is to start, as data. A [`Guest`] is such a machine on a LAN of the lab
//! (`roost_lab`), with a [`Console`] that is waited for, a cable that is pulled, and a disk that forgets what it
//! was not told to keep when the power is cut. An [`Image`] is what its disk is flashed with.

mod arch;
mod console;
mod error;
mod guest;
mod image;
mod machine;
mod qmp;
pub mod test;

pub use arch::Arch;
pub use console::{Console, ConsoleError};
pub use error::{Error, Result};
pub use guest::{Guest, GuestSpec, accelerator, boot};
pub use image::{DISK_MIB, Image, firmware};
pub use machine::{Accelerator, Card, Disk, Machine, Start};
pub use qmp::{Qmp, QmpError};
