//! Integer scores with AVX-512 VNNI: neighbouring lanes of a register hold neighbouring *vectors*, so
//! that the best and the second best of the rows stay in registers lane by lane, and nothing is
//! summed across lanes. `cargo run --release -p vq-kernels --example speed` measures it.

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _CMP_GT_OQ, _CMP_LT_OQ, _CMP_NGT_UQ, _MM_HINT_T1, _mm_maskz_loadu_ps,
    _mm_prefetch, _mm_setzero_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_andnot_si512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps128_ps512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cmpgt_epi32_mask, _mm512_cvtepi32_ps,
    _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_i32gather_epi32,
    _mm512_insertf32x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_epi16,
    _mm512_mask_max_ps, _mm512_mask_mov_epi32, _mm512_mask_storeu_epi32,
    _mm512_maskz_compress_epi32, _mm512_max_epi32, _mm512_max_ps, _mm512_min_epi32, _mm512_min_ps,
    _mm512_mul_ps, _mm512_reduce_max_ps, _mm512_rsqrt14_ps, _mm512_set_epi32, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};
use std::ops::Range;

use ndarray::ArrayView2;

use super::amx::Amx;
use super::fours::Fours;
use super::{Int16Panels, Lanes, Near, RowDistances, ScoreError, TILE, Tile, WORD};
use crate::TopK;
use crate::centre::Centre;

/// Vectors per register.
pub(super) const LANES: usize = 16;

/// Registers of vectors that meet a row at a time: with two rows, eight independent sums.
pub(super) const WIDE: usize = 4;

/// Rows that are scanned between two looks at what is good enough.
const ROWS: usize = 256;

/// Integer scores of `$r` rows: products!(pairs, registers, rows; [row, …], vectors).
///
/// A macro: a function that many call is not always inlined, and then sums and vectors pass through
/// memory, which takes longer than the products of few dimensions.
macro_rules! products {
    ($p:expr, $v:expr, $r:expr; $rows:expr, $x:expr) => {
        products!(add_products, $p, $v, $r; $rows, $x)
    };
    ($add:ident, $p:expr, $v:expr, $r:expr; $rows:expr, $x:expr) => {{
        let (rows, x): ([&[i32]; $r], &[[__m512i; $v]]) = ($rows, $x);
        let mut sums = [[_mm512_setzero_si512(); $v]; $r];
        let mut row_pairs: [&[i32]; $r] = [&[]; $r];
        // Once per row, in place of a check per element.
        let pairs = if $p == 0 { x.len() } else { $p };
        let x = &x[..pairs];
        for r in 0..$r {
            let (bias, pairs) = rows[r].split_first().expect("a row has a bias");
            sums[r] = [_mm512_set1_epi32(*bias); $v];
            row_pairs[r] = &pairs[..x.len()];
        }
        for p in 0..pairs {
            for r in 0..$r {
                let row = _mm512_set1_epi32(row_pairs[r][p]);
                for v in 0..$v {
                    sums[r][v] = $add(sums[r][v], x[p][v], row);
                }
            }
        }
        sums
    }};
}

pub(super) use products;

/// Integer scores of a row of few pairs: score!(row; name = a pair of each of 16 vectors, at which byte of
/// the row its pair is; …).
///
/// The row stays in memory: a number of it that is loaded takes a register, and the vectors leave none.
macro_rules! score {
    ($row:expr; $($name:ident = $x:expr, $at:literal);*) => {{
        let score: __m512i;
        // SAFETY: a row is a bias and at least these pairs; registers in, a register out.
        unsafe {
        asm!(
            "vpbroadcastd {score}, dword ptr [{row}]",
            $(concat!(
                "vpdpwssd {score}, {", stringify!($name), "}, dword ptr [{row} + ", $at, "]{{1to16}}",
            ),)*
            row = in(reg) $row.as_ptr(),
            score = out(zmm_reg) score,
            $($name = in(zmm_reg) $x,)*
            options(pure, readonly, nostack, preserves_flags),
        );
        }
        score
    }};
}

/// As [`Int16Panels::decide`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn decide(
    int16: &Int16Panels,
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    index: &mut [u32],
    open: &mut Vec<u32>,
) {
    // The number of pairs is known when compiled where that pays.
    match int16.dim.div_ceil(2) {
        1 => decide_all::<1>(int16, centre, x, index, open),
        2 => decide_all::<2>(int16, centre, x, index, open),
        3 => decide_all::<3>(int16, centre, x, index, open),
        4 => decide_all::<4>(int16, centre, x, index, open),
        5 => decide_all::<5>(int16, centre, x, index, open),
        6 => decide_all::<6>(int16, centre, x, index, open),
        8 => decide_all::<8>(int16, centre, x, index, open),
        _ => decide_all::<0>(int16, centre, x, index, open),
    }
}

/// `P` is the number of pairs of dimensions, or 0 where that is known only when running.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn decide_all<const P: usize>(
    int16: &Int16Panels,
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    index: &mut [u32],
    open: &mut Vec<u32>,
) {
    let unknown = if P == 0 { int16.dim.div_ceil(2) } else { 0 };
    let mut wide = vec![[_mm512_setzero_si512(); WIDE]; unknown];
    let mut narrow = vec![[_mm512_setzero_si512(); 1]; unknown];
    let mut first = 0;
    while first + WIDE * LANES <= x.nrows() {
        tile::<P, WIDE>(int16, centre, x, first, index, &mut wide, open);
        first += WIDE * LANES;
    }
    while first < x.nrows() {
        tile::<P, 1>(int16, centre, x, first, index, &mut narrow, open);
        first += LANES;
    }
}

