//! Greedy and beam-search encoding.
//!
//! A partial code of layers 1 … l is judged by `S = ⟨x, x̂⟩ − ‖x̂‖²/2`, since `‖x − x̂‖² = ‖x‖² − 2S`.
//! Centroid j of the next layer adds
//!
//! `⟨x, cⱼ⟩ − ‖cⱼ‖²/2 − Σ_{l' ≤ l} ⟨c_{l'}(i_{l'}), cⱼ⟩`
//!
//! where the first two terms are one matrix product per layer, shared by all codes of the beam, and
//! the others are rows of tables that training leaves behind: no distance in d dimensions is
//! computed per partial code. Where tables would not fit memory (many centroids) and for the
//! greedy encoding, which gains nothing from them, the sum is replaced by the residual:
//! `⟨x − x̂, cⱼ⟩ − ‖cⱼ‖²/2`.

use super::Shape;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis, Slice};
use std::ops::Range;
use vq_kernels::beam::{Candidates, LANES, Line, subtract_rows};
use vq_kernels::distance::norm_sq;
use vq_kernels::moments::mean;
use vq_kernels::{Centre, Nearest, Panels, Path};

/// Rows of one task.
pub(crate) const BLOCK: usize = 1024;

/// Most rows whose scores for a layer are computed at once: they too stay in that cache.
pub(crate) const SCORED: usize = 128;

/// Most bytes of tables of inner products between centroids.
const TABLE_BYTES: usize = 256 << 20;

/// Most scores of residuals at once.
const RESIDUAL_SCORES: usize = 1 << 20;

/// Dimensions whose errors are summed up side by side.
const STRIP: usize = 16;

/// Normalised rows are kept within ±LIMIT: their norms stay finite in f32.
const LIMIT: f32 = 1e15;

/// `x` within ±LIMIT.
#[expect(clippy::manual_clamp, reason = "a NaN becomes −LIMIT, where clamp would keep it")]
pub(crate) fn bounded(x: f32) -> f32 {
    x.max(-LIMIT).min(LIMIT)
}

/// What normalises rows: from their mean and their largest deviation from it.
pub(crate) fn centre_of(rows: ArrayView2<'_, f32>) -> Centre {
    Centre::about(&mean(rows), rows)
}

/// One layer, normalised.
pub(crate) struct Layer {
    /// (k, d).
    pub(crate) centroids: Array2<f32>,
    /// score = ⟨x, c⟩ − ‖c‖²/2.
    nearest: Nearest,
    /// score = ⟨x, c⟩.
    pub(crate) products: Panels,
    /// One per earlier layer: (k there, k here in lines) inner products.
    tables: Vec<Vec<Line>>,
}

impl Layer {
    /// Writes ⟨x, c⟩ − ‖c‖²/2 of rows `x` (n, d) into `scores` (n, k).
    pub(crate) fn scores(&self, x: ArrayView2<'_, f32>, scores: ArrayViewMut2<'_, f32>) {
        self.nearest.panels().scores(x, scores);
    }

    /// Collects the rows of the tables that belong to layers `which` of a partial code.
    fn rows<'a>(&'a self, code: &[u16], which: Range<usize>, rows: &mut Vec<&'a [Line]>) {
        rows.clear();
        let lines = self.centroids.nrows().div_ceil(LANES);
        let chosen = self.tables.iter().zip(code).take(which.end).skip(which.start);
        rows.extend(chosen.map(|(table, i)| &table[usize::from(*i) * lines..][..lines]));
    }
}

/// The layers learned so far.
pub(crate) struct Layers {
    pub(crate) normal: Centre,
    pub(crate) layers: Vec<Layer>,
    beam: usize,
    tables: bool,
}

