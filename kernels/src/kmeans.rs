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
//! [`assign`] and [`update`] are step 3 for methods that put something between, or weigh rows.
//!
//! Lloyd, "Least squares quantization in PCM", 1982. Runs in the current rayon pool; the result
//! is the same on any number of threads. Cost per iteration: O(n·k·d). Memory: O(n·d) for the sample.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::Path;
use crate::draw::distinct;
use crate::int16::MaxNorm;
use crate::nearest::Nearest;
use crate::panels::gather_rows;
use crate::pruning::Groups;

/// Rows that are assigned as one task.
const CHUNK: usize = 1024;

/// Length of the step of each half of a split cluster, as a fraction of the cluster's root mean square
/// radius divided by √d. Below about 1.6 the step lowers the objective of a Gaussian cluster.
const SPLIT: f64 = 1.0 / 16.0;

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

/// Writes the index of the nearest centroid of each row of `x` (n, d) into `index` (n), as
/// [`Nearest::assign`] on all threads of the current rayon pool. O(n·k·d).
///
/// # Panics
/// As [`Nearest::assign`].
pub fn assign(nearest: &Nearest, x: ArrayView2<'_, f32>, index: &mut [u32]) {
    assert_eq!(index.len(), x.nrows(), "length of the indices");
    let rows = x.axis_chunks_iter(Axis(0), CHUNK).into_par_iter();
    rows.zip(index.par_chunks_mut(CHUNK)).for_each(|(x, index)| nearest.assign(x, index));
}

