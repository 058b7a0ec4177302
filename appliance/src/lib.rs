//! roost turns boards into a fleet of native Nix builders that find their users by themselves.

pub mod bus;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod discover;
pub mod dispatch;
pub mod draw;
pub mod durable;
pub mod enrol;
pub mod execute;
pub mod first_boot;
pub mod flash;
pub mod fleet;
pub mod graph;
pub mod learn;
pub mod media;
pub mod model;
pub mod names;
pub mod observe;
pub mod place;
pub mod queue;
mod sys;
pub mod trust;
pub mod update;
pub mod wire;
