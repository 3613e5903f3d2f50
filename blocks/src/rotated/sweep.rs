//! The point of a [`Grid`] of even levels that is nearest in direction to a row: Gao, Gou, Xu, Yang, Long, Wong,
//! "Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors in Euclidean Space for
//! Approximate Nearest Neighbor Search", 2025.
//!
//! The grid of B bits has the points y with coordinates ±step_B·(c + ½), c in 0..2^(B−1) (eq. 7, with step 1).
//! Where widths are mixed, each has its own step, that of the best uniform quantizer of N(0,1), so that one
//! scale t suits all: t·z has coordinates of deviation 1.

use std::ops::Range;

use super::Grid;
use super::levels::uniform_step;
use vq_kernels::Path;

/// Coordinates at a time.
const LANES: usize = 16;

/// What the search reads of a coordinate's width.
struct Widths {
    /// 1/step.
    inverse: Vec<f32>,
    /// The largest c, 2^(B−1) − 1.
    top: Vec<f32>,
    /// 2^(B−1): the index of c = 0 for positive coordinates.
    half: Vec<u16>,
    step: Vec<f64>,
}

impl Widths {
    fn of(grid: &Grid) -> Self {
        let mut widths = Widths { inverse: vec![], top: vec![], half: vec![], step: vec![] };
        for (run, _) in grid.runs() {
            let (half, step) = (1_u16 << (run.bits - 1), uniform_step(run.bits));
            widths.inverse.resize(widths.inverse.len() + run.count, (1.0 / step) as f32);
            widths.top.resize(widths.top.len() + run.count, f32::from(half - 1));
            widths.half.resize(widths.half.len() + run.count, half);
            widths.step.resize(widths.step.len() + run.count, step);
        }
        widths
    }
}

/// One scale for all rows: t = √d/‖r‖, at which the coordinates of a row have the deviation 1 that the steps
/// are made for. The paper's library takes the mean of the best scales of 100 random rows instead.
pub struct Fast(Vec<Even>);

/// Coordinates of one width.
struct Even {
    range: Range<usize>,
    /// 1/step.
    inverse: f32,
    /// 2^(B−1): the index of the first cell above 0.
    half: f32,
}

impl Fast {
    /// For the widths of `grid`.
    #[must_use]
    pub fn new(grid: &Grid) -> Self {
        let even = grid.runs().map(|(run, _)| Even {
            range: run.first..run.first + run.count,
            inverse: (1.0 / uniform_step(run.bits)) as f32,
            half: (1 << (run.bits - 1)) as f32,
        });
        Fast(even.collect())
    }

    /// Writes the indices of the row `z` (d) of norm `norm`: of two cells a coordinate on their boundary
    /// belongs to the upper. O(d), no allocation.
    pub fn round(&self, z: &[f32], norm: f64, to: &mut [u16]) {
        let t = ((z.len() as f64).sqrt() / norm) as f32;
        for Even { range, inverse, half } in &self.0 {
            let (z, to, half) = (&z[range.clone()], &mut to[range.clone()], *half);
            let factor = (t * inverse).min(f32::MAX);
            Path::fastest().run(
                #[inline(always)]
                || rounded(z, factor, half, to),
            );
        }
    }
}

/// Indices of cells, of which half lie below 0. A function, whose arguments are known not to overlap: a closure's
/// would be read again for each coordinate.
#[inline(always)]
fn rounded(z: &[f32], factor: f32, half: f32, to: &mut [u16]) {
    for (to, z) in to.iter_mut().zip(z) {
        let cell = (z * factor).floor().max(-half).min(half - 1.0) + half;
        *to = cell as i32 as u16;
    }
}

/// The whole grid: as the scale t grows from 0, the point of the cell of t·z passes all points that may be
/// nearest in direction (Lemma 3.1, eq. 10), one coordinate after another moving on by a step at
/// t = l·step/|zᵢ|, l = 1, 2, …
///
/// With N = ⟨z, y⟩ and S = ‖y‖², such a move adds step·|zᵢ| to N and 2·l·step² = 2t·step·|zᵢ| to S: on the
/// way, S is a convex function of N whose slope is 2t. Between two scales whose N and S are known it lies
/// above both tangents, so that N²/S, the squared cosine but for ‖z‖², is at most what it is where they meet.
/// What may be better than the best so far is halved, and swept move by move where few are left: the result
/// is that of the full sweep.
pub struct Sweep {
    widths: Widths,
    /// |z|/step and |z|, both padded to whole [`LANES`].
    scaled: Vec<f32>,
    size: Vec<f32>,
    step: Vec<f64>,
    top: Vec<f32>,
    /// Moves within an interval: scale and coordinate.
    moves: Vec<(f64, u32)>,
    open: Vec<(Point, Point, f64)>,
    best: Best,
}

