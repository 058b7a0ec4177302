//! What nodes of a fleet tell each other of trust, over an SSH connection that is up: certificates, the
//! roster, the time, orders to update.
//!
//! The node that connected asks ([`ask`]), the other one answers ([`answer`]). Who asks need not be
//! believed: what counts is signed by the fleet's key. Both ends send lines of JSON.

mod answer;
mod ask;
mod errand;
mod messages;
#[cfg(test)]
mod tests;

pub use answer::{Effects, answer};
pub use ask::{AskError, Asked, Stage, Visited, ask};
pub use errand::Errand;
pub use messages::{Answer, ChannelError, Described, Request};
