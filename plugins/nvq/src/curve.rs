//! Curves from the range 0 to 1 onto itself, by which even steps become levels that lie closer where a row
//! has more coordinates.
//!
//! With σ(t) = 1/(1 + 2^−t), a growth rate α and a midpoint p, the logistic curve is
//!
//! `h(u) = (σ(α(u − p)) − σ(−αp)) / (σ(α(1 − p)) − σ(−αp))`,
//!
//! and the levels of B bits are those u at which h(u) is a multiple of 1/(2^B − 1), rounded to multiples of
//! 2^−15, which scans take as integers. As α falls to 0 they become evenly spaced.

use std::array::from_fn;

/// Curves, so that one byte names one: an even one, and growth rates times midpoints.
pub(crate) const CURVES: usize = 1 + GROWTHS * MIDPOINTS;

const GROWTHS: usize = 15;
const MIDPOINTS: usize = 17;

/// Most levels of a width.
const LEVELS: usize = 256;

/// The level 1 as an integer.
pub(crate) const UNIT: f32 = 32_768.0;

/// Coordinates at a time.
pub(crate) const LANES: usize = 16;

/// Parts of the range in which a coordinate's error is expected to be the mean of [`LANES`] points there.
pub(crate) const BINS: usize = 128;

/// Growth rate and midpoint: 2 to 22.6 in steps of 2^¼, and 0.15 to 0.85. `None` is the even one.
fn shape(curve: usize) -> Option<(f64, f64)> {
    let (growth, midpoint) = (curve.checked_sub(1)? / MIDPOINTS, (curve - 1) % MIDPOINTS);
    let growth = exp2(1.0 + growth as f64 / 4.0);
    Some((growth, 0.5 + 0.35 * (midpoint as f64 - 8.0) / 8.0))
}

/// 2^t, from sums and products alone: the same on every machine.
fn exp2(t: f64) -> f64 {
    let whole = t.round();
    let x = (t - whole) * std::f64::consts::LN_2;
    let series = (1..=18).rev().fold(1.0, |sum, n| 1.0 + sum * x / f64::from(n));
    series * f64::from_bits(((1023 + whole as i64) as u64) << 52)
}

/// log₂ of a normal number above 0, from sums, products and quotients alone.
fn log2(z: f64) -> f64 {
    let bits = z.to_bits();
    let (mut power, mut part) =
        ((bits >> 52) as i64 - 1023, f64::from_bits(bits & ((1 << 52) - 1) | (1023 << 52)));
    if part > std::f64::consts::SQRT_2 {
        (power, part) = (power + 1, part / 2.0);
    }
    let x = (part - 1.0) / (part + 1.0);
    let series = (0..=12).rev().fold(0.0, |sum, n| sum * x * x + 1.0 / f64::from(2 * n + 1));
    power as f64 + 2.0 * x * series / std::f64::consts::LN_2
}

/// σ.
fn logistic(t: f64) -> f64 {
    1.0 / (1.0 + exp2(-t))
}

/// σ⁻¹.
fn logit(y: f64) -> f64 {
    log2(y / (1.0 - y))
}

/// The levels of one curve, and what finds the nearest.
pub(crate) struct Curve {
    /// Ascending, from 0 to 1; those beyond the width repeat the last.
    pub(crate) levels: [f32; LEVELS],
    /// (2^B − 1)·h(u) = even·u + height/(1 + 2^(start − growth·u)) − low.
    growth: f32,
    start: f32,
    even: f32,
    height: f32,
    low: f32,
    /// The last level but one.
    before_last: f32,
}

impl Curve {
    fn new(curve: usize, bits: u32) -> Self {
        let top = f64::from((1_u32 << bits) - 1);
        let mut found = Curve {
            levels: [1.0; LEVELS],
            growth: 0.0,
            start: 0.0,
            even: top as f32,
            height: 0.0,
            low: 0.0,
            before_last: (top - 1.0) as f32,
        };
        let levels = found.levels.iter_mut().enumerate().take(1 << bits);
        let rounded = |u: f64| (u * f64::from(UNIT)).round().max(0.0) as f32 / UNIT;
        match shape(curve) {
            None => levels.for_each(|(k, level)| *level = rounded(k as f64 / top)),
            Some((growth, midpoint)) => {
                let low = logistic(-growth * midpoint);
                let height = logistic(growth * (1.0 - midpoint)) - low;
                for (k, level) in levels {
                    let y = low + height * k as f64 / top;
                    *level = rounded(midpoint + logit(y) / growth).min(1.0);
                }
                found.growth = growth as f32;
                found.start = (growth * midpoint) as f32;
                found.even = 0.0;
                found.height = (top / height) as f32;
                found.low = (top * low / height) as f32;
            }
        }
        found
    }

    /// The indices of the levels nearest to `u`, and these; of two as near, the upper. What is no number has the
    /// first. Step by step for all lanes: what looks up a table cannot be done side by side.
    #[inline(always)]
    pub(crate) fn nearest(&self, u: &[f32; LANES]) -> ([u32; LANES], [f32; LANES]) {
        let (mut cells, mut levels) = ([0_u32; LANES], [0.0; LANES]);
        for i in 0..LANES {
            cells[i] = self.cell(u[i]);
        }
        let (mut lower, mut upper) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            let k = cells[i] as usize;
            (lower[i], upper[i]) = (self.levels[k % LEVELS], self.levels[(k + 1) % LEVELS]);
        }
        for i in 0..LANES {
            let above = u[i] - lower[i] >= upper[i] - u[i];
            levels[i] = if above { upper[i] } else { lower[i] };
            cells[i] += u32::from(above);
        }
        (cells, levels)
    }

    /// The level below `u`; right at a level that one or the one before.
    #[expect(clippy::manual_clamp, reason = "a NaN becomes 0, where clamp would keep it")]
    #[inline(always)]
    fn cell(&self, u: f32) -> u32 {
        let u = u.max(0.0).min(1.0);
        let power = exp2_f32(self.start - self.growth * u);
        let y = self.even * u + self.height / (1.0 + power) - self.low;
        // The sum has no fraction, and its last bits are the integer.
        ((y - 0.5).max(0.0).min(self.before_last) + 8_388_608.0).to_bits() & 0xFF
    }
}

