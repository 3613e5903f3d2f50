//! A filter of words: finds the nearest row itself, and knows when it may be wrong.
//!
//! Rows b and vectors x, in units of a step s, are rounded to 16 bits: b = b̂ + β, x = x̂ + ξ. With
//! r = ‖x − b‖, the score S(b) = x·b − ‖b‖²/2 = (‖x‖² − r²)/2 is
//!
//! S(b) = x̂·b̂ + (b·β − ‖b‖²/2) + ξ·x̂ + [ξ·(b̂ − x̂) − (b − x)·β].
//!
//! The first product is one of integers and exact. The parenthesis depends on the row alone; rounded to
//! an integer it is the row's bias. ξ·x̂ is the same for all rows. The bracket is the error, at most
//! r·(‖ξ‖ + ‖β‖) + ‖ξ‖·(‖ξ‖ + ‖β‖): proportional to the distance of the row, not to the norms. So the
//! integer scores I(b) of the best row a and of every other compare as the scores do wherever they
//! differ by more than twice that error, with r the distance of a, plus what f32 rounds in the scores
//! that [`panels`](crate::panels) defines: a row that beats a is no farther than a.

mod vnni;

use ndarray::{ArrayView2, Axis, s};
use vnni::Scratch;

use super::{Centre, FIT, MOST_DIM};
use crate::Panels;
use crate::distance::norm_sq;
use crate::panels::contiguous_rows;

/// ‖b/s‖ of the largest row. With [`REACH`] it keeps |x̂·b̂| + ‖b‖²/2 below 2³¹.
const LARGEST: f64 = 29_000.0;

/// Vectors beyond this norm, in units of s, are not decided.
const REACH: f32 = 58_000.0;

/// Vectors that are assigned between two looks at how many were left open.
const BLOCK: usize = 1024;

/// Rows (rows, d) as integers. Memory: 2·d + 4 bytes each.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// Per row its bias, then its dimensions in pairs, the first in the low half.
    rows: Vec<i32>,
    dim: usize,
    /// 1/s.
    inverse: f32,
    /// max ‖β‖.
    error: f32,
    /// Twice what f32 rounds in a score, per ‖x‖ and for all x.
    rounding: (f32, f32),
}

impl Words {
    /// `None` where the bound could not hold: rows that are huge, tiny or not finite.
    pub(super) fn new(rows: ArrayView2<'_, f32>) -> Option<Self> {
        let dim = rows.ncols();
        let largest = rows.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let finite = rows.iter().all(|value| value.is_finite());
        if !finite || !FIT.contains(&largest) || dim > MOST_DIM {
            return None;
        }
        let rows = rows.as_standard_layout();
        let rows = rows.as_slice().expect("the layout is standard");
        let norm = rows.chunks_exact(dim).map(norm_sq).fold(0.0, f64::max).sqrt();
        let inverse = (LARGEST / norm) as f32;
        let mut words = Self { rows: Vec::new(), dim, inverse, error: 0.0, rounding: (0.0, 0.0) };
        let mut error = 0.0_f64;
        let (mut scaled, mut rounded) = (vec![0.0; dim], vec![0_i16; dim]);
        for row in rows.chunks_exact(dim) {
            let (mut bias, mut error_sq) = (0.0, 0.0);
            for ((scaled, rounded), value) in scaled.iter_mut().zip(&mut rounded).zip(row) {
                *scaled = f64::from(*value) * f64::from(inverse);
                *rounded = scaled.round() as i16;
                let beta = *scaled - f64::from(*rounded);
                bias += *scaled * (beta - *scaled / 2.0);
                error_sq += beta * beta;
            }
            error = error.max(error_sq.sqrt());
            words.rows.push(bias.round() as i32);
            words.rows.extend(rounded.chunks(2).map(|pair| {
                let high = pair.get(1).copied().unwrap_or(0);
                i32::from(high) << 16 | i32::from(pair[0] as u16)
            }));
        }
        words.error = (error * 1.001) as f32;
        // |score − exact| ≤ γ·(‖x‖‖b‖ + ‖b‖²/2), γ = (d+1)·2⁻²⁴ (Higham 2002, §3.1), with a margin.
        let gamma = 1.02 * (dim + 1) as f64 * 2f64.powi(-24);
        words.rounding = ((2.0 * gamma * LARGEST) as f32, (gamma * LARGEST * LARGEST) as f32);
        Some(words)
    }

    /// Assigns the first vectors and answers how many: all, unless too many are left to `panels`.
    pub(super) fn assign(
        &self,
        panels: &Panels,
        centre: &Centre,
        x: ArrayView2<'_, f32>,
        index: &mut [u32],
    ) -> usize {
        let x = contiguous_rows(x);
        let mut scratch = Scratch::default();
        let (mut open, mut rest) = (Vec::new(), Vec::new());
        let (mut found, mut scores) = (Vec::new(), Vec::new());
        let mut done = 0;
        for index in index.chunks_mut(BLOCK) {
            let x = x.slice(s![done..done + index.len(), ..]);
            open.clear();
            // SAFETY: words exist only where `super::available` detected the features.
            unsafe { vnni::decide(self, centre, x, index, &mut scratch, &mut open) };
            // One vector that is left open costs as much as the filter saves on one or two.
            if 3 * open.len() > index.len() {
                return done;
            }
            rest.clear();
            for &i in &open {
                let row = x.index_axis_move(Axis(0), i as usize);
                centre.append(row.to_slice().expect("columns are contiguous"), &mut rest);
            }
            let rest = ArrayView2::from_shape((open.len(), self.dim), &rest).expect("whole rows");
            found.resize(open.len(), 0);
            scores.resize(open.len(), 0.0);
            panels.nearest(rest, &mut found, &mut scores);
            for (&i, found) in open.iter().zip(&found) {
                index[i as usize] = *found;
            }
            done += index.len();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearest::{available, tests::noise};

    #[test]
    fn nearly_every_vector_is_decided() {
        if !available() {
            return;
        }
        for dim in [1, 2, 4, 7, 16, 48, 111] {
            let (rows, x) = (noise(256, dim, 1, 1), noise(4096, dim, 2, 1));
            let words = Words::new(rows.view()).unwrap();
            let (mut index, mut open) = (vec![0; 4096], Vec::new());
            let centre = Centre::none(dim);
            // SAFETY: the features are there.
            unsafe {
                vnni::decide(
                    &words,
                    &centre,
                    x.view(),
                    &mut index,
                    &mut Scratch::default(),
                    &mut open,
                );
            }
            // One dimension of 256 rows is all neighbours.
            let most = if dim == 1 { 4096 / 10 } else { 4096 / 30 };
            assert!(open.len() <= most, "d = {dim}: {}", open.len());
        }
    }
}
