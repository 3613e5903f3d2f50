//! A filter of bytes: what drops nearly all rows of many dimensions.
//!
//! 1. Vectors and rows are rounded to 8 bits, `x ≈ x̂ = sₓ·q`, `r ≈ r̂ = sᵣ·q'`. The integer product
//!    `Σ q·q'` is exact, and by Cauchy–Schwarz the score it stands for errs by at most
//!    `E = ‖x − x̂‖·‖r‖ + ‖x̂‖·‖r − r̂‖` and what f32 rounds. A row whose rounded score is more than 2E
//!    below the best rounded score is not the nearest.
//! 2. Of the few rows left, f32 scores in any order of summation leave those within the rounding of
//!    f32: mostly one.
//! 3. Where they leave more, the scores as [`panels`](crate::panels) defines them decide.

#[cfg(target_arch = "x86_64")]
mod vnni;

use ndarray::ArrayView2;

use super::{FIT, use_bytes};
use crate::distance::norm_sq;
use crate::{Panels, Path};

/// Rows per panel of the filter.
const PANEL: usize = 32;

/// Dimensions that one instruction multiplies and adds.
const QUAD: usize = 4;

/// Vectors that share one look at the rows.
const GROUP: usize = 48;

/// Vectors whose scores are made side by side.
const TILE: usize = 8;

/// Panels whose scores are kept until their largest is known: those of a tile stay in the first-level
/// cache.
const BLOCK: usize = 16;

/// Fewer rows leave the filter too little to drop.
pub(super) const LEAST_ROWS: usize = 64;

/// Vectors (n, d) as the filter sees them. Memory: d + 16 bytes each.
#[derive(Clone, Debug)]
pub struct RoundedVectors {
    /// (n, 4·⌈d/4⌉): q + 128.
    bytes: Vec<u8>,
    sizes: Vec<Size>,
}

/// What bounds the errors of a rounded vector's scores.
#[derive(Clone, Copy, Debug)]
struct Size {
    largest: f32,
    /// sₓ.
    scale: f32,
    norm_sq: f32,
    /// ‖x − x̂‖².
    error_sq: f32,
}

impl RoundedVectors {
    /// Rounds `x` (n, d) for searches among `rows` rows; holds nothing where these use no filter.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the layout is standard by then")]
    pub fn of(x: ArrayView2<'_, f32>, rows: usize) -> Self {
        let mut rounded = Self::none();
        if use_bytes(rows, x.ncols()) {
            let x = x.as_standard_layout();
            rounded.replace(x.as_slice().expect("the layout is standard"), x.ncols());
        }
        rounded
    }

    #[cfg(test)]
    pub(super) fn always(x: ArrayView2<'_, f32>) -> Self {
        let mut rounded = Self::none();
        if crate::words::available() {
            rounded.replace(x.as_slice().expect("the layout is standard"), x.ncols());
        }
        rounded
    }

    pub(super) fn none() -> Self {
        Self { bytes: Vec::new(), sizes: Vec::new() }
    }

    fn replace(&mut self, x: &[f32], dim: usize) {
        let width = dim.next_multiple_of(QUAD);
        // Dimensions that fill up the last four meet zeros of the rows.
        self.bytes.resize(x.len() / dim * width, 0);
        self.sizes.clear();
        let pairs = x.chunks_exact(dim).zip(self.bytes.chunks_exact_mut(width));
        self.sizes.extend(pairs.map(|(x, bytes)| round(x, &mut bytes[..dim])));
    }
}

/// Four dimensions of the 32 rows of a panel, row by row.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Quad([i8; QUAD * PANEL]);

/// What begins a panel.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Head {
    /// −128·Σ q': vectors are stored with 128 added, because the instruction wants them unsigned.
    start: [i32; PANEL],
    /// As in [`Panels`]; −∞ for the rows that fill up the last panel.
    bias: [f32; PANEL],
}