/// The point at a scale.
#[derive(Clone, Copy, Default)]
struct Point {
    t: f32,
    /// ⟨z, y⟩.
    n: f64,
    /// ‖y‖².
    s: f64,
    /// Σcᵢ.
    moved: f64,
}

impl Point {
    fn cosine_sq(&self) -> f64 {
        self.n * self.n / self.s
    }

    /// N²/S of all points on the way from here to `end`, at most.
    fn most(&self, end: &Point) -> f64 {
        let (low, high) = (2.0 * f64::from(self.t), 2.0 * f64::from(end.t));
        // Where the tangents meet; rounding must not take it out of the interval. The tangent here says
        // S there: that of `end` may be so steep that it says nothing.
        let meet = (end.s - self.s - high * end.n + low * self.n) / (low - high);
        let n = meet.clamp(self.n, end.n);
        n * n / (self.s + low * (n - self.n))
    }
}

/// The best point so far: that at a scale, and moves from there.
#[derive(Default)]
struct Best {
    cosine_sq: f64,
    t: f32,
    moves: Vec<u32>,
}

/// What rounding may do to N²/S, relatively.
const ROUNDING: f64 = 1e-11;

impl Sweep {
    /// For the widths of `grid`.
    #[must_use]
    pub fn new(grid: &Grid) -> Self {
        let widths = Widths::of(grid);
        let padded = widths.top.len().next_multiple_of(LANES);
        let (mut step, mut top) = (widths.step.clone(), widths.top.clone());
        // Coordinates that are there for whole lanes add nothing.
        step.resize(padded, 0.0);
        top.resize(padded, 0.0);
        let zeros = vec![0.0; padded];
        Sweep {
            widths,
            scaled: zeros.clone(),
            size: zeros,
            step,
            top,
            moves: Vec::new(),
            open: Vec::new(),
            best: Best::default(),
        }
    }

    /// Writes the indices of the point nearest in direction to `z` (d) of norm `norm`; of coordinates that are 0
    /// those of +½.
    pub fn nearest(&mut self, z: &[f32], norm: f64, to: &mut [u16]) {
        let coded = self.widths.top.len();
        for (((size, scaled), z), inverse) in
            self.size.iter_mut().zip(&mut self.scaled).zip(z).zip(&self.widths.inverse)
        {
            *size = z.abs();
            *scaled = *size * inverse;
        }
        if self.top.iter().any(|top| *top > 0.0) {
            self.seek(((z.len() as f64).sqrt() / norm) as f32);
        }
        let (cells, t) = (self.scaled.iter().zip(&self.top), self.best.t);
        let signs = z.iter().zip(&self.widths.half);
        Path::fastest().run(
            #[inline(always)]
            || {
                for ((to, (scaled, top)), (z, half)) in to[..coded].iter_mut().zip(cells).zip(signs)
                {
                    let c = cell(*scaled, t, *top) as i32 as u16;
                    *to = if *z >= 0.0 { half + c } else { half - 1 - c };
                }
            },
        );
        for i in &self.best.moves {
            let i = *i as usize;
            if z[i] >= 0.0 { to[i] += 1 } else { to[i] -= 1 }
        }
    }