/// The best partial codes of a block of rows, the best of each row first.
pub(crate) struct Beams {
    rows: usize,
    /// Codes per row.
    pub(crate) width: usize,
    /// Layers per code.
    layers: usize,
    /// (rows · width, layers).
    codes: Vec<u16>,
    /// S of each, (rows · width).
    scores: Vec<f32>,
    /// Greedy codes: what the layers before the last left of each row, (rows, d).
    residuals: Option<Array2<f32>>,
}

impl Beams {
    /// The empty code of each row.
    pub(crate) fn new(rows: usize) -> Self {
        let (codes, scores) = (Vec::new(), vec![0.0; rows]);
        Beams { rows, width: 1, layers: 0, codes, scores, residuals: None }
    }

    /// Partial code `rank` of `row`, best first.
    pub(crate) fn code(&self, row: usize, rank: usize) -> &[u16] {
        &self.codes[(row * self.width + rank) * self.layers..][..self.layers]
    }
}

impl Beams {
    /// How many leading layers all codes of `row` have in common.
    fn shared(&self, row: usize) -> usize {
        let first = self.code(row, 0);
        let common = |rank: usize| {
            first.iter().zip(self.code(row, rank)).take_while(|(a, b)| a == b).count()
        };
        (1..self.width).map(common).min().unwrap_or(first.len())
    }
}

impl Layers {
    /// No layers yet, in a normalised space, for `shape.layers` of them.
    pub(crate) fn within(normal: Centre, shape: Shape) -> Self {
        let (layers, k) = (shape.layers, shape.k().next_multiple_of(LANES));
        let bytes = (layers * (layers - 1) / 2).saturating_mul(4 * k * k);
        let tables = shape.beam > 1 && bytes <= TABLE_BYTES;
        Layers { normal, layers: Vec::new(), beam: shape.beam, tables }
    }

    /// The same layers once more.
    pub(crate) fn again(&self) -> Self {
        let Layers { ref normal, beam, tables, .. } = *self;
        let mut again = Layers { normal: normal.clone(), layers: Vec::new(), beam, tables };
        self.layers.iter().for_each(|layer| again.push(layer.centroids.clone()));
        again
    }

    /// From `centroids` (layers, 2^bits, d) as they add up. The first layer holds the data's mean and
    /// decides the normalisation.
    pub(crate) fn of(centroids: &[f32], shape: Shape, dim: usize) -> Self {
        let k = shape.k();
        let layer = |l: usize| {
            ArrayView2::from_shape((k, dim), &centroids[l * k * dim..][..k * dim])
                .expect("a layer has k rows of d")
        };
        let mut layers = Self::within(centre_of(layer(0)), shape);
        for l in 0..shape.layers {
            let Centre { scale, shift } = &layers.normal;
            let mut normalised = layer(l).mapv(|c| c * scale);
            if l == 0 {
                for mut row in normalised.outer_iter_mut() {
                    row.iter_mut().zip(shift).for_each(|(c, shift)| *c -= shift);
                }
            }
            normalised.mapv_inplace(bounded);
            layers.push(normalised);
        }
        layers
    }

    /// What squares are multiplied by to be those of the rows as they are.
    pub(crate) fn unscale(&self) -> f64 {
        f64::from(self.normal.scale).powi(-2)
    }

    /// Rows `x` (n, d), normalised.
    pub(crate) fn normalised(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut normalised = Array2::zeros(x.dim());
        let x = x.as_standard_layout();
        for (row, mut to) in x.outer_iter().zip(normalised.outer_iter_mut()) {
            if let (Some(row), Some(to)) = (row.to_slice(), to.as_slice_mut()) {
                self.normalise(row, to);
            }
        }
        normalised
    }

    /// Writes the code of each normalised row `x` (n, d) that its beam ends with into `codes` (n, layers).
    pub(crate) fn encode(&self, x: ArrayView2<'_, f32>, codes: &mut [u16]) {
        let mut beams = Beams::new(x.nrows());
        for _ in &self.layers {
            self.extend(x, &mut beams);
        }
        for (row, code) in codes.chunks_exact_mut(self.layers.len()).enumerate() {
            code.copy_from_slice(beams.code(row, 0));
        }
    }