#[derive(Clone, Debug)]
pub(super) struct Bytes {
    /// One per panel.
    heads: Vec<Head>,
    /// (panels, ⌈d/4⌉).
    bytes: Vec<Quad>,
    /// (rows, d), for the second and third step.
    rows: Vec<f32>,
    dim: usize,
    /// sᵣ, the same for all rows.
    scale: f32,
    /// max ‖r‖.
    norm: f64,
    /// max ‖r − r̂‖.
    error: f64,
}

/// A group of vectors against the rows of a filter.
struct Group<'a> {
    /// (≤ GROUP, 4·⌈d/4⌉): q + 128.
    bytes: &'a [u8],
    /// sₓ·sᵣ.
    scale: [f32; GROUP],
    /// 2E; infinite where the bound does not hold.
    slack: [f32; GROUP],
    /// Twice the error of an f32 score.
    rounding: [f32; GROUP],
}

/// A row that may be the nearest.
#[derive(Clone, Copy)]
struct Pair {
    vector: u32,
    row: u32,
    /// Its rounded score, later its f32 score.
    score: f32,
}

impl Bytes {
    /// `None` where the bound could not hold: rows that are huge, tiny or not finite.
    pub(super) fn new(rows: ArrayView2<'_, f32>, panels: &Panels) -> Option<Self> {
        let (count, dim) = rows.dim();
        let values: Vec<f32> = rows.iter().copied().collect();
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let finite = values.iter().all(|value| value.is_finite());
        if !finite || !FIT.contains(&largest) {
            return None;
        }
        let scale = largest / 127.0;
        let quads = dim.div_ceil(QUAD);
        let mut filter = Self {
            heads: vec![
                Head { start: [0; PANEL], bias: [f32::NEG_INFINITY; PANEL] };
                count.div_ceil(PANEL)
            ],
            bytes: vec![Quad([0; QUAD * PANEL]); count.div_ceil(PANEL) * quads],
            rows: values,
            dim,
            scale,
            norm: 0.0,
            error: 0.0,
        };
        for (r, row) in filter.rows.chunks_exact(dim).enumerate() {
            let (panel, lane) = (r / PANEL, r % PANEL);
            let (mut sum, mut error) = (0, 0.0_f64);
            for (k, value) in row.iter().enumerate() {
                let q = (value / scale).round_ties_even().clamp(-127.0, 127.0);
                error += (f64::from(*value) - f64::from(q) * f64::from(scale)).powi(2);
                sum += q as i32;
                filter.bytes[panel * quads + k / QUAD].0[lane * QUAD + k % QUAD] = q as i8;
            }
            let head = &mut filter.heads[panel];
            head.start[lane] = -128 * sum;
            head.bias[lane] = panels.bias(r);
            filter.norm = filter.norm.max(norm_sq(row).sqrt());
            filter.error = filter.error.max(error.sqrt());
        }
        Some(filter)
    }

    /// Assigns the first vectors and answers how many: all, unless the filter drops too little.
    pub(super) fn assign(
        &self,
        panels: &Panels,
        x: ArrayView2<'_, f32>,
        rounded: &RoundedVectors,
        index: &mut [u32],
    ) -> usize {
        let x = x.as_standard_layout();
        let x = x.as_slice().expect("the layout is standard");
        let width = self.dim.next_multiple_of(QUAD);
        let mut own = RoundedVectors::none();
        let mut scores = vec![0.0; TILE * BLOCK * PANEL];
        let mut pairs = Vec::new();
        // More than these cost more than the filter saves.
        let limit = GROUP * (self.heads.len() * PANEL / 16).max(8);
        let mut done = 0;
        for (x, index) in x.chunks(GROUP * self.dim).zip(index.chunks_mut(GROUP)) {
            let n = index.len();
            let group = if rounded.sizes.is_empty() {
                own.replace(x, self.dim);
                Group::new(&own.bytes, &own.sizes, self)
            } else {
                let bytes = &rounded.bytes[done * width..][..n * width];
                Group::new(bytes, &rounded.sizes[done..][..n], self)
            };
            let mut best = [f32::NEG_INFINITY; GROUP];
            pairs.clear();
            for first in (0..self.heads.len()).step_by(BLOCK) {
                self.collect(first, &group, n, &mut scores, &mut best, &mut pairs);
                if pairs.len() > limit {
                    return done;
                }
            }
            self.decide(x, &group, &best, &mut pairs, index);
            for (i, x) in x.chunks_exact(self.dim).enumerate() {
                if group.slack[i] == f32::INFINITY {
                    let x = ArrayView2::from_shape((1, self.dim), x).expect("one vector");
                    panels.nearest(x, &mut index[i..=i], &mut [0.0]);
                }
            }
            done += n;
        }
        done
    }

