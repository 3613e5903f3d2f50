//! Equal rows of a block are measured once, and rows of one group stand together.

use ndarray::{ArrayView2, Axis, CowArray, Ix2};
use rayon::prelude::*;

use super::groups::{Ball, Pivots};
use super::slice;
use crate::panels::gather_rows;

/// Where more than this part of the rows is distinct, looking for equal ones saves nothing.
const DISTINCT: f64 = 0.9;

/// The distinct rows of a block, and where each stands.
pub(super) struct Block<'r> {
    pub(super) rows: CowArray<'r, f32, Ix2>,
    /// In the order of the rows; empty where these are in no groups.
    pub(super) balls: Vec<Ball>,
    /// Per distinct row the position after its last in `places`; empty where row i stands at i.
    ends: Vec<usize>,
    /// Positions of equal rows, ascending.
    places: Vec<u32>,
}

impl<'r> Block<'r> {
    /// In groups around `pivots`, if there are any.
    pub(super) fn of(rows: ArrayView2<'r, f32>, pivots: Option<&Pivots>) -> Self {
        let n = rows.nrows();
        let hashes: Vec<u64> = rows.axis_iter(Axis(0)).into_par_iter().map(|r| hash(&r)).collect();
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.par_sort_unstable_by_key(|&row| (hashes[row as usize], row));
        let same = |a: u32, b: u32| {
            let (a, b) = (a as usize, b as usize);
            hashes[a] == hashes[b] && bits_equal(&rows.row(a), &rows.row(b))
        };
        // Rows of one hash that differ are taken for runs of their own: that costs time alone.
        let mut runs: Vec<&[u32]> = order.chunk_by(|&a, &b| same(a, b)).collect();
        let mut balls = Vec::new();
        match pivots {
            None if runs.len() as f64 > DISTINCT * n as f64 => {
                return Self { rows: rows.into(), balls, ends: Vec::new(), places: Vec::new() };
            }
            // In the order of their first rows, for nearness in memory.
            None => runs.sort_unstable_by_key(|run| run[0]),
            Some(pivots) => {
                let of_rows = pivots.of(rows);
                let of = |run: &[u32]| of_rows[run[0] as usize];
                runs.par_sort_unstable_by(|a, b| {
                    let ((p, far), (q, other)) = (of(a), of(b));
                    p.cmp(&q).then(far.total_cmp(&other)).then(a[0].cmp(&b[0]))
                });
                balls = pivots.balls(&runs.iter().map(|run| of(run)).collect::<Vec<_>>());
            }
        }
        let first: Vec<usize> = runs.iter().map(|run| run[0] as usize).collect();
        let mut places = Vec::with_capacity(n);
        let ends = runs.iter().map(|run| {
            places.extend_from_slice(run);
            places.len()
        });
        let ends = ends.collect();
        Self { rows: gather_rows(rows, &first).into(), balls, ends, places }
    }

    /// Where row `i` of the distinct ones stands.
    pub(super) fn places(&self, i: usize) -> impl Iterator<Item = u32> {
        let of = match self.ends.get(i) {
            None => &[],
            Some(&end) => &self.places[i.checked_sub(1).map_or(0, |before| self.ends[before])..end],
        };
        of.iter().copied().chain(self.ends.is_empty().then_some(i as u32))
    }
}

/// Four sums side by side, so that no multiplication waits for the one before.
fn hash(row: &ndarray::ArrayView1<'_, f32>) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let step = |state: u64, value: u64| (state ^ value).wrapping_mul(FACTOR).rotate_left(29);
    let bits = |x: &f32| u64::from(x.to_bits());
    let mut states = [1_u64, 2, 3, 4];
    let (eights, rest) = slice(row).as_chunks::<8>();
    for eight in eights {
        for (state, two) in states.iter_mut().zip(eight.as_chunks::<2>().0) {
            *state = step(*state, bits(&two[0]) << 32 | bits(&two[1]));
        }
    }
    states[0] = rest.iter().fold(states[0], |state, x| step(state, bits(x)));
    states.into_iter().fold(0, step)
}

fn bits_equal(a: &ndarray::ArrayView1<'_, f32>, b: &ndarray::ArrayView1<'_, f32>) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
