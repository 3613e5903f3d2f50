//! Rows in groups around pivots: a query asks nothing of a group that lies far from it.
//!
//! **The proof.** Let a row r be between g and h from its pivot p.
//!
//! - *Squared distances.* ‖x − r‖ is at least ‖x − p‖ − h and at least g − ‖x − p‖. Where either is above √D, the row
//!   is farther than `k` others (Fukunaga and Narendra, "A branch and bound algorithm for computing k-nearest
//!   neighbors", 1975, rule 1; Kamgar-Parsi and Kanal, "An improved branch and bound algorithm for computing k-nearest
//!   neighbors", 1985, rule 3).
//! - *Inner products.* −x·r is at least −x·p − ‖x‖·h; where that is above D, the row is farther.
//!
//! All of it is computed in f64, which errs by some (d+8)·2⁻⁵² of what sums are made of; four times that is to spare.
//!
//! How much is left out depends on the data: nearly all of what lies in clusters, nothing of Gaussian noise in many
//! dimensions. So groups are made once there was so much work that they cost little beside it, and given up where they
//! save less than they cost.

use std::convert::Infallible;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::{Distance, slice};
use crate::distance::{dot, l2_sq, norm_sq};
use crate::kmeans::{self, KMeans};
use crate::{Draw, Nearest, Path, int16};

/// Rows that are asked or left out together.
const RUN: usize = 32;
/// Most pivots.
const PIVOTS: usize = 128;
/// Rows that pivots are chosen from, for each.
const CHOICE: usize = 16;
/// Rounds of k-means: the first ones move pivots farthest.
const ROUNDS: usize = 4;
/// Of pivots, which no answer depends on.
const SEED: u64 = 1975;
/// Queries times rows after which the making of groups costs little beside what was done.
const WORK: u64 = 1 << 28;
/// About what a row costs to be put into its group, in queries that ask it, for each pivot.
const COST: u64 = 4;

/// Whether rows come in groups, as far as one search decides it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// Queries of all searches below which there are no groups.
    queries: u64,
    /// Queries times rows that are still to be met before groups are made; none once they were.
    wait: Option<u64>,
    /// Met since they were made or judged.
    work: Work,
}

/// How much was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Queries times rows that were scored, and those that there were.
    pub(super) asked: u64,
    pub(super) all: u64,
    /// Rows.
    pub(super) rows: u64,
}

impl Trial {
    pub(super) fn new() -> Self {
        // Where 16-bit integers score nothing, all rows are asked.
        let wait = int16::available().then_some(WORK);
        Self { queries: 2 * COST * PIVOTS as u64, wait, work: Work::default() }
    }

    /// Groups from the first block on, however little it is.
    #[cfg(test)]
    pub(super) fn at_once() -> Self {
        Self { queries: 0, wait: Some(0), work: Work::default() }
    }

    /// Counts what was met.
    pub(super) fn add(&mut self, work: Work) {
        self.wait = self.wait.map(|wait| wait.saturating_sub(work.all));
        self.work = self.work.add(work);
    }

    /// Whether groups are to be made, where so many `queries` meet each row.
    pub(super) fn is_due(&self, queries: u64) -> bool {
        self.wait == Some(0) && queries >= self.queries
    }

    /// Groups were made.
    pub(super) fn begin(&mut self) {
        (self.wait, self.work) = (None, Work::default());
    }

    /// Whether groups around so many `pivots` cost more than they saved, among `rows` rows or more.
    pub(super) fn has_failed(&mut self, pivots: usize, rows: usize) -> bool {
        if self.work.rows < rows as u64 {
            return false;
        }
        let work = std::mem::take(&mut self.work);
        work.asked + COST * pivots as u64 * work.rows > work.all
    }
}

impl Work {
    /// Of other queries and the same rows.
    pub(super) fn beside(self, other: Self) -> Self {
        let rows = self.rows.max(other.rows);
        Self { asked: self.asked + other.asked, all: self.all + other.all, rows }
    }

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, ..self.beside(other) }
    }
}

/// What groups lie around.
#[derive(Debug)]
pub(super) struct Pivots {
    /// (pivots, d).
    rows: Array2<f32>,
    nearest: Nearest,
}

/// Rows of a run that have one pivot.
#[derive(Clone, Debug)]
pub(super) struct Ball {
    /// Among the rows of the block, in their order.
    rows: Range<usize>,
    pivot: usize,
    /// ‖r − p‖ of its rows, at least and at most.
    least: f64,
    most: f64,
}

impl Pivots {
    pub(super) fn count(&self) -> usize {
        self.rows.nrows()
    }