    /// Steps 2 and 3 for one group. Pairs of a vector come in the order of their rows.
    fn decide(
        &self,
        x: &[f32],
        group: &Group<'_>,
        best: &[f32; GROUP],
        pairs: &mut Vec<Pair>,
        index: &mut [u32],
    ) {
        let floor: [f32; GROUP] = std::array::from_fn(|i| best[i] - group.slack[i]);
        let mut left = [0_u32; GROUP];
        let mut champions = [Pair { vector: 0, row: 0, score: f32::NEG_INFINITY }; GROUP];
        pairs.retain(|pair| {
            let i = pair.vector as usize;
            let stays = pair.score >= floor[i];
            left[i] += u32::from(stays);
            if pair.score > champions[i].score {
                champions[i] = *pair;
            }
            stays
        });
        for (index, champion) in index.iter_mut().zip(&champions) {
            *index = champion.row;
        }
        // The f32 score of the best rounded one leaves the others an error of E instead of 2E.
        let mut open: Vec<Pair> =
            champions.into_iter().filter(|pair| left[pair.vector as usize] > 1).collect();
        if open.is_empty() {
            return;
        }
        self.rescore(x, &mut open);
        let mut floor = [f32::INFINITY; GROUP];
        for pair in &open {
            let i = pair.vector as usize;
            floor[i] = pair.score - 0.5001 * group.slack[i] - group.rounding[i];
        }
        left = [0; GROUP];
        pairs.retain(|pair| {
            let i = pair.vector as usize;
            let stays = pair.score >= floor[i];
            left[i] += u32::from(stays);
            stays
        });
        pairs.retain(|pair| left[pair.vector as usize] > 1);
        if pairs.is_empty() {
            return;
        }
        self.rescore(x, pairs);
        let mut best = [f32::NEG_INFINITY; GROUP];
        for pair in &*pairs {
            let best = &mut best[pair.vector as usize];
            *best = best.max(pair.score);
        }
        left = [0; GROUP];
        pairs.retain(|pair| {
            let i = pair.vector as usize;
            let stays = pair.score >= best[i] - group.rounding[i];
            left[i] += u32::from(stays);
            stays
        });
        let mut best = [f32::NEG_INFINITY; GROUP];
        for pair in &*pairs {
            let i = pair.vector as usize;
            let score = if left[i] == 1 { pair.score } else { self.by_definition(x, *pair) };
            if score > best[i] {
                best[i] = score;
                index[i] = pair.row;
            }
        }
    }

    fn of<'a>(&'a self, x: &'a [f32], pair: Pair) -> (&'a [f32], &'a [f32], f32) {
        let (vector, row) = (pair.vector as usize, pair.row as usize);
        let bias = self.heads[row / PANEL].bias[row % PANEL];
        (&x[vector * self.dim..][..self.dim], &self.rows[row * self.dim..][..self.dim], bias)
    }

    fn by_definition(&self, x: &[f32], pair: Pair) -> f32 {
        let (x, row, bias) = self.of(x, pair);
        Path::fastest().run(
            #[inline(always)]
            || x.iter().zip(row).fold(bias, |score, (x, r)| x.mul_add(*r, score)),
        )
    }

    /// Adds to `pairs` the rows of a block of panels that may be nearest to the first `count` vectors,
    /// and to `best` the largest rounded scores.
    fn collect(
        &self,
        first: usize,
        group: &Group<'_>,
        count: usize,
        scores: &mut [f32],
        best: &mut [f32; GROUP],
        pairs: &mut Vec<Pair>,
    ) {
        let panels = BLOCK.min(self.heads.len() - first);
        let quads = self.dim.div_ceil(QUAD);
        let block = Block {
            heads: &self.heads[first..][..panels],
            bytes: &self.bytes[first * quads..][..panels * quads],
            first: (first * PANEL) as u32,
        };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a filter exists only where `available` detected the features.
        unsafe {
            vnni::collect(&block, group, count, scores, best, pairs);
        }
        #[cfg(not(target_arch = "x86_64"))]
        collect(&block, group, count, scores, best, pairs);
    }

    /// f32 scores, summed in any order.
    fn rescore(&self, x: &[f32], pairs: &mut [Pair]) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a filter exists only where `available` detected AVX-512F.
        unsafe {
            vnni::rescore(self, x, pairs);
        }
        #[cfg(not(target_arch = "x86_64"))]
        rescore(self, x, pairs);
    }
}

