//! k-means in every sub-space, one after the other: each run uses all threads and leaves the same
//! centroids on any number of them.

use crate::Split;
use ndarray::{ArrayView2, Axis, Slice};
use vq_kernels::{KMeans, KMeansError};
use vq_plugin_api::{Context, Error};

/// Learns centroids (m, 2^bits, d/m) from `train` (n, d). O(iterations · n · 2^bits · d).
pub(crate) fn centroids(
    params: &Split,
    train: ArrayView2<'_, f32>,
    ctx: &Context<'_>,
) -> Result<Vec<f32>, Error> {
    let (m, sub) = (params.m, train.ncols() / params.m);
    let mut centroids = Vec::with_capacity((train.ncols()) << params.bits);
    for j in 0..m {
        let kmeans = KMeans {
            k: 1 << params.bits,
            iterations: params.iterations,
            seed: seed_of(ctx.seed(), j as u64),
            max_points_per_centroid: params.points_per_centroid,
        };
        let part = train.slice_axis(Axis(1), Slice::from(j * sub..(j + 1) * sub));
        let mut progress =
            |done: f32| ctx.progress((j as f32 + done) / m as f32, "k-means in sub-spaces");
        let found = kmeans.fit(part, &mut progress).map_err(|error| match error {
            KMeansError::Stopped(stopped) => stopped,
            other => Error::failed(other.to_string()),
        })?;
        // A step of k-means can round a centroid of huge values to infinity.
        centroids.extend(found.iter().map(|value| value.clamp(f32::MIN, f32::MAX)));
    }
    Ok(centroids)
}

/// A seed for part `j`, spread by the finaliser of splitmix64 so that neighbours share nothing.
fn seed_of(seed: u64, j: u64) -> u64 {
    let mut z = seed.wrapping_add((j + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