    /// From all over `rows` (n, d), finite; nothing where there are too few.
    pub(super) fn among(rows: ArrayView2<'_, f32>) -> Option<Self> {
        let count = PIVOTS.min(rows.nrows() / CHOICE);
        let mut draw = Draw::new(SEED);
        let sample: Vec<usize> = draw.strata(rows.nrows(), count * CHOICE).collect();
        let sample = rows.select(Axis(0), &sample);
        let first = apart(sample.view(), count, &mut draw);
        if first.is_empty() {
            return None;
        }
        let first = sample.select(Axis(0), &first);
        let kmeans = KMeans {
            k: first.nrows(),
            iterations: ROUNDS,
            seed: SEED,
            max_points_per_centroid: usize::MAX,
        };
        let moved = kmeans.fit_from(sample.view(), first.view(), &mut |_| Ok::<_, Infallible>(()));
        let rows = moved.unwrap_or(first);
        // A run may have rows of several pivots.
        let rows = rows.select(Axis(0), &chain(rows.view()));
        Some(Self { nearest: Nearest::for_l2_centred(rows.view()), rows })
    }

    /// Per row of `rows` (n, d) its pivot, and how far it is from it.
    pub(super) fn of(&self, rows: ArrayView2<'_, f32>) -> Vec<(u32, f64)> {
        let mut index = vec![0; rows.nrows()];
        kmeans::assign(&self.nearest, rows, &mut index);
        let rows = rows.axis_iter(Axis(0)).into_par_iter().zip(index);
        rows.map(|(row, pivot)| {
            let p = self.rows.row(pivot as usize);
            (pivot, l2_sq(slice(&row), slice(&p)).sqrt())
        })
        .collect()
    }

    /// Of rows in an order by pivots, each with its own, the balls of each run.
    pub(super) fn balls(&self, of: &[(u32, f64)]) -> Vec<Ball> {
        let digits = digits(self.rows.ncols());
        let mut balls = Vec::new();
        for (run, of) in of.chunks(RUN).enumerate() {
            let mut from = run * RUN;
            for of in of.chunk_by(|a, b| a.0 == b.0) {
                let farthest = of.iter().fold(0.0, |most: f64, (_, far)| most.max(*far));
                let nearest = of.iter().fold(f64::INFINITY, |least, (_, far)| least.min(*far));
                balls.push(Ball {
                    rows: from..from + of.len(),
                    pivot: of[0].0 as usize,
                    least: nearest * (1.0 - digits),
                    most: farthest * (1.0 + digits),
                });
                from += of.len();
            }
        }
        balls
    }
}

/// At most `count` of `rows` (n, d) that lie far from each other, each drawn with a probability in proportion to its
/// squared distance from those before (Arthur and Vassilvitskii, "k-means++", 2007).
fn apart(rows: ArrayView2<'_, f32>, count: usize, draw: &mut Draw) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count);
    let mut distance_sq = vec![f64::INFINITY; rows.nrows()];
    while chosen.len() < count {
        let next = match chosen.is_empty() {
            true => draw.below(rows.nrows()),
            false => {
                let mut left = draw.uniform() * distance_sq.iter().sum::<f64>();
                let reached = distance_sq.iter().position(|of| {
                    left -= of;
                    left < 0.0
                });
                // Every row is equal to one that was chosen.
                let Some(next) = reached else { break };
                next
            }
        };
        let to = rows.row(next);
        let others = rows.axis_iter(Axis(0)).into_par_iter();
        others.zip(&mut distance_sq).for_each(|(row, distance_sq)| {
            *distance_sq = distance_sq.min(l2_sq(slice(&row), slice(&to)));
        });
        chosen.push(next);
    }
    chosen
}

/// An order of `rows` (n, d), each next to the one nearest to it of those that are left. O(n²·d).
fn chain(rows: ArrayView2<'_, f32>) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rows.nrows()).collect();
    let mut order = Vec::with_capacity(left.len());
    let mut next = 0;
    while !left.is_empty() {
        let last = left.swap_remove(next);
        order.push(last);
        let to_last = |row: &usize| l2_sq(slice(&rows.row(*row)), slice(&rows.row(last)));
        let far = left.iter().map(to_last).enumerate();
        next = far.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place);
    }
    order
}

/// How queries lie to pivots.
#[derive(Debug)]
pub(super) struct Bearings {
    by: Distance,
    digits: f64,
    /// (queries, pivots): ‖x − p‖, or −x·p/‖x‖, at least.
    far: Array2<f64>,
    /// Per query ‖x‖; of squared distances nothing.
    norms: Vec<f64>,
}

