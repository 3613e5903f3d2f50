//! Layer by layer: k-means on what all kept partial codes left, then the beam goes one layer on. At the end
//! all centroids move jointly; with a search once with it and once without, and what errs less stays.

use super::descent::{Descent, Start};
use super::layers::{BLOCK, Beams, Layers, centre_of};
use super::{Search, Shape, cluster, joint as least_squares};
use crate::Training;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::moments::mean_and_deviation;
use vq_kernels::{Draw, KMeans};
use vq_plugin_api::Error;

/// Blocks that go one layer on between two looks at `progress`.
const BLOCKS_AT_ONCE: usize = 64;

/// Most tries of the search that two results of training are compared by. What is learned with a search needs as
/// many as encoding has: on 20,000 rows of SIFT, 8 layers, it errs more than the other by 6 tries and 9 % less by 16.
const MOST_JUDGED: usize = 16;

/// How the layers of a sub-space are learned.
pub(super) struct Learning {
    pub(super) shape: Shape,
    pub(super) training: Training,
    /// Rounds of moving all centroids.
    pub(super) joint: usize,
    pub(super) search: Option<Search>,
    /// What is drawn in encoding, with the row.
    pub(super) encoding_seed: u64,
}

impl Learning {
    /// Learns centroids (layers, 2^bits, d) from `train` (n, d).
    ///
    /// O(layers · (iterations · n·2^bits·d) + the cost of encoding n rows 1 + joint times); memory for the
    /// normalised rows, one residual per training point of k-means, and the codes of the beams.
    pub(super) fn centroids(
        &self,
        train: ArrayView2<'_, f32>,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<Vec<f32>, Error> {
        let (mut learned, x, rows, mut draw) = self.layers(train, seed, progress)?;
        let layers = self.shape.layers;
        let Some(search) = self.search else {
            self.jointly(&mut learned, x.view(), (layers, self.joint), None, &mut draw, progress)?;
            progress(1.0, "codes of a layer")?;
            return Ok(learned.as_they_add_up());
        };
        let mut plain = learned.again();
        let rounds = (layers, search.plain);
        self.jointly(&mut plain, x.view(), rounds, None, &mut draw, progress)?;
        let rounds = (layers + search.plain, self.joint);
        self.jointly(&mut learned, x.view(), rounds, Some(search), &mut draw, progress)?;
        drop(x);
        let found = [plain, learned].map(|layers| layers.as_they_add_up());
        let mut errors = [0.0; 2];
        for (error, centroids) in errors.iter_mut().zip(&found) {
            progress(self.at((layers + search.plain + self.joint) as f32), "which errs less")?;
            *error = self.error(centroids, train, &rows, search);
        }
        progress(1.0, "which errs less")?;
        let [plain, searched] = found;
        Ok(if errors[0] < errors[1] { plain } else { searched })
    }

    /// The squared error of those `rows` of `train` by `centroids`, encoded with the search, or with a part of it:
    /// more tries go on from fewer, so that they never err more. What a search starts from is the beam's code,
    /// so that it never errs more than that either.
    fn error(
        &self,
        centroids: &[f32],
        train: ArrayView2<'_, f32>,
        rows: &[usize],
        search: Search,
    ) -> f64 {
        let layers = Layers::of(centroids, self.shape, train.ncols());
        let descent = Descent::of(&layers);
        let tries = search.tries.min(MOST_JUDGED);
        let start = Start { tries, drawn: search.drawn, seed: self.encoding_seed };
        let of_block = |rows: &[usize]| {
            let x = layers.normalised(train.select(Axis(0), rows).view());
            let mut codes = vec![0_u16; rows.len() * self.shape.layers];
            layers.encode(x.view(), &mut codes);
            descent.better(&layers, x.view(), &mut codes, start);
            let mut sum = vec![0.0; x.ncols()];
            let codes = codes.chunks_exact(self.shape.layers);
            x.outer_iter().zip(codes).map(|(x, code)| layers.error(x, code, &mut sum)).sum::<f64>()
        };
        let errors: Vec<f64> = rows.par_chunks(BLOCK).with_max_len(1).map(of_block).collect();
        layers.unscale() * errors.iter().sum::<f64>()
    }

    /// How far rounds of k-means and joint rounds are, which take about as long.
    fn at(&self, done: f32) -> f32 {
        let searched = self.search.map_or(0, |search| search.plain + 1);
        done / (self.shape.layers + self.joint + searched) as f32
    }

