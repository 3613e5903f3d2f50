//! What searches over codes find, and how far that truly is.
//!
//! Three ways to search: by the method's own scorer, by raw queries against decompressed rows, by
//! decompressed queries against decompressed rows. The latter two are exact
//! ([`vq_kernels::knn`]), so that a lossless method finds just the true neighbours.

use crate::data::Metric;
use crate::worker::reporter::Failure;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use vq_kernels::knn::Distance;

/// "Smaller is nearer": l2_sq, or −inner product.
pub(super) fn exact(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    Distance::from(metric).of(a, b)
}

/// A row that is to be measured for a query, when the walk over the rows passes it.
struct Visit {
    row: u32,
    query: u32,
    /// Among the rows of its query.
    position: u32,
}

/// Rows to be measured for each query (queries, any number).
pub(super) struct Visits {
    /// Ascending by row.
    visits: Vec<Visit>,
    /// Per query and position the distance; NaN until it is known.
    distances: Vec<Vec<f64>>,
}

impl Visits {
    /// `rows[query]` are those of a query.
    pub(super) fn new<R: AsRef<[u32]>>(rows: &[R]) -> Self {
        let mut visits = Vec::new();
        for (query, rows) in (0..).zip(rows) {
            let of_query = rows.as_ref().iter().zip(0..);
            visits.extend(of_query.map(|(row, position)| Visit { row: *row, query, position }));
        }
        visits.par_sort_unstable_by_key(|v| (v.row, v.query, v.position));
        let blank = rows.iter().map(|rows| vec![f64::NAN; rows.as_ref().len()]);
        Visits { visits, distances: blank.collect() }
    }

    /// True if one of the `len` rows from `first` is to be measured.
    pub(super) fn wants(&self, first: usize, len: usize) -> bool {
        !self.visits[self.range(first, len)].is_empty()
    }

    fn range(&self, first: usize, len: usize) -> std::ops::Range<usize> {
        let before = |row: usize| self.visits.partition_point(|v| (v.row as usize) < row);
        before(first)..before(first + len)
    }

    /// Measures from `queries` (q, d) to those of `rows` (n, d), from row `first` on, that are wanted.
    pub(super) fn pass(
        &mut self,
        metric: Metric,
        queries: ArrayView2<'_, f32>,
        first: usize,
        rows: ArrayView2<'_, f32>,
    ) -> Result<(), Failure> {
        let contiguous = || Failure::failed("a block is not contiguous");
        let dim = rows.ncols();
        let values = rows.as_slice().ok_or_else(contiguous)?;
        let queries = queries.as_slice().ok_or_else(contiguous)?;
        let here = self.range(first, rows.nrows());
        let measured: Vec<f64> = self.visits[here.clone()]
            .par_iter()
            .map(|visit| {
                let row = visit.row as usize - first;
                let query = visit.query as usize;
                exact(metric, &queries[query * dim..][..dim], &values[row * dim..][..dim])
            })
            .collect();
        for (visit, distance) in self.visits[here].iter().zip(measured) {
            self.distances[visit.query as usize][visit.position as usize] = distance;
        }
        Ok(())
    }

    /// Per query the distances, in the order in which its rows were given.
    pub(super) fn finish(self) -> Vec<Vec<f64>> {
        self.distances
    }
}

/// The first `columns` of each row.
pub(super) fn left<T>(of: &Array2<T>, columns: usize) -> ArrayView2<'_, T> {
    of.slice(s![.., ..columns.min(of.ncols())])
}
