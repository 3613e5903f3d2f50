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

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Scores that are compared at once.
pub const LANES: usize = 16;

/// Lines of scores that stay in registers while the rows pass by.
const WIDE: usize = 4;

/// Values of neighbouring centroids. Aligned: a load of many bytes that crosses a line of the cache
/// costs two.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

impl Line {
    /// `values` in lines, the last made up with −∞, which is never chosen.
    pub fn of(values: &[f32]) -> impl Iterator<Item = Self> {
        let (lines, rest) = values.as_chunks();
        let last = (!rest.is_empty()).then(|| {
            let mut line = [f32::NEG_INFINITY; LANES];
            line[..rest.len()].copy_from_slice(rest);
            line
        });
        lines.iter().copied().chain(last).map(Self)
    }
}

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
/// use vq_kernels::beam::{Candidates, Extension, LANES, Line};
///
/// let base: Vec<Line> = Line::of(&[1.0, 5.0, 3.0]).collect();
/// let mut candidates = Candidates::new(base.len(), 2);
/// candidates.push(&base, &[], 0.0);
/// candidates.push(&base, &[&[Line([4.0; LANES])]], 3.0);
/// let best = [(5.0, 0, 1), (4.0, 1, 1)];
/// let best = best.map(|(score, from, centroid)| Extension { score, from, centroid });
/// assert_eq!(candidates.best(), best);
/// ```
#[derive(Clone, Debug)]
pub struct Candidates {
    lines: usize,
    wanted: usize,
    /// (codes, lines), then what earlier vectors left.
    scores: Vec<Line>,
    /// (codes): the largest score in each lane.
    maxima: Vec<Line>,
    /// Of good enough scores; one per score.
    places: Vec<u32>,
    found: Vec<Extension>,
}

impl Candidates {
    /// No candidates yet, of so many `lines` of centroids each, of which the best `wanted` will be asked
    /// for.
    #[must_use]
    pub fn new(lines: usize, wanted: usize) -> Self {
        Self {
            lines,
            wanted,
            scores: Vec::new(),
            maxima: Vec::new(),
            places: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Forgets all candidates, for the next vector.
    pub fn clear(&mut self) {
        self.maxima.clear();
    }

    /// Adds the extensions of one code. O(lines · rows); allocates only to grow.
    ///
    /// # Panics
    /// When `base` or a row is not (lines).
    pub fn push(&mut self, base: &[Line], rows: &[&[Line]], so_far: f32) {
        assert_eq!(base.len(), self.lines, "lines of the base");
        for row in rows {
            assert_eq!(row.len(), self.lines, "lines of a row");
        }
        let from = self.maxima.len() * self.lines;
        if self.scores.len() < from + self.lines {
            self.scores.resize(from + self.lines, NOTHING);
            self.places.resize(self.scores.len() * LANES, 0);
        }
        let out = &mut self.scores[from..][..self.lines];
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
                let mut all: Vec<f32> = self.maxima.iter().flat_map(|line| line.0).collect();
                if all.len() < wanted {
                    f32::NEG_INFINITY
                } else {
                    *all.select_nth_unstable_by(wanted - 1, |a, b| b.total_cmp(a)).1
                }
            }
        };
        let mut keep = Keep { wanted: self.wanted, found: &mut self.found };
        let codes = self.scores.chunks_exact(self.lines.max(1)).zip(&self.maxima);
        let good = path.reaching(codes, reached, &mut self.places);
        for &place in &self.places[..good] {
            let score = self.scores[place as usize / LANES].0[place as usize % LANES];
            let per_code = (self.lines * LANES) as u32;
            keep.offer(Extension { score, from: place / per_code, centroid: place % per_code });
        }
        &self.found
    }
}

