//! The worker protocol, which `nix-daemon` and `nix-daemon --stdio` (`ssh-ng://`) speak, from
//! version 1.35 (Nix 2.15) to 1.38.
//!
//! A session is a handshake, then requests one after another: [`Request`], [`StderrMessage`]s up to
//! [`StderrMessage::Last`] or [`StderrMessage::Error`], and, after the former, a reply. Requests and
//! replies carry no length: whoever passes them on has to know every shape.
//!
//! Everything here is the protocol without features: those that newer versions of Nix negotiate
//! change the encoding of some operations, so do not advertise any for a connection that is decoded
//! with this crate.

pub mod client;
mod handshake;
mod path_info;
mod request;
mod result;
pub mod server;
mod stderr;
mod version;

pub use handshake::ServerHello;
pub use path_info::PathInfo;
pub(crate) use path_info::read_nar_hash;
pub use request::{BuildMode, ClientOptions, CollectGarbage, Operation, Request};
pub use result::{
    BuildResult, BuildStatus, Missing, Realisation, read_keyed_results, read_realisations,
    write_keyed_results, write_realisations,
};
pub use stderr::{Field, MAX_LOG_TEXT, NixError, StderrMessage};
pub use version::ProtocolVersion;
