//! Scores in integers of 16 bits, with a bound of what the rounding did to them.
//!
//! Rows b and vectors x, in units of a step s, are rounded to 16 bits: b = b̂ + β, x = x̂ + ξ. With
//! r = ‖x − b‖, the score S(b) = x·b − ‖b‖²/2 = (‖x‖² − r²)/2 is
//!
//! S(b) = x̂·b̂ + (b·β − ‖b‖²/2) + ξ·x̂ + [ξ·(b̂ − x̂) − (b − x)·β].
//!
//! The first product is one of integers and exact. The parenthesis depends on the row alone; rounded to
//! an integer it is the row's bias, and with the product the integer score I(b). ξ·x̂ is the same for
//! all rows. The bracket is the error, at most r·(‖ξ‖ + ‖β‖) + ‖ξ‖·(‖ξ‖ + ‖β‖): proportional to the
//! distance of the row, not to the norms. For inner products ‖b‖²/2 is left out on both sides.
//!
//! Where rows have mates, every number of b̂ is even, and the lowest bit of a bias, so of a score, tells mates apart.
//!
//! It needs AVX-512 VNNI, which multiplies twice as many of these as of f32 at a time; products of 8 bits go to AMX
//! where there is one. Used for [the nearest row](crate::nearest) and to scan many rows for the best of them.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_mut,
        unused_variables,
        reason = "rows are packed only where integers are fast"
    )
)]

#[cfg(target_arch = "x86_64")]
mod amx;
mod bytes;
#[cfg(target_arch = "x86_64")]
mod fours;
mod mates;
mod rotation;
#[cfg(target_arch = "x86_64")]
mod turned;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

use bytes::Bytes;
use mates::Mates;
use ndarray::{ArrayView2, Axis};
pub use rotation::Int16Rotation;
#[cfg(target_arch = "x86_64")]
pub(crate) use vnni::add_products;

#[cfg(doc)]
use crate::Panels;
use crate::centre::Centre;
use crate::distance::norm_sq;
use crate::panels::contiguous_rows;
use crate::{Path, TopK};

/// ‖x/s‖·‖b/s‖ + ‖b/s‖²/2, at most: what rounding adds is left below 2³¹.
const MOST: f64 = 2.105e9;

/// ‖b/s‖ of the largest row, at most, where vectors may be twice as long and longer.
const LARGEST: f64 = 29_000.0;

/// ‖b/s‖ of the largest row, at most, where no vector is longer than [`WORD`].
const LARGEST_WITHIN: f64 = 32_760.0;

/// ‖x/s‖ beyond which nothing is promised.
const REACH: f64 = 58_000.0;

/// |x/s| beyond which a dimension is cut off.
const WORD: f64 = 32_767.0;

/// Norms whose scores are numbers that f32 has.
const FIT: std::ops::RangeInclusive<f64> = 1e-12..=1e15;

/// Most dimensions for which the bounds below hold.
const MOST_DIM: usize = 4096;

/// Rows (rows, d) as integers. Memory: at most 2·d + 10 bytes each.
#[derive(Clone, Debug, Default)]
pub struct Int16Panels {
    /// Per row its bias, then its dimensions in pairs, the first in the low half.
    rows: Vec<i32>,
    dim: usize,
    /// ‖b‖²/2 is a part of the scores.
    l2: bool,
    /// max ‖b‖, not in units of s.
    norm: f64,
    /// 1/s; 0 where nothing may be asked.
    inverse: f32,
    /// max ‖b‖.
    largest: f32,
    /// ‖x‖ beyond which nothing is promised.
    reach: f32,
    /// max ‖β‖.
    error: f32,
    /// The rows once more, where they were asked for.
    bytes: Option<Bytes>,
    /// Where the rows are in another order.
    mates: Option<Mates>,
}

/// Vectors per [`Tile`].
pub(crate) const TILE: usize = 64;

