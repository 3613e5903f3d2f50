//! Rotation by integers with AVX-512 VNNI: as in [`vnni`](super::vnni), lanes hold neighbouring vectors, so that the
//! coordinates of a sub-space come out as the scores of its rows take them.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_LT_OQ, _mm512_abs_ps, _mm512_add_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_fmsub_ps,
    _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_mask_storeu_epi32, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sqrt_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use ndarray::{ArrayView2, Axis};

use super::rotation::{Int16Rotation, MOST_SUMMED, Part, SUMMED};
use super::vnni::{
    BestTwo, LANES, Sizes, WIDE, add_products, fetch, pair, root, round, sixteen_columns,
};
use super::{TILE, WORD};
use crate::distance::norm_sq;
use crate::{Centre, Int16Panels, Nearest};

/// Norms from which on vectors may be cut before they are rotated, as those that a frame centres are.
const HUGE: f32 = 1e15;

/// The 64 vectors of a tile.
struct Tile {
    /// Two dimensions of each, the first in the low half.
    pairs: Vec<[__m512i; WIDE]>,
    sizes: [Size; WIDE],
}

/// Of 16 vectors.
#[derive(Clone, Copy)]
struct Size {
    /// Of a dimension.
    step: __m512,
    /// ‖z‖, at most.
    norm: __m512,
    /// ‖ζ‖, at most.
    error: __m512,
}

/// What [`Int16Rotation::assign`] can decide; appends to `open[j]` the vectors left open in sub-space j. False where a
/// vector is no number, or huge.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn decide(
    rotation: &Int16Rotation,
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    nearest: &[Nearest],
    index: &mut [u32],
    open: &mut [Vec<u32>],
) -> bool {
    let mut tile = Tile::new(rotation.dim);
    let part = rotation.dim / nearest.len();
    let scales = nearest.iter().enumerate().map(|(j, nearest)| Scale::of(rotation, j, nearest));
    let scales: Vec<_> = scales.collect();
    let mut rotated = vec![[_mm512_setzero_si512(); WIDE]; part.div_ceil(2)];
    for first in (0..x.nrows()).step_by(TILE) {
        if !tile.round(centre, x, first) {
            return false;
        }
        let indices = index.chunks_exact_mut(x.nrows());
        for (j, ((scale, open), index)) in scales.iter().zip(&mut *open).zip(indices).enumerate() {
            // What the next tile needs, a part at a time: all at once would be waited for.
            let ahead = |j| first + TILE + TILE * j / nearest.len();
            fetch(x, ahead(j)..ahead(j + 1));
            let index = &mut index[first..];
            let there = index.len().min(TILE);
            let Some(scale) = scale else {
                open.extend(first as u32..(first + there) as u32);
                continue;
            };
            let sizes = rotation.part(j, &tile, scale, &mut rotated);
            let best = best(scale.int16, &rotated);
            for (v, sizes) in sizes.into_iter().enumerate() {
                let from = (v * LANES).min(there);
                let lanes = ((1_u32 << (there - from).min(LANES)) - 1) as u16;
                let (rows, decided) = best.settle(scale.int16, sizes, &rotated, v);
                // SAFETY: no lane is written beyond the length of `index`.
                unsafe { _mm512_mask_storeu_epi32(index[from..].as_mut_ptr().cast(), lanes, rows) };
                let mut left = lanes & !decided;
                while left != 0 {
                    open.push((first + from) as u32 + left.trailing_zeros());
                    left &= left - 1;
                }
            }
        }
    }
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn best(int16: &Int16Panels, x: &[[__m512i; WIDE]]) -> BestTwo<WIDE> {
    // The number of pairs is known when compiled where that pays.
    match x.len() {
        1 => int16.best_two::<1, WIDE>(x),
        2 => int16.best_two::<2, WIDE>(x),
        3 => int16.best_two::<3, WIDE>(x),
        4 => int16.best_two::<4, WIDE>(x),
        5 => int16.best_two::<5, WIDE>(x),
        6 => int16.best_two::<6, WIDE>(x),
        8 => int16.best_two::<8, WIDE>(x),
        _ => int16.best_two::<0, WIDE>(x),
    }
}

impl Tile {
    #[target_feature(enable = "avx512f")]
    fn new(dim: usize) -> Self {
        let none = _mm512_setzero_ps();
        Tile {
            pairs: vec![[_mm512_setzero_si512(); WIDE]; dim.div_ceil(2)],
            sizes: [Size { step: none, norm: none, error: none }; WIDE],
        }
    }

    /// Centres and rounds the vectors of `x` from `first` on; the last is repeated where there are fewer. False where
    /// one is no number, or huge.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn round(&mut self, centre: &Centre, x: ArrayView2<'_, f32>, first: usize) -> bool {
        let mut usual = u16::MAX;
        for (v, size) in self.sizes.iter_mut().enumerate() {
            let inverse = fine(centre, x, first + v * LANES);
            let sizes = round(inverse, centre, x, first + v * LANES, &mut self.pairs, v);
            let step = _mm512_div_ps(_mm512_set1_ps(1.0), inverse);
            let norm = _mm512_mul_ps(root(sizes.norm_sq), step);
            usual &= _mm512_cmp_ps_mask::<_CMP_LT_OQ>(norm, _mm512_set1_ps(HUGE));
            *size = Size { step, norm, error: _mm512_mul_ps(sizes.xi(), step) };
        }
        usual == u16::MAX
    }
}