/// `V·16` vectors from `first` on, or as many as there are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile<const P: usize, const V: usize>(
    int16: &Int16Panels,
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    first: usize,
    index: &mut [u32],
    pairs: &mut [[__m512i; V]],
    open: &mut Vec<u32>,
) {
    let mut known = [[_mm512_setzero_si512(); V]; P];
    let pairs = if P == 0 { pairs } else { &mut known };
    let none = Sizes { norm_sq: _mm512_setzero_ps(), error_sq: _mm512_setzero_ps() };
    let mut sizes = [none; V];
    for (v, sizes) in sizes.iter_mut().enumerate() {
        let first = first + v * LANES;
        // Few dimensions lie in lines that were fetched already.
        if x.ncols() > LANES {
            fetch(x, first + V * LANES..first + (V + 1) * LANES);
        }
        *sizes = round(_mm512_set1_ps(int16.inverse), centre, x, first, pairs, v);
    }
    let best = int16.best_two::<P, V>(pairs);
    for (v, sizes) in sizes.into_iter().enumerate() {
        let first = (first + v * LANES).min(x.nrows());
        let index = &mut index[first..];
        let there = ((1_u32 << index.len().min(LANES)) - 1) as u16;
        let (rows, decided) = best.settle(int16, sizes, pairs, v);
        // SAFETY: no lane is written beyond the length of `index`.
        unsafe { _mm512_mask_storeu_epi32(index.as_mut_ptr().cast(), there, rows) };
        let mut left = there & !decided;
        while left != 0 {
            open.push(first as u32 + left.trailing_zeros());
            left &= left - 1;
        }
    }
}

/// As [`Int16Panels::round`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn round_tile(int16: &Int16Panels, x: ArrayView2<'_, f32>, tile: &mut Tile) {
    let centre = Centre::none(int16.dim);
    for v in 0..WIDE {
        let pairs = registers_mut(&mut tile.pairs);
        let sizes = round(_mm512_set1_ps(int16.inverse), &centre, x, v * LANES, pairs, v);
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(tile.norms_sq.0[v * LANES..].as_mut_ptr(), sizes.norm_sq) };
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(tile.errors_sq.0[v * LANES..].as_mut_ptr(), sizes.error_sq) };
    }
}

/// As [`Int16Panels::decide_tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn decide_tile(
    int16: &Int16Panels,
    tile: &Tile,
    list: Option<&[u32]>,
    index: &mut [u32; TILE],
) -> u64 {
    let pairs = registers(&tile.pairs);
    let rows = &int16.rows[..];
    let best = match (list, pairs.len()) {
        (None, 1) => best_two::<1, WIDE>(rows, pairs),
        (None, 2) => best_two::<2, WIDE>(rows, pairs),
        (None, 4) => best_two::<4, WIDE>(rows, pairs),
        (None, 8) => best_two::<8, WIDE>(rows, pairs),
        (None, _) => best_two::<0, WIDE>(rows, pairs),
        (Some(list), 1) => best_two_of::<1>(rows, list, pairs),
        (Some(list), 2) => best_two_of::<2>(rows, list, pairs),
        (Some(list), 4) => best_two_of::<4>(rows, list, pairs),
        (Some(list), 8) => best_two_of::<8>(rows, list, pairs),
        (Some(list), _) => best_two_of::<0>(rows, list, pairs),
    };
    let mut open = 0;
    for (v, index) in index.chunks_exact_mut(LANES).enumerate() {
        // SAFETY: 16 numbers; no alignment is asked for.
        unsafe { _mm512_storeu_si512(index.as_mut_ptr().cast(), best.index[v]) };
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            index.iter_mut().for_each(|index| *index = list[*index as usize]);
        }
        let sizes = Sizes::of(tile, v);
        let rounding = sizes.rounding(int16);
        let distance = sizes.distance(int16, best.score[v], rounding);
        let scores = (best.score[v], best.second[v]);
        let decided = sizes.decide(int16, scores, distance, rounding);
        open |= u64::from(!decided) << (v * LANES);
    }
    open
}

/// The squared distance below which a row of the tile is from none of the rows, but for −2·I.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn least_without_score(int16: &Int16Panels, rows: &Tile) -> Lanes<f32> {
    let mut least = Lanes::default();
    for (v, least) in least.0.chunks_exact_mut(LANES).enumerate() {
        let sizes = Sizes::of(rows, v);
        let slack = sizes.slack(int16, sizes.rounding(int16));
        let without = _mm512_sub_ps(sizes.norm_sq, slack);
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(least.as_mut_ptr(), without) };
    }
    least
}

