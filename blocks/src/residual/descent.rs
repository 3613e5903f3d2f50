//! Local search over codes: coordinate descent, again and again from the best code with some indices drawn
//! anew (iterated local search of Martinez, Clement, Hoos, Little, "Revisiting Additive Quantization", 2016,
//! section 3.2).
//!
//! The score of a code is `S = Σ_l u_l(i_l) − Σ_{l<m} ⟨c_l(i_l), c_m(i_m)⟩` with `u_l(j) = ⟨x, c_l(j)⟩ −
//! ‖c_l(j)‖²/2`, and `‖x − x̂‖² = ‖x‖² − 2S`. With all other layers fixed, the best index of layer l is the j of
//! the largest
//!
//! `u_l(j) − Σ_{m≠l} ⟨c_m(i_m), c_l(j)⟩`,
//!
//! one row of a table for each other layer. These sums are made of integers of 16 bits, which saturate: half
//! the memory to read, and the same on every machine. They only propose codes: the distance itself
//! decides whether a proposal is kept, so that a search never loses.
//!
//! A layer is visited for all rows of a block before the next one, so that its tables stay in the
//! second-level cache; and for a row only where another layer changed since.

use super::layers::Layers;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Slice};
use rayon::prelude::*;
use vq_kernels::Path;
use vq_kernels::distance::norm_sq;
use vq_kernels::draw::{Draw, seed_of};

/// Scores that are compared at once.
const LANES: usize = 32;

/// Lines of scores that stay in registers while the rows of tables pass by.
const WIDE: usize = 4;

/// Most visits of each layer in one descent.
const SWEEPS: usize = 4;

/// Rows whose scores are computed at once.
const SCORED: usize = 128;

/// Neighbouring centroids' parts of a score.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i16; LANES]);

/// The tables of a sub-space's layers.
pub(super) struct Descent {
    layers: usize,
    k: usize,
    /// 1 in the integers' unit.
    scale: f32,
    /// (layer sought, other layer, its index, centroids sought in lines).
    tables: Vec<Line>,
}

/// What a search starts from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Descents from codes with indices drawn anew, after the first from the code as it is.
    pub(super) tries: usize,
    /// Indices that are drawn anew.
    pub(super) drawn: usize,
    /// With the row decides what is drawn.
    pub(super) seed: u64,
}

impl Descent {
    /// O(layers² · k² · d).
    pub(super) fn of(layers: &Layers) -> Self {
        let count = layers.layers.len();
        let k = layers.layers.first().map_or(1, |layer| layer.centroids.nrows());
        let largest = |centroids: &Array2<f32>| {
            let norm = |row: ArrayView1<'_, f32>| row.as_slice().map_or(0.0, norm_sq);
            centroids.outer_iter().map(norm).fold(0.0, f64::max)
        };
        let norms: Vec<f64> = layers.layers.iter().map(|layer| largest(&layer.centroids)).collect();
        let most = norms.iter().copied().fold(0.0, f64::max) * norms.iter().sum::<f64>();
        // Twice the products that a row as long as a code can have; beyond them sums saturate.
        let scale = if most > 0.0 { f64::from(i16::MAX) / (2.0 * most.sqrt()) } else { 0.0 };
        let scale = scale as f32;
        let per_row = k.div_ceil(LANES);
        // A layer's part for itself stays zero, and is not looked at.
        let mut tables = vec![Line([0; LANES]); count * count * k * per_row];
        let of_layer = |(l, tables): (usize, &mut [Line])| {
            let mut products = Array2::zeros((k, k));
            let others = tables.chunks_exact_mut(k * per_row).enumerate();
            for (m, tables) in others.filter(|(m, _)| *m != l) {
                let other = layers.layers[m].centroids.view();
                layers.layers[l].products.scores(other, products.view_mut());
                for (row, lines) in products.outer_iter().zip(tables.chunks_exact_mut(per_row)) {
                    // Less what is there, no centroid stays the least.
                    write_lines(row.to_slice().unwrap_or_default(), scale, 0, lines);
                }
            }
        };
        let each = (count * k * per_row).max(1);
        // A model is loaded outside of the host's pool: threads of our own are none of its budget.
        if rayon::current_thread_index().is_some() {
            let tables = tables.par_chunks_mut(each).enumerate();
            tables.with_max_len(1).for_each(of_layer);
        } else {
            tables.chunks_mut(each).enumerate().for_each(of_layer);
        }
        Descent { layers: count, k, scale, tables }
    }