    /// The layers one by one, the rows (n, d) that they were learned from, normalised, their numbers, and what
    /// is left of the random numbers.
    fn layers(
        &self,
        train: ArrayView2<'_, f32>,
        seed: u64,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<(Layers, Array2<f32>, Vec<usize>, Draw), Error> {
        let Learning { shape, training, .. } = *self;
        if train.nrows() == 0 {
            return Err(Error::failed("no rows to train on"));
        }
        let (k, layers) = (shape.k(), shape.layers);
        let points = k.saturating_mul(training.points_per_centroid);
        let mut draw = Draw::new(seed);
        let rows: Vec<usize> = draw.strata(train.nrows(), points).collect();
        let sample = train.select(Axis(0), &rows);
        if let Some(row) = sample.outer_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(Error::failed(format!("training row {} is not finite", rows[row])));
        }

        let mut learned = Layers::within(centre_of(sample.view()), shape);
        let mut x = Array2::zeros(sample.dim());
        for (row, mut to) in sample.outer_iter().zip(x.outer_iter_mut()) {
            if let (Some(row), Some(to)) = (row.to_slice(), to.as_slice_mut()) {
                learned.normalise(row, to);
            }
        }
        drop(sample);
        let mut beams: Vec<Beams> =
            x.axis_chunks_iter(Axis(0), BLOCK).map(|rows| Beams::new(rows.nrows())).collect();
        for layer in 0..layers {
            // k-means is the larger part of a layer's time.
            let fraction = |done: f32| self.at(layer as f32 + done);
            let residuals = residuals(&learned, x.view(), &beams, points, &mut draw);
            let kmeans = KMeans {
                k,
                iterations: training.iterations,
                seed: draw.word(),
                max_points_per_centroid: training.points_per_centroid,
            };
            let mut told = |done: f32| progress(fraction(0.8 * done), "k-means of a layer");
            learned.push(cluster::centroids(kmeans, residuals, &mut told)?);
            if layer + 1 == layers {
                break;
            }
            for first in (0..beams.len()).step_by(BLOCKS_AT_ONCE) {
                let done = first as f32 / beams.len() as f32;
                progress(fraction(0.8 + 0.2 * done), "codes of a layer")?;
                let last = (first + BLOCKS_AT_ONCE).min(beams.len());
                beams[first..last].par_iter_mut().enumerate().with_max_len(1).for_each(
                    |(i, beams)| {
                        learned.extend(block(x.view(), first + i), beams);
                    },
                );
            }
        }
        Ok((learned, x, rows, draw))
    }

    /// Encodes the rows `x` (n, d), normalised, and moves all centroids to where these codes are nearest to
    /// them, in turn, `rounds` times. With a search, codes start from those of the round before. `first` is what
    /// was done before, for the progress.
    fn jointly(
        &self,
        learned: &mut Layers,
        x: ArrayView2<'_, f32>,
        (first, rounds): (usize, usize),
        search: Option<Search>,
        draw: &mut Draw,
        progress: &dyn Fn(f32, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let layers = self.shape.layers;
        let mut codes = vec![0_u16; x.nrows() * layers];
        let mut centroids: Vec<_> =
            learned.layers.iter().map(|layer| layer.centroids.clone()).collect();
        for round in 0..rounds {
            progress(self.at((first + round) as f32), "all layers")?;
            let descent = search.map(|search| {
                let Search { training_tries: tries, drawn, .. } = search;
                let start = Start { tries, drawn, seed: draw.word() };
                (Descent::of(learned), start)
            });
            let rows = x.axis_chunks_iter(Axis(0), BLOCK).into_par_iter();
            rows.zip(codes.par_chunks_mut(BLOCK * layers)).with_max_len(1).for_each(
                |(x, codes)| {
                    if round == 0 || descent.is_none() {
                        learned.encode(x, codes);
                    }
                    if let Some((descent, start)) = &descent {
                        descent.better(learned, x, codes, *start);
                    }
                },
            );
            least_squares::move_to(&mut centroids, x, &codes);
            let mut next = Layers::within(learned.normal.clone(), self.shape);
            // The square root of the rounds to come: Martinez 2018, SR-D.
            let left = 1.0 - (round + 1) as f64 / rounds as f64;
            let noise = search.map_or(0.0, |search| search.noise * left.sqrt()) * few(layers);
            let deviation = if noise > 0.0 { deviations(x) } else { Vec::new() };
            for centroids in &centroids {
                let mut centroids = centroids.clone();
                for mut row in centroids.outer_iter_mut().filter(|_| noise > 0.0) {
                    for (c, deviation) in row.iter_mut().zip(&deviation) {
                        // Four uniform numbers are nearly normal, and the same on every machine.
                        let four: f64 = (0..4).map(|_| draw.uniform() - 0.5).sum();
                        *c += (four * 3.0_f64.sqrt() * noise * deviation / layers as f64) as f32;
                    }
                }
                next.push(centroids);
            }
            *learned = next;
        }
        Ok(())
    }
}

/// The noises of all layers add up to a deviation of 1/√layers: of fewer layers than eight no more than of eight,
/// or they drown what the codes say.
fn few(layers: usize) -> f64 {
    (layers as f64 / 8.0).sqrt().min(1.0)
}

/// Standard deviation of each column of finite rows.
fn deviations(x: ArrayView2<'_, f32>) -> Vec<f64> {
    let Ok((_, deviations)) =
        mean_and_deviation(x, &mut |_| Ok::<(), std::convert::Infallible>(()));
    deviations
}

/// Rows of block `i`.
fn block(x: ArrayView2<'_, f32>, i: usize) -> ArrayView2<'_, f32> {
    let last = ((i + 1) * BLOCK).min(x.nrows());
    let (_, tail) = x.split_at(Axis(0), i * BLOCK);
    tail.split_at(Axis(0), last - i * BLOCK).0
}

/// What the partial codes of all beams left, or of `points` of them.
fn residuals(
    learned: &Layers,
    x: ArrayView2<'_, f32>,
    beams: &[Beams],
    points: usize,
    draw: &mut Draw,
) -> Array2<f32> {
    let width = beams.first().map_or(1, |beams| beams.width);
    let chosen: Vec<usize> = draw.strata(x.nrows() * width, points).collect();
    let mut residuals = Array2::zeros((chosen.len(), x.ncols()));
    let pairs = residuals.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter();
    pairs.zip(chosen.par_chunks(BLOCK)).for_each(|(mut residuals, chosen)| {
        for (residual, code) in residuals.outer_iter_mut().zip(chosen) {
            let (row, rank) = (code / width, code % width);
            let code = beams[row / BLOCK].code(row % BLOCK, rank);
            learned.residual(x.row(row), code, residual);
        }
    });
    residuals
}