/// As [`RowDistances::list`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn list(
    int16: &Int16Panels,
    around: &RowDistances,
    tile: &Tile,
    former: &[u32; TILE],
    near: &mut Near,
) {
    match tile.pairs.len() {
        1 => mark::<1>(int16, around, tile, former, &mut near.marks),
        2 => mark::<2>(int16, around, tile, former, &mut near.marks),
        4 => mark::<4>(int16, around, tile, former, &mut near.marks),
        8 => mark::<8>(int16, around, tile, former, &mut near.marks),
        _ => mark::<0>(int16, around, tile, former, &mut near.marks),
    }
    let ids = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    near.list.resize(around.tiles.len() * TILE, 0);
    let (mut length, mut row) = (0, 0);
    for marks in &near.marks {
        for v in 0..WIDE {
            let marks = (marks >> (v * LANES)) as u16;
            let rows = _mm512_add_epi32(ids, _mm512_set1_epi32(row));
            let to = &mut near.list[length..length + LANES];
            let rows = _mm512_maskz_compress_epi32(marks, rows);
            // SAFETY: 16 numbers; no alignment is asked for.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), rows) };
            length += marks.count_ones() as usize;
            row += LANES as i32;
        }
    }
    near.list.truncate(length);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn mark<const P: usize>(
    int16: &Int16Panels,
    around: &RowDistances,
    tile: &Tile,
    former: &[u32; TILE],
    marks: &mut Vec<u64>,
) {
    let pairs = registers(&tile.pairs);
    let width = 1 + pairs.len();
    let two = _mm512_set1_ps(2.0);
    // Where r is the distance of a vector from its former row and D that of another row from it, f32
    // cannot take that one for nearer if (D − r)² − r² = D² − 2·r·D is more than four times what it
    // rounds: if D² > 4·r² + 8 times that.
    let mut most_without_score = [_mm512_setzero_ps(); WIDE];
    let mut known = 0_u64;
    for (v, most) in most_without_score.iter_mut().enumerate() {
        let sizes = Sizes::of(tile, v);
        let rounding = sizes.rounding(int16);
        let slack = _mm512_add_ps(sizes.slack(int16, rounding), rounding);
        *most = _mm512_add_ps(sizes.norm_sq, slack);
        known |= u64::from(sizes.fit(int16)) << (v * LANES);
    }
    marks.clear();
    marks.resize(around.tiles.len(), 0);
    let mut first = 0;
    while let Some(&row) = former.get(first) {
        // The vectors of one row.
        let more = former[first..].iter().take_while(|next| **next == row).count();
        let these = (u64::MAX >> (TILE - more)) << first;
        first += more;
        let row = &int16.rows[row as usize * width..][..width];
        let [scores] = products!(P, WIDE, 1; [row], pairs);
        let mut farthest = _mm512_setzero_ps();
        for v in 0..WIDE {
            let score = _mm512_cvtepi32_ps(scores[v]);
            let distance_sq = _mm512_fnmadd_ps(two, score, most_without_score[v]);
            let there = (these >> (v * LANES)) as u16;
            farthest = _mm512_mask_max_ps(farthest, there, farthest, distance_sq);
        }
        let farthest = _mm512_reduce_max_ps(farthest);
        let farthest = if these & !known == 0 { farthest } else { f32::INFINITY };
        let limit = _mm512_set1_ps(4.001 * farthest);
        for ((rows, least), marks) in around.tiles.iter().zip(&around.least).zip(&mut *marks) {
            let [scores] = products!(P, WIDE, 1; [row], registers(&rows.pairs));
            for (v, score) in scores.into_iter().enumerate() {
                // SAFETY: 16 floats; no alignment is asked for.
                let least = unsafe { _mm512_loadu_ps(least.0[v * LANES..][..LANES].as_ptr()) };
                let distance_sq = _mm512_fnmadd_ps(two, _mm512_cvtepi32_ps(score), least);
                let near = _mm512_cmp_ps_mask::<_CMP_NGT_UQ>(distance_sq, limit);
                *marks |= u64::from(near) << (v * LANES);
            }
        }
    }
    // The last tile repeats its last row.
    if let Some(last) = marks.last_mut() {
        *last &= u64::MAX >> (around.tiles.len() * TILE - around.rows);
    }
}

/// The numbers of a tile as they are multiplied.
pub(super) fn registers(lanes: &[Lanes<i32>]) -> &[[__m512i; WIDE]] {
    // SAFETY: both are 64 numbers of 32 bits, of equal size and alignment (asserted below), and any bits
    // are a number.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len()) }
}

fn registers_mut(lanes: &mut [Lanes<i32>]) -> &mut [[__m512i; WIDE]] {
    // SAFETY: as in `registers`.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len()) }
}

const _: () = assert!(size_of::<Lanes<i32>>() == size_of::<[__m512i; WIDE]>());
const _: () = assert!(align_of::<Lanes<i32>>() == align_of::<[__m512i; WIDE]>());

/// Of 16 vectors, in units of s.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) norm_sq: __m512,
    /// ‖ξ‖².
    pub(super) error_sq: __m512,
}

