//! Exact neighbours: for each query the k base rows of smallest (distance, id), found by
//! [`vq_kernels::knn`] and kept in files. The answer is that of sorting all f64 distances, ties
//! included.

mod file;
mod kept;
mod publish;

use ndarray::{Array2, ArrayView1, s};
use vq_kernels::knn::{Distance, Knn};

use super::equal::Sought;
use super::{DataError, Metric, OnProgress, Progress, Rows, block_rows};

pub use self::file::TruthFile;
pub(super) use self::kept::{ABOUT, Found, Place, find};

/// Exact neighbours of q queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Base rows (q, k), nearest first; of equally near ones the lowest id first.
    pub ids: Array2<u32>,
    /// Their distances (q, k), smaller is nearer: ‖x−r‖² for l2, −x·r for ip and cosine.
    pub distances: Array2<f64>,
}

/// Queries that share one walk over the base.
const GROUP_VALUES: usize = 1 << 22;
/// Rows whose mean is about the middle of all.
const MIDDLE_ROWS: usize = 1024;

impl Truth {
    /// Queries whose `k`-th neighbour is as near as the next one, if that is known.
    fn tied_at(&self, k: usize) -> u64 {
        if self.distances.ncols() <= k {
            return 0;
        }
        let (last, next) = (self.distances.column(k - 1), self.distances.column(k));
        last.iter().zip(next).map(|(last, next)| u64::from(last == next)).sum()
    }
}

impl From<Metric> for Distance {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::L2Sq,
            Metric::Ip | Metric::Cosine => Self::NegativeProduct,
        }
    }
}

/// Finds the `k` exact neighbours of each of `queries` in `base`, in the current rayon pool;
/// also says how many queries equal a row of the base.
///
/// Reads `base` in blocks: memory does not grow with its rows. O(queries · rows · d).
///
/// # Errors
/// [`DataError`] when either file cannot be read.
///
/// # Panics
/// When `k` is 0 or more than the rows of `base`, or the dimensions disagree.
pub fn exact_neighbours(
    base: &Rows,
    queries: &Rows,
    metric: Metric,
    k: usize,
    progress: OnProgress<'_>,
) -> Result<(Truth, u64), DataError> {
    assert!((1..=base.rows()).contains(&k), "k is a number of rows");
    let dim = base.dim();
    let group = (GROUP_VALUES / dim.max(4 * k)).clamp(64, 4096);
    let total = queries.rows().div_ceil(group) as u64 * base.rows() as u64;
    let centre = about_the_middle(base)?;

    let mut truth = Truth {
        ids: Array2::zeros((queries.rows(), k)),
        distances: Array2::zeros((queries.rows(), k)),
    };
    let sought = Sought::new(queries)?;
    let mut behind = 0;
    let step = block_rows(dim);
    let mut block = Array2::zeros((step.min(base.rows()), dim));
    for first_query in (0..queries.rows()).step_by(group) {
        let count = group.min(queries.rows() - first_query);
        let mut x = Array2::zeros((count, dim));
        queries.read(first_query, x.view_mut())?;
        let mut knn = Knn::new(x.view(), metric.into(), k, &centre);
        for first in (0..base.rows()).step_by(step) {
            let count = step.min(base.rows() - first);
            let mut block = block.slice_mut(s![..count, ..]);
            base.read_in_pool(first, block.view_mut())?;
            if first_query == 0 {
                sought.look_in(block.view())?;
            }
            // Rows of a prepared base are numbered by u32.
            knn.push(first as u32, block.view());
            behind += count as u64;
            progress(Progress { stage: "find neighbours", done: behind, total })?;
        }
        for (query, found) in (first_query..).zip(knn.finish()) {
            for (rank, neighbour) in found.nearest.into_iter().enumerate() {
                truth.ids[(query, rank)] = neighbour.id;
                truth.distances[(query, rank)] = neighbour.distance;
            }
        }
    }
    Ok((truth, sought.found()))
}

