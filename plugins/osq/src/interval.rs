//! The interval of a row.
//!
//! A coordinate x becomes m + w·g, g being the nearest of 2^B points from −h to h, h the half-range of the
//! best uniform quantizer of N(0,1): with one width this is the interval a = m − w·h to b = m + w·h of the
//! reference, and where widths are mixed each has a range of its own in it. With e the row r less what is
//! read of it, the interval minimises
//!
//! `L = (1 − λ)·⟨r, e⟩²/‖r‖² + λ·‖e‖²`,
//!
//! in turns with the points: for given points L is a quadratic form of (m, w).

use std::ops::Range;

use vq_blocks::rotated::levels::uniform_step;
use vq_blocks::rotated::{Affine, Format};
use vq_kernels::Path;
use vq_kernels::distance::norm_sq;
use vq_kernels::levels::index;

/// Coordinates at a time.
const LANES: usize = 16;

/// Rounds of the reference, at most.
const ROUNDS: usize = 5;

/// Coordinates of one width.
#[derive(Clone, Debug)]
struct Even {
    range: Range<usize>,
    /// h.
    half: f32,
    /// Between two points.
    step: f32,
    /// Of the last point.
    top: f32,
}

impl Even {
    fn new(range: Range<usize>, bits: u32) -> Self {
        let top = f32::from((1_u16 << bits) - 1);
        let step = uniform_step(bits) as f32;
        Even { range, half: step * top / 2.0, step, top }
    }
}

/// The points of `bits` bits, ascending.
pub(crate) fn points(bits: u32) -> Vec<f32> {
    let Even { half, step, top, .. } = Even::new(0..0, bits);
    (0..=top as u16).map(|k| f32::from(k) * step - half).collect()
}

/// An interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Interval {
    pub(crate) m: f32,
    /// 0 where all coordinates are read as m.
    pub(crate) w: f32,
}

/// Finds intervals and points.
#[derive(Clone, Debug)]
pub(crate) struct Fitter {
    runs: Vec<Even>,
    lambda: f64,
}

/// What the points of an interval say of the next one.
#[derive(Clone, Copy, Debug)]
struct Sums {
    /// Σg and Σg².
    g: f64,
    gg: f64,
    /// Σx·g.
    xg: f64,
    /// ⟨r, e⟩ and ‖e‖².
    xe: f64,
    ee: f64,
}

impl Fitter {
    /// For rows that `affine` stores.
    pub(crate) fn new(affine: &Affine, lambda: f64) -> Self {
        let runs = affine.layout().runs().iter().filter(|run| run.bits > 0);
        let runs = runs.map(|run| Even::new(run.first..run.first + run.count, run.bits)).collect();
        Fitter { runs, lambda }
    }

    /// For rows of `dim` coordinates at `bits` bits.
    pub(crate) fn uniform(dim: usize, bits: u32, lambda: f64) -> Self {
        Fitter { runs: vec![Even::new(0..dim, bits)], lambda }
    }

    /// Writes the indices of the points of `r` (d) into `to` (d) and answers the interval, as `format` stores it.
    /// About nine passes over d, no allocation.
    pub(crate) fn fit(&self, r: &[f32], format: Format, to: &mut [u16]) -> Interval {
        let interval = self.interval(r);
        let interval = Interval { m: format.rounded(interval.m), w: format.rounded(interval.w) };
        self.round(r, interval, to);
        interval
    }

    /// What is read of the points of `r` (d) in its interval.
    pub(crate) fn rounded(&self, r: &[f32]) -> Vec<f32> {
        let (mut to, mut read) = (vec![0; r.len()], vec![0.0; r.len()]);
        let Interval { m, w } = self.fit(r, Format::F32, &mut to);
        for Even { range, half, step, .. } in &self.runs {
            for (read, k) in read[range.clone()].iter_mut().zip(&to[range.clone()]) {
                *read = m + w * (f32::from(*k) * step - half);
            }
        }
        read
    }

    fn interval(&self, r: &[f32]) -> Interval {
        let coded = self.runs.last().map_or(0, |run| run.range.end);
        // The narrowest range has to hold all coordinates, too, where the row has no long tails.
        let narrowest = self.runs.iter().map(|run| run.half).fold(f32::INFINITY, f32::min);
        let (sum, mut at) = self.start(&r[..coded], narrowest);
        let (norm_sq, beyond) = (norm_sq(r), norm_sq(&r[coded..]));
        let scale = (1.0 - self.lambda) / norm_sq;
        if at.w == 0.0 || !scale.is_finite() {
            return at;
        }
        let loss = |sums: &Sums| scale * sums.xe.powi(2) + self.lambda * sums.ee;
        let mut sums = self.sums(r, at, beyond);
        for _ in 0..ROUNDS {
            let aa = scale * sum * sum + self.lambda * coded as f64;
            let ab = scale * sum * sums.xg + self.lambda * sums.g;
            let bb = scale * sums.xg * sums.xg + self.lambda * sums.gg;
            let determinant = aa * bb - ab * ab;
            // Rounding of zero, where λ = 0 or all points are one.
            if determinant <= 1e-9 * aa * bb {
                break;
            }
            let next = Interval {
                m: ((bb * sum - ab * sums.xg) / determinant) as f32,
                w: ((aa * sums.xg - ab * sum) / determinant) as f32,
            };
            if next == at || !(next.w > 0.0 && next.w.is_finite() && next.m.is_finite()) {
                break;
            }
            let found = self.sums(r, next, beyond);
            if loss(&found) > loss(&sums) {
                break;
            }
            (at, sums) = (next, found);
        }
        at
    }

