//! The nearest codes of many queries at once, of what a [`Grid`] packed.
//!
//! A code is worth `constant + of_norm·‖y‖² + of_inner·f·⟨z, y⟩` to a query z, f being its factor (see [`Query`]).
//! Levels are rounded to bytes, `l ≈ low + step·w`, evenly spaced ones without an error, and z to integers of 8 bits,
//! `z ≈ ẑ = s·i/step`, so that with I = Σ i·w
//!
//! `|⟨z, y⟩ − s·I − Σ ẑ·low| ≤ ‖z − ẑ‖·‖y‖ + ‖ẑ‖·√(Σ (l − low − step·w)²)`.
//!
//! So I bounds an estimate on both sides ([`vq_kernels::int8`]). A code whose upper bound lies below k lower bounds is
//! left out; few are not, and these have their estimates computed as a [`Scan`] computes them. What is found is
//! what all estimates, sorted, would give. That bounding products in integers makes scans fast is known from
//! Andre et al., "Quicker ADC", 2021, for tables; here it is for products.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[cfg(doc)]
use super::Scan;
use super::{ByGrid, Grid, Query, Run};
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::TopK;
use vq_kernels::int8::{self, CODES, Line, Reach, Terms, Tile, code_at};
use vq_plugin_api::{Error, Hits, Metric, Packed};

/// Queries that are searched for together, at most.
const QUERIES: usize = 256;

/// Vectors whose answers are held at a time.
const GROUP: usize = 16;

/// Where more of the codes are wanted, all have their estimates computed.
const MOST_WANTED: f64 = 1.0 / 16.0;

/// What f32 rounds, at most, relatively.
const EPSILON: f64 = f32::EPSILON as f64 / 2.0;

/// What f32 rounds, at most, near 0.
const SUBNORMAL: f64 = 1.5e-45;

/// What [`scan_by_grid!`](crate::scan_by_grid) searches with: the nearest codes of each of `queries` (q, d).
///
/// # Errors
/// Those of the method.
pub fn search<M: ByGrid + Sync>(
    method: &M,
    queries: ArrayView2<'_, f32>,
    codes: Packed<'_>,
    hits: Hits<'_>,
) -> Result<(), Error> {
    let (k, n) = (hits.k(), codes.n);
    let few = k as f64 <= MOST_WANTED * n as f64;
    let grid = if few { method.grid() } else { None };
    let grid = grid.filter(|_| int8::is_fast());
    let Some(filter) = grid.and_then(|grid| Filter::new(grid, M::BOUNDED)) else {
        return hits.fill_each(queries, |query| {
            Ok(method.scan(method.query(&query.to_vec())?)?.top_k(codes.bytes, n, k))
        });
    };
    let together = queries.nrows().div_ceil(rayon::current_num_threads()).clamp(1, QUERIES);
    let mut rows: Vec<_> = hits.rows().collect();
    let mut parts = Vec::new();
    while !rows.is_empty() {
        let rest = rows.split_off(together.min(rows.len()));
        parts.push(std::mem::replace(&mut rows, rest));
    }
    let parts = queries.axis_chunks_iter(Axis(0), together).into_par_iter().zip(parts);
    parts.try_for_each(|(queries, rows)| {
        let queries: Result<Vec<_>, Error> =
            queries.outer_iter().map(|query| method.query(&query.to_vec())).collect();
        let found = filter.top_k(queries?, codes.bytes, n, k);
        rows.into_iter().zip(found).for_each(|(row, found)| row.fill(found));
        Ok(())
    })
}

/// How a grid's codes become bytes.
struct Filter<'a> {
    grid: &'a Grid,
    /// The columns are followed by one of bounds.
    bounds: bool,
    runs: Vec<Weights>,
}

/// Levels of a run as bytes.
struct Weights {
    run: Run,
    low: f64,
    step: f64,
    weights: [u8; 256],
    /// Σ (l − low − step·w)² of a code, at most.
    miss_sq: f64,
    /// max |l|.
    largest: f64,
}

