//! Tiles with AVX-512: a permutation spreads 64 values, VNNI multiplies 64 of them.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_NLT_UQ, _mm_cvtsi32_si128, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_ps, _mm512_load_si512, _mm512_loadu_si512,
    _mm512_mask_blend_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_srl_epi16, _mm512_store_si512,
    _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16, _mm512_unpacklo_epi8,
    _mm512_unpacklo_epi16,
};

use super::{CODES, Line, Quad, Reach, STEP, Terms};

/// Registers of a tile.
const WIDE: usize = 4;

/// Vectors that meet a tile together: sixteen sums, which do not wait for each other.
const ABREAST: usize = 4;

/// As [`spread`](super::spread).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) fn spread(lines: &[Line], bits: u32, weights: &[u8; 256]) -> [Quad; 2] {
    let [a, b, c, d, e, f, g, h]: [__m512i; STEP] = if bits == 8 {
        let quarters = weights.as_chunks().0;
        let table: [__m512i; 4] = std::array::from_fn(|i| load(&quarters[i]));
        std::array::from_fn(|t| look_up(load(&lines[t]), &table))
    } else {
        // An index has 6 bits. With the weights repeated, those that belong to other values do not matter.
        let table: Line = std::array::from_fn(|i| weights[i & ((1 << bits) - 1)]);
        let table = load(&table);
        std::array::from_fn(|t| {
            let bit = t * bits as usize;
            let line = load(&lines[bit / 8]);
            let index = _mm512_srl_epi16(line, _mm_cvtsi32_si128((bit % 8) as i32));
            _mm512_permutexvar_epi8(index, table)
        })
    };
    [quad(a, b, c, d), quad(e, f, g, h)]
}

/// Four coordinates of all codes, those of a code side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn quad(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> Quad {
    let (low, low_next) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
    let (high, high_next) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
    let ordered = [
        _mm512_unpacklo_epi16(low, low_next),
        _mm512_unpackhi_epi16(low, low_next),
        _mm512_unpacklo_epi16(high, high_next),
        _mm512_unpackhi_epi16(high, high_next),
    ];
    let mut quad = Quad([[0; 4]; CODES]);
    for (to, register) in quad.0.as_chunks_mut::<16>().0.iter_mut().zip(ordered) {
        // SAFETY: 64 bytes, a quarter of what is aligned to 64.
        unsafe { _mm512_store_si512(to.as_mut_ptr().cast(), register) };
    }
    quad
}

/// 64 entries of a table of 256: the top bit of an index picks the half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn look_up(line: __m512i, table: &[__m512i; 4]) -> __m512i {
    let low = _mm512_permutex2var_epi8(table[0], line, table[1]);
    let high = _mm512_permutex2var_epi8(table[2], line, table[3]);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(line), low, high)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn load(line: &Line) -> __m512i {
    // SAFETY: 64 bytes; no alignment is asked for.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// As [`Tile::meet`](super::Tile::meet), for shapes that were checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) fn meet(
    quads: &[Quad],
    vectors: &[i32],
    terms: &Terms,
    reaches: &[Reach],
    products: &mut [[i32; CODES]],
    candidates: &mut [u64],
) {
    let width = quads.len();
    let mut first = 0;
    while first < reaches.len() {
        let abreast = if first + ABREAST <= reaches.len() { ABREAST } else { 1 };
        let (now, until) = (first * width..(first + abreast) * width, first + abreast);
        let (vectors, reaches) = (&vectors[now], &reaches[first..until]);
        let (products, candidates) = (&mut products[first..until], &mut candidates[first..until]);
        if abreast == ABREAST {
            meet_of::<ABREAST>(quads, vectors, terms, reaches, products, candidates);
        } else {
            meet_of::<1>(quads, vectors, terms, reaches, products, candidates);
        }
        first = until;
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn meet_of<const V: usize>(
    quads: &[Quad],
    vectors: &[i32],
    terms: &Terms,
    reaches: &[Reach],
    products: &mut [[i32; CODES]],
    candidates: &mut [u64],
) {
    let width = quads.len();
    let vectors: [&[i32]; V] = std::array::from_fn(|v| &vectors[v * width..][..width]);
    let mut sums = [[_mm512_setzero_si512(); WIDE]; V];
    for (t, quad) in quads.iter().enumerate() {
        let codes: [__m512i; WIDE] = std::array::from_fn(|i| load_quarter(quad, i));
        for (sums, vector) in sums.iter_mut().zip(&vectors) {
            let four = _mm512_set1_epi32(vector[t]);
            for (sum, codes) in sums.iter_mut().zip(codes) {
                *sum = _mm512_dpbusd_epi32(*sum, codes, four);
            }
        }
    }
    for (v, sums) in sums.into_iter().enumerate() {
        let Reach { of_product, offset, of_width, least } = reaches[v];
        let [of_product, offset, of_width, least] =
            [of_product, offset, of_width, least].map(|number| _mm512_set1_ps(number));
        let mut found = 0;
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: 16 of 64 numbers; no alignment is asked for.
            unsafe { _mm512_storeu_si512(products[v][16 * i..][..16].as_mut_ptr().cast(), sum) };
            let inner = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), of_product, offset);
            let (constant, width) = (sixteen(&terms.constant, i), sixteen(&terms.width, i));
            let rest = _mm512_fmadd_ps(width, of_width, constant);
            let most = _mm512_fmadd_ps(sixteen(&terms.factor, i), inner, rest);
            let marks = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(most, least);
            found |= u64::from(marks) << (16 * i);
        }
        candidates[v] = found;
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_quarter(quad: &Quad, i: usize) -> __m512i {
    // SAFETY: 64 bytes, a quarter of what is aligned to 64.
    unsafe { _mm512_load_si512(quad.0[16 * i..][..16].as_ptr().cast()) }
}

/// Of an array that [`Terms`] align to 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen(numbers: &[f32; CODES], i: usize) -> __m512 {
    // SAFETY: 16 floats, a quarter of one of the arrays of `Terms`, each of which begins at a multiple of 64 bytes.
    unsafe { _mm512_load_ps(numbers[16 * i..][..16].as_ptr()) }
}
