//! Scores of many vectors against many rows: `score(x, r) = bias(r) + Σₖ xₖ·rₖ`.
//!
//! With `bias = −‖r‖²/2` the largest score is the nearest row, and `‖x − r‖² = ‖x‖² − 2·score`;
//! with `bias = 0` the score is the inner product.
//!
//! A score is **defined** as the f32 recurrence `acc ← fma(xₖ, rₖ, acc)`, k = 0, 1, …, d−1, from
//! `acc = bias`. Rows are packed in panels of 32, dimension by dimension, so that neighbouring
//! lanes of a register hold neighbouring *rows*: AVX-512, AVX2 and the portable path run this
//! recurrence in every lane and agree bit for bit, however many vectors or rows are given at once
//! (only the payload of a NaN is unspecified).
//!
//! f32 has 24 bits: where `‖x‖²` is far larger than the distances of interest, centre the data first.

mod portable;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use crate::distance::norm_sq;

/// Rows per panel.
const PANEL: usize = 32;

/// One dimension of the 32 rows of a panel, or their biases.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; PANEL]);

/// Rows (rows, d) packed for [`scores`](Self::scores) and [`nearest`](Self::nearest).
///
/// Memory: 4·(d + 1) bytes per row, rows rounded up to a multiple of 32.
#[derive(Clone, Debug)]
pub struct Panels {
    /// Per panel one line of biases, then one line per dimension.
    lines: Vec<Line>,
    rows: usize,
    dim: usize,
}

impl Panels {
    /// Packs `rows` (rows, d) for `score = x·r − ‖r‖²/2`.
    #[must_use]
    pub fn for_l2(rows: ArrayView2<'_, f32>) -> Self {
        let mut panels = Self::empty();
        panels.pack_l2(rows);
        panels
    }

    /// Packs `rows` (rows, d) for `score = x·r`.
    #[must_use]
    pub fn for_ip(rows: ArrayView2<'_, f32>) -> Self {
        let mut panels = Self::empty();
        panels.pack_ip(rows);
        panels
    }

    /// Replaces the rows, as [`for_l2`](Self::for_l2) packs them; allocates only to grow.
    pub fn pack_l2(&mut self, rows: ArrayView2<'_, f32>) {
        self.pack(rows, |row| (-0.5 * norm_sq(row)) as f32);
    }

    /// Replaces the rows, as [`for_ip`](Self::for_ip) packs them; allocates only to grow.
    pub fn pack_ip(&mut self, rows: ArrayView2<'_, f32>) {
        self.pack(rows, |_| 0.0);
    }

    /// How many rows are packed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Dimension of the rows.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes the score of every vector of `x` (n, d) against every row into `scores` (n, rows).
    ///
    /// Any strides; unit column strides in both are fast. Single-threaded, O(n·rows·d), allocates
    /// only where columns are not contiguous.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn scores(&self, x: ArrayView2<'_, f32>, mut scores: ArrayViewMut2<'_, f32>) {
        self.check(x);
        assert_eq!(scores.dim(), (x.nrows(), self.rows), "shape of the scores");
        if self.rows == 0 {
            return;
        }
        if scores.ncols() > 1 && scores.strides()[1] != 1 {
            let mut contiguous = ndarray::Array2::zeros(scores.dim());
            self.scores(x, contiguous.view_mut());
            scores.assign(&contiguous);
            return;
        }
        let x = contiguous_rows(x);
        for (x, mut scores) in x.outer_iter().zip(scores.outer_iter_mut()) {
            let x = x.to_slice().expect("rows are contiguous");
            let scores = scores.as_slice_mut().expect("rows are contiguous");
            portable::scores_tile(&[x], &self.lines, &mut [scores]);
        }
    }

    /// Writes for every vector of `x` (n, d) the row with the largest score into `index` (n) and
    /// that score into `score` (n).
    ///
    /// Ties go to the lowest index. A NaN never wins; where no score is above −∞ the answer is
    /// index 0 with −∞. A winning score of −0.0 is written as 0.0. Any strides; a unit column stride
    /// is fast. Single-threaded, O(n·rows·d), allocates only where columns are not contiguous.
    ///
    /// # Panics
    /// When the shapes disagree, or there is a vector but no row.
    pub fn nearest(&self, x: ArrayView2<'_, f32>, index: &mut [u32], score: &mut [f32]) {
        self.check(x);
        assert_eq!(index.len(), x.nrows(), "length of the indices");
        assert_eq!(score.len(), x.nrows(), "length of the scores");
        assert!(self.rows > 0 || x.nrows() == 0, "no row to be nearest");
        let x = contiguous_rows(x);
        for ((x, index), score) in x.outer_iter().zip(index).zip(score) {
            let x = x.to_slice().expect("rows are contiguous");
            let ([best_index], [best_score]) = portable::nearest_tile(&[x], &self.lines);
            *index = best_index;
            *score = best_score;
        }
    }

    fn empty() -> Self {
        Self {
            lines: Vec::new(),
            rows: 0,
            dim: 0,
        }
    }

    fn check(&self, x: ArrayView2<'_, f32>) {
        assert_eq!(x.ncols(), self.dim, "dimension of the vectors");
    }

    fn pack(&mut self, rows: ArrayView2<'_, f32>, bias: impl Fn(&[f32]) -> f32) {
        assert!(
            u32::try_from(rows.nrows()).is_ok(),
            "rows beyond the last u32"
        );
        (self.rows, self.dim) = rows.dim();
        let rows = contiguous_rows(rows);
        // Padding rows have the bias −∞, so that they never win.
        let panels = self.rows.div_ceil(PANEL);
        self.lines.clear();
        self.lines
            .resize(panels * (self.dim + 1), Line([0.0; PANEL]));
        for (panel, rows) in self
            .lines
            .chunks_exact_mut(self.dim + 1)
            .zip(rows.axis_chunks_iter(Axis(0), PANEL))
        {
            let (biases, lines) = panel.split_first_mut().expect("a panel has d + 1 lines");
            biases.0 = [f32::NEG_INFINITY; PANEL];
            for (lane, row) in rows.outer_iter().enumerate() {
                let row = row.to_slice().expect("rows are contiguous");
                biases.0[lane] = bias(row);
                for (line, &value) in lines.iter_mut().zip(row) {
                    line.0[lane] = value;
                }
            }
        }
    }
}

/// `x` itself when its columns are contiguous, a copy otherwise.
fn contiguous_rows(x: ArrayView2<'_, f32>) -> ndarray::CowArray<'_, f32, ndarray::Ix2> {
    if x.ncols() <= 1 || x.strides()[1] == 1 {
        x.into()
    } else {
        x.as_standard_layout().into_owned().into()
    }
}
