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
//! Where `‖r‖²` is beyond the range of f32, the bias is −∞ and the row is never the nearest.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2, s};
use rayon::prelude::*;

use crate::distance::norm_sq;
use crate::path::{Path, Set};

/// Rows per panel.
const PANEL: usize = 32;

/// Panels are walked in blocks of this size, which stay in the second-level cache while the vectors
/// pass by.
const BLOCK_BYTES: usize = 256 * 1024;

/// Vectors handed to a path at once; a multiple of the tiles of all paths.
const GROUP: usize = 48;

/// Rows of half a panel.
const HALF: usize = PANEL / 2;

/// Vectors that meet half a panel at a time.
const FEW: usize = 4;

/// One dimension of the 32 rows of a panel, or their biases.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; PANEL]);

/// Rows (rows, d) packed for [`scores`](Self::scores) and [`nearest`](Self::nearest).
///
/// Memory: 4·(d + 1) bytes per row, rows rounded up to a multiple of 32.
///
/// ```
/// use ndarray::array;
/// use vq_kernels::Panels;
///
/// let panels = Panels::for_l2(array![[0.0, 0.0], [4.0, 3.0]].view());
/// let x = array![[4.0, 2.0]];
/// let (mut index, mut score) = ([0], [0.0]);
/// panels.nearest(x.view(), &mut index, &mut score);
/// let x_norm_sq = 20.0;
/// assert_eq!((index[0], x_norm_sq - 2.0 * score[0]), (1, 1.0));
/// ```
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

    /// Some of the rows (rows, d).
    pub(crate) fn unpacked(&self, some: Range<usize>) -> Array2<f32> {
        assert!(some.end <= self.rows, "rows of {}", self.rows);
        Array2::from_shape_fn((some.len(), self.dim), |(row, k)| {
            let row = some.start + row;
            self.lines[row / PANEL * (self.dim + 1) + 1 + k].0[row % PANEL]
        })
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
        if scores.ncols() > 1 && scores.strides()[1] != 1 {
            let mut contiguous = Array2::zeros(scores.dim());
            self.scores_on(Path::fastest(), x, contiguous.view_mut());
            scores.assign(&contiguous);
        } else {
            self.scores_on(Path::fastest(), x, scores);
        }
    }

    /// As [`scores`](Self::scores), against some of the rows, into `scores` (n, rows). Fast for few vectors and rows.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub(crate) fn some_scores(
        &self,
        x: ArrayView2<'_, f32>,
        rows: Range<usize>,
        scores: &mut [f32],
    ) {
        self.check(x);
        assert_eq!(scores.len(), x.nrows() * rows.len(), "shape of the scores");
        if rows.is_empty() {
            return;
        }
        let x = contiguous_rows(x);
        let scores = scores.chunks_mut(FEW * rows.len());
        for (few, scores) in x.axis_chunks_iter(Axis(0), FEW).zip(scores) {
            // The last is repeated where there are fewer.
            let x = std::array::from_fn(|i| {
                let row = few.index_axis_move(Axis(0), i.min(few.nrows() - 1));
                row.to_slice().expect("columns are contiguous")
            });
            let mut row = rows.start;
            while row < rows.end {
                // The half of a panel that this row is in, or what is asked for of it.
                let half = row / HALF * HALF;
                let some = row..(half + HALF).min(rows.end);
                let panel = &self.lines[row / PANEL * (self.dim + 1)..][..=self.dim];
                let found = Path::fastest().half_scores(&x, panel, half % PANEL);
                for (scores, found) in scores.chunks_exact_mut(rows.len()).zip(&found) {
                    let to = &mut scores[some.start - rows.start..some.end - rows.start];
                    to.copy_from_slice(&found[some.start - half..some.end - half]);
                }
                row = some.end;
            }
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
        self.nearest_on(Path::fastest(), x, index, score);
    }

    fn scores_on(&self, path: Path, x: ArrayView2<'_, f32>, mut scores: ArrayViewMut2<'_, f32>) {
        let x = contiguous_rows(x);
        for (rows, panels) in self.blocks() {
            let mut scores = scores.slice_mut(s![.., rows]);
            for (x, mut scores) in
                x.axis_chunks_iter(Axis(0), GROUP).zip(scores.axis_chunks_iter_mut(Axis(0), GROUP))
            {
                let vectors = slices(&x);
                let mut rows = scores.outer_iter_mut();
                let mut group: [&mut [f32]; GROUP] = std::array::from_fn(|_| {
                    rows.next()
                        .map(|row| row.into_slice().expect("columns are contiguous"))
                        .unwrap_or_default()
                });
                path.scores(&vectors[..x.nrows()], panels, &mut group[..x.nrows()]);
            }
        }
    }

    fn nearest_on(&self, path: Path, x: ArrayView2<'_, f32>, index: &mut [u32], score: &mut [f32]) {
        let x = contiguous_rows(x);
        for (rows, panels) in self.blocks() {
            let first = rows.start as u32;
            for ((x, index), score) in x
                .axis_chunks_iter(Axis(0), GROUP)
                .zip(index.chunks_mut(GROUP))
                .zip(score.chunks_mut(GROUP))
            {
                let vectors = slices(&x);
                let mut found = [(0, 0.0); GROUP];
                path.nearest(&vectors[..x.nrows()], panels, &mut found);
                for ((index, score), found) in index.iter_mut().zip(score).zip(found) {
                    // Later blocks hold later rows: ties stay where they are.
                    if first == 0 || found.1 > *score {
                        (*index, *score) = (first + found.0, found.1);
                    }
                }
            }
        }
    }

    /// The panels in blocks, each with the range of its rows.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, &[Line])> {
        let panel = self.dim + 1;
        let panels = (BLOCK_BYTES / (panel * size_of::<Line>())).max(1);
        self.lines.chunks(panels * panel).enumerate().map(move |(i, lines)| {
            let first = i * panels * PANEL;
            let last = first + lines.len() / panel * PANEL;
            (first..last.min(self.rows), lines)
        })
    }

    fn empty() -> Self {
        Self { lines: Vec::new(), rows: 0, dim: 0 }
    }

    fn check(&self, x: ArrayView2<'_, f32>) {
        assert_eq!(x.ncols(), self.dim, "dimension of the vectors");
    }

    fn pack(&mut self, rows: ArrayView2<'_, f32>, bias: impl Fn(&[f32]) -> f32) {
        assert!(u32::try_from(rows.nrows()).is_ok(), "rows beyond the last u32");
        (self.rows, self.dim) = rows.dim();
        let rows = contiguous_rows(rows);
        // Padding rows have the bias −∞, so that they never win.
        let panels = self.rows.div_ceil(PANEL);
        self.lines.clear();
        self.lines.resize(panels * (self.dim + 1), Line([0.0; PANEL]));
        for (panel, rows) in
            self.lines.chunks_exact_mut(self.dim + 1).zip(rows.axis_chunks_iter(Axis(0), PANEL))
        {
            let (biases, lines) = panel.split_first_mut().expect("a panel has d + 1 lines");
            biases.0 = [f32::NEG_INFINITY; PANEL];
            for (lane, row) in rows.outer_iter().enumerate() {
                let row = row.to_slice().expect("columns are contiguous");
                biases.0[lane] = bias(row);
                for (line, &value) in lines.iter_mut().zip(row) {
                    line.0[lane] = value;
                }
            }
        }
    }
}

