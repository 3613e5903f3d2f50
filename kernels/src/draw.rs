//! Random numbers that the seed alone decides, on every machine and with every release: splitmix64
//! (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014), and the mapping of its
//! words to indices.

use std::collections::HashSet;

/// A stream of random numbers.
///
/// ```
/// use vq_kernels::draw::{Draw, seed_of};
///
/// let mut draw = Draw::new(42);
/// let rows: Vec<usize> = draw.strata(1000, 3).collect();
/// assert!(rows.is_sorted() && rows.len() == 3 && rows[2] < 1000);
/// assert!((0.0..1.0).contains(&draw.uniform()));
/// // One seed for each of many parts that run side by side.
/// assert_ne!(seed_of(42, 0), seed_of(42, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `n`, at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        below(self.word(), n)
    }

    /// A number in 0..1, a multiple of 2^−53.
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A standard normal number, by Box and Muller. Its last bits are those of the system's logarithm
    /// and cosine.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// At most `wanted` numbers below `n`, ascending: all, or one at random from each of `wanted`
    /// equal stretches.
    pub fn strata(&mut self, n: usize, wanted: usize) -> impl Iterator<Item = usize> {
        let count = n.min(wanted) as u128;
        (0..count).map(move |i| {
            let (low, high) = (i * n as u128 / count, (i + 1) * n as u128 / count);
            low as usize + self.below((high - low) as usize)
        })
    }

    /// `count` distinct numbers below `n`, in random order.
    ///
    /// # Panics
    /// When `count` is above `n`.
    pub fn distinct(&mut self, n: usize, count: usize) -> Vec<usize> {
        distinct(n, count, || self.word())
    }
}

/// A seed for part `part` of something seeded with `seed`: that number of the seed's stream. Neighbours
/// share nothing.
#[must_use]
pub fn seed_of(seed: u64, part: u64) -> u64 {
    mix(seed.wrapping_add(part.wrapping_add(1).wrapping_mul(STEP)))
}

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number below `n` from a random word. Its bias is below n / 2^64.
pub(crate) fn below(word: u64, n: usize) -> usize {
    ((u128::from(word) * n as u128) >> 64) as usize
}

/// `count` distinct numbers below `n`, in random order (Floyd's method, then shuffled).
pub(crate) fn distinct(n: usize, count: usize, mut word: impl FnMut() -> u64) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(count);
    let mut list = Vec::with_capacity(count);
    for last in n - count..n {
        let candidate = below(word(), last + 1);
        let pick = if chosen.insert(candidate) {
            candidate
        } else {
            chosen.insert(last);
            last
        };
        list.push(pick);
    }
    for i in (1..list.len()).rev() {
        list.swap(i, below(word(), i + 1));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saved models were drawn with these.
    #[test]
    fn seeds_mean_what_they_always_meant() {
        let mut draw = Draw::new(0);
        assert_eq!(draw.word(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(draw.word(), seed_of(0, 1));
        let strata: Vec<usize> = Draw::new(7).strata(100, 4).collect();
        assert_eq!(strata, [9, 25, 72, 89]);
    }

    #[test]
    fn samples_are_distinct_and_within_range() {
        let mut draw = Draw::new(9);
        for (n, count) in [(1, 1), (10, 10), (1000, 3), (5, 0)] {
            let mut rows = draw.distinct(n, count);
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), count);
            assert!(rows.iter().all(|row| *row < n));
            let strata: Vec<usize> = draw.strata(n, count).collect();
            assert!(strata.len() == count && strata.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut draw = Draw::new(1);
        let x: Vec<f64> = (0..100_000).map(|_| draw.normal()).collect();
        let moment = |power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>() / x.len() as f64;
        // Six standard errors of each.
        for (power, expected, deviation) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0_f64)] {
            let error = 6.0 * deviation.sqrt() / (x.len() as f64).sqrt();
            assert!((moment(power) - expected).abs() < error, "moment {power}");
        }
    }
}
