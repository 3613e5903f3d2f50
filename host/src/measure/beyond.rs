//! What else is measured of the rows that were found: their order, their distances, how recall is
//! spread over queries, and the attention that estimates give.

use super::revisit::{self, Visits};
use super::{Cell, Judge, Metrics};
use crate::data::Metric;
use crate::metric::found::{Scores, attention, discounted_gain, ratio_of_sums, spread};
use crate::metric::retrieval::{RANK_DEPTH, largest_k};
use crate::metric::{Family, Hits};
use crate::worker::reporter::Failure;
use ndarray::{Array2, Axis, s};

/// Rows are read one by one where fewer than one of so many of a block are wanted.
const SPARSE: usize = 8;

/// What is attended to, by estimates; larger is nearer.
pub(super) struct Attended {
    /// Of the true neighbours (queries, m).
    pub(super) order: Array2<f64>,
    /// Of the rows that are ranked first, as many as [`Cell::attended`].
    pub(super) ranked: Vec<Vec<f64>>,
    /// Temperature.
    pub(super) tau: f64,
}

impl Cell<'_> {
    /// How many of the rows that are ranked first are in the pool of attention: none where that is not
    /// measured.
    pub(super) fn attended(&self) -> usize {
        // Scores of other rows are in other units than estimates.
        let wanted = self.of.evaluation.has(Family::Attention)
            && self.data.metric != Metric::L2
            && self.data.judge.is_none()
            && self.candidates.is_none()
            && self.keeps_scale();
        if wanted && self.data.base.rows >= RANK_DEPTH { RANK_DEPTH } else { 0 }
    }

    /// Of how many true neighbours the estimates are wanted.
    pub(super) fn watched_neighbours(&self) -> usize {
        let wanted = self.of.evaluation.has(Family::Order) || self.attended() > 0;
        if wanted { RANK_DEPTH.min(self.truth.ids.ncols()) } else { 0 }
    }

    /// The rows whose estimates are wanted (queries, m): true neighbours, then the candidates that a first
    /// code found.
    pub(super) fn watched(&self) -> Array2<u32> {
        let neighbours = revisit::left(&self.truth.ids, self.watched_neighbours());
        match &self.candidates {
            None => neighbours.to_owned(),
            Some(of) => {
                Array2::from_shape_fn((of.nrows(), neighbours.ncols() + of.ncols()), |(q, i)| {
                    match i.checked_sub(neighbours.ncols()) {
                        None => neighbours[(q, i)],
                        Some(i) => of[(q, i)],
                    }
                })
            }
        }
    }

    /// Of how many found rows the distances are wanted, also of those that are no neighbours.
    pub(super) fn measured_depth(&self, most_k: usize) -> usize {
        let distances = if self.of.evaluation.has(Family::Distances) { most_k } else { 0 };
        distances.max(self.attended())
    }

    /// Measures what `visits` want of the raw base.
    pub(super) fn revisit(&self, visits: &mut [Option<Visits>]) -> Result<(), Failure> {
        let Judge { metric, base, queries } = &self.judge;
        let mut raw = Array2::zeros((0, base.dim()));
        let mut wanted: Vec<u32> = Vec::new();
        for (first, len) in self.blocks(self.block_rows) {
            self.rows("re-rank", first, len);
            wanted.clear();
            wanted.extend(visits.iter().flatten().flat_map(|visits| visits.wanted(first, len)));
            wanted.sort_unstable();
            wanted.dedup();
            if wanted.is_empty() {
                continue;
            }
            let few = SPARSE * wanted.len() < len;
            let rows = if few { wanted.len() } else { len };
            if raw.nrows() < rows {
                raw = Array2::zeros((rows, base.dim()));
            }
            let mut raw = raw.slice_mut(s![..rows, ..]);
            if few {
                for (id, row) in wanted.iter().zip(raw.axis_chunks_iter_mut(Axis(0), 1)) {
                    base.read(*id as usize, row)?;
                }
            } else {
                base.read_in_pool(first, raw.view_mut())?;
            }
            for visits in visits.iter_mut().flatten() {
                if few {
                    visits.pass_some(*metric, queries.view(), (first, len), &wanted, raw.view())?;
                } else {
                    visits.pass(*metric, queries.view(), first, raw.view())?;
                }
            }
        }
        Ok(())
    }

    /// Of each k: `ids` and the true distances of what was found, best first, by the method at its best.
    pub(super) fn beyond_recall(
        &self,
        k: &[usize],
        ids: &[Vec<u32>],
        found: &[Vec<f64>],
        attended: &Attended,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let evaluation = &self.of.evaluation;
        let (truth, rows) = (self.truth.distances.view(), self.data.base.rows);
        let k = distinct(k);
        // No k is within so few rows.
        let none = largest_k(&k, rows) > rows;
        if evaluation.has(Family::Order) && !none {
            metrics.add_retrieval(discounted_gain(truth, found, rows, &k), "")?;
        }
        if evaluation.has(Family::Distances) && !none {
            let of =
                |name, value: fn(f64) -> f64| ratio_of_sums(name, truth, found, rows, &k, value);
            match self.judge.metric {
                Metric::L2 => metrics.add_retrieval(of("distance_ratio", f64::sqrt), "")?,
                Metric::Ip => metrics.add_retrieval(of("sos", |distance| -distance), "")?,
                Metric::Cosine => {
                    // Of unit rows: ‖q − x‖² = 2 − 2·cos.
                    let chord = |distance: f64| (2.0 + 2.0 * distance).max(0.0).sqrt();
                    metrics.add_retrieval(of("distance_ratio", chord), "")?;
                    metrics.add_retrieval(of("sos", |distance| -distance), "")?;
                }
            }
        }
        let depth = self.attended();
        if depth > 0 {
            let negated = |of: &[f64]| of.iter().take(depth).map(|v| -v).collect::<Vec<f64>>();
            let near = revisit::left(&self.truth.ids, depth);
            let near: Vec<Vec<u32>> = near.rows().into_iter().map(|ids| ids.to_vec()).collect();
            let near: Vec<&[u32]> = near.iter().map(Vec::as_slice).collect();
            let true_scores: Vec<Vec<f64>> =
                truth.rows().into_iter().map(|row| negated(&row.to_vec())).collect();
            let order = attended.order.rows().into_iter();
            let order: Vec<Vec<f64>> = order.map(|row| row.to_vec()).collect();
            let ranked: Vec<&[u32]> = ids.iter().map(|ids| &ids[..depth.min(ids.len())]).collect();
            let ranked_scores: Vec<Vec<f64>> = found.iter().map(|found| negated(found)).collect();
            let truth = Scores { rows: &near, scores: &true_scores, estimates: &order };
            let found =
                Scores { rows: &ranked, scores: &ranked_scores, estimates: &attended.ranked };
            metrics.add_retrieval(attention(truth, found, depth, attended.tau), "")?;
        }
        Ok(())
    }

    /// From the hits of each query, which are recorded by now.
    pub(super) fn spread_of_recall(&self, metrics: &mut Metrics) -> Result<(), Failure> {
        if !self.of.evaluation.has(Family::Queries) {
            return Ok(());
        }
        let of_each = metrics.recalls.iter().flat_map(|recalls| {
            spread(&Hits { k: recalls.k() as usize, by_query: recalls.hits().to_vec() })
        });
        let all: Vec<_> = of_each.collect();
        metrics.add_retrieval(all, "")
    }
}

/// Each once: a record has a metric once.
pub(super) fn distinct(values: &[usize]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    values.iter().for_each(|value| {
        if !kept.contains(value) {
            kept.push(*value);
        }
    });
    kept
}
