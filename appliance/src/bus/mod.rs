//! Our D-Bus interface: what a daemon serves on the system bus, and how the commands ask it.
//!
//! `org.roost.Node1` is documented in `docs/dbus.md`. Who may do what is decided by the bus, with
//! the policy file `share/dbus-1/system.d/org.roost.Node1.conf`: everyone may read and say
//! where their own builds go, root and group `roost` may act.

mod client;
mod control;
mod departures;
mod dict;
pub(crate) mod link;
mod node;
mod outlook;
mod service;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError, Notice, Notices, Restarts};
pub use control::{Caller, ControlError, Foreseen, JobLog, NodeControl, Wanted};
pub use link::SystemBus;
pub use service::serve;
