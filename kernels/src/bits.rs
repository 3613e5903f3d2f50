//! Integer products over codes of bits: Hamming distances, and inner products with an integer query.
//!
//! A query of integers is cut into planes: plane `j` holds bit `j` of every value. With a code `b` of
//! one bit per dimension the inner product is (`RaBitQ`, Gao & Long 2024, eq. 22)
//!
//! `⟨b, q⟩ = Σⱼ 2ʲ · |b ∧ qⱼ|`
//!
//! where `|·|` counts ones. A code of several bits (Gao et al. 2025) is cut into planes likewise, and
//! its product is the sum over its planes, each with its own power of two. Everything is exact.
//!
//! Bit `t` of a plane is bit `t mod 8` of byte `⌊t / 8⌋`, as [`pack`](crate::pack) stores values of one
//! bit.

#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use crate::path::Path;

/// The most dimensions: the largest sum, `65536 · 255 · 255`, still fits 32 bits.
pub const MAX_DIM: usize = 1 << 16;

/// Codes of several bits whose planes are summed before they are joined.
const BLOCK: usize = 256;

/// Rows, or vectors of them, that pass a plane side by side.
const WIDE: usize = 8;

/// The number of bits in which two codes of equal length differ. All bits of their bytes count.
///
/// O(length), no allocation. For many codes [`hamming_to`] is faster.
///
/// # Panics
/// When the lengths differ, or exceed [`MAX_DIM`] bits.
#[must_use]
pub fn hamming(a: &[u8], b: &[u8]) -> u32 {
    let mut out = [0];
    hamming_to(a, b, &mut out);
    out[0]
}

/// The Hamming distance, in bits, of `query` (bytes) to each of `codes` (n, bytes), into `out` (n).
///
/// O(n · bytes), no allocation.
///
/// # Panics
/// When the shapes disagree, or the query exceeds [`MAX_DIM`] bits.
pub fn hamming_to(query: &[u8], codes: &[u8], out: &mut [u32]) {
    hamming_on(Way::fastest(), query, codes, out);
}

/// A query of d integers, cut into planes of one bit.
///
/// ```
/// use vq_kernels::bits::Planes;
///
/// // Four bits each.
/// let query = Planes::new(&[1, 2, 3, 15, 5], 4);
/// // Two codes of one bit per dimension: dimensions 0 and 3, then dimension 4.
/// let mut out = [0; 2];
/// query.dots(&[0b0_1001, 0b1_0000], 1, &mut out);
/// assert_eq!(out, [1 + 15, 5]);
/// // One code of two bits, the low plane first: 3 in dimension 0, 2 in dimension 1.
/// let mut out = [0];
/// query.dots(&[0b0_0001, 0b0_0011], 2, &mut out);
/// assert_eq!(out, [3 + 2 * 2]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planes {
    dim: usize,
    /// (bits, ⌈d/8⌉), the lowest plane first; zero beyond d.
    planes: Vec<u8>,
}

impl Planes {
    /// Cuts `values` (d), each less than `2^bits`. O(d · bits); allocates the planes.
    ///
    /// # Panics
    /// When `bits` is not in 1..=8, a value does not fit, or there are more than [`MAX_DIM`].
    #[must_use]
    pub fn new(values: &[u8], bits: u32) -> Self {
        check_bits(bits);
        assert!(values.len() <= MAX_DIM, "{} dimensions, at most {MAX_DIM}", values.len());
        let all = values.iter().fold(0, |all, value| all | value);
        assert!(u32::from(all) >> bits == 0, "a value of {bits} bits is less than 2^{bits}");
        let bit = |value: u8, j| value >> j & 1;
        let planes = (0..bits).flat_map(|j| {
            let byte = move |values: &[u8]| {
                values.iter().rev().fold(0, |byte, value| byte << 1 | bit(*value, j))
            };
            values.chunks(8).map(byte)
        });
        Self { dim: values.len(), planes: planes.collect() }
    }

