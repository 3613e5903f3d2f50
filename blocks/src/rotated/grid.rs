//! Rows as multiples of vectors of levels.

use super::levels::Cells;
use super::{Basis, Format, Frame, Layout, Query, Run, Sums};
use crate::contiguous;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use std::ops::Range;
use vq_kernels::distance::{dot_and_norm_sq, norm_sq};
use vq_kernels::{Path, TopK, levels, signs};
use vq_plugin_api::{Error, Metric, choices};

choices! {
    /// How a code stores its scalars.
    pub enum Scalars { F32 = "f32", F16 = "f16" }
}

impl From<Scalars> for Format {
    fn from(scalars: Scalars) -> Self {
        match scalars {
            Scalars::F32 => Format::F32,
            Scalars::F16 => Format::F16,
        }
    }
}

/// What the vector of levels y that a code stands for is multiplied by, r being the row in the frame and ρ
/// the cosine of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// ‖r‖/√d: the levels as they are.
    Plain,
    /// ‖r‖/‖y‖: as long as the row. Products are low by ρ.
    Length,
    /// ‖r‖/(‖y‖·ρ) = ‖r‖²/⟨r, y⟩: products are unbiased over the rotations (RaBitQ, Theorem 3.2; EDEN).
    Unbiased,
    /// ρ·‖r‖/‖y‖ = ⟨r, y⟩/‖y‖²: the multiple nearest to the row.
    Nearest,
}

/// Whose squared norm estimates of distances count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOf {
    /// The row's, ‖r‖²: for products that are unbiased.
    Row,
    /// That of the multiple of y: estimates are the values of it. With products that are low, ‖r‖² would make the
    /// near seem far.
    Multiple,
}

/// The scalars of a code.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// ‖r‖.
    pub norm: f64,
    /// 1 − ρ²; 0 where it is not stored. Kept in place of a scale, for it holds more digits of ρ in few bits,
    /// and all scales follow from it.
    pub miss: f64,
    /// The row is zero where others are of unit length.
    zero: bool,
}

/// Levels −l and l for all coordinates that have bits.
#[derive(Clone, Copy)]
struct Signs {
    level: f32,
    /// ‖y‖².
    length_sq: f64,
    /// No coordinate is without bits.
    all: bool,
}

/// Indices and levels of one row, both (d).
struct RowScratch {
    values: Vec<u16>,
    y: Vec<f32>,
}

impl RowScratch {
    fn new(dim: usize) -> Self {
        RowScratch { values: vec![0; dim], y: vec![0.0; dim] }
    }
}

/// A row as ‖r‖, maybe ρ, and an index of a level for each coordinate of r = P·(x − c).
#[derive(Clone, Debug)]
pub struct Grid {
    dim: usize,
    layout: Layout,
    /// The runs that have bits, with their levels.
    runs: Vec<(Run, Vec<f32>)>,
    angle: bool,
}

impl Grid {
    /// Codes of `dim` coordinates of the `size` (bits per dimension, bits) and with the bytes `beside` of
    /// [`Layout::sized`]. Scalars are the norm and, with `angle`, ρ; `levels` gives the 2^bits levels of a width.
    ///
    /// # Errors
    /// A rate that cannot be met.
    pub fn new(
        dim: usize,
        size: (f64, u32),
        (scalars, angle): (Scalars, bool),
        beside: usize,
        levels: impl Fn(u32) -> Vec<f32>,
    ) -> Result<Self, Error> {
        let scalars = vec![Format::from(scalars); if angle { 2 } else { 1 }];
        let layout = Layout::sized(dim, size, &scalars, beside)?;
        let runs = layout.stored().map(|run| (run, levels(run.bits))).collect();
        Ok(Grid { dim, layout, runs, angle })
    }

    /// Which coordinates have how many bits.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The runs that have bits, with their levels.
    pub fn runs(&self) -> impl Iterator<Item = (Run, &[f32])> {
        self.runs.iter().map(|(run, levels)| (*run, &levels[..]))
    }

