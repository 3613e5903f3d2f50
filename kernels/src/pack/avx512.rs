//! Thirty-two values at a time, four to a 64-bit lane, with AVX-512 VBMI: the bytes of every lane
//! come from or go to their places by one permutation, whose indices depend on the width alone.
//!
//! `cargo run --release -p vq-kernels --example speed` measures it.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi32_si128, _mm512_add_ps, _mm512_and_si512, _mm512_cvtepi32_ps,
    _mm512_loadu_epi8, _mm512_loadu_ps, _mm512_mask_storeu_epi8, _mm512_mask_storeu_epi16,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_epi16,
    _mm512_maskz_loadu_ps, _mm512_maskz_permutexvar_epi8, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_multishift_epi64_epi8, _mm512_or_si512, _mm512_permutexvar_epi8, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setr_epi32, _mm512_setr_epi64, _mm512_sllv_epi64,
    _mm512_srl_epi32, _mm512_srl_epi64, _mm512_srlv_epi32, _mm512_storeu_epi8, _mm512_storeu_ps,
    _mm512_stream_ps, _mm512_ternarylogic_epi64,
};

use super::BLOCK;

/// Where the bits of the 32 values of one width are.
#[repr(align(64))]
struct Layout {
    /// Of each byte of the eight lanes: its place among the packed bytes.
    window: [u8; 64],
    /// Of each byte of the unpacked values: the first of its bits in the lane.
    field: [u8; 64],
    /// Of each byte of 16 lanes of 32 bits, one value in each: its place among the packed bytes.
    wide: [u8; 64],
    /// Of each packed byte: its place in an even lane, and in an odd one.
    lanes: [[u8; 64]; 2],
    /// The packed bytes that have bits in an even lane, and in an odd one.
    has: [u64; 2],
}

static LAYOUTS: [Layout; 17] = {
    let mut layouts = [const { layout(1) }; 17];
    let mut bits = 2;
    while bits <= 16 {
        layouts[bits] = layout(bits);
        bits += 1;
    }
    layouts
};

const fn layout(bits: usize) -> Layout {
    let mut layout =
        Layout { window: [0; 64], field: [0; 64], wide: [0; 64], lanes: [[0; 64]; 2], has: [0; 2] };
    let mut i = 0;
    while i < 64 {
        let (lane, byte) = (i / 8, i % 8);
        let first = lane * 4 * bits;
        layout.window[i] = (first / 8 + byte) as u8;
        layout.field[i] = ((first % 8 + byte / 2 * bits + byte % 2 * 8) % 64) as u8;
        layout.wide[i] = (i / 4 * bits / 8 + i % 4) as u8;
        if i < 4 * bits {
            // Every two lanes make `bits` bytes; the second begins in the middle of them.
            let (pair, byte) = (i / bits, i % bits);
            if byte < bits.div_ceil(2) {
                layout.lanes[0][i] = (pair * 16 + byte) as u8;
                layout.has[0] |= 1 << i;
            }
            if byte >= bits / 2 {
                layout.lanes[1][i] = (pair * 16 + 8 + byte - bits / 2) as u8;
                layout.has[1] |= 1 << i;
            }
        }
        i += 1;
    }
    layout
}

/// As [`pack`](super::pack) for lengths that were checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn pack(values: &[u16], bits: u32, mut out: &mut [u8]) {
    let layout = &LAYOUTS[bits as usize];
    let (even, odd) = (load(&layout.lanes[0]), load(&layout.lanes[1]));
    // The bits of odd lanes begin in the middle of a byte when the width is odd.
    let half = i64::from(bits % 2 * 4);
    let shift = _mm512_setr_epi64(0, half, 0, half, 0, half, 0, half);
    let low = |bits: u32| u64::MAX >> (64 - bits);
    let each = _mm512_set1_epi16(low(bits) as i16);
    let first_of_two = _mm512_set1_epi32(low(bits) as i32);
    let first_two = _mm512_set1_epi64(low(2 * bits) as i64);
    let to_pairs = _mm_cvtsi32_si128(16 - bits as i32);
    let to_fours = _mm_cvtsi32_si128(32 - 2 * bits as i32);
    for values in values.chunks(BLOCK) {
        let words = _mm512_and_si512(load_values(values), each);
        // 0xCA: where the first has a one the second, otherwise the third.
        let pairs = _mm512_srl_epi32(words, to_pairs);
        let pairs = _mm512_ternarylogic_epi64::<0xCA>(first_of_two, words, pairs);
        let fours = _mm512_srl_epi64(pairs, to_fours);
        let fours = _mm512_ternarylogic_epi64::<0xCA>(first_two, pairs, fours);
        let fours = _mm512_sllv_epi64(fours, shift);
        let bytes = _mm512_or_si512(
            _mm512_maskz_permutexvar_epi8(layout.has[0], even, fours),
            _mm512_maskz_permutexvar_epi8(layout.has[1], odd, fours),
        );
        // Bytes beyond the 32 values are overwritten by those that follow.
        store(bytes, out);
        let width = out.len().min(4 * bits as usize);
        out = &mut out[width..];
    }
}

