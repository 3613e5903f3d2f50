//! Iterative quantization: the rotation of principal directions whose signs err least.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use vq_blocks::Rows;
use vq_blocks::rotated::{Centring, Frame};
use vq_kernels::moments::{CHUNK, add_products, products};
use vq_kernels::rotation::Rotation;
use vq_kernels::{Draw, pca};
use vq_plugin_api::{Context, Error};

/// Rows that the rotation is learned from, at most.
const ROWS: usize = 8192;

/// Rows of these that are held at a time, in several forms.
pub(crate) const HELD: usize = 8 * CHUNK;

/// The weight of the rotation so far in the polar factor, of the mean singular value: where the data says
/// nothing, directions stay.
const DAMPING: f64 = 1e-3;

/// The frame whose first `k` coordinates are R·V_k·(x − c), V_k being the k leading principal directions; the
/// others are the remaining ones (Gong et al. 2013, section 3). Alternates S = sign(V·R) and R = polar(VᵀS),
/// equations 3 and 4, `rounds` times. `held` rows, a multiple of [`CHUNK`], are held at a time.
/// O(n·d² + d³ + rounds·(n·k² + k³)).
pub(crate) fn frame(
    train: ArrayView2<'_, f32>,
    centring: Centring,
    (k, rounds): (usize, usize),
    held: usize,
    ctx: &Context<'_>,
) -> Result<Frame, Error> {
    let (dim, seed) = (train.ncols(), ctx.seed());
    let centre = Frame::centre_of(train, centring)?;
    let rows: Vec<usize> = Draw::new(seed).strata(train.nrows(), ROWS).collect();
    let sample = Rows::chosen(train, &rows);
    let centring = Frame::centred(centre.clone());
    let directions = {
        let mut sums = Array2::zeros((dim, dim));
        for block in sample.blocks(held) {
            let centred = centring.apply(sample.block(block).view());
            add_products(centred.view(), centred.view(), &mut sums);
        }
        pca::eigen(sums.view()).1.mapv(|value| value as f32)
    };
    let leading = directions.slice_axis(Axis(0), Slice::from(..k));
    // (n, k).
    let mut v = Array2::zeros((sample.count(), k));
    for (block, mut v) in sample.blocks(held).zip(v.axis_chunks_iter_mut(Axis(0), held)) {
        let centred = centring.apply(sample.block(block).view());
        v.zip_mut_with(&products(centred.t(), leading.t()), |to, value| *to = *value as f32);
    }
    let mut r = Rotation::dense(k, seed).matrix();
    for round in 0..rounds {
        ctx.progress(round as f32 / rounds as f32, "iterative quantization")?;
        let mut sums = Array2::zeros((k, k));
        for v in v.axis_chunks_iter(Axis(0), held) {
            let turned = products(v.t(), r.view());
            let signs = turned.mapv(|value| if value >= 0.0 { 1.0 } else { -1.0 });
            add_products(v, signs.view(), &mut sums);
        }
        r = polar(sums, &r);
    }
    // Row i is the direction of coordinate i: (V·R)ᵀ.
    let mut turned = directions.clone();
    let leading = products(r.view(), leading.view()).mapv(|value| value as f32);
    turned.slice_axis_mut(Axis(0), Slice::from(..k)).assign(&leading);
    Ok(Frame::learned(centre, Rotation::of(turned.view())))
}

/// The orthogonal factor of m, with a little of `before` where m has next to nothing, by Newton–Schulz
/// iterations X ← X·(3·I − XᵀX)/2 (Higham & Schreiber 1990, "Fast polar decomposition of an arbitrary
/// matrix", eq. 3.3), which are products alone. O(k³) each.
pub(crate) fn polar(mut m: Array2<f64>, before: &Array2<f32>) -> Array2<f32> {
    let k = m.nrows();
    let length = m.iter().map(|value| value * value).sum::<f64>().sqrt();
    let damping = DAMPING * length / (k as f64).sqrt();
    if damping == 0.0 {
        return before.clone();
    }
    m.zip_mut_with(before, |m, before| *m += damping * f64::from(*before));
    // Singular values have to be below √3: none is above the geometric mean of the largest sums.
    let most = |axis| m.map_axis(Axis(axis), |line| line.iter().map(|v| v.abs()).sum::<f64>());
    let largest = |sums: ndarray::Array1<f64>| sums.iter().copied().fold(0.0, f64::max);
    let bound = (largest(most(0)) * largest(most(1))).sqrt();
    let mut x = m.mapv(|value| (value / bound) as f32);
    for _ in 0..60 {
        let mut gram = products(x.view(), x.view());
        let mut off = 0.0_f64;
        for ((i, j), value) in gram.indexed_iter_mut() {
            let unit = if i == j { 1.0 } else { 0.0 };
            off = off.max((*value - unit).abs());
            *value = (3.0 * unit - *value) / 2.0;
        }
        let gram = gram.mapv(|value| value as f32);
        x = products(x.t(), gram.view()).mapv(|value| value as f32);
        // What was off is squared by a step.
        if off < 5e-4 {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_plugin_api::model::ModelWriter;

    fn noise(n: usize, d: usize, seed: u64) -> Array2<f64> {
        let mut draw = Draw::new(seed);
        Array2::from_shape_simple_fn((n, d), || draw.normal())
    }

    #[test]
    fn rows_that_are_held_at_a_time_change_nothing() -> Result<(), Error> {
        let x = noise(1100, 14, 5).mapv(|value| value as f32);
        let ctx = Context::detached(1, 42);
        for k in [9, 14] {
            let learned = |held: usize| {
                let frame = frame(x.view(), Centring::Mean, (k, 6), held, &ctx)?;
                Ok::<_, Error>(frame.save(ModelWriter::new()).finish())
            };
            assert_eq!(learned(CHUNK)?, learned(HELD)?, "k = {k}");
        }
        Ok(())
    }

    #[test]
    fn the_polar_factor_is_the_nearest_orthogonal_map() {
        for k in [1, 2, 7, 40] {
            let m = noise(k, k, 3) + Array2::<f64>::eye(k) * (k as f64);
            let found = polar(m.clone(), &Array2::eye(k));
            let nearest = Rotation::nearest(m.view()).matrix();
            // The damping moves it a little.
            let off = (&found - &nearest).iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            assert!(off < 0.02, "k = {k}: {off}");
            let gram = products(found.view(), found.view()) - Array2::<f64>::eye(k);
            assert!(gram.iter().all(|value| value.abs() < 1e-5), "k = {k}");
        }
    }

    #[test]
    fn directions_without_data_stay() {
        let mut m = noise(5, 5, 1);
        m.row_mut(3).fill(0.0);
        let found = polar(m, &Array2::eye(5));
        let gram = products(found.view(), found.view()) - Array2::<f64>::eye(5);
        assert!(gram.iter().all(|value| value.abs() < 1e-5), "{gram}");
        assert_eq!(polar(Array2::zeros((4, 4)), &Array2::eye(4)), Array2::<f32>::eye(4));
    }
}
