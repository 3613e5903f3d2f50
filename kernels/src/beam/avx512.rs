//! Which scores are good enough, without a branch per line of them.

use std::arch::x86_64::{
    _CMP_GE_OQ, _mm512_add_epi32, _mm512_cmp_ps_mask, _mm512_load_ps, _mm512_maskz_compress_epi32,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_storeu_si512,
};

use super::{LANES, Line};

/// As [`Path::reaching`](super::Path::reaching).
#[target_feature(enable = "avx512f")]
pub(super) fn reaching<'a>(
    codes: impl Iterator<Item = (&'a [Line], &'a Line)>,
    reached: f32,
    places: &mut [u32],
) -> usize {
    let reached = _mm512_set1_ps(reached);
    let reaching = |line: &Line| {
        // SAFETY: 16 floats, aligned to 64 bytes.
        let scores = unsafe { _mm512_load_ps(line.0.as_ptr()) };
        _mm512_cmp_ps_mask::<_CMP_GE_OQ>(scores, reached)
    };
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let (mut first, mut found) = (0, 0);
    for (scores, maxima) in codes {
        // Nothing of most codes of a wide beam is good enough.
        if reaching(maxima) == 0 {
            first += scores.len() * LANES;
            continue;
        }
        for line in scores {
            let good = reaching(line);
            let these = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
            // No more were found than scores looked at.
            let to: &mut [u32; LANES] =
                places[found..].first_chunk_mut().expect("a place per score");
            let these = _mm512_maskz_compress_epi32(good, these);
            // SAFETY: 16 numbers; no alignment is asked for.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), these) };
            found += good.count_ones() as usize;
            first += LANES;
        }
    }
    found
}
