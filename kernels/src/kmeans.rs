//! Lloyd's algorithm: minimise `Σᵢ minⱼ ‖xᵢ − cⱼ‖²` over k centroids.
//!
//! 1. Sample at most `k · max_points_per_centroid` rows; centre them and scale them by a power
//!    of two, so that f32 scores stay exact enough wherever the data lies.
//! 2. Start from k rows chosen at random.
//! 3. Assign every row to its nearest centroid (ties to the lowest index); move every centroid to the
//!    mean of its rows, summed in f64 in the order of the rows.
//! 4. A centroid without rows takes half of the largest cluster: both step a small, opposite way
//!    along that cluster's spread.
//! 5. Repeat 3–4 until no assignment changes or `iterations` are done.
//!
//! Lloyd, "Least squares quantization in PCM", 1982. Runs in the current rayon pool; the result
//! is the same on any number of threads. Cost per iteration: O(n·k·d). Memory: O(n·d) for the sample.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::{cmp::Reverse, ops::Range};

use ndarray::{Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::Panels;

/// Rows that are assigned as one task.
const CHUNK: usize = 1024;

/// Fraction of a cluster's standard deviation by which the halves of a split step apart.
const SPLIT: f64 = 1.0 / 1024.0;

/// The settings of one k-means run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KMeans {
    /// Number of centroids.
    pub k: usize,
    /// Most rounds of assignment and update.
    pub iterations: usize,
    /// Seed of the sample, of the first centroids and of the directions of splits.
    pub seed: u64,
    /// Rows used per centroid: training takes a sample of `k` times this many rows where there are
    /// more. 256 is customary; 0 counts as 1.
    pub max_points_per_centroid: usize,
}

/// Why k-means gave no centroids.
#[derive(Debug, thiserror::Error)]
pub enum KMeansError<E> {
    /// The training matrix has no rows.
    #[error("no rows to train on")]
    NoRows,
    /// `k` is zero.
    #[error("no centroids asked for")]
    NoCentroids,
    /// A training row holds NaN or an infinity.
    #[error("row {row} is not finite")]
    NonFinite {
        /// The first such row among those sampled.
        row: usize,
    },
    /// The progress callback returned this error.
    #[error("stopped")]
    Stopped(#[source] E),
}

impl KMeans {
    /// Learns centroids (k, d) from `x` (n, d), of any strides.
    ///
    /// With n ≤ k, every row is a centroid and the remaining centroids repeat the rows in order.
    /// `progress` is called on this thread before each iteration with the fraction done and ends
    /// the run by returning an error.
    ///
    /// # Errors
    /// [`KMeansError`]: no rows, no centroids, a row that is not finite, or what `progress` returned.
    pub fn fit<E>(
        &self,
        x: ArrayView2<'_, f32>,
        progress: &mut dyn FnMut(f32) -> Result<(), E>,
    ) -> Result<Array2<f32>, KMeansError<E>> {
        let (n, d) = x.dim();
        if n == 0 {
            return Err(KMeansError::NoRows);
        }
        if self.k == 0 {
            return Err(KMeansError::NoCentroids);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let sample = self.sample(n, &mut rng);
        let mut points = Points::gather(x, &sample);
        if let Some(row) = points.first_not_finite() {
            return Err(KMeansError::NonFinite { row: sample[row] });
        }
        if n <= self.k {
            let rows: Vec<usize> = (0..n).cycle().take(self.k).collect();
            return Ok(points.rows.select(Axis(0), &rows));
        }

        points.normalise();
        let mut centroids = Array2::<f32>::zeros((self.k, d));
        for (mut centroid, row) in
            centroids
                .outer_iter_mut()
                .zip(distinct(sample.len(), self.k, &mut rng))
        {
            centroid.assign(&points.rows.row(row));
        }
        let mut state = Assignment::new(sample.len(), self.k);
        let mut panels = Panels::for_l2(centroids.view());
        for iteration in 0..self.iterations {
            progress(iteration as f32 / self.iterations as f32).map_err(KMeansError::Stopped)?;
            let changed = state.assign(&points, &panels);
            if !changed {
                break;
            }
            state.update(&points, &mut centroids);
            state.repair(&points, &mut centroids, &mut rng);
            panels.pack_l2(centroids.view());
        }
        progress(1.0).map_err(KMeansError::Stopped)?;
        Ok(points.restore(centroids))
    }

    /// The rows to train on, ascending.
    fn sample(&self, n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let wanted = self.k.saturating_mul(self.max_points_per_centroid.max(1));
        if wanted >= n {
            return (0..n).collect();
        }
        let mut rows = distinct(n, wanted, rng);
        rows.sort_unstable();
        rows
    }
}

/// The sampled rows (n, d) in standard layout; once normalised, `(x − shift) · scale`.
struct Points {
    rows: Array2<f32>,
    shift: Vec<f64>,
    /// A power of two, so that scaling rounds nothing.
    scale: f64,
}

impl Points {
    fn gather(x: ArrayView2<'_, f32>, sample: &[usize]) -> Self {
        let mut rows = Array2::zeros((sample.len(), x.ncols()));
        rows.axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(sample)
            .for_each(|(mut to, &row)| to.assign(&x.row(row)));
        Self {
            rows,
            shift: vec![0.0; x.ncols()],
            scale: 1.0,
        }
    }

