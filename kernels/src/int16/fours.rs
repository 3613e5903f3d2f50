//! The first look of [`Int16Panels::offer`] in integers of 8 bits, see [`super::bytes`], and the 16-bit scores of
//! what it leaves: few, so that they are computed for one row and one vector at a time.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_castps_si512, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_maskz_loadu_epi32, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srai_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

use super::amx::{self, Amx};
use super::bytes::{BYTE, Bytes, Sizes};
use super::vnni::{
    AT_ONCE, Found, LANES, WIDE, add_products, in_registers, pair, products, reaching, registers,
    sixteen_columns,
};
use super::{Int16Panels, Lanes, TILE};

/// The vectors of a tile in 8 bits: see [`super::bytes`].
#[derive(Default)]
pub(super) struct Fours {
    /// Four dimensions of every vector, 128 added to each, the first in the lowest byte; zeros behind them, up to
    /// whole lines of [`Amx`].
    quads: Vec<Lanes<i32>>,
    /// How many of them are dimensions.
    count: usize,
    /// Vector by vector its 16-bit pairs, zeros behind them, in `lines` registers.
    pairs: Vec<__m512i>,
    lines: usize,
    norms_sq: Lanes<f32>,
    errors_sq: Lanes<f32>,
    crosses: Lanes<i32>,
    /// Floors of 16 bits, and what 8 bits leave of each.
    floors: Lanes<i32>,
    least: Lanes<i32>,
}

