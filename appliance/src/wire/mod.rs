//! Both ends of Nix's protocols, and the door through which local programs bring their clients.
//!
//! A client of Nix reaches the daemon in two steps. A small program that sshd or Nix started
//! ([`handover`]) hands its standard streams through the [`door`] and waits; the daemon then speaks
//! Nix's protocol on those streams itself ([`session`]). The local Nix's build hook ([`hook`]) asks at the same
//! door.

pub mod command;
pub mod control;
pub mod door;
pub mod handover;
mod hello;
pub mod hook;
mod jobs;
pub mod local_nix;
mod plan;
mod relay;
mod serve;
pub mod session;
pub mod stream;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
mod thrift;
pub mod unfetched;

pub use relay::CLIENT_SETTING;
pub use targets::{read_basic, read_drv};