/// Vectors in integers, dimension by dimension, so that one row meets all of them at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tile {
    /// Two dimensions of every vector, the first in the low half.
    pairs: Vec<Lanes<i32>>,
    norms_sq: Lanes<f32>,
    /// ‖ξ‖².
    errors_sq: Lanes<f32>,
    /// 1/s.
    inverse: f32,
}

/// A number of each vector of a tile.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Lanes<T>([T; TILE]);

impl<T: Copy + Default> Default for Lanes<T> {
    fn default() -> Self {
        Self([T::default(); TILE])
    }
}

/// The rows of [`Int16Panels`] once more, to be asked which of them lie around one of them.
#[derive(Clone, Debug)]
pub(crate) struct RowDistances {
    tiles: Vec<Tile>,
    /// ‖b‖² less all that may be wrong with a distance.
    least: Vec<Lanes<f32>>,
    rows: usize,
}

/// Rows that lie around one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Near {
    /// A bit for each.
    marks: Vec<u64>,
    list: Vec<u32>,
}

/// The largest norm of the vectors that rows are packed for: beyond it nothing is promised.
#[derive(Clone, Copy, Debug)]
pub enum MaxNorm {
    /// This.
    Of(f64),
    /// About so many times that of the largest row, at least 2.
    TimesLargestRow(f64),
}

/// A bound of |estimate − score| that grows with the distance of the row from the vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreError {
    /// Per unit of distance.
    pub per_distance: f64,
    /// At distance 0.
    pub constant: f64,
}

impl ScoreError {
    /// The bound for a row at `distance`.
    #[must_use]
    pub fn at(self, distance: f64) -> f64 {
        self.per_distance * distance + self.constant
    }

    /// What bounds both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            per_distance: self.per_distance.max(other.per_distance),
            constant: self.constant.max(other.constant),
        }
    }
}

impl Int16Panels {
    /// Replaces the rows, to be scored by `x·b − ‖b‖²/2` with vectors within `reach`; allocates only
    /// to grow.
    ///
    /// False where this machine has no fast integers, or the rows are huge, tiny or not finite:
    /// nothing may be asked then.
    pub fn pack_l2(&mut self, rows: ArrayView2<'_, f32>, reach: MaxNorm) -> bool {
        self.pack(rows, reach, 0.5)
    }

    /// As [`pack_l2`](Self::pack_l2), for [`decide`](Self::decide) alone, in an order that makes it faster. Columns are
    /// contiguous.
    pub(crate) fn pack_to_decide(&mut self, rows: ArrayView2<'_, f32>, reach: MaxNorm) -> bool {
        let packed = self.pack_l2(rows, reach);
        if packed && let Some(order) = mates::far_apart(rows) {
            self.order(rows, &order);
        }
        packed
    }

    /// Has the `rows` that were packed in an `order` of twos.
    fn order(&mut self, rows: ArrayView2<'_, f32>, order: &[usize]) {
        self.mates = Some(Mates::new(rows, order, self.inverse));
        let ordered = rows.select(Axis(0), order);
        self.pack_rows(ordered.view(), &norms_sq(ordered.view()), 0.5);
    }

    /// As [`pack_to_decide`](Self::pack_to_decide), in twos as they come.
    #[cfg(test)]
    pub(crate) fn pack_in_twos(&mut self, rows: ArrayView2<'_, f32>, reach: MaxNorm) -> bool {
        let packed = self.pack_l2(rows, reach);
        if packed {
            self.order(rows, &(0..rows.nrows()).collect::<Vec<_>>());
        }
        packed
    }

    /// As [`pack_l2`](Self::pack_l2), to be scored by `x·b`.
    pub fn pack_ip(&mut self, rows: ArrayView2<'_, f32>, reach: MaxNorm) -> bool {
        self.pack(rows, reach, 0.0)
    }

