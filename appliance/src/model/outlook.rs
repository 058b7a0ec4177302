//! What would become of builds that nobody has asked for yet.

use std::collections::BTreeSet;

/// A derivation that is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The derivation.
    pub drv_path: String,
    /// Nix's word for what it runs on.
    pub system: String,
    /// `requiredSystemFeatures`.
    pub features: BTreeSet<String>,
    /// Whether what it makes is known before, as a hash.
    pub fixed_output: bool,
    /// `preferLocalBuild`.
    pub prefer_local: bool,
    /// Those that it needs, by their places in the list that it is in.
    pub needs: Vec<u32>,
}

/// Where and when builds would be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Each of them, in the order in which they were asked for.
    pub builds: Vec<Expected>,
    /// The nodes that were reckoned with: name and slots.
    pub nodes: Vec<(String, u32)>,
    /// What no plan can beat, in seconds: all the work, shared evenly,
    pub by_work_s: f64,
    /// and the longest chain, on the fastest nodes.
    pub by_chain_s: f64,
}

/// What is expected of one build; all times are in seconds from now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Its node, by its place in [`Outlook::nodes`].
    pub node: u32,
    /// Whether that emulates it.
    pub emulated: bool,
    /// Whether such builds have been seen before; else the time is guessed.
    pub known: bool,
    /// When it could begin.
    pub ready_s: f64,
    /// When it begins.
    pub start_s: f64,
    /// When it is done.
    pub end_s: f64,
}
