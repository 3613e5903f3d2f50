//! One step of a beam search over additive codes: every kept code is extended by every centroid,
//! and the best extensions are kept.
//!
//! The candidate that extends code `r` by centroid `j` has the score
//!
//! `s(r, j) = base[j] − rows[0][j] − rows[1][j] − … + so_far`
//!
//! where `rows` are the tables of inner products with the centroids that code `r` already holds. A
//! score is **defined** as the f32 value in that order; every path follows it. Of equal scores the
//! lowest (r, j) comes first.
//!
//! Selection: the largest score of each of 16 lanes is tracked while scores are made. As many lanes
//! as are wanted reach the wanted-th largest of these, hence no candidate below it is needed, and
//! few of the others are looked at one by one.

use crate::Path;

/// Scores that are compared at once.
pub const LANES: usize = 16;

/// Scores that stay in registers while the rows pass by.
const WIDE: usize = 64;

/// An extension of a code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extension {
    /// Its score.
    pub score: f32,
    /// Which code it extends, in the order they were pushed.
    pub from: u32,
    /// The centroid that extends it.
    pub centroid: u32,
}

/// The candidates of one vector.
///
/// ```
/// use vq_kernels::beam::{Candidates, Extension, LANES};
///
/// let mut base = [f32::NEG_INFINITY; LANES];
/// base[..3].copy_from_slice(&[1.0, 5.0, 3.0]);
/// let mut candidates = Candidates::new(LANES, 2);
/// candidates.push(&base, &[], 0.0);
/// candidates.push(&base, &[&[4.0; LANES]], 3.0);
/// let best = [(5.0, 0, 1), (4.0, 1, 1)];
/// let best = best.map(|(score, from, centroid)| Extension { score, from, centroid });
/// assert_eq!(candidates.best(), best);
/// ```
#[derive(Clone, Debug)]
pub struct Candidates {
    k: usize,
    wanted: usize,
    /// (codes, k).
    scores: Vec<f32>,
    /// (codes): the largest score in each lane.
    maxima: Vec<[f32; LANES]>,
    found: Vec<Extension>,
}

impl Candidates {
    /// No candidates yet, of `k` centroids each, of which the best `wanted` will be asked for.
    ///
    /// # Panics
    /// When `k` is not a multiple of [`LANES`]: pad `base` with −∞, which is never chosen.
    #[must_use]
    pub fn new(k: usize, wanted: usize) -> Self {
        assert_eq!(k % LANES, 0, "whole groups of lanes");
        Self { k, wanted, scores: Vec::new(), maxima: Vec::new(), found: Vec::new() }
    }

    /// Forgets all candidates, for the next vector.
    pub fn clear(&mut self) {
        self.scores.clear();
        self.maxima.clear();
    }

    /// Adds the extensions of one code. O(k · rows); allocates only to grow.
    ///
    /// # Panics
    /// When `base` or a row is not (k).
    pub fn push(&mut self, base: &[f32], rows: &[&[f32]], so_far: f32) {
        assert_eq!(base.len(), self.k, "length of the base");
        for row in rows {
            assert_eq!(row.len(), self.k, "length of a row");
        }
        let from = self.scores.len();
        self.scores.resize(from + self.k, 0.0);
        let out = &mut self.scores[from..];
        let maxima = Path::fastest().run(
            #[inline(always)]
            || extend(base, rows, so_far, out),
        );
        self.maxima.push(maxima);
    }

    /// The best, at most `wanted`, best first. Scores of −∞ and no numbers are never among them.
    pub fn best(&mut self) -> &[Extension] {
        self.best_on(Path::fastest())
    }

    fn best_on(&mut self, path: Path) -> &[Extension] {
        self.found.clear();
        let reached = match self.wanted {
            0 => return &self.found,
            wanted if wanted <= LANES => path.run(
                #[inline(always)]
                || reached_by(&self.maxima, wanted),
            ),
            wanted => {
                let mut all: Vec<f32> = self.maxima.as_flattened().to_vec();
                if all.len() < wanted {
                    f32::NEG_INFINITY
                } else {
                    *all.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a)).1
                }
            }
        };
        let mut keep = Keep { k: self.k, wanted: self.wanted, found: &mut self.found };
        path.run(
            #[inline(always)]
            || {
                for (from, maxima) in self.maxima.iter().enumerate() {
                    // Nothing of most codes of a wide beam is good enough.
                    if which(maxima, reached) != 0 {
                        let first = from * self.k;
                        choose(&self.scores[first..first + self.k], first, reached, &mut keep);
                    }
                }
            },
        );
        &self.found
    }
}

