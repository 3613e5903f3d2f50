//! The point of a [`Grid`] of even levels that is nearest in direction to a row: Gao, Gou, Xu, Yang, Long, Wong,
//! "Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors in Euclidean Space for
//! Approximate Nearest Neighbor Search", 2025.
//!
//! The grid of B bits has the points y with coordinates ±step_B·(c + ½), c in 0..2^(B−1) (eq. 7, with step 1).
//! Where widths are mixed, each has its own step, that of the best uniform quantizer of N(0,1), so that one
//! scale t suits all: t·z has coordinates of deviation 1.

use std::f64::consts::PI;
use std::ops::{Add, Range};

use super::Grid;
use super::levels::uniform_step;
use vq_kernels::Path;
use vq_kernels::distance::norm_sq;
use vq_kernels::levels::index;

/// Coordinates, or scales, at a time.
const LANES: usize = 16;

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
        let cell = (z * factor).floor();
        let cell = if cell > -half { cell } else { -half };
        let cell = if cell < half - 1.0 { cell } else { half - 1.0 };
        *to = index(cell + half);
    }
}

/// The whole grid: as the scale t grows from 0, the point of the cell of t·z passes all points that may be
/// nearest in direction (Lemma 3.1, eq. 10), one coordinate after another moving on by a step at
/// t = l·step/|zᵢ|, l = 1, 2, …
///
/// The search looks for the least h(a) = min ‖z − a·y‖² over all points y, whose place is a = 1/t and whose value is
/// ‖z‖² times the squared sine. h is known where it is computed, which takes f32 and is done for eight or sixteen
/// scales at once. Between two of them, t₀ < t₁, the parabola of a point y that would be the best has the value h at its lowest
/// point and the curvature 2‖y‖² ≤ 2‖z‖²·t₁², and lies above h at both ends. With Δ = ‖z‖²·(t₁/t₀ − 1)²/4 and δ the
/// difference of h between the ends it is nowhere lower than min(h(1/t₀), h(1/t₁)) − Δ·max(0, 1 − δ/4Δ)². What may be
/// better than the best so far is cut further, and swept move by move in f64 where few are left: the result is that of
/// the full sweep.
pub struct Sweep {
    runs: Vec<Run>,
    coded: usize,
    /// Σ t·|z|/step of normal numbers at the scale at which coordinates have the deviation 1.
    spread: f32,
    /// |z|/step and |z| in a [`unit`], each run padded to whole [`LANES`] by zeros.
    scaled: Vec<f32>,
    size: Vec<f32>,
    /// What moves within an interval: which coordinates of a run, and the moves of all with their order.
    moving: Vec<u8>,
    moves: Vec<Move>,
    order: Vec<u32>,
    /// ‖z‖² of what is coded.
    length_sq: f64,
    open: Vec<Interval>,
    /// Of each open interval.
    parts: Vec<f32>,
    /// Where the next open ones are made.
    next: Vec<Interval>,
    /// The open intervals whose upper end, which is the next one's lower, has no h yet.
    cuts: Vec<usize>,
    best: Best,
}

/// Coordinates of one width.
struct Run {
    first: usize,
    count: usize,
    /// Where it begins among the padded.
    at: usize,
    step: f64,
    /// The largest c, 2^(B−1) − 1.
    top: f32,
    /// 2^(B−1): the index of c = 0 for positive coordinates.
    half: u16,
}

impl Run {
    fn padded(&self) -> Range<usize> {
        self.at..self.at + self.count.next_multiple_of(LANES)
    }

    fn inverse(&self) -> f32 {
        (1.0 / self.step) as f32
    }

    /// Adds what [`sums`] says of the run to ⟨z, y⟩ and ‖y‖².
    fn add(&self, (zc, cc): (f64, f64), n: &mut f64, s: &mut f64) {
        *n += self.step * zc;
        *s += self.step * self.step * (cc + self.count as f64 / 4.0);
    }
}