impl Weights {
    fn new(run: Run, levels: &[f32]) -> Self {
        let (low, high) = (f64::from(levels[0]), f64::from(levels[levels.len() - 1]));
        // As many as levels that are evenly spaced fall on without an error.
        let gaps = levels.len() - 1;
        let most = (255 / gaps * gaps) as f64;
        let step = (high - low) / most;
        let (mut weights, mut miss) = ([0; 256], 0.0);
        for (weight, level) in weights.iter_mut().zip(levels) {
            let rounded = ((f64::from(*level) - low) / step).round().clamp(0.0, most);
            miss = f64::max(miss, (f64::from(*level) - low - step * rounded).abs());
            *weight = rounded as u8;
        }
        let miss_sq = run.count as f64 * miss * miss;
        Weights { run, low, step, weights, miss_sq, largest: high.abs().max(low.abs()) }
    }
}

/// One query, and what it has found.
struct Sought {
    query: Query,
    sign: f64,
    /// What an estimate has for every code, times the sign.
    constant: f32,
    /// What an upper bound is above an estimate at most, as a multiple of widths, of factors, and beside.
    error: [f32; 3],
    /// Bounds leave out too little, or are none in f32: all estimates are computed.
    all: bool,
    /// So many codes are held before those that fell below are let go.
    room: usize,
    /// The lower bounds of the k best so far, in an order that integers have.
    best: BinaryHeap<Reverse<i32>>,
    /// Upper bounds and rows of what may be among the k best.
    found: Vec<(f32, u32)>,
}

impl<'a> Filter<'a> {
    /// `None` where levels do not fit bytes or there are too many.
    fn new(grid: &'a Grid, bounds: bool) -> Option<Self> {
        let spread = |(run, levels): (Run, &[f32])| {
            (run.bits <= 8 && levels.is_sorted_by(|a, b| a < b)).then(|| Weights::new(run, levels))
        };
        let runs = grid.runs().map(spread).collect::<Option<Vec<_>>>()?;
        let padded: usize = runs.iter().map(|of| int8::padded(of.run.count)).sum();
        let fits = (1..=int8::MAX_DIM).contains(&padded);
        fits.then_some(Filter { grid, bounds, runs })
    }

    /// The `k` nearest of `n` packed codes of each query, as [`Scan::top_k`] finds them.
    fn top_k(
        &self,
        queries: Vec<Query>,
        packed: &[u8],
        n: usize,
        k: usize,
    ) -> Vec<Vec<(f32, u64)>> {
        assert!(u32::try_from(n).is_ok(), "rows of a block fit 32 bits");
        let (indices, columns) = Columns::behind(packed, n * self.grid.layout().scanned_bytes(), n);
        let Some(first) = queries.first() else { return Vec::new() };
        // Of distances the least are the best.
        let sign = if first.of_inner < 0.0 { -1.0 } else { 1.0 };
        let of_norm = sign * first.of_norm;
        let (mut vectors, mut reaches, mut sought) = (Vec::new(), Vec::new(), Vec::new());
        for query in queries {
            let (mut reach, error, all) = self.rounded(&query, sign, &mut vectors);
            let constant = (sign * query.constant) as f32;
            let (best, found) = (BinaryHeap::with_capacity(k + 1), Vec::new());
            let room = 4 * k + 1024;
            let of = Sought { query, sign, constant, error, all, room, best, found };
            reach.least = of.least(k);
            reaches.push(reach);
            sought.push(of);
        }
        let width = vectors.len() / sought.len();
        let (mut tile, mut lines) = (Tile::new(), Vec::new());
        let mut terms = Terms::default();
        let (mut products, mut candidates) = ([[0; CODES]; GROUP], [0; GROUP]);
        for first in (0..n).step_by(CODES) {
            let count = CODES.min(n - first);
            self.spread(indices, n, first, count, &mut tile, &mut lines);
            let there = columns.terms(first, count, of_norm, self.reach_column(), &mut terms);
            for (group, sought) in sought.chunks_mut(GROUP).enumerate() {
                let of = group * GROUP..group * GROUP + sought.len();
                let (products, candidates) =
                    (&mut products[..sought.len()], &mut candidates[..sought.len()]);
                let vectors = &vectors[of.start * width..of.end * width];
                tile.meet(vectors, &terms, &reaches[of.clone()], products, candidates);
                let answers = products.iter().zip(&*candidates);
                let asked = sought.iter_mut().zip(&mut reaches[of]);
                for ((sought, reach), (products, candidates)) in asked.zip(answers) {
                    let mut left = candidates & there;
                    if left == 0 {
                        continue;
                    }
                    while left != 0 {
                        let place = left.trailing_zeros() as usize;
                        left &= left - 1;
                        let most = reach.most(products[place], &terms, place);
                        let [of_width, of_factor, beside] = sought.error;
                        let off = of_width * terms.width[place]
                            + of_factor * terms.factor[place]
                            + 32.0 * EPSILON as f32 * terms.constant[place].abs();
                        let least = most - 2.0 * (off + beside);
                        sought.take((most, (first + code_at(place)) as u32), least, k, n);
                    }
                    reach.least = sought.least(k);
                }
            }
        }
        let finish = |sought: Sought| self.finish(sought, packed, n, k);
        sought.into_iter().map(finish).collect()
    }

