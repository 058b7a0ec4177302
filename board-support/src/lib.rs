//! What a board is, and how it says so: no_std, no allocation.
//!
//! [`Announcement`] is what a board tells the LAN about itself; [`Record`] is the same as the TXT
//! record of its DNS-SD service. Nothing in it is to be believed before the board has proved the
//! key whose hash it announces.
//!
//! The modules turn what the kernel says of the machine, as bytes, into facts. Whoever reads the
//! files is elsewhere. None of them fails on any bytes: what makes no sense is no fact.
#![cfg_attr(not(test), no_std)]

mod announcement;
mod base64url;
pub mod binfmt;
pub mod boards;
pub mod cpu;
pub mod device_tree;
mod record;
pub mod vitals;
mod word;

pub use announcement::{Announcement, Compatible, FleetTag, HostKeyHash, NodeId, Proof};
pub use record::{DecodeError, Record};
pub use word::{Kind, List, Word, WordError};

/// What the words of an announcement are, as types.
pub mod kind {
    pub use crate::announcement::{Base64Url, Id, Model};
    pub use crate::word::{Feature, System};
}