/// A scale, and h there over ‖z‖², not more than it is.
#[derive(Clone, Copy)]
struct Edge {
    t: f32,
    h: f32,
}

/// Scales among which the best may be.
#[derive(Clone, Copy)]
struct Interval {
    low: Edge,
    high: Edge,
}

/// What is swept.
#[derive(Clone, Copy)]
struct Few {
    /// Moves one by one.
    moves: f32,
    /// Moves per unit of the scale, of normal numbers of which none is in its last cell.
    per_scale: f32,
}

impl Few {
    /// Into how many parts each of them goes: 0 where nothing is better than `worst`, 1 where few moves are.
    #[inline(always)]
    fn parts(self, open: &[Interval], worst: f32, parts: &mut [f32]) {
        for (interval, parts) in open.iter().zip(parts) {
            let (Edge { t: t0, h: h0 }, Edge { t: t1, h: h1 }) = (interval.low, interval.high);
            let width = t1 - t0;
            let ratio = width / t0;
            let dip = ratio * ratio * (0.25 + 1e-6);
            let of_dip = 1.0 - (h1 - h0).abs() / (4.0 * dip);
            let of_dip = if of_dip > 0.0 { of_dip } else { 0.0 };
            let least = if h0 < h1 { h0 } else { h1 };
            let ruled_out = least - dip * of_dip * of_dip > worst;
            // So many that few of them would dip below `worst`, or that each has few moves.
            let spare = if least - worst > 1e-30 { least - worst } else { 1e-30 };
            let (by_dip, by_moves) =
                ((dip / (1.25 * spare)).sqrt(), self.per_scale * width / self.moves);
            let cuts = if by_dip < by_moves { by_dip } else { by_moves };
            let cuts = if cuts < 15.0 { cuts } else { 15.0 };
            let cuts = if cuts > 1.0 { cuts.floor() } else { 1.0 };
            // Cuts that f32 tells apart.
            let whole = by_moves <= 1.0 || ratio < 1e-5;
            *parts = if ruled_out {
                0.0
            } else if whole {
                1.0
            } else {
                cuts + 1.0
            };
        }
    }
}

/// A coordinate's move on by one step.
struct Move {
    t: f64,
    /// Of the coordinate, among the padded.
    place: u32,
    /// What it adds to ⟨z, y⟩.
    added: f64,
}

/// The best point so far: that at a scale, and moves from there.
#[derive(Default)]
struct Best {
    cosine_sq: f64,
    t: f32,
    moves: Vec<u32>,
}

/// Terms that are summed in f32 before their sum is added to others.
const SUMMED: usize = 512;

/// So many scales cost half as much as [`LANES`].
const FEW_CUTS: usize = 8;

/// Where h is computed first, in multiples of the scale at which coordinates have the deviation 1.
const FIRST: [f32; LANES] =
    [0.16, 0.28, 0.4, 0.5, 0.6, 0.69, 0.77, 0.84, 0.91, 0.98, 1.05, 1.13, 1.24, 1.4, 1.7, 2.3];

/// What rounding may do to N²/S, relatively.
const ROUNDING: f64 = 1e-11;

impl Sweep {
    /// For the widths of `grid`.
    #[must_use]
    pub fn new(grid: &Grid) -> Self {
        let (mut runs, mut at, mut coded, mut spread) = (Vec::new(), 0, 0, 0.0);
        for (run, _) in grid.runs() {
            let half = 1_u16 << (run.bits - 1);
            let (first, count) = (coded, run.count);
            let (step, top) = (uniform_step(run.bits), f32::from(half - 1));
            runs.push(Run { first, count, at, step, top, half });
            at += count.next_multiple_of(LANES);
            spread += (2.0 / PI).sqrt() * count as f64 / step;
            coded += count;
        }
        Sweep {
            runs,
            coded,
            spread: spread as f32,
            scaled: vec![0.0; at],
            size: vec![0.0; at],
            moving: vec![0; at],
            moves: Vec::new(),
            order: Vec::new(),
            length_sq: 0.0,
            open: Vec::new(),
            parts: Vec::new(),
            next: Vec::new(),
            cuts: Vec::new(),
            best: Best::default(),
        }
    }