    /// Writes the codes (n, code_bytes, or more) of `x` (n, d), whose indices `choose` writes, given r, ‖r‖
    /// above 0 and, filled with 0, places for d indices. Then hands r, s·y with the
    /// [`Plain`](Scale::Plain) scale and what is left of the code to `beside`. Under `Cosine` rows of zeros
    /// are marked. Single-threaded.
    ///
    /// # Errors
    /// Those of `choose`; rows that are not contiguous.
    pub fn encode(
        &self,
        frame: &Frame,
        metric: Metric,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        mut choose: impl FnMut(&[f32], f64, &mut [u16]),
        mut beside: impl FnMut(&[f32], &[f32], &mut [u8]),
    ) -> Result<(), Error> {
        let (mut row, signs) = (RowScratch::new(self.dim), self.signs());
        // Few rows at a time, which stay in the caches from one step to the next.
        let at_once = frame.rows_at_once();
        let mut turned = Array2::zeros((at_once.min(x.nrows()), self.dim));
        let blocks = x.axis_chunks_iter(Axis(0), at_once);
        for (x, mut codes) in blocks.zip(codes.axis_chunks_iter_mut(Axis(0), at_once)) {
            let mut z = turned.slice_axis_mut(Axis(0), Slice::from(..x.nrows()));
            frame.write(x, z.view_mut());
            for ((x, z), code) in x.outer_iter().zip(z.outer_iter()).zip(codes.outer_iter_mut()) {
                let (z, code) = (contiguous(z.to_slice())?, contiguous(code.into_slice())?);
                let (code, rest) = code.split_at_mut(self.layout.code_bytes());
                let zero = metric == Metric::Cosine && x.iter().all(|x| *x == 0.0);
                // One pass over the row for all that is asked of it.
                let all = signs.filter(|signs| signs.all);
                if !all.is_some_and(|signs| self.encode_signs(z, (signs, zero), code)) {
                    let norm = norm_sq(z).sqrt();
                    let of = (z, norm, norm);
                    self.encode_row(of, (signs, zero), &mut choose, &mut row, code);
                }
                if !rest.is_empty() {
                    // As it will be read: what lies beside makes up for the rounding of the norm.
                    let RowScratch { values, y } = &mut row;
                    let stored = self.read(code, values, y);
                    let plain = self.factor(Scale::Plain, stored, 1.0) as f32;
                    y.iter_mut().for_each(|y| *y *= plain);
                    beside(z, y, rest);
                }
            }
        }
        Ok(())
    }

    /// As [`encode`](Self::encode), for a grid of the coordinates of a basis. Norms are those of whole rows, so
    /// that ρ counts what the basis leaves out; `choose` has that of the coordinates.
    ///
    /// # Errors
    /// Rows that are not contiguous.
    pub fn encode_in(
        &self,
        basis: &Basis,
        metric: Metric,
        x: ArrayView2<'_, f32>,
        mut codes: ArrayViewMut2<'_, u8>,
        mut choose: impl FnMut(&[f32], f64, &mut [u16]),
    ) -> Result<(), Error> {
        let (mut row, signs) = (RowScratch::new(self.dim), self.signs());
        let (z, norms) = basis.apply(x);
        let rows = x.outer_iter().zip(z.outer_iter().zip(norms));
        for ((x, (z, norm_sq)), code) in rows.zip(codes.outer_iter_mut()) {
            let (z, code) = (contiguous(z.to_slice())?, contiguous(code.into_slice())?);
            let zero = metric == Metric::Cosine && x.iter().all(|x| *x == 0.0);
            let of = (z, norm_sq.sqrt(), self::norm_sq(z).sqrt());
            self.encode_row(of, (signs, zero), &mut choose, &mut row, code);
        }
        Ok(())
    }

    /// The level l where all that is stored of a row are signs, of levels −l and l.
    fn signs(&self) -> Option<Signs> {
        let [(run, levels)] = &self.runs[..] else { return None };
        let [low, level] = levels[..] else { return None };
        (low == -level).then(|| {
            let mut y = vec![0.0; self.dim];
            y[run.range()].fill(level);
            Signs { level, length_sq: norm_sq(&y), all: run.count == self.dim }
        })
    }

