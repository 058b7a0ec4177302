//! What a board is, and how it says so: no_std, no allocation.
//!
//! [`Announcement`] is what a board tells the LAN about itself; [`Record`] is the same as the TXT
//! record of its DNS-SD service. Nothing in it is to be believed before the board has proved the
//! key whose hash it announces.
#![cfg_attr(not(test), no_std)]

mod announcement;
mod base64url;
mod record;
mod word;

pub use announcement::{Announcement, Compatible, FleetTag, HostKeyHash, NodeId, Proof};
pub use record::{DecodeError, Record};
pub use word::{Kind, List, Word, WordError};

/// What the words of an announcement are, as types.
pub mod kind {
    pub use crate::announcement::{Base64Url, Id, Model};
    pub use crate::word::{Feature, System};
}