/// Takes `rows`, each (n), from `sums` (n), one row after the other:
/// `sums ← (sums − rows[0]) − rows[1] − …`. O(n · rows), no allocation.
///
/// # Panics
/// When n is not a multiple of [`LANES`] or a row has another length.
pub fn subtract_rows(sums: &mut [f32], rows: &[&[f32]]) {
    assert_eq!(sums.len() % LANES, 0, "whole groups of lanes");
    for row in rows {
        assert_eq!(row.len(), sums.len(), "length of a row");
    }
    Path::fastest().run(
        #[inline(always)]
        || subtract(sums, rows),
    );
}

/// The best so far, best first.
struct Keep<'a> {
    k: usize,
    wanted: usize,
    found: &'a mut Vec<Extension>,
}

impl Keep<'_> {
    /// Offers candidates in the order of their places: behind its equals, letting the last one go.
    #[inline(always)]
    fn offer(&mut self, place: usize, score: f32) {
        let full = self.found.len() == self.wanted;
        let worst = if full { self.found[self.wanted - 1].score } else { f32::NEG_INFINITY };
        if score > worst {
            if full {
                self.found.pop();
            }
            let at = self.found.iter().rposition(|kept| kept.score >= score).map_or(0, |i| i + 1);
            let (from, centroid) = ((place / self.k) as u32, (place % self.k) as u32);
            self.found.insert(at, Extension { score, from, centroid });
        }
    }
}

/// Writes the scores and answers the largest of each lane. A NaN is never the largest.
#[inline(always)]
fn extend(base: &[f32], rows: &[&[f32]], so_far: f32, out: &mut [f32]) -> [f32; LANES] {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (wide, rest) = out.as_chunks_mut::<WIDE>();
    let done = wide.len() * WIDE;
    for (c, out) in wide.iter_mut().enumerate() {
        *out = extended(base, rows, so_far, c * WIDE);
        out.as_chunks::<LANES>().0.iter().for_each(|scores| raise(&mut maxima, scores));
    }
    for (c, out) in rest.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        *out = extended(base, rows, so_far, done + c * LANES);
        raise(&mut maxima, out);
    }
    maxima
}

#[inline(always)]
fn extended<const N: usize>(base: &[f32], rows: &[&[f32]], so_far: f32, from: usize) -> [f32; N] {
    let mut held = *at::<N>(base, from);
    for row in rows {
        for (score, value) in held.iter_mut().zip(at::<N>(row, from)) {
            *score -= value;
        }
    }
    held.map(|score| score + so_far)
}

#[inline(always)]
fn at<const N: usize>(values: &[f32], from: usize) -> &[f32; N] {
    values[from..].first_chunk().expect("lengths are whole groups of lanes")
}

#[inline(always)]
fn raise(maxima: &mut [f32; LANES], scores: &[f32; LANES]) {
    for (max, score) in maxima.iter_mut().zip(scores) {
        *max = if *score > *max { *score } else { *max };
    }
}

#[inline(always)]
fn subtract(sums: &mut [f32], rows: &[&[f32]]) {
    let (wide, rest) = sums.as_chunks_mut::<WIDE>();
    let done = wide.len() * WIDE;
    for (c, sums) in wide.iter_mut().enumerate() {
        take(sums, rows, c * WIDE);
    }
    for (c, sums) in rest.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        take(sums, rows, done + c * LANES);
    }
}

#[inline(always)]
fn take<const N: usize>(sums: &mut [f32; N], rows: &[&[f32]], from: usize) {
    let mut held = *sums;
    for row in rows {
        for (sum, value) in held.iter_mut().zip(at::<N>(row, from)) {
            *sum -= value;
        }
    }
    *sums = held;
}

#[inline(always)]
fn reached_by(maxima: &[[f32; LANES]], wanted: usize) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for maxima in maxima {
        raise(&mut largest, maxima);
    }
    // How many lanes are larger: no sorting, no branches.
    let mut larger = [0_u32; LANES];
    for other in largest {
        for (larger, max) in larger.iter_mut().zip(&largest) {
            *larger += u32::from(other > *max);
        }
    }
    let mut reached = f32::INFINITY;
    for (max, larger) in largest.iter().zip(larger) {
        let value = if larger < wanted as u32 { *max } else { f32::INFINITY };
        reached = if value < reached { value } else { reached };
    }
    reached
}