    /// The centroids (layers, 2^bits, d) in the units of the rows, the first layer with their mean.
    pub(crate) fn as_they_add_up(&self) -> Vec<f32> {
        let scale = f64::from(self.normal.scale);
        let mut centroids = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            for row in layer.centroids.outer_iter() {
                for (c, shift) in row.iter().zip(&self.normal.shift) {
                    let shift = if l == 0 { f64::from(*shift) } else { 0.0 };
                    let value = ((f64::from(*c) + shift) / scale) as f32;
                    centroids.push(value.clamp(f32::MIN, f32::MAX));
                }
            }
        }
        centroids
    }

    /// Normalises `row` into `to`, both (d).
    pub(crate) fn normalise(&self, row: &[f32], to: &mut [f32]) {
        self.normal.apply(row, to);
        to.iter_mut().for_each(|x| *x = bounded(*x));
    }

    /// Appends a layer of normalised centroids (k, d) and computes its tables.
    /// O(layers · k² · d).
    pub(crate) fn push(&mut self, centroids: Array2<f32>) {
        let mut tables = Vec::new();
        let products = Panels::for_ip(centroids.view());
        if self.tables {
            let k = centroids.nrows();
            let mut scores = Array2::zeros((k, k));
            for earlier in &self.layers {
                products.scores(earlier.centroids.view(), scores.view_mut());
                let scores = scores.as_slice().expect("the layout is standard");
                tables.push(scores.chunks(k).flat_map(Line::of).collect());
            }
        }
        let nearest = Nearest::for_l2(centroids.view());
        self.layers.push(Layer { centroids, nearest, products, tables });
    }

    /// Extends `beams` by the layer after theirs, for normalised rows `x` (n, d).
    ///
    /// With tables O(n·k·(d + beam·layers)), without O(n·k·d·beam); scratch is allocated once.
    pub(crate) fn extend(&self, x: ArrayView2<'_, f32>, beams: &mut Beams) {
        let layer = &self.layers[beams.layers];
        if self.beam == 1 {
            self.extend_greedily(layer, x, beams);
            return;
        }
        let (k, dim) = layer.centroids.dim();
        let width = self.beam.min(beams.width.saturating_mul(k));
        let mut candidates = Candidates::new(k.div_ceil(LANES), width);
        let mut next = Beams {
            rows: beams.rows,
            width,
            layers: beams.layers + 1,
            codes: Vec::with_capacity(beams.rows * width * (beams.layers + 1)),
            scores: Vec::with_capacity(beams.rows * width),
            residuals: None,
        };
        // With tables one row of scores per row of x; else one per partial code.
        let with_tables = self.tables || beams.layers == 0;
        let per_row = if with_tables { 1 } else { beams.width };
        let at_once = SCORED.min(RESIDUAL_SCORES / (per_row * k)).clamp(1, beams.rows.max(1));
        let mut scores = Array2::zeros((at_once * per_row, k));
        let mut residuals = Array2::zeros((if with_tables { 0 } else { at_once * per_row }, dim));
        let mut base = Vec::with_capacity(k.div_ceil(LANES));
        let mut rows_of_tables: Vec<&[Line]> = Vec::with_capacity(beams.layers);
        for first in (0..beams.rows).step_by(at_once) {
            let rows = first..(first + at_once).min(beams.rows);
            let used = Slice::from(..rows.len() * per_row);
            let panels = layer.nearest.panels();
            let scored = scores.slice_axis_mut(Axis(0), used);
            if with_tables {
                panels.scores(x.slice_axis(Axis(0), Slice::from(rows.clone())), scored);
            } else {
                let mut residuals = residuals.slice_axis_mut(Axis(0), used);
                for (i, residual) in residuals.outer_iter_mut().enumerate() {
                    let (row, rank) = (first + i / per_row, i % per_row);
                    self.residual(x.row(row), beams.code(row, rank), residual);
                }
                panels.scores(residuals.view(), scored);
            }
            let scored = scores.as_slice().expect("the layout is standard");
            for (row, scored) in rows.zip(scored.chunks_exact(per_row * k)) {
                candidates.clear();
                let so_far = &beams.scores[row * beams.width..][..beams.width];
                if with_tables {
                    // Codes of a beam share layers: what these take away is taken once.
                    let shared = if layer.tables.is_empty() { 0 } else { beams.shared(row) };
                    base.clear();
                    base.extend(Line::of(scored));
                    layer.rows(beams.code(row, 0), 0..shared, &mut rows_of_tables);
                    subtract_rows(&mut base, &rows_of_tables);
                    for (rank, so_far) in so_far.iter().enumerate() {
                        layer.rows(beams.code(row, rank), shared..usize::MAX, &mut rows_of_tables);
                        candidates.push(&base, &rows_of_tables, *so_far);
                    }
                } else {
                    for (scored, so_far) in scored.chunks_exact(k).zip(so_far) {
                        base.clear();
                        base.extend(Line::of(scored));
                        candidates.push(&base, &[], *so_far);
                    }
                }
                for found in candidates.best() {
                    next.codes.extend_from_slice(beams.code(row, found.from as usize));
                    next.codes.push(found.centroid as u16);
                    next.scores.push(found.score);
                }
            }
        }
        *beams = next;
    }

    fn extend_greedily(&self, layer: &Layer, x: ArrayView2<'_, f32>, beams: &mut Beams) {
        let mut residuals = beams.residuals.take().unwrap_or_else(|| x.to_owned());
        if let Some(last) = beams.layers.checked_sub(1) {
            let chosen = beams.codes.iter().skip(last).step_by(beams.layers);
            for (mut residual, index) in residuals.outer_iter_mut().zip(chosen) {
                residual -= &self.layers[last].centroids.row(usize::from(*index));
            }
        }
        let mut index = vec![0_u32; beams.rows];
        layer.nearest.assign(residuals.view(), &mut index);
        let layers = beams.layers + 1;
        let mut codes = Vec::with_capacity(beams.rows * layers);
        for (row, index) in index.iter().enumerate() {
            codes.extend_from_slice(beams.code(row, 0));
            codes.push(*index as u16);
        }
        *beams = Beams { layers, codes, residuals: Some(residuals), ..Beams::new(beams.rows) };
    }

    /// Writes `x − x̂` (d) for a partial code, normalised.
    pub(crate) fn residual(
        &self,
        x: ArrayView1<'_, f32>,
        code: &[u16],
        mut residual: ArrayViewMut1<'_, f32>,
    ) {
        residual.assign(&x);
        for (layer, index) in self.layers.iter().zip(code) {
            residual -= &layer.centroids.row(usize::from(*index));
        }
    }

    /// How far `codes` (n, layers) are from normalised rows `x` (n, d) in each dimension: √(Σ(x − x̂)²/n).
    pub(crate) fn short(&self, x: ArrayView2<'_, f32>, codes: &[u16]) -> Vec<f64> {
        let mut squares = vec![0.0_f64; x.ncols()];
        let mut residual = Array1::zeros(x.ncols());
        for (x, code) in x.outer_iter().zip(codes.chunks_exact(self.layers.len())) {
            self.residual(x, code, residual.view_mut());
            let short = residual.iter().copied().map(f64::from);
            squares.iter_mut().zip(short).for_each(|(sum, short)| *sum += short * short);
        }
        squares.iter().map(|sum| (sum / x.nrows() as f64).sqrt()).collect()
    }

    /// `‖x − x̂‖²` of a normalised row. The layers' sum is taken in f32 as in decoding, the rest in f64.
    pub(crate) fn error(&self, x: ArrayView1<'_, f32>, code: &[u16]) -> f64 {
        let mut rows: [&[f32]; 64] = [&[]; 64];
        let rows = &mut rows[..code.len()];
        for ((layer, index), row) in self.layers.iter().zip(code).zip(&mut *rows) {
            let centroid = layer.centroids.row(usize::from(*index));
            *row = centroid.to_slice().expect("the layout is standard");
        }
        let x = x.to_slice().expect("the layout is standard");
        Path::fastest().run(
            #[inline(always)]
            || error(x, rows),
        )
    }

    /// `‖x̂‖²` of a code in the units of the rows, about the mean, summing up in `sum` (d).
    pub(crate) fn scaled_norm_sq(&self, code: &[u16], sum: &mut [f32]) -> f64 {
        self.decode(code, sum);
        self.unscale() * norm_sq(sum)
    }

    /// Writes x̂ (d), normalised, into `sum`.
    fn decode(&self, code: &[u16], sum: &mut [f32]) {
        sum.fill(0.0);
        let path = Path::fastest();
        for (layer, index) in self.layers.iter().zip(code) {
            let row = layer.centroids.row(usize::from(*index));
            let row = row.as_slice().expect("the layout is standard");
            path.run(
                #[inline(always)]
                || sum.iter_mut().zip(row).for_each(|(sum, c)| *sum += c),
            );
        }
    }
}