impl Sizes {
    /// Of the vectors of register `v`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(tile: &Tile, v: usize) -> Self {
        let sixteen = v * LANES..(v + 1) * LANES;
        // SAFETY: 16 floats; no alignment is asked for.
        let norm_sq = unsafe { _mm512_loadu_ps(tile.norms_sq.0[sixteen.clone()].as_ptr()) };
        // SAFETY: 16 floats; no alignment is asked for.
        let error_sq = unsafe { _mm512_loadu_ps(tile.errors_sq.0[sixteen].as_ptr()) };
        Self { norm_sq, error_sq }
    }

    /// An upper bound of the distance from the row of the score `best`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn distance(self, int16: &Int16Panels, best: __m512i, rounding: __m512) -> __m512 {
        let scores = _mm512_cvtepi32_ps(best);
        let distance_sq = _mm512_sub_ps(self.norm_sq, _mm512_add_ps(scores, scores));
        root(_mm512_add_ps(distance_sq, self.slack(int16, rounding)))
    }

    /// Whether the row of the score `best`, at most at `distance`, is the nearest, none other having more than `second`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn decide(
        self,
        int16: &Int16Panels,
        (best, second): (__m512i, __m512i),
        distance: __m512,
        rounding: __m512,
    ) -> u16 {
        // Twice the error; what the scores lost to the tag. As f32 only a mate's score loses more, 64 at most: 130 is to
        // spare.
        let error = _mm512_mul_ps(_mm512_add_ps(distance, self.xi()), self.both(int16));
        let bound = _mm512_fmadd_ps(error, _mm512_set1_ps(2.01), rounding);
        let bound =
            _mm512_add_ps(bound, _mm512_set1_ps(130.0 + TAG as f32 + 2.0 * int16.bias_error()));
        let gap = _mm512_sub_ps(_mm512_cvtepi32_ps(best), _mm512_cvtepi32_ps(second));
        _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gap, bound) & self.fit(int16)
    }

    /// Where something is promised: not about a NaN, nor where a sum might have left its 32 bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fit(self, int16: &Int16Panels) -> u16 {
        let reach_sq = _mm512_set1_ps(int16.reach * int16.reach);
        _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.norm_sq, reach_sq)
    }

    /// ‖ξ‖ with what f32 rounds in x/s and in the sum of squares.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn xi(self) -> __m512 {
        let rounded = _mm512_mul_ps(root(self.norm_sq), _mm512_set1_ps(3e-7));
        _mm512_fmadd_ps(_mm512_set1_ps(1.005), root(self.error_sq), rounded)
    }

    /// ‖ξ‖ + ‖β‖.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn both(self, int16: &Int16Panels) -> __m512 {
        _mm512_add_ps(self.xi(), _mm512_set1_ps(int16.error))
    }

    /// Twice what f32 rounds in a score: |score − exact| ≤ γ·(‖x‖‖b‖ + ‖b‖²/2), γ = (d+1)·2⁻²⁴ (Higham
    /// 2002, §3.1), with a margin.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rounding(self, int16: &Int16Panels) -> __m512 {
        let gamma = 1.02 * (int16.dim + 1) as f32 * 2.0_f32.powi(-24);
        let sum = _mm512_add_ps(root(self.norm_sq), _mm512_set1_ps(0.5 * int16.largest));
        _mm512_mul_ps(sum, _mm512_set1_ps(2.0 * gamma * int16.largest))
    }

    /// A bound of |r² − (‖x‖² − 2·I)|, with four times what f32 rounds in a score: by so much may a row be
    /// farther that f32 takes for nearer.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn slack(self, int16: &Int16Panels, rounding: __m512) -> __m512 {
        let (norm, both) = (root(self.norm_sq), self.both(int16));
        // ‖x‖² − 2·S and ‖x‖² − 2·I differ by at most 2·‖ξ‖·‖x̂‖ + 2·(the bracket with r ≤ ‖x‖ + ‖b‖).
        let reach = _mm512_add_ps(norm, _mm512_set1_ps(1.01 * int16.largest));
        let around = _mm512_add_ps(norm, _mm512_add_ps(both, both));
        let slack = _mm512_fmadd_ps(self.xi(), around, _mm512_mul_ps(reach, both));
        let twice = _mm512_add_ps(rounding, rounding);
        let slack = _mm512_fmadd_ps(slack, _mm512_set1_ps(2.01), twice);
        // Both terms of the difference are rounded: by 2⁻²⁴ of themselves and of what made them.
        let digits = (int16.dim + 8) as f32 * 2.0_f32.powi(-23);
        let slack = _mm512_fmadd_ps(self.norm_sq, _mm512_set1_ps(digits), slack);
        _mm512_add_ps(slack, _mm512_set1_ps(600.0))
    }

    /// Raises `errors` to what bounds the estimates of these vectors, ξ·x̂ being left out of them.
    #[target_feature(enable = "avx512f")]
    fn raise(self, int16: &Int16Panels, errors: &mut [ScoreError]) {
        let (mut norms_sq, mut errors_sq) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(norms_sq.as_mut_ptr(), self.norm_sq) };
        // SAFETY: 16 floats; no alignment is asked for.
        unsafe { _mm512_storeu_ps(errors_sq.as_mut_ptr(), self.error_sq) };
        let (s, largest) = (1.0 / f64::from(int16.inverse), f64::from(int16.largest));
        for ((error, norm_sq), error_sq) in errors.iter_mut().zip(norms_sq).zip(errors_sq) {
            let norm = 1.005 * f64::from(norm_sq).sqrt();
            let xi = 1.005 * f64::from(error_sq).sqrt() + 2f64.powi(-22) * norm;
            let both = xi + f64::from(int16.error);
            // The last term is what an estimate loses as f32.
            let constant = xi * (norm + xi)
                + xi * both
                + f64::from(int16.bias_error())
                + 2f64.powi(-23) * (norm + largest) * largest;
            // As in `fit`.
            let fits = norm <= 1.01 * f64::from(int16.reach);
            let constant = if fits { s * s * constant } else { f64::INFINITY };
            *error = error.max(ScoreError { per_distance: s * both, constant });
        }
    }
}

/// An upper bound of the square root, at most 0.03 % above it; a NaN of a NaN and of infinity.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn root(x: __m512) -> __m512 {
    // Of a NaN and a number the second is taken.
    let x = _mm512_max_ps(_mm512_set1_ps(1e-30), x);
    // The reciprocal errs by at most 2⁻¹⁴.
    _mm512_mul_ps(_mm512_mul_ps(x, _mm512_rsqrt14_ps(x)), _mm512_set1_ps(1.0002))
}

/// Rounds 16 vectors from `first` on, times `inverse`, into register `v` of `pairs`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn round<const V: usize>(
    inverse: __m512,
    centre: &Centre,
    x: ArrayView2<'_, f32>,
    first: usize,
    pairs: &mut [[__m512i; V]],
    v: usize,
) -> Sizes {
    let (stride, last) = (x.strides()[0], x.nrows() - 1);
    let mut rows = [x.as_ptr(); LANES];
    for (i, row) in rows.iter_mut().enumerate() {
        // The last lanes may repeat a vector.
        *row = row.wrapping_offset((first + i).min(last) as isize * stride);
    }
    let scale = _mm512_set1_ps(centre.scale);
    let centred = |x, shift| _mm512_sub_ps(_mm512_mul_ps(x, scale), _mm512_set1_ps(shift));
    let mut sizes = Sizes { norm_sq: _mm512_setzero_ps(), error_sq: _mm512_setzero_ps() };
    let mut column = 0;
    let mut pairs = pairs;
    // One such fetch does not pay: few dimensions come four at a time.
    while x.ncols() > LANES && column + LANES <= x.ncols() {
        let (sixteen, rest) = pairs.split_at_mut(LANES / 2);
        // SAFETY: the pointers are to rows of x, whose columns are contiguous; there are 16 more.
        let columns = unsafe { sixteen_columns(&rows, column) };
        for (c, pairs) in sixteen.iter_mut().enumerate() {
            let shift = &centre.shift[column + 2 * c..][..2];
            let low = _mm512_mul_ps(centred(columns[2 * c], shift[0]), inverse);
            let high = _mm512_mul_ps(centred(columns[2 * c + 1], shift[1]), inverse);
            pairs[v] = pair(word(low, &mut sizes), word(high, &mut sizes));
        }
        pairs = rest;
        column += LANES;
    }
    for pairs in pairs.chunks_mut(2) {
        let mask =
            if column + 4 <= x.ncols() { 0b1111 } else { 0b0111 >> (column + 3 - x.ncols()) };
        // SAFETY: the pointers are to rows of x, whose columns are contiguous; the mask leaves out
        // those beyond the last.
        let four = unsafe { four_columns(&rows, column, mask) };
        let shifts = centre.shift[column..].as_chunks::<2>();
        let last = [shifts.1.first().copied().unwrap_or(0.0), 0.0];
        let shifts = shifts.0.iter().chain([&last]);
        for ((columns, shift), pairs) in four.as_chunks::<2>().0.iter().zip(shifts).zip(pairs) {
            let low = _mm512_mul_ps(centred(columns[0], shift[0]), inverse);
            let high = _mm512_mul_ps(centred(columns[1], shift[1]), inverse);
            pairs[v] = pair(word(low, &mut sizes), word(high, &mut sizes));
        }
        column += 4;
    }
    sizes
}

