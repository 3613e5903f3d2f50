//! Butterflies of registers: within one a shuffle and a sum each, where a plain loop becomes many moves.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_mul_ps,
    _mm512_permute_ps, _mm512_set1_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::LANES;

/// Lines that stay in registers.
const HELD: usize = 16;

/// As [`butterflies`](super::butterflies), of the products with `factors`, of equal length.
#[target_feature(enable = "avx512f")]
pub(super) fn turn(lines: &mut [[f32; LANES]], factors: &[[f32; LANES]]) {
    within(
        lines,
        #[inline(always)]
        |i, x| _mm512_mul_ps(x, load(&factors[i])),
    );
    beyond(lines);
}

/// As [`butterflies`](super::butterflies).
#[target_feature(enable = "avx512f")]
pub(super) fn butterflies(lines: &mut [[f32; LANES]]) {
    within(
        lines,
        #[inline(always)]
        |_, x| x,
    );
    beyond(lines);
}

/// The butterflies within each [`HELD`] lines, of what `change` makes of them.
#[inline]
#[target_feature(enable = "avx512f")]
fn within(lines: &mut [[f32; LANES]], change: impl Fn(usize, __m512) -> __m512) {
    match lines.len() {
        1 => held::<1>(lines, 0, &change),
        2 => held::<2>(lines, 0, &change),
        4 => held::<4>(lines, 0, &change),
        8 => held::<8>(lines, 0, &change),
        _ => {
            for (b, lines) in lines.chunks_exact_mut(HELD).enumerate() {
                held::<HELD>(lines, b * HELD, &change);
            }
        }
    }
}

/// All butterflies of `N` lines, a power of two up to [`HELD`]: between loads and stores nothing but sums.
#[inline]
#[target_feature(enable = "avx512f")]
fn held<const N: usize>(
    lines: &mut [[f32; LANES]],
    first: usize,
    change: &impl Fn(usize, __m512) -> __m512,
) {
    let lines: &mut [[f32; LANES]; N] = lines.try_into().expect("as many as were counted");
    /// Written out: the compiler leaves a loop of so much a loop, and its lines in memory.
    macro_rules! each {
        ($($i:literal)*) => {
            [$(if $i < N {
                inside(change(first + $i, load(&lines[$i])))
            } else {
                _mm512_set1_ps(0.0)
            }),*]
        };
    }
    let mut x: [__m512; HELD] = each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    across::<N, 1>(&mut x);
    across::<N, 2>(&mut x);
    across::<N, 4>(&mut x);
    across::<N, 8>(&mut x);
    for i in 0..N {
        store(x[i], &mut lines[i]);
    }
}

/// The butterflies within a line.
#[inline]
#[target_feature(enable = "avx512f")]
fn inside(line: __m512) -> __m512 {
    let line = butterfly(line, _mm512_permute_ps::<0b10_11_00_01>(line), 0xAAAA);
    let line = butterfly(line, _mm512_permute_ps::<0b01_00_11_10>(line), 0xCCCC);
    let line = butterfly(line, _mm512_shuffle_f32x4::<0b10_11_00_01>(line, line), 0xF0F0);
    butterfly(line, _mm512_shuffle_f32x4::<0b01_00_11_10>(line, line), 0xFF00)
}

/// The butterflies of distance `D` lines, of the first `N`.
#[inline]
#[target_feature(enable = "avx512f")]
fn across<const N: usize, const D: usize>(x: &mut [__m512; HELD]) {
    if D < N {
        for i in 0..N {
            if i & D == 0 {
                (x[i], x[i | D]) = sum_and_difference(x[i], x[i | D]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum_and_difference(a: __m512, b: __m512) -> (__m512, __m512) {
    (_mm512_add_ps(a, b), _mm512_sub_ps(a, b))
}

/// The butterflies between blocks of [`HELD`] lines: two distances in one pass over memory where there are two.
#[inline]
#[target_feature(enable = "avx512f")]
fn beyond(lines: &mut [[f32; LANES]]) {
    let mut distance = HELD;
    while 2 * distance < lines.len() {
        for four in lines.chunks_exact_mut(4 * distance) {
            let (low, high) = four.split_at_mut(2 * distance);
            let (a, b) = low.split_at_mut(distance);
            let (c, d) = high.split_at_mut(distance);
            for ((a, b), (c, d)) in a.iter_mut().zip(b).zip(c.iter_mut().zip(d)) {
                let (p, q) = sum_and_difference(load(a), load(b));
                let (r, s) = sum_and_difference(load(c), load(d));
                let ((w, y), (x, z)) = (sum_and_difference(p, r), sum_and_difference(q, s));
                store(w, a);
                store(x, b);
                store(y, c);
                store(z, d);
            }
        }
        distance *= 4;
    }
    if distance < lines.len() {
        let (low, high) = lines.split_at_mut(distance);
        for (low, high) in low.iter_mut().zip(high) {
            let (a, b) = sum_and_difference(load(low), load(high));
            store(a, low);
            store(b, high);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats; no alignment is asked for.
    unsafe { _mm512_loadu_ps(line.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512, line: &mut [f32; LANES]) {
    // SAFETY: 16 floats; no alignment is asked for.
    unsafe { _mm512_storeu_ps(line.as_mut_ptr(), x) };
}

/// `partners + x`, or minus x where `high` has ones: the product with ±1 rounds nothing.
#[inline]
#[target_feature(enable = "avx512f")]
fn butterfly(x: __m512, partners: __m512, high: u16) -> __m512 {
    let signs = _mm512_mask_blend_ps(high, _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
    _mm512_fmadd_ps(x, signs, partners)
}
