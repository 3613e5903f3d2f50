//! Exhaustive search over codes: which rows each query finds, in which order, and how far they
//! truly are.
//!
//! Three ways to look: by the method's own scorer, by raw queries against decompressed rows, by
//! decompressed queries against decompressed rows. Decompressed rows are first ranked by f32
//! scores, keeping a margin, then the kept ones are ranked again by f64 distances, so that a
//! lossless method finds exactly the true neighbours.

use super::reporter::Failure;
use crate::data::Metric;
use crate::metric::Scan;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use vq_kernels::distance;
use vq_kernels::panels::Panels;

/// Bytes of the score matrix of one step.
const SCORE_BYTES: usize = 8 << 20;
/// Queries that one task scores.
const QUERIES_PER_TASK: usize = 16;

/// "Smaller is nearer": l2_sq, or −inner product.
pub(super) fn exact(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    match metric {
        Metric::L2 => distance::l2_sq(a, b),
        Metric::Ip | Metric::Cosine => -distance::dot(a, b),
    }
}

/// How many rows to keep so that ranking again by f64 cannot miss one of the best `wanted`: f32
/// scores only confuse rows that are nearly tied.
pub(super) fn with_margin(wanted: usize, rows: usize) -> usize {
    (wanted + wanted / 8 + 32).min(rows)
}

/// Pushes the scores of `rows` (n, d), the rows from `first` on, for all `queries` (q, d).
pub(super) fn scan_rows(
    scan: &mut Scan,
    metric: Metric,
    queries: ArrayView2<'_, f32>,
    rows: ArrayView2<'_, f32>,
    first: usize,
    panels: &mut Option<Panels>,
) {
    let step = (SCORE_BYTES / 4 / queries.nrows().max(1)).clamp(64, 8192);
    for (i, rows) in rows.axis_chunks_iter(Axis(0), step).enumerate() {
        let panels = match (panels.as_mut(), metric) {
            (Some(panels), Metric::L2) => {
                panels.pack_l2(rows);
                panels
            }
            (Some(panels), _) => {
                panels.pack_ip(rows);
                panels
            }
            (None, Metric::L2) => panels.insert(Panels::for_l2(rows)),
            (None, _) => panels.insert(Panels::for_ip(rows)),
        };
        let mut scores = Array2::zeros((queries.nrows(), rows.nrows()));
        scores
            .axis_chunks_iter_mut(Axis(0), QUERIES_PER_TASK)
            .into_par_iter()
            .zip(queries.axis_chunks_iter(Axis(0), QUERIES_PER_TASK).into_par_iter())
            .for_each(|(scores, queries)| panels.scores(queries, scores));
        scan.push_scores((first + i * step) as u32, scores.view());
    }
}

/// What one way of searching found, being ranked again.
pub(super) struct Finding {
    /// Per query, the rows found, best first.
    rows: Vec<Vec<u32>>,
    /// Per query, the true distance of each row found.
    truth: Vec<Vec<f64>>,
    /// Per query, the distance by which to rank again; empty where the scan's order stands.
    rank: Vec<Vec<f64>>,
    /// Where `rank` comes from: raw or decompressed queries.
    by: Option<Array2<f32>>,
}

impl Finding {
    /// From a scan's ranking. With `queries`, the rows found are ranked again by the distance
    /// between these and the decompressed rows.
    pub(super) fn new(ranked: Vec<Vec<(f32, u32)>>, queries: Option<Array2<f32>>) -> Self {
        let rows: Vec<Vec<u32>> = ranked
            .into_iter()
            .map(|found| found.into_iter().map(|(_, row)| row).collect())
            .collect();
        let blank = |on: bool| -> Vec<Vec<f64>> {
            rows.iter()
                .map(|rows| if on { vec![f64::NAN; rows.len()] } else { Vec::new() })
                .collect()
        };
        Finding { truth: blank(true), rank: blank(queries.is_some()), by: queries, rows }
    }