impl Path {
    /// The scores of each of `x` against all rows of `panels`; `scores[i]` has one place per row.
    fn scores(self, x: &[&[f32]], panels: &[Line], scores: &mut [&mut [f32]]) {
        match self.0 {
            Set::Portable => portable::scores(x, panels, scores),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX2 and FMA.
            Set::Avx2 => unsafe { avx2::scores(x, panels, scores) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX-512F.
            Set::Avx512 | Set::Vbmi => unsafe { avx512::scores(x, panels, scores) },
        }
    }

    /// The scores of each of `x` against the rows of half a panel, from `first` on.
    fn half_scores(self, x: &[&[f32]; FEW], panel: &[Line], first: usize) -> [[f32; HALF]; FEW] {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX-512F.
            Set::Avx512 | Set::Vbmi => unsafe { avx512::half_scores(x, panel, first) },
            _ => portable::half_scores(x, panel, first),
        }
    }

    /// The best row of `panels`, counted from the first panel, and its score, for each of `x`.
    fn nearest(self, x: &[&[f32]], panels: &[Line], found: &mut [(u32, f32)]) {
        match self.0 {
            Set::Portable => portable::nearest(x, panels, found),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX2 and FMA.
            Set::Avx2 => unsafe { avx2::nearest(x, panels, found) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX-512F.
            Set::Avx512 | Set::Vbmi => unsafe { avx512::nearest(x, panels, found) },
        }
    }
}

/// The rows of `x` (n ≤ GROUP, d), whose columns are contiguous; the rest is empty.
fn slices<'a>(x: &'a ArrayView2<'_, f32>) -> [&'a [f32]; GROUP] {
    if let (Some(values), 1..) = (x.as_slice(), x.ncols()) {
        let mut rows = values.chunks_exact(x.ncols());
        return std::array::from_fn(|_| rows.next().unwrap_or_default());
    }
    let mut rows = x.outer_iter();
    std::array::from_fn(|_| {
        rows.next().map(|row| row.to_slice().expect("columns are contiguous")).unwrap_or_default()
    })
}