    /// Writes the `code` of the coordinates z, of norm `inside`, of a row of norm `norm`; `zero` marks it. Of
    /// levels that are `signs` the nearest has the sign of the coordinate, the upper one for 0, and the direction
    /// of the nearest is the nearest direction: no need to `choose`.
    fn encode_row(
        &self,
        (z, norm, inside): (&[f32], f64, f64),
        (signs, zero): (Option<Signs>, bool),
        choose: &mut impl FnMut(&[f32], f64, &mut [u16]),
        RowScratch { values, y }: &mut RowScratch,
        code: &mut [u8],
    ) {
        let (bits, rest) = code.split_at_mut(self.layout.value_bytes());
        let (inner, length_sq) = match signs {
            Some(Signs { level, length_sq, .. }) if inside > 0.0 => {
                let (inner, _) = signs::encode(&z[self.runs[0].0.range()], level, bits);
                (inner, length_sq)
            }
            _ => {
                values.fill(0);
                if inside > 0.0 {
                    choose(z, inside, values);
                }
                self.layout.write_values(values, bits);
                self.levels(values, y);
                dot_and_norm_sq(z, y)
            }
        };
        self.write_scalars(norm, (inner, length_sq), zero, rest);
    }

    /// As [`encode_row`](Self::encode_row) of a row z whose coordinates all have a sign; false where there is none
    /// to have, and the code has nothing of use.
    fn encode_signs(&self, z: &[f32], (signs, zero): (Signs, bool), code: &mut [u8]) -> bool {
        let (bits, rest) = code.split_at_mut(self.layout.value_bytes());
        let (inner, norm_sq) = signs::encode(z, signs.level, bits);
        if norm_sq > 0.0 {
            self.write_scalars(norm_sq.sqrt(), (inner, signs.length_sq), zero, rest);
        }
        norm_sq > 0.0
    }

    /// Of a row of norm `norm`, given ⟨z, y⟩ and ‖y‖²; `zero` marks it.
    fn write_scalars(
        &self,
        norm: f64,
        (inner, length_sq): (f64, f64),
        zero: bool,
        rest: &mut [u8],
    ) {
        let mut scalars = [0.0; 2];
        if norm > 0.0 {
            let cosine_sq = inner * inner / (norm * norm * length_sq);
            // Not above 1 but for rounding; no number where no level differs from 0.
            let miss = if inner > 0.0 { (1.0 - cosine_sq).max(0.0) } else { 1.0 };
            scalars = [norm as f32, miss as f32];
        }
        if zero {
            scalars[0] = -scalars[0];
        }
        self.layout.write_scalars(&scalars[..if self.angle { 2 } else { 1 }], rest);
    }

    /// As [`decode`](Self::decode), for a grid of the coordinates of a basis.
    ///
    /// # Errors
    /// Rows that are not contiguous.
    pub fn decode_in(
        &self,
        basis: &Basis,
        scale: Scale,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let mut values = vec![0; self.dim];
        let mut rows = Array2::zeros((codes.nrows(), self.dim));
        for (code, y) in codes.outer_iter().zip(rows.outer_iter_mut()) {
            let (code, y) = (contiguous(code.to_slice())?, contiguous(y.into_slice())?);
            let stored = self.read(code, &mut values, y);
            let factor = self.factor(scale, stored, norm_sq(y)) as f32;
            y.iter_mut().for_each(|y| *y = (*y * factor).clamp(-1e15, 1e15));
        }
        basis.restore(rows.view(), x);
        Ok(())
    }

    /// Writes the rows `scale·y` of `codes` (n, code_bytes) back in their space into `x` (n, d).
    /// Single-threaded.
    ///
    /// # Errors
    /// Rows that are not contiguous.
    pub fn decode(
        &self,
        frame: &Frame,
        scale: Scale,
        codes: ArrayView2<'_, u8>,
        x: ArrayViewMut2<'_, f32>,
    ) -> Result<(), Error> {
        let mut values = vec![0; self.dim];
        let (mut rows, mut scales) = (Array2::zeros(x.raw_dim()), Vec::with_capacity(x.nrows()));
        for (code, y) in codes.outer_iter().zip(rows.outer_iter_mut()) {
            let (code, y) = (contiguous(code.to_slice())?, contiguous(y.into_slice())?);
            let stored = self.read(code, &mut values, y);
            scales.push(self.factor(scale, stored, norm_sq(y)) as f32);
        }
        frame.restore(rows.view(), &scales, x);
        Ok(())
    }