/// Has some vectors come into the second-level cache, while those before them are worked on: they are too
/// far apart for the machine to see them coming.
///
/// Not inlined: the compiler would keep a pointer to each line in loops that never come here.
#[inline(never)]
pub(super) fn fetch(x: ArrayView2<'_, f32>, vectors: Range<usize>) {
    for vector in vectors {
        let row = x.as_ptr().wrapping_offset(vector as isize * x.strides()[0]);
        for line in (0..x.ncols()).step_by(LANES) {
            // SAFETY: nothing is read, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(line).cast()) };
        }
    }
}

/// 16-bit integers in the low and the high half of every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pair(low: __m512i, high: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xAAAA_AAAA, low, _mm512_slli_epi32::<16>(high))
}

/// Columns `column..column + 16` of 16 rows.
///
/// # Safety
/// Every row can be read there.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn sixteen_columns(rows: &[*const f32; LANES], column: usize) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    let mut lines = [zero; 16];
    for (line, row) in lines.iter_mut().zip(rows) {
        // SAFETY: what the caller promises.
        *line = unsafe { _mm512_loadu_ps(row.wrapping_add(column)) };
    }
    // Within quarters: pairs of rows, then four rows of one column each.
    let mut twos = [zero; 16];
    for i in 0..8 {
        twos[2 * i] = _mm512_unpacklo_ps(lines[2 * i], lines[2 * i + 1]);
        twos[2 * i + 1] = _mm512_unpackhi_ps(lines[2 * i], lines[2 * i + 1]);
    }
    let mut fours = [zero; 16];
    for i in 0..4 {
        for half in 0..2 {
            let low = _mm512_castps_pd(twos[4 * i + half]);
            let high = _mm512_castps_pd(twos[4 * i + 2 + half]);
            fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    // Across: column c sits in quarter c/4 of four registers.
    let mut columns = [zero; 16];
    for c in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
        let odd_low = _mm512_shuffle_f32x4::<0xDD>(fours[c], fours[4 + c]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_high = _mm512_shuffle_f32x4::<0xDD>(fours[8 + c], fours[12 + c]);
        columns[c] = _mm512_shuffle_f32x4::<0x88>(even_low, even_high);
        columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high);
        columns[8 + c] = _mm512_shuffle_f32x4::<0xDD>(even_low, even_high);
        columns[12 + c] = _mm512_shuffle_f32x4::<0xDD>(odd_low, odd_high);
    }
    columns
}

/// Columns `column..column + 4` of 16 rows; zeros where the mask has none.
///
/// # Safety
/// Every row can be read where the mask has ones.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn four_columns(rows: &[*const f32; LANES], column: usize, mask: u8) -> [__m512; 4] {
    let mut quarters = [_mm512_setzero_ps(); 4];
    for (j, quarters) in quarters.iter_mut().enumerate() {
        let mut parts = [_mm_setzero_ps(); 4];
        for (q, part) in parts.iter_mut().enumerate() {
            // SAFETY: what the caller promises.
            *part = unsafe { _mm_maskz_loadu_ps(mask, rows[4 * q + j].wrapping_add(column)) };
        }
        let low = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(parts[0]), parts[1]);
        *quarters = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(low, parts[2]), parts[3]);
    }
    // Quarter q of register j is row 4q + j: 4 × 4 are turned within each quarter.
    let [a, b, c, d] = quarters;
    let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let [ab_low, ab_high, cd_low, cd_high] = [
        _mm512_castps_pd(ab_low),
        _mm512_castps_pd(ab_high),
        _mm512_castps_pd(cd_low),
        _mm512_castps_pd(cd_high),
    ];
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high)),
    ]
}

/// Rounds one dimension.
#[inline]
#[target_feature(enable = "avx512f")]
fn word(x: __m512, sizes: &mut Sizes) -> __m512i {
    // What is cut off shows in the error.
    let cut = _mm512_min_ps(x, _mm512_set1_ps(WORD as f32));
    let rounded = _mm512_cvtps_epi32(_mm512_max_ps(cut, _mm512_set1_ps(-WORD as f32)));
    let error = _mm512_sub_ps(x, _mm512_cvtepi32_ps(rounded));
    sizes.norm_sq = _mm512_fmadd_ps(x, x, sizes.norm_sq);
    sizes.error_sq = _mm512_fmadd_ps(error, error, sizes.error_sq);
    rounded
}

/// The two largest scores per lane, and the row of the largest, or its place among mates; [`TAG`] is cut off the scores.
#[derive(Clone, Copy)]
pub(super) struct BestTwo<const V: usize> {
    pub(super) score: [__m512i; V],
    pub(super) second: [__m512i; V],
    pub(super) index: [__m512i; V],
}

