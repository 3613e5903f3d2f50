//! The filter's steps with AVX-512 VNNI: four products of bytes and their sum per lane.
//!
//! Eight vectors at a time keep 16 accumulators and 8 maxima in registers. `cargo run --release -p vq-kernels --example speed` measures it.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_GE_OQ, _mm_storeu_si128, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_load_ps, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{BLOCK, Block, Bytes, GROUP, Group, Head, PANEL, Pair, QUAD, Quad, Size, TILE};

/// As [`Bytes::collect`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn collect(
    block: &Block<'_>,
    group: &Group<'_>,
    count: usize,
    scores: &mut [f32],
    best: &mut [f32; GROUP],
    pairs: &mut Vec<Pair>,
) {
    let mut first = 0;
    while first < count {
        first += match count - first {
            TILE.. => tile::<TILE>(block, group, first, scores, best, pairs),
            4.. => tile::<4>(block, group, first, scores, best, pairs),
            _ => tile::<1>(block, group, first, scores, best, pairs),
        };
    }
}

/// R vectors from `first` on; answers R.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const R: usize>(
    block: &Block<'_>,
    group: &Group<'_>,
    first: usize,
    scores: &mut [f32],
    best: &mut [f32; GROUP],
    pairs: &mut Vec<Pair>,
) -> usize {
    let quads = block.bytes.len() / block.heads.len();
    let x: [&[[u8; QUAD]]; R] = std::array::from_fn(|i| {
        group.bytes[(first + i) * quads * QUAD..][..quads * QUAD].as_chunks().0
    });
    let scores = &mut scores.as_chunks_mut::<{ BLOCK * PANEL }>().0[..R];
    let mut maxima = [_mm512_set1_ps(f32::NEG_INFINITY); R];
    for (p, (head, bytes)) in block.heads.iter().zip(block.bytes.chunks_exact(quads)).enumerate() {
        let sums = products(&x, head, bytes);
        let bias = [load_floats(&head.bias, 0), load_floats(&head.bias, 16)];
        for i in 0..R {
            let scale = _mm512_set1_ps(group.scale[first + i]);
            for (half, bias) in bias.into_iter().enumerate() {
                let score = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i][half]), scale, bias);
                maxima[i] = _mm512_max_ps(score, maxima[i]);
                let to: &mut [f32; 16] =
                    scores[i][p * PANEL + 16 * half..].first_chunk_mut().expect("inside a block");
                // SAFETY: `to` is 16 floats; no alignment is asked for.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), score) };
            }
        }
    }
    for i in 0..R {
        let vector = first + i;
        if group.slack[vector] == f32::INFINITY {
            continue;
        }
        best[vector] = best[vector].max(_mm512_reduce_max_ps(maxima[i]));
        let floor = _mm512_set1_ps(best[vector] - group.slack[vector]);
        let rows = block.heads.len() * PANEL;
        for (c, scores) in scores[i][..rows].as_chunks::<PANEL>().0.iter().enumerate() {
            let [low, high] = [0, 16].map(|from| half(scores, from));
            let low = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(low, floor);
            let high = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(high, floor);
            let mut bits = u32::from(low) | u32::from(high) << 16;
            while bits != 0 {
                let lane = bits.trailing_zeros();
                bits &= bits - 1;
                let row = block.first + (c * PANEL) as u32 + lane;
                let score = scores[lane as usize];
                pairs.push(Pair { vector: vector as u32, row, score });
            }
        }
    }
    R
}