    /// Adds `scale·y` of each of `codes` (n, code_bytes) to the rows `y` (n, d), which stay in the frame.
    pub fn add_rows(&self, scale: Scale, codes: ArrayView2<'_, u8>, mut y: ArrayViewMut2<'_, f32>) {
        let (mut values, mut levels) = (vec![0; self.dim], vec![0.0; self.dim]);
        for (code, mut y) in codes.outer_iter().zip(y.outer_iter_mut()) {
            let stored = self.read(&code.to_vec(), &mut values, &mut levels);
            let factor = self.factor(scale, stored, norm_sq(&levels)) as f32;
            y.iter_mut().zip(&levels).for_each(|(y, level)| *y += factor * level);
        }
    }

    /// Reads a `code` (code_bytes): its indices into `values` (d), their levels into `y` (d).
    pub fn read(&self, code: &[u8], values: &mut [u16], y: &mut [f32]) -> Stored {
        let mut scalars = [0.0; 2];
        self.layout.read(code, values, &mut scalars[..if self.angle { 2 } else { 1 }]);
        self.levels(values, y);
        Self::stored(&scalars)
    }

    /// Writes the indices of the levels nearest to `factor` times each coordinate of `z` (d) that has bits into
    /// `to` (d), found by the `cells` of the runs' levels.
    pub fn nearest(&self, cells: &[Cells], z: &[f32], factor: f32, to: &mut [u16]) {
        for ((run, _), cells) in self.runs.iter().zip(cells) {
            cells.nearest(&z[run.range()], factor, &mut to[run.range()]);
        }
    }

    /// Writes the levels of `values` (d) into `y` (d), 0 where there are no bits.
    fn levels(&self, values: &[u16], y: &mut [f32]) {
        let coded = self.runs.last().map_or(0, |(run, _)| run.range().end);
        y[coded..].fill(0.0);
        for (run, levels) in &self.runs {
            levels::decode(levels, &values[run.range()], &mut y[run.range()]);
        }
    }

    fn stored(scalars: &[f32]) -> Stored {
        let norm = f64::from(scalars[0]);
        let miss = scalars.get(1).map_or(0.0, |miss| f64::from(*miss).clamp(0.0, 1.0));
        Stored { norm: norm.abs(), miss, zero: norm < 0.0 }
    }

    /// The multiple of y, ‖y‖² being `length_sq`.
    #[must_use]
    pub fn factor(&self, scale: Scale, Stored { norm, miss, .. }: Stored, length_sq: f64) -> f64 {
        let cosine = (1.0 - miss).sqrt();
        if scale != Scale::Plain && (cosine == 0.0 || length_sq == 0.0) {
            return 0.0; // says nothing of the row
        }
        match scale {
            Scale::Plain => norm / (self.dim as f64).sqrt(),
            Scale::Length => norm / length_sq.sqrt(),
            Scale::Unbiased => norm / (length_sq.sqrt() * cosine),
            Scale::Nearest => norm * cosine / length_sq.sqrt(),
        }
    }

    /// Bytes per code of what [`pack`](Self::pack) makes; with `bounds` those for bounds, too.
    #[must_use]
    pub fn packed_bytes(&self, bounds: bool) -> usize {
        self.layout.scanned_bytes() + 4 * (3 + usize::from(bounds))
    }