    fn dim(&self) -> usize {
        self.rows.ncols()
    }

    fn values(&self) -> &[f32] {
        self.rows.as_slice().expect("the layout is standard")
    }

    fn first_not_finite(&self) -> Option<usize> {
        let values = self.values();
        values
            .par_chunks(CHUNK)
            .position_first(|chunk| !chunk.iter().all(|value| value.is_finite()))
            .and_then(|chunk| {
                let mut rest = values.iter().skip(chunk * CHUNK);
                rest.position(|value| !value.is_finite())
                    .map(|i| (chunk * CHUNK + i) / self.dim())
            })
    }

    fn normalise(&mut self) {
        let (n, d) = self.rows.dim();
        if d == 0 {
            return;
        }
        // Partial sums over fixed chunks, added in their order: the same on any number of threads.
        let sums: Vec<Vec<f64>> = (0..n.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let last = n.min((chunk + 1) * CHUNK);
                let rows: Vec<u32> = (chunk * CHUNK..last).map(|row| row as u32).collect();
                sum_rows(self.values(), d, &rows)
            })
            .collect();
        for chunk in &sums {
            for (shift, sum) in self.shift.iter_mut().zip(chunk) {
                *shift += sum;
            }
        }
        for shift in &mut self.shift {
            *shift /= n as f64;
        }
        let shift = &self.shift;
        let largest = self
            .values()
            .par_chunks(CHUNK * d)
            .map(|rows| {
                let mut largest = 0.0_f64;
                for row in rows.chunks_exact(d) {
                    for (&value, shift) in row.iter().zip(shift) {
                        largest = largest.max((f64::from(value) - shift).abs());
                    }
                }
                largest
            })
            .reduce(|| 0.0, f64::max);
        if largest > 0.0 {
            self.scale = (-largest.log2().floor()).exp2();
        }
        let scale = self.scale;
        self.rows
            .as_slice_mut()
            .expect("the layout is standard")
            .par_chunks_mut(CHUNK * d)
            .for_each(|rows| {
                for row in rows.chunks_exact_mut(d) {
                    for (value, shift) in row.iter_mut().zip(shift) {
                        *value = ((f64::from(*value) - shift) * scale) as f32;
                    }
                }
            });
    }

    fn restore(&self, mut centroids: Array2<f32>) -> Array2<f32> {
        for mut centroid in centroids.outer_iter_mut() {
            for (value, shift) in centroid.iter_mut().zip(&self.shift) {
                *value = (f64::from(*value) / self.scale + shift) as f32;
            }
        }
        centroids
    }
}

/// Which rows belong to which centroid.
struct Assignment {
    nearest: Vec<u32>,
    previous: Vec<u32>,
    score: Vec<f32>,
    /// Rows grouped by centroid, ascending within each group.
    order: Vec<u32>,
    /// Group `j` is `order[starts[j]..starts[j + 1]]`.
    starts: Vec<usize>,
}

impl Assignment {
    fn new(n: usize, k: usize) -> Self {
        Self {
            nearest: vec![0; n],
            previous: vec![u32::MAX; n],
            score: vec![0.0; n],
            order: vec![0; n],
            starts: vec![0; k + 1],
        }
    }

    /// Step 3, first half; false when no row moved.
    fn assign(&mut self, points: &Points, panels: &Panels) -> bool {
        std::mem::swap(&mut self.nearest, &mut self.previous);
        points
            .rows
            .axis_chunks_iter(Axis(0), CHUNK)
            .into_par_iter()
            .zip(self.nearest.par_chunks_mut(CHUNK))
            .zip(self.score.par_chunks_mut(CHUNK))
            .for_each(|((rows, nearest), score)| panels.nearest(rows, nearest, score));
        if self.nearest == self.previous {
            return false;
        }
        self.starts.fill(0);
        for &j in &self.nearest {
            self.starts[j as usize + 1] += 1;
        }
        for j in 1..self.starts.len() {
            self.starts[j] += self.starts[j - 1];
        }
        let mut next = self.starts.clone();
        for (row, &j) in (0..).zip(&self.nearest) {
            self.order[next[j as usize]] = row;
            next[j as usize] += 1;
        }
        true
    }