/// The bits of a score that give way to the number of its row: the larger score then brings its row along,
/// where a comparison and a choice would take as long as one and a half products. The rounding to 16
/// bits has spoilt far more of a score than these.
const TAG: i32 = 0xFF;

/// Rows that are told apart by these bits.
const TAGGED: usize = TAG as usize + 1;

const _: () = assert!(TAGGED.is_multiple_of(2), "mates are in one chunk");

/// The two largest scores per lane, each with the number of its row.
#[derive(Clone, Copy)]
struct Tagged<const V: usize> {
    best: [__m512i; V],
    second: [__m512i; V],
}

impl<const V: usize> Tagged<V> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn none() -> Self {
        let least = [_mm512_set1_epi32(i32::MIN); V];
        Self { best: least, second: least }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn offer<const PLACE: i32>(&mut self, scores: &[__m512i; V], row: __m512i) {
        /// A bit of the row where the tag has one, else of the score.
        const CHOICE: i32 = 0xD8;
        let tag = _mm512_set1_epi32(PLACE);
        for (v, &score) in scores.iter().enumerate() {
            let score = _mm512_ternarylogic_epi32::<CHOICE>(score, row, tag);
            let lower = _mm512_min_epi32(self.best[v], score);
            self.second[v] = _mm512_max_epi32(self.second[v], lower);
            self.best[v] = _mm512_max_epi32(self.best[v], score);
        }
    }
}

impl<const V: usize> BestTwo<V> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn none() -> Self {
        let least = [_mm512_set1_epi32(i32::MIN); V];
        Self { score: least, second: least, index: [_mm512_setzero_si512(); V] }
    }

    /// The rows of register `v` of the vectors `x`, and for which of them it is decided.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn settle(
        &self,
        int16: &Int16Panels,
        sizes: Sizes,
        x: &[[__m512i; V]],
        v: usize,
    ) -> (__m512i, u16) {
        let (mut rows, mut second) = (self.index[v], self.second[v]);
        let rounding = sizes.rounding(int16);
        let distance = sizes.distance(int16, self.score[v], rounding);
        if let Some(mates) = &int16.mates {
            debug_assert_eq!(int16.rows.len(), mates.places.len() * (1 + x.len()));
            // SAFETY: an index is a place among the rows: all but the bias of a row is even, so that the lowest bit of a
            // score tells a mate from the other whatever the vector is, and the bits above number the twos.
            let places = unsafe { _mm512_i32gather_epi32::<4>(rows, mates.places.as_ptr().cast()) };
            let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
            let apart = _mm512_castsi512_ps(_mm512_and_si512(places, upper));
            let unclear = !clear(distance, rounding, apart);
            if unclear != 0 {
                second = with_mates(int16, x, v, unclear, rows, second);
            }
            rows = _mm512_andnot_si512(upper, places);
        }
        (rows, sizes.decide(int16, (self.score[v], second), distance, rounding))
    }

    /// Of rows that are numbered from `first` on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn merge(&mut self, of: &Tagged<V>, first: usize) {
        let tag = _mm512_set1_epi32(TAG);
        let first = _mm512_set1_epi32(first as i32);
        for v in 0..V {
            let score = _mm512_andnot_si512(tag, of.best[v]);
            let second = _mm512_andnot_si512(tag, of.second[v]);
            let row = _mm512_add_epi32(first, _mm512_and_si512(tag, of.best[v]));
            let lower = _mm512_max_epi32(second, _mm512_min_epi32(self.score[v], score));
            self.second[v] = _mm512_max_epi32(self.second[v], lower);
            let better = _mm512_cmpgt_epi32_mask(score, self.score[v]);
            self.index[v] = _mm512_mask_mov_epi32(self.index[v], better, row);
            self.score[v] = _mm512_max_epi32(self.score[v], score);
        }
    }
}

/// Whether f32 cannot take a row for nearer than one at most at `distance`, from which it lies `apart`.
#[inline]
#[target_feature(enable = "avx512f")]
fn clear(distance: __m512, rounding: __m512, apart: __m512) -> u16 {
    // Where D is how far apart they lie and r the distance, the scores differ by at least ((D − r)² − r²)/2 =
    // D·(D − 2·r)/2, which has to be more than what f32 rounds; the rest is to spare.
    let ahead = _mm512_fnmadd_ps(_mm512_set1_ps(2.001), distance, apart);
    let least = _mm512_fmadd_ps(rounding, _mm512_set1_ps(2.01), _mm512_set1_ps(600.0));
    _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_mul_ps(apart, ahead), least)
}

/// `second` or the score of the mate of the best row, of the vectors `which` of register `v`.
#[target_feature(enable = "avx512f")]
fn with_mates<const V: usize>(
    int16: &Int16Panels,
    x: &[[__m512i; V]],
    v: usize,
    mut which: u16,
    best: __m512i,
    second: __m512i,
) -> __m512i {
    let width = 1 + x.len();
    let (mut places, mut scores) = ([0_u32; LANES], [0_i32; LANES]);
    // SAFETY: 16 numbers; no alignment is asked for.
    unsafe { _mm512_storeu_si512(places.as_mut_ptr().cast(), best) };
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(scores.as_mut_ptr().cast(), second) };
    while which != 0 {
        let lane = which.trailing_zeros() as usize;
        which &= which - 1;
        let row = &int16.rows[(places[lane] as usize ^ 1) * width..][..width];
        let mut score = row[0];
        for (x, row) in x.iter().zip(&row[1..]) {
            // SAFETY: a register is 16 numbers of 32 bits, and any bits are a number.
            let lanes: &[i32; LANES] = unsafe { &*(&raw const x[v]).cast() };
            let x = lanes[lane];
            let products = [(x as i16, *row as i16), ((x >> 16) as i16, (*row >> 16) as i16)];
            for (x, row) in products {
                score = score.wrapping_add(i32::from(x) * i32::from(row));
            }
        }
        scores[lane] = scores[lane].max(score);
    }
    // SAFETY: 16 numbers; no alignment is asked for.
    unsafe { _mm512_loadu_si512(scores.as_ptr().cast()) }
}

