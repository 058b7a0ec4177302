//! How the derivations in the local store that clients wait for depend on each other: what is still
//! to be done after each one.
//!
//! Nix's build hook names one derivation at a time. But the process that serves a client registers
//! every derivation it is about to build as a temporary root, and a file lists these
//! (`LocalStore::addTempRoot`, gc.cc). [`Graph`] is the derivations of such lists, [`TempRoots`] reads
//! them, and [`Keeper`] has that done when jobs come and end.

mod intern;
mod keeper;
mod process;
mod reader;
mod store;
mod survey;
mod temproots;
#[cfg(test)]
mod tests;

pub use keeper::{Keeper, Weigh};
pub use process::Worker;
pub use reader::Places;
pub use store::{ClientId, Graph, Key, MAX_NODES, Node, NotAdded};
pub use survey::Remaining;
pub use temproots::TempRoots;