    fn pack(&mut self, rows: ArrayView2<'_, f32>, reach: MaxNorm, of_norm_sq: f64) -> bool {
        let dim = rows.ncols();
        self.inverse = 0.0;
        self.bytes = None;
        self.mates = None;
        if !available() || dim > MOST_DIM {
            return false;
        }
        let rows = contiguous_rows(rows);
        let rows = rows.view();
        self.dim = dim;
        let norms_sq = norms_sq(rows);
        self.norm = norms_sq.iter().copied().fold(0.0_f64, f64::max).sqrt();
        let finite = norms_sq.iter().all(|norm_sq| norm_sq.is_finite());
        let inverse = match reach {
            MaxNorm::Of(reach) => (WORD / reach).min(LARGEST_WITHIN / self.norm),
            MaxNorm::TimesLargestRow(times) => (REACH / times).min(LARGEST) / self.norm,
        } as f32;
        if !finite || !FIT.contains(&self.norm) || !inverse.is_normal() {
            return false;
        }
        self.inverse = inverse;
        self.l2 = of_norm_sq > 0.0;
        let largest = 1.001 * self.norm * f64::from(inverse);
        self.largest = largest as f32;
        self.reach = REACH.min((MOST - largest * largest / 2.0) / largest) as f32;
        self.pack_rows(rows, &norms_sq, of_norm_sq);
        true
    }

    /// Rounds the rows, in the step that was found.
    fn pack_rows(&mut self, rows: ArrayView2<'_, f32>, norms_sq: &[f64], of_norm_sq: f64) {
        let square = f64::from(self.inverse).powi(2);
        // The lowest bit of a score tells mates apart, where there are any: all else in it is even then.
        let mates = self.mates.is_some();
        let step = if mates { 2 } else { 1 };
        let inverse = self.inverse / step as f32;
        let mut error_sq = 0.0_f32;
        self.rows.clear();
        Path::fastest().run(
            #[inline(always)]
            || {
                for (place, (row, norm_sq)) in rows.outer_iter().zip(norms_sq).enumerate() {
                    let row = row.to_slice().expect("columns are contiguous");
                    let bias = self.rows.len();
                    self.rows.push(0);
                    let (row_error_sq, cross) = round_row(row, inverse, &mut self.rows);
                    let of_bias =
                        f64::from(cross) * f64::from(step * step) - of_norm_sq * norm_sq * square;
                    let parity = if mates { place as i32 % 2 } else { 0 };
                    self.rows[bias] =
                        ((of_bias - f64::from(parity)) / f64::from(step)).round() as i32 * step
                            + parity;
                    error_sq = error_sq.max(row_error_sq * (step * step) as f32);
                }
            },
        );
        if mates {
            let width = 1 + self.dim.div_ceil(2);
            for row in self.rows.chunks_exact_mut(width) {
                for pair in &mut row[1..] {
                    let (low, high) = (*pair as i16, (*pair >> 16) as i16);
                    *pair = i32::from(low * 2) & 0xFFFF | i32::from(high * 2) << 16;
                }
            }
        }
        // With what f32 rounds in b/s.
        self.error = 1.005 * error_sq.sqrt() + 2.0_f32.powi(-22) * self.largest;
    }

    /// Lets [`offer`](Self::offer) ask the rows that were packed in integers of 8 bits first, which takes half
    /// as long and leaves most rows out. Memory: d + 4 bytes for each row. Once more after each packing.
    pub fn add_bytes(&mut self) {
        if self.inverse > 0.0 {
            self.bytes = Bytes::new(self);
        }
    }

    /// A bound of the error of the estimates that [`offer`](Self::offer) makes for any vector of at most
    /// this `norm`. Infinite beyond what was packed for.
    #[must_use]
    pub fn error(&self, norm: f64) -> ScoreError {
        let (s, norm) = (1.0 / f64::from(self.inverse), norm * f64::from(self.inverse));
        // A dimension is rounded by at most 1/2, and by what f32 rounds in x/s.
        let xi = 0.5005 * (self.dim as f64).sqrt() + 2f64.powi(-22) * norm;
        let (both, largest) = (xi + f64::from(self.error), f64::from(self.largest));
        // ξ·x̂ is left out of the scores; the last term is what an estimate loses as f32.
        let constant = xi * (norm + xi)
            + xi * both
            + f64::from(self.bias_error())
            + 2f64.powi(-23) * (norm + largest) * largest;
        let fits = self.inverse > 0.0 && norm <= WORD.min(f64::from(self.reach));
        let constant = if fits { s * s * constant } else { f64::INFINITY };
        ScoreError { per_distance: s * both, constant }
    }

