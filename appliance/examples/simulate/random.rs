//! Pseudo-random numbers that are the same everywhere: SplitMix64 (Steele, Lea, Flood, 2014).

/// A sequence.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Above 0, at most 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what is wanted")]
        let fraction = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        fraction
    }

    /// Log-normal with median 1 (Box and Muller's normal).
    pub(crate) fn lognormal(&mut self, sigma: f64) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        (sigma * normal).exp()
    }
}