    /// Writes the indices of the point nearest in direction to `z` (d) of norm `norm`: of several in one direction,
    /// as ½·(1, 1) and ½·(3, 3), that nearest to the origin; of coordinates that are 0 those of +½.
    pub fn nearest(&mut self, z: &[f32], norm: f64, to: &mut [u16]) {
        let Sweep { runs, scaled, size, .. } = self;
        let root = (z.len() as f64).sqrt();
        let unit = unit(norm / root);
        for run in &*runs {
            let (z, from) = (&z[run.first..][..run.count], run.padded());
            let (size, scaled) = (&mut size[from.clone()], &mut scaled[from]);
            Path::fastest().run(
                #[inline(always)]
                || sizes(z, (unit, run.inverse()), size, scaled),
            );
        }
        self.best = Best::default();
        if self.runs.iter().any(|run| run.top > 0.0) {
            self.seek((root / (norm * f64::from(unit))) as f32);
        }
        let t = self.best.t;
        for run in &self.runs {
            let (range, scaled) = (run.first..run.first + run.count, &self.scaled[run.padded()]);
            let (z, to) = (&z[range.clone()], &mut to[range]);
            Path::fastest().run(
                #[inline(always)]
                || indices(z, scaled, (t, run.top), run.half, to),
            );
        }
        for i in &self.best.moves {
            let i = *i as usize;
            if let Some(run) = self.runs.iter().rfind(|run| run.at <= i) {
                let i = run.first + i - run.at;
                if z[i] >= 0.0 { to[i] += 1 } else { to[i] -= 1 }
            }
        }
        self.shorten(to);
    }

    /// Divides the point by what all its coordinates, in halves of a step, have as a factor: an odd number.
    fn shorten(&self, to: &mut [u16]) {
        let of_run = |run: &Run| run.first..run.first + run.count;
        let mut factor = 0;
        for run in &self.runs {
            for index in &to[of_run(run)] {
                factor = common_factor(factor, halves(*index, run.half).unsigned_abs());
                if factor == 1 {
                    return;
                }
            }
        }
        for run in &self.runs {
            for index in &mut to[of_run(run)] {
                let halves = halves(*index, run.half) / factor as i32;
                *index = ((halves - 1) / 2 + i32::from(run.half)) as u16;
            }
        }
    }

    /// Finds the best point, `middle` being a scale in its neighbourhood.
    fn seek(&mut self, middle: f32) {
        let largest = Path::fastest().run(
            #[inline(always)]
            || largest_of(&self.scaled),
        );
        if largest == 0.0 {
            return;
        }
        self.length_sq = norm_sq(&self.size);
        self.open(middle, largest);
        let few = Few { moves: 8.0 + self.coded as f32 / 48.0, per_scale: self.spread / middle };
        while !self.open.is_empty() {
            let worst = self.worst();
            self.parts.clear();
            self.parts.resize(self.open.len(), 0.0);
            Path::fastest().run(
                #[inline(always)]
                || few.parts(&self.open, worst, &mut self.parts),
            );
            self.divide();
            let cuts = std::mem::take(&mut self.cuts);
            for cuts in cuts.chunks(LANES) {
                match cuts.len() {
                    ..=FEW_CUTS => self.measure::<FEW_CUTS>(cuts, worst),
                    _ => self.measure::<LANES>(cuts, worst),
                }
            }
            self.cuts = cuts;
        }
    }

