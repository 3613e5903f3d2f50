//! Learning mean and spread per dimension, step and shift per block.

use crate::encode::Voronoi;
use crate::points::Lattice;
use ndarray::ArrayView2;
use vq_plugin_api::{Context, Error};

/// Values per block that steps are learned from at most: the squared error then has a standard
/// error of about a percent, and its least step is flat.
pub(crate) const SAMPLE: usize = 16 * 1024;

/// Rows per progress report.
const ROWS: usize = 4096;

/// Means and standard deviations (d) of `train` (n, d), n ≥ 1; exact means of constant dimensions.
/// Coordinates that are not finite count as 0.
///
/// # Errors
/// [`Error::cancelled`].
pub(crate) fn moments(
    train: ArrayView2<'_, f32>,
    ctx: &Context<'_>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let (n, d) = train.dim();
    let finite = |x: &f32| if x.is_finite() { f64::from(*x) } else { 0.0 };
    let first: Vec<f64> = train.row(0).iter().map(finite).collect();
    let (mut sum, mut square) = (vec![0.0; d], vec![0.0; d]);
    for (i, row) in train.outer_iter().enumerate() {
        if i % ROWS == 0 {
            ctx.progress(0.2 * i as f32 / n as f32, "moments")?;
        }
        for (((x, first), sum), square) in row.iter().zip(&first).zip(&mut sum).zip(&mut square) {
            let x = finite(x) - first;
            *sum += x;
            *square += x * x;
        }
    }
    let n = n as f64;
    let variance = |(sum, square): (&f64, &f64)| (square / n - (sum / n).powi(2)).max(0.0).sqrt();
    let spread = sum.iter().zip(&square).map(variance).collect();
    Ok((first.iter().zip(&sum).map(|(first, sum)| first + sum / n).collect(), spread))
}

/// Shifts of the lattice that are tried: none, which keeps a point at the mean; all the way to a
/// deep hole, which surrounds the mean; and half the way, where few points are equally far from
/// the origin, so that a code of few points wastes none on ties.
const SHIFTS: [f32; 3] = [0.0, 0.5, 1.0];

/// Step and shift of one block.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    /// In standard deviations.
    pub(crate) step: f64,
    /// In parts of the way to the deep hole.
    pub(crate) shift: f32,
}

/// The step, in standard deviations, and the shift of least squared error on `sample`, whose rows
/// have mean 0 and deviation 1; `weights` are the variances of the dimensions.
pub(crate) fn least_error<L: Lattice<N>, const N: usize>(
    sample: &[[f32; N]],
    weights: &[f64; N],
    bits: u32,
) -> Choice {
    // Near the optimum of a Gaussian: the cells cover about ±(1 + bits/2) deviations.
    let start = (2.0 + f64::from(bits)) / f64::from(1 << bits) * L::VOLUME.powf(-1.0 / N as f64);
    let error = |step: f64, shift: f32| {
        distortion::<L, N>(
            sample,
            weights,
            step,
            Voronoi { bits, shift: L::HOLE.map(|h| shift * h) },
        )
    };
    let choose = |shift: f32| {
        let (mut step, mut least) = (start, error(start, shift));
        // Down or up while it helps, in ever smaller ratios.
        for ratio in [1.5, 1.2, 1.08, 1.03] {
            for factor in [ratio, 1.0 / ratio] {
                for _ in 0..24 {
                    let tried = error(step * factor, shift);
                    if tried >= least {
                        break;
                    }
                    (step, least) = (step * factor, tried);
                }
            }
        }
        (Choice { step, shift }, least)
    };
    let choices = SHIFTS.map(choose);
    choices.into_iter().reduce(|a, b| if b.1 < a.1 { b } else { a }).expect("there are shifts").0
}

fn distortion<L: Lattice<N>, const N: usize>(
    sample: &[[f32; N]],
    weights: &[f64; N],
    step: f64,
    code: Voronoi<N>,
) -> f64 {
    let inv = (1.0 / step) as f32;
    let mut error = 0.0;
    for z in sample {
        let r = code.decode::<L>(&code.encode::<L>(&z.map(|z| z * inv)));
        for ((z, r), weight) in z.iter().zip(&r).zip(weights) {
            error += weight * (f64::from(*z) - step * f64::from(*r)).powi(2);
        }
    }
    error
}
