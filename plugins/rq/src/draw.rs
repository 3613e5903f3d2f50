//! Random numbers that only the seed decides.

/// A splitmix64 generator.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Draw(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At most `wanted` numbers below `n`, ascending: all, or one at random from each of `wanted`
    /// equal stretches.
    pub(crate) fn strata(&mut self, n: usize, wanted: usize) -> impl Iterator<Item = usize> {
        let count = n.min(wanted) as u128;
        (0..count).map(move |i| {
            let (low, high) = (i * n as u128 / count, (i + 1) * n as u128 / count);
            (low + ((u128::from(self.next()) * (high - low)) >> 64)) as usize
        })
    }
}