    /// How far a bias may be off, in units of s².
    fn bias_error(&self) -> f32 {
        let rounded = if self.mates.is_some() { 1.0 } else { 0.5 };
        rounded + (self.dim / 16 + 16) as f32 * 2.0_f32.powi(-24) * self.largest * self.error
    }

    /// Offers to `tops[i]` the estimated score of every row of `runs` that may be among its best, for each
    /// vector of `x` (n, d), none beyond the reach that was packed for. Row j is offered as `first_id + j`.
    ///
    /// `errors[i]` is raised to bound the error of these estimates. The ids and estimates kept are those
    /// of offering every row of `runs`. `by_bytes` asks 8 bits first, if [`add_bytes`](Self::add_bytes) made them, which
    /// saves half of the time where most rows are far from all vectors. Single-threaded, O(n·rows·d).
    ///
    /// # Panics
    /// When the shapes disagree, rows were not packed, a run has others, or an id does not fit a `u32`.
    pub fn offer(
        &self,
        x: ArrayView2<'_, f32>,
        first_id: u32,
        runs: &[Range<usize>],
        by_bytes: bool,
        tops: &mut [TopK],
        errors: &mut [ScoreError],
    ) {
        assert!(self.inverse > 0.0 && available(), "rows were packed");
        assert!(self.mates.is_none(), "in their order");
        assert_eq!(x.ncols(), self.dim, "dimension of the vectors");
        assert_eq!((tops.len(), errors.len()), (x.nrows(), x.nrows()), "one of each per vector");
        let rows = self.rows.len() / (1 + self.dim.div_ceil(2));
        assert!(rows as u64 <= (1 << 32) - u64::from(first_id), "ids beyond the last u32");
        assert!(runs.iter().all(|run| run.end <= rows), "rows that there are");
        if runs.is_empty() {
            return;
        }
        let x = contiguous_rows(x);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` detected the features.
        unsafe {
            vnni::offer(self, x.view(), first_id, runs, by_bytes, tops, errors);
        }
    }

    /// Writes the index of the row of least ‖x − b‖² for every vector of `x` (n, d), once centred, and
    /// appends to `open` those for which it may not be what [`Panels::nearest`] finds. Rows were packed
    /// for L2. Columns of `x` are contiguous.
    pub(crate) fn decide(
        &self,
        centre: &Centre,
        x: ArrayView2<'_, f32>,
        index: &mut [u32],
        open: &mut Vec<u32>,
    ) {
        assert!(self.inverse > 0.0 && available(), "rows were packed");
        assert_eq!((x.ncols(), x.nrows()), (self.dim, index.len()), "shape of the vectors");
        assert!(x.ncols() <= 1 || x.strides()[1] == 1, "columns are contiguous");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` detected the features.
        unsafe {
            vnni::decide(self, centre, x, index, open);
        }
    }
}

/// What k-means asks: vectors rounded once, rows packed again and again in the same step.
impl Int16Panels {
    /// Whether the vectors of `tile` were rounded in the step of these rows.
    pub(crate) fn has_step_of(&self, tile: &Tile) -> bool {
        tile.inverse == self.inverse && tile.pairs.len() == self.dim.div_ceil(2)
    }