/// How many steps make 1 for 16 vectors from `first` on, so that sums of products stay below 2³¹.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fine(centre: &Centre, x: ArrayView2<'_, f32>, first: usize) -> __m512 {
    let scale = _mm512_set1_ps(centre.scale);
    let mut largest = [Line([0.0; LANES]); LANES];
    let mut norm_sq = _mm512_set1_ps(1e-36);
    for from in (0..x.ncols()).step_by(SUMMED) {
        let summed = from..x.ncols().min(from + SUMMED);
        let shifts = &centre.shift[summed.clone()];
        let mut sums = [Line([0.0; LANES]); LANES];
        for (i, (sum, largest)) in sums.iter_mut().zip(&mut largest).enumerate() {
            let x = x.index_axis_move(Axis(0), (first + i).min(x.nrows() - 1));
            let x = &x.to_slice().expect("rows are contiguous")[summed.clone()];
            let mut sum_sq = _mm512_setzero_ps();
            let mut most = largest.load();
            for (x, shifts) in x.chunks(LANES).zip(shifts.chunks(LANES)) {
                let there = (u32::from(u16::MAX) >> (LANES - x.len())) as u16;
                // SAFETY: the mask leaves out what is beyond the end.
                let x = unsafe { _mm512_maskz_loadu_ps(there, x.as_ptr()) };
                // SAFETY: as above.
                let shifts = unsafe { _mm512_maskz_loadu_ps(there, shifts.as_ptr()) };
                let z = _mm512_sub_ps(_mm512_mul_ps(x, scale), shifts);
                sum_sq = _mm512_fmadd_ps(z, z, sum_sq);
                most = _mm512_max_ps(most, _mm512_abs_ps(z));
            }
            sum.store(sum_sq);
            largest.store(most);
        }
        let sum = columns(&sums).into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_add_ps(a, b));
        norm_sq = _mm512_max_ps(sum, norm_sq);
    }
    let largest =
        columns(&largest).into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_max_ps(a, b));
    let of_norm = _mm512_div_ps(_mm512_set1_ps(MOST_SUMMED as f32), _mm512_sqrt_ps(norm_sq));
    _mm512_min_ps(_mm512_div_ps(_mm512_set1_ps(WORD as f32), largest), of_norm)
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