/// The rows of `x` (n, d) whose numbers are `rows`, copied by all threads of the current rayon pool.
pub(crate) fn gather_rows(x: ArrayView2<'_, f32>, rows: &[usize]) -> Array2<f32> {
    let mut gathered = Array2::zeros((rows.len(), x.ncols()));
    let copies = gathered.axis_iter_mut(Axis(0)).into_par_iter().zip(rows);
    copies.for_each(|(mut to, &row)| to.assign(&x.row(row)));
    gathered
}

/// `x` itself when its columns are contiguous, a copy otherwise.
pub(crate) fn contiguous_rows(x: ArrayView2<'_, f32>) -> CowArray<'_, f32, Ix2> {
    if x.ncols() <= 1 || x.strides()[1] == 1 {
        x.into()
    } else {
        x.as_standard_layout().into_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A matrix of few distinct values, so that ties are common, or of any values.
    fn matrix(rows: usize, columns: usize) -> impl Strategy<Value = Array2<f32>> {
        let ties = prop::collection::vec((-2_i8..=2).prop_map(f32::from), rows * columns);
        let wide = prop::collection::vec(-100.0_f32..100.0, rows * columns);
        prop_oneof![ties, wide].prop_map(move |values| {
            Array2::from_shape_vec((rows, columns), values).expect("the shape fits")
        })
    }

    fn vectors_and_rows() -> impl Strategy<Value = (Array2<f32>, Array2<f32>, bool)> {
        (0_usize..60, 1_usize..140, 0_usize..40)
            .prop_flat_map(|(n, rows, d)| (matrix(n, d + 3), matrix(rows, d), any::<bool>()))
    }

    fn by_definition(panels: &Panels, x: ArrayView2<'_, f32>) -> Array2<f32> {
        Array2::from_shape_fn((x.nrows(), panels.rows), |(i, r)| {
            let panel = &panels.lines[r / PANEL * (panels.dim + 1)..][..panels.dim + 1];
            let lane = r % PANEL;
            x.row(i)
                .iter()
                .zip(&panel[1..])
                .fold(panel[0].0[lane], |acc, (x, line)| x.mul_add(line.0[lane], acc))
        })
    }

    fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
        values.into_iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn every_path_gives_the_bits_of_the_definition((wide, rows, l2) in vectors_and_rows()) {
            // A column slice: unit column stride, longer row stride.
            let x = wide.slice(s![.., 1..=rows.ncols()]);
            let panels = if l2 { Panels::for_l2(rows.view()) } else { Panels::for_ip(rows.view()) };
            let expected = by_definition(&panels, x);
            for path in Path::available() {
                let mut scores = Array2::zeros(expected.dim());
                panels.scores_on(path, x, scores.view_mut());
                prop_assert_eq!(bits(&scores), bits(&expected), "scores, {:?}", path);

                let (mut index, mut score) = (vec![9; x.nrows()], vec![9.0; x.nrows()]);
                panels.nearest_on(path, x, &mut index, &mut score);
                for (i, expected) in expected.outer_iter().enumerate() {
                    let best = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let first = expected.iter().position(|s| *s == best).expect("there is a row");
                    prop_assert_eq!(index[i] as usize, first, "index, {:?}", path);
                    prop_assert_eq!(score[i].to_bits(), (best + 0.0).to_bits(), "score, {:?}", path);
                }
            }
        }

        #[test]
        fn strides_change_nothing((wide, rows, _) in vectors_and_rows()) {
            let x = wide.slice(s![.., ..rows.ncols()]).to_owned();
            let panels = Panels::for_l2(rows.view());
            let mut expected = Array2::zeros((x.nrows(), panels.rows()));
            panels.scores(x.view(), expected.view_mut());
            // Column-major vectors, rows and scores; then everything reversed.
            let turned = x.t().as_standard_layout().into_owned();
            let turned_rows = rows.t().as_standard_layout().into_owned();
            let mut scores = Array2::zeros((panels.rows(), x.nrows()));
            Panels::for_l2(turned_rows.t()).scores(turned.t(), scores.view_mut().reversed_axes());
            prop_assert_eq!(bits(&scores.t().as_standard_layout()), bits(&expected));
            let mut reversed = Array2::zeros(expected.dim());
            panels.scores(x.slice(s![..;-1, ..]), reversed.slice_mut(s![..;-1, ..]));
            prop_assert_eq!(bits(&reversed), bits(&expected));
        }
    }

    #[test]
    fn many_blocks_give_what_one_gives() {
        // 100 dimensions × 2,000 rows take more than one block of panels.
        let rows = Array2::from_shape_fn((2_000, 100), |(i, j)| {
            ((i % 1_000) * 31 % 97 + j * i % 5) as f32
        });
        let x = rows.slice(s![..;37, ..]);
        let panels = Panels::for_l2(rows.view());
        assert!(panels.blocks().count() > 1);
        let expected = by_definition(&panels, x);
        for path in Path::available() {
            let mut scores = Array2::zeros(expected.dim());
            panels.scores_on(path, x, scores.view_mut());
            assert_eq!(bits(&scores), bits(&expected), "{path:?}");
            let (mut index, mut score) = (vec![0; x.nrows()], vec![0.0; x.nrows()]);
            panels.nearest_on(path, x, &mut index, &mut score);
            for (i, expected) in expected.outer_iter().enumerate() {
                let best = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(Some(index[i] as usize), expected.iter().position(|s| *s == best));
                assert_eq!(score[i], best);
            }
        }
    }

    #[test]
    fn a_nan_never_wins_and_padding_neither() {
        let inf = f32::INFINITY;
        let rows = ndarray::array![[f32::NAN], [-1.0], [2.0], [inf], [-1.0]];
        let x = ndarray::array![[-1.0], [f32::NAN], [0.0], [inf], [-inf]];
        let panels = Panels::for_ip(rows.view());
        for path in Path::available() {
            let (mut index, mut score) = ([9; 5], [9.0; 5]);
            panels.nearest_on(path, x.view(), &mut index, &mut score);
            assert_eq!(index, [1, 0, 1, 2, 1], "{path:?}");
            assert_eq!(score, [1.0, -inf, 0.0, inf, inf], "{path:?}");
        }
    }

    #[test]
    fn refilling_changes_shape_and_kind() {
        let big = Array2::from_elem((70, 9), 3.0);
        let small = ndarray::array![[1.0, 0.0], [0.0, 2.0]];
        let mut panels = Panels::for_l2(big.view());
        panels.pack_ip(small.view());
        assert_eq!((panels.rows(), panels.dim()), (2, 2));
        let mut scores = Array2::zeros((2, 2));
        panels.scores(small.view(), scores.view_mut());
        assert_eq!(scores, ndarray::array![[1.0, 0.0], [0.0, 4.0]]);
        panels.pack_l2(small.view());
        panels.scores(small.view(), scores.view_mut());
        assert_eq!(scores, ndarray::array![[0.5, -2.0], [-0.5, 2.0]]);
    }

    #[test]
    fn no_vectors_or_no_rows_are_fine() {
        let none = Array2::zeros((0, 4));
        let some = Array2::zeros((3, 4));
        Panels::for_l2(none.view()).scores(some.view(), Array2::zeros((3, 0)).view_mut());
        Panels::for_l2(none.view()).nearest(none.view(), &mut [], &mut []);
        Panels::for_l2(some.view()).nearest(none.view(), &mut [], &mut []);
    }
}