    /// Rounds the vectors `x` (1..=64, d) of any strides; the last is repeated where there are fewer.
    pub(crate) fn round(&self, x: ArrayView2<'_, f32>, tile: &mut Tile) {
        assert!(self.inverse > 0.0 && available(), "rows were packed");
        assert_eq!(x.ncols(), self.dim, "dimension of the vectors");
        assert!((1..=TILE).contains(&x.nrows()), "vectors of a tile");
        let x = contiguous_rows(x);
        tile.inverse = self.inverse;
        tile.pairs.resize(self.dim.div_ceil(2), Lanes::default());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` detected the features.
        unsafe {
            vnni::round_tile(self, x.view(), tile);
        }
    }

    /// As [`decide`](Self::decide) for the vectors of a tile, among the rows of `list`, ascending, or all.
    /// Answers a bit for each vector that is open.
    pub(crate) fn decide_tile(
        &self,
        tile: &Tile,
        list: Option<&[u32]>,
        index: &mut [u32; TILE],
    ) -> u64 {
        assert!(self.inverse > 0.0 && available(), "rows were packed");
        assert!(self.has_step_of(tile) && self.mates.is_none(), "the same step, in their order");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` detected the features.
        return unsafe { vnni::decide_tile(self, tile, list, index) };
        #[cfg(not(target_arch = "x86_64"))]
        u64::MAX
    }
}

impl RowDistances {
    /// `rows` (rows, d) are those that were packed.
    pub(crate) fn new(int16: &Int16Panels, rows: ArrayView2<'_, f32>) -> Self {
        assert!(int16.mates.is_none(), "in their order");
        let tiles = rows.axis_chunks_iter(Axis(0), TILE).map(|rows| {
            let mut tile = Tile::default();
            int16.round(rows, &mut tile);
            tile
        });
        let tiles: Vec<Tile> = tiles.collect();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `round` asked whether the features are there.
        let least = tiles.iter().map(|tile| unsafe { vnni::least_without_score(int16, tile) });
        #[cfg(not(target_arch = "x86_64"))]
        let least = std::iter::empty();
        Self { least: least.collect(), tiles, rows: rows.nrows() }
    }

    /// Replaces `near` by rows of which one is what [`Panels::nearest`] finds for each of the vectors: those
    /// at most twice as far from `former[i]` as vector i is, whichever row that is.
    pub(crate) fn list(
        &self,
        int16: &Int16Panels,
        tile: &Tile,
        former: &[u32; TILE],
        near: &mut Near,
    ) {
        assert!(int16.inverse > 0.0 && available(), "rows were packed");
        assert!(int16.has_step_of(tile), "the same step");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `available` detected the features.
        unsafe {
            vnni::list(int16, self, tile, former, near);
        }
    }
}

impl Near {
    /// The rows, ascending.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.list
    }
}

/// Appends `row` (d) in units of s as pairs of 16-bit integers; answers ‖β‖² and b·β, up to what f32 rounds.
#[inline(always)]
pub(crate) fn round_row(row: &[f32], inverse: f32, pairs: &mut Vec<i32>) -> (f32, f32) {
    /// The low half of 1.5·2²³ + q is q in two's complement, rounded to nearest even.
    const ROUND: f32 = 12_582_912.0;
    let (mut errors, mut crosses) = ([0.0_f32; 16], [0.0_f32; 16]);
    let mut chunk = |row: &[f32; 16], pairs: &mut [i32; 8]| {
        let mut words = [0_u32; 16];
        for l in 0..16 {
            let scaled = row[l] * inverse;
            let shifted = scaled + ROUND;
            let beta = scaled - (shifted - ROUND);
            errors[l] += beta * beta;
            crosses[l] += scaled * beta;
            words[l] = shifted.to_bits();
        }
        for (pair, word) in pairs.iter_mut().zip(words.as_chunks::<2>().0) {
            *pair = (word[0] & 0xFFFF | word[1] << 16) as i32;
        }
    };
    let mut eight = [0; 8];
    let (chunks, rest) = row.as_chunks();
    for row in chunks {
        chunk(row, &mut eight);
        pairs.extend_from_slice(&eight);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        chunk(&padded, &mut eight);
        pairs.extend_from_slice(&eight[..rest.len().div_ceil(2)]);
    }
    (errors.iter().sum(), crosses.iter().sum())
}