    /// Σx, and the interval of `half` standard deviations about the mean of `x`, within its range.
    fn start(&self, x: &[f32], half: f32) -> (f64, Interval) {
        let (mut sums, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (lanes, rest) = x.as_chunks::<LANES>();
        Path::fastest().run(
            #[inline(always)]
            || {
                for x in lanes {
                    for i in 0..LANES {
                        sums[i] += x[i];
                        low[i] = low[i].min(x[i]);
                        high[i] = high[i].max(x[i]);
                    }
                }
            },
        );
        for (i, x) in rest.iter().enumerate() {
            sums[i] += x;
            low[i] = low[i].min(*x);
            high[i] = high[i].max(*x);
        }
        let sum: f64 = sums.iter().map(|x| f64::from(*x)).sum();
        let mean = (sum / x.len().max(1) as f64) as f32;
        Path::fastest().run(
            #[inline(always)]
            || {
                for x in lanes {
                    for i in 0..LANES {
                        squares[i] += (x[i] - mean) * (x[i] - mean);
                    }
                }
            },
        );
        rest.iter().zip(&mut squares).for_each(|(x, sum)| *sum += (x - mean) * (x - mean));
        let variance = squares.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len().max(1) as f64;
        let wide = half * variance.sqrt() as f32;
        let low = low.iter().fold(f32::INFINITY, |a, b| a.min(*b));
        let high = high.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        if low >= high {
            // No coordinates, or all the same.
            return (sum, Interval { m: if x.is_empty() { 0.0 } else { low }, w: 0.0 });
        }
        let (a, b) = ((mean - wide).max(low), (mean + wide).min(high));
        let w = (b / 2.0 - a / 2.0) / half;
        (sum, Interval { m: a / 2.0 + b / 2.0, w: if w > f32::MIN_POSITIVE { w } else { 0.0 } })
    }

    /// `beyond` is the squared norm of the coordinates that have no bits.
    fn sums(&self, r: &[f32], interval: Interval, beyond: f64) -> Sums {
        let mut found = [[0.0_f32; LANES]; 5];
        for run in &self.runs {
            let (lanes, rest) = r[run.range.clone()].as_chunks::<LANES>();
            let points = Points::new(run, interval);
            Path::fastest().run(
                #[inline(always)]
                || {
                    let [g, gg, xg, xe, ee] = &mut found;
                    for x in lanes {
                        for i in 0..LANES {
                            points.add(
                                x[i],
                                [&mut g[i], &mut gg[i], &mut xg[i], &mut xe[i], &mut ee[i]],
                            );
                        }
                    }
                },
            );
            let [g, gg, xg, xe, ee] = &mut found;
            for (i, x) in rest.iter().enumerate() {
                points.add(*x, [&mut g[i], &mut gg[i], &mut xg[i], &mut xe[i], &mut ee[i]]);
            }
        }
        let [g, gg, xg, xe, ee] =
            found.map(|lanes| lanes.iter().map(|x| f64::from(*x)).sum::<f64>());
        Sums { g, gg, xg, xe: xe + beyond, ee: ee + beyond }
    }

    /// Of two points as near, the upper.
    fn round(&self, r: &[f32], interval: Interval, to: &mut [u16]) {
        to.fill(0);
        if interval.w == 0.0 {
            return;
        }
        for run in &self.runs {
            let points = Points::new(run, interval);
            let (r, to) = (&r[run.range.clone()], &mut to[run.range.clone()]);
            Path::fastest().run(
                #[inline(always)]
                || {
                    for (to, x) in to.iter_mut().zip(r) {
                        *to = index(points.level(*x));
                    }
                },
            );
        }
    }
}

/// The points of a run in an interval.
struct Points {
    at: Interval,
    /// From m to indices.
    per_index: f32,
    /// The index of m, and a half for rounding.
    middle: f32,
    top: f32,
    step: f32,
    half: f32,
}

impl Points {
    fn new(run: &Even, at: Interval) -> Self {
        Points {
            at,
            per_index: (1.0 / (at.w * run.step)).min(f32::MAX),
            middle: run.top / 2.0 + 0.5,
            top: run.top,
            step: run.step,
            half: run.half,
        }
    }

    #[inline(always)]
    fn level(&self, x: f32) -> f32 {
        ((x - self.at.m) * self.per_index + self.middle).floor().max(0.0).min(self.top)
    }