    /// Computes h at some of the cuts, and tries the best of them where it may be better.
    fn measure<const SCALES: usize>(&mut self, cuts: &[usize], worst: f32) {
        let scales = std::array::from_fn(|i| self.open[cuts[i.min(cuts.len() - 1)]].high.t);
        let h = self.heights::<SCALES>(&scales);
        for (cut, h) in cuts.iter().zip(h) {
            self.open[*cut].high.h = h;
            self.open[*cut + 1].low.h = h;
        }
        if h.iter().any(|h| *h < worst) {
            self.try_least(&scales, &h);
        }
    }

    /// Puts the parts of the open intervals in their place, but for what has few moves: that is swept.
    fn divide(&mut self) {
        self.cuts.clear();
        let open = std::mem::take(&mut self.open);
        self.next.clear();
        // Neighbours are swept at once.
        let mut ready = None;
        for (i, Interval { low, high }) in open.iter().copied().enumerate() {
            let parts = self.parts[i];
            if parts > 1.0 {
                let width = (high.t - low.t) / parts;
                let mut from = low;
                for part in 1..parts as u16 {
                    let cut = Edge { t: low.t + f32::from(part) * width, h: 0.0 };
                    self.cuts.push(self.next.len());
                    self.next.push(Interval { low: from, high: cut });
                    from = cut;
                }
                self.next.push(Interval { low: from, high });
            } else if parts == 1.0 {
                ready = match ready {
                    Some((first, last)) if last == low.t => Some((first, high.t)),
                    before => {
                        if let Some((first, last)) = before {
                            self.sweep(first, last);
                        }
                        Some((low.t, high.t))
                    }
                };
            }
        }
        if let Some((first, last)) = ready {
            self.sweep(first, last);
        }
        self.open = std::mem::replace(&mut self.next, open);
    }

    /// Opens the intervals in which the best point may be: from where no coordinate has moved to where so many
    /// are beyond their last cell that nothing better than the best so far comes after.
    fn open(&mut self, middle: f32, largest: f32) {
        // So large that each coordinate that matters has made all its moves.
        let end = f32::MAX / largest.max(1.0) / 256.0;
        // No coordinate moves before: there is one point so far.
        let first = (0.999 / largest).min(end);
        self.at(first);
        self.open.clear();
        let mut scales = FIRST.map(|factor| factor * middle);
        let below = scales.partition_point(|t| *t <= first);
        scales[below.max(1) - 1] = first;
        let mut low: Option<Edge> = None;
        for _ in 0..8 {
            let h = self.heights::<LANES>(&scales);
            self.try_least(&scales, &h);
            let worst = self.worst();
            for (t, h) in scales.into_iter().zip(h) {
                if t < first || end <= t {
                    continue;
                }
                let high = Edge { t, h };
                if let Some(low) = low.filter(|low| low.t < t) {
                    self.open.push(Interval { low, high });
                }
                low = Some(high);
                if t > 1.2 * middle && self.beyond(t) > worst {
                    return;
                }
            }
            let from = low.map_or(first, |low| low.t).max(middle);
            scales = std::array::from_fn(|i| from * 1.5_f32.powi(i as i32 + 1));
        }
        self.sweep(low.map_or(first, |low| low.t), end);
    }

    /// What h is not above at a point that is better than the best.
    fn worst(&self) -> f32 {
        let sine_sq = 1.0 - self.best.cosine_sq / self.length_sq;
        (sine_sq + ROUNDING) as f32 * (1.0 + f32::EPSILON)
    }

    /// Tries the point at the scale with the least h.
    fn try_least(&mut self, scales: &[f32], h: &[f32]) {
        let least = scales.iter().zip(h).min_by(|a, b| a.1.total_cmp(b.1));
        self.at(*least.expect("lanes").0);
    }

    /// h at the scales.
    fn heights<const SCALES: usize>(&self, scales: &[f32; SCALES]) -> [f32; SCALES] {
        let mut sums = [0.0; SCALES];
        for run in &self.runs {
            let unit = (run.step * run.step) as f32;
            for scaled in self.scaled[run.at..][..run.count].chunks(SUMMED) {
                Path::fastest().run(
                    #[inline(always)]
                    || errors(scaled, run.top, scales, unit, &mut sums),
                );
            }
        }
        self.at_least(sums, scales)
    }

