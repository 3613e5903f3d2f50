//! A second code of each row, by another method: it ranks what the first code finds.
//!
//! The two are measured one after the other, each by engines of its own. What the first finds is handed
//! on in a file of the referee's; of the second it is asked how near it thinks these rows are: at its
//! best, which is by its scorer if it has one, by its decompressed rows, and by these to decompressed
//! queries.

use super::beyond::{Attended, distinct};
use super::revisit::Visits;
use super::{Cell, Metrics, unkept};
use crate::metric::{Family, RetrievalMetric, retrieval};
use crate::worker::fault::HostFault;
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Puts the first `most` of `ids` of each query, all of them as long, into `file`.
pub(super) fn hand_on(file: &File, ids: &[Vec<u32>], most: usize) -> Result<(), Failure> {
    let rows = ids.iter().flat_map(|ids| &ids[..most.min(ids.len())]);
    let bytes: Vec<u8> = rows.flat_map(|id| id.to_le_bytes()).collect();
    file.write_all_at(&bytes, 0).map_err(unkept)
}

/// What was put there of so many `queries` (queries, c).
pub(super) fn read(file: &File, queries: usize) -> Result<Array2<u32>, Failure> {
    let mut bytes = vec![0; file.metadata().map_err(unkept)?.len() as usize];
    file.read_exact_at(&mut bytes, 0).map_err(unkept)?;
    let ids: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let each = ids.len() / queries.max(1);
    Array2::from_shape_vec((queries, each), ids).map_err(|_| {
        let reason = "a first code handed on other numbers of rows for each query".to_owned();
        HostFault::Referee { reason }.into()
    })
}

/// The candidates of each query (queries, c).
pub(super) fn rows(candidates: &Array2<u32>) -> Vec<Vec<u32>> {
    candidates.rows().into_iter().map(|ids| ids.to_vec()).collect()
}

/// A candidate of a query.
#[derive(Clone, Copy)]
struct Candidate {
    row: u32,
    /// Larger is nearer.
    estimate: f64,
    /// The true one.
    distance: f64,
}

/// The true distances of the first `c` candidates of a query, in the order of their estimates; of equal
/// ones the lowest row first.
fn ranked(candidates: &[Candidate], c: usize) -> Vec<f64> {
    let mut ranked = candidates[..c.min(candidates.len())].to_vec();
    ranked.sort_by(|a, b| b.estimate.total_cmp(&a.estimate).then(a.row.cmp(&b.row)));
    ranked.into_iter().map(|of| of.distance).collect()
}

impl Cell<'_> {
    /// Recall of the `candidates` (queries, c) ranked by estimates (queries, c), by each kind of which the
    /// suffix says what it is; and of the plain kind what else is measured of found rows. The plain metrics
    /// are of the most candidates that are asked for.
    pub(super) fn judge_second<'e>(
        &self,
        candidates: &Array2<u32>,
        by: impl Iterator<Item = (&'static str, ArrayView2<'e, f64>)>,
        metrics: &mut Metrics,
    ) -> Result<(), Failure> {
        let evaluation = &self.of.evaluation;
        let rows = rows(candidates);
        let measured = if evaluation.has(Family::Distances) { candidates.ncols() } else { 0 };
        let mut visits = [Some(Visits::unknown(&rows, &self.known, measured))];
        self.revisit(&mut visits)?;
        let [visits] = visits;
        let distances = visits.map(Visits::finish).unwrap_or_default();

        let base = self.data.base.rows;
        let truth = self.truth.distances.view();
        let factors = distinct(&evaluation.rerank);
        let largest = factors.iter().copied().max().unwrap_or(1);
        let judge = |found: &[Vec<f64>], k: usize, rerank: &[usize]| {
            retrieval(truth, found, base, &[k], rerank).map_err(Failure::failed)
        };
        for (suffix, estimates) in by {
            let of_query = |(query, (ids, distances)): (usize, (&Vec<u32>, &Vec<f64>))| {
                let all = ids.iter().zip(estimates.row(query)).zip(distances);
                let one = |((row, estimate), distance): ((&u32, &f64), &f64)| Candidate {
                    row: *row,
                    estimate: *estimate,
                    distance: *distance,
                };
                all.map(one).collect()
            };
            let known: Vec<Vec<Candidate>> =
                rows.iter().zip(&distances).enumerate().map(of_query).collect();
            for k in distinct(&evaluation.k).into_iter().filter(|k| *k <= base) {
                let of_first = |r: usize| -> Vec<Vec<f64>> {
                    known.par_iter().map(|of| ranked(of, k.saturating_mul(r))).collect()
                };
                let found = of_first(largest);
                if !suffix.is_empty() {
                    let recall = judge(&found, k, &[])?.into_iter().filter(|of| of.hits.is_some());
                    metrics.add_retrieval(recall.collect(), suffix)?;
                    continue;
                }
                for r in &factors {
                    let recall = judge(&of_first(*r), k, &[])?;
                    if let Some(of) = recall.into_iter().find(|of| of.hits.is_some()) {
                        let name = format!("{}/second={r}", of.name);
                        let of = RetrievalMetric { name, hits: None, ..of };
                        metrics.add_retrieval(vec![of], "")?;
                    }
                }
                metrics.add_retrieval(judge(&found, k, &evaluation.rerank)?, "")?;
                let nothing =
                    Attended { order: Array2::zeros((0, 0)), ranked: Vec::new(), tau: 0.0 };
                self.beyond_recall(&[k], &[], &found, &nothing, metrics)?;
            }
        }
        self.spread_of_recall(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_come_back_as_they_were_handed_on() {
        let file = tempfile::tempfile().unwrap();
        hand_on(&file, &[vec![7, 1, 9], vec![2, 3, 4]], 2).unwrap();
        assert_eq!(read(&file, 2).unwrap(), ndarray::array![[7, 1], [2, 3]]);
        assert!(matches!(read(&file, 3), Err(Failure::Host(HostFault::Referee { .. }))));
    }

    #[test]
    fn only_the_first_candidates_are_ranked_and_ties_go_to_the_lowest_row() {
        let all = [(9, 1.0, 0.1), (4, 3.0, 0.2), (2, 1.0, 0.3), (1, 5.0, 0.4)];
        let all = all.map(|(row, estimate, distance)| Candidate { row, estimate, distance });
        assert_eq!(ranked(&all, 3), [0.2, 0.3, 0.1]);
        assert_eq!(ranked(&all, 9), [0.4, 0.2, 0.3, 0.1]);
    }
}