/// ‖b‖² of `rows`, whose columns are contiguous.
fn norms_sq(rows: ArrayView2<'_, f32>) -> Vec<f64> {
    (0..rows.nrows()).map(|i| norm_sq(row_of(rows, i))).collect()
}

/// Row `i` of `rows`, whose columns are contiguous.
fn row_of<'a>(rows: ArrayView2<'a, f32>, i: usize) -> &'a [f32] {
    rows.index_axis_move(Axis(0), i).to_slice().expect("columns are contiguous")
}

/// Whether this machine multiplies small integers faster than f32.
pub(crate) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::tests::noise;
    use ndarray::Array2;
    use proptest::prelude::*;
    use std::slice::{from_mut, from_ref};

    fn packed(rows: &Array2<f32>, l2: bool, reach: MaxNorm) -> Option<Int16Panels> {
        let mut int16 = Int16Panels::default();
        let fits =
            if l2 { int16.pack_l2(rows.view(), reach) } else { int16.pack_ip(rows.view(), reach) };
        // A test that passes without having tested must not look like one that has.
        if !available() {
            println!("skipped: this CPU has no AVX-512 VNNI");
        }
        fits.then_some(int16)
    }

    #[test]
    #[should_panic(expected = "rows were packed")]
    fn rows_that_did_not_fit_are_not_asked() {
        let mut int16 = Int16Panels::default();
        int16.pack_l2(noise(9, 3, 1, 1).view(), MaxNorm::TimesLargestRow(2.0));
        assert!(
            !int16
                .pack_l2(Array2::from_elem((9, 3), f32::NAN).view(), MaxNorm::TimesLargestRow(2.0))
        );
        let (mut top, mut error) = (TopK::new(1), ScoreError::default());
        let x = noise(1, 3, 1, 1);
        int16.offer(x.view(), 0, from_ref(&(0..9)), true, from_mut(&mut top), from_mut(&mut error));
    }

    #[test]
    fn nearly_every_vector_is_decided() {
        for dim in [1, 2, 4, 7, 16, 48, 111] {
            let (rows, x) = (noise(256, dim, 1, 1), noise(4096, dim, 2, 1));
            let Some(int16) = packed(&rows, true, MaxNorm::TimesLargestRow(2.0)) else {
                return;
            };
            let (mut index, mut open) = (vec![0; 4096], Vec::new());
            int16.decide(&Centre::none(dim), x.view(), &mut index, &mut open);
            // One dimension of 256 rows is all neighbours.
            let most = if dim == 1 { 4096 / 7 } else { 4096 / 30 };
            assert!(open.len() <= most, "d = {dim}: {}", open.len());
        }
    }

    proptest! {
        #[test]
        fn bytes_leave_out_only_what_is_below(
            (n, rows, dim) in (1_usize..70, 1_usize..600, 1_usize..140),
            kinds in (0_usize..3, 0_usize..3),
            times in -6_i32..6,
            apart in prop_oneof![Just(0.0_f32), Just(1.0), Just(50.0)],
            l2 in any::<bool>(),
            gap in 0_usize..200,
            seed in any::<u32>(),
        ) {
            let rows = noise(rows, dim, seed, kinds.0) + apart;
            let x = noise(n, dim, seed ^ 1, kinds.1) * (times as f32).exp2() + apart;
            let norms = x.outer_iter().map(|x| norm_sq(x.as_slice().unwrap()).sqrt());
            let Some(mut int16) = packed(&rows, l2, MaxNorm::Of(norms.fold(0.0, f64::max))) else {
                return Ok(());
            };
            // Runs that end anywhere, touch, and leave rows out between them.
            let (third, half) = (rows.nrows() / 3, rows.nrows() / 2);
            let runs = [0..third, third..half, (half + gap).min(rows.nrows())..rows.nrows()];
            let offer = |int16: &Int16Panels, by_bytes: bool, tops: &mut [TopK]| {
                int16.offer(x.view(), 0, &runs, by_bytes, tops, &mut vec![ScoreError::default(); n]);
            };
            let mut all = vec![TopK::new(rows.nrows()); n];
            offer(&int16, true, &mut all);
            let all: Vec<_> = all.into_iter().map(TopK::into_sorted).collect();
            let asked: Vec<usize> = runs.iter().flat_map(Clone::clone).collect();
            for all in &all {
                let ids: std::collections::BTreeSet<_> = all.iter().map(|(_, id)| *id as usize).collect();
                prop_assert!(ids.into_iter().eq(asked.iter().copied()));
            }
            // From the best alone to all but a few.
            for share in [0.0, 0.02, 0.3, 0.9].into_iter().filter(|_| !asked.is_empty()) {
                let place = (share * asked.len() as f64) as usize;
                let floors: Vec<f32> = all.iter().map(|all| all[place].0).collect();
                int16.add_bytes();
                for by_bytes in [true, false] {
                    let tops = floors.iter().map(|floor| TopK::above(rows.nrows(), *floor));
                    let mut some: Vec<_> = tops.collect();
                    offer(&int16, by_bytes, &mut some);
                    for ((all, some), floor) in all.iter().zip(some).zip(&floors) {
                        let above = all.iter().take_while(|(score, _)| score >= floor);
                        prop_assert_eq!(some.into_sorted(), above.copied().collect::<Vec<_>>());
                    }
                }
            }
        }

        #[test]
        fn estimates_are_as_near_as_promised(
            n in 1_usize..140,
            rows in 1_usize..700,
            dim in 1_usize..90,
            kinds in (0_usize..3, 0_usize..3),
            scales in (-30_i32..30, -4_i32..4),
            l2 in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let scale = (scales.0 as f32).exp2();
            let rows = noise(rows, dim, seed, kinds.0) * scale;
            let x = noise(n, dim, seed ^ 1, kinds.1) * scale * (scales.1 as f32).exp2();
            let norms: Vec<f64> =
                x.outer_iter().map(|x| norm_sq(x.as_slice().unwrap()).sqrt()).collect();
            let reach = norms.iter().copied().fold(0.0, f64::max);
            let Some(int16) = packed(&rows, l2, MaxNorm::Of(reach)) else {
                return Ok(());
            };
            let mut all = vec![TopK::new(rows.nrows()); n];
            let mut errors = vec![ScoreError::default(); n];
            let all_rows = 0..rows.nrows();
            let runs = from_ref(&all_rows);
            int16.offer(x.view(), 7, runs, true, &mut all, &mut errors);
            let mut some = vec![TopK::new(9); n];
            int16.offer(x.view(), 7, runs, true, &mut some, &mut errors.clone());
            for (i, (all, some)) in all.into_iter().zip(some).enumerate() {
                let all = all.into_sorted();
                prop_assert_eq!(all.len(), rows.nrows());
                prop_assert_eq!(&some.into_sorted()[..], &all[..all.len().min(9)]);
                let x = x.row(i);
                let x = x.as_slice().unwrap();
                for (estimate, id) in all {
                    let row = rows.row(id as usize - 7);
                    let row = row.as_slice().unwrap();
                    let norm = if l2 { norm_sq(row) / 2.0 } else { 0.0 };
                    let score = crate::distance::dot(x, row) - norm;
                    let error = (f64::from(estimate) - score).abs();
                    let bound = errors[i].at(crate::distance::l2_sq(x, row).sqrt());
                    prop_assert!(error <= bound, "{} of {}", error, bound);
                    // And the bound is of use.
                    let step = (int16.norm / LARGEST_WITHIN).max(reach / WORD);
                    let usual = step * (dim as f64).sqrt() * (reach + int16.norm);
                    prop_assert!(bound <= 2.0 * usual, "{} against {}", bound, usual);
                }
            }
        }
    }
}
