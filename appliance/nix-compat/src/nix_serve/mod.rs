//! The serve protocol, which `nix-store --serve --write` (`ssh://`) speaks, from version 2.5 to 2.7.
//!
//! A session is a handshake, then commands one after another, each with its reply. There are no log
//! messages: a server's logs go to its standard error. A server ends the session where it cannot
//! reply.

mod command;
mod handshake;
mod reply;

pub use command::{BuildOptions, Command, CommandNumber};
pub use handshake::{ServeVersion, accept, handshake};
pub use reply::{
    BuildFailure, read_build_paths_reply, read_build_result, read_path_infos,
    write_build_paths_reply, write_build_result, write_path_infos,
};
