//! k-means in every sub-space, side by side: the centroids are the same on any number of threads.

use crate::Split;
use ndarray::{ArrayView2, Axis, Slice};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};
use vq_kernels::{KMeans, KMeansError};
use vq_plugin_api::{Context, Error};

/// Learns centroids (m, 2^bits, d/m) from `train` (n, d). O(iterations · n · 2^bits · d).
pub(crate) fn centroids(
    params: &Split,
    train: ArrayView2<'_, f32>,
    ctx: &Context<'_>,
) -> Result<Vec<f32>, Error> {
    let (m, sub) = (params.m, train.ncols() / params.m);
    let k = 1 << params.bits;
    let told = Mutex::new(Told { done: vec![0.0; m], stopped: false });
    let mut centroids = vec![0.0_f32; m * k * sub];
    let parts = centroids.par_chunks_mut(k * sub).enumerate().with_max_len(1);
    parts.try_for_each(|(j, centroids)| {
        let kmeans = KMeans {
            k,
            iterations: params.iterations,
            seed: seed_of(ctx.seed(), j as u64),
            max_points_per_centroid: params.points_per_centroid,
        };
        let part = train.slice_axis(Axis(1), Slice::from(j * sub..(j + 1) * sub));
        let mut progress = |fraction: f32| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.done[j] = fraction;
            told.tell(ctx)
        };
        let found = kmeans.fit(part, &mut progress).map_err(|error| match error {
            KMeansError::Stopped(stopped) => stopped,
            other => Error::failed(other.to_string()),
        })?;
        // A step of k-means can round a centroid of huge values to infinity.
        for (to, value) in centroids.iter_mut().zip(&found) {
            *to = value.clamp(f32::MIN, f32::MAX);
        }
        Ok(())
    })?;
    Ok(centroids)
}

/// How far the sub-spaces are. Locked while the host is told, so that what it hears never goes back, and
/// it is not asked again once it said stop.
struct Told {
    done: Vec<f32>,
    stopped: bool,
}

impl Told {
    fn tell(&mut self, ctx: &Context<'_>) -> Result<(), Error> {
        if self.stopped {
            return Err(Error::cancelled());
        }
        let all = self.done.iter().sum::<f32>() / self.done.len() as f32;
        ctx.progress(all.min(1.0), "k-means in sub-spaces").inspect_err(|_| self.stopped = true)
    }
}

/// A seed for part `j`, spread by the finaliser of splitmix64 so that neighbours share nothing.
fn seed_of(seed: u64, j: u64) -> u64 {
    let mut z = seed.wrapping_add((j + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
