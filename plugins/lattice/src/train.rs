//! Learning step and shift per block.

use crate::encode::Voronoi;
use crate::points::Lattice;

/// Values per block that steps are learned from at most: the squared error then has a standard
/// error of about a percent, and its least step is flat.
pub(crate) const SAMPLE: usize = 16 * 1024;

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
    q: u32,
) -> Choice {
    // Near the optimum of a Gaussian: the cells cover about ±(1 + bits/2) deviations.
    // About log₂ q, and the same on every machine.
    let whole = q.ilog2();
    let bits = f64::from(whole) + f64::from(q) / f64::from(1 << whole) - 1.0;
    let start = (2.0 + bits) / f64::from(q) * L::VOLUME.powf(-1.0 / N as f64);
    let error = |step: f64, shift: f32| {
        distortion::<L, N>(sample, weights, step, Voronoi { q, shift: L::HOLE.map(|h| shift * h) })
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