    /// Appends the integers of a query to `vectors`; answers its numbers, its errors, and whether f32 is too small or
    /// too coarse for them.
    fn rounded(&self, query: &Query, sign: f64, vectors: &mut Vec<i32>) -> (Reach, [f32; 3], bool) {
        let largest = |of: &Weights| {
            let z = query.z[of.run.range()].iter();
            of.step * f64::from(z.fold(0.0_f32, |most, z| most.max(z.abs())))
        };
        let largest = self.runs.iter().map(largest).fold(0.0, f64::max);
        let s = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let (mut offset, mut left_sq, mut length_sq, mut miss_sq) = (0.0, 0.0, 0.0, 0.0);
        let (mut integers, mut most) = (Vec::new(), 0.0);
        for of in &self.runs {
            let (unit, per_unit) = (s / of.step, of.step / s);
            integers.clear();
            for z in &query.z[of.run.range()] {
                let integer = (f64::from(*z) * per_unit).round().clamp(-127.0, 127.0);
                let rounded = unit * integer;
                integers.push(integer as i8);
                offset += rounded * of.low;
                left_sq += (f64::from(*z) - rounded).powi(2);
                length_sq += rounded * rounded;
            }
            int8::push_vector(&integers, vectors);
            miss_sq += of.miss_sq;
            most = f64::max(most, of.largest);
        }
        let scale = query.of_inner.abs();
        let root = (query.z.len() as f64).sqrt();
        let both = length_sq.sqrt() + query.norm;
        // The sum of an estimate, in f32, and what this file rounds.
        let rounding = (query.z.len() as f64 + 16.0) * EPSILON;
        let of_width = 1.0001 * scale * (left_sq.sqrt() + rounding * query.norm);
        // |s·I| and |Σ ẑ·low| are at most ‖ẑ‖·√d times the range of levels.
        // The last parts of both are what products round that are subnormal.
        let of_factor = 1.0001
            * scale
            * (length_sq.sqrt() * miss_sq.sqrt()
                + 32.0 * EPSILON * both * root * 2.0 * most
                + query.z.len() as f64 * SUBNORMAL);
        let beside = 16.0 * EPSILON * query.constant.abs()
            + 1e-37
            + SUBNORMAL * scale * (1.0 + query.norm * (1.0 + root * most));
        let normal = f64::from(f32::MIN_POSITIVE)..1e37;
        let all = query.norm > 0.0
            && !(normal.contains(&(scale * s))
                && normal.contains(&of_width)
                && scale * both * root * 2.0 * most < 1e37);
        let reach = Reach {
            of_product: (sign * query.of_inner * s) as f32,
            offset: (sign * query.of_inner * offset + of_factor) as f32,
            of_width: of_width as f32,
            least: f32::NEG_INFINITY,
        };
        (reach, [of_width as f32, of_factor as f32, beside as f32], all)
    }

    /// Fills the tile with `count` codes from `first` on.
    fn spread(
        &self,
        indices: &[u8],
        n: usize,
        first: usize,
        count: usize,
        tile: &mut Tile,
        lines: &mut Vec<Line>,
    ) {
        tile.clear();
        let mut rest = indices;
        for of in &self.runs {
            let bytes = of.run.scanned_bytes();
            let (run, after) = rest.split_at(n * bytes);
            let block = &run[first * bytes..][..count * bytes];
            let whole = block.as_chunks::<CODES>().0;
            let block = if count == CODES {
                whole
            } else {
                lines.clear();
                lines.extend(block.chunks_exact(count).map(|codes| {
                    let mut line = [0; CODES];
                    line[..count].copy_from_slice(codes);
                    line
                }));
                &lines[..]
            };
            tile.push(block, of.run.scanned_bits(), &of.weights);
            rest = after;
        }
    }

    /// The column of what [`Grid::pack`] makes that has widths.
    fn reach_column(&self) -> usize {
        2 + usize::from(self.bounds)
    }