    /// Packs a block `codes` (n, code_bytes) into `packed` for a [`Scan`]: indices, then for each code the
    /// factor, the squared norm, with `deviations` the half-width of a bound for queries of norm 1, which is that
    /// many times ‖r‖·√((1 − ρ²)/ρ²), and factor·‖y‖.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn pack(
        &self,
        frame: &Frame,
        scale: Scale,
        norm_of: NormOf,
        deviations: Option<f64>,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
    ) {
        self.pack_with(frame.unit_sq(), (scale, norm_of), deviations, codes, packed);
    }

    /// As [`pack`](Self::pack), without bounds, for a grid of the coordinates of a basis.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn pack_in(
        &self,
        basis: &Basis,
        scale: Scale,
        norm_of: NormOf,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
    ) {
        self.pack_with(basis.unit_sq(), (scale, norm_of), None, codes, packed);
    }

    fn pack_with(
        &self,
        unit_sq: f64,
        (scale, norm_of): (Scale, NormOf),
        deviations: Option<f64>,
        codes: ArrayView2<'_, u8>,
        packed: &mut [u8],
    ) {
        let n = codes.nrows();
        let bounds = deviations.is_some();
        assert_eq!(packed.len(), n * self.packed_bytes(bounds), "length of {n} packed codes");
        let (indices, columns) = packed.split_at_mut(n * self.layout.scanned_bytes());
        let columns = columns.as_chunks_mut::<4>().0;
        let mut y = vec![0.0; self.dim];
        self.layout.pack_values(codes, indices, |i, values, scalars| {
            self.levels(values, &mut y);
            let stored = Self::stored(scalars);
            let Stored { norm, miss, zero } = stored;
            let length_sq = norm_sq(&y);
            let factor = self.factor(scale, stored, length_sq);
            let row_sq = match norm_of {
                // ⟨q, x⟩ = (‖q‖² − ‖q − x‖²)/2 of a zero row: as if it were longer by the unit that others have.
                NormOf::Row => norm * norm + if zero { unit_sq } else { 0.0 },
                NormOf::Multiple => factor * factor * length_sq,
            };
            columns[i] = (factor as f32).to_le_bytes();
            columns[n + i] = (row_sq as f32).to_le_bytes();
            if let Some(deviations) = deviations {
                // A code that says nothing of the direction is off by ‖r‖ at most.
                let off = if miss < 1.0 { deviations * (miss / (1.0 - miss)).sqrt() } else { 1.0 };
                columns[2 * n + i] = ((off * norm) as f32).to_le_bytes();
            }
            let width = (factor * length_sq.sqrt()) as f32;
            columns[(2 + usize::from(bounds)) * n + i] = width.to_le_bytes();
        });
    }

    /// The tables of a query for codes that [`pack`](Self::pack) packed.
    #[must_use]
    pub fn scan(&self, query: Query, metric: Metric, bounds: bool) -> Scan {
        let levels = |t: usize, _: u32, v: u16| {
            let run = self.runs.partition_point(|(run, _)| run.range().end <= t);
            self.runs[run].1[usize::from(v)] * query.z[t]
        };
        let sums = (self.layout.scanned_bytes(), self.layout.sums(levels));
        Scan { query, sums, offset: None, beside: None, metric, columns: 3 + usize::from(bounds) }
    }
}

/// A query to scan packed codes with: an estimate takes the sum of a code's entries times its factor, and its
/// squared norm.
#[derive(Clone, Debug)]
pub struct Scan {
    pub(super) query: Query,
    /// Bytes of indices per code, and tables.
    pub(super) sums: (usize, Sums),
    /// What the offset of a code is multiplied by, where codes have one.
    pub(super) offset: Option<f32>,
    pub(super) beside: Option<(usize, Sums)>,
    pub(super) metric: Metric,
    /// Numbers of a code behind its indices.
    pub(super) columns: usize,
}

/// Codes whose estimates are computed at a time; a multiple of what is interleaved.
const STEP: usize = 1024;

impl Scan {
    /// The query in the frame.
    #[must_use]
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Adds the sums of indices of `bytes` per code, packed by a layout of its own behind what
    /// [`Grid::pack`] makes, and then, for each code, the factor of its sum.
    #[must_use]
    pub fn and(mut self, bytes: usize, sums: Sums) -> Self {
        self.beside = Some((bytes, sums));
        self
    }

    /// Writes the estimates of a block of n packed codes, and where it is wanted their bounds, both (n).
    /// Single-threaded, O(n · d).
    ///
    /// # Panics
    /// When `packed` is not that of n codes.
    pub fn score(&self, packed: &[u8], estimates: &mut [f32], mut bounds: Option<&mut [f32]>) {
        let n = estimates.len();
        let mut scratch = vec![0.0; STEP.min(n)];
        for first in (0..n).step_by(STEP) {
            let rows = first..n.min(first + STEP);
            let bounds = bounds.as_deref_mut().map(|bounds| &mut bounds[rows.clone()]);
            self.score_rows((packed, n), rows.clone(), &mut estimates[rows], bounds, &mut scratch);
        }
    }