/// Consecutive panels.
struct Block<'a> {
    heads: &'a [Head],
    bytes: &'a [Quad],
    /// The first row.
    first: u32,
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn rescore(filter: &Bytes, x: &[f32], pairs: &mut [Pair]) {
    for pair in pairs {
        let (x, row, bias) = filter.of(x, *pair);
        let mut sums = [0.0_f32; 16];
        let ((x, x_rest), (row, row_rest)) = (x.as_chunks::<16>(), row.as_chunks::<16>());
        for (x, row) in x.iter().zip(row) {
            for ((sum, x), r) in sums.iter_mut().zip(x).zip(row) {
                *sum = x.mul_add(*r, *sum);
            }
        }
        let rest = x_rest.iter().zip(row_rest).fold(bias, |sum, (x, r)| x.mul_add(*r, sum));
        let [a, b, c, d] =
            [0, 4, 8, 12].map(|i| sums[i] + sums[i + 1] + (sums[i + 2] + sums[i + 3]));
        pair.score = (a + b) + (c + d) + rest;
    }
}

/// The reference of [`vnni::collect`], and what machines without those instructions would run.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn collect(
    block: &Block<'_>,
    group: &Group<'_>,
    count: usize,
    scores: &mut [f32],
    best: &mut [f32; GROUP],
    pairs: &mut Vec<Pair>,
) {
    let quads = block.bytes.len() / block.heads.len();
    let rows = block.heads.len() * PANEL;
    for (i, x) in group.bytes.chunks_exact(quads * QUAD).take(count).enumerate() {
        if group.slack[i] == f32::INFINITY {
            continue;
        }
        let scores = &mut scores[..rows];
        for (r, score) in scores.iter_mut().enumerate() {
            let (panel, lane) = (r / PANEL, r % PANEL);
            let row = &block.bytes[panel * quads..][..quads];
            let sum = (0..quads * QUAD).fold(block.heads[panel].start[lane], |sum, k| {
                sum + i32::from(x[k]) * i32::from(row[k / QUAD].0[lane * QUAD + k % QUAD])
            });
            *score = (sum as f32).mul_add(group.scale[i], block.heads[panel].bias[lane]);
        }
        best[i] = scores.iter().fold(best[i], |best, score| best.max(*score));
        for (r, &score) in scores.iter().enumerate() {
            if score >= best[i] - group.slack[i] {
                pairs.push(Pair { vector: i as u32, row: block.first + r as u32, score });
            }
        }
    }
}