/// Offers the scores of one code, the first of which has the place `first`.
#[inline(always)]
fn choose(scores: &[f32], first: usize, reached: f32, keep: &mut Keep<'_>) {
    let (wide, rest) = scores.as_chunks::<WIDE>();
    for (c, scores) in wide.iter().enumerate() {
        choose_from(scores, first + c * WIDE, reached, keep);
    }
    let first = first + wide.len() * WIDE;
    for (c, scores) in rest.as_chunks::<LANES>().0.iter().enumerate() {
        choose_from(scores, first + c * LANES, reached, keep);
    }
}

#[inline(always)]
fn choose_from<const N: usize>(scores: &[f32; N], first: usize, reached: f32, keep: &mut Keep<'_>) {
    let mut bits = which(scores, reached);
    while bits != 0 {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        keep.offer(first + lane, scores[lane]);
    }
}

/// One bit per score that is at least `reached`; N ≤ 64.
#[inline(always)]
fn which<const N: usize>(scores: &[f32; N], reached: f32) -> u64 {
    let mut bits = 0;
    for (lane, score) in scores.iter().enumerate() {
        bits |= u64::from(*score >= reached) << lane;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the module promises, by sorting everything.
    fn by_sorting(scores: &[f32], k: usize, wanted: usize) -> Vec<Extension> {
        let mut all: Vec<Extension> = scores
            .iter()
            .enumerate()
            .filter(|(_, score)| **score > f32::NEG_INFINITY)
            .map(|(i, &score)| Extension { score, from: (i / k) as u32, centroid: (i % k) as u32 })
            .collect();
        all.sort_by(|a, b| b.score.partial_cmp(&a.score).expect("numbers"));
        all.truncate(wanted);
        all
    }

    proptest! {
        #[test]
        fn every_path_finds_what_sorting_finds(
            groups in 1_usize..12,
            codes in 1_usize..7,
            depth in 0_usize..4,
            wanted in 0_usize..40,
            coarse in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let k = groups * LANES;
            let noise = |i: usize| {
                let bits = (i as u32).wrapping_mul(2_654_435_761) ^ seed;
                let bits = bits.wrapping_mul(2_246_822_519) >> 8;
                match (coarse, bits % 97) {
                    (_, 0) => f32::NEG_INFINITY,
                    (_, 1) => f32::NAN,
                    // Few values: ties are common.
                    (true, _) => (bits % 7) as f32,
                    (false, _) => bits as f32 / 65536.0,
                }
            };
            let line = |n: usize| -> Vec<f32> { (0..k).map(|j| noise(n * k + j)).collect() };
            let mut expected = Vec::new();
            let base = line(0);
            let tables: Vec<Vec<f32>> = (1..=codes * depth).map(line).collect();
            let rows: Vec<&[f32]> = tables.iter().map(Vec::as_slice).collect();
            for code in 0..codes {
                let rows = &rows[code * depth..][..depth];
                expected.extend((0..k).map(|j| {
                    rows.iter().fold(base[j], |score, row| score - row[j]) + code as f32
                }));
            }
            for path in Path::available() {
                let mut candidates = Candidates::new(k, wanted);
                for code in 0..codes {
                    let rows = &rows[code * depth..][..depth];
                    let mut scores = vec![9.0; k];
                    let maxima = path.run(#[inline(always)] || extend(&base, rows, code as f32, &mut scores));
                    candidates.scores.extend(scores);
                    candidates.maxima.push(maxima);
                    let mut sums = base.clone();
                    path.run(#[inline(always)] || subtract(&mut sums, rows));
                    for (j, sum) in sums.iter().enumerate() {
                        let sum = sum + code as f32;
                        let same = sum == expected[code * k + j] || sum.is_nan();
                        prop_assert!(same, "sum {} of {:?}", j, path);
                    }
                }
                let bits = |values: &[f32]| -> Vec<u32> {
                    values.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect()
                };
                prop_assert_eq!(bits(&candidates.scores), bits(&expected), "{:?}", path);
                prop_assert_eq!(
                    candidates.best_on(path),
                    by_sorting(&expected, k, wanted),
                    "{:?}", path
                );
            }
        }
    }

    #[test]
    fn cleared_candidates_are_forgotten() {
        let mut candidates = Candidates::new(LANES, 3);
        candidates.push(&[9.0; LANES], &[], 0.0);
        candidates.clear();
        let base: [f32; LANES] = std::array::from_fn(|j| (j % 5) as f32);
        candidates.push(&base, &[], 0.5);
        let best: Vec<u32> = candidates.best().iter().map(|found| found.centroid).collect();
        assert_eq!(best, [4, 9, 14]);
        assert!(candidates.best().iter().all(|found| found.score == 4.5 && found.from == 0));
    }
}
