//! k-means in every sub-space, side by side: the centroids are the same on any number of threads.

use super::Product;
use crate::{Rows, Training};
use ndarray::{Array2, ArrayView2, Axis, Slice};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use vq_kernels::KMeans;
use vq_kernels::draw::seed_of;
use vq_plugin_api::Error;

/// Learns centroids (m, 2^bits, d/m) from `rows`, from random ones or from those of `product`. Of turned or chosen
/// coordinates at most `held_bytes` are held at a time, or those of a sub-space for each thread.
pub(super) fn centroids(
    product: &Product,
    rows: Rows<'_>,
    training: Training,
    seed: u64,
    progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
    go_on: bool,
    held_bytes: usize,
) -> Result<Vec<f32>, Error> {
    let (m, sub, k) = (product.m, product.sub, product.k());
    let told = Mutex::new(Progress { done: vec![0.0; m], stopped: false });
    let mut centroids = vec![0.0_f32; m * k * sub];
    let as_lent = rows.whole().filter(|_| product.frame().is_none());
    // As many sub-spaces at a time as there is room for, one for each thread at least, and of all times nearly as many.
    let room = held_bytes / (4 * sub * rows.count().max(1));
    let most = room.clamp(rayon::current_num_threads().min(m), m);
    let together = if as_lent.is_some() { m } else { m.div_ceil(m.div_ceil(most)) };
    for (first, centroids) in (0..m).step_by(together).zip(centroids.chunks_mut(together * k * sub))
    {
        let held = first * sub..(first * sub + centroids.len() / k);
        let turned;
        let x = if let Some(x) = as_lent {
            x
        } else {
            turned = coordinates(product, rows, held);
            turned.view()
        };
        let parts = centroids.par_chunks_mut(k * sub).enumerate().with_max_len(1);
        parts.try_for_each(|(i, centroids)| {
            let j = first + i;
            let kmeans = KMeans {
                k,
                iterations: training.iterations,
                seed: seed_of(seed, j as u64),
                max_points_per_centroid: training.points_per_centroid,
            };
            let part = x.slice_axis(Axis(1), Slice::from(i * sub..(i + 1) * sub));
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
    }
    Ok(centroids)
}

/// Some coordinates of `rows` as the product takes them, (rows, coordinates).
fn coordinates(product: &Product, rows: Rows<'_>, held: Range<usize>) -> Array2<f32> {
    let mut to = Array2::zeros((rows.count(), held.len()));
    let some = product.frame().map(|frame| frame.coordinates(held.clone()));
    let blocks: Vec<_> = rows.blocks(Product::BLOCK).collect();
    let blocks = to.axis_chunks_iter_mut(Axis(0), Product::BLOCK).into_par_iter().zip(blocks);
    blocks.for_each(|(mut to, block)| {
        let x = rows.block(block);
        match &some {
            Some(some) => some.write(x.view(), to),
            None => to.assign(&x.slice_axis(Axis(1), Slice::from(held.clone()))),
        }
    });
    to
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Centring, Frame, Turn};
    use vq_kernels::Draw;
    use vq_kernels::rotation::Rotation;

    #[test]
    fn some_rows_and_some_sub_spaces_at_a_time_change_nothing() -> Result<(), Error> {
        let (n, dim, m) = (900, 66, 22);
        let mut draw = Draw::new(7);
        let x = Array2::from_shape_simple_fn((n, dim), || draw.normal() as f32 + 3.0);
        let rows: Vec<usize> = (0..n).filter(|row| row % 3 != 1).collect();
        let chosen = x.select(Axis(0), &rows);
        let training = Training { iterations: 3, points_per_centroid: 256 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(|e| Error::failed(e.to_string()))?;
        let centre = Frame::centre_of(x.view(), Centring::Mean)?;
        let frames = [
            None,
            Some(Frame::learned(centre, Rotation::dense(dim, 3))),
            Some(Frame::drawn(x.view(), Centring::Mean, Turn::Hadamard, 3)?),
            Some(Frame::sorted(x.view(), Centring::Mean)?),
        ];
        for frame in frames {
            // As if the rows had been turned before.
            let turned = frame.as_ref().map_or(chosen.clone(), |frame| frame.apply(chosen.view()));
            let mut expected = Product::new(dim, m, 4)?;
            expected.fit(turned.view(), training, 5, &|_| Ok(()))?;
            let start = expected.clone();
            expected.refine(turned.view(), training, 6, &|_| Ok(()))?;
            for held_bytes in [0, 5 * 4 * 3 * rows.len(), 1 << 30] {
                let mut found = Product::new(dim, m, 4)?;
                found.set_frame(frame.clone());
                for (seed, go_on, expected) in [(5, false, &start), (6, true, &expected)] {
                    let rows = Rows::chosen(x.view(), &rows);
                    found.set_centroids(pool.install(|| {
                        centroids(&found, rows, training, seed, &|_| Ok(()), go_on, held_bytes)
                    })?);
                    assert_eq!(found.centroids(), expected.centroids(), "{held_bytes}");
                }
            }
        }
        Ok(())
    }
}
