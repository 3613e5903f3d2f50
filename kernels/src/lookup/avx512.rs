//! Scans with AVX-512 (F, BW, VBMI): tables in registers, where one permutation is 64 look-ups.
//!
//! A table of 256 bytes is four registers; two permutations of 128 bytes each, and the top bit of a
//! code that picks between them, look 64 codes up. A table of f32 is cut into four such planes: the
//! first bytes of all entries, the second bytes, and so on. What the planes give is interleaved
//! to entries again, 16 per register, and added in f32. Scalar loads and gathers get one entry each.
//!
//! A table of 16 bytes is one register, four times over.
//!
//! `cargo run --release -p vq-kernels --example speed` measures it.

use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm512_add_ps, _mm512_adds_epu8,
    _mm512_broadcast_i32x4, _mm512_castsi512_ps, _mm512_cmpneq_epu8_mask, _mm512_cvtepi32_epi8,
    _mm512_cvttps_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_epi8,
    _mm512_min_ps, _mm512_movepi8_mask, _mm512_mul_ps, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_ps,
    _mm512_unpackhi_epi8, _mm512_unpackhi_epi16, _mm512_unpacklo_epi8, _mm512_unpacklo_epi16,
};

use super::filter::{self, REJECTED};
use super::{BLOCK, Line, Planes};

/// Blocks whose u8 sums are made at once: a table is loaded once for all of them, and their chains
/// of additions do not wait for each other.
const ABREAST: usize = 4;