impl<'a> Group<'a> {
    /// Bounds the errors of the scores of rounded vectors.
    fn new(bytes: &'a [u8], sizes: &[Size], filter: &Bytes) -> Self {
        let mut group =
            Self { bytes, scale: [0.0; GROUP], slack: [0.0; GROUP], rounding: [0.0; GROUP] };
        for (i, size) in sizes.iter().enumerate() {
            // The sums of squares err by at most d·2⁻²⁴ < 0.4 %; differences by 2⁻²³ of a value.
            let norm = 1.005 * f64::from(size.norm_sq).sqrt();
            let error = 1.005 * f64::from(size.error_sq).sqrt() + 2f64.powi(-22) * norm;
            // What f32 rounds in a score summed in any order, and in a rounded one (Higham 2002, §3.1).
            let sizes = norm * filter.norm + filter.norm * filter.norm;
            let rounding = (filter.dim + 16) as f64 * 2f64.powi(-23) * sizes;
            let bound = 1.005 * (error * filter.norm + (norm + error) * filter.error) + rounding;
            let fits = FIT.contains(&size.largest) && bound.is_finite();
            group.scale[i] = size.scale * filter.scale;
            group.slack[i] = if fits { (2.001 * bound) as f32 } else { f32::INFINITY };
            group.rounding[i] = (2.001 * rounding) as f32;
        }
        group
    }
}

