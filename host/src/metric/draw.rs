//! Reproducible draws: ChaCha8 with a stream of its own for each thing that is sampled.
//!
//! Two samples of one seed never share random numbers, and the mapping from random words to
//! indices is written here instead of taken from a library, so that a stored result can be
//! drawn again whatever version of that library is in use.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is being sampled; the number is the ChaCha stream and must never change.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    /// Pairs of base rows, for the pairwise metrics.
    RowPairs = 1,
    /// Query × base pairs, for the estimator metrics.
    QueryPairs = 2,
    /// Queries whose search is compared with the scorer's ranking.
    SearchedQueries = 3,
}

/// A source of uniform indices.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// A uniform index below `bound` (at least 1).
    ///
    /// Multiply-shift of a 64-bit word; its bias, below bound/2⁶⁴, is far under what any
    /// sample here could show.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        // The high half is below `bound`, a u32.
        (wide >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::{Draw, Stream};

    #[test]
    fn draws_stay_what_they_were_when_results_were_stored() {
        let mut draw = Draw::new(42, Stream::RowPairs);
        let got: Vec<u32> = (0..6).map(|_| draw.below(1000)).collect();
        assert_eq!(got, [716, 166, 482, 846, 66, 773]);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first = |stream| {
            let mut draw = Draw::new(7, stream);
            [draw.below(u32::MAX), draw.below(u32::MAX)]
        };
        assert_ne!(first(Stream::RowPairs), first(Stream::QueryPairs));
    }

    #[test]
    fn draws_cover_the_range_evenly() {
        let mut draw = Draw::new(1, Stream::QueryPairs);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[draw.below(5) as usize] += 1;
        }
        // Binomial(50 000, 1/5): standard deviation 89; six of them.
        for count in counts {
            assert!(count.abs_diff(10_000) < 540, "{counts:?}");
        }
    }
}
