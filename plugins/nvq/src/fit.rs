//! The curve and the range of a row.
//!
//! A coordinate z becomes m + w·l, l being the nearest level of a curve. Curve, m and w are those of the
//! least Σ(z − m − w·l)² that are found in three steps:
//!
//! 1. From the least coordinate to the largest, as the paper has it; of each curve the error that it is
//!    expected to have, from how the coordinates are spread, without those two, which all curves read
//!    exactly.
//! 2. The error itself of the curves that promise most.
//! 3. For the levels so chosen the sum is a quadratic form of m and w; its minimum, and the levels again.
//!
//! What is compared are errors after m and w are stored, f16 included, so that no step loses.

use crate::curve::{CURVES, Curve, Curves, LANES, UNIT};
use std::ops::Range;
use vq_blocks::rotated::{Format, Layout};
use vq_kernels::Path;

/// Most rounds of the third step.
const ROUNDS: usize = 3;

/// What is stored of a row beside its indices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    pub(crate) curve: u8,
    pub(crate) m: f32,
    /// 0 where all coordinates are read as m.
    pub(crate) w: f32,
}

/// Coordinates of one width.
struct Even {
    range: Range<usize>,
    bits: u32,
    curves: Curves,
}

/// Finds what is to be stored.
pub(crate) struct Fitter {
    runs: Vec<Even>,
    tries: usize,
}

/// What the levels of a row say of the next range, in units of the range: sums of u, l, l², u·l and (u − l)².
#[derive(Clone, Copy)]
struct Sums {
    u: f64,
    l: f64,
    ll: f64,
    ul: f64,
    error: f64,
}

impl Sums {
    /// The a and b of the least Σ(u − a − b·l)² over `n` coordinates.
    fn line(&self, n: f64) -> (f64, f64) {
        let b = (n * self.ul - self.u * self.l) / (n * self.ll - self.l * self.l);
        ((self.u - b * self.l) / n, b)
    }
}

impl Fitter {
    /// For rows of a layout, trying `tries` curves.
    pub(crate) fn new(layout: &Layout, tries: usize) -> Self {
        let runs = layout.runs().iter().filter(|run| run.bits > 0);
        let runs = runs.map(|run| Even {
            range: run.first..run.first + run.count,
            bits: run.bits,
            curves: Curves::new(run.bits),
        });
        Fitter { runs: runs.collect(), tries }
    }

    /// Coordinates that have bits: the first ones.
    pub(crate) fn coded(&self) -> usize {
        self.runs.last().map_or(0, |run| run.range.end)
    }

    /// Writes the indices of `z` (d) into `to` (d) and answers what stands beside, as `format` stores it.
    /// O((curves + tries)·d), no allocation.
    pub(crate) fn fit(&self, z: &[f32], format: Format, to: &mut [u16]) -> Fit {
        let fit = self.best(&z[..self.coded()], format);
        to.fill(0);
        if fit.w > 0.0 {
            let per_range = 1.0 / fit.w;
            for Even { range, curves, .. } in &self.runs {
                let (z, to) = (&z[range.clone()], &mut to[range.clone()]);
                let curve = curves.curve(fit.curve);
                Path::fastest().run(
                    #[inline(always)]
                    || {
                        for (z, to) in z.chunks(LANES).zip(to.chunks_mut(LANES)) {
                            let (cells, _) = curve.nearest(&within(z, fit.m, per_range));
                            to.iter_mut().zip(cells).for_each(|(to, cell)| *to = cell as u16);
                        }
                    },
                );
            }
        }
        fit
    }

    /// Writes m + w·l of `values` (d) into `row` (d), 0 where there are no bits.
    pub(crate) fn read(&self, values: &[u16], Fit { curve, m, w }: Fit, row: &mut [f32]) {
        row.fill(0.0);
        for Even { range, bits, curves } in &self.runs {
            let row = &mut row[range.clone()];
            let levels = &curves.curve(curve).levels[..1 << bits];
            vq_kernels::levels::decode(levels, &values[range.clone()], row);
            Path::fastest().run(
                #[inline(always)]
                || row.iter_mut().for_each(|y| *y = m + w * *y),
            );
        }
    }

    /// The levels of `values` (d) as integers, coded.
    pub(crate) fn integers(&self, values: &[u16], curve: u8) -> impl Iterator<Item = u16> {
        self.runs.iter().flat_map(move |Even { range, bits, curves }| {
            let levels = &curves.curve(curve).levels[..1 << bits];
            let level = |value: &u16| (UNIT * levels[usize::from(*value)]) as u16;
            values[range.clone()].iter().map(level)
        })
    }

