//! Mates: two rows that lie far apart.
//!
//! A vector that is near one row of such two is not near the other: ‖x − b'‖ ≥ ‖b − b'‖ − ‖x − b‖. So a scan for the best
//! row and the second best needs the better of the two alone, and asks for the other only where the vector is not nearer
//! to the first than half of what lies between them.

use ndarray::{ArrayView2, Axis};

use super::row_of;
use crate::Path;
use crate::distance::l2_sq;

/// Fewer rows are scanned too fast for it to pay.
const LEAST_ROWS: usize = 128;

/// A row's number has 16 bits.
const MOST_ROWS: usize = 1 << 16;

/// Rows of more dimensions lie at much the same distance from each other.
const FEW_DIMS: usize = 8;

/// Rows that are put in twos among themselves.
const AMONG: usize = 256;

const _: () = assert!(AMONG.is_multiple_of(2), "nobody is left over");

/// The squared distance between two, over that of a row from its nearest one, above which most vectors of the row are
/// clear of the other.
const CLEAR_SQ: f32 = 4.0;

/// One of so many rows may have its mate nearer than that.
const MOST_UNCLEAR: usize = 10;

/// Rows in an order, of which places 2i and 2i + 1 are two.
#[derive(Clone, Debug)]
pub(super) struct Mates {
    /// For each place the row in the lower half; in the upper a bf16, at most the distance between the two.
    pub(super) places: Vec<u32>,
}

impl Mates {
    /// Of `rows` (rows, d), whose columns are contiguous, in `order`, two and two; distances times `inverse`.
    pub(super) fn new(rows: ArrayView2<'_, f32>, order: &[usize], inverse: f32) -> Self {
        debug_assert!(order.len() <= MOST_ROWS && order.len().is_multiple_of(2), "two and two");
        let places = order.as_chunks().0.iter().flat_map(|[a, b]| {
            let apart = l2_sq(row_of(rows, *a), row_of(rows, *b)).sqrt() * f64::from(inverse);
            // Below, whatever f32 rounds; a bf16 is the upper half of an f32.
            let apart = ((0.9999 * apart) as f32).to_bits() & 0xFFFF_0000;
            [a, b].map(|row| apart | *row as u32)
        });
        Self { places: places.collect() }
    }
}

/// An order of `rows` (rows, d) in which two and two lie far apart; nothing where it would not pay. O(rows·d).
pub(super) fn far_apart(rows: ArrayView2<'_, f32>) -> Option<Vec<usize>> {
    let (n, dim) = rows.dim();
    if n < LEAST_ROWS || !n.is_multiple_of(2) || n > MOST_ROWS || dim > FEW_DIMS {
        return None;
    }
    let (mut order, mut clear) = (Vec::with_capacity(n), 0);
    for (chunk, rows) in rows.axis_chunks_iter(Axis(0), AMONG).enumerate() {
        let (size, distances_sq) = (rows.nrows(), distances_sq(rows));
        let of = |i: usize| &distances_sq[i * size..][..size];
        let extremes: Vec<[f32; 2]> = (0..size)
            .map(|i| {
                let others = of(i).iter().enumerate().filter(|(j, _)| *j != i);
                others.fold([f32::INFINITY, 0.0], |[near, far], (_, d)| [near.min(*d), far.max(*d)])
            })
            .collect();
        // Rows in the middle have the fewest that are far from them, so they choose first.
        let mut first_to_choose: Vec<usize> = (0..size).collect();
        first_to_choose.sort_by(|a, b| extremes[*a][1].total_cmp(&extremes[*b][1]));
        let mut free = vec![true; size];
        for i in first_to_choose {
            if !std::mem::take(&mut free[i]) {
                continue;
            }
            let mut mate: Option<(f32, usize)> = None;
            for (j, distance_sq) in of(i).iter().enumerate() {
                if free[j] && mate.is_none_or(|(most, _)| *distance_sq > most) {
                    mate = Some((*distance_sq, j));
                }
            }
            let (distance_sq, mate) = mate?;
            free[mate] = false;
            for row in [i, mate] {
                clear += usize::from(distance_sq > CLEAR_SQ * extremes[row][0]);
                order.push(chunk * AMONG + row);
            }
        }
    }
    (MOST_UNCLEAR * (n - clear) < n).then_some(order)
}

/// Squared distances (n, n) of `rows` (n, d), up to what f32 rounds.
fn distances_sq(rows: ArrayView2<'_, f32>) -> Vec<f32> {
    let columns = rows.t().as_standard_layout().into_owned();
    let n = rows.nrows();
    let mut sums = vec![0.0; n * n];
    Path::fastest().run(
        #[inline(always)]
        || {
            for (i, sums) in sums.chunks_exact_mut(n).enumerate() {
                for column in columns.outer_iter().filter_map(|column| column.to_slice()) {
                    let x = column[i];
                    for (sum, y) in sums.iter_mut().zip(column) {
                        *sum += (x - y) * (x - y);
                    }
                }
            }
        },
    );
    sums
}