/// `start + Σ (q + 128)·q'` of R vectors and the 32 rows of a panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn products<const R: usize>(
    x: &[&[[u8; QUAD]]; R],
    head: &Head,
    bytes: &[Quad],
) -> [[__m512i; 2]; R] {
    for x in x {
        // Once per panel, in place of a check per element.
        assert_eq!(x.len(), bytes.len());
    }
    let mut sums = [[load_start(head, 0), load_start(head, 16)]; R];
    for (k, bytes) in bytes.iter().enumerate() {
        let (low, high) = bytes.0.split_at(64);
        // SAFETY: `low` is 64 bytes at the start of `Quad`, which is aligned to 64 bytes.
        let low = unsafe { _mm512_load_si512(low.as_ptr().cast()) };
        // SAFETY: `high` is the other 64 bytes, 64 bytes after an aligned start.
        let high = unsafe { _mm512_load_si512(high.as_ptr().cast()) };
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm512_set1_epi32(i32::from_le_bytes(x[k]));
            sums[0] = _mm512_dpbusd_epi32(sums[0], x, low);
            sums[1] = _mm512_dpbusd_epi32(sums[1], x, high);
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_start(head: &Head, from: usize) -> __m512i {
    let start: &[i32; 16] = head.start[from..].first_chunk().expect("half a panel");
    // SAFETY: `start` is 16 numbers at a multiple of 64 bytes of `Head`, which is aligned to 64.
    unsafe { _mm512_load_si512(start.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(bias: &[f32; PANEL], from: usize) -> __m512 {
    let bias: &[f32; 16] = bias[from..].first_chunk().expect("half a panel");
    // SAFETY: `bias` is 16 floats at a multiple of 64 bytes of `Head`, which is aligned to 64.
    unsafe { _mm512_load_ps(bias.as_ptr()) }
}

/// As [`super::rescore`].
#[target_feature(enable = "avx512f")]
pub(super) fn rescore(filter: &Bytes, x: &[f32], pairs: &mut [Pair]) {
    for pair in pairs {
        let (x, row, bias) = filter.of(x, *pair);
        let ((x, x_rest), (row, row_rest)) = (x.as_chunks::<16>(), row.as_chunks::<16>());
        let ((x_pairs, x_last), (row_pairs, row_last)) = (x.as_chunks::<2>(), row.as_chunks::<2>());
        let (mut even, mut odd) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for (x, row) in x_pairs.iter().zip(row_pairs) {
            even = _mm512_fmadd_ps(load(&x[0]), load(&row[0]), even);
            odd = _mm512_fmadd_ps(load(&x[1]), load(&row[1]), odd);
        }
        for (x, row) in x_last.iter().zip(row_last) {
            even = _mm512_fmadd_ps(load(x), load(row), even);
        }
        let rest = x_rest.iter().zip(row_rest).fold(bias, |sum, (x, r)| x.mul_add(*r, sum));
        pair.score = _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) + rest;
    }
}

/// As [`super::round_portable`], up to the order of the sums.
#[target_feature(enable = "avx512f")]
pub(super) fn round(x: &[f32], bytes: &mut [u8]) -> Size {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut padded = [0.0; 16];
    padded[..rest.len()].copy_from_slice(rest);
    let tail = if rest.is_empty() { &[][..] } else { std::slice::from_ref(&padded) };
    let mut largest = _mm512_setzero_ps();
    for x in chunks.iter().chain(tail) {
        // Of a NaN and a number the second is taken: a NaN shows in the norm instead.
        largest = _mm512_max_ps(_mm512_abs_ps(load(x)), largest);
    }
    let largest = _mm512_reduce_max_ps(largest);
    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
    let (scales, inverses) = (_mm512_set1_ps(scale), _mm512_set1_ps(inverse));
    let (mut norm_sq, mut error_sq) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for (x, bytes) in chunks.iter().chain(tail).zip(bytes.chunks_mut(16)) {
        let x = load(x);
        let q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverses));
        let error = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), scales, x);
        norm_sq = _mm512_fmadd_ps(x, x, norm_sq);
        error_sq = _mm512_fmadd_ps(error, error, error_sq);
        let unsigned = _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(128)));
        let mut sixteen = [0_u8; 16];
        let to = bytes.first_chunk_mut().unwrap_or(&mut sixteen);
        // SAFETY: `to` is 16 bytes; no alignment is asked for.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), unsigned) };
        if bytes.len() < 16 {
            bytes.copy_from_slice(&sixteen[..bytes.len()]);
        }
    }
    let (norm_sq, error_sq) = (_mm512_reduce_add_ps(norm_sq), _mm512_reduce_add_ps(error_sq));
    Size { largest, scale, norm_sq, error_sq }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn half(scores: &[f32; PANEL], from: usize) -> __m512 {
    load(scores[from..].first_chunk().expect("half a panel"))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; 16]) -> __m512 {
    // SAFETY: 16 floats; no alignment is asked for.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
