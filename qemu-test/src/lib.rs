//! Boots ARM64 and RISC-V kernels under QEMU, on its `virt` machines.
//!
//! [`Machine`] says what is started, as data; [`boot`](fn@boot) starts it and reads its console.

mod boot;
mod machine;

pub use boot::{BootError, Booted, boot};
pub use machine::{Arch, Machine};
