//! k-means that grows through principal dimensions: plain k-means from random rows gets stuck early
//! where residuals look like noise in many dimensions.
//!
//! 1. Find the leading principal directions of the points.
//! 2. k-means on the first 1, 2, 4, … of them, each run starting where the one before it ended.
//! 3. k-means in all dimensions, from the centroids of the last.
//!
//! The warm start in sub-spaces is Liu, Lu, Xu 2015, section 3.1.

use crate::failed;
use ndarray::{Array2, Axis, Slice};
use rayon::prelude::*;
use vq_kernels::{KMeans, Panels, pca};
use vq_plugin_api::Error;

/// Numbers of dimensions on the way: those of `d^(i/STAGES)`.
const STAGES: i32 = 10;

/// Most principal directions.
const MAX_DIRECTIONS: usize = 64;

/// What all stages cost beside the last run, roughly, at its default of 25 rounds: for the progress.
const STAGES_SHARE: f32 = 0.2;

/// Most rounds of k-means in a sub-space.
const STAGE_ITERATIONS: usize = 4;

/// Rows of one task.
const BLOCK: usize = 1024;

/// Learns centroids (k, d) of `x` (n, d).
pub(super) fn centroids(
    kmeans: KMeans,
    mut x: Array2<f32>,
    progress: &mut dyn FnMut(f32) -> Result<(), Error>,
) -> Result<Array2<f32>, Error> {
    let (n, dim) = x.dim();
    let mut stages: Vec<usize> = (1..STAGES)
        .map(|i| (dim as f64).powf(f64::from(i) / f64::from(STAGES)) as usize)
        .filter(|dims| *dims < dim && *dims <= MAX_DIRECTIONS)
        .collect();
    stages.dedup();
    let (Some(&most), true) = (stages.last(), n > kmeans.k) else {
        return kmeans.fit(x.view(), progress).map_err(failed);
    };

    let mean = x.mean_axis(Axis(0)).ok_or_else(|| Error::failed("no rows to train on"))?;
    x.axis_chunks_iter_mut(Axis(0), BLOCK).into_par_iter().for_each(|mut rows| rows -= &mean);
    let directions = pca::leading(x.view(), most, kmeans.seed);
    progress(0.0)?;
    let mut projected = Array2::zeros((n, most));
    let panels = Panels::for_ip(directions.view());
    x.axis_chunks_iter(Axis(0), BLOCK)
        .into_par_iter()
        .zip(projected.axis_chunks_iter_mut(Axis(0), BLOCK))
        .for_each(|(x, projected)| panels.scores(x, projected));

    let mut start: Option<Array2<f32>> = None;
    for (i, &dims) in stages.iter().enumerate() {
        let at = |done: f32| STAGES_SHARE * (i as f32 + done) / stages.len() as f32;
        let mut progress = |done: f32| progress(at(done));
        let points = projected.slice_axis(Axis(1), Slice::from(..dims));
        let stage = KMeans { iterations: kmeans.iterations.min(STAGE_ITERATIONS), ..kmeans };
        start = Some(match start {
            None => stage.fit(points, &mut progress).map_err(failed)?,
            Some(previous) => {
                // What the new dimensions add to a centroid starts at their mean, zero.
                let mut initial = Array2::zeros((kmeans.k, dims));
                let same = Slice::from(..previous.ncols());
                initial.slice_axis_mut(Axis(1), same).assign(&previous);
                stage.fit_from(points, initial.view(), &mut progress).map_err(failed)?
            }
        });
    }
    // Back from the sub-space: zero in the directions that were not looked at.
    let mut initial = Array2::zeros((kmeans.k, dim));
    if let Some(start) = start {
        Panels::for_ip(directions.t()).scores(start.view(), initial.view_mut());
    }
    let mut progress = |done: f32| progress(STAGES_SHARE + (1.0 - STAGES_SHARE) * done);
    let found = kmeans.fit_from(x.view(), initial.view(), &mut progress).map_err(failed)?;
    Ok(found + &mean)
}