/// The sums of blocks by one table per byte.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn sums(tables: &[Planes], lines: &[Line], sums: &mut [[f32; BLOCK]]) {
    let width = tables.len();
    let (pairs, last) = sums.as_chunks_mut::<2>();
    let (paired, rest) = lines.split_at(2 * pairs.len() * width);
    for (lines, sums) in paired.chunks_exact(2 * width).zip(pairs) {
        let (first, second) = lines.split_at(width);
        sums_of([first, second], tables, sums);
    }
    for (lines, sums) in rest.chunks_exact(width).zip(last.as_chunks_mut::<1>().0) {
        sums_of([lines], tables, sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn sums_of<const N: usize>(blocks: [&[Line]; N], tables: &[Planes], sums: &mut [[f32; BLOCK]; N]) {
    // The 128-bit lane l of accumulator i is the codes 16·l + 4·i and on.
    let mut acc = [[_mm512_setzero_ps(); 4]; N];
    for block in blocks {
        assert_eq!(block.len(), tables.len());
    }
    for (j, planes) in tables.iter().enumerate() {
        let lines: [__m512i; N] = std::array::from_fn(|b| load(&blocks[b][j]));
        let mut found = [[_mm512_setzero_si512(); 4]; N];
        for (p, plane) in planes.0.iter().enumerate() {
            let table = load_table(plane);
            for (line, found) in lines.iter().zip(&mut found) {
                found[p] = look_up(*line, &table);
            }
        }
        for (acc, [a, b, c, d]) in acc.iter_mut().zip(found) {
            let (low, low_next) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            let (high, high_next) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
            let entries = [
                _mm512_unpacklo_epi16(low, low_next),
                _mm512_unpackhi_epi16(low, low_next),
                _mm512_unpacklo_epi16(high, high_next),
                _mm512_unpackhi_epi16(high, high_next),
            ];
            for (acc, entry) in acc.iter_mut().zip(entries) {
                *acc = _mm512_add_ps(*acc, _mm512_castsi512_ps(entry));
            }
        }
    }
    for (acc, sums) in acc.into_iter().zip(sums) {
        store(acc, sums);
    }
}

/// Sets the bits of the codes whose saturated sum is below [`REJECTED`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn byte_candidates(tables: &[[u8; 256]], lines: &[Line], masks: &mut [u64]) {
    let width = tables.len();
    let (groups, last) = masks.as_chunks_mut::<ABREAST>();
    let (grouped, rest) = lines.split_at(ABREAST * groups.len() * width);
    for (lines, masks) in grouped.chunks_exact(ABREAST * width).zip(groups) {
        byte_candidates_of(tables, lines, masks);
    }
    for (lines, masks) in rest.chunks_exact(width).zip(last.as_chunks_mut::<1>().0) {
        byte_candidates_of(tables, lines, masks);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn byte_candidates_of<const N: usize>(tables: &[[u8; 256]], lines: &[Line], masks: &mut [u64; N]) {
    assert_eq!(lines.len(), N * tables.len());
    let mut acc = [_mm512_setzero_si512(); N];
    for (j, table) in tables.iter().enumerate() {
        let table = load_table(table);
        for (b, acc) in acc.iter_mut().enumerate() {
            let line = load(&lines[b * tables.len() + j]);
            *acc = _mm512_adds_epu8(*acc, look_up(line, &table));
        }
    }
    *masks = acc.map(|acc| below_rejected(acc));
}

/// Sets the bits of the codes whose saturated sum is below [`REJECTED`], for 4-bit codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn nibble_candidates(tables: &[[[u8; 16]; 2]], lines: &[Line], masks: &mut [u64]) {
    let width = tables.len();
    let (groups, last) = masks.as_chunks_mut::<ABREAST>();
    let (grouped, rest) = lines.split_at(ABREAST * groups.len() * width);
    for (lines, masks) in grouped.chunks_exact(ABREAST * width).zip(groups) {
        nibble_candidates_of(tables, lines, masks);
    }
    for (lines, masks) in rest.chunks_exact(width).zip(last.as_chunks_mut::<1>().0) {
        nibble_candidates_of(tables, lines, masks);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn nibble_candidates_of<const N: usize>(
    tables: &[[[u8; 16]; 2]],
    lines: &[Line],
    masks: &mut [u64; N],
) {
    assert_eq!(lines.len(), N * tables.len());
    let mut acc = [_mm512_setzero_si512(); N];
    for (j, [low, high]) in tables.iter().enumerate() {
        // A permutation of 64 bytes reads 6 bits of an index. With the table four times, the two
        // that belong to the neighbouring code do not matter.
        let (low, high) = (broadcast(low), broadcast(high));
        for (b, acc) in acc.iter_mut().enumerate() {
            let line = load(&lines[b * tables.len() + j]);
            *acc = _mm512_adds_epu8(*acc, _mm512_permutexvar_epi8(line, low));
            let line = _mm512_srli_epi16::<4>(line);
            *acc = _mm512_adds_epu8(*acc, _mm512_permutexvar_epi8(line, high));
        }
    }
    *masks = acc.map(|acc| below_rejected(acc));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn below_rejected(sums: __m512i) -> u64 {
    _mm512_cmpneq_epu8_mask(sums, _mm512_set1_epi8(REJECTED as i8))
}

/// 64 entries of a table of 256: the top bit of an index picks the half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(line: __m512i, table: &[__m512i; 4]) -> __m512i {
    let low = _mm512_permutex2var_epi8(table[0], line, table[1]);
    let high = _mm512_permutex2var_epi8(table[2], line, table[3]);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(line), low, high)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn load_table(table: &[u8; 256]) -> [__m512i; 4] {
    let (quarters, _) = table.as_chunks();
    std::array::from_fn(|i| load(&quarters[i]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// A table of 16, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn broadcast(table: &[u8; 16]) -> __m512i {
    // SAFETY: the table is 16 bytes; the load needs no alignment.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_broadcast_i32x4(table)
}

/// `acc[i]` holds four codes per 128-bit lane: lane l those from 16·l + 4·i.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn store([a, b, c, d]: [__m512; 4], sums: &mut [f32; BLOCK]) {
    let (ab, ab_high) =
        (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
    let (cd, cd_high) =
        (_mm512_shuffle_f32x4::<0b01_00_01_00>(c, d), _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d));
    let ordered = [
        _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd),
        _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_high, cd_high),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_high, cd_high),
    ];
    let (quarters, _) = sums.as_chunks_mut::<16>();
    for (quarter, values) in quarters.iter_mut().zip(ordered) {
        // SAFETY: a quarter is 16 floats; the store needs no alignment.
        unsafe { _mm512_storeu_ps(quarter.as_mut_ptr(), values) };
    }
}

/// As [`filter::round_down`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn round_down<const E: usize>(
    tables: &[[f32; E]],
    most: &[f32],
    scale: f32,
    rounded: &mut [[u8; E]],
) {
    let (scale, rejected) = (_mm512_set1_ps(scale), _mm512_set1_ps(f32::from(REJECTED)));
    for ((table, most), rounded) in tables.iter().zip(most).zip(rounded) {
        let most = _mm512_set1_ps(*most);
        for (entries, rounded) in table.as_chunks().0.iter().zip(rounded.as_chunks_mut().0) {
            let scaled = _mm512_mul_ps(_mm512_sub_ps(most, load_ps(entries)), scale);
            let scaled = _mm512_cvttps_epi32(_mm512_min_ps(scaled, rejected));
            store_bytes(_mm512_cvtepi32_epi8(scaled), rounded);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn load_ps(entries: &[f32; 16]) -> __m512 {
    // SAFETY: 16 floats; the load needs no alignment.
    unsafe { _mm512_loadu_ps(entries.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn store_bytes(bytes: __m128i, to: &mut [u8; 16]) {
    // SAFETY: 16 bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) };
}

/// As [`filter::extremes`], compiled for these registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn extremes<const E: usize>(table: &[f32; E]) -> Option<[f32; 2]> {
    filter::extremes(table)
}

/// As [`Planes::of`], compiled for these registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn planes(tables: &[[f32; 256]]) -> Vec<Planes> {
    let mut planes = Vec::with_capacity(tables.len());
    for table in tables {
        planes.push(Planes::of(table));
    }
    planes
}