    /// Inner products with n codes of `code_bits` bits per dimension: `out[i] = Σₜ codes[i, t] · q[t]`.
    ///
    /// `codes` is (n, `code_bits`, ⌈d/8⌉) bytes: the planes of a code follow one another, the lowest first.
    /// Their bits beyond d are ignored.
    ///
    /// O(n · `code_bits` · bits · d), 64 dimensions or more at a time; no allocation.
    ///
    /// # Panics
    /// When `code_bits` is not in 1..=8, or the shapes disagree.
    pub fn dots(&self, codes: &[u8], code_bits: u32, out: &mut [u32]) {
        self.dots_on(Way::fastest(), codes, code_bits, out);
    }

    fn dots_on(&self, way: Way, codes: &[u8], code_bits: u32, out: &mut [u32]) {
        check_bits(code_bits);
        let (width, code_bits) = (self.dim.div_ceil(8), code_bits as usize);
        check_codes(codes, code_bits * width, out);
        if width == 0 {
            out.fill(0);
            return;
        }
        if code_bits == 1 {
            way.sums::<false>(&self.planes, width, codes, out);
            return;
        }
        let mut sums = [0; BLOCK * 8];
        let codes = codes.chunks(BLOCK * code_bits * width);
        for (codes, out) in codes.zip(out.chunks_mut(BLOCK)) {
            let sums = &mut sums[..out.len() * code_bits];
            way.sums::<false>(&self.planes, width, codes, sums);
            for (out, sums) in out.iter_mut().zip(sums.chunks_exact(code_bits)) {
                *out = sums.iter().rev().fold(0, |higher, sum| 2 * higher + sum);
            }
        }
    }
}

fn hamming_on(way: Way, query: &[u8], codes: &[u8], out: &mut [u32]) {
    assert!(query.len() <= MAX_DIM / 8, "{} bytes, at most {}", query.len(), MAX_DIM / 8);
    check_codes(codes, query.len(), out);
    if query.is_empty() {
        out.fill(0);
    } else {
        way.sums::<true>(query, query.len(), codes, out);
    }
}

fn check_bits(bits: u32) {
    assert!((1..=8).contains(&bits), "{bits} bits, expected 1 to 8");
}

fn check_codes(codes: &[u8], bytes: usize, out: &[u32]) {
    let all = bytes.checked_mul(out.len());
    assert_eq!(Some(codes.len()), all, "bytes of {} codes of {bytes} bytes", out.len());
}

/// How ones are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In words of 64 bits, as the compiler sees fit.
    Words(Path),
    /// By the instruction of AVX-512. Made by [`Way::available`] alone, where [`has_popcnt`].
    #[cfg(target_arch = "x86_64")]
    Popcnt,
}

