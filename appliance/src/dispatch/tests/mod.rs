//! The dispatcher as its clients and its executors see it.

mod advising;
mod courses;
mod ends;
mod lasting;
mod learning;
mod moving;
mod outlook;
mod placing;
mod rig;
mod sharing;
mod supply;
mod wanted;