/// Moves each of `centroids` (k, d) to the mean of the rows of `x` (n, d) that `index` (n) gives it, row
/// `i` counting `weights[i]` times, at least 0; once without weights. Answers the weight of each; one
/// without weight stays where it was. Summed in f64 in the order of the rows. O(n·d), single-threaded.
///
/// # Panics
/// When the shapes disagree or an index is not below k.
pub fn update(
    x: ArrayView2<'_, f32>,
    index: &[u32],
    weights: Option<&[f32]>,
    mut centroids: ArrayViewMut2<'_, f32>,
) -> Vec<f64> {
    assert_eq!((index.len(), centroids.ncols()), x.dim(), "shape of the rows");
    assert!(weights.is_none_or(|weights| weights.len() == x.nrows()), "one weight per row");
    let mut sums = Array2::<f64>::zeros(centroids.dim());
    let mut total = vec![0.0; centroids.nrows()];
    for (i, (row, &to)) in x.outer_iter().zip(index).enumerate() {
        let weight = weights.map_or(1.0, |weights| f64::from(weights[i]));
        total[to as usize] += weight;
        sums.row_mut(to as usize).zip_mut_with(&row, |sum, x| *sum += weight * f64::from(*x));
    }
    let moved = centroids.outer_iter_mut().zip(sums.outer_iter()).zip(&total);
    for ((mut centroid, sum), total) in moved.filter(|(_, total)| **total > 0.0) {
        centroid.zip_mut_with(&sum, |c, sum| *c = (sum / total) as f32);
    }
    total
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
        self.run(x, None, progress)
    }

    /// As [`fit`](Self::fit), from the centroids `initial` (k, d) instead of random rows.
    ///
    /// # Errors
    /// As for [`fit`](Self::fit).
    ///
    /// # Panics
    /// When `initial` is not (k, d).
    pub fn fit_from<E>(
        &self,
        x: ArrayView2<'_, f32>,
        initial: ArrayView2<'_, f32>,
        progress: &mut dyn FnMut(f32) -> Result<(), E>,
    ) -> Result<Array2<f32>, KMeansError<E>> {
        assert_eq!(initial.dim(), (self.k, x.ncols()), "shape of the centroids");
        self.run(x, Some(initial), progress)
    }

    fn run<E>(
        &self,
        x: ArrayView2<'_, f32>,
        initial: Option<ArrayView2<'_, f32>>,
        progress: &mut dyn FnMut(f32) -> Result<(), E>,
    ) -> Result<Array2<f32>, KMeansError<E>> {
        let n = x.nrows();
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
        let mut centroids = match initial {
            Some(initial) => points.normalised(initial),
            None => {
                let rows = distinct(sample.len(), self.k, || rng.next_u64());
                points.rows.select(Axis(0), &rows)
            }
        };
        let mut state = Assignment::new(sample.len(), self.k, x.ncols());
        for iteration in 0..self.iterations {
            progress(iteration as f32 / self.iterations as f32).map_err(KMeansError::Stopped)?;
            let nearest = Nearest::for_l2_within(centroids.view(), MaxNorm::Of(points.reach));
            let changed = state.assign(&points, centroids.view(), &nearest);
            if !changed {
                break;
            }
            // Rows move much in the first rounds and less and less then.
            let moved_much = iteration == 0 || iteration.is_power_of_two();
            if moved_much && iteration + 1 < self.iterations {
                state.groups.regroup(
                    &nearest,
                    centroids.view(),
                    points.rows.view(),
                    &state.nearest,
                );
            }
            state.update(&points, &mut centroids);
            state.repair(&points, &mut centroids, &mut rng);
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
        let mut rows = distinct(n, wanted, || rng.next_u64());
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
    /// The largest norm of a normalised row.
    reach: f64,
}

impl Points {
    fn gather(x: ArrayView2<'_, f32>, sample: &[usize]) -> Self {
        Self { rows: gather_rows(x, sample), shift: vec![0.0; x.ncols()], scale: 1.0, reach: 0.0 }
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
                rest.position(|value| !value.is_finite()).map(|i| (chunk * CHUNK + i) / self.dim())
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
                let rows: Vec<Move> =
                    (chunk * CHUNK..last).map(|row| Move { row: row as u32, sign: 1.0 }).collect();
                let mut sums = vec![0.0; d];
                add_moves(self.values(), &rows, &mut sums);
                sums
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
        let largest = self
            .rows
            .as_slice_mut()
            .expect("the layout is standard")
            .par_chunks_mut(CHUNK * d)
            .map(|rows| {
                let mut largest = 0.0_f32;
                for row in rows.chunks_exact_mut(d) {
                    for (value, shift) in row.iter_mut().zip(shift) {
                        *value = ((f64::from(*value) - shift) * scale) as f32;
                    }
                    let (fours, rest) = row.as_chunks::<4>();
                    let mut sums = [0.0; 4];
                    for four in fours {
                        sums.iter_mut().zip(four).for_each(|(sum, value)| *sum += value * value);
                    }
                    let rest: f32 = rest.iter().map(|value| value * value).sum();
                    largest = largest.max(sums.iter().sum::<f32>() + rest);
                }
                largest
            })
            .reduce(|| 0.0, f32::max);
        // With what f32 rounds; a hint, on which no result depends.
        self.reach = 1.001 * f64::from(largest).sqrt();
    }

    /// Rows of the caller in the space of the normalised ones.
    fn normalised(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut rows = rows.to_owned();
        for mut row in rows.outer_iter_mut() {
            for (value, shift) in row.iter_mut().zip(&self.shift) {
                *value = ((f64::from(*value) - shift) * self.scale) as f32;
            }
        }
        rows
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

/// Which rows belong to which centroid, and the sum of each centroid's rows.
///
/// Sums follow the rows that move, in the order of the rows: after the first rounds few do.
struct Assignment {
    nearest: Vec<u32>,
    previous: Vec<u32>,
    groups: Groups,
    /// (k, d).
    sums: Array2<f64>,
    /// Rows of each centroid.
    sizes: Vec<usize>,
    /// Rows that the last assignment moved, ascending.
    moved: Vec<usize>,
    /// Moves grouped by centroid, ascending by row within each group.
    moves: Vec<Move>,
    /// Group `j` is `moves[starts[j]..starts[j + 1]]`.
    starts: Vec<usize>,
}

/// A row that comes to a cluster or leaves it.
#[derive(Clone, Copy)]
struct Move {
    row: u32,
    /// 1 or −1.
    sign: f32,
}

/// Belongs to no centroid yet.
const NOWHERE: u32 = u32::MAX;

impl Assignment {
    fn new(n: usize, k: usize, d: usize) -> Self {
        Self {
            nearest: vec![NOWHERE; n],
            previous: vec![NOWHERE; n],
            groups: Groups::default(),
            sums: Array2::zeros((k, d)),
            sizes: vec![0; k],
            moved: Vec::new(),
            moves: Vec::new(),
            starts: vec![0; k + 1],
        }
    }

    /// Step 3, first half; false when no row moved.
    fn assign(
        &mut self,
        points: &Points,
        centroids: ArrayView2<'_, f32>,
        nearest: &Nearest,
    ) -> bool {
        std::mem::swap(&mut self.nearest, &mut self.previous);
        if !self.groups.assign(nearest, centroids, points.rows.view(), &mut self.nearest) {
            assign(nearest, points.rows.view(), &mut self.nearest);
        }
        self.collect_moves();
        !self.moves.is_empty()
    }

    fn collect_moves(&mut self) {
        /// Rows that are compared at once: most stay where they are.
        const RUN: usize = 64;
        let Self { nearest, previous, sizes, moved, moves, starts, .. } = self;
        moved.clear();
        for (run, (from, to)) in previous.chunks(RUN).zip(nearest.chunks(RUN)).enumerate() {
            if from != to {
                let first = run * RUN;
                moved
                    .extend((first..first + to.len()).filter(|i| from[i - first] != to[i - first]));
            }
        }
        starts.fill(0);
        for &row in &*moved {
            let (from, to) = (previous[row], nearest[row]);
            sizes[to as usize] += 1;
            starts[to as usize + 1] += 1;
            if from != NOWHERE {
                sizes[from as usize] -= 1;
                starts[from as usize + 1] += 1;
            }
        }
        for j in 1..starts.len() {
            starts[j] += starts[j - 1];
        }
        moves.clear();
        moves.resize(starts[starts.len() - 1], Move { row: 0, sign: 0.0 });
        let mut next = starts.clone();
        let mut put = |j: u32, row: usize, sign| {
            moves[next[j as usize]] = Move { row: row as u32, sign };
            next[j as usize] += 1;
        };
        for &row in &*moved {
            if previous[row] != NOWHERE {
                put(previous[row], row, -1.0);
            }
            put(nearest[row], row, 1.0);
        }
    }

    /// Step 3, second half: means of the clusters that have rows.
    fn update(&mut self, points: &Points, centroids: &mut Array2<f32>) {
        let Self { sums, sizes, moves, starts, .. } = self;
        let clusters = sums.axis_iter_mut(Axis(0)).into_par_iter().zip(&*sizes).enumerate();
        clusters.zip(centroids.axis_iter_mut(Axis(0))).for_each(
            |((j, (mut sums, &size)), mut centroid)| {
                let moves = &moves[starts[j]..starts[j + 1]];
                if moves.is_empty() {
                    return;
                }
                if size == 0 {
                    // Nothing of what rounding left stays.
                    sums.fill(0.0);
                    return;
                }
                let sums = sums.as_slice_mut().expect("the layout is standard");
                add_moves(points.values(), moves, sums);
                for (mean, sum) in centroid.iter_mut().zip(sums) {
                    *mean = (*sum / size as f64) as f32;
                }
            },
        );
    }

    /// Step 4. A cluster of equal rows has no spread and is not split.
    fn repair(&self, points: &Points, centroids: &mut Array2<f32>, rng: &mut ChaCha8Rng) {
        let k = centroids.nrows();
        let empty: Vec<usize> = (0..k).filter(|&j| self.sizes[j] == 0).collect();
        if empty.is_empty() {
            return;
        }
        // (rows, lowest index first, the cluster that these rows came from)
        let mut largest: BinaryHeap<(usize, Reverse<usize>, usize)> =
            (0..k).map(|j| (self.sizes[j], Reverse(j), j)).filter(|(rows, ..)| *rows > 1).collect();
        let mut spreads: HashMap<usize, Vec<f64>> = HashMap::new();
        let split = SPLIT / (points.dim() as f64).sqrt();
        for to in empty {
            let Some((rows, from, origin)) =
                std::iter::from_fn(|| largest.pop()).find(|&(.., origin)| {
                    let spread =
                        spreads.entry(origin).or_insert_with(|| self.spread(points, origin));
                    spread.iter().any(|deviation| *deviation > 0.0)
                })
            else {
                return;
            };
            for (dimension, deviation) in spreads[&origin].iter().enumerate() {
                let sign = if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
                let step = (sign * split * deviation) as f32;
                let centre = centroids[[from.0, dimension]];
                centroids[[from.0, dimension]] = centre + step;
                centroids[[to, dimension]] = centre - step;
            }
            largest.push((rows.div_ceil(2), from, origin));
            largest.push((rows / 2, Reverse(to), origin));
        }
    }

    /// Standard deviation of cluster `j` in each dimension.
    fn spread(&self, points: &Points, j: usize) -> Vec<f64> {
        // Summed anew: equal rows must have no spread at all.
        let rows = || {
            let pairs = points.rows.outer_iter().zip(&self.nearest);
            pairs.filter(|(_, nearest)| **nearest as usize == j).map(|(row, _)| row)
        };
        let size = self.sizes[j] as f64;
        let mut mean = vec![0.0_f64; points.dim()];
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value));
        }
        mean.iter_mut().for_each(|mean| *mean /= size);
        let mut spread = vec![0.0_f64; points.dim()];
        for row in rows() {
            for ((spread, &value), mean) in spread.iter_mut().zip(row).zip(&mean) {
                *spread += (f64::from(value) - mean).powi(2);
            }
        }
        for sum in &mut spread {
            *sum = (*sum / size).sqrt();
        }
        spread
    }
}

