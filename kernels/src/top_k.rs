//! The `k` best of a stream of (score, id): score descending, id ascending, NaN last.
//!
//! Each pair becomes one integer whose ascending order is that order; a buffer of about `2k` of them
//! is cut back to the best `k` by selection when it fills, and the worst kept becomes the threshold.
//! The order is total, hence the result does not depend on insertion order or chunking.
//! Cost: O(1) amortised per push, O(k log k) to finish. Memory: O(k).

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Scores compared at once when looking for one that reaches the threshold.
const BLOCK: usize = 64;

/// Keeps the `k` largest scores with their ids.
///
/// `-0.0` and `0.0` are the same score and come back as `0.0`. An id that is pushed twice is
/// kept twice.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    limit: usize,
    keys: Vec<u64>,
    /// Keys above this one cannot be among the best `k`; no score has the key 0.
    worst: u64,
    /// The score of `worst`: smaller scores need no further look.
    threshold: f32,
}

impl TopK {
    /// An empty selection of at most `k`.
    #[must_use]
    pub fn new(k: usize) -> Self {
        let limit = k.saturating_add(k.max(BLOCK));
        Self {
            k,
            limit,
            keys: Vec::new(),
            worst: if k == 0 { 0 } else { u64::MAX },
            threshold: f32::NEG_INFINITY,
        }
    }

    /// As [`new`](Self::new), of scores that are at least `floor`; NaN and what is smaller are not kept.
    /// A `floor` that is NaN or −∞ excludes nothing.
    #[must_use]
    pub fn above(k: usize, floor: f32) -> Self {
        let mut top = Self::new(k);
        if k > 0 && floor > f32::NEG_INFINITY {
            (top.worst, top.threshold) = (key(floor, u32::MAX), floor);
        }
        top
    }

    /// Offers one score.
    #[inline]
    pub fn push(&mut self, score: f32, id: u32) {
        let key = key(score, id);
        if key <= self.worst {
            self.keys.push(key);
            if self.keys.len() >= self.limit {
                self.cut();
            }
        }
    }

    /// Offers a run of scores, whose ids are `first_id, first_id + 1, …`
    ///
    /// # Panics
    /// When an id does not fit a `u32`.
    pub fn push_row(&mut self, first_id: u32, scores: &[f32]) {
        assert!(scores.len() as u64 <= (1 << 32) - u64::from(first_id), "ids beyond the last u32");
        let mut done = 0;
        while let Some((block, mut marks)) = next_reaching(&scores[done..], self.threshold) {
            done += block * BLOCK;
            while marks != 0 {
                let at = done + marks.trailing_zeros() as usize;
                self.push(scores[at], first_id + at as u32);
                marks &= marks - 1;
            }
            done = scores.len().min(done + BLOCK);
        }
    }

    /// The `k`-th best score so far: a later one that is smaller is not selected. −∞ while fewer are
    /// held or one of them is NaN.
    ///
    /// O(k).
    pub fn threshold(&mut self) -> f32 {
        if self.k > 0 && self.keys.len() >= self.k {
            self.cut();
        }
        self.threshold
    }

    /// A score below which nothing is selected: the [`threshold`](Self::threshold) of some time before.
    /// O(1).
    #[must_use]
    pub fn floor(&self) -> f32 {
        self.threshold
    }

    /// The best, at most `k`, best first.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<(f32, u32)> {
        if self.keys.len() > self.k {
            self.cut();
        }
        self.keys.sort_unstable();
        self.keys.into_iter().map(score_and_id).collect()
    }

    fn cut(&mut self) {
        let (_, worst, _) = self.keys.select_nth_unstable(self.k - 1);
        self.worst = *worst;
        let (score, _) = score_and_id(self.worst);
        self.threshold = if score.is_nan() { f32::NEG_INFINITY } else { score };
        self.keys.truncate(self.k);
    }
}

/// The first block of [`BLOCK`] scores of which some are not below `threshold`, and a bit for each of
/// these. NaN is not below, for places may be free; its key decides.
fn next_reaching(scores: &[f32], threshold: f32) -> Option<(usize, u64)> {
    let (blocks, rest) = scores.as_chunks();
    let found = match Path::fastest().0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these sets exist only where AVX-512 was detected.
        Set::Avx512 | Set::Vbmi => unsafe { avx512::next_reaching(blocks, threshold) },
        _ => next_reaching_portable(blocks, threshold),
    };
    found.or_else(|| {
        let marks = marks(rest, threshold);
        (marks != 0).then_some((blocks.len(), marks))
    })
}