impl Fours {
    /// Rounds the vectors of a tile, once in 16 bits, in the step of `bytes`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn round(&mut self, bytes: &Bytes, pairs: &[[__m512i; WIDE]]) {
        self.turn(pairs);
        // What is above no floor is nothing, for any vector.
        (self.floors, self.least) = (Lanes([i32::MAX; TILE]), Lanes([i32::MAX; TILE]));
        self.count = pairs.len().div_ceil(2);
        self.quads.clear();
        self.quads.resize(amx::padded(self.count), Lanes::default());
        let step = _mm512_set1_ps(bytes.step as f32);
        let inverse = _mm512_set1_ps(1.0 / bytes.step as f32);
        let most = _mm512_set1_ps(BYTE as f32);
        let offset = _mm512_set1_epi32(128);
        for v in 0..WIDE {
            let zero = _mm512_setzero_ps();
            let (mut norm_sq, mut error_sq) = (zero, zero);
            let mut cross = _mm512_setzero_si512();
            // A pair as two bytes in the lower half.
            let mut half = |pair: __m512i| {
                let word = |word: __m512i| {
                    let x = _mm512_cvtepi32_ps(word);
                    let cut = _mm512_max_ps(
                        _mm512_min_ps(_mm512_mul_ps(x, inverse), most),
                        _mm512_sub_ps(zero, most),
                    );
                    let rounded = _mm512_cvtps_epi32(cut);
                    // Whole numbers that f32 has.
                    let error = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(rounded), step, x);
                    (x, rounded, error)
                };
                let (x, low, low_error) =
                    word(_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(pair)));
                let (y, high, high_error) = word(_mm512_srai_epi32::<16>(pair));
                norm_sq = _mm512_fmadd_ps(x, x, _mm512_fmadd_ps(y, y, norm_sq));
                error_sq = _mm512_fmadd_ps(
                    low_error,
                    low_error,
                    _mm512_fmadd_ps(high_error, high_error, error_sq),
                );
                let errors =
                    self::pair(_mm512_cvtps_epi32(low_error), _mm512_cvtps_epi32(high_error));
                cross = add_products(cross, errors, self::pair(low, high));
                let high = _mm512_slli_epi32::<8>(_mm512_add_epi32(high, offset));
                _mm512_or_si512(_mm512_add_epi32(low, offset), high)
            };
            for (quad, pairs) in self.quads.iter_mut().zip(pairs.chunks(2)) {
                let low = half(pairs[0][v]);
                let high = half(pairs.get(1).map_or(_mm512_setzero_si512(), |pairs| pairs[v]));
                let four = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                // SAFETY: 16 numbers; no alignment is asked for.
                unsafe { _mm512_storeu_si512(quad.0[v * LANES..].as_mut_ptr().cast(), four) };
            }
            // SAFETY: 16 floats; no alignment is asked for.
            unsafe { _mm512_storeu_ps(self.norms_sq.0[v * LANES..].as_mut_ptr(), norm_sq) };
            // SAFETY: 16 floats; no alignment is asked for.
            unsafe { _mm512_storeu_ps(self.errors_sq.0[v * LANES..].as_mut_ptr(), error_sq) };
            // SAFETY: 16 numbers; no alignment is asked for.
            unsafe { _mm512_storeu_si512(self.crosses.0[v * LANES..].as_mut_ptr().cast(), cross) };
        }
    }

    /// Brings the pairs of each vector side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn turn(&mut self, pairs: &[[__m512i; WIDE]]) {
        self.lines = pairs.len().div_ceil(LANES);
        self.pairs.clear();
        self.pairs.resize(TILE * self.lines, _mm512_setzero_si512());
        let zeros = [_mm512_setzero_si512(); WIDE];
        for (line, sixteen) in pairs.chunks(LANES).enumerate() {
            for v in 0..WIDE {
                let rows = std::array::from_fn(|p| {
                    (&raw const sixteen.get(p).unwrap_or(&zeros)[v]).cast::<f32>()
                });
                // SAFETY: each is a register of 16 numbers.
                let vectors = unsafe { sixteen_columns(&rows, 0) };
                for (vector, pairs) in vectors.into_iter().enumerate() {
                    self.pairs[(v * LANES + vector) * self.lines + line] =
                        _mm512_castps_si512(pairs);
                }
            }
        }
    }

    /// Finds what 8 bits leave of the `floors` that moved since; most stay for many rows.
    #[inline]
    fn lower(&mut self, int16: &Int16Panels, bytes: &Bytes, floors: &Lanes<i32>) {
        // What sums of f32 round.
        let digits = 1.0 + (int16.dim + 8) as f64 * 2f64.powi(-23);
        for (i, floor) in floors.0.into_iter().enumerate() {
            if floor == self.floors.0[i] {
                continue;
            }
            let of = Sizes {
                norm_sq: digits * f64::from(self.norms_sq.0[i]),
                error_sq: digits * f64::from(self.errors_sq.0[i]),
                cross: self.crosses.0[i],
            };
            self.floors.0[i] = floor;
            self.least.0[i] = bytes.least(int16, of, floor).saturating_sub(1);
        }
    }

    /// Appends to `found` the 16-bit scores of `rows` above `floors`, asking 8 bits first. `rows8` are these rows in
    /// 8 bits and those behind them. Answers how many 16-bit scores were computed.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn above(
        &mut self,
        int16: &Int16Panels,
        (bytes, amx, rows8): (&Bytes, Option<&Amx>, &[i32]),
        rows: &[i32],
        floors: &Lanes<i32>,
        found: &mut Vec<Found>,
    ) -> usize {
        self.lower(int16, bytes, floors);
        let least = in_registers(&self.least);
        let quads = registers(&self.quads[..self.count]);
        let (width8, width) = (1 + self.count, 1 + int16.dim.div_ceil(2));
        let mut left = 0;
        let mut exactly = |mut lanes: u64, row: usize| {
            let words = &rows[row * width..][..width];
            while lanes != 0 {
                let vector = lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                left += 1;
                let score = score_of(words, &self.pairs[vector * self.lines..][..self.lines]);
                if score > floors.0[vector] {
                    found.push(Found { vector, row: row as u32, score });
                }
            }
        };
        let all = rows.len() / width;
        let mut row = 0;
        if let Some(amx) = amx {
            let mut sums = [Lanes::default(); amx::ROWS];
            while row + amx::ROWS <= all {
                let block = &rows8[row * width8..];
                amx.products(block, &self.quads, &mut sums);
                let mut lanes = [0; amx::ROWS];
                for (r, (lanes, sums)) in lanes.iter_mut().zip(registers(&sums)).enumerate() {
                    let bias = _mm512_set1_epi32(block[r * width8]);
                    let scores = std::array::from_fn(|v| _mm512_add_epi32(sums[v], bias));
                    *lanes = reaching(&scores, &least);
                }
                for (r, lanes) in lanes.into_iter().enumerate() {
                    if lanes != 0 {
                        exactly(lanes, row + r);
                    }
                }
                row += amx::ROWS;
            }
        }
        let rows8 = &rows8[row * width8..all * width8];
        let mut fours = rows8.chunks_exact(AT_ONCE * width8);
        for four in &mut fours {
            let [a, b, c, d] = std::array::from_fn(|r| &four[r * width8..][..width8]);
            for scores in products!(add_quads, 0, WIDE, AT_ONCE; [a, b, c, d], quads) {
                let lanes = reaching(&scores, &least);
                if lanes != 0 {
                    exactly(lanes, row);
                }
                row += 1;
            }
        }
        for last in fours.remainder().chunks_exact(width8) {
            let [scores] = products!(add_quads, 0, WIDE, 1; [last], quads);
            let lanes = reaching(&scores, &least);
            if lanes != 0 {
                exactly(lanes, row);
            }
            row += 1;
        }
        left
    }
}

/// The 16-bit score of a row for one vector, whose last pairs are zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn score_of(row: &[i32], x: &[__m512i]) -> i32 {
    let (bias, pairs) = row.split_first().expect("a row has a bias");
    // Two sums, so that not every product waits for the one before.
    let mut sums = [_mm512_setzero_si512(); 2];
    for (pairs, x) in pairs.chunks(2 * LANES).zip(x.chunks(2)) {
        for ((sum, pairs), x) in sums.iter_mut().zip(pairs.chunks(LANES)).zip(x) {
            let mask = u16::MAX >> (LANES - pairs.len());
            // SAFETY: the mask has a bit for each number.
            let pairs = unsafe { _mm512_maskz_loadu_epi32(mask, pairs.as_ptr()) };
            *sum = add_products(*sum, *x, pairs);
        }
    }
    bias.wrapping_add(_mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1])))
}

/// Adds the four products per lane of 8-bit integers without sign and such with one.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_quads(mut sum: __m512i, x: __m512i, row: __m512i) -> __m512i {
    // SAFETY: registers in, a register out; the feature is enabled here.
    unsafe {
        asm!(
            "vpdpbusd {sum}, {x}, {row}",
            sum = inout(zmm_reg) sum,
            x = in(zmm_reg) x,
            row = in(zmm_reg) row,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