    /// What h is not below at the scale `t` and all larger ones: what lies more than half a step beyond the last cells.
    fn beyond(&self, t: f32) -> f32 {
        let mut sum = 0.0;
        for run in &self.runs {
            let unit = (run.step * run.step) as f32;
            for scaled in self.scaled[run.padded()].chunks(SUMMED) {
                let far = Path::fastest().run(
                    #[inline(always)]
                    || beyond(scaled.as_chunks().0, run.top + 1.0, t),
                );
                sum += unit * far;
            }
        }
        let [h] = self.at_least([sum], &[t]);
        h
    }

    /// What sums of squared errors at the scales say of h: not more than it is.
    fn at_least<const SCALES: usize>(
        &self,
        sums: [f32; SCALES],
        scales: &[f32; SCALES],
    ) -> [f32; SCALES] {
        // What f32 rounds: half of so many terms at most are added one after another, and then such sums.
        let additions = self.coded.min(SUMMED) / 2 + self.coded / SUMMED + 16;
        let share = 1.0 - additions as f32 * (f32::EPSILON / 2.0);
        let per_length = (1.0 / self.length_sq.sqrt()) as f32;
        Path::fastest().run(
            #[inline(always)]
            || at_least(&sums, share, per_length, scales),
        )
    }

    /// The point at the scale `t`, which may be the best.
    fn at(&mut self, t: f32) {
        let (mut n, mut s) = (0.0, 0.0);
        for run in &self.runs {
            let (scaled, size) = (&self.scaled[run.padded()], &self.size[run.padded()]);
            let of_run = Path::fastest().run(
                #[inline(always)]
                || sums(scaled.as_chunks().0, size.as_chunks().0, run.top, t),
            );
            run.add(of_run, &mut n, &mut s);
        }
        if n * n > self.best.cosine_sq * s {
            self.best.cosine_sq = n * n / s;
            self.best.t = t;
            self.best.moves.clear();
        }
    }

    /// All points from the scale `low` to `high`, move by move.
    fn sweep(&mut self, low: f32, high: f32) {
        let Sweep { runs, scaled, size, moving, moves, order, .. } = self;
        moves.clear();
        let (mut n, mut s) = (0.0, 0.0);
        for run in &*runs {
            let (scaled, size) = (&scaled[run.padded()], &size[run.padded()]);
            let moving = &mut moving[..scaled.len()];
            let of_run = Path::fastest().run(
                #[inline(always)]
                || {
                    moves_between(scaled, run.top, (low, high), moving);
                    push_moves((scaled, size), run, (low, high), moving, moves);
                    sums(scaled.as_chunks().0, size.as_chunks().0, run.top, low)
                },
            );
            run.add(of_run, &mut n, &mut s);
        }
        let mut best = (n * n > self.best.cosine_sq * s).then_some(0);
        let mut cosine_sq = if best.is_some() { n * n / s } else { self.best.cosine_sq };
        put_in_order(moves, (low, high), order);
        for (count, at) in (1..).zip(&*order) {
            let Move { t, added, .. } = &moves[*at as usize];
            n += added;
            s += 2.0 * t * added;
            if n * n > cosine_sq * s {
                cosine_sq = n * n / s;
                best = Some(count);
            }
        }
        if let Some(count) = best {
            self.best.cosine_sq = cosine_sq;
            self.best.t = low;
            self.best.moves.clear();
            let made = self.order[..count].iter().map(|at| self.moves[*at as usize].place);
            self.best.moves.extend(made);
        }
    }
}

/// A power of two, times which `size` lies between 1 and 2: by it a row is neither too large nor too small for f32.
fn unit(size: f64) -> f32 {
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    f32::from_bits((127 - exponent.clamp(-126, 126)).cast_unsigned() << 23)
}

