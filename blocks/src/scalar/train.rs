//! Learning levels from training values. All sums are f64 in a fixed order; the parallel tasks
//! never share one.

use super::levels::{Codebook, Levels, Uniform};
use super::{Fit, Placement, Range, Settings};
use ndarray::{ArrayView2, Axis, Slice};
use rayon::prelude::*;
use std::sync::Mutex;
use vq_kernels::Path;
use vq_plugin_api::Error;

/// Values that one set of levels is learned from at most: their squared error then has a standard
/// error of a few tenths of a percent.
const SAMPLE: usize = 1 << 20;

/// Dimensions whose values are gathered together at least, so that each cache line is read once.
const COLUMNS: usize = 16;

/// Values that are gathered together at most where there are more dimensions: several lines of a row at a time.
const GATHERED: usize = 1 << 23;

/// Training values and ranges stay within, so that no difference of two is infinite.
const HUGE: f32 = 1e38;

/// Rounds of assignment and update at most.
const ROUNDS: usize = 500;

/// Fractions of the values that the starting ranges of `fit = "mse"` leave out at each end.
const OUTSIDE: [f64; 10] = [0.0, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2];

/// The parts of training that are done, told to the host in order.
struct Done<'a> {
    progress: &'a (dyn Fn(f32) -> Result<(), Error> + Sync),
    parts: Mutex<usize>,
    of: usize,
}

impl Done<'_> {
    /// Adds `parts`, 0 for a sign of life, and asks whether to go on.
    fn add(&self, parts: usize) -> Result<(), Error> {
        let mut done = self.parts.lock().unwrap_or_else(|held| held.into_inner());
        *done += parts;
        (self.progress)(*done as f32 / self.of as f32)
    }
}

/// Learns the codebook of `train` (n, d), n ≥ 1.
///
/// # Errors
/// What `progress` returns.
pub(super) fn codebook(
    train: ArrayView2<'_, f32>,
    settings: &Settings,
    progress: &(dyn Fn(f32) -> Result<(), Error> + Sync),
) -> Result<Codebook, Error> {
    let dim = train.ncols();
    let done = Done { progress, parts: Mutex::new(0), of: dim };
    let sets: Vec<Set> = match settings.range {
        Range::Global => vec![learn(gather(train), settings, &done)?],
        Range::Dimension => {
            let fit = GATHERED / train.nrows().clamp(1, SAMPLE) / COLUMNS * COLUMNS;
            // No wider than leaves a group for each thread.
            let share = dim.div_ceil(rayon::current_num_threads()).next_multiple_of(COLUMNS);
            let at_once = fit.clamp(COLUMNS, 4 * COLUMNS).min(share);
            let starts: Vec<usize> = (0..dim).step_by(at_once).collect();
            let groups: Result<Vec<Vec<Set>>, Error> = starts
                .into_par_iter()
                .map(|start| {
                    let columns =
                        train.slice_axis(Axis(1), Slice::from(start..dim.min(start + at_once)));
                    let learn_one = |values| {
                        let set = learn(values, settings, &done)?;
                        done.add(1).map(|()| set)
                    };
                    gather_columns(columns).into_iter().map(learn_one).collect()
                })
                .collect();
            groups?.into_iter().flatten().collect()
        }
    };
    let count = 1 << settings.bits;
    let codebook = match settings.levels {
        Placement::Uniform => {
            let (base, step) = sets.iter().map(Set::line).unzip();
            Uniform::new(base, step, dim, count).map(Codebook::Uniform)
        }
        Placement::LloydMax => {
            let levels = sets.into_iter().flat_map(|set| set.levels).collect();
            Levels::new(levels, count).map(Codebook::Levels)
        }
    };
    codebook.ok_or_else(|| Error::failed("training led to levels that are not finite"))
}

/// What the training rows say of one set of levels.
struct Values {
    /// At most [`SAMPLE`] of them.
    sample: Vec<f32>,
    /// The smallest and the largest of all.
    ends: (f32, f32),
}

impl Values {
    fn with_capacity(capacity: usize) -> Self {
        let sample = Vec::with_capacity(capacity);
        Values { sample, ends: (f32::INFINITY, f32::NEG_INFINITY) }
    }

    fn see(&mut self, x: f32) {
        // No number leaves both ends as they are.
        self.ends.0 = self.ends.0.min(x);
        self.ends.1 = self.ends.1.max(x);
    }

    fn keep(&mut self, x: f32) {
        self.sample.push(if x.is_nan() { 0.0 } else { x.clamp(-HUGE, HUGE) });
    }