impl Line {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&self) -> __m512 {
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_loadu_ps(self.0.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(&mut self, values: __m512) {
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(self.0.as_mut_ptr(), values) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn columns(lines: &[Line; LANES]) -> [__m512; LANES] {
    let rows = lines.each_ref().map(|line| line.0.as_ptr());
    // SAFETY: 16 floats each.
    unsafe { sixteen_columns(&rows, 0) }
}

/// What makes coordinates of a sub-space ready for its rows.
struct Scale<'a> {
    int16: &'a Int16Panels,
    shift: &'a [f32],
    /// What 1 is in steps of the rows.
    unit: f32,
    /// How far a coordinate's sub-space may be off, in steps of the rows: per norm of z, per ‖ζ‖, and at least.
    per_norm: f32,
    per_error: f32,
    least: f32,
    /// ... and by the last rounding.
    rounding: f32,
}

impl<'a> Scale<'a> {
    /// Of sub-space `j`, where its rows are integers.
    fn of(rotation: &Int16Rotation, j: usize, nearest: &'a Nearest) -> Option<Self> {
        let (int16, centre) = (nearest.int16()?, nearest.centre());
        let unit = centre.scale * int16.inverse;
        let Part { spectral, frobenius, error } = rotation.parts[j];
        // What f32 rounds where it rotates, and here where it adds sums up.
        let sums = rotation.dim + rotation.dim.div_ceil(SUMMED) + 6;
        let rounded = 1.02 * sums as f32 * 2.0_f32.powi(-24) * frobenius;
        let shift = (norm_sq(&centre.shift).sqrt() * f64::from(int16.inverse)) as f32;
        // Products of f32 may vanish, 2⁻¹⁵⁰ of each coordinate, times √32 of a sub-space. An infinite unit leaves all open.
        let vanished = (f64::from(unit) * rotation.dim as f64 * 2f64.powi(-147)) as f32;
        Some(Self {
            int16,
            shift: &centre.shift,
            unit,
            per_norm: 1.01 * unit * (error + rounded),
            per_error: 1.01 * unit * (error + spectral),
            least: DIGITS * shift + vanished,
            rounding: 0.501 * (centre.shift.len() as f32).sqrt(),
        })
    }
}

/// What f32 rounds in four steps.
const DIGITS: f32 = 2.4e-7;

impl Int16Rotation {
    /// Writes sub-space `j` of the rotated vectors into `to` as its rows take them, with an error that counts all that
    /// was rounded on the way.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn part(
        &self,
        j: usize,
        tile: &Tile,
        scale: &Scale<'_>,
        to: &mut [[__m512i; WIDE]],
    ) -> [Sizes; WIDE] {
        let width = self.dim.div_ceil(2);
        let mut norms_sq = [_mm512_setzero_ps(); WIDE];
        let part = scale.shift.len();
        let rows = &self.rows[j * part * width..][..part * width];
        let steps = &self.steps[j * part..][..part];
        let twos = rows.chunks(2 * width).zip(steps.chunks(2)).zip(scale.shift.chunks(2));
        for (((rows, steps), shifts), to) in twos.zip(to) {
            let (a, b) = rows.split_at(width);
            // The last may be one.
            let sums = products(a, if b.is_empty() { a } else { b }, &tile.pairs);
            let factors = [times(steps, 0, scale.unit), times(steps, 1, scale.unit)];
            let inverse = scale.int16.inverse;
            let shifts = [times(shifts, 0, inverse), times(shifts, 1, inverse)];
            for v in 0..WIDE {
                let step = tile.sizes[v].step;
                let low = _mm512_fmsub_ps(_mm512_mul_ps(sums[0][v], step), factors[0], shifts[0]);
                let high = _mm512_fmsub_ps(_mm512_mul_ps(sums[1][v], step), factors[1], shifts[1]);
                norms_sq[v] = _mm512_fmadd_ps(low, low, norms_sq[v]);
                norms_sq[v] = _mm512_fmadd_ps(high, high, norms_sq[v]);
                to[v] = pair(_mm512_cvtps_epi32(low), _mm512_cvtps_epi32(high));
            }
        }
        let mut sizes =
            [Sizes { norm_sq: _mm512_setzero_ps(), error_sq: _mm512_setzero_ps() }; WIDE];
        for ((sizes, of), norm_sq) in sizes.iter_mut().zip(tile.sizes).zip(norms_sq) {
            let by_error = _mm512_fmadd_ps(
                of.error,
                _mm512_set1_ps(scale.per_error),
                _mm512_set1_ps(scale.least),
            );
            let off = _mm512_fmadd_ps(of.norm, _mm512_set1_ps(scale.per_norm), by_error);
            let norm = root(norm_sq);
            let off = _mm512_fmadd_ps(norm, _mm512_set1_ps(DIGITS), off);
            let error = _mm512_add_ps(off, _mm512_set1_ps(scale.rounding));
            // Beyond 16 bits nothing is decided: few vectors are so much longer than the longest row.
            let within = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(norm, _mm512_set1_ps(WORD as f32));
            let beyond = _mm512_set1_ps(f32::INFINITY);
            let norm = _mm512_mask_mov_ps(beyond, within, _mm512_add_ps(norm, off));
            *sizes =
                Sizes { norm_sq: _mm512_mul_ps(norm, norm), error_sq: _mm512_mul_ps(error, error) };
        }
        sizes
    }
}

/// A value, or 0 where there is none.
#[inline]
#[target_feature(enable = "avx512f")]
fn times(values: &[f32], i: usize, by: f32) -> __m512 {
    _mm512_set1_ps(values.get(i).map_or(0.0, |value| value * by))
}

/// Products of two rows and the vectors of a tile, added up in f32 where 32 bits would not hold the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn products(a: &[i32], b: &[i32], x: &[[__m512i; WIDE]]) -> [[__m512; WIDE]; 2] {
    let mut totals = [[_mm512_setzero_ps(); WIDE]; 2];
    let rows = a.chunks(SUMMED / 2).zip(b.chunks(SUMMED / 2));
    for ((a, b), x) in rows.zip(x.chunks(SUMMED / 2)) {
        let mut sums = [[_mm512_setzero_si512(); WIDE]; 2];
        for ((a, b), x) in a.iter().zip(b).zip(x) {
            for (sums, row) in sums.iter_mut().zip([a, b]) {
                let row = _mm512_set1_epi32(*row);
                for v in 0..WIDE {
                    sums[v] = add_products(sums[v], x[v], row);
                }
            }
        }
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for v in 0..WIDE {
                totals[v] = _mm512_add_ps(totals[v], _mm512_cvtepi32_ps(sums[v]));
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int16::{available, vnni::LANES};
    use crate::nearest::tests::noise;
    use crate::rotation::Rotation;
    use ndarray::Array2;
    use proptest::prelude::*;

    /// Per vector: how far the integers are off, what that was said to be at most, ‖R'·z‖ and what it was said to be
    /// at most, all in steps of the rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn measured(
        rotation: &Rotation,
        part: usize,
        z: &Array2<f32>,
        nearest: &Nearest,
    ) -> Vec<[f64; 4]> {
        let int16 = Int16Rotation::new(rotation, part).unwrap();
        let mut tile = Tile::new(z.ncols());
        assert!(tile.round(&Centre::none(z.ncols()), z.view(), 0));
        let scale = Scale::of(&int16, 0, nearest).unwrap();
        let mut words = vec![[_mm512_setzero_si512(); WIDE]; part.div_ceil(2)];
        let sizes = int16.part(0, &tile, &scale, &mut words);
        let matrix = rotation.matrix();
        let values = |register: __m512| {
            let mut line = Line([0.0; LANES]);
            line.store(register);
            line.0
        };
        let of = |i: usize| {
            let (mut off, mut norm) = (0.0, 0.0);
            for t in 0..part {
                let turned: f64 = matrix
                    .row(t)
                    .iter()
                    .zip(z.row(i))
                    .map(|(r, z)| f64::from(*r) * f64::from(*z))
                    .sum();
                let steps = f64::from(scale.unit) * turned
                    - f64::from(scale.shift[t]) * f64::from(scale.int16.inverse);
                // SAFETY: a register is 32 numbers of 16 bits.
                let words: &[i16; 2 * LANES] =
                    unsafe { &*(&raw const words[t / 2][i / LANES]).cast() };
                let word = words[2 * (i % LANES) + t % 2];
                off += (steps - f64::from(word)).powi(2);
                norm += steps * steps;
            }
            let sizes = sizes[i / LANES];
            let said =
                [sizes.error_sq, sizes.norm_sq].map(|x| f64::from(values(x)[i % LANES]).sqrt());
            [off.sqrt(), said[0], norm.sqrt(), said[1]]
        };
        (0..TILE).map(of).collect()
    }

    proptest! {
        #[test]
        fn integers_are_as_near_as_promised(
            (part, parts) in (1_usize..20, 1_usize..14),
            kind in 1_usize..4,
            signs in any::<bool>(),
            unturned in any::<bool>(),
            seed in any::<u32>(),
        ) {
            if !available() {
                return Ok(());
            }
            let dim = part * parts;
            let rotation = if unturned {
                Rotation::of(Array2::eye(dim).view())
            } else {
                Rotation::dense(dim, u64::from(seed))
            };
            let mut z = noise(TILE, dim, seed, kind);
            if signs {
                // Nothing of these is rounded, or little.
                z.mapv_inplace(f32::signum);
            }
            let mut rotated = Array2::zeros(z.dim());
            rotation.apply(z.view(), rotated.view_mut());
            let nearest = Nearest::for_l2_centred(rotated.slice(ndarray::s![..20, ..part]));
            // SAFETY: `available` detected the features.
            for [off, at_most, norm, norm_at_most] in unsafe { measured(&rotation, part, &z, &nearest) } {
                // About vectors beyond 16 bits nothing is said.
                let said = norm_at_most < f64::INFINITY;
                prop_assert!(said || norm > 32_000.0, "{}", norm);
                prop_assert!(!said || off <= at_most, "{} of {}", off, at_most);
                prop_assert!(norm <= norm_at_most, "{} of {}", norm, norm_at_most);
                // And the bound is of use.
                let usual = norm < 30_000.0 && kind == 1;
                prop_assert!(!usual || at_most < 100.0, "{} at {}", at_most, norm);
            }
        }
    }
}