    fn best(&self, z: &[f32], format: Format) -> Fit {
        let (low, high) = ends(z);
        let (m, w) = (format.rounded(low), format.rounded(high - low));
        // No coordinates that differ, or by nothing that is stored; not finite where f16 ends.
        if !(high > low && w > 0.0 && 1.0 / w < f32::INFINITY && w < f32::INFINITY) {
            return Fit { curve: 0, m: if z.is_empty() { 0.0 } else { m }, w: 0.0 };
        }
        let (mut best, mut sums) = (Fit { curve: 0, m, w }, None::<Sums>);
        let mut keys = self.promises(z, (m, w), (low, high));
        for _ in 0..self.tries {
            let Some(curve) = least(&mut keys) else { break };
            let found = self.sums(z, Fit { curve, m, w });
            if sums.is_none_or(|sums| found.error < sums.error) {
                (best.curve, sums) = (curve, Some(found));
            }
        }
        let Some(mut sums) = sums else { return best };
        for _ in 0..ROUNDS {
            let (a, b) = sums.line(z.len() as f64);
            let (m, w) = (f64::from(best.m), f64::from(best.w));
            let (m, w) = ((m + w * a) as f32, (w * b) as f32);
            let next = Fit { m: format.rounded(m), w: format.rounded(w), ..best };
            // Not so where all levels are one.
            let sound = next.m.is_finite() && next.w > 0.0 && 1.0 / next.w < f32::INFINITY;
            if !sound || next == best {
                break;
            }
            let found = self.sums(z, next);
            let error = |of: &Sums, w: f32| of.error * f64::from(w).powi(2);
            if error(&found, next.w) >= error(&sums, best.w) {
                break;
            }
            (best, sums) = (next, found);
        }
        best
    }

    /// Of each curve what it is expected to err, in an order that integers have, its number in the last byte.
    fn promises(&self, z: &[f32], (m, w): (f32, f32), (low, high): (f32, f32)) -> [u32; CURVES] {
        let (mut sums, per_range) = ([0.0_f32; CURVES], 1.0 / w);
        let exact = [low, high].map(|end| z.iter().position(|z| *z == end));
        for Even { range, curves, .. } in &self.runs {
            Path::fastest().run(
                #[inline(always)]
                || {
                    for z in &z[range.clone()] {
                        let expected = curves.expected((z - m) * per_range);
                        for (sum, expected) in sums.iter_mut().zip(expected) {
                            *sum += expected;
                        }
                    }
                },
            );
            for at in exact.into_iter().flatten().filter(|at| range.contains(at)) {
                let expected = curves.expected((z[at] - m) * per_range);
                sums.iter_mut().zip(expected).for_each(|(sum, expected)| *sum -= expected);
            }
        }
        std::array::from_fn(|curve| (sums[curve].max(0.0).to_bits() & !0xFF) | curve as u32)
    }

    /// The levels of `z` by that fit.
    fn sums(&self, z: &[f32], Fit { curve, m, w }: Fit) -> Sums {
        let (mut found, per_range) = ([[0.0_f32; LANES]; 5], 1.0 / w);
        for Even { range, curves, .. } in &self.runs {
            let curve = curves.curve(curve);
            let (lanes, rest) = z[range.clone()].as_chunks::<LANES>();
            Path::fastest().run(
                #[inline(always)]
                || {
                    for z in lanes {
                        add(curve, &within(z, m, per_range), &mut found);
                    }
                    // What is beyond the row is left out again.
                    let mut last = [[0.0; LANES]; 5];
                    add(curve, &within(rest, m, per_range), &mut last);
                    for (found, last) in found.iter_mut().zip(last) {
                        found.iter_mut().zip(last).take(rest.len()).for_each(|(to, x)| *to += x);
                    }
                },
            );
        }
        let [u, l, ll, ul, error] =
            found.map(|lanes| lanes.iter().map(|x| f64::from(*x)).sum::<f64>());
        Sums { u, l, ll, ul, error }
    }
}

/// Up to [`LANES`] coordinates as places in the range.
#[inline(always)]
fn within(z: &[f32], m: f32, per_range: f32) -> [f32; LANES] {
    let mut u = [0.0; LANES];
    u[..z.len()].copy_from_slice(z);
    for u in &mut u {
        *u = (*u - m) * per_range;
    }
    u
}

/// Adds what [`Sums`] has of these coordinates.
#[inline(always)]
fn add(curve: &Curve, u: &[f32; LANES], sums: &mut [[f32; LANES]; 5]) {
    let (_, l) = curve.nearest(u);
    let [sum_u, sum_l, sum_ll, sum_ul, error] = sums;
    for i in 0..LANES {
        sum_u[i] += u[i];
        sum_l[i] += l[i];
        sum_ll[i] += l[i] * l[i];
        sum_ul[i] += u[i] * l[i];
        error[i] += (u[i] - l[i]) * (u[i] - l[i]);
    }
}

/// The least and the largest coordinate.
fn ends(z: &[f32]) -> (f32, f32) {
    let (lanes, rest) = z.as_chunks::<LANES>();
    let (low, high) = Path::fastest().run(
        #[inline(always)]
        || ends_of(lanes),
    );
    let low = low.iter().chain(rest).fold(f32::INFINITY, |a, b| a.min(*b));
    (low, high.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| a.max(*b)))
}

/// Of each lane. The coordinates are numbers.
#[inline(always)]
fn ends_of(lanes: &[[f32; LANES]]) -> ([f32; LANES], [f32; LANES]) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for z in lanes {
        for i in 0..LANES {
            low[i] = if z[i] < low[i] { z[i] } else { low[i] };
            high[i] = if z[i] > high[i] { z[i] } else { high[i] };
        }
    }
    (low, high)
}

/// Takes the curve of the least key out of `keys`.
fn least(keys: &mut [u32; CURVES]) -> Option<u8> {
    let key = Path::fastest().run(
        #[inline(always)]
        || keys.iter().fold(u32::MAX, |a, b| a.min(*b)),
    );
    let curve = (key & 0xFF) as u8;
    (key < u32::MAX).then(|| {
        keys[usize::from(curve)] = u32::MAX;
        curve
    })
}