/// Which balls some queries leave out.
pub(super) struct LeftOut {
    /// Per pivot: a ball whose `most` is below this is left out.
    below: Vec<f64>,
    /// And one whose `least` is above this.
    above: Vec<f64>,
}

impl Bearings {
    /// Of `queries` (n, d); and an order in which neighbours have much the same bearings.
    pub(super) fn take(
        pivots: &Pivots,
        queries: ArrayView2<'_, f32>,
        by: Distance,
    ) -> (Self, Vec<usize>) {
        let digits = digits(queries.ncols());
        let mut far = Array2::zeros((queries.nrows(), pivots.count()));
        let lengths: Vec<f64> =
            pivots.rows.outer_iter().map(|p| norm_sq(slice(&p)).sqrt()).collect();
        let lines = far.axis_iter_mut(Axis(0)).into_par_iter();
        let found = lines.zip(queries.axis_iter(Axis(0))).map(|(mut far, x)| {
            let x = slice(&x);
            let norm = norm_sq(x).sqrt();
            for ((far, p), length) in far.iter_mut().zip(pivots.rows.outer_iter()).zip(&lengths) {
                let p = slice(&p);
                *far = match by {
                    Distance::L2Sq => l2_sq(x, p).sqrt() * (1.0 - digits),
                    Distance::NegativeProduct => {
                        let least = -dot(x, p) / norm;
                        least - digits * (least.abs() + 2.0 * length)
                    }
                };
                // Of a query of length 0.
                if far.is_nan() {
                    *far = f64::NEG_INFINITY;
                }
            }
            let near = far.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
            (norm, near.map(|(pivot, far)| (pivot, *far)))
        });
        let (norms, near): (Vec<f64>, Vec<_>) = found.unzip();
        let mut order: Vec<usize> = (0..queries.nrows()).collect();
        let key = |query: usize| near[query].unwrap_or_default();
        order.sort_by(|a, b| {
            let (a, b) = (key(*a), key(*b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let far = far.select(Axis(0), &order);
        let norms = match by {
            Distance::L2Sq => Vec::new(),
            Distance::NegativeProduct => order.iter().map(|query| norms[*query]).collect(),
        };
        (Self { by, digits, far, norms }, order)
    }

    /// What all of `queries` leave out, each with the distance of its `k`-th so far; infinite while it has fewer.
    pub(super) fn leave_out(&self, queries: impl Iterator<Item = (usize, f64)>) -> LeftOut {
        let pivots = self.far.ncols();
        let mut of = LeftOut { below: vec![f64::INFINITY; pivots], above: vec![0.0; pivots] };
        for (query, reach) in queries {
            let far = self.far.row(query);
            let far = far.as_slice().expect("rows are contiguous");
            let reach = match self.by {
                Distance::L2Sq => reach.sqrt() * (1.0 + self.digits),
                Distance::NegativeProduct => {
                    (reach + self.digits * reach.abs()) / self.norms[query]
                }
            };
            // A distance of rows that are no numbers may be none; it leaves nothing out.
            let reach = if reach.is_nan() { f64::INFINITY } else { reach };
            Path::fastest().run(
                #[inline(always)]
                || {
                    let both = of.below.iter_mut().zip(&mut of.above);
                    for ((below, above), &far) in both.zip(far) {
                        let nearer = far - reach;
                        *below = if nearer < *below { nearer } else { *below };
                        let farther = far * (1.0 + 3.0 * self.digits) + reach;
                        *above = if farther > *above { farther } else { *above };
                    }
                },
            );
        }
        if self.by == Distance::NegativeProduct {
            of.above.fill(f64::INFINITY);
        }
        of
    }
}

impl LeftOut {
    /// The runs of the `rows` of a block that have a ball which is not left out; those that touch are one.
    pub(super) fn rows(&self, balls: &[Ball], rows: usize) -> Vec<Range<usize>> {
        let mut asked: Vec<Range<usize>> = Vec::new();
        for ball in balls {
            let out = ball.most < self.below[ball.pivot] || ball.least > self.above[ball.pivot];
            if out {
                continue;
            }
            let first = ball.rows.start / RUN * RUN;
            let run = first..(first + RUN).min(rows);
            match asked.last_mut() {
                Some(last) if last.end >= run.start => last.end = run.end,
                _ => asked.push(run),
            }
        }
        asked
    }
}

/// What f64 may be off by, in what sums are made of.
fn digits(dim: usize) -> f64 {
    (dim as f64 + 8.0) * 2f64.powi(-50)
}