    /// Finds the best point, `middle` being a scale in its neighbourhood.
    fn seek(&mut self, middle: f32) {
        let largest = self.scaled.iter().fold(0.0_f32, |a, b| a.max(*b));
        // So large that each coordinate that matters has made all its moves.
        let end = f32::MAX / largest.max(1.0) / 256.0;
        let scales = [0.0, 0.75 * middle, middle, 4.0 / 3.0 * middle, end];
        self.best = Best::default();
        self.open.clear();
        let points = scales.map(|t| self.at(t.min(end)));
        for pair in points.windows(2) {
            self.open.push((pair[0], pair[1], pair[0].most(&pair[1])));
        }
        self.open.sort_by(|a, b| a.2.total_cmp(&b.2));
        // Finding the moves of an interval takes a pass over all coordinates.
        let few = 8.0 + self.scaled.len() as f64 / 48.0;
        while let Some((low, high, most)) = self.open.pop() {
            if most * (1.0 + ROUNDING) < self.best.cosine_sq || high.moved == low.moved {
                continue;
            }
            let t = if high.t > 4.0 * low.t.max(0.1 * middle) {
                2.0 * low.t.max(0.1 * middle)
            } else if low.t == 0.0 {
                high.t / 2.0
            } else {
                (low.t * high.t).sqrt()
            };
            if high.moved - low.moved <= few || !(low.t < t && t < high.t) {
                self.sweep(&low, &high);
                continue;
            }
            let middle = self.at(t);
            let mut parts = [(low, middle), (middle, high)].map(|(a, b)| (a, b, a.most(&b)));
            parts.sort_by(|a, b| a.2.total_cmp(&b.2));
            self.open.extend(parts);
        }
    }

    /// The point at the scale `t`, which may be the best.
    fn at(&mut self, t: f32) -> Point {
        let (scaled, size) = (self.scaled.as_chunks().0, self.size.as_chunks().0);
        let (step, top) = (self.step.as_chunks().0, self.top.as_chunks().0);
        let (n, s, moved) = Path::fastest().run(
            #[inline(always)]
            || sums(scaled, size, step, top, t),
        );
        let point = Point { t, n, s, moved };
        if point.cosine_sq() > self.best.cosine_sq {
            self.best.cosine_sq = point.cosine_sq();
            self.best.t = t;
            self.best.moves.clear();
        }
        point
    }

    /// All points from `low` to `high`, move by move.
    fn sweep(&mut self, low: &Point, high: &Point) {
        let Sweep { scaled, size, step, top, moves, .. } = self;
        moves.clear();
        Path::fastest().run(
            #[inline(always)]
            || {
                let lanes = scaled.as_chunks::<LANES>().0.iter().zip(top.as_chunks::<LANES>().0);
                for (first, (scaled, top)) in (0..).step_by(LANES).zip(lanes) {
                    let at = |t| std::array::from_fn(|i| cell(scaled[i], t, top[i]));
                    let (from, to): ([f32; LANES], [f32; LANES]) = (at(low.t), at(high.t));
                    if from == to {
                        continue;
                    }
                    for lane in 0..LANES {
                        let (i, mut l) = (first + lane, from[lane]);
                        while l < to[lane] {
                            l += 1.0;
                            let t = f64::from(l) * step[i] / f64::from(size[i]);
                            moves.push((t, i as u32));
                        }
                    }
                }
            },
        );
        self.moves.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (mut n, mut s, mut best) = (low.n, low.s, None);
        for (count, (t, i)) in (1..).zip(&self.moves) {
            let added = self.step[*i as usize] * f64::from(self.size[*i as usize]);
            n += added;
            s += 2.0 * t * added;
            if n * n > self.best.cosine_sq * s {
                self.best.cosine_sq = n * n / s;
                best = Some(count);
            }
        }
        if let Some(count) = best {
            self.best.t = low.t;
            self.best.moves.clear();
            self.best.moves.extend(self.moves[..count].iter().map(|(_, i)| i));
        }
    }
}

/// c of a coordinate at the scale `t`.
#[inline(always)]
fn cell(scaled: f32, t: f32, top: f32) -> f32 {
    (scaled * t).floor().min(top)
}

