//! What is done to rows before the method sees them, and undone with what it decodes.
//!
//! The referee holds the data, so it does both: engines know of the dimensions that are left alone.

use super::Cell;
use super::peer::{Fitted, Peer};
use crate::data::{Metric, Rows};
use crate::transform::{Chain, Learned};
use crate::worker::protocol::{Measurement, Stage};
use crate::worker::reporter::{Failure, Reporter};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2};
use std::time::{Duration, Instant};

/// Times that a block is transformed for its time, after the first.
const TIMES: usize = 3;

/// A chain that is not empty, and what follows from it for the queries.
pub(super) struct Turned {
    chain: Chain,
    learned: Learned,
    learned_s: f64,
    /// As scorers see them (queries, k).
    posed: Array2<f32>,
    /// Per query what an estimate lacks.
    constants: Vec<f64>,
    /// Whether another code has it in its model and its times.
    counted: bool,
}

impl Turned {
    pub(super) fn learn(
        of: &Measurement,
        queries: ArrayView2<'_, f32>,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        reporter.part("transform", 0.0, 1.0);
        let train = of.data.train.open()?;
        let started = Instant::now();
        let learned = Learned::learn(&of.transform, &train)?;
        let learned_s = started.elapsed().as_secs_f64();
        let metric = of.data.metric;
        let posed = learned.queries(queries, metric);
        finite("query", &posed.view(), 0)?;
        finite("query", &learned.rows(queries).view(), 0)?;
        Ok(Turned {
            chain: of.transform.clone(),
            learned_s,
            posed,
            constants: learned.constants(queries, metric),
            learned,
            counted: of.stage == Stage::Second,
        })
    }

    /// Bytes of all that decoding needs of it.
    pub(super) fn bytes(&self) -> u64 {
        if self.counted { 0 } else { self.learned.bytes() as u64 }
    }
}

/// That what is lent to a method are numbers, for which it would be blamed.
fn finite(what: &str, rows: &ArrayView2<'_, f32>, first: usize) -> Result<(), Failure> {
    let bad = rows.outer_iter().position(|row| row.iter().any(|value| !value.is_finite()));
    match bad {
        None => Ok(()),
        Some(at) => Err(Failure::failed(format!(
            "transform: {what} {} is beyond the range of f32; scale the data",
            first + at
        ))),
    }
}

/// Seconds of each of `rows` rows, the median of a few calls.
fn each(rows: usize, mut call: impl FnMut()) -> Duration {
    call();
    let mut times = [Duration::ZERO; TIMES];
    for time in &mut times {
        let started = Instant::now();
        call();
        *time = started.elapsed();
    }
    times.sort_unstable();
    times[TIMES / 2].div_f64(rows.max(1) as f64)
}