/// 2^t for |t| < 126, to six digits. All that is asked of it is a level nearby.
#[inline(always)]
fn exp2_f32(t: f32) -> f32 {
    // As above; the integer may be negative.
    let shifted = t + 12_582_912.0;
    let x = t - (shifted - 12_582_912.0);
    let series =
        [0.001_333_356, 0.009_618_13, 0.055_504_11, 0.240_226_5, std::f32::consts::LN_2, 1.0];
    let part = series.iter().fold(0.0, |sum, factor| sum * x + factor);
    part * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// All curves at one width.
pub(crate) struct Curves {
    curves: Vec<Curve>,
    /// Of each part of the range, the squared error that each curve is expected to have there.
    expected: Vec<[f32; CURVES]>,
}

impl Curves {
    /// Of `bits` bits, 1 to 8. O(curves · (levels + bins)), some 3 ms.
    pub(crate) fn new(bits: u32) -> Self {
        let curves: Vec<Curve> = (0..CURVES).map(|curve| Curve::new(curve, bits)).collect();
        let part = |bin: usize| {
            from_fn(|curve: usize| {
                let points = from_fn(|i| ((bin * LANES + i) as f32 + 0.5) / (BINS * LANES) as f32);
                let (_, levels) = curves[curve].nearest(&points);
                let off = points.iter().zip(levels).map(|(u, level)| (u - level).powi(2));
                off.sum::<f32>() / LANES as f32
            })
        };
        let expected = (0..BINS).map(part).collect();
        Curves { curves, expected }
    }

    /// The curve of that number.
    pub(crate) fn curve(&self, curve: u8) -> &Curve {
        &self.curves[usize::from(curve)]
    }

    /// What each curve is expected to err at `u`.
    #[inline(always)]
    pub(crate) fn expected(&self, u: f32) -> &[f32; CURVES] {
        let bin = (u * BINS as f32).max(0.0).min((BINS - 1) as f32);
        &self.expected[bin as usize % BINS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_logarithms_are_those_of_the_system_to_fifteen_digits() {
        for i in -4000..4000 {
            let t = f64::from(i) / 137.0;
            assert!((exp2(t) / t.exp2() - 1.0).abs() < 2e-15, "{t}");
            assert!((log2(t.exp2()) - t).abs() < 4e-15 * (1.0 + t.abs()), "{t}");
        }
    }

    #[test]
    fn levels_ascend_from_end_to_end_and_are_even_steps_of_the_curve() {
        for (bits, curve) in (1..=8).flat_map(|bits| (0..CURVES).map(move |curve| (bits, curve))) {
            let Curve { levels, .. } = Curve::new(curve, bits);
            let levels = &levels[..1 << bits];
            assert_eq!((levels[0], levels[levels.len() - 1]), (0.0, 1.0));
            assert!(levels.windows(2).all(|pair| pair[0] < pair[1]), "{bits} bits, {curve}");
            let Some((growth, midpoint)) = shape(curve) else { continue };
            let at = |u: f64| 1.0 / (1.0 + (-growth * (u - midpoint)).exp2());
            for (k, u) in levels.iter().enumerate() {
                let h = (at(f64::from(*u)) - at(0.0)) / (at(1.0) - at(0.0));
                let k = k as f64 / (levels.len() - 1) as f64;
                // 2^-16 times the steepest slope.
                assert!((h - k).abs() < 1.6e-5 * 4.0, "{bits} bits, {curve}: {h} {k}");
            }
        }
    }

    #[test]
    fn the_nearest_level_is_found_and_of_two_as_near_the_upper() {
        for bits in [1, 2, 3, 5, 8] {
            for curve in 0..CURVES {
                let curve = Curve::new(curve, bits);
                let levels = &curve.levels[..1 << bits];
                let nearest = |u: f32| {
                    let (cells, found) = curve.nearest(&[u; LANES]);
                    assert_eq!(found, [levels[cells[0] as usize]; LANES]);
                    cells[0] as usize
                };
                for i in -50..=1050 {
                    let u = i as f32 / 1000.0;
                    let near = |k: usize| (levels[k] - u).abs();
                    let best = (0..levels.len()).map(near).fold(f32::INFINITY, f32::min);
                    let found = nearest(u);
                    assert!(near(found) <= best + 1e-7, "{bits} bits: {u} {found}");
                }
                for (k, pair) in levels.windows(2).enumerate() {
                    assert_eq!(nearest(pair[0] / 2.0 + pair[1] / 2.0), k + 1);
                    assert_eq!((nearest(pair[0]), nearest(pair[1])), (k, k + 1));
                }
                assert_eq!(nearest(f32::NAN), 0);
                let ends = [-f32::MAX, f32::MAX].map(nearest);
                assert_eq!(ends, [0, levels.len() - 1]);
            }
        }
    }
}
