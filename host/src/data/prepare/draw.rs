//! Samples of rows with fixed seeds, equal on every machine.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// `count` distinct numbers below `rows`, ascending, the same ones every time.
///
/// Floyd's algorithm (Bentley & Floyd 1987): O(count), whatever `rows` is. The seed is
/// derived from its `name`; queries and training rows are unrelated samples.
pub(in crate::data) fn distinct_rows(name: &str, rows: usize, count: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::from_seed(blake3::derive_key(name, &[]));
    let mut chosen = HashSet::with_capacity(count);
    for last in rows - count..rows {
        let row = below(&mut rng, last as u64 + 1) as usize;
        if !chosen.insert(row) {
            chosen.insert(last);
        }
    }
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_unstable();
    chosen
}

/// Uniform below `bound` (Lemire 2019); ours, so that no dependency's next version
/// draws other rows.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        if wide as u64 >= bound.wrapping_neg() % bound {
            return (wide >> 64) as u64;
        }
    }
}