impl Int16Panels {
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn best_two<const P: usize, const V: usize>(
        &self,
        x: &[[__m512i; V]],
    ) -> BestTwo<V> {
        match &self.mates {
            Some(_) => best_two_of_mates::<P, V>(&self.rows, x),
            None => best_two::<P, V>(&self.rows, x),
        }
    }
}

/// As [`best_two`], of the better of each two mates alone; the lowest bit of a score tells which that is.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn best_two_of_mates<const P: usize, const V: usize>(
    rows: &[i32],
    x: &[[__m512i; V]],
) -> BestTwo<V> {
    let mut best = BestTwo::none();
    let two = _mm512_set1_epi32(2);
    let width = 1 + x.len();
    for (chunk, rows) in rows.chunks(TAGGED * width).enumerate() {
        let (mut tagged, mut place) = (Tagged::none(), _mm512_setzero_si512());
        for mates in rows.chunks_exact(2 * width) {
            let (a, b) = mates.split_at(width);
            let mut better = scores::<P, V>(a, x);
            for (better, of_b) in better.iter_mut().zip(scores::<P, V>(b, x)) {
                *better = _mm512_max_epi32(*better, of_b);
            }
            tagged.offer::<{ TAG - 1 }>(&better, place);
            place = _mm512_add_epi32(place, two);
        }
        best.merge(&tagged, chunk * TAGGED);
    }
    best
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn best_two<const P: usize, const V: usize>(rows: &[i32], x: &[[__m512i; V]]) -> BestTwo<V> {
    let mut best = BestTwo::none();
    let one = _mm512_set1_epi32(1);
    let width = 1 + x.len();
    for (chunk, rows) in rows.chunks(TAGGED * width).enumerate() {
        let (mut tagged, mut row) = (Tagged::none(), _mm512_setzero_si512());
        // The vectors of few dimensions and the best of a single row fill the registers. Those of many are
        // read again for each row, or each two.
        let twos = if (1..8).contains(&P) { 0 } else { rows.len() / (2 * width) };
        let (twos, ones) = rows.split_at(twos * 2 * width);
        for two in twos.chunks_exact(2 * width) {
            let (a, b) = two.split_at(width);
            for scores in products!(P, V, 2; [a, b], x) {
                tagged.offer::<TAG>(&scores, row);
                row = _mm512_add_epi32(row, one);
            }
        }
        for of_row in ones.chunks_exact(width) {
            tagged.offer::<TAG>(&scores::<P, V>(of_row, x), row);
            row = _mm512_add_epi32(row, one);
        }
        best.merge(&tagged, chunk * TAGGED);
    }
    best
}

/// As [`best_two`], of some of the rows; indices count places of the list.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn best_two_of<const P: usize>(rows: &[i32], list: &[u32], x: &[[__m512i; WIDE]]) -> BestTwo<WIDE> {
    let mut best = BestTwo::none();
    let one = _mm512_set1_epi32(1);
    let width = 1 + if P == 0 { x.len() } else { P };
    for (chunk, list) in list.chunks(TAGGED).enumerate() {
        let (mut tagged, mut place) = (Tagged::none(), _mm512_setzero_si512());
        let row = |row: u32| &rows[row as usize * width..][..width];
        let twos = if (1..8).contains(&P) { 0 } else { list.len() / 2 };
        let (twos, ones) = list.split_at(2 * twos);
        for &[a, b] in twos.as_chunks::<2>().0 {
            for scores in products!(P, WIDE, 2; [row(a), row(b)], x) {
                tagged.offer::<TAG>(&scores, place);
                place = _mm512_add_epi32(place, one);
            }
        }
        for &of_row in ones {
            let [scores] = products!(P, WIDE, 1; [row(of_row)], x);
            tagged.offer::<TAG>(&scores, place);
            place = _mm512_add_epi32(place, one);
        }
        best.merge(&tagged, chunk * TAGGED);
    }
    best
}