/// ⟨z, y⟩, ‖y‖² and Σc at the scale `t`.
#[inline(always)]
fn sums(
    scaled: &[[f32; LANES]],
    size: &[[f32; LANES]],
    step: &[[f64; LANES]],
    top: &[[f32; LANES]],
    t: f32,
) -> (f64, f64, f64) {
    let (mut n, mut s, mut moved) = ([0.0; LANES], [0.0; LANES], [0.0_f32; LANES]);
    for (((scaled, size), step), top) in scaled.iter().zip(size).zip(step).zip(top) {
        for i in 0..LANES {
            let c = cell(scaled[i], t, top[i]);
            let y = (f64::from(c) + 0.5) * step[i];
            n[i] += f64::from(size[i]) * y;
            s[i] += y * y;
            moved[i] += c;
        }
    }
    let moved = moved.map(f64::from);
    (n.iter().sum(), s.iter().sum(), moved.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Scalars, levels};
    use vq_kernels::Draw;

    /// The squared cosine of the best of all points that the scale passes, every coordinate's every move
    /// sorted, as algorithm 1 has it.
    fn full_sweep(z: &[f32], widths: &Widths) -> f64 {
        let mut moves = Vec::new();
        let (mut n, mut s) = (0.0, 0.0);
        for (i, (step, top)) in widths.step.iter().zip(&widths.top).enumerate() {
            let size = f64::from(z[i].abs());
            n += size * step / 2.0;
            s += step * step / 4.0;
            if size > 0.0 {
                moves.extend(
                    (1..=*top as i32).map(|l| (f64::from(l) * step / size, f64::from(l), i)),
                );
            }
        }
        moves.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best = n * n / s;
        for (_, l, i) in moves {
            n += widths.step[i] * f64::from(z[i].abs());
            s += 2.0 * l * widths.step[i].powi(2);
            best = f64::max(best, n * n / s);
        }
        best
    }

    fn cosine_sq(z: &[f32], indices: &[u16], widths: &Widths) -> f64 {
        let (mut n, mut s) = (0.0, 0.0);
        for (((z, v), step), half) in z.iter().zip(indices).zip(&widths.step).zip(&widths.half) {
            let y = step * (f64::from(*v) - f64::from(*half) + 0.5);
            n += f64::from(*z) * y;
            s += y * y;
        }
        n * n / s
    }

    fn row(d: usize, kind: usize, draw: &mut Draw) -> Vec<f32> {
        let normal = |draw: &mut Draw| draw.normal() as f32;
        (0..d)
            .map(|i| match kind {
                0 => normal(draw),
                1 => normal(draw).powi(3) * 1e-12,
                2 => [0.0, 1.0, -1.0, 3.0, -0.0][draw.below(5)],
                3 => {
                    if i == 0 {
                        -7.0
                    } else {
                        normal(draw) * 1e-4
                    }
                }
                _ => normal(draw).exp() * 1e9,
            })
            .collect()
    }

    #[test]
    fn the_search_finds_what_the_full_sweep_finds() {
        let mut draw = Draw::new(1);
        for d in [1, 2, 3, 7, 16, 33, 128, 200] {
            let whole = (1..=8).map(|bits| (0.0, bits));
            let mixed = [1.2, 2.5, 3.7, 6.3].map(|bits| (bits + 64.0 / d as f64, 0));
            for size in whole.chain(mixed) {
                let Ok(grid) = Grid::new(d, size, (Scalars::F32, true), 0, levels::uniform) else {
                    assert!(d < 16, "{size:?} at {d}");
                    continue;
                };
                let (mut sweep, widths) = (Sweep::new(&grid), Widths::of(&grid));
                let coded = widths.top.len();
                for kind in (0..5).cycle().take(20) {
                    let z = row(d, kind, &mut draw);
                    let norm = vq_kernels::distance::norm_sq(&z).sqrt();
                    if z[..coded].iter().all(|z| *z == 0.0) {
                        continue;
                    }
                    let mut to = vec![0; d];
                    sweep.nearest(&z, norm, &mut to);
                    let (found, best) = (cosine_sq(&z, &to, &widths), full_sweep(&z, &widths));
                    let off = (found / best - 1.0).abs();
                    assert!(off < 1e-12, "d = {d}, {size:?}, rows {kind}: {found} {best}");
                }
            }
        }
    }

    #[test]
    fn what_lies_on_a_boundary_belongs_to_the_upper_cell() {
        let grid = Grid::new(4, (0.0, 2), (Scalars::F32, true), 0, levels::uniform).unwrap();
        // At norm √d the scale is 1: boundaries at −step, 0 and step.
        let step = 1.0 / (1.0 / uniform_step(2)) as f32;
        let z = [0.0, -0.0, step, -step];
        let mut to = [0; 4];
        Fast::new(&grid).round(&z, 2.0, &mut to);
        assert_eq!(to, [2, 2, 3, 1]);
        Sweep::new(&grid).nearest(&[0.0, -0.0, 1.0, -1.0], 2.0_f64.sqrt(), &mut to);
        assert!(to[0] == 2 && to[1] == 2 && to[2] == 3 - to[3], "{to:?}");
    }
}
