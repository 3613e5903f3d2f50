//! Which rows are equal. Hashes find candidates and a comparison of the values decides, so a
//! collision of hashes does no harm. 0 and −0 are equal.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use vq_kernels::Path;

use super::{DataError, OnProgress, Progress, Rows, block_rows};

/// Independent sums of a row's hash: what a vector register holds.
const LANES: usize = 8;
/// Odd, with bits all over: the golden ratio in 64 bits, as multiplicative hashing takes it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Rows that a thread hashes at a time.
const ROWS_AT_ONCE: usize = 256;
/// Rows after which a comparison is told of.
const REPORTED: u64 = 1 << 12;

/// The same for equal rows; near 2⁻⁶⁴ likely to be the same for others that nobody made to be.
fn hash(row: &[f32]) -> u64 {
    Path::fastest().run(
        #[inline(always)]
        || hash_in_lanes(row),
    )
}

#[inline(always)]
fn hash_in_lanes(row: &[f32]) -> u64 {
    let mut lanes = [0_u32; LANES];
    let add = |lane: &mut u32, x: f32| {
        // −0 + 0 is 0, and x + 0 is x for all others.
        let bits = (x + 0.0).to_bits();
        *lane = (lane.rotate_left(15) ^ bits).wrapping_mul(FACTOR as u32);
    };
    let (whole, rest) = row.as_chunks::<LANES>();
    for values in whole {
        lanes.iter_mut().zip(values).for_each(|(lane, x)| add(lane, *x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| add(lane, *x));
    lanes.iter().fold(0, |sum: u64, lane| {
        let mixed = (sum ^ u64::from(*lane)).wrapping_mul(FACTOR);
        mixed ^ mixed >> 29
    })
}

/// Collects a hash of eight bytes for each row that is pushed.
pub(super) struct Hashes(Vec<u64>);

impl Hashes {
    /// For that many rows: a vector that grows would take twice the memory at times.
    pub(super) fn of(rows: usize) -> Self {
        Self(Vec::with_capacity(rows))
    }

    /// Takes whole rows of `dim` values, in order.
    pub(super) fn push(&mut self, rows: &[f32], dim: usize) {
        let rows = rows.par_chunks_exact(dim).with_min_len(ROWS_AT_ONCE);
        self.0.par_extend(rows.map(hash));
    }

    /// How many of `rows`, whose hashes these are, are equal to an earlier one.
    ///
    /// O(n log n). Where hashes are the same, rows are read again, one by one.
    pub(super) fn duplicates(
        self,
        rows: &Rows,
        progress: OnProgress<'_>,
    ) -> Result<u64, DataError> {
        // The row's number takes the place of the hash's last bits: both sort together in the
        // memory of one.
        let number = (self.0.len().next_power_of_two() - 1) as u64;
        let mut hashes = self.0;
        hashes.iter_mut().zip(0..).for_each(|(hash, row)| *hash = *hash & !number | row);
        hashes.par_sort_unstable();
        let (compared, total) = (AtomicU64::new(0), hashes.len() as u64);
        hashes
            .par_chunk_by(|a, b| a & !number == b & !number)
            .filter(|same| same.len() > 1)
            .map(|same| {
                // A second one is rare: it has the hash of the first and is another row.
                let mut distinct: Vec<Array2<f32>> = Vec::new();
                let mut row = Array2::zeros((1, rows.dim()));
                let mut equal = 0;
                for hash in same {
                    rows.read((hash & number) as usize, row.view_mut())?;
                    if distinct.contains(&row) {
                        equal += 1;
                    } else {
                        distinct.push(row.clone());
                    }
                    let done = 1 + compared.fetch_add(1, Ordering::Relaxed);
                    if done.is_multiple_of(REPORTED) {
                        progress(Progress { stage: "compare equal rows", done, total })?;
                    }
                }
                Ok(equal)
            })
            .try_reduce(|| 0, |a, b| Ok(a + b))
    }
}

/// Queries that are looked for among other rows.
///
/// Memory: 17 bytes per query.
pub(super) struct Sought<'a> {
    queries: &'a Rows,
    /// (hash, query), ascending.
    hashes: Vec<(u64, usize)>,
    found: Vec<AtomicBool>,
}

impl<'a> Sought<'a> {
    pub(super) fn new(queries: &'a Rows) -> Result<Self, DataError> {
        let mut hashes = Hashes::of(queries.rows());
        let step = block_rows(queries.dim());
        for first in (0..queries.rows()).step_by(step) {
            let mut block = Array2::zeros((step.min(queries.rows() - first), queries.dim()));
            queries.read(first, block.view_mut())?;
            hashes.push(block.as_slice().expect("a block is row-major"), queries.dim());
        }
        let mut hashes: Vec<(u64, usize)> = hashes.0.into_iter().zip(0..).collect();
        hashes.sort_unstable();
        let found = (0..queries.rows()).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { queries, hashes, found })
    }

    /// Looks for the queries in some rows (m, dim), which are row-major.
    pub(super) fn look_in(&self, rows: ArrayView2<'_, f32>) -> Result<(), DataError> {
        rows.axis_iter(Axis(0)).into_par_iter().with_min_len(ROWS_AT_ONCE).try_for_each(|row| {
            let hash = hash(row.to_slice().expect("a block is row-major"));
            let first = self.hashes.partition_point(|(of, _)| *of < hash);
            let same = self.hashes[first..].iter().take_while(|(of, _)| *of == hash);
            for (_, query) in same {
                if self.found[*query].load(Ordering::Relaxed) {
                    continue;
                }
                let mut values = Array2::zeros((1, row.len()));
                self.queries.read(*query, values.view_mut())?;
                if values.row(0) == row {
                    self.found[*query].store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        })
    }

    /// How many were found.
    pub(super) fn found(self) -> u64 {
        self.found.into_iter().map(|found| u64::from(found.into_inner())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{prepared_rows, small_integers};

    fn hashes(values: &Array2<f32>) -> Hashes {
        let mut hashes = Hashes::of(values.nrows());
        hashes.push(values.as_slice().unwrap(), values.ncols());
        hashes
    }

    #[test]
    fn rows_that_are_equal_are_counted_whatever_their_zeros_signs() {
        let folder = tempfile::tempdir().unwrap();
        let mut values = small_integers(3000, 3, 1);
        for x in values.iter_mut().filter(|x| **x == 0.0).step_by(2) {
            *x = -0.0;
        }
        let bits = |row: ndarray::ArrayView1<'_, f32>| row.mapv(|x| (x + 0.0).to_bits()).to_vec();
        let distinct: std::collections::HashSet<_> = values.rows().into_iter().map(bits).collect();
        assert!(distinct.len() < 400, "7³ of them");
        let rows = prepared_rows(folder.path(), "a", &values);
        let found = hashes(&values).duplicates(&rows, &|_| Ok(())).unwrap();
        assert_eq!(found, 3000 - distinct.len() as u64);
    }

    #[test]
    fn rows_whose_hashes_meet_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let mut values = small_integers(700, 5, 1);
        values.column_mut(0).iter_mut().zip(0_u16..).for_each(|(x, i)| *x = i.into());
        let again = values.row(300).to_owned();
        values.row_mut(9).assign(&again);
        let rows = prepared_rows(folder.path(), "a", &values);
        let same = Hashes(vec![1 << 40; 700]);
        assert_eq!(same.duplicates(&rows, &|_| Ok(())).unwrap(), 1);

        let query = small_integers(3, 5, 2) + 1000.0;
        let queries = prepared_rows(folder.path(), "q", &query);
        let mut sought = Sought::new(&queries).unwrap();
        let of_base = hash(values.row(0).to_slice().unwrap());
        sought.hashes.iter_mut().for_each(|(of, _)| *of = of_base);
        sought.look_in(values.view()).unwrap();
        assert_eq!(sought.found(), 0);
    }

    #[test]
    fn queries_are_found_in_any_block_and_each_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut values = small_integers(2000, 9, 1);
        let mut asked = small_integers(8, 9, 2) + 100.0;
        for query in 0..5 {
            asked.row_mut(query).assign(&values.row(390 * query));
        }
        values.row_mut(1999).assign(&asked.row(0));
        asked.row_mut(6).assign(&values.row(0));
        let queries = prepared_rows(folder.path(), "q", &asked);
        let sought = Sought::new(&queries).unwrap();
        for block in values.axis_chunks_iter(Axis(0), 77) {
            sought.look_in(block).unwrap();
        }
        assert_eq!(sought.found(), 6);
    }

    #[test]
    fn hashes_of_unequal_rows_differ_also_where_values_are_few_or_move_about() {
        let mut seen = std::collections::HashSet::new();
        let mut count = 0;
        for dim in [1, 7, 8, 9, 24] {
            for place in 0..dim {
                for value in 1..200_u8 {
                    let mut row = vec![0.0; dim];
                    row[place] = f32::from(value);
                    seen.insert((dim, hash(&row)));
                    count += 1;
                }
            }
        }
        assert_eq!(seen.len(), count);
    }
}