impl Path {
    /// Writes the places of scores that are at least `reached`, ascending, to the front of `places`, which
    /// has one per score, and answers how many. With the scores of a code come their maxima.
    fn reaching<'a>(
        self,
        codes: impl Iterator<Item = (&'a [Line], &'a Line)>,
        reached: f32,
        places: &mut [u32],
    ) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these sets exist only where AVX-512 F was detected.
            Set::Avx512 | Set::Vbmi => unsafe { avx512::reaching(codes, reached, places) },
            _ => self.run(
                #[inline(always)]
                || reaching(codes, reached, places),
            ),
        }
    }
}

/// Takes `rows` from `sums`, one row after the other: `sums ← (sums − rows[0]) − rows[1] − …`.
/// No allocation.
///
/// # Panics
/// When a row has another length.
pub fn subtract_rows(sums: &mut [Line], rows: &[&[Line]]) {
    for row in rows {
        assert_eq!(row.len(), sums.len(), "lines of a row");
    }
    Path::fastest().run(
        #[inline(always)]
        || subtract(sums, rows),
    );
}

/// No score is less.
const NOTHING: Line = Line([f32::NEG_INFINITY; LANES]);

/// The best so far, best first.
struct Keep<'a> {
    wanted: usize,
    found: &'a mut Vec<Extension>,
}

impl Keep<'_> {
    /// Offers candidates in the order of their places: behind its equals, letting the last one go.
    #[inline(always)]
    fn offer(&mut self, candidate: Extension) {
        let full = self.found.len() == self.wanted;
        let worst = if full { self.found[self.wanted - 1].score } else { f32::NEG_INFINITY };
        if candidate.score > worst {
            if full {
                self.found.pop();
            }
            let ahead = self.found.iter().rposition(|kept| kept.score >= candidate.score);
            self.found.insert(ahead.map_or(0, |i| i + 1), candidate);
        }
    }
}

/// Writes the scores and answers the largest of each lane. A NaN is never the largest.
#[inline(always)]
fn extend(base: &[Line], rows: &[&[Line]], so_far: f32, out: &mut [Line]) -> Line {
    // Side by side: one would wait for the other.
    let mut maxima = [NOTHING; WIDE];
    let (wide, rest) = out.as_chunks_mut::<WIDE>();
    let done = wide.len() * WIDE;
    for (c, out) in wide.iter_mut().enumerate() {
        *out = extended(base, rows, so_far, c * WIDE);
        maxima.iter_mut().zip(out).for_each(|(maxima, scores)| raise(maxima, scores));
    }
    let [mut first, others @ ..] = maxima;
    for (c, out) in rest.iter_mut().enumerate() {
        [*out] = extended(base, rows, so_far, done + c);
        raise(&mut first, out);
    }
    others.iter().for_each(|other| raise(&mut first, other));
    first
}

#[inline(always)]
fn extended<const N: usize>(
    base: &[Line],
    rows: &[&[Line]],
    so_far: f32,
    from: usize,
) -> [Line; N] {
    let mut held = *at::<N>(base, from);
    take(&mut held, rows, from);
    for held in &mut held {
        held.0.iter_mut().for_each(|score| *score += so_far);
    }
    held
}

#[inline(always)]
fn at<const N: usize>(lines: &[Line], from: usize) -> &[Line; N] {
    lines[from..].first_chunk().expect("as many lines as the base")
}

#[inline(always)]
fn raise(maxima: &mut Line, scores: &Line) {
    for (max, score) in maxima.0.iter_mut().zip(&scores.0) {
        *max = if *score > *max { *score } else { *max };
    }
}

#[inline(always)]
fn subtract(sums: &mut [Line], rows: &[&[Line]]) {
    let (wide, rest) = sums.as_chunks_mut::<WIDE>();
    let done = wide.len() * WIDE;
    for (c, sums) in wide.iter_mut().enumerate() {
        take(sums, rows, c * WIDE);
    }
    for (c, sums) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
        take(sums, rows, done + c);
    }
}