/// The mean of some rows from all over the base: near enough to the middle that distances between
/// rows are not small beside those from it.
fn about_the_middle(base: &Rows) -> Result<Vec<f64>, DataError> {
    let step = base.rows().div_ceil(MIDDLE_ROWS);
    let ids: Vec<usize> = (0..base.rows()).step_by(step).collect();
    let mut rows = Array2::zeros((ids.len(), base.dim()));
    base.gather(&ids, rows.view_mut())?;
    let mean = |column: ArrayView1<'_, f32>| {
        column.iter().map(|x| f64::from(*x)).sum::<f64>() / ids.len() as f64
    };
    Ok(rows.columns().into_iter().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::cache::Cache;
    use crate::data::identity::Sources;
    use crate::data::testing::{prepared_rows, small_integers};

    const METRICS: [Metric; 2] = [Metric::L2, Metric::Ip];

    /// All f64 distances, sorted.
    fn by_full_sort(base: &Array2<f32>, queries: &Array2<f32>, metric: Metric, k: usize) -> Truth {
        let mut truth = Truth {
            ids: Array2::zeros((queries.nrows(), k)),
            distances: Array2::zeros((queries.nrows(), k)),
        };
        for (query, x) in queries.rows().into_iter().enumerate() {
            let mut all: Vec<(f64, u32)> = base
                .rows()
                .into_iter()
                .zip(0..)
                .map(|(row, id)| {
                    let (x, row) = (x.to_slice().unwrap(), row.to_slice().unwrap());
                    (Distance::from(metric).of(x, row), id)
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            for (rank, (distance, id)) in all.into_iter().take(k).enumerate() {
                truth.ids[(query, rank)] = id;
                truth.distances[(query, rank)] = distance;
            }
        }
        truth
    }

    /// What [`find`] finds with a cache in `folder`, and its notices.
    pub(super) fn kept(
        folder: &Path,
        base: &Rows,
        queries: &Rows,
        k: usize,
    ) -> (Found, Vec<String>) {
        let sources = Sources::default();
        let folder = folder.to_path_buf();
        let mut cache = Cache {
            folder,
            sources: &sources,
            makes: true,
            progress: &|_| Ok(()),
            notices: Vec::new(),
        };
        let key = "0123456789abcdef";
        let place = Place { cache: &mut cache, key, from: "here" };
        let found = find(base, queries, Metric::L2, k, place, &|_| Ok(())).unwrap();
        (found, cache.notices)
    }

    /// Finds and compares.
    #[track_caller]
    fn check(base: &Array2<f32>, queries: &Array2<f32>, metric: Metric, k: usize) {
        let folder = tempfile::tempdir().unwrap();
        let base_rows = prepared_rows(folder.path(), "base", base);
        let query_rows = prepared_rows(folder.path(), "queries", queries);
        let (found, _) = exact_neighbours(&base_rows, &query_rows, metric, k, &|_| Ok(())).unwrap();
        assert_eq!(found, by_full_sort(base, queries, metric, k));
    }

    #[test]
    fn neighbours_are_those_of_a_full_sort() {
        for metric in METRICS {
            // More rows than a set of panels, a tail, more queries than a chunk.
            let base = small_integers(9001, 33, 1).mapv(|x| x * 0.37);
            let queries = small_integers(101, 33, 2).mapv(|x| x * 0.41);
            check(&base, &queries, metric, 10);
            let large = 2.0_f32.powi(50);
            check(&(base * large), &(queries * large), metric, 10);
        }
    }

    #[test]
    fn ties_are_settled_by_the_lowest_id() {
        for metric in METRICS {
            // 7² distinct rows, each some 40 times: every list ends within a tie.
            check(&small_integers(2000, 2, 1), &small_integers(60, 2, 2), metric, 10);
            check(&Array2::zeros((700, 3)), &small_integers(5, 3, 2), metric, 7);
        }
    }

    #[test]
    fn data_far_from_the_origin_is_exact_too() {
        // ‖x‖² is 10¹² times the distances: f32 scores say nothing.
        let far = |n, seed| small_integers(n, 16, seed).mapv(|x| 1e6 + x / 4.0);
        check(&far(3000, 1), &far(20, 2), Metric::L2, 10);
        check(&far(3000, 1), &far(20, 2), Metric::Ip, 10);
    }

    #[test]
    fn one_enormous_row_changes_nothing_for_the_others() {
        let mut base = small_integers(3000, 16, 1).mapv(|x| x + 0.1);
        base.row_mut(17).fill(1e9);
        let queries = small_integers(20, 16, 2);
        check(&base, &queries, Metric::L2, 10);
        check(&base, &queries, Metric::Ip, 10);
    }

    #[test]
    fn values_whose_scores_overflow_f32_are_exact_too() {
        for metric in METRICS {
            let base = small_integers(500, 8, 1).mapv(|x| x * 1e30);
            let queries = small_integers(9, 8, 2).mapv(|x| x * 1e30);
            check(&base, &queries, metric, 10);
            let tiny = small_integers(500, 8, 1).mapv(|x| x * 1e-30);
            check(&tiny, &queries.mapv(|x| x / 1e30 / 1e30), metric, 10);
        }
    }

    #[test]
    fn all_rows_may_be_neighbours() {
        for metric in METRICS {
            check(&small_integers(40, 5, 1), &small_integers(3, 5, 2), metric, 40);
            check(&small_integers(1, 5, 1), &small_integers(3, 5, 2), metric, 1);
        }
    }

    #[test]
    fn queries_that_equal_a_base_row_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let base = small_integers(300, 9, 1);
        let mut queries = small_integers(8, 9, 2);
        for query in 0..3 {
            queries.row_mut(query).assign(&base.row(100 * query));
        }
        let base = prepared_rows(folder.path(), "base", &base);
        let queries = prepared_rows(folder.path(), "queries", &queries);
        let found = || kept(folder.path(), &base, &queries, 5).0.identical;
        assert_eq!([found(), found()], [3, 3]);
        let of = exact_neighbours(&base, &queries, Metric::Ip, 1, &|_| Ok(())).unwrap().1;
        assert_eq!(of, 3, "also where the nearest row is another one");
    }

    #[test]
    fn queries_whose_last_neighbour_ties_with_the_next_row_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        // Distances of 0, 1, 1, 4, 4, 9 and 0, 1, 4, 9, 16, 25.
        let base = ndarray::array![[0.0], [1.0], [-1.0], [2.0], [-2.0], [3.0]];
        let queries = prepared_rows(folder.path(), "q", &ndarray::array![[0.0], [-2.0]]);
        let base = prepared_rows(folder.path(), "base", &base);
        let tied = |k| kept(folder.path(), &base, &queries, k).0.tied;
        let expected = [0, 1, 0, 1, 0, 0];
        assert_eq!([1, 2, 3, 4, 5, 6].map(tied), expected);
        assert_eq!([1, 2, 3, 4, 5, 6].map(tied), expected, "also from the cache");
    }
}
