//! How far a derivation is from what its client asked for.

/// The way from a derivation to what a client asked for, itself included: the longest of all, by work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ahead {
    /// Derivations on the way, at least 1.
    pub steps: u32,
    /// The sum of their weights: seconds, or whatever unit the weights have.
    pub work: f64,
}