impl Cell<'_> {
    /// Dimensions of the rows that the method sees.
    pub(super) fn dim_seen(&self) -> usize {
        self.turned.as_ref().map_or(self.data.dim, |of| of.learned.dim_after())
    }

    /// The queries as scorers see them (queries, k).
    pub(super) fn posed(&self) -> ArrayView2<'_, f32> {
        self.turned.as_ref().map_or(self.queries.view(), |of| of.posed.view())
    }

    /// Whether estimates are of the data's distance, once what is constant for a query is added.
    pub(super) fn keeps_scale(&self) -> bool {
        self.turned.as_ref().is_none_or(|of| of.chain.keeps_scale(self.data.metric))
    }

    /// Whether that is all that is between the two.
    pub(super) fn keeps_all(&self) -> bool {
        let (dim, metric): (usize, Metric) = (self.data.dim, self.data.metric);
        self.turned.as_ref().is_none_or(|of| of.chain.keeps_all(dim, metric))
    }

    /// An `estimate` of what the method sees, for `query`, as one of the data's distance or product.
    pub(super) fn of_whole_rows(&self, query: usize, estimate: f64) -> f64 {
        self.turned.as_ref().map_or(estimate, |of| estimate + of.constants[query])
    }

    /// Rows (n, d) as the method sees them (n, k).
    pub(super) fn turned_rows<'x>(&self, x: ArrayView2<'x, f32>) -> CowArray<'x, f32, Ix2> {
        match &self.turned {
            None => x.into(),
            Some(of) => of.learned.rows(x).into(),
        }
    }

    /// Decoded rows (n, k) as rows of the data (n, d).
    pub(super) fn turned_back<'x>(&self, y: ArrayView2<'x, f32>) -> CowArray<'x, f32, Ix2> {
        match &self.turned {
            None => y.into(),
            Some(of) => of.learned.back(y).into(),
        }
    }

    /// Fills `to` (m, k) with the rows of `of` from `first` on, as the method sees them; answers the time
    /// that took beside reading.
    fn fill(
        &self,
        of: &Rows,
        first: usize,
        mut to: ArrayViewMut2<'_, f32>,
    ) -> Result<Duration, Failure> {
        let Some(turned) = &self.turned else {
            of.read_in_pool(first, to)?;
            return Ok(Duration::ZERO);
        };
        let mut raw = Array2::zeros((to.nrows(), self.data.dim));
        of.read_in_pool(first, raw.view_mut())?;
        let started = Instant::now();
        let seen = turned.learned.rows(raw.view());
        let took = started.elapsed();
        finite("row", &seen.view(), first)?;
        to.assign(&seen);
        Ok(took)
    }

    /// Lends `len` rows of the base from `first` on.
    pub(super) fn lend(
        &self,
        peer: &mut Peer<'_>,
        first: usize,
        len: usize,
    ) -> Result<(), Failure> {
        self.fill(&self.base, first, peer.lend_rows(len)?).map(drop)
    }

    /// Lends the rows `ids` of the base.
    pub(super) fn lend_some(&self, peer: &mut Peer<'_>, ids: &[usize]) -> Result<(), Failure> {
        let mut lent = peer.lend_rows(ids.len())?;
        let read = |mut rows: ArrayViewMut2<'_, f32>| {
            let mut rows = ids.iter().zip(rows.axis_chunks_iter_mut(Axis(0), 1));
            rows.try_for_each(|(id, row)| self.base.read(*id, row))
        };
        let Some(turned) = &self.turned else { return Ok(read(lent)?) };
        let mut raw = Array2::zeros((ids.len(), self.data.dim));
        read(raw.view_mut())?;
        let seen = turned.learned.rows(raw.view());
        // By its place among those lent: that of the base was told when it was encoded.
        finite("row", &seen.view(), 0)?;
        lent.assign(&seen);
        Ok(())
    }

    /// Has `peer` learn from `train`; answers the seconds that took, those of the chain included.
    pub(super) fn fit(
        &self,
        peer: &mut Peer<'_>,
        train: &Rows,
        before: usize,
    ) -> Result<(Fitted, f64), Failure> {
        let mut turning = Duration::ZERO;
        let (fitted, fit_s) = peer.fit(train.rows(), before, |first, to| {
            turning += self.fill(train, first, to)?;
            Ok(())
        })?;
        match &self.turned {
            Some(of) if !of.counted => Ok((fitted, of.learned_s + turning.as_secs_f64() + fit_s)),
            _ => Ok((fitted, fit_s)),
        }
    }

    /// The time that the chain takes of each row of the base, by its first `rows`.
    pub(super) fn turning(&self, rows: usize) -> Result<Duration, Failure> {
        let Some(of) = self.turned.as_ref().filter(|of| !of.counted) else {
            return Ok(Duration::ZERO);
        };
        let mut raw = Array2::zeros((rows, self.data.dim));
        self.base.read_in_pool(0, raw.view_mut())?;
        let mut seen = Array2::zeros((rows, of.learned.dim_after()));
        Ok(each(rows, || of.learned.rows_into(raw.view(), seen.view_mut())))
    }

    /// The time that undoing it takes of each of `rows` decoded rows, by those `decoded` (rows, k).
    pub(super) fn turning_back(&self, decoded: &[f32], rows: usize) -> Result<Duration, Failure> {
        let Some(of) = &self.turned else { return Ok(Duration::ZERO) };
        let seen = ArrayView2::from_shape((rows, of.learned.dim_after()), decoded);
        let seen = seen.map_err(Failure::failed)?;
        Ok(each(rows, || drop(of.learned.back(seen))))
    }
}
