//! Layer by layer: k-means on what all kept partial codes left, then the beam goes one layer on.

use super::layers::{BLOCK, Beams, Layers, centre_of};
use super::{Shape, cluster};
use crate::Training;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::{Draw, KMeans};
use vq_plugin_api::Error;

/// Blocks that go one layer on between two looks at `progress`.
const BLOCKS_AT_ONCE: usize = 64;

/// Learns centroids (layers, 2^bits, d) from `train` (n, d).
///
/// O(layers · (iterations · n·2^bits·d) + the cost of encoding n rows); memory for the normalised
/// rows, one residual per training point of k-means, and the codes of the beams.
pub(super) fn centroids(
    shape: Shape,
    train: ArrayView2<'_, f32>,
    training: Training,
    seed: u64,
    progress: &dyn Fn(f32, &str) -> Result<(), Error>,
) -> Result<Vec<f32>, Error> {
    if train.nrows() == 0 {
        return Err(Error::failed("no rows to train on"));
    }
    let dim = train.ncols();
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
        let fraction = |done: f32| (layer as f32 + done) / layers as f32;
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
            beams[first..last].par_iter_mut().enumerate().with_max_len(1).for_each(|(i, beams)| {
                learned.extend(block(x.view(), first + i), beams);
            });
        }
    }
    progress(1.0, "codes of a layer")?;

    let mut centroids = Vec::with_capacity(layers * k * dim);
    let scale = f64::from(learned.normal.scale);
    for (l, layer) in learned.layers.iter().enumerate() {
        for row in layer.centroids.outer_iter() {
            for (c, shift) in row.iter().zip(&learned.normal.shift) {
                let shift = if l == 0 { f64::from(*shift) } else { 0.0 };
                let value = ((f64::from(*c) + shift) / scale) as f32;
                centroids.push(value.clamp(f32::MIN, f32::MAX));
            }
        }
    }
    Ok(centroids)
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