    /// Betters the `codes` (n, layers) of normalised rows `x` (n, d). Single-threaded, O(n·k·(d·layers +
    /// tries·layers²)); a row's code depends on nothing but the row, its code and `start`.
    pub(super) fn better(
        &self,
        layers: &Layers,
        x: ArrayView2<'_, f32>,
        codes: &mut [u16],
        start: Start,
    ) {
        let (n, count) = (x.nrows(), self.layers);
        if count < 2 || n == 0 {
            return;
        }
        let per_row = self.k.div_ceil(LANES);
        let mut unary = vec![Line([0; LANES]); count * n * per_row];
        let mut lines = unary.chunks_exact_mut(per_row);
        for layer in &layers.layers {
            let mut scores = Array2::zeros((SCORED, self.k));
            for x in x.axis_chunks_iter(Axis(0), SCORED) {
                let mut scores = scores.slice_axis_mut(Axis(0), Slice::from(..x.nrows()));
                layer.scores(x, scores.view_mut());
                for (row, lines) in scores.outer_iter().zip(&mut lines) {
                    let row = row.to_slice().unwrap_or_default();
                    write_lines(row, self.scale, i16::MIN, lines);
                }
            }
        }
        let mut errors: Vec<f64> = x
            .outer_iter()
            .zip(codes.chunks_exact(count))
            .map(|(x, code)| layers.error(x, code))
            .collect();
        let mut draws: Vec<Draw> =
            x.outer_iter().map(|x| Draw::new(seed_of(start.seed, hash(x)))).collect();
        let all = (1_u64 << count) - 1;
        let mut tried = codes.to_vec();
        let mut open = vec![all; n];
        for attempt in 0..=start.tries {
            if attempt > 0 {
                for ((tried, draw), open) in
                    tried.chunks_exact_mut(count).zip(&mut draws).zip(&mut open)
                {
                    *open = all;
                    for _ in 0..start.drawn {
                        tried[draw.below(count)] = draw.below(self.k) as u16;
                    }
                }
            }
            self.descend(&unary, &mut tried, &mut open);
            let rows = x.outer_iter().zip(&mut errors).zip(codes.chunks_exact_mut(count));
            for (((x, error), code), tried) in rows.zip(tried.chunks_exact_mut(count)) {
                if code == tried {
                    continue;
                }
                let now = layers.error(x, tried);
                if now < *error {
                    *error = now;
                    code.copy_from_slice(tried);
                } else {
                    tried.copy_from_slice(code);
                }
            }
        }
    }

    /// Coordinate descent of the `codes` (n, layers), of each in the layers that are `open`, a bit each.
    fn descend(&self, unary: &[Line], codes: &mut [u16], open: &mut [u64]) {
        let (count, per_row) = (self.layers, self.k.div_ceil(LANES));
        let n = open.len();
        let path = Path::fastest();
        for _ in 0..SWEEPS {
            for sought in 0..count {
                let unary = &unary[sought * n * per_row..][..n * per_row];
                let tables =
                    &self.tables[sought * count * self.k * per_row..][..count * self.k * per_row];
                path.run(
                    #[inline(always)]
                    || visit(sought, unary, tables, self.k, codes, open, count),
                );
            }
            if open.iter().all(|open| *open == 0) {
                break;
            }
        }
    }
}