/// As [`unpack`](super::unpack) for lengths that were checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn unpack(mut bytes: &[u8], bits: u32, values: &mut [u16]) {
    let layout = &LAYOUTS[bits as usize];
    let (window, field) = (load(&layout.window), load(&layout.field));
    let each = _mm512_set1_epi16((u64::MAX >> (64 - bits)) as i16);
    for values in values.chunks_mut(BLOCK) {
        let fours = _mm512_permutexvar_epi8(window, load_some(bytes));
        let words = _mm512_and_si512(_mm512_multishift_epi64_epi8(field, fours), each);
        store_values(words, values);
        bytes = &bytes[bytes.len().min(4 * bits as usize)..];
    }
}

/// One row of [`unpack_scaled`](super::unpack_scaled), of lengths that were checked, without its fence.
/// More bytes may follow those of the row.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn unpack_scaled(
    bytes: &[u8],
    bits: u32,
    base: &[f32],
    step: &[f32],
    out: &mut [f32],
    past_caches: bool,
) {
    let window = load(&LAYOUTS[bits as usize].wide);
    // Lane i of 16 begins at bit i·bits.
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let begins = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(bits as i32));
    let shifts = _mm512_and_si512(begins, _mm512_set1_epi32(7));
    let each = _mm512_set1_epi32((u32::MAX >> (32 - bits)) as i32);
    let values = |bytes: &[u8]| {
        let here = _mm512_permutexvar_epi8(window, load_some(bytes));
        _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srlv_epi32(here, shifts), each))
    };
    let scale = |values, base, step| _mm512_add_ps(base, _mm512_mul_ps(step, values));
    let width = 2 * bits as usize;
    let stream = past_caches && out.as_ptr().addr().is_multiple_of(64);
    let (whole, out_last) = out.as_chunks_mut::<16>();
    let (base, base_last) = base.as_chunks::<16>();
    let (step, step_last) = step.as_chunks::<16>();
    let mut at = 0;
    for ((out, base), step) in whole.iter_mut().zip(base).zip(step) {
        // SAFETY: 16 floats; no alignment is asked for.
        let base = unsafe { _mm512_loadu_ps(base.as_ptr()) };
        // SAFETY: 16 floats; no alignment is asked for.
        let step = unsafe { _mm512_loadu_ps(step.as_ptr()) };
        let scaled = scale(values(&bytes[at..]), base, step);
        if stream {
            // SAFETY: 16 floats, a multiple of 64 bytes after a start that is one.
            unsafe { _mm512_stream_ps(out.as_mut_ptr(), scaled) };
        } else {
            // SAFETY: 16 floats; no alignment is asked for.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), scaled) };
        }
        at += width;
    }
    if !out_last.is_empty() {
        let mask = (1 << out_last.len()) - 1;
        // SAFETY: the mask has a one for each of the fewer than 16 floats; no others are read.
        let base = unsafe { _mm512_maskz_loadu_ps(mask, base_last.as_ptr()) };
        // SAFETY: as many as `base_last`.
        let step = unsafe { _mm512_maskz_loadu_ps(mask, step_last.as_ptr()) };
        let scaled = scale(values(&bytes[at..]), base, step);
        // SAFETY: the mask has a one for each of the floats; no others are written.
        unsafe { _mm512_mask_storeu_ps(out_last.as_mut_ptr(), mask, scaled) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: `bytes` is 64 bytes; no alignment is asked for.
    unsafe { _mm512_loadu_epi8(bytes.as_ptr().cast()) }
}

/// The first 64 of `bytes`, or all and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_some(bytes: &[u8]) -> __m512i {
    match bytes.first_chunk() {
        Some(bytes) => load(bytes),
        // SAFETY: the mask has a one for each of the fewer than 64 bytes; no others are read.
        None => unsafe { _mm512_maskz_loadu_epi8((1 << bytes.len()) - 1, bytes.as_ptr().cast()) },
    }
}

/// At most 32 values, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_values(values: &[u16]) -> __m512i {
    // SAFETY: the mask has a one for each of the first 32 values at most; no others are read.
    unsafe { _mm512_maskz_loadu_epi16(first(values.len()), values.as_ptr().cast()) }
}

/// To the first 32 of `values`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_values(words: __m512i, values: &mut [u16]) {
    let mask = first(values.len());
    // SAFETY: the mask has a one for each of the first 32 values at most; no others are written.
    unsafe { _mm512_mask_storeu_epi16(values.as_mut_ptr().cast(), mask, words) }
}

fn first(values: usize) -> u32 {
    if values < BLOCK { (1 << values) - 1 } else { u32::MAX }
}

/// To the first 64 of `out`, or to all.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(bytes: __m512i, out: &mut [u8]) {
    match out.first_chunk_mut::<64>() {
        // SAFETY: `out` is 64 bytes; no alignment is asked for.
        Some(out) => unsafe { _mm512_storeu_epi8(out.as_mut_ptr().cast(), bytes) },
        // SAFETY: the mask has a one for each of the fewer than 64 bytes; no others are written.
        None => unsafe {
            _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), (1 << out.len()) - 1, bytes);
        },
    }
}