    /// The estimates of what is left, and the best of them.
    fn finish(&self, mut sought: Sought, packed: &[u8], n: usize, k: usize) -> Vec<(f32, u64)> {
        if sought.all {
            let metric = if sought.sign < 0.0 { Metric::L2 } else { Metric::Ip };
            return self.grid.scan(sought.query, metric, self.bounds).top_k(packed, n, k);
        }
        let (indices, columns) = Columns::behind(packed, n * self.grid.layout().scanned_bytes(), n);
        let least = sought.least(k);
        sought.found.retain(|(most, _)| reaches(*most, least));
        let mut top = TopK::new(k.min(n));
        for (_, row) in &sought.found {
            let at = *row as usize;
            let sum = self.sum(&sought.query.z, indices, n, at) * columns.at(0, at);
            let estimate = sought.query.estimate(f64::from(sum), f64::from(columns.at(1, at)));
            top.push(if sought.sign < 0.0 { 0.0 - estimate } else { estimate }, *row);
        }
        let estimate = |score: f32| if sought.sign < 0.0 { 0.0 - score } else { score };
        top.into_sorted().into_iter().map(|(score, row)| (estimate(score), row.into())).collect()
    }

    /// The sum of a code's entries, as [`Sums`](super::Sums) has it: of the codes of a byte in their order, of the
    /// bytes of a run in theirs, of the runs in theirs.
    fn sum(&self, z: &[f32], indices: &[u8], n: usize, row: usize) -> f32 {
        let (first, i) = (row / CODES * CODES, row % CODES);
        let count = CODES.min(n - first);
        let (mut total, mut rest) = (0.0, indices);
        for (r, (run, levels)) in self.grid.runs().enumerate() {
            let (bytes, bits) = (run.scanned_bytes(), run.scanned_bits());
            let (run_indices, after) = rest.split_at(n * bytes);
            let block = &run_indices[first * bytes..][..count * bytes];
            let z = &z[run.range()];
            let last = levels.len() - 1;
            let mut sum = 0.0_f32;
            for (z, line) in z.chunks(8 / bits as usize).zip(block.chunks_exact(count)) {
                let mut byte = usize::from(line[i]);
                let mut entry = 0.0;
                for (c, z) in z.iter().enumerate() {
                    let product = levels[byte & last] * z;
                    entry = if c == 0 { product } else { entry + product };
                    byte >>= bits;
                }
                sum += entry;
            }
            total = if r == 0 { sum } else { total + sum };
            rest = after;
        }
        total
    }
}

impl Sought {
    /// A code of this upper bound, with its row, and of this lower bound; of `n` codes the `k` best are sought.
    fn take(&mut self, code: (f32, u32), least: f32, k: usize, n: usize) {
        if self.all {
            return;
        }
        if self.found.len() >= self.room {
            let bar = self.least(k);
            self.found.retain(|(most, _)| reaches(*most, bar));
            self.room = self.room.max(2 * self.found.len());
            if self.found.len() > n / 16 + 4 * k + 1024 {
                (self.all, self.found) = (true, Vec::new());
                return;
            }
        }
        self.found.push(code);
        // An estimate that is cut off at the ends of f32 may equal one that is worse.
        let inside = (least + self.constant).abs() < 0.9 * f32::MAX;
        if !inside {
            return;
        }
        let key = ordered(least);
        if self.best.len() < k {
            self.best.push(Reverse(key));
        } else if self.best.peek().is_some_and(|Reverse(worst)| key > *worst) {
            self.best.pop();
            self.best.push(Reverse(key));
        }
    }

    /// Upper bounds below this are not among the best.
    fn least(&self, k: usize) -> f32 {
        if self.all {
            return f32::INFINITY;
        }
        match self.best.peek() {
            Some(Reverse(worst)) if self.best.len() == k => {
                let [_, _, beside] = self.error;
                let least = f32::from_bits(ordered(f32::from_bits(*worst as u32)) as u32);
                // Equal to all digits that an estimate has is not below.
                least - 2.0 * beside - 8.0 * f32::EPSILON * least.abs()
            }
            _ => f32::NEG_INFINITY,
        }
    }
}

/// Whether a code of this bound is not surely below; NaN is not.
fn reaches(most: f32, least: f32) -> bool {
    let below = most < least;
    !below
}