/// |z|·unit and that over the step.
#[inline(always)]
fn sizes(z: &[f32], (unit, inverse): (f32, f32), size: &mut [f32], scaled: &mut [f32]) {
    for ((size, scaled), z) in size.iter_mut().zip(scaled).zip(z) {
        *size = z.abs() * unit;
        *scaled = *size * inverse;
    }
}

/// The indices of the coordinates at the scale `t`.
#[inline(always)]
fn indices(z: &[f32], scaled: &[f32], (t, top): (f32, f32), half: u16, to: &mut [u16]) {
    for ((to, scaled), z) in to.iter_mut().zip(scaled).zip(z) {
        let c = index(cell(scaled * t, top));
        *to = if *z >= 0.0 { half + c } else { half - 1 - c };
    }
}

/// c of a coordinate `r` = t·|z|/step.
#[inline(always)]
fn cell(r: f32, top: f32) -> f32 {
    let c = r.floor();
    // Not `min`, which looks for NaN.
    if c < top { c } else { top }
}

/// The coordinate of an index, in halves of a step: an odd number.
fn halves(index: u16, half: u16) -> i32 {
    2 * (i32::from(index) - i32::from(half)) + 1
}

/// The largest number that divides both, of which the first may be 0.
fn common_factor(mut a: u32, mut b: u32) -> u32 {
    while a != 0 {
        (a, b) = (b % a, a);
    }
    b
}

/// The largest of numbers that are not negative: their bits have their order.
#[inline(always)]
fn largest_of(numbers: &[f32]) -> f32 {
    f32::from_bits(numbers.iter().fold(0, |largest, number| largest.max(number.to_bits())))
}

/// Adds to `sums`, in units, Σ(r − c − ½)² at each of the scales `t`.
#[inline(always)]
fn errors<const SCALES: usize>(
    scaled: &[f32],
    top: f32,
    t: &[f32; SCALES],
    unit: f32,
    sums: &mut [f32; SCALES],
) {
    // Two at a time: an addition waits for the one before.
    let mut errors = [[0.0_f32; SCALES]; 2];
    let (pairs, rest) = scaled.as_chunks::<2>();
    for pair in pairs {
        for (errors, scaled) in errors.iter_mut().zip(pair) {
            add_errors(*scaled, top, t, errors);
        }
    }
    for scaled in rest {
        add_errors(*scaled, top, t, &mut errors[0]);
    }
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum += unit * (errors[0][i] + errors[1][i]);
    }
}

#[inline(always)]
fn add_errors<const SCALES: usize>(
    scaled: f32,
    top: f32,
    t: &[f32; SCALES],
    errors: &mut [f32; SCALES],
) {
    for i in 0..SCALES {
        let r = scaled * t[i];
        let off = r - cell(r, top) - 0.5;
        errors[i] += off * off;
    }
}

/// Σ(r − end)² of all r = t·|z|/step that are beyond `end`.
#[inline(always)]
fn beyond(scaled: &[[f32; LANES]], end: f32, t: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for scaled in scaled {
        for i in 0..LANES {
            let far = scaled[i] * t - end;
            let far = if far > 0.0 { far } else { 0.0 };
            sums[i] += far * far;
        }
    }
    total(sums.map(f64::from)) as f32
}

/// What `sums` of squared errors at the scales `t` say of h: not more than it is.
#[inline(always)]
fn at_least<const SCALES: usize>(
    sums: &[f32; SCALES],
    share: f32,
    per_length: f32,
    t: &[f32; SCALES],
) -> [f32; SCALES] {
    let mut least = [0.0; SCALES];
    for i in 0..SCALES {
        let h = (sums[i] * share).sqrt() * (per_length / t[i]) * (1.0 - 1e-6) - 5e-7;
        let h = if h > 0.0 { h } else { 0.0 };
        least[i] = if h < f32::MAX { h * h } else { 0.0 };
    }
    least
}