/// Rounds `x` (d) into `bytes` (d).
fn round(x: &[f32], bytes: &mut [u8]) -> Size {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: called only where `available` detected AVX-512.
    return unsafe { vnni::round(x, bytes) };
    #[cfg(not(target_arch = "x86_64"))]
    round_portable(x, bytes)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn round_portable(x: &[f32], bytes: &mut [u8]) -> Size {
    /// The low byte of 1.5·2²³ + q is q in two's complement, rounded to nearest even.
    const ROUND: f32 = 12_582_912.0;
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for x in chunks {
        for (largest, x) in lanes.iter_mut().zip(x) {
            let x = x.abs();
            // A NaN stays: it makes the vector unfit.
            *largest = if x <= *largest { *largest } else { x };
        }
    }
    let largest = lanes.iter().chain(rest).fold(0.0_f32, |largest, x| {
        let x = x.abs();
        if x <= largest { largest } else { x }
    });
    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
    let (mut norms, mut errors) = ([0.0_f32; 16], [0.0_f32; 16]);
    let (out, out_rest) = bytes.as_chunks_mut::<16>();
    let mut tail = [0.0; 16];
    tail[..rest.len()].copy_from_slice(rest);
    let mut tail_bytes = [0; 16];
    let all = chunks.iter().zip(out).chain([(&tail, &mut tail_bytes)]);
    for (x, out) in all {
        for l in 0..16 {
            let shifted = x[l] * inverse + ROUND;
            out[l] = (shifted.to_bits() as u8).wrapping_add(128);
            let error = (shifted - ROUND).mul_add(-scale, x[l]);
            norms[l] = x[l].mul_add(x[l], norms[l]);
            errors[l] = error.mul_add(error, errors[l]);
        }
    }
    out_rest.copy_from_slice(&tail_bytes[..rest.len()]);
    let sum = |lanes: [f32; 16]| lanes.iter().sum();
    Size { largest, scale, norm_sq: sum(norms), error_sq: sum(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::tests::noise;
    use crate::words::available;
    use ndarray::Array2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_collects_the_same_rows(
            count in 1_usize..=GROUP,
            rows in 1_usize..600,
            dim in 1_usize..70,
            kinds in (0_usize..3, 0_usize..3),
            seed in any::<u32>(),
        ) {
            let rows = noise(rows, dim, seed, kinds.0);
            let x = noise(count, dim, seed ^ 1, kinds.1);
            let panels = Panels::for_l2(rows.view());
            let (true, Some(filter)) = (available(), Bytes::new(rows.view(), &panels)) else {
                return Ok(());
            };
            let mut rounded = RoundedVectors::none();
            rounded.replace(x.as_slice().unwrap(), dim);
            let group = Group::new(&rounded.bytes, &rounded.sizes, &filter);
            let quads = dim.div_ceil(QUAD);
            let mut scores = vec![0.0; TILE * BLOCK * PANEL];
            let (mut a, mut b) = ([f32::NEG_INFINITY; GROUP], [f32::NEG_INFINITY; GROUP]);
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            for first in (0..filter.heads.len()).step_by(BLOCK) {
                let panels = BLOCK.min(filter.heads.len() - first);
                let block = Block {
                    heads: &filter.heads[first..][..panels],
                    bytes: &filter.bytes[first * quads..][..panels * quads],
                    first: (first * PANEL) as u32,
                };
                collect(&block, &group, count, &mut scores, &mut a, &mut expected);
                filter.collect(first, &group, count, &mut scores, &mut b, &mut found);
            }
            let bits = |pairs: &mut Vec<Pair>| -> Vec<(u32, u32, u32)> {
                pairs.sort_by_key(|pair| (pair.vector, pair.row));
                pairs.iter().map(|p| (p.vector, p.row, p.score.to_bits())).collect()
            };
            prop_assert_eq!(bits(&mut found), bits(&mut expected));
            prop_assert_eq!(a, b);
        }

        #[test]
        fn every_path_rounds_and_scores_alike(dim in 1_usize..100, kind in 0_usize..5, seed in any::<u32>()) {
            let x = noise(1, dim, seed, kind);
            let x = x.as_slice().unwrap();
            let (mut a, mut b) = (vec![0; dim], vec![0; dim]);
            let (found, expected) = (round(x, &mut a), round_portable(x, &mut b));
            prop_assert_eq!(found.largest, expected.largest);
            let close = |a: f32, b: f32| a == b || (a / b - 1.0).abs() < 1e-4;
            if FIT.contains(&found.largest) {
                prop_assert_eq!(a, b);
                prop_assert!(close(found.norm_sq, expected.norm_sq));
                // A rounding error may itself be a rounding error.
                let least = found.norm_sq * 1e-10;
                prop_assert!(close(found.error_sq + least, expected.error_sq + least));
            }
            let rows = noise(50, dim, seed ^ 1, 1);
            let panels = Panels::for_l2(rows.view());
            let (true, Some(filter)) = (available(), Bytes::new(rows.view(), &panels)) else {
                return Ok(());
            };
            let pair = |row| Pair { vector: 0, row, score: 0.0 };
            let mut found: Vec<Pair> = (0..50).map(pair).collect();
            let mut expected = found.clone();
            filter.rescore(x, &mut found);
            rescore(&filter, x, &mut expected);
            let norm = norm_sq(x).sqrt() * filter.norm + filter.norm.powi(2);
            for (found, expected) in found.iter().zip(&expected) {
                let error = (f64::from(found.score) - f64::from(expected.score)).abs();
                prop_assert!(error <= (dim + 16) as f64 * 2f64.powi(-23) * norm);
            }
        }

        #[test]
        fn the_bound_holds(rows in 1_usize..40, dim in 1_usize..200, kinds in (0_usize..3, 0_usize..3), seed in any::<u32>()) {
            let rows = noise(rows, dim, seed, kinds.0);
            let x = noise(GROUP, dim, seed ^ 1, kinds.1);
            let panels = Panels::for_l2(rows.view());
            let (true, Some(filter)) = (available(), Bytes::new(rows.view(), &panels)) else {
                return Ok(());
            };
            let mut rounded = RoundedVectors::none();
            rounded.replace(x.as_slice().unwrap(), dim);
            let group = Group::new(&rounded.bytes, &rounded.sizes, &filter);
            let mut exact = Array2::zeros((GROUP, rows.nrows()));
            panels.scores(x.view(), exact.view_mut());
            for i in (0..GROUP).filter(|i| group.slack[*i] != f32::INFINITY) {
                for r in 0..rows.nrows() {
                    let q = &group.bytes[i * dim.next_multiple_of(QUAD)..];
                    let sum: f64 = (0..dim).map(|k| {
                        let byte = filter.bytes[r / PANEL * dim.div_ceil(QUAD) + k / QUAD].0;
                        (f64::from(q[k]) - 128.0) * f64::from(byte[r % PANEL * QUAD + k % QUAD])
                    }).sum();
                    let score = sum * f64::from(group.scale[i]) + f64::from(panels.bias(r));
                    let error = (score - f64::from(exact[[i, r]])).abs();
                    prop_assert!(2.0 * error <= f64::from(group.slack[i]), "{} of {}", error, group.slack[i]);
                }
            }
        }
    }
}