    /// Per query the true distances, in final order, of the best `keep` rows found.
    pub(super) fn ranked_truth(mut self, keep: usize) -> Vec<Vec<f64>> {
        for ((rows, truth), rank) in self.rows.iter().zip(&mut self.truth).zip(&self.rank) {
            if !rank.is_empty() {
                let mut order: Vec<usize> = (0..rows.len()).collect();
                order.sort_by(|&a, &b| rank[a].total_cmp(&rank[b]).then(rows[a].cmp(&rows[b])));
                *truth = order.into_iter().map(|i| truth[i]).collect();
            }
            truth.truncate(keep);
        }
        self.truth
    }
}

/// One row found by one query, to be visited when the walk passes it.
struct Visit {
    row: u32,
    finding: u32,
    query: u32,
    position: u32,
}

/// A second walk over the base, to the rows that were found.
pub(super) struct Revisit {
    findings: Vec<Finding>,
    visits: Vec<Visit>,
}

impl Revisit {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let mut visits = Vec::new();
        for (finding, found) in findings.iter().enumerate() {
            for (query, rows) in found.rows.iter().enumerate() {
                visits.extend(rows.iter().enumerate().map(|(position, row)| Visit {
                    row: *row,
                    finding: finding as u32,
                    query: query as u32,
                    position: position as u32,
                }));
            }
        }
        visits.par_sort_unstable_by_key(|v| (v.row, v.finding, v.query));
        Revisit { findings, visits }
    }

    /// True if a row of the `len` rows from `first` was found by anyone.
    pub(super) fn wants(&self, first: usize, len: usize) -> bool {
        !self.of(first, len).is_empty()
    }

    fn of(&self, first: usize, len: usize) -> &[Visit] {
        let before = |row: usize| self.visits.partition_point(|v| (v.row as usize) < row);
        &self.visits[before(first)..before(first + len)]
    }

    /// Takes the exact distances to rows from `first` on: `raw` (n, d) and `decoded` (n, d).
    pub(super) fn pass(
        &mut self,
        metric: Metric,
        queries: ArrayView2<'_, f32>,
        first: usize,
        raw: ArrayView2<'_, f32>,
        decoded: ArrayView2<'_, f32>,
    ) -> Result<(), Failure> {
        let contiguous = || Failure::failed("a block is not contiguous");
        let dim = raw.ncols();
        let raw_values = raw.as_slice().ok_or_else(contiguous)?;
        let decoded_values = decoded.as_slice().ok_or_else(contiguous)?;
        let queries = queries.as_slice().ok_or_else(contiguous)?;
        let row_of = |values: &'_ [f32], row: usize| row * dim..row * dim + dim.min(values.len());
        let distances: Vec<(f64, f64)> = self
            .of(first, raw.nrows())
            .par_iter()
            .map(|visit| {
                let here = row_of(raw_values, visit.row as usize - first);
                let query = &queries[row_of(queries, visit.query as usize)];
                let truth = exact(metric, query, &raw_values[here.clone()]);
                let by = self.findings[visit.finding as usize].by.as_ref();
                let rank = by.and_then(|by| by.as_slice()).map_or(f64::NAN, |by| {
                    exact(metric, &by[row_of(by, visit.query as usize)], &decoded_values[here])
                });
                (truth, rank)
            })
            .collect();
        let before = |row: usize| self.visits.partition_point(|v| (v.row as usize) < row);
        let range = before(first)..before(first + raw.nrows());
        for (visit, (truth, rank)) in self.visits[range].iter().zip(distances) {
            let finding = &mut self.findings[visit.finding as usize];
            let (query, position) = (visit.query as usize, visit.position as usize);
            finding.truth[query][position] = truth;
            if let Some(place) = finding.rank[query].get_mut(position) {
                *place = rank;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}

/// The first `columns` of each row.
pub(super) fn left<T>(of: &Array2<T>, columns: usize) -> ArrayView2<'_, T> {
    of.slice(s![.., ..columns.min(of.ncols())])
}