    fn group(&self, j: usize) -> Range<usize> {
        self.starts[j]..self.starts[j + 1]
    }

    /// Step 3, second half: means of the groups that have rows.
    fn update(&self, points: &Points, centroids: &mut Array2<f32>) {
        centroids
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .enumerate()
            .for_each(|(j, mut centroid)| {
                let group = &self.order[self.group(j)];
                if group.is_empty() {
                    return;
                }
                let sums = sum_rows(points.values(), points.dim(), group);
                for (mean, sum) in centroid.iter_mut().zip(sums) {
                    *mean = (sum / group.len() as f64) as f32;
                }
            });
    }

    /// Step 4. A cluster of equal rows has no spread and is not split.
    fn repair(&self, points: &Points, centroids: &mut Array2<f32>, rng: &mut ChaCha8Rng) {
        let k = centroids.nrows();
        let empty: Vec<usize> = (0..k).filter(|&j| self.group(j).is_empty()).collect();
        if empty.is_empty() {
            return;
        }
        // (rows, lowest index first, the cluster that these rows came from)
        let mut largest: BinaryHeap<(usize, Reverse<usize>, usize)> = (0..k)
            .map(|j| (self.group(j).len(), Reverse(j), j))
            .filter(|(rows, ..)| *rows > 1)
            .collect();
        let mut spreads: HashMap<usize, Vec<f64>> = HashMap::new();
        for to in empty {
            let Some((rows, from, origin)) = std::iter::from_fn(|| largest.pop()).find(|split| {
                let spread = spreads
                    .entry(split.2)
                    .or_insert_with(|| self.spread(points, split.2));
                spread.iter().any(|deviation| *deviation > 0.0)
            }) else {
                return;
            };
            for (dimension, deviation) in spreads[&origin].iter().enumerate() {
                let sign = if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
                let step = (sign * SPLIT * deviation) as f32;
                let centre = centroids[[from.0, dimension]];
                centroids[[from.0, dimension]] = centre + step;
                centroids[[to, dimension]] = centre - step;
            }
            largest.push((rows.div_ceil(2), from, origin));
            largest.push((rows / 2, Reverse(to), origin));
        }
    }

    /// Standard deviation of group `j` in each dimension.
    fn spread(&self, points: &Points, j: usize) -> Vec<f64> {
        let group = &self.order[self.group(j)];
        let sums = sum_rows(points.values(), points.dim(), group);
        let mut spread = vec![0.0_f64; points.dim()];
        for &row in group {
            let row = points.rows.row(row as usize);
            for ((spread, &value), sum) in spread.iter_mut().zip(row).zip(&sums) {
                *spread += (f64::from(value) - sum / group.len() as f64).powi(2);
            }
        }
        for sum in &mut spread {
            *sum = (*sum / group.len() as f64).sqrt();
        }
        spread
    }
}

/// `Σ values[row · d ..][..d]` over the given rows, in their order.
fn sum_rows(values: &[f32], d: usize, rows: &[u32]) -> Vec<f64> {
    let mut sums = vec![0.0; d];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: AVX-512F was detected on the line above.
        unsafe { add_rows_avx512(values, rows, &mut sums) };
        return sums;
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected on the line above.
        unsafe { add_rows_avx2(values, rows, &mut sums) };
        return sums;
    }
    add_rows(values, rows, &mut sums);
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_rows_avx512(values: &[f32], rows: &[u32], sums: &mut [f64]) {
    add_rows(values, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_rows_avx2(values: &[f32], rows: &[u32], sums: &mut [f64]) {
    add_rows(values, rows, sums);
}

#[inline(always)]
fn add_rows(values: &[f32], rows: &[u32], sums: &mut [f64]) {
    let d = sums.len();
    for &row in rows {
        let row = &values[row as usize * d..][..d];
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
}

/// `count` distinct numbers below `n`, in random order (Floyd's method, then shuffled).
fn distinct(n: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut chosen = HashSet::with_capacity(count);
    let mut list = Vec::with_capacity(count);
    for last in n - count..n {
        let candidate = below(last + 1, rng);
        let pick = if chosen.insert(candidate) {
            candidate
        } else {
            chosen.insert(last);
            last
        };
        list.push(pick);
    }
    for i in (1..list.len()).rev() {
        list.swap(i, below(i + 1, rng));
    }
    list
}

/// A number below `n`; written out so that a seed means the same with every release of `rand`.
fn below(n: usize, rng: &mut ChaCha8Rng) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