/// `sums += Σ sign · values[row · d ..][..d]` over the moves, in their order.
fn add_moves(values: &[f32], moves: &[Move], sums: &mut [f64]) {
    Path::fastest().run(
        #[inline(always)]
        || add_each(values, moves, sums),
    );
}

#[inline(always)]
fn add_each(values: &[f32], moves: &[Move], sums: &mut [f64]) {
    let d = sums.len();
    for &Move { row, sign } in moves {
        let row = &values[row as usize * d..][..d];
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(sign * value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Panels;
    use crate::distance::l2_sq;
    use ndarray::{array, s};
    use proptest::prelude::*;

    fn noise(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((n, d), || (rng.next_u32() >> 8) as f32 / 1e6 - 8.0)
    }

    fn settings(k: usize, iterations: usize) -> KMeans {
        KMeans { k, iterations, seed: 7, max_points_per_centroid: 256 }
    }

    fn fit(kmeans: KMeans, x: ArrayView2<'_, f32>) -> Array2<f32> {
        kmeans.fit::<std::convert::Infallible>(x, &mut |_| Ok(())).unwrap()
    }

    fn objective(x: &Array2<f32>, centroids: &Array2<f32>) -> f64 {
        x.outer_iter()
            .map(|x| {
                centroids
                    .outer_iter()
                    .map(|c| l2_sq(x.as_slice().unwrap(), c.as_slice().unwrap()))
                    .fold(f64::INFINITY, f64::min)
            })
            .sum()
    }

    fn cluster_sizes(x: &Array2<f32>, centroids: &Array2<f32>) -> Vec<usize> {
        let (mut index, mut score) = (vec![0; x.nrows()], vec![0.0; x.nrows()]);
        Panels::for_l2(centroids.view()).nearest(x.view(), &mut index, &mut score);
        let mut sizes = vec![0; centroids.nrows()];
        for j in index {
            sizes[j as usize] += 1;
        }
        sizes
    }

    #[test]
    fn the_steps_one_by_one_are_a_round() {
        let x = noise(500, 5, 3);
        let start = x.slice(s![..9, ..]).to_owned();
        let mut centroids = start.clone();
        let mut index = vec![0; 500];
        assign(&Nearest::for_l2(centroids.view()), x.view(), &mut index);
        let sizes = update(x.view(), &index, None, centroids.view_mut());
        assert_eq!(sizes.iter().sum::<f64>(), 500.0);
        let mut progress = |_: f32| Ok::<(), std::convert::Infallible>(());
        let found = settings(9, 1).fit_from(x.view(), start.view(), &mut progress).unwrap();
        assert!((&found - &centroids).iter().all(|error| error.abs() < 1e-4));
        // A row of weight 3 is the row three times; none keeps the centroid.
        let mut centroids = array![[0.0_f32], [7.0]];
        let x = array![[1.0_f32], [2.0], [9.0]];
        let total = update(x.view(), &[0, 0, 1], Some(&[1.0, 3.0, 0.0]), centroids.view_mut());
        assert_eq!((centroids, total), (array![[1.75], [7.0]], vec![4.0, 0.0]));
    }

    #[test]
    fn a_start_of_ones_own_is_gone_on_from() {
        let x = ndarray::array![[100.0_f32], [101.0], [200.0], [201.0], [300.0], [301.0]];
        let go_on = |iterations: usize, initial: ArrayView2<'_, f32>| {
            let mut progress = |_: f32| Ok::<(), std::convert::Infallible>(());
            settings(2, iterations).fit_from(x.view(), initial, &mut progress).unwrap()
        };
        let start = ndarray::array![[150.0_f32], [290.0]];
        assert_eq!(go_on(9, start.view()), ndarray::array![[150.5], [300.5]]);
        let other = ndarray::array![[250.0_f32], [90.0]];
        assert_eq!(go_on(9, other.view()), ndarray::array![[250.5], [100.5]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn threads_change_nothing(n in 1_usize..5000, d in 0_usize..9, k in 1_usize..40, seed in any::<u64>()) {
            // Rounded, so that rows repeat and clusters become empty.
            let x = noise(n, d, seed).mapv(|value| (value / 4.0).round());
            let kmeans = KMeans { k, iterations: 5, seed, max_points_per_centroid: 50 };
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| fit(kmeans, x.view()))
            };
            let one = on(1);
            prop_assert!(one.iter().all(|value| value.is_finite()));
            prop_assert_eq!(&one, &on(2));
            prop_assert_eq!(&one, &on(3));
        }
    }

    #[test]
    fn more_iterations_never_raise_the_objective() {
        let x = noise(3000, 6, 1);
        let mut last = f64::INFINITY;
        for iterations in 0..20 {
            let now = objective(&x, &fit(settings(40, iterations), x.view()));
            assert!(now <= last * (1.0 + 1e-6), "{iterations}: {now} after {last}");
            last = now;
        }
    }

    #[test]
    fn separated_clusters_are_found_exactly() {
        let centres = array![[0.0_f32, 0.0], [900.0, 0.0], [0.0, 900.0]];
        let mut x = noise(300, 2, 2);
        for (i, mut row) in x.outer_iter_mut().enumerate() {
            row += &centres.row(i % 3);
        }
        // Several starts: Lloyd's algorithm may stop in a local optimum, but not from all of them.
        let best = (0..8)
            .map(|seed| fit(KMeans { seed, ..settings(3, 50) }, x.view()))
            .min_by(|a, b| objective(&x, a).total_cmp(&objective(&x, b)))
            .unwrap();
        for first in 0..3 {
            let mean = x.slice(s![first..;3, ..]).mapv(f64::from).mean_axis(Axis(0)).unwrap();
            assert!(
                best.outer_iter().any(|c| {
                    c.iter().zip(&mean).all(|(c, m)| (f64::from(*c) - m).abs() < 1e-3)
                })
            );
        }
    }

    #[test]
    fn empty_clusters_take_rows_from_the_largest() {
        // Most rows are equal: most of the first centroids coincide.
        let mut x = Array2::from_elem((2000, 3), 1.0);
        x.slice_mut(s![..;10, ..]).assign(&noise(200, 3, 3));
        let centroids = fit(settings(50, 30), x.view());
        let empty = cluster_sizes(&x, &centroids).iter().filter(|size| **size == 0).count();
        assert!(empty <= 1, "{empty} empty clusters");
    }

    #[test]
    fn equal_rows_give_that_row() {
        let x = Array2::from_elem((100, 3), 0.1);
        assert_eq!(fit(settings(7, 10), x.view()), Array2::from_elem((7, 3), 0.1));
    }

    #[test]
    fn fewer_rows_than_centroids_repeat_in_order() {
        let x = array![[1.0_f32, 2.0], [3.0, 4.0]];
        let expected = array![[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0], [1.0, 2.0]];
        assert_eq!(fit(settings(5, 10), x.view()), expected);
    }

    #[test]
    fn a_column_slice_trains_like_its_copy() {
        let wide = noise(500, 12, 4);
        let slice = wide.slice(s![.., 4..8]);
        assert_eq!(fit(settings(16, 10), slice), fit(settings(16, 10), slice.to_owned().view()));
    }

    #[test]
    fn huge_and_tiny_data_train_like_moderate_data() {
        let x = noise(500, 4, 5);
        let expected = fit(settings(16, 10), x.view());
        for scale in [2.0_f32.powi(100), 2.0_f32.powi(-100)] {
            assert_eq!(fit(settings(16, 10), (&x * scale).view()), &expected * scale);
        }
    }

    #[test]
    fn a_far_offset_costs_no_quality() {
        // Multiples of 1/64 stay exact at an offset of 100,000.
        let x = noise(2000, 4, 6).mapv(|value| (value * 64.0).round() / 64.0);
        let far = x.mapv(|value| value + 1e5);
        let near = objective(&x, &fit(settings(32, 15), x.view()));
        let moved = objective(&far, &fit(settings(32, 15), far.view()));
        assert!((moved / near - 1.0).abs() < 0.01, "{moved} against {near}");
    }

    #[test]
    fn refusals_say_why() {
        let run = |kmeans: KMeans, x: &Array2<f32>| {
            kmeans.fit(x.view(), &mut |done| {
                if done > 0.4 { Err("enough") } else { Ok(()) }
            })
        };
        let mut x = noise(100, 2, 8);
        assert!(matches!(run(settings(4, 10), &Array2::zeros((0, 2))), Err(KMeansError::NoRows)));
        assert!(matches!(run(settings(0, 10), &x), Err(KMeansError::NoCentroids)));
        assert!(matches!(run(settings(4, 10), &x), Err(KMeansError::Stopped("enough"))));
        x[[70, 1]] = f32::NAN;
        x[[71, 0]] = f32::INFINITY;
        assert!(matches!(run(settings(4, 10), &x), Err(KMeansError::NonFinite { row: 70 })));
    }
}