/// Σ|z|·(c + ½) and Σc·(c + 1) at the scale `t`.
#[inline(always)]
fn sums(scaled: &[[f32; LANES]], size: &[[f32; LANES]], top: f32, t: f32) -> (f64, f64) {
    let (mut n, mut s) = ([0.0_f64; LANES], 0.0);
    // As many of the whole numbers below 2¹⁴ as an f32 adds up exactly.
    for (scaled, size) in scaled.chunks(1024).zip(size.chunks(1024)) {
        let mut squares = [0.0_f32; LANES];
        for (scaled, size) in scaled.iter().zip(size) {
            for i in 0..LANES {
                let c = cell(scaled[i] * t, top);
                n[i] += f64::from(size[i]) * f64::from(c + 0.5);
                squares[i] += c * (c + 1.0);
            }
        }
        s += total(squares.map(f64::from));
    }
    (total(n), s)
}

/// Which coordinates of a run move between two scales.
#[inline(always)]
fn moves_between(scaled: &[f32], top: f32, (low, high): (f32, f32), moving: &mut [u8]) {
    for (moving, scaled) in moving.iter_mut().zip(scaled) {
        *moving = u8::from(cell(scaled * low, top) < cell(scaled * high, top));
    }
}

/// Appends the moves of those.
#[inline(always)]
fn push_moves(
    (scaled, size): (&[f32], &[f32]),
    run: &Run,
    (low, high): (f32, f32),
    moving: &[u8],
    moves: &mut Vec<Move>,
) {
    let (eights, _) = moving.as_chunks::<8>();
    for (first, eight) in (0..).step_by(8).zip(eights) {
        let mut moving = u64::from_le_bytes(*eight);
        while moving != 0 {
            let i = first + moving.trailing_zeros() as usize / 8;
            moving &= moving - 1;
            let (place, size) = ((run.at + i) as u32, f64::from(size[i]));
            let of = |t: f32| index(cell(scaled[i] * t, run.top));
            for l in of(low)..of(high) {
                let t = f64::from(l + 1) * run.step / size;
                moves.push(Move { t, place, added: run.step * size });
            }
        }
    }
}

/// Moves that are put in order by counting, for each, those before it.
const COUNTED: usize = 64;

/// The places of `moves` between two scales in the order of theirs, and of their coordinates where these are equal.
fn put_in_order(moves: &[Move], (low, high): (f32, f32), order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..moves.len() as u32);
    if moves.len() <= COUNTED {
        let (low, high) = (f64::from(low), f64::from(high));
        let per_width = f64::from(1 << 30) / (high - low);
        let (mut at, mut before) = ([i32::MAX; COUNTED], [0; COUNTED]);
        for (at, of) in at.iter_mut().zip(moves) {
            *at = ((of.t - low) * per_width) as i32;
        }
        let used = moves.len().next_multiple_of(LANES);
        let counted = Path::fastest().run(
            #[inline(always)]
            || count_before(&at[..used], moves.len(), &mut before[..used]),
        );
        // Fewer where two are in one place.
        if counted == moves.len() * moves.len().saturating_sub(1) / 2 {
            for (place, before) in (0..).zip(&before[..moves.len()]) {
                order[*before as usize] = place;
            }
            return;
        }
    }
    order.sort_unstable_by_key(|i| {
        let Move { t, place, .. } = moves[*i as usize];
        (t.to_bits(), place)
    });
}

/// Counts how many of the first `count` are before each, and all of these.
#[inline(always)]
fn count_before(at: &[i32], count: usize, before: &mut [i32]) -> usize {
    for other in &at[..count] {
        for (before, at) in before.iter_mut().zip(at) {
            *before += i32::from(other < at);
        }
    }
    before[..count].iter().map(|before| *before as usize).sum()
}

