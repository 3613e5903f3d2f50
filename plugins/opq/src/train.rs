//! Rotation and codebooks in turn.
//!
//! 1. Product quantization of the rows as they are: it stays a candidate.
//! 2. Two starts, on a sample: the dimensions in their order, and principal directions shared out so that
//!    all sub-spaces have nearly the same product of variances (section 3.2, "parametric solution"). The
//!    one that errs less after k-means goes on.
//! 3. `rounds` times: R ← the rotation that brings the rows nearest to their decoded codes, then one
//!    round of k-means (section 3.1, "non-parametric solution"); at the end k-means until it settles.
//! 4. Of all of these the one of least squared error on all training rows.

use crate::{Fitted, Opq};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_blocks::rotated::{Centring, Frame};
use vq_blocks::{Product, Training};
use vq_kernels::distance::l2_sq;
use vq_kernels::moments::products;
use vq_kernels::rotation::Rotation;
use vq_kernels::{Draw, pca};
use vq_plugin_api::{Context, Error};

/// Parts of the progress: the candidate without a rotation, the starts, the rounds, the end.
const PARTS: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// O(iterations · n · 2^bits · d + rounds · (n·d² + d³)).
pub(crate) fn fitted(
    opq: &Opq,
    train: ArrayView2<'_, f32>,
    ctx: &Context<'_>,
) -> Result<Fitted, Error> {
    let (training, dim) = (opq.training, train.ncols());
    let unfitted = &opq.fitted.product;
    let part = |part: usize, done: f32, stage| {
        ctx.progress(PARTS[part] + (PARTS[part + 1] - PARTS[part]) * done.clamp(0.0, 1.0), stage)
    };
    let clusters = |step: usize, from: f32, to: f32| {
        move |done: f32| part(step, from + (to - from) * done, "k-means in sub-spaces")
    };
    let mut product = unfitted.clone();
    product.fit(train, training, ctx.seed(), &clusters(0, 0.0, 1.0))?;
    let natural = Fitted { frame: None, product };

    // One sub-space has nothing to share out.
    if unfitted.sub_spaces() == 1 {
        return Ok(natural);
    }
    let centre = Frame::centre_of(train, Centring::Mean)?;
    let points = unfitted.k().saturating_mul(training.points_per_centroid);
    let rows: Vec<usize> = Draw::new(ctx.seed()).strata(train.nrows(), points).collect();
    let sample = train.select(Axis(0), &rows);
    let unturned = Frame::learned(centre.clone(), Rotation::of(Array2::eye(dim).view()));
    let centred = unturned.apply(sample.view());
    let framed = |rotation| Frame::learned(centre.clone(), rotation);

    let shared = balanced(centred.view(), unfitted.sub_spaces());
    let starts = [unturned, framed(shared)];
    let mut best: Option<(f64, Fitted)> = None;
    for (i, frame) in starts.into_iter().enumerate() {
        let mut product = unfitted.clone();
        let progress = clusters(1, i as f32 / 2.0, (i + 1) as f32 / 2.0);
        product.fit(frame.apply(sample.view()).view(), training, ctx.seed(), &progress)?;
        let start = Fitted { frame: Some(frame), product };
        let error = error(&start, sample.view())?;
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, start));
        }
    }
    let Some((_, start)) = best else { return Ok(natural) };

    let mut product = start.product.clone();
    let mut turned = start.frame.as_ref().map_or(centred.clone(), |f| f.apply(sample.view()));
    let mut rotation = None;
    let one = Training { iterations: 1, ..training };
    for round in 0..opq.rounds {
        part(2, round as f32 / opq.rounds as f32, "rotation")?;
        let decoded = decoded(&product, turned.view())?;
        let found = Rotation::nearest(products(decoded.view(), centred.view()).view());
        turned = framed(found.clone()).apply(sample.view());
        product.refine(turned.view(), one, ctx.seed(), &|_| {
            part(2, round as f32 / opq.rounds as f32, "rotation")
        })?;
        rotation = Some(found);
    }
    let mut candidates = vec![natural, start];
    if let Some(rotation) = rotation {
        product.refine(turned.view(), training, ctx.seed(), &clusters(3, 0.0, 1.0))?;
        candidates.push(Fitted { frame: Some(framed(rotation)), product });
    }
    let errors: Result<Vec<f64>, Error> =
        candidates.iter().map(|candidate| error(candidate, train)).collect();
    let errors = errors?;
    // The first of equal ones, so that a rotation has to gain something.
    let least = (0..errors.len()).reduce(|a, b| if errors[b] < errors[a] { b } else { a });
    Ok(candidates.swap_remove(least.unwrap_or(0)))
}

/// Principal directions of centred rows (n, d) in `m` groups of d/m: by falling variance, each to the group
/// with room whose product of variances is least (section 3.2.3).
fn balanced(centred: ArrayView2<'_, f32>, m: usize) -> Rotation {
    let (variances, directions) = pca::eigen(products(centred, centred).view());
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

/// What the codes of `y` (n, d) decode to.
fn decoded(product: &Product, y: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
    let mut decoded = Array2::zeros(y.dim());
    let blocks: Vec<_> = y
        .axis_chunks_iter(Axis(0), Product::BLOCK)
        .zip(decoded.axis_chunks_iter_mut(Axis(0), Product::BLOCK))
        .collect();
    blocks.into_par_iter().try_for_each(|(y, decoded)| {
        let mut codes = Array2::zeros((y.nrows(), product.code_bytes()));
        product.encode_block(y, codes.view_mut())?;
        product.decode_block(codes.view(), decoded)
    })?;
    Ok(decoded)
}

/// The squared error over all rows of `x` (n, d), summed in their order.
fn error(fitted: &Fitted, x: ArrayView2<'_, f32>) -> Result<f64, Error> {
    let blocks: Vec<_> = x.axis_chunks_iter(Axis(0), Product::BLOCK).collect();
    let errors: Result<Vec<f64>, Error> = blocks
        .into_par_iter()
        .map(|x| {
            let x = x.as_standard_layout();
            let mut codes = Array2::zeros((x.nrows(), fitted.product.code_bytes()));
            let mut back = Array2::zeros(x.dim());
            fitted.encode_block(x.view(), codes.view_mut())?;
            fitted.decode_block(codes.view(), back.view_mut())?;
            let pairs = x.as_slice().into_iter().zip(back.as_slice());
            Ok(pairs.map(|(x, back)| l2_sq(x, back)).sum())
        })
        .collect();
    Ok(errors?.into_iter().sum())
}
