//! Rotation and codebooks in turn.
//!
//! 1. Product quantization of the rows as they are: it stays a candidate.
//! 2. Three starts, on a sample: the dimensions in their order, principal directions shared out so that
//!    all sub-spaces have nearly the same product of variances (section 3.2.4, "eigenvalue allocation"), and a
//!    random rotation. The one that errs least after k-means goes on.
//! 3. `rounds` times: R ← the rotation that brings the rows nearest to their decoded codes, then one
//!    round of k-means (section 3.1, algorithm 1, "non-parametric solution"); at the end k-means until it settles.
//! 4. Of all of these the one of least squared error on all training rows.

use ndarray::{Array2, ArrayView2, Axis};
use vq_blocks::rotated::{Centring, Frame};
use vq_blocks::{Product, Rows, Training};
use vq_kernels::draw::seed_of;
use vq_kernels::moments::{CHUNK, add_products};
use vq_kernels::rotation::Rotation;
use vq_kernels::{Draw, pca};
use vq_plugin_api::{Context, Error};

/// Rows of the sample that are held at a time, in several forms.
pub(crate) const HELD: usize = 16 * CHUNK;

/// `held` rows of the sample, a multiple of [`CHUNK`], are held at a time. O(iterations · n · 2^bits · d + rounds · (n·d² + d³)).
pub(crate) fn product(
    unfitted: &Product,
    (rounds, training): (usize, Training),
    held: usize,
    train: ArrayView2<'_, f32>,
    ctx: &Context<'_>,
) -> Result<Product, Error> {
    let (seed, dim) = (ctx.seed(), train.ncols());
    // A quarter of the progress for each step.
    let clusters = |from: f32, part: f32| {
        move |done: f32| ctx.progress(from + part * done, "k-means in sub-spaces")
    };
    let mut natural = unfitted.clone();
    natural.set_frame(None);
    natural.fit(train, training, seed, &clusters(0.0, 0.25))?;
    if natural.sub_spaces() == 1 {
        // Nothing to share out.
        return Ok(natural);
    }

    let centre = Frame::centre_of(train, Centring::Mean)?;
    let framed = |rotation| Some(Frame::learned(centre.clone(), rotation));
    let points = natural.k().saturating_mul(training.points_per_centroid);
    let rows: Vec<usize> = Draw::new(seed).strata(train.nrows(), points).collect();
    let sample = Rows::chosen(train, &rows);
    let centring = Frame::centred(centre.clone());
    let start = |from: f32, rotation: Rotation| {
        let mut product = natural.clone();
        product.set_frame(framed(rotation));
        product.fit(sample, training, seed, &clusters(from, 0.25 / 3.0))?;
        Ok::<_, Error>((product.error(sample)?, product))
    };
    let mut first = start(0.25, Rotation::of(Array2::eye(dim).view()))?;
    let shared = balanced(sample, &centring, natural.sub_spaces(), held);
    let next = start(0.25 + 0.25 / 3.0, shared)?;
    if next.0 < first.0 {
        first = next;
    }
    let next = start(0.25 + 0.5 / 3.0, Rotation::dense(dim, seed_of(seed, 0)))?;
    if next.0 < first.0 {
        first = next;
    }
    let start = first.1;

    let mut turned = start.clone();
    for round in 0..rounds {
        let done = 0.5 + 0.25 * round as f32 / rounds as f32;
        ctx.progress(done, "rotation")?;
        let mut sums = Array2::zeros((dim, dim));
        for block in sample.blocks(held) {
            let x = sample.block(block);
            let mut decoded = Array2::zeros(x.dim());
            // Enough of them for many threads.
            let rows = held.div_ceil(ctx.threads()).clamp(64, Product::BLOCK);
            ctx.par_blocks(x.view(), decoded.view_mut(), rows, |x, decoded| {
                let mut codes = Array2::zeros((x.nrows(), turned.code_bytes()));
                turned.encode_block(x, codes.view_mut())?;
                turned.decode_in_frame(codes.view(), decoded)
            })?;
            add_products(decoded.view(), centring.apply(x.view()).view(), &mut sums);
        }
        let nearest = Rotation::nearest(sums.view());
        turned.set_frame(framed(nearest));
        let one = Training { iterations: 1, ..training };
        turned.refine(sample, one, seed, &|_| ctx.progress(done, "rotation"))?;
    }
    turned.refine(sample, training, seed, &clusters(0.75, 0.25))?;

    let mut best = (natural.error(train)?, natural);
    for candidate in [start, turned] {
        let error = candidate.error(train)?;
        // A rotation has to gain something.
        if error < best.0 {
            best = (error, candidate);
        }
    }
    Ok(best.1)
}

/// Principal directions of the rows `sample` (n, d), centred by `centring`, in `m` groups of d/m: by falling variance,
/// each to the group with room whose product of variances is least (section 3.2.4).
fn balanced(sample: Rows<'_>, centring: &Frame, m: usize, held: usize) -> Rotation {
    let mut sums = Array2::zeros((sample.dim(), sample.dim()));
    for block in sample.blocks(held) {
        let centred = centring.apply(sample.block(block).view());
        add_products(centred.view(), centred.view(), &mut sums);
    }
    let (variances, directions) = pca::eigen(sums.view());
    // As logarithms of the variance over the least one, so that a product grows with each factor; what is
    // rounding of zero counts as the least.
    let floor = 1e-12 * variances[0].max(f64::MIN_POSITIVE);
    let least = variances.iter().copied().filter(|v| *v > floor).fold(f64::INFINITY, f64::min);
    let size = directions.ncols() / m;
    let mut groups: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new()); m];
    for (i, variance) in variances.iter().enumerate() {
        let room = groups.iter_mut().filter(|(_, group)| group.len() < size);
        if let Some((product, group)) = room.min_by(|a, b| a.0.total_cmp(&b.0)) {
            *product += (variance / least).max(1.0).ln();
            group.push(i);
        }
    }
    let order: Vec<usize> = groups.into_iter().flat_map(|(_, group)| group).collect();
    Rotation::of(directions.select(Axis(0), &order).mapv(|value| value as f32).view())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_plugin_api::model::ModelWriter;

    #[test]
    fn rows_that_are_held_at_a_time_change_nothing() -> Result<(), Error> {
        let mut draw = Draw::new(11);
        let mut x = Array2::from_shape_simple_fn((1100, 12), || draw.normal() as f32);
        // What lies in two sub-spaces belongs together.
        for mut row in x.outer_iter_mut() {
            row[7] = 0.9 * row[1] + 0.1 * row[7];
        }
        let ctx = Context::detached(1, 42);
        let training = Training { iterations: 5, points_per_centroid: 60 };
        let learned = |held: usize| {
            let unfitted = Product::new(12, 3, 4)?;
            let product = product(&unfitted, (4, training), held, x.view(), &ctx)?;
            assert!(product.frame().is_some(), "a rotation gains here");
            Ok::<_, Error>(product.save_with_frame(ModelWriter::new()).finish())
        };
        assert_eq!(learned(CHUNK)?, learned(HELD)?);
        Ok(())
    }
}