/// The sum of all lanes, halves at a time.
#[inline(always)]
fn total<T: Copy + Add<Output = T>>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = lanes[i] + lanes[half + i];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotated::{Scalars, levels};
    use vq_kernels::Draw;

    /// Of each coordinate.
    struct Widths {
        step: Vec<f64>,
        top: Vec<f32>,
        half: Vec<u16>,
    }

    impl Widths {
        fn of(grid: &Grid) -> Self {
            let mut widths = Widths { step: vec![], top: vec![], half: vec![] };
            for (run, _) in grid.runs() {
                let (half, coded) = (1_u16 << (run.bits - 1), widths.step.len() + run.count);
                widths.step.resize(coded, uniform_step(run.bits));
                widths.top.resize(coded, f32::from(half - 1));
                widths.half.resize(coded, half);
            }
            widths
        }
    }

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
        let (mut best, mut made) = (n * n / s, 0);
        for (count, (_, l, i)) in (1..).zip(&moves) {
            n += widths.step[*i] * f64::from(z[*i].abs());
            s += 2.0 * l * widths.step[*i].powi(2);
            if n * n / s > best {
                (best, made) = (n * n / s, count);
            }
        }
        // Anew, as a hundred thousand additions err by more than what is looked for.
        let mut c = vec![0.0; widths.step.len()];
        moves[..made].iter().for_each(|(_, _, i)| c[*i] += 1.0);
        let (mut n, mut s) = (0.0, 0.0);
        for ((c, step), z) in c.iter().zip(&widths.step).zip(z) {
            n += f64::from(z.abs()) * (c + 0.5) * step;
            s += ((c + 0.5) * step).powi(2);
        }
        n * n / s
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
                5 => normal(draw) * 3e37,
                6 => normal(draw) * 1e-37,
                7 => f32::from(u8::from(i == d - 1)),
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
        for d in [1, 2, 3, 7, 16, 33, 128, 200, 1000] {
            let whole = (1..=8).map(|bits| (0.0, bits));
            let mixed = [1.2, 2.5, 3.7, 6.3].map(|bits| (bits + 64.0 / d as f64, 0));
            for size in whole.chain(mixed) {
                let Ok(grid) = Grid::new(d, size, (Scalars::F32, true), 0, levels::uniform) else {
                    assert!(d < 16, "{size:?} at {d}");
                    continue;
                };
                let (mut sweep, widths) = (Sweep::new(&grid), Widths::of(&grid));
                let coded = widths.top.len();
                for kind in (0..8).cycle().take(24) {
                    let z = row(d, kind, &mut draw);
                    let norm = norm_sq(&z).sqrt();
                    if z[..coded].iter().all(|z| *z == 0.0) {
                        continue;
                    }
                    let mut to = vec![0; d];
                    sweep.nearest(&z, norm, &mut to);
                    let (found, best) = (cosine_sq(&z, &to, &widths), full_sweep(&z, &widths));
                    let off = (found / best - 1.0).abs();
                    assert!(off < 1e-12, "d = {d}, {size:?}, rows {kind}: {found} {best}");
                    let halves = to.iter().zip(&widths.half).map(|(v, half)| halves(*v, *half));
                    let factor = halves.fold(0, |all, of| common_factor(all, of.unsigned_abs()));
                    assert_eq!(factor, 1, "d = {d}, {size:?}, rows {kind}: {to:?}");
                }
            }
        }
    }

    #[test]
    fn of_points_in_one_direction_the_shortest_is_taken() {
        let grid = Grid::new(3, (0.0, 5), (Scalars::F32, true), 0, levels::uniform).unwrap();
        let (mut sweep, mut to) = (Sweep::new(&grid), [0; 3]);
        for (z, halves) in [([9.0, -3.0, 15.0], [3, -1, 5]), ([7.0, 7.0, -7.0], [1, 1, -1])] {
            sweep.nearest(&z, norm_sq(&z).sqrt(), &mut to);
            assert_eq!(to.map(|v| 2 * (i32::from(v) - 16) + 1), halves);
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
