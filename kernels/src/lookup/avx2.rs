//! Scans with AVX2: a shuffle looks 32 codes of 4 bits up in a table of u8.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_adds_epu8, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::Line;
use super::filter::{self, REJECTED};

/// Sets the bits of the codes whose saturated sum is below [`REJECTED`], for 4-bit codes.
#[target_feature(enable = "avx2")]
pub(super) fn candidates(tables: &[[[u8; 16]; 2]], lines: &[Line], masks: &mut [u64]) {
    let width = tables.len();
    let (pairs, last) = masks.as_chunks_mut::<2>();
    let (paired, rest) = lines.split_at(2 * pairs.len() * width);
    for (lines, masks) in paired.chunks_exact(2 * width).zip(pairs) {
        candidates_of(tables, lines, masks);
    }
    for (lines, masks) in rest.chunks_exact(width).zip(last.as_chunks_mut::<1>().0) {
        candidates_of(tables, lines, masks);
    }
}

/// A table is loaded once for N blocks, and their chains of additions do not wait for each other.
#[inline]
#[target_feature(enable = "avx2")]
fn candidates_of<const N: usize>(tables: &[[[u8; 16]; 2]], lines: &[Line], masks: &mut [u64; N]) {
    assert_eq!(lines.len(), N * tables.len());
    let nibble = _mm256_set1_epi8(15);
    let mut acc = [[_mm256_setzero_si256(); 2]; N];
    for (j, [low, high]) in tables.iter().enumerate() {
        let (low, high) = (broadcast(low), broadcast(high));
        for (b, acc) in acc.iter_mut().enumerate() {
            let (halves, _) = lines[b * tables.len() + j].as_chunks();
            for (acc, half) in acc.iter_mut().zip(halves) {
                let line = load(half);
                let low_index = _mm256_and_si256(line, nibble);
                let high_index = _mm256_and_si256(_mm256_srli_epi16::<4>(line), nibble);
                *acc = _mm256_adds_epu8(*acc, _mm256_shuffle_epi8(low, low_index));
                *acc = _mm256_adds_epu8(*acc, _mm256_shuffle_epi8(high, high_index));
            }
        }
    }
    for (mask, [first, second]) in masks.iter_mut().zip(acc) {
        *mask = u64::from(below_rejected(first)) | u64::from(below_rejected(second)) << 32;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn below_rejected(sums: __m256i) -> u32 {
    let rejected = _mm256_cmpeq_epi8(sums, _mm256_set1_epi8(REJECTED as i8));
    !_mm256_movemask_epi8(rejected) as u32
}

/// A table of 16, twice.
#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(table: &[u8; 16]) -> __m256i {
    // SAFETY: the table is 16 bytes; the load needs no alignment.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_broadcastsi128_si256(table)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(half: &[u8; 32]) -> __m256i {
    // SAFETY: half a line is 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

/// As [`filter::round_down`], compiled for these registers.
#[target_feature(enable = "avx2")]
pub(super) fn round_down<const E: usize>(
    tables: &[[f32; E]],
    most: &[f32],
    scale: f32,
    rounded: &mut [[u8; E]],
) {
    filter::round_down(tables, most, scale, rounded);
}

/// As [`filter::extremes`], compiled for these registers.
#[target_feature(enable = "avx2")]
pub(super) fn extremes<const E: usize>(table: &[f32; E]) -> Option<[f32; 2]> {
    filter::extremes(table)
}