/// One layer of all rows that are open in it.
#[inline(always)]
fn visit(
    sought: usize,
    unary: &[Line],
    tables: &[Line],
    k: usize,
    codes: &mut [u16],
    open: &mut [u64],
    count: usize,
) {
    let per_row = k.div_ceil(LANES);
    let all = (1_u64 << count) - 1;
    let mut rows: [&[Line]; 64] = [&[]; 64];
    for ((unary, code), open) in
        unary.chunks_exact(per_row).zip(codes.chunks_exact_mut(count)).zip(open)
    {
        if *open >> sought & 1 == 0 {
            continue;
        }
        let mut others = 0;
        for (other, index) in code.iter().enumerate() {
            if other != sought {
                rows[others] = &tables[(other * k + usize::from(*index)) * per_row..][..per_row];
                others += 1;
            }
        }
        let found = best(unary, &rows[..others]);
        *open &= !(1 << sought);
        if found != code[sought] {
            code[sought] = found;
            *open = all & !(1 << sought);
        }
    }
}

/// The place of the largest `unary − Σ rows`, the lowest of equal ones.
#[inline(always)]
fn best(unary: &[Line], rows: &[&[Line]]) -> u16 {
    let mut largest = [i16::MIN; LANES];
    let mut places = [0_u16; LANES];
    let wide = unary.len() / WIDE * WIDE;
    for first in (0..wide).step_by(WIDE) {
        let sums = sums::<WIDE>(unary, rows, first);
        for (c, sums) in sums.iter().enumerate() {
            raise(&mut largest, &mut places, sums, (first + c) as u16);
        }
    }
    for first in wide..unary.len() {
        let [sums] = sums::<1>(unary, rows, first);
        raise(&mut largest, &mut places, &sums, first as u16);
    }
    let most = largest.iter().copied().fold(i16::MIN, i16::max);
    let mut found = u16::MAX;
    for (lane, (largest, place)) in largest.iter().zip(&places).enumerate() {
        let place = place * LANES as u16 + lane as u16;
        let place = if *largest == most { place } else { u16::MAX };
        found = found.min(place);
    }
    found
}

#[inline(always)]
fn sums<const N: usize>(unary: &[Line], rows: &[&[Line]], first: usize) -> [Line; N] {
    let at =
        |lines: &[Line]| -> [Line; N] { *lines[first..].first_chunk().expect("lines of a row") };
    let mut sums = at(unary);
    for row in rows {
        let row: &[Line; N] = row[first..].first_chunk().expect("lines of a row");
        for (sums, row) in sums.iter_mut().zip(row) {
            for (sum, value) in sums.0.iter_mut().zip(&row.0) {
                *sum = sum.saturating_sub(*value);
            }
        }
    }
    sums
}

#[inline(always)]
fn raise(largest: &mut [i16; LANES], places: &mut [u16; LANES], sums: &Line, line: u16) {
    for ((largest, place), sum) in largest.iter_mut().zip(places).zip(&sums.0) {
        let more = *sum > *largest;
        *place = if more { line } else { *place };
        *largest = if more { *sum } else { *largest };
    }
}

/// Of equally near integers the even one, within ±32,767: the last bits of a sum beyond which f32 has no
/// fractions. A cast saturates, for which there is no instruction.
#[inline(always)]
fn rounded(value: f32) -> i16 {
    const WHOLE: f32 = 12_582_912.0;
    let most = f32::from(i16::MAX);
    (value.clamp(-most, most) + WHOLE).to_bits() as i16
}

/// Writes `values` in the integers' unit into as many `lines` as they take, the last made up with `padding`.
fn write_lines(values: &[f32], scale: f32, padding: i16, lines: &mut [Line]) {
    Path::fastest().run(
        #[inline(always)]
        || {
            for (values, line) in values.chunks(LANES).zip(lines) {
                *line = Line([padding; LANES]);
                for (to, value) in line.0.iter_mut().zip(values) {
                    // Not the least: that is for places without a centroid. What is no number becomes 0.
                    *to = rounded(value * scale);
                }
            }
        },
    );
}

/// FNV-1a over the bits of a row.
fn hash(row: ArrayView1<'_, f32>) -> u64 {
    row.iter().fold(0xCBF2_9CE4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_as_by_a_cast() {
        let few = (-70_000..70_000).map(|i| i as f32 * 0.5);
        let odd = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 1e-30, 0.499_999_97, 3e38];
        for value in few.chain(odd) {
            let cast = (value.round_ties_even() as i16).max(-i16::MAX);
            assert_eq!(rounded(value), cast, "{value}");
        }
    }
}