    #[inline(always)]
    fn add(&self, x: f32, [g, gg, xg, xe, ee]: [&mut f32; 5]) {
        let point = self.level(x) * self.step - self.half;
        let e = x - (self.at.m + self.at.w * point);
        *g += point;
        *gg += point * point;
        *xg += x * point;
        *xe += x * e;
        *ee += e * e;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    /// The interval [a, b] as the reference states it, in f64 and with the whole 2 × 2 system.
    fn reference(r: &[f64], bits: u32, lambda: f64) -> (f64, f64) {
        let n = r.len() as f64;
        let mean = r.iter().sum::<f64>() / n;
        let deviation = (r.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let low = r.iter().copied().fold(f64::INFINITY, f64::min);
        let high = r.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let top = f64::from((1 << bits) - 1);
        let wide = uniform_step(bits) * top / 2.0 * deviation;
        let (mut a, mut b) = ((mean - wide).max(low), (mean + wide).min(high));
        let norm_sq: f64 = r.iter().map(|x| x * x).sum();
        let part =
            |a: f64, b: f64, x: f64| ((x.clamp(a, b) - a) * top / (b - a) + 0.5).floor() / top;
        let loss = |a: f64, b: f64| {
            let e: Vec<f64> = r.iter().map(|x| x - (a + (b - a) * part(a, b, *x))).collect();
            let along: f64 = r.iter().zip(&e).map(|(x, e)| x * e).sum();
            let across: f64 = e.iter().map(|e| e * e).sum();
            (1.0 - lambda) * along * along / norm_sq + lambda * across
        };
        for _ in 0..5 {
            let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for x in r {
                let s = part(a, b, *x);
                aa += (1.0 - s) * (1.0 - s);
                ab += (1.0 - s) * s;
                bb += s * s;
                ax += x * (1.0 - s);
                bx += x * s;
            }
            let scale = (1.0 - lambda) / norm_sq;
            let (p, q, s) = (
                scale * ax * ax + lambda * aa,
                scale * ax * bx + lambda * ab,
                scale * bx * bx + lambda * bb,
            );
            let determinant = p * s - q * q;
            let next = ((s * ax - q * bx) / determinant, (p * bx - q * ax) / determinant);
            if loss(next.0, next.1) > loss(a, b) {
                break;
            }
            (a, b) = next;
        }
        (a, b)
    }

    #[test]
    fn intervals_are_those_of_the_reference() {
        let mut draw = Draw::new(3);
        for bits in 1..=8 {
            for (d, lambda) in [(17, 0.1), (128, 0.1), (300, 0.1), (128, 1.0), (64, 0.5)] {
                let r: Vec<f32> = (0..d).map(|_| draw.normal() as f32 + 0.3).collect();
                let wide: Vec<f64> = r.iter().map(|x| f64::from(*x)).collect();
                let (a, b) = reference(&wide, bits, lambda);
                let Interval { m, w } = Fitter::uniform(d, bits, lambda).interval(&r);
                let half = Even::new(0..d, bits).half;
                let off = f64::from(m - w * half - a as f32).abs()
                    + f64::from(m + w * half - b as f32).abs();
                // A coordinate that f32 puts into the next cell moves a little.
                assert!(off < 2e-2 * (b - a), "{bits} bits, d = {d}: {m} {w} {a} {b}");
            }
        }
    }

    #[test]
    fn a_joint_scale_gives_each_width_its_range() {
        let mut draw = Draw::new(3);
        let r: Vec<f32> = (0..256).map(|_| draw.normal() as f32).collect();
        let runs = vec![Even::new(0..128, 1), Even::new(128..256, 3)];
        let fitter = Fitter { runs, lambda: 1.0 };
        let Interval { m, w } = fitter.interval(&r);
        assert!(m.abs() < 0.1 && (0.9..1.1).contains(&w), "{m} {w}");
        let read = fitter.rounded(&r);
        let error = |range: Range<usize>| {
            let terms = r[range.clone()].iter().zip(&read[range]);
            terms.map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>() / 128.0
        };
        let (one, three) = (error(0..128), error(128..256));
        assert!((0.25..0.47).contains(&one) && (0.02..0.06).contains(&three), "{one} {three}");
    }

    #[test]
    fn what_lies_between_two_points_has_the_upper() {
        let fitter = Fitter::uniform(4, 1, 0.1);
        let mut to = [9; 4];
        fitter.round(&[0.0, -0.0, 1e-3, -1e-3], Interval { m: 0.0, w: 1.0 }, &mut to);
        assert_eq!(to, [1, 1, 1, 0]);
        let interval = fitter.fit(&[2.5; 4], Format::F32, &mut to);
        assert_eq!((interval, to), (Interval { m: 2.5, w: 0.0 }, [0; 4]));
        let nothing = Fitter { runs: vec![], lambda: 0.1 };
        assert_eq!(nothing.interval(&[1.0, 2.0]), Interval::default());
    }
}
