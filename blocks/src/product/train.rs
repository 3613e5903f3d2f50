//! k-means in every sub-space, side by side: the centroids are the same on any number of threads.

use super::Product;
use crate::Training;
use ndarray::{ArrayView2, Axis, Slice};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};
use vq_kernels::KMeans;
use vq_kernels::draw::seed_of;
use vq_plugin_api::Error;

/// Learns centroids (m, 2^bits, d/m) from `x` (n, d), from random rows or from those of `product`.
pub(super) fn centroids(
    product: &Product,
    x: ArrayView2<'_, f32>,
    training: Training,
    seed: u64,
    progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
    go_on: bool,
) -> Result<Vec<f32>, Error> {
    let (m, sub, k) = (product.m, product.sub, product.k());
    let turned = product.frame().map(|frame| frame.apply(x));
    let x = turned.as_ref().map_or(x, |turned| turned.view());
    let told = Mutex::new(Progress { done: vec![0.0; m], stopped: false });
    let mut centroids = vec![0.0_f32; m * k * sub];
    let parts = centroids.par_chunks_mut(k * sub).enumerate().with_max_len(1);
    parts.try_for_each(|(j, centroids)| {
        let kmeans = KMeans {
            k,
            iterations: training.iterations,
            seed: seed_of(seed, j as u64),
            max_points_per_centroid: training.points_per_centroid,
        };
        let part = x.slice_axis(Axis(1), Slice::from(j * sub..(j + 1) * sub));
        let mut progress = |fraction: f32| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.done[j] = fraction;
            told.tell(progress)
        };
        let found = if go_on {
            let start = &product.centroids[j * k * sub..][..k * sub];
            let start = ArrayView2::from_shape((k, sub), start)
                .map_err(|e| Error::failed(e.to_string()))?;
            kmeans.fit_from(part, start, &mut progress)
        } else {
            kmeans.fit(part, &mut progress)
        };
        // A step of k-means can round a centroid of huge values to infinity.
        for (to, value) in centroids.iter_mut().zip(&found.map_err(crate::failed)?) {
            *to = value.clamp(f32::MIN, f32::MAX);
        }
        Ok(())
    })?;
    Ok(centroids)
}

/// How far the sub-spaces are. Locked while the host is told, so that what it hears never goes back, and
/// it is not asked again once it said stop.
struct Progress {
    done: Vec<f32>,
    stopped: bool,
}

impl Progress {
    fn tell(&mut self, progress: &dyn Fn(f32) -> Result<(), Error>) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::cancelled());
        }
        let all = self.done.iter().sum::<f32>() / self.done.len() as f32;
        progress(all.min(1.0)).inspect_err(|_| self.stopped = true)
    }
}
