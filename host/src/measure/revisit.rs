//! What searches over codes find, and how far that truly is.
//!
//! Three ways to search: by the method's own scorer, by raw queries against decompressed rows, by
//! decompressed queries against decompressed rows. The latter two are exact
//! ([`vq_kernels::knn`]), so that a lossless method finds just the true neighbours.

use crate::data::{DataError, Metric, Prepared, Truth, TruthFile};
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

    /// As [`new`](Self::new), of raw rows, without those that `known` knows to be neighbours or to be
    /// none: the latter are infinitely far, but the first `depth` of a query, which are measured.
    pub(super) fn unknown(rows: &[Vec<u32>], known: &Known, depth: usize) -> Self {
        let of_query = |(query, rows): (usize, &Vec<u32>)| {
            let distance = known.of_query(query);
            let mut distances: Vec<f64> = rows.iter().map(|row| distance(*row)).collect();
            let first = distances.iter_mut().take(depth);
            first.filter(|distance| distance.is_infinite()).for_each(|of| *of = f64::NAN);
            distances
        };
        let distances: Vec<Vec<f64>> = rows.par_iter().enumerate().map(of_query).collect();
        let mut visits = Vec::new();
        for (query, (rows, distances)) in (0..).zip(rows.iter().zip(&distances)) {
            let of_query = rows.iter().zip(distances).zip(0..);
            let of_query = of_query.filter(|((_, distance), _)| distance.is_nan());
            visits.extend(of_query.map(|((row, _), position)| Visit {
                row: *row,
                query,
                position,
            }));
        }
        visits.par_sort_unstable_by_key(|v| (v.row, v.query, v.position));
        Visits { visits, distances }
    }

    /// Which of the `len` rows from `first` are to be measured, in ascending order.
    pub(super) fn wanted(&self, first: usize, len: usize) -> impl Iterator<Item = u32> {
        self.visits[self.range(first, len)].iter().map(|visit| visit.row)
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
        let here = self.range(first, rows.nrows());
        self.measure(metric, queries, here, rows, |row| row as usize - first)
    }

    /// The same of some rows of the block of `len` from `first` on: `rows` (m, d) are those of `ids`,
    /// ascending, and none else is wanted there.
    pub(super) fn pass_some(
        &mut self,
        metric: Metric,
        queries: ArrayView2<'_, f32>,
        (first, len): (usize, usize),
        ids: &[u32],
        rows: ArrayView2<'_, f32>,
    ) -> Result<(), Failure> {
        let here = self.range(first, len);
        self.measure(metric, queries, here, rows, |row| ids.partition_point(|id| *id < row))
    }

    /// Measures the visits `here`, whose rows stand in `rows` where `place` says.
    fn measure(
        &mut self,
        metric: Metric,
        queries: ArrayView2<'_, f32>,
        here: std::ops::Range<usize>,
        rows: ArrayView2<'_, f32>,
        place: impl Fn(u32) -> usize + Sync,
    ) -> Result<(), Failure> {
        let contiguous = || Failure::failed("a block is not contiguous");
        let dim = rows.ncols();
        let values = rows.as_slice().ok_or_else(contiguous)?;
        let queries = queries.as_slice().ok_or_else(contiguous)?;
        let measured: Vec<f64> = self.visits[here.clone()]
            .par_iter()
            .map(|visit| {
                let row = place(visit.row);
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

/// What the exact neighbours tell of distances, so that few rows that were found are measured.
///
/// Recall asks of a row whether it is at most as far as the k-th neighbour. A row that is none of the
/// neighbours is at least as far as the one after the last of them; where that is farther than the
/// last, so is the row.
pub(super) struct Known {
    /// Per query its neighbours and their distances, ascending by row.
    neighbours: Vec<Vec<(u32, f64)>>,
    /// Every row that is none of them is farther than all of them.
    apart: Vec<bool>,
}

impl Known {
    /// Reads the neighbours of `data`, and what they tell.
    pub(super) fn read(data: &Prepared) -> Result<(Truth, Self), DataError> {
        let k = data.truth.k;
        // The file has one more, if there is one.
        let deep = TruthFile { k: data.base.rows.min(k + 1), ..data.truth.clone() }.read()?;
        let left = |columns| s![.., ..columns];
        let truth = Truth {
            ids: deep.ids.slice(left(k)).to_owned(),
            distances: deep.distances.slice(left(k)).to_owned(),
        };
        let apart = deep.distances.rows().into_iter().map(|distances| {
            let next = distances.get(k);
            next.is_none_or(|next| distances.get(k - 1).is_some_and(|last| next > last))
        });
        let rows = truth.ids.rows().into_iter().zip(truth.distances.rows());
        let neighbours = rows.map(|(ids, distances)| {
            let mut of_query: Vec<_> = ids.iter().copied().zip(distances.iter().copied()).collect();
            of_query.sort_unstable_by_key(|(id, _)| *id);
            of_query
        });
        let known = Known { neighbours: neighbours.collect(), apart: apart.collect() };
        Ok((truth, known))
    }

    /// Tells how far rows are from a query: NaN where that is to be measured.
    fn of_query(&self, query: usize) -> impl Fn(u32) -> f64 {
        let neighbours = &self.neighbours[query];
        let others = if self.apart[query] { f64::INFINITY } else { f64::NAN };
        move |row| match neighbours.binary_search_by_key(&row, |(id, _)| *id) {
            Ok(at) => neighbours[at].1,
            Err(_) => others,
        }
    }
}

/// The first `columns` of each row.
pub(super) fn left<T>(of: &Array2<T>, columns: usize) -> ArrayView2<'_, T> {
    of.slice(s![.., ..columns.min(of.ncols())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_are_measured_only_where_the_neighbours_do_not_tell() {
        // Of the second query another row may be as near as the last neighbour.
        let known = Known {
            neighbours: vec![vec![(2, 1.0), (7, 0.5)], vec![(0, 4.0), (3, 4.0)]],
            apart: vec![true, false],
        };
        let rows = [vec![7, 5, 2], vec![1, 0]];
        let mut visits = Visits::unknown(&rows, &known, 0);
        assert_eq!(visits.wanted(2, 8).count(), 0);
        assert_eq!(visits.wanted(0, 2).collect::<Vec<_>>(), [1]);
        let queries = array![[0.0_f32], [3.0]];
        visits.pass(Metric::L2, queries.view(), 0, array![[9.0_f32], [1.0]].view()).unwrap();
        assert_eq!(visits.finish(), [vec![0.5, f64::INFINITY, 1.0], vec![4.0, 4.0]]);

        // The first two of each query are measured, of a block of which two rows are read.
        let mut visits = Visits::unknown(&rows, &known, 2);
        assert_eq!(visits.wanted(0, 8).collect::<Vec<_>>(), [1, 5]);
        let read = array![[1.0_f32], [9.0]];
        visits.pass_some(Metric::L2, queries.view(), (0, 8), &[1, 5], read.view()).unwrap();
        assert_eq!(visits.finish(), [vec![0.5, 81.0, 1.0], vec![4.0, 4.0]]);
    }
}