    /// The `k` nearest of a block of `n` packed codes as (estimate, row), best first, of equal ones the lower
    /// row; all where n < k. Single-threaded, O(n · d).
    ///
    /// # Panics
    /// When `packed` is not that of n codes, or n is beyond 2^32 − 1.
    #[must_use]
    pub fn top_k(&self, packed: &[u8], n: usize, k: usize) -> Vec<(f32, u64)> {
        assert!(u32::try_from(n).is_ok(), "rows of a block fit 32 bits");
        let mut top = TopK::new(k.min(n));
        let (mut estimates, mut scratch) = (vec![0.0; STEP.min(n)], vec![0.0; STEP.min(n)]);
        let least = self.metric == Metric::L2;
        for first in (0..n).step_by(STEP) {
            let rows = first..n.min(first + STEP);
            let estimates = &mut estimates[..rows.len()];
            self.score_rows((packed, n), rows, estimates, None, &mut scratch);
            if least {
                estimates.iter_mut().for_each(|estimate| *estimate = 0.0 - *estimate);
            }
            top.push_row(first as u32, estimates);
        }
        let estimate = |score: f32| if least { 0.0 - score } else { score };
        top.into_sorted().into_iter().map(|(score, row)| (estimate(score), row.into())).collect()
    }

    fn score_rows(
        &self,
        (packed, n): (&[u8], usize),
        rows: Range<usize>,
        estimates: &mut [f32],
        bounds: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let columns = self.columns;
        let (bytes, sums) = &self.sums;
        let (indices, rest) = packed.split_at(n * bytes);
        let (numbers, rest) = rest.split_at(n * columns * 4);
        let column = |j: usize| &numbers.as_chunks::<4>().0[j * n..][rows.clone()];
        sums.write_rows((indices, n), rows.clone(), estimates);
        for (estimate, factor) in estimates.iter_mut().zip(column(0)) {
            *estimate *= f32::from_le_bytes(*factor);
        }
        if let Some(of) = self.offset {
            for (estimate, offset) in estimates.iter_mut().zip(column(columns - 1)) {
                *estimate += of * f32::from_le_bytes(*offset);
            }
        }
        if let Some((bytes, sums)) = &self.beside {
            let (indices, factors) = rest.split_at(n * bytes);
            let part = &mut scratch[..rows.len()];
            sums.write_rows((indices, n), rows.clone(), part);
            let factors = &factors.as_chunks::<4>().0[rows.clone()];
            for ((estimate, sum), factor) in estimates.iter_mut().zip(part).zip(factors) {
                *estimate += *sum * f32::from_le_bytes(*factor);
            }
        }
        Path::fastest().run(
            #[inline(always)]
            || estimate_each(&self.query, column(1), estimates),
        );
        if let Some(bounds) = bounds {
            for (bound, width) in bounds.iter_mut().zip(column(2)) {
                let width = f64::from(f32::from_le_bytes(*width));
                *bound = self.query.half_width(width * self.query.norm);
            }
        }
    }
}

/// Estimates from products and squared norms. A function, whose arguments are known not to overlap.
#[inline(always)]
fn estimate_each(query: &Query, norms_sq: &[[u8; 4]], estimates: &mut [f32]) {
    for (estimate, norm_sq) in estimates.iter_mut().zip(norms_sq) {
        let norm_sq = f64::from(f32::from_le_bytes(*norm_sq));
        *estimate = query.estimate(f64::from(*estimate), norm_sq);
    }
}

/// A method whose estimates are those of a [`Scan`]; [`scan_by_grid!`](crate::scan_by_grid) makes a scorer and
/// a search of it.
pub trait ByGrid {
    /// True if there are bounds.
    const BOUNDED: bool = false;

    /// Bytes per code of a packed block.
    fn scan_bytes(&self) -> usize;