fn next_reaching_portable(blocks: &[[f32; BLOCK]], threshold: f32) -> Option<(usize, u64)> {
    // No early end: that would be one comparison at a time.
    let any = |block: &[f32; BLOCK]| {
        block.iter().fold(false, |any, &score| any | reaches(score, threshold))
    };
    let block = blocks.iter().position(any)?;
    Some((block, marks(&blocks[block], threshold)))
}

/// A bit for each of at most 64 scores that is not below.
fn marks(scores: &[f32], threshold: f32) -> u64 {
    let mark = |(i, &score): (usize, &f32)| u64::from(reaches(score, threshold)) << i;
    scores.iter().enumerate().map(mark).sum()
}

fn reaches(score: f32, threshold: f32) -> bool {
    let below = score < threshold;
    !below
}

/// Ascending keys are descending scores, then ascending ids.
#[inline]
fn key(score: f32, id: u32) -> u64 {
    let rank = if score.is_nan() {
        u32::MAX
    } else {
        // Adding 0.0 turns -0.0 into 0.0.
        let bits = (score + 0.0).to_bits();
        if bits >> 31 == 0 { !bits & 0x7FFF_FFFF } else { bits }
    };
    u64::from(rank) << 32 | u64::from(id)
}

fn score_and_id(key: u64) -> (f32, u32) {
    let rank = (key >> 32) as u32;
    let score = if rank == u32::MAX {
        f32::NAN
    } else if rank >> 31 == 0 {
        f32::from_bits(!rank & 0x7FFF_FFFF)
    } else {
        f32::from_bits(rank)
    };
    (score, key as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score() -> impl Strategy<Value = f32> {
        // Few distinct values, so that ties are common.
        prop_oneof![
            8 => (-4_i8..4).prop_map(f32::from),
            2 => any::<f32>(),
            1 => Just(f32::NAN),
            1 => Just(-0.0_f32),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(f32::INFINITY),
        ]
    }

    fn by_full_sort(scores: &[f32], k: usize) -> Vec<(f32, u32)> {
        let mut all: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
        all.sort_by(|a, b| {
            a.0.is_nan()
                .cmp(&b.0.is_nan())
                .then(b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal))
                .then(a.1.cmp(&b.1))
        });
        all.truncate(k);
        all
    }

    fn same(a: &[(f32, u32)], b: &[(f32, u32)]) -> bool {
        a.len() == b.len()
            && a.iter()
                .zip(b)
                .all(|(a, b)| a.1 == b.1 && (a.0 == b.0 || a.0.is_nan() && b.0.is_nan()))
    }

    proptest! {
        #[test]
        fn equals_a_full_sort_under_any_chunking(
            scores in prop::collection::vec(score(), 0..700),
            k in 0_usize..150,
            chunk in 1_usize..300,
        ) {
            let expected = by_full_sort(&scores, k);
            let mut rows = TopK::new(k);
            for (i, part) in scores.chunks(chunk).enumerate() {
                rows.push_row((i * chunk) as u32, part);
            }
            prop_assert!(same(&rows.into_sorted(), &expected));
            let mut backwards = TopK::new(k);
            for (i, &score) in scores.iter().enumerate().rev() {
                backwards.push(score, i as u32);
            }
            prop_assert!(same(&backwards.into_sorted(), &expected));
        }

        #[test]
        fn a_key_gives_its_score_back(score in any::<f32>(), id in any::<u32>()) {
            let (back, back_id) = score_and_id(key(score, id));
            prop_assert!(back == score || back.is_nan() && score.is_nan());
            prop_assert_eq!(back_id, id);
        }
    }

    #[test]
    fn blocks_are_found_alike_with_and_without_registers() {
        let mut scores = vec![-1.0_f32; 300];
        assert_eq!(next_reaching(&scores, 0.0), None);
        for (at, score) in [(299, 0.0), (256, f32::NAN), (191, 7.0), (130, f32::INFINITY)] {
            scores[at] = score;
            let found = next_reaching(&scores, 0.0);
            let first = at / BLOCK;
            let end = scores.len().min((first + 1) * BLOCK);
            assert_eq!(found, Some((first, marks(&scores[first * BLOCK..end], 0.0))));
            let blocks = scores.as_chunks().0;
            if first < blocks.len() {
                assert_eq!(next_reaching_portable(blocks, 0.0), found);
            }
        }
    }

    #[test]
    fn the_last_id_can_be_kept() {
        let mut top = TopK::new(2);
        top.push_row(u32::MAX - 1, &[f32::NAN, f32::NAN]);
        let ids: Vec<u32> = top.into_sorted().into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, [u32::MAX - 1, u32::MAX]);
    }
}
