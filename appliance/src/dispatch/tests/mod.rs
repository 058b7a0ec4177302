//! The dispatcher as its clients and its executors see it.

mod ends;
mod lasting;
mod moving;
mod placing;
mod rig;
mod sharing;
mod wanted;