/// `‖x − Σ rows‖²`, all of the same length.
#[inline(always)]
fn error(x: &[f32], rows: &[&[f32]]) -> f64 {
    let mut squares = [0.0_f64; STRIP];
    for first in (0..x.len()).step_by(STRIP) {
        let x = &x[first..];
        if let Some(x) = x.first_chunk::<STRIP>() {
            let mut sum = [0.0_f32; STRIP];
            for row in rows {
                let row: &[f32; STRIP] = row[first..].first_chunk().expect("as long as x");
                sum.iter_mut().zip(row).for_each(|(sum, c)| *sum += c);
            }
            for ((square, x), sum) in squares.iter_mut().zip(x).zip(&sum) {
                let short = f64::from(*x) - f64::from(*sum);
                *square += short * short;
            }
        } else {
            for (t, (square, x)) in squares.iter_mut().zip(x).enumerate() {
                let sum: f32 = rows.iter().map(|row| row[first + t]).sum();
                let short = f64::from(*x) - f64::from(sum);
                *square += short * short;
            }
        }
    }
    squares.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_residuals_find_the_same_codes() {
        let shape = Shape { splits: 1, layers: 5, bits: 5, beam: 4 };
        let (n, dim, k) = (700, 7, 32);
        let wave = |i: usize, step: f32| (i as f32 * step).sin() + (i as f32 * 0.377).cos();
        let centroids: Vec<f32> =
            (0..5 * k * dim).map(|i| wave(i, 1.7) / (1 + i / (k * dim)) as f32).collect();
        let x = Array2::from_shape_fn((n, dim), |(i, j)| wave(i * dim + j, 0.61) * 1.5);
        let with_tables = Layers::of(&centroids, shape, dim);
        let mut without =
            Layers { normal: Centre::none(0), layers: Vec::new(), beam: 4, tables: false };
        for layer in &with_tables.layers {
            without.push(layer.centroids.clone());
        }
        assert!(with_tables.tables && !without.tables);
        let (mut a, mut b) = (Beams::new(n), Beams::new(n));
        for _ in 0..5 {
            with_tables.extend(x.view(), &mut a);
            without.extend(x.view(), &mut b);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
            assert!(a.scores.iter().zip(&b.scores).all(close));
        }
        // Scores that rounding could swap are rare.
        let same = (0..n).filter(|row| a.code(*row, 0) == b.code(*row, 0)).count();
        assert!(same > n * 99 / 100, "{same} of {n}");
    }
}
