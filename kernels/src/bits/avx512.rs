//! Eight vectors of rows at a time, their ones counted by the machine.
//!
//! A plane of the query is loaded once per eight vectors, so that the loads of planes hardly count and
//! any number of planes will do. Rows of at most 32 bytes share a vector: each begins at a power of two.

use std::arch::x86_64::{
    __m512i, _mm256_storeu_si256, _mm512_add_epi64, _mm512_and_si512, _mm512_cvtepi64_epi32,
    _mm512_maskz_loadu_epi8, _mm512_maskz_permutexvar_epi8, _mm512_permutex2var_epi64,
    _mm512_popcnt_epi64, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::WIDE;

/// Bytes of a vector, which also holds `WIDE` sums.
const BYTES: usize = 64;

/// As [`Way::sums`](super::Way::sums), for shapes that were checked and a `width` that is not 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq")]
pub(super) fn sums<const DIFFER: bool>(planes: &[u8], width: usize, rows: &[u8], out: &mut [u32]) {
    match width {
        0..=8 => short::<DIFFER, 0>(planes, width, rows, out),
        9..=16 => short::<DIFFER, 1>(planes, width, rows, out),
        17..=32 => short::<DIFFER, 2>(planes, width, rows, out),
        _ => long::<DIFFER>(planes, width, rows, out),
    }
}

/// Rows of at most `8 · 2^HALVINGS` bytes, several to a vector.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq")]
fn short<const DIFFER: bool, const HALVINGS: usize>(
    planes: &[u8],
    width: usize,
    rows: &[u8],
    out: &mut [u32],
) {
    let room = 8 << HALVINGS;
    let per_vector = BYTES / room;
    let (mut of_rows, mut of_plane, mut used) = ([0; BYTES], [0; BYTES], 0);
    for t in (0..BYTES).filter(|t| t % room < width) {
        of_rows[t] = (t / room * width + t % room) as u8;
        of_plane[t] = (t % room) as u8;
        used |= 1 << t;
    }
    let (of_rows, of_plane) = (load(&of_rows), load(&of_plane));
    let mut held = [_mm512_setzero_si512(); 8];
    let planes = planes.chunks_exact(width);
    let held = &mut held[..planes.len()];
    for (held, plane) in held.iter_mut().zip(planes) {
        *held = _mm512_maskz_permutexvar_epi8(used, of_plane, load(plane));
    }
    let bytes = per_vector * width;
    let blocks = rows.chunks(WIDE * bytes).zip(out.chunks_mut(WIDE * per_vector));
    for (rows, out) in blocks {
        let mut vectors = [_mm512_setzero_si512(); WIDE];
        if rows.len() == WIDE * bytes {
            // One mask for all loads.
            for (vector, rows) in vectors.iter_mut().zip(rows.chunks_exact(bytes)) {
                *vector = load(rows);
            }
        } else {
            for (vector, rows) in vectors.iter_mut().zip(rows.chunks(bytes)) {
                *vector = load(rows);
            }
        }
        for vector in &mut vectors {
            *vector = _mm512_maskz_permutexvar_epi8(used, of_rows, *vector);
        }
        let mut sums = [_mm512_setzero_si512(); WIDE];
        for plane in held.iter().rev() {
            count::<DIFFER>(&mut sums, &vectors, *plane);
        }
        store(halved::<HALVINGS>(sums), out);
    }
}

/// Rows of any length, vector after vector, eight rows side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vpopcntdq")]
fn long<const DIFFER: bool>(planes: &[u8], width: usize, rows: &[u8], out: &mut [u32]) {
    let n = out.len();
    for (i, out) in out.chunks_mut(WIDE).enumerate() {
        // The last row stands in for those that would follow it.
        let mut side_by_side = [rows; WIDE];
        for (r, row) in side_by_side.iter_mut().enumerate() {
            *row = &rows[(i * WIDE + r).min(n - 1) * width..][..width];
        }
        let mut sums = [_mm512_setzero_si512(); WIDE];
        for from in (0..width).step_by(BYTES) {
            let part = from..width.min(from + BYTES);
            let mut vectors = [_mm512_setzero_si512(); WIDE];
            for (vector, row) in vectors.iter_mut().zip(side_by_side) {
                *vector = load(&row[part.clone()]);
            }
            let mut part_sums = [_mm512_setzero_si512(); WIDE];
            for plane in planes.chunks_exact(width).rev() {
                count::<DIFFER>(&mut part_sums, &vectors, load(&plane[part.clone()]));
            }
            for (sum, part) in sums.iter_mut().zip(part_sums) {
                *sum = _mm512_add_epi64(*sum, part);
            }
        }
        store(halved::<3>(sums), out);
    }
}

/// `sums ← 2 · sums + |vectors ∘ plane|`, the ones counted in each word of 64 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn count<const DIFFER: bool>(
    sums: &mut [__m512i; WIDE],
    vectors: &[__m512i; WIDE],
    plane: __m512i,
) {
    for (sum, vector) in sums.iter_mut().zip(vectors) {
        let bits = if DIFFER {
            _mm512_xor_si512(*vector, plane)
        } else {
            _mm512_and_si512(*vector, plane)
        };
        *sum = _mm512_add_epi64(_mm512_add_epi64(*sum, *sum), _mm512_popcnt_epi64(bits));
    }
}

/// Adds neighbours, `HALVINGS` times; what remains stands in order in the first vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn halved<const HALVINGS: usize>(mut sums: [__m512i; WIDE]) -> [__m512i; WIDE] {
    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    for halving in 0..HALVINGS {
        for i in 0..WIDE >> (halving + 1) {
            let (a, b) = (sums[2 * i], sums[2 * i + 1]);
            let even = _mm512_permutex2var_epi64(a, even, b);
            sums[i] = _mm512_add_epi64(even, _mm512_permutex2var_epi64(a, odd, b));
        }
    }
    sums
}

/// As many sums as `out` has, which are no more than 64.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(sums: [__m512i; WIDE], out: &mut [u32]) {
    let (whole, rest) = out.as_chunks_mut::<WIDE>();
    for (sums, out) in sums.iter().zip(whole.iter_mut()) {
        put(*sums, out);
    }
    if !rest.is_empty() {
        let mut all = [0; WIDE];
        put(sums[whole.len()], &mut all);
        rest.copy_from_slice(&all[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn put(sums: __m512i, out: &mut [u32; WIDE]) {
    let sums = _mm512_cvtepi64_epi32(sums);
    // SAFETY: `out` is 32 bytes; no alignment is asked for.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
}

/// The first 64 bytes, or all and zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &[u8]) -> __m512i {
    let there = !0_u64 >> (BYTES - bytes.len().clamp(1, BYTES));
    let there = if bytes.is_empty() { 0 } else { there };
    // SAFETY: the mask has no more bits than `bytes` has bytes, and others are not touched.
    unsafe { _mm512_maskz_loadu_epi8(there, bytes.as_ptr().cast()) }
}