    /// Packs a block `codes` (n, code_bytes) into `packed` for [`scan`](Self::scan).
    ///
    /// # Errors
    /// As the method says.
    fn pack_block(&self, codes: ArrayView2<'_, u8>, packed: &mut [u8]) -> Result<(), Error>;

    /// The query `q` (d) in the coordinates of the codes.
    ///
    /// # Errors
    /// As the method says.
    fn query(&self, q: &[f32]) -> Result<Query, Error>;

    /// The scan for a query.
    ///
    /// # Errors
    /// As the method says.
    fn scan(&self, query: Query) -> Result<Scan, Error>;

    /// The grid that packed the codes, where they alone make the estimates.
    fn grid(&self) -> Option<&Grid> {
        None
    }
}

/// Implements [`Scorer`](vq_plugin_api::Scorer) and [`Search`](vq_plugin_api::Search) for a method that is
/// [`ByGrid`]; the search ranks the scorer's estimates.
#[macro_export]
macro_rules! scan_by_grid {
    ($method:ty) => {
        impl $crate::vq_plugin_api::Scorer for $method {
            type Query = $crate::rotated::Scan;
            const PACKED: bool = true;
            const BOUNDS: bool = <$method as $crate::rotated::ByGrid>::BOUNDED;

            fn packed_bytes(&self) -> usize {
                $crate::rotated::ByGrid::scan_bytes(self)
            }

            fn pack(
                &self,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                mut packed: $crate::vq_plugin_api::ndarray::ArrayViewMut2<'_, u8>,
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                let packed = $crate::contiguous(packed.as_slice_mut())?;
                $crate::rotated::ByGrid::pack_block(self, codes, packed)
            }

            fn query(
                &self,
                query: $crate::vq_plugin_api::ndarray::ArrayView1<'_, f32>,
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<$crate::rotated::Scan, $crate::vq_plugin_api::Error> {
                let query = $crate::rotated::ByGrid::query(self, &query.to_vec())?;
                $crate::rotated::ByGrid::scan(self, query)
            }

            fn score(
                &self,
                query: &$crate::rotated::Scan,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                estimates: &mut [f32],
                bounds: ::std::option::Option<&mut [f32]>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                query.score($crate::contiguous(codes.to_slice())?, estimates, bounds);
                ::std::result::Result::Ok(())
            }
        }

        impl $crate::vq_plugin_api::Search for $method {
            const RANKS_ESTIMATES: bool = true;

            fn packed_bytes(&self, n: usize) -> usize {
                n * $crate::rotated::ByGrid::scan_bytes(self)
            }

            fn pack(
                &self,
                codes: $crate::vq_plugin_api::ndarray::ArrayView2<'_, u8>,
                packed: &mut [u8],
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                $crate::rotated::ByGrid::pack_block(self, codes, packed)
            }

            fn search(
                &self,
                queries: $crate::vq_plugin_api::ndarray::ArrayView2<'_, f32>,
                codes: $crate::vq_plugin_api::Packed<'_>,
                hits: $crate::vq_plugin_api::Hits<'_>,
                _: &$crate::vq_plugin_api::Context<'_>,
            ) -> ::std::result::Result<(), $crate::vq_plugin_api::Error> {
                $crate::rotated::search(self, queries, codes, hits)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use vq_kernels::Draw;

    #[test]
    fn signs_in_one_pass_are_the_code_of_the_nearest_levels() {
        let mut draw = Draw::new(6);
        for (dim, angle) in
            [(1, true), (7, false), (15, true), (16, true), (17, false), (100, true)]
        {
            let signs = |_: u32| vec![-0.5, 0.5];
            let grid = Grid::new(dim, (0.0, 1), (Scalars::F16, angle), 0, signs).unwrap();
            let mut x = Array2::from_shape_simple_fn((40, dim), || draw.normal() as f32);
            x.row_mut(3).fill(0.0);
            x.row_mut(20).fill(-0.0);
            x[[5, 0]] = 0.0;
            for metric in [Metric::L2, Metric::Cosine] {
                let bytes = grid.layout().code_bytes();
                let mut found = Array2::from_elem((40, bytes), 0xAA_u8);
                let never = |_: &[f32], _, _: &mut [u16]| unreachable!("signs are not chosen");
                grid.encode(
                    &Frame::none(dim),
                    metric,
                    x.view(),
                    found.view_mut(),
                    never,
                    |_, _, _| (),
                )
                .unwrap();
                let mut scratch = RowScratch::new(dim);
                for (x, found) in x.outer_iter().zip(found.outer_iter()) {
                    let x = x.to_slice().unwrap();
                    let (norm, zero) = (norm_sq(x).sqrt(), norm_sq(x) == 0.0);
                    let zero = zero && metric == Metric::Cosine;
                    let mut nearest = |x: &[f32], _, to: &mut [u16]| {
                        to.iter_mut().zip(x).for_each(|(to, x)| *to = u16::from(*x >= 0.0));
                    };
                    let mut code = vec![0; bytes];
                    let row = (x, norm, norm);
                    grid.encode_row(row, (None, zero), &mut nearest, &mut scratch, &mut code);
                    assert_eq!(found.to_vec(), code, "{dim} {metric:?} {x:?}");
                }
            }
        }
    }
}