/// Bits whose order as integers is that of the numbers; twice applied the same bits again.
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// The numbers behind packed indices, one column after another.
struct Columns<'a> {
    numbers: &'a [[u8; 4]],
    n: usize,
}

impl<'a> Columns<'a> {
    /// The indices of `n` codes, and what stands behind them.
    fn behind(packed: &'a [u8], bytes: usize, n: usize) -> (&'a [u8], Self) {
        let (indices, columns) = packed.split_at(bytes);
        (indices, Columns { numbers: columns.as_chunks().0, n })
    }

    fn at(&self, column: usize, row: usize) -> f32 {
        f32::from_le_bytes(self.numbers[column * self.n + row])
    }

    /// Fills `terms` with the numbers of `count` codes from `first` on; answers the places that have a code.
    fn terms(
        &self,
        first: usize,
        count: usize,
        of_norm: f64,
        reach: usize,
        terms: &mut Terms,
    ) -> u64 {
        let mut there = 0;
        for place in 0..CODES {
            let code = code_at(place);
            if code < count {
                let norm = of_norm * f64::from(self.at(1, first + code));
                let constant = (norm + 16.0 * EPSILON * norm.abs()) as f32;
                // What f32 has not bounds nothing.
                terms.constant[place] = if constant.is_finite() { constant } else { f32::NAN };
                terms.factor[place] = self.at(0, first + code);
                terms.width[place] = self.at(reach, first + code);
                there |= 1 << place;
            }
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Centring, Frame, NormOf, Scalars, Scale, Turn, levels};
    use ndarray::{Array2, Slice};
    use vq_kernels::Draw;

    /// `n` rows, some of them equal and one of zeros.
    fn rows(n: usize, d: usize, scale: f32, seed: u64) -> Array2<f32> {
        let mut draw = Draw::new(seed);
        let mut x = Array2::from_shape_simple_fn((n, d), || scale * draw.normal() as f32);
        for i in (0..n).step_by(7).skip(1) {
            let of = x.row(i / 2).to_owned();
            x.row_mut(i).assign(&of);
        }
        x.row_mut(n / 3).fill(0.0);
        x
    }

    #[test]
    fn many_queries_find_what_each_finds_among_all_estimates() {
        let sizes = [(0.0, 1), (0.0, 2), (0.0, 3), (0.0, 4), (0.0, 8), (2.5, 0), (4.6, 0)];
        let (mut seed, mut asked) = (0, 0);
        for (d, n) in [(1, 40), (5, 64), (37, 130), (128, 700)] {
            for size in sizes {
                for level in [levels::uniform, levels::lloyd_max] {
                    seed += 1;
                    let Ok(grid) = Grid::new(d, size, (Scalars::F16, true), 0, level) else {
                        assert!(d < 37, "{size:?} at {d}");
                        continue;
                    };
                    let scale = [1.0, 1e-12, 1e12][seed as usize % 3];
                    let x = rows(n, d, scale, seed);
                    let frame = Frame::drawn(x.view(), Centring::Mean, Turn::Hadamard, 3).unwrap();
                    let mut codes = Array2::zeros((n, grid.layout().code_bytes()));
                    let cells: Vec<_> = grid.runs().map(|(_, l)| levels::Cells::new(l)).collect();
                    let choose = |z: &[f32], norm: f64, to: &mut [u16]| {
                        grid.nearest(&cells, z, ((d as f64).sqrt() / norm) as f32, to);
                    };
                    let leave = |_: &[f32], _: &[f32], _: &mut [u8]| ();
                    grid.encode(&frame, Metric::L2, x.view(), codes.view_mut(), choose, leave)
                        .unwrap();
                    let bounds = seed % 2 == 0;
                    let mut packed = vec![0; n * grid.packed_bytes(bounds)];
                    let (scale, norm_of) = if seed % 4 < 2 {
                        (Scale::Unbiased, NormOf::Row)
                    } else {
                        (Scale::Nearest, NormOf::Multiple)
                    };
                    let deviations = bounds.then_some(1.0);
                    grid.pack(&frame, scale, norm_of, deviations, codes.view(), &mut packed);
                    let filter = Filter::new(&grid, bounds).unwrap();
                    let mut q = x.slice_axis(Axis(0), Slice::from(..19)).to_owned();
                    q.row_mut(4).fill(0.0);
                    q.row_mut(5).fill(f32::MAX);
                    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
                        let queries = || {
                            q.outer_iter().map(|q| frame.estimator(&q.to_vec(), metric)).collect()
                        };
                        for k in [1, 10, n] {
                            let found = filter.top_k(queries(), &packed, n, k);
                            for (i, (query, found)) in
                                Vec::into_iter(queries()).zip(found).enumerate()
                            {
                                let all = grid.scan(query, metric, bounds).top_k(&packed, n, k);
                                let told = || format!("{d} {size:?} {metric:?} {k} query {i}");
                                assert_eq!(found, all, "{}", told());
                                asked += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(asked > 5000, "{asked}");
    }

    /// `x` (n, 128) as codes of `bits`, learned from `train`: the `k` nearest of each query are those of all estimates.
    fn expect_agreement(
        train: &Array2<f32>,
        x: &Array2<f32>,
        q: &Array2<f32>,
        bits: u32,
        turn: Turn,
        k: usize,
    ) {
        let n = x.nrows();
        let size = (0.0, bits);
        let grid = Grid::new(128, size, (Scalars::F32, true), 0, levels::lloyd_max).unwrap();
        let frame = Frame::drawn(train.view(), Centring::None, turn, 3).unwrap();
        let mut codes = Array2::zeros((n, grid.layout().code_bytes()));
        let cells: Vec<_> = grid.runs().map(|(_, l)| levels::Cells::new(l)).collect();
        let choose = |z: &[f32], norm: f64, to: &mut [u16]| {
            grid.nearest(&cells, z, (128_f64.sqrt() / norm) as f32, to);
        };
        let leave = |_: &[f32], _: &[f32], _: &mut [u8]| ();
        grid.encode(&frame, Metric::L2, x.view(), codes.view_mut(), choose, leave).unwrap();
        let mut packed = vec![0; n * grid.packed_bytes(false)];
        grid.pack(&frame, Scale::Unbiased, NormOf::Row, None, codes.view(), &mut packed);
        let filter = Filter::new(&grid, false).unwrap();
        for metric in [Metric::L2, Metric::Ip] {
            let queries = || q.outer_iter().map(|q| frame.estimator(&q.to_vec(), metric)).collect();
            let found = filter.top_k(queries(), &packed, n, k);
            for (query, found) in Vec::into_iter(queries()).zip(found) {
                let all = grid.scan(query, metric, false).top_k(&packed, n, k);
                assert_eq!(found, all, "{metric:?} {k} of {n}");
            }
        }
    }

    fn normal(n: usize, scale: f32, seed: u64) -> Array2<f32> {
        let mut draw = Draw::new(seed);
        Array2::from_shape_simple_fn((n, 128), || scale * draw.normal() as f32)
    }

    #[test]
    fn what_f32_has_no_number_for_is_not_left_out() {
        // A row far beyond the others, so that its square has no number but its distance has.
        let train = normal(640, 1e17, 1);
        let mut x = train.clone();
        x.row_mut(500).assign(&normal(1, 2.8e18, 2).row(0));
        let mut q = normal(3, 2.8e18, 3);
        q.row_mut(0).assign(&x.row(500).mapv(|v| 1.01 * v));
        for k in [1, 3] {
            expect_agreement(&train, &x, &q, 4, Turn::Hadamard, k);
        }
        // Rows whose squares are near 0.
        let (train, x) = (normal(640, 1e-30, 4), normal(640, 1e-16, 5));
        expect_agreement(&train, &x, &normal(5, 1e-16, 6), 4, Turn::Hadamard, 1);
        expect_agreement(&x, &x, &normal(5, 1e-22, 7), 4, Turn::Hadamard, 3);
        // Products that are subnormal.
        let x = normal(640, 1e17, 8);
        let mut q = Array2::zeros((1, 128));
        q[(0, 7)] = 3e-27;
        expect_agreement(&x, &x, &q, 8, Turn::None, 3);
    }

    #[test]
    fn where_bounds_leave_out_nothing_all_estimates_are_computed() {
        let mut x = normal(4000, 1.0, 1);
        for i in 1..4000 {
            let of = x.row(i % 3).to_owned();
            x.row_mut(i).assign(&of);
        }
        let mut q = normal(3, 1.0, 2);
        q.row_mut(0).fill(0.0);
        expect_agreement(&x, &x, &q, 4, Turn::Hadamard, 1);
        expect_agreement(&x, &x, &q, 1, Turn::Hadamard, 20);
    }
}