    fn complete(mut self) -> Self {
        if self.ends.0 > self.ends.1 {
            self.ends = (0.0, 0.0);
        }
        self.ends = (self.ends.0.clamp(-HUGE, HUGE), self.ends.1.clamp(-HUGE, HUGE));
        self
    }
}

/// The values of each column.
fn gather_columns(columns: ArrayView2<'_, f32>) -> Vec<Values> {
    let every = columns.nrows().div_ceil(SAMPLE);
    let capacity = columns.nrows().div_ceil(every);
    let mut values: Vec<Values> =
        (0..columns.ncols()).map(|_| Values::with_capacity(capacity)).collect();
    for (i, row) in columns.outer_iter().enumerate() {
        for (values, x) in values.iter_mut().zip(row) {
            values.see(*x);
            if i % every == 0 {
                values.keep(*x);
            }
        }
    }
    values.into_iter().map(Values::complete).collect()
}

/// All values as one set.
fn gather(train: ArrayView2<'_, f32>) -> Values {
    let every = train.len().div_ceil(SAMPLE);
    let mut values = Values::with_capacity(train.len() / every);
    values.ends = train
        .axis_iter(Axis(0))
        .into_par_iter()
        .map(|row| {
            let ends = (f32::INFINITY, f32::NEG_INFINITY);
            row.iter().fold(ends, |(low, high), x| (low.min(*x), high.max(*x)))
        })
        .reduce(|| (f32::INFINITY, f32::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    for row in train.axis_iter(Axis(0)).step_by(every) {
        row.iter().for_each(|x| values.keep(*x));
    }
    values.complete()
}

/// One set of levels: the lowest, their distance; all of them, where they are free.
struct Set {
    base: f64,
    step: f64,
    levels: Vec<f32>,
}

impl Set {
    fn line(&self) -> (f32, f32) {
        (self.base as f32, self.step as f32)
    }
}

fn learn(mut values: Values, settings: &Settings, done: &Done<'_>) -> Result<Set, Error> {
    let count = 1_usize << settings.bits;
    if settings.levels == Placement::LloydMax {
        values.sample.sort_unstable_by(f32::total_cmp);
        let levels = lloyd_max(&values.sample, count, done)?;
        return Ok(Set { base: 0.0, step: 0.0, levels });
    }
    let whole = (f64::from(values.ends.0), f64::from(values.ends.1));
    let line = match settings.fit {
        Fit::Range if settings.trim > 0.0 => {
            values.sample.sort_unstable_by(f32::total_cmp);
            let range = between(&values.sample, settings.trim);
            // Where nearly all values are one, the others are all there is to code.
            better_over(if range.0 < range.1 { range } else { whole }, &values.sample, count)
        }
        Fit::Range => better_over(whole, &values.sample, count),
        Fit::Mse => {
            values.sample.sort_unstable_by(f32::total_cmp);
            least_error(whole, &values.sample, count, done)?
        }
    };
    Ok(Set { base: line.base, step: line.step, levels: Vec::new() })
}

/// The values that leave a fraction `outside` of the sorted sample at each end.
fn between(sorted: &[f32], outside: f64) -> (f64, f64) {
    let last = sorted.len() - 1;
    let low = ((outside * last as f64).round() as usize).min(last / 2);
    (f64::from(sorted[low]), f64::from(sorted[last - low]))
}

/// Levels `base + c·step`.
#[derive(Clone, Copy)]
struct Line {
    base: f64,
    step: f64,
}

impl Line {
    /// 2^bits cells over the range, a level in the middle of each.
    fn midpoints((low, high): (f64, f64), count: usize) -> Self {
        let step = (high - low) / count as f64;
        Line { base: low + step / 2.0, step }
    }

    /// 2^bits levels over the range, one at each end.
    fn endpoints((low, high): (f64, f64), count: usize) -> Self {
        Line { base: low, step: (high - low) / (count - 1) as f64 }
    }
}

/// What one assignment of values to levels says: the squared error, and the moments that the
/// least-squares line through (index, value) needs.
struct Assigned {
    error: f64,
    n: f64,
    c: f64,
    cc: f64,
    y: f64,
    cy: f64,
}

/// Assigns each value to its nearest level; y is the value's distance from the line's base.
fn assign(line: Line, values: &[f32], count: usize) -> Assigned {
    let [error, c, cc, y, cy] =
        sums(line, values, count, |y, c, error| [error * error, c, c * c, y, c * y]);
    Assigned { error, n: values.len() as f64, c, cc, y, cy }
}

/// The squared error alone.
fn error(line: Line, values: &[f32], count: usize) -> f64 {
    let [error] = sums(line, values, count, |_, _, error| [error * error]);
    error
}

/// Sums of the terms of (y, index of the nearest level, what it errs) of each value.
fn sums<const N: usize>(
    line: Line,
    values: &[f32],
    count: usize,
    terms: impl Fn(f64, f64, f64) -> [f64; N],
) -> [f64; N] {
    // Rounds a number in 0..2^52 to nearest even.
    const ROUND: f64 = 4_503_599_627_370_496.0;
    let top = (count - 1) as f64;
    let inv = if line.step > 0.0 { 1.0 / line.step } else { 0.0 };
    let mut sums = [[0.0_f64; 4]; N];
    Path::fastest().run(
        #[inline(always)]
        || {
            let mut add = |lane: usize, x: f32| {
                let y = f64::from(x) - line.base;
                let c = ((y * inv).clamp(0.0, top) + ROUND) - ROUND;
                for (sum, term) in sums.iter_mut().zip(terms(y, c, y - c * line.step)) {
                    sum[lane] += term;
                }
            };
            let (fours, rest) = values.as_chunks::<4>();
            for four in fours {
                for (lane, x) in four.iter().enumerate() {
                    add(lane, *x);
                }
            }
            rest.iter().for_each(|x| add(0, *x));
        },
    );
    sums.map(|lanes| lanes.iter().sum())
}

/// Levels in the middles of cells or at the ends of the range, whichever errs less.
///
/// On a smooth density the middles win by (1 − 2^−bits)²; where much of the data lies at an end of
/// the range, as the zeros of histograms do, a level exactly there wins.
fn better_over(range: (f64, f64), values: &[f32], count: usize) -> Line {
    let lines = [Line::midpoints(range, count), Line::endpoints(range, count)];
    let [middle, end] = lines.map(|line| error(line, values, count));
    if end < middle { lines[1] } else { lines[0] }
}

/// Alternates between assigning and the least-squares line, from the best of several ranges.
fn least_error(
    whole: (f64, f64),
    sorted: &[f32],
    count: usize,
    done: &Done<'_>,
) -> Result<Line, Error> {
    let mut best = better_over(whole, sorted, count);
    let mut assigned = assign(best, sorted, count);
    for outside in OUTSIDE {
        done.add(0)?;
        let range = between(sorted, outside);
        if range.0 >= range.1 {
            continue;
        }
        for line in [Line::midpoints(range, count), Line::endpoints(range, count)] {
            let tried = assign(line, sorted, count);
            if tried.error < assigned.error {
                (best, assigned) = (line, tried);
            }
        }
    }
    for _ in 0..ROUNDS {
        done.add(0)?;
        let Assigned { error, n, c, cc, y, cy } = assigned;
        let spread = cc - c * c / n;
        if spread <= 0.0 || error == 0.0 {
            break;
        }
        let step = (cy - c * y / n) / spread;
        let line = Line { base: best.base + (y - step * c) / n, step };
        // A line through few of its levels must not carry the others to infinity.
        let end = line.base + (count - 1) as f64 * step;
        if !(step > 0.0
            && line.base.abs() < 2.0 * f64::from(HUGE)
            && end.abs() < 2.0 * f64::from(HUGE))
        {
            break;
        }
        let tried = assign(line, sorted, count);
        if tried.error >= error {
            break;
        }
        let gain = 1.0 - tried.error / error;
        (best, assigned) = (line, tried);
        if gain < 1e-7 {
            break;
        }
    }
    Ok(best)
}

/// Sums over the sorted values before each position: a cell's mean and squared error cost O(1).
struct Prefix<'a> {
    sorted: &'a [f32],
    /// What is subtracted from each value first, against cancellation.
    centre: f64,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl<'a> Prefix<'a> {
    fn of(sorted: &'a [f32]) -> Self {
        let centre = sorted.iter().map(|x| f64::from(*x)).sum::<f64>() / sorted.len() as f64;
        let (mut sum, mut square) = (vec![0.0], vec![0.0]);
        let (mut s, mut q) = (0.0, 0.0);
        for x in sorted {
            let x = f64::from(*x) - centre;
            s += x;
            q += x * x;
            sum.push(s);
            square.push(q);
        }
        Prefix { sorted, centre, sum, square }
    }

    /// One value repeated, or nothing.
    fn is_one_value(&self, from: usize, to: usize) -> bool {
        from == to || self.sorted[from] == self.sorted[to - 1]
    }

    /// The mean of a cell that is not empty; exact where all of it is one value.
    fn mean(&self, from: usize, to: usize) -> f64 {
        if self.is_one_value(from, to) {
            return f64::from(self.sorted[from]);
        }
        self.centre + (self.sum[to] - self.sum[from]) / (to - from) as f64
    }

    /// Squared distances from the mean.
    fn error(&self, from: usize, to: usize) -> f64 {
        if self.is_one_value(from, to) {
            return 0.0;
        }
        let sum = self.sum[to] - self.sum[from];
        let error = self.square[to] - self.square[from] - sum * sum / (to - from) as f64;
        error.max(0.0)
    }
}

/// `count` levels for the sorted values, ascending.
fn lloyd_max(sorted: &[f32], count: usize, done: &Done<'_>) -> Result<Vec<f32>, Error> {
    let prefix = Prefix::of(sorted);
    let mut levels = companded(sorted, count);
    let mut last = f64::INFINITY;
    for round in 0..ROUNDS {
        if round % 16 == 0 {
            done.add(0)?;
        }
        let cuts = cuts(sorted, &levels);
        let mut error = 0.0;
        let mut empty = 0;
        for (level, cut) in levels.iter_mut().zip(cuts.windows(2)) {
            if cut[0] == cut[1] {
                empty += 1;
            } else {
                *level = prefix.mean(cut[0], cut[1]);
                error += prefix.error(cut[0], cut[1]);
            }
        }
        let split = empty > 0 && split_largest(&prefix, &cuts, &mut levels, empty);
        if !split && last - error <= 1e-7 * error {
            break;
        }
        last = error;
    }
    Ok(levels.into_iter().map(|level| level as f32).collect())
}

/// Positions in `sorted` where the cells of `levels` begin, and its end.
fn cuts(sorted: &[f32], levels: &[f64]) -> Vec<usize> {
    let mut cuts = Vec::with_capacity(levels.len() + 1);
    cuts.push(0);
    for pair in levels.windows(2) {
        // As the encoder cuts: in f32, the end itself to the lower level.
        let end = ((pair[0] + pair[1]) / 2.0) as f32;
        let from = cuts[cuts.len() - 1];
        cuts.push(from + sorted[from..].partition_point(|x| *x <= end));
    }
    cuts.push(sorted.len());
    cuts
}

/// Levels with density p^(1/3), which is the best for many levels (Panter & Dite 1951): between
/// neighbouring quantiles that are w apart, p ∝ 1/w, so that w of range deserves w^(2/3).
fn companded(sorted: &[f32], count: usize) -> Vec<f64> {
    let segments = (4 * count).min(sorted.len() - 1).max(1);
    let last = sorted.len() - 1;
    let at = |i: usize| f64::from(sorted[(i as u128 * last as u128 / segments as u128) as usize]);
    let mut total = vec![0.0];
    for i in 0..segments {
        total.push(total[i] + (at(i + 1) - at(i)).powf(2.0 / 3.0));
    }
    let (mut i, whole) = (0, total[segments]);
    let place = |level: usize| {
        let target = (level as f64 + 0.5) / count as f64 * whole;
        while i + 1 < segments && total[i + 1] < target {
            i += 1;
        }
        let share = total[i + 1] - total[i];
        let within = if share > 0.0 { (target - total[i]) / share } else { 0.0 };
        at(i) + within * (at(i + 1) - at(i))
    };
    (0..count).map(place).collect()
}

/// Moves the levels of empty cells into the cells that err most, which they split at the mean.
/// False if no cell has an error left.
fn split_largest(prefix: &Prefix<'_>, cuts: &[usize], levels: &mut [f64], empty: usize) -> bool {
    let mut worst: Vec<(f64, usize)> = (0..levels.len())
        .map(|i| (prefix.error(cuts[i], cuts[i + 1]), i))
        .filter(|(_, i)| !prefix.is_one_value(cuts[*i], cuts[i + 1]))
        .collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    worst.truncate(empty);
    let vacant: Vec<usize> = (0..levels.len()).filter(|i| cuts[*i] == cuts[i + 1]).collect();
    for ((_, i), vacant) in worst.iter().zip(vacant) {
        let (from, to) = (cuts[*i], cuts[i + 1]);
        let mean = levels[*i];
        let inner = from + prefix.sorted[from..to].partition_point(|x| f64::from(*x) <= mean);
        let inner = inner.clamp(from + 1, to - 1);
        levels[*i] = prefix.mean(from, inner);
        levels[vacant] = prefix.mean(inner, to);
    }
    levels.sort_unstable_by(f64::total_cmp);
    !worst.is_empty()
}
