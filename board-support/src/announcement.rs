//! What a board tells the LAN about itself.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    base64url,
    word::{Feature, Kind, List, System, Word},
};

/// Stable id of a node: `[a-z0-9-]`, 1 to 63 bytes.
pub type NodeId = Word<Id, 63>;

/// First `compatible` of the device tree, such as `starfive,visionfive-2-v1.3b`: printable ASCII
/// without blanks (Devicetree Specification 0.4, section 2.3.1), 1 to 48 bytes.
pub type Compatible = Word<Model, 48>;

/// First characters of a fleet's fingerprint: base64url, 1 to 22 bytes.
pub type FleetTag = Word<Base64Url, 22>;

/// What shows that the board was given a token of the fleet: base64url, 1 to 51 bytes. That is the
/// token's public id, 6 bytes, and 32 bytes that only its holders can make.
pub type Proof = Word<Base64Url, 51>;

/// The kind of a [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {}

impl Kind for Id {
    const NAME: &'static str = "node id";

    fn is_valid(word: &str) -> bool {
        !word.is_empty()
            && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    }
}

/// The kind of a [`Compatible`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {}

impl Kind for Model {
    const NAME: &'static str = "device tree compatible";

    fn is_valid(word: &str) -> bool {
        !word.is_empty() && word.bytes().all(|c| c.is_ascii_graphic())
    }
}

/// The kind of a [`FleetTag`] and a [`Proof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base64Url {}

impl Kind for Base64Url {
    const NAME: &'static str = "base64url text";

    fn is_valid(word: &str) -> bool {
        !word.is_empty() && word.bytes().all(base64url::is_digit)
    }
}

/// SHA-256 of an SSH host key's public blob, as in `ssh-keygen -lf` but base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostKeyHash(pub [u8; 32]);

impl HostKeyHash {
    /// Reads 43 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        base64url::decode(text).map(Self)
    }
}

impl fmt::Display for HostKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base64url::encode(&self.0).iter().try_for_each(|&c| write!(f, "{}", char::from(c)))
    }
}

impl fmt::Debug for HostKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKeyHash({self})")
    }
}

/// What a board tells the LAN about itself: a hint where to connect and what to expect there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Its stable id.
    pub id: NodeId,
    /// Systems that its CPU executes.
    pub systems: List<System, { Announcement::MAX_SYSTEMS_LEN }>,
    /// Systems that it only emulates.
    pub emulated: List<System, { Announcement::MAX_LIST_LEN }>,
    /// System features that its nix-daemon accepts.
    pub features: List<Feature, { Announcement::MAX_LIST_LEN }>,
    /// Builds at once, 1 to [`Announcement::MAX_SLOTS`].
    pub slots: u16,
    /// CPU cores, 1 to [`Announcement::MAX_CORES`].
    pub cores: u16,
    /// Memory in GiB.
    pub memory_gib: u16,
    /// What board it is, if it has a device tree.
    pub board: Option<Compatible>,
    /// Its host key.
    pub host_key: HostKeyHash,
    /// The fleet it belongs to.
    pub fleet: Option<FleetTag>,
    /// What shows that it may belong to that fleet.
    pub proof: Option<Proof>,
    /// Whether it has features or emulated systems that are not listed here.
    pub more: bool,
}

impl Announcement {
    /// Most builds at once.
    pub const MAX_SLOTS: u16 = 1024;
    /// Most CPU cores.
    pub const MAX_CORES: u16 = 4096;
    /// Longest comma list of native systems, in bytes: what is always left of a
    /// [`Record`](crate::Record) by the keys that are never dropped.
    pub const MAX_SYSTEMS_LEN: usize = 95;
    /// Longest comma list of features or of emulated systems, in bytes: with its key, the longest
    /// string that a TXT record can hold.
    pub const MAX_LIST_LEN: usize = 250;
}