#[inline(always)]
fn take<const N: usize>(sums: &mut [Line; N], rows: &[&[Line]], from: usize) {
    let mut held = *sums;
    for row in rows {
        for (held, row) in held.iter_mut().zip(at::<N>(row, from)) {
            held.0.iter_mut().zip(&row.0).for_each(|(sum, value)| *sum -= value);
        }
    }
    *sums = held;
}

#[inline(always)]
fn reached_by(maxima: &[Line], wanted: usize) -> f32 {
    let mut largest = NOTHING;
    for maxima in maxima {
        raise(&mut largest, maxima);
    }
    let Line(largest) = largest;
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

#[inline(always)]
fn reaching<'a>(
    codes: impl Iterator<Item = (&'a [Line], &'a Line)>,
    reached: f32,
    places: &mut [u32],
) -> usize {
    let (mut first, mut found) = (0, 0);
    for (scores, maxima) in codes {
        // Nothing of most codes of a wide beam is good enough.
        if reaches(maxima, reached) {
            for (c, line) in scores.iter().enumerate().filter(|(_, line)| reaches(line, reached)) {
                for (lane, _) in line.0.iter().enumerate().filter(|(_, score)| **score >= reached) {
                    places[found] = (first + c * LANES + lane) as u32;
                    found += 1;
                }
            }
        }
        first += scores.len() * LANES;
    }
    found
}

/// Whether a score is at least `reached`.
#[inline(always)]
fn reaches(scores: &Line, reached: f32) -> bool {
    scores.0.iter().fold(false, |reaches, score| reaches | (*score >= reached))
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
            let line = |n: usize| -> Vec<Line> {
                let values: Vec<f32> = (0..k).map(|j| noise(n * k + j)).collect();
                Line::of(&values).collect()
            };
            let value = |lines: &[Line], j: usize| lines[j / LANES].0[j % LANES];
            let mut expected = Vec::new();
            let base = line(0);
            let tables: Vec<Vec<Line>> = (1..=codes * depth).map(line).collect();
            let rows: Vec<&[Line]> = tables.iter().map(Vec::as_slice).collect();
            for code in 0..codes {
                let rows = &rows[code * depth..][..depth];
                expected.extend((0..k).map(|j| {
                    let start = value(&base, j);
                    rows.iter().fold(start, |score, row| score - value(row, j)) + code as f32
                }));
            }
            for path in Path::available() {
                let mut candidates = Candidates::new(groups, wanted);
                for code in 0..codes {
                    let rows = &rows[code * depth..][..depth];
                    let mut scores = vec![Line([9.0; LANES]); groups];
                    let maxima = path.run(#[inline(always)] || extend(&base, rows, code as f32, &mut scores));
                    candidates.scores.extend(scores);
                    candidates.maxima.push(maxima);
                    candidates.places.resize(candidates.scores.len() * LANES, 0);
                    let mut sums = base.clone();
                    path.run(#[inline(always)] || subtract(&mut sums, rows));
                    for (j, sum) in sums.iter().flat_map(|line| line.0).enumerate() {
                        let sum = sum + code as f32;
                        let same = sum == expected[code * k + j] || sum.is_nan();
                        prop_assert!(same, "sum {} of {:?}", j, path);
                    }
                }
                let bits = |values: &[f32]| -> Vec<u32> {
                    values.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect()
                };
                let scores: Vec<f32> = candidates.scores.iter().flat_map(|line| line.0).collect();
                prop_assert_eq!(bits(&scores), bits(&expected), "{:?}", path);
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
        let mut candidates = Candidates::new(1, 3);
        candidates.push(&[Line([9.0; LANES])], &[], 0.0);
        candidates.clear();
        let base = Line(std::array::from_fn(|j| (j % 5) as f32));
        candidates.push(&[base], &[], 0.5);
        let best: Vec<u32> = candidates.best().iter().map(|found| found.centroid).collect();
        assert_eq!(best, [4, 9, 14]);
        assert!(candidates.best().iter().all(|found| found.score == 4.5 && found.from == 0));
    }
}