impl Way {
    /// What this machine can run, the fastest first.
    fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = has_popcnt().then_some(Self::Popcnt);
        #[cfg(not(target_arch = "x86_64"))]
        let fast: Option<Self> = None;
        fast.into_iter().chain([Path::fastest()].map(Self::Words))
    }

    fn fastest() -> Self {
        Self::available().next().unwrap_or(Self::Words(Path::fastest()))
    }

    /// `out[i] = Σⱼ 2ʲ · |rows[i] ∘ planes[j]|` for `rows` (n, width) and `planes` (at most 8, width),
    /// where `∘` tells the bits that differ when `DIFFER`, otherwise those that both have.
    fn sums<const DIFFER: bool>(self, planes: &[u8], width: usize, rows: &[u8], out: &mut [u32]) {
        match self {
            Self::Words(path) => path.run(
                #[inline(always)]
                || sums::<DIFFER>(planes, width, rows, out),
            ),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` makes this way only where `has_popcnt` found the features.
            Self::Popcnt => unsafe { avx512::sums::<DIFFER>(planes, width, rows, out) },
        }
    }
}

/// Whether this machine counts ones in vectors: Ice Lake, Zen 4 and later.
#[cfg(target_arch = "x86_64")]
fn has_popcnt() -> bool {
    // As long as many short codes take.
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vpopcntdq")
    })
}

/// Word after word, eight rows side by side: short rows fill no vector of their own, and each word
/// of theirs meets every plane.
#[inline(always)]
fn sums<const DIFFER: bool>(planes: &[u8], width: usize, rows: &[u8], out: &mut [u32]) {
    let n = out.len();
    for (i, out) in out.chunks_mut(WIDE).enumerate() {
        // The last row stands in for those that would follow it.
        let row = |r: usize| &rows[(i * WIDE + r).min(n - 1) * width..][..width];
        let side_by_side: [&[u8]; WIDE] = std::array::from_fn(row);
        let mut sums = [0; WIDE];
        let whole = width / 8 * 8;
        for from in (0..whole).step_by(8) {
            let word =
                |row: &[u8]| u64::from_le_bytes(*row[from..].first_chunk().expect("a whole word"));
            add::<DIFFER>(&mut sums, &side_by_side, planes.chunks_exact(width), word);
        }
        if whole < width {
            let word = |row: &[u8]| {
                row[whole..].iter().rev().fold(0, |higher, byte| higher << 8 | u64::from(*byte))
            };
            add::<DIFFER>(&mut sums, &side_by_side, planes.chunks_exact(width), word);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as u32);
    }
}

/// Adds the sums of one word, which `word` takes from a row and from a plane.
#[inline(always)]
fn add<const DIFFER: bool>(
    sums: &mut [u64; WIDE],
    rows: &[&[u8]; WIDE],
    planes: std::slice::ChunksExact<'_, u8>,
    word: impl Fn(&[u8]) -> u64,
) {
    let mut words = [0; WIDE];
    words.iter_mut().zip(rows).for_each(|(of_row, row)| *of_row = word(row));
    let mut word_sums = [0; WIDE];
    for plane in planes.rev() {
        let plane = word(plane);
        for (sum, word) in word_sums.iter_mut().zip(&words) {
            let bits = if DIFFER { word ^ plane } else { word & plane };
            *sum = 2 * *sum + u64::from(bits.count_ones());
        }
    }
    sums.iter_mut().zip(word_sums).for_each(|(sum, of_word)| *sum += of_word);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every way, with every path of the one that has several.
    fn ways() -> impl Iterator<Item = Way> {
        let words = Path::available().map(Way::Words);
        Way::available().filter(|way| !matches!(way, Way::Words(_))).chain(words)
    }

    /// Numbers that look random.
    fn noise(n: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    fn bit(plane: &[u8], t: usize) -> u32 {
        u32::from(plane[t / 8] >> (t % 8) & 1)
    }

    /// The definition, bit by bit.
    fn dots_defined(values: &[u8], codes: &[u8], code_bits: usize, n: usize) -> Vec<u32> {
        let width = values.len().div_ceil(8);
        let dot = |i: usize| {
            let plane = |j: usize| &codes[(i * code_bits + j) * width..][..width];
            let value = |t| (0..code_bits).map(|j| bit(plane(j), t) << j).sum::<u32>();
            values.iter().enumerate().map(|(t, q)| value(t) * u32::from(*q)).sum()
        };
        (0..n).map(dot).collect()
    }

    fn hamming_defined(a: &[u8], b: &[u8]) -> u32 {
        (0..8 * a.len()).map(|t| u32::from(bit(a, t) != bit(b, t))).sum()
    }

    proptest! {
        #[test]
        fn every_way_gives_the_products_of_the_definition(
            d in prop_oneof![1_usize..160, 160_usize..700, 700_usize..1600],
            bits in 1_u32..=8,
            code_bits in 1_usize..=4,
            n in prop_oneof![4 => 0_usize..40, 1 => BLOCK - 2..2 * BLOCK + 20],
            seed in any::<u64>(),
        ) {
            let values: Vec<u8> = noise(d, seed).iter().map(|v| v >> (8 - bits)).collect();
            let planes = Planes::new(&values, bits);
            let codes = noise(n * code_bits * d.div_ceil(8), !seed);
            let expected = dots_defined(&values, &codes, code_bits, n);
            for way in ways() {
                let mut out = vec![9; n];
                planes.dots_on(way, &codes, code_bits as u32, &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", way);
            }
        }

        #[test]
        fn bits_of_a_code_after_the_last_dimension_change_nothing(
            d in 1_usize..300,
            bits in 1_u32..=8,
            code_bits in 1_usize..=4,
            seed in any::<u64>(),
        ) {
            const N: usize = 21;
            let values: Vec<u8> = noise(d, seed).iter().map(|v| v >> (8 - bits)).collect();
            let planes = Planes::new(&values, bits);
            let width = d.div_ceil(8);
            let mut codes = noise(N * code_bits * width, !seed);
            let unused = !(0xFF >> (8 * width - d));
            codes.chunks_exact_mut(width).for_each(|plane| plane[width - 1] &= !unused);
            for way in ways() {
                let (mut clean, mut full) = ([0; N], [0; N]);
                planes.dots_on(way, &codes, code_bits as u32, &mut clean);
                let mut codes = codes.clone();
                codes.chunks_exact_mut(width).for_each(|plane| plane[width - 1] |= unused);
                planes.dots_on(way, &codes, code_bits as u32, &mut full);
                prop_assert_eq!(clean, full, "{:?}", way);
            }
        }

        #[test]
        fn every_way_counts_the_bits_that_differ(
            width in prop_oneof![1_usize..70, 70_usize..300],
            n in prop_oneof![0_usize..40, 40_usize..140],
            seed in any::<u64>(),
        ) {
            let (query, codes) = (noise(width, seed), noise(n * width, !seed));
            let rows = || codes.chunks_exact(width);
            let expected: Vec<u32> = rows().map(|code| hamming_defined(&query, code)).collect();
            for way in ways() {
                let mut out = vec![9; n];
                hamming_on(way, &query, &codes, &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", way);
            }
            for (code, expected) in rows().zip(expected) {
                prop_assert_eq!((hamming(&query, code), hamming(code, &query)), (expected, expected));
            }
        }

        #[test]
        fn a_plane_of_one_bit_is_what_pack_writes(values in prop::collection::vec(0_u8..2, 0..200)) {
            let wide: Vec<u16> = values.iter().map(|v| u16::from(*v)).collect();
            let mut packed = vec![0; values.len().div_ceil(8)];
            crate::pack::pack(&wide, 1, &mut packed);
            prop_assert_eq!(Planes::new(&values, 1).planes, packed);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_instruction_is_compared_where_the_machine_has_it() {
        let found =
            is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512vbmi");
        assert_eq!(ways().any(|way| way == Way::Popcnt), found);
        assert_eq!(Way::fastest() == Way::Popcnt, found);
        assert!(ways().any(|way| way == Way::Words(Path::fastest())));
    }

    #[test]
    fn the_largest_sums_fit() {
        let planes = Planes::new(&vec![255; MAX_DIM], 8);
        let codes = vec![0xFF; 3 * MAX_DIM];
        for way in ways() {
            let mut out = [0; 3];
            planes.dots_on(way, &codes, 8, &mut out);
            assert_eq!(out, [65_536 * 255 * 255; 3], "{way:?}");
            let mut out = [0; 24];
            hamming_on(way, &[0; MAX_DIM / 8], &codes, &mut out);
            assert_eq!(out, [65_536; 24], "{way:?}");
        }
    }

    #[test]
    fn no_dimensions_give_zeros() {
        let mut out = [9; 3];
        Planes::new(&[], 8).dots(&[], 4, &mut out);
        assert_eq!(out, [0; 3]);
        assert_eq!(hamming(&[], &[]), 0);
    }

    #[test]
    #[should_panic(expected = "bytes of 1 codes of 2 bytes")]
    fn codes_of_different_lengths_are_refused() {
        let _ = hamming(&[0; 2], &[0; 3]);
    }

    #[test]
    #[should_panic(expected = "a value of 3 bits is less than 2^3")]
    fn a_value_that_does_not_fit_is_refused() {
        let _ = Planes::new(&[1, 8], 3);
    }

    #[test]
    #[should_panic(expected = "9 bits")]
    fn more_than_eight_bits_are_refused() {
        let _ = Planes::new(&[], 9);
    }

    #[test]
    #[should_panic(expected = "65537 dimensions")]
    fn more_dimensions_than_fit_are_refused() {
        let _ = Planes::new(&vec![0; MAX_DIM + 1], 1);
    }
}