/// As [`Int16Panels::offer`]. Columns of `x` are contiguous.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn offer(
    int16: &Int16Panels,
    x: ArrayView2<'_, f32>,
    first_id: u32,
    runs: &[Range<usize>],
    by_bytes: bool,
    tops: &mut [TopK],
    errors: &mut [ScoreError],
) {
    let centre = Centre::none(int16.dim);
    let mut pairs = vec![[_mm512_setzero_si512(); WIDE]; int16.dim.div_ceil(2)];
    let mut fours = Fours::default();
    let bytes = int16.bytes.as_ref().filter(|_| by_bytes);
    let amx = bytes.and_then(|_| Amx::new(int16.dim.div_ceil(4)));
    let mut found = Vec::new();
    // s⁻² and s².
    let inverse_square = f64::from(int16.inverse).powi(2);
    let square = 1.0 / inverse_square;
    let tiles = tops.chunks_mut(WIDE * LANES).zip(errors.chunks_mut(WIDE * LANES));
    for (tile, (tops, errors)) in tiles.enumerate() {
        for (v, errors) in errors.chunks_mut(LANES).enumerate() {
            let first = (tile * WIDE + v) * LANES;
            let inverse = _mm512_set1_ps(int16.inverse);
            fetch(x, first + TILE..first + TILE + LANES);
            round(inverse, &centre, x, first, &mut pairs, v).raise(int16, errors);
        }
        let mut bytes = bytes;
        if let Some(bytes) = bytes {
            fours.round(bytes, &pairs);
        }
        let (width, width8) = (1 + pairs.len(), 1 + int16.dim.div_ceil(4));
        let mut floors = Lanes([i32::MAX; TILE]);
        // A floor moves where something is kept.
        let mut is_kept = true;
        let (mut left, mut looked_at) = (0, 0);
        for run in runs {
            for from in run.clone().step_by(ROWS) {
                let rows = &int16.rows[from * width..(from + ROWS).min(run.end) * width];
                if is_kept {
                    for (floor, top) in floors.0.iter_mut().zip(&*tops) {
                        // Rounded down: to be offered in vain costs little.
                        let least = f64::from(top.floor()) * inverse_square;
                        *floor = (least - least.abs() * 2f64.powi(-20)).floor() as i32;
                        *floor = floor.saturating_sub(2);
                    }
                }
                found.clear();
                match bytes.filter(|_| floors.0.iter().all(|floor| *floor > i32::MIN)) {
                    None => above(rows, &pairs, &floors, &mut found),
                    Some(bytes8) => {
                        let by = (bytes8, amx.as_ref(), &bytes8.rows[from * width8..]);
                        left += fours.above(int16, by, rows, &floors, &mut found);
                        looked_at += rows.len() / width;
                        if looked_at >= ROWS {
                            if left > MOST_LEFT * looked_at {
                                bytes = None;
                            }
                            (left, looked_at) = (0, 0);
                        }
                    }
                }
                is_kept = !found.is_empty();
                for found in &found {
                    let estimate = (f64::from(found.score) * square) as f32;
                    tops[found.vector].push(estimate, first_id + from as u32 + found.row);
                }
            }
        }
    }
}

/// Where more of the 64 scores of a row are computed in 16 bits than so many, on average, 8 bits save nothing.
const MOST_LEFT: usize = 16;

/// A row whose score is above the floor of a vector of the tile.
pub(super) struct Found {
    pub(super) vector: usize,
    pub(super) row: u32,
    pub(super) score: i32,
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn above(rows: &[i32], x: &[[__m512i; WIDE]], floors: &Lanes<i32>, found: &mut Vec<Found>) {
    let least = in_registers(floors);
    let width = 1 + x.len();
    let mut row = 0;
    let mut fours = rows.chunks_exact(AT_ONCE * width);
    for four in &mut fours {
        let [a, b, c, d] = std::array::from_fn(|r| &four[r * width..][..width]);
        for scores in products!(0, WIDE, AT_ONCE; [a, b, c, d], x) {
            let lanes = reaching(&scores, &least);
            if lanes != 0 {
                collect(&scores, lanes, row, found);
            }
            row += 1;
        }
    }
    for last in fours.remainder().chunks_exact(width) {
        let [scores] = products!(0, WIDE, 1; [last], x);
        let lanes = reaching(&scores, &least);
        if lanes != 0 {
            collect(&scores, lanes, row, found);
        }
        row += 1;
    }
}

/// Rows that meet a tile at a time: as many sums as there are registers for.
pub(super) const AT_ONCE: usize = 4;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn in_registers(numbers: &Lanes<i32>) -> [__m512i; WIDE] {
    let mut registers = [_mm512_setzero_si512(); WIDE];
    for (register, numbers) in registers.iter_mut().zip(numbers.0.chunks_exact(LANES)) {
        // SAFETY: 16 numbers; no alignment is asked for.
        *register = unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) };
    }
    registers
}

/// A bit for each vector whose score is above its floor.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn reaching(scores: &[__m512i; WIDE], floors: &[__m512i; WIDE]) -> u64 {
    let pairs = scores.iter().zip(floors).enumerate();
    pairs.fold(0, |lanes, (v, (scores, floors))| {
        lanes | u64::from(_mm512_cmpgt_epi32_mask(*scores, *floors)) << (LANES * v)
    })
}

/// Appends the `scores` of `row` for the vectors `lanes`.
#[inline]
#[target_feature(enable = "avx512f")]
fn collect(scores: &[__m512i; WIDE], mut lanes: u64, row: u32, found: &mut Vec<Found>) {
    let mut values = [[0_i32; LANES]; WIDE];
    for (values, scores) in values.iter_mut().zip(scores) {
        // SAFETY: 16 numbers; no alignment is asked for.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), *scores) };
    }
    let values = values.as_flattened();
    while lanes != 0 {
        let vector = lanes.trailing_zeros() as usize;
        lanes &= lanes - 1;
        found.push(Found { vector, row, score: values[vector] });
    }
}

/// Integer scores of a row.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn scores<const P: usize, const V: usize>(row: &[i32], x: &[[__m512i; V]]) -> [__m512i; V] {
    if !(1..5).contains(&P) {
        let [scores] = products!(P, V, 1; [row], x);
        return scores;
    }
    let (row, x) = (&row[..=P], &x[..P]);
    let mut scores = [_mm512_setzero_si512(); V];
    for (v, score) in scores.iter_mut().enumerate() {
        *score = match P {
            1 => score!(row; a = x[0][v], 4),
            2 => score!(row; a = x[0][v], 4; b = x[1][v], 8),
            3 => score!(row; a = x[0][v], 4; b = x[1][v], 8; c = x[2][v], 12),
            _ => score!(row; a = x[0][v], 4; b = x[1][v], 8; c = x[2][v], 12; d = x[3][v], 16),
        };
    }
    scores
}

/// Adds both products of 16-bit integers per lane.
///
/// The intrinsic of this instruction becomes two, a product and a sum (LLVM 22), as suits processors
/// where it is slow.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(crate) fn add_products(mut sum: __m512i, x: __m512i, row: __m512i) -> __m512i {
    // SAFETY: registers in, a register out; the feature is enabled here.
    unsafe {
        asm!(
            "vpdpwssd {sum}, {x}, {row}",
            sum = inout(zmm_reg) sum,
            x = in(zmm_reg) x,
            row = in(zmm_reg) row,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
