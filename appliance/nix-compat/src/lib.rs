//! Nix's formats and protocols, written from the protocol: store paths, derivations, hashes, NAR
//! framing, the worker protocol (`nix-daemon`), the serve protocol (`nix-store --serve`), and what Nix tells
//! its build hook.
//!
//! Nothing here opens a file or a socket: the caller brings anything that is
//! [`tokio::io::AsyncRead`] or [`tokio::io::AsyncWrite`]. Peers are not trusted: whatever they send
//! is bounded ([`wire`] has the limits) and what is not understood is a typed error.

pub mod derivation;
pub mod nar;
pub mod nix_daemon;
pub mod nix_hook;
pub mod nix_serve;
pub mod nixbase32;
pub mod nixhash;
pub mod store_path;
pub mod wire;
