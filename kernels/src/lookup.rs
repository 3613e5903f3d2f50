//! Sums over packed codes by table: `out = Σⱼ table[j][codeⱼ]`, the scan of every product or additive
//! quantizer.
//!
//! Codes are packed as [`pack`](crate::pack) packs them, then interleaved for the scan by
//! [`interleave`]: 64 codes side by side, byte by byte. Where the bits of a code divide 8, the codes
//! that share a byte share one table of 256 entries, made once per query, so that a scan costs one
//! look-up per byte whatever the width. With AVX-512 the tables are cut so that they fit registers, and
//! one permutation is 16 to 64 look-ups. Other widths are unpacked on the way.
//!
//! [`add_terms`] makes a table.
//!
//! A sum is **defined** as the f32 sum over bytes in their order, from 0, the entry of a byte being the
//! f32 sum over its codes in their order; for widths that do not divide 8, over codes in their order.
//! Every path gives its bits (only the payload of a NaN is unspecified).

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_variables,
        reason = "codes are filtered before they are summed on x86-64 alone"
    )
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod filter;
mod portable;

use std::ops::Range;

use ndarray::ArrayView2;

use crate::TopK;
use crate::pack::packed_bytes;
use crate::path::{Path, Set};
use filter::Filter;

/// Codes per block of the interleaved layout.
const BLOCK: usize = 64;

/// Blocks between two looks at the threshold, at first and at most.
const STEP: Range<usize> = 8..1024;

/// Candidates in a block that are summed one by one.
const FEW: u32 = 4;

/// One byte of each code of a block.
type Line = [u8; BLOCK];

/// The tables of one query.
///
/// ```
/// use ndarray::array;
/// use vq_kernels::TopK;
/// use vq_kernels::lookup::{Lookup, interleave};
///
/// // Two codes of 4 bits each: 3 and 1, 0 and 2.
/// let codes = array![[0x13_u8], [0x20]];
/// let mut packed = [0; 2];
/// interleave(codes.view(), &mut packed);
/// let entries = (0..32).map(|i| i as f32).collect();
/// let lookup = Lookup::new(entries, 2, 4);
/// let mut sums = [0.0; 2];
/// lookup.sums(&packed, &mut sums);
/// assert_eq!(sums, [3.0 + 17.0, 0.0 + 18.0]);
/// let mut top = TopK::new(1);
/// lookup.push_sums(&packed, 100..102, &mut top);
/// assert_eq!(top.into_sorted(), [(20.0, 100)]);
/// ```
#[derive(Clone, Debug)]
pub struct Lookup {
    tables: Tables,
    width: usize,
    path: Path,
}

#[derive(Clone, Debug)]
enum Tables {
    /// One per byte; the same cut to planes where the path reads those, and one per 4-bit code
    /// where it filters by those.
    Bytes { bytes: Vec<[f32; 256]>, planes: Vec<Planes>, nibbles: Vec<[f32; 16]> },
    /// (count, 2^bits) entries.
    Codes { entries: Vec<f32>, bits: u32 },
}

/// A table of 256 f32, cut: plane `p` holds the byte `p` of every entry, little-endian.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Planes([[u8; 256]; 4]);

impl Planes {
    #[inline(always)]
    fn of(table: &[f32; 256]) -> Self {
        let mut planes = Self([[0; 256]; 4]);
        for (p, plane) in planes.0.iter_mut().enumerate() {
            for (byte, entry) in plane.iter_mut().zip(table) {
                *byte = (entry.to_bits() >> (8 * p)) as u8;
            }
        }
        planes
    }
}

/// Interleaves `codes` (n, width) into `packed` (n · width bytes): per 64 codes, or as many as are
/// left at the end, the first byte of each, then the second byte of each, and so on.
///
/// Any strides. Single-threaded, O(n · width), no allocation.
///
/// # Panics
/// When `packed` has another length.
pub fn interleave(codes: ArrayView2<'_, u8>, packed: &mut [u8]) {
    assert_eq!(packed.len(), codes.len(), "length of the interleaved codes");
    let (n, width) = codes.dim();
    if n == 0 || width == 0 {
        return;
    }
    for (codes, block) in
        codes.axis_chunks_iter(ndarray::Axis(0), BLOCK).zip(packed.chunks_mut(BLOCK * width))
    {
        for (column, line) in codes.columns().into_iter().zip(block.chunks_exact_mut(codes.nrows()))
        {
            for (byte, packed) in column.iter().zip(line) {
                *packed = *byte;
            }
        }
    }
}

impl Lookup {
    /// Tables for `count` codes of `bits` bits from `entries` (count, 2^bits).
    ///
    /// # Panics
    /// When `bits` is not in 1..=16 or `entries` has another length.
    #[must_use]
    pub fn new(entries: Vec<f32>, count: usize, bits: u32) -> Self {
        Self::new_on(Path::fastest(), entries, count, bits)
    }

    fn new_on(path: Path, entries: Vec<f32>, count: usize, bits: u32) -> Self {
        assert!((1..=16).contains(&bits), "{bits} bits, expected 1 to 16");
        assert_eq!(entries.len(), count << bits, "entries of {count} tables");
        let width = packed_bytes(count, bits);
        let tables = if 8 % bits == 0 {
            let bytes = by_byte(&entries, bits);
            let planes = path.planes(&bytes);
            let mut nibbles = Vec::new();
            if bits == 4 && path.filters_nibbles() {
                nibbles.extend_from_slice(entries.as_chunks().0);
                nibbles.resize(2 * width, [0.0; 16]);
            }
            Tables::Bytes { bytes, planes, nibbles }
        } else {
            Tables::Codes { entries, bits }
        };
        Self { tables, width, path }
    }

    /// Writes the sum of every code into `sums` (n); `packed` is n codes, as [`interleave`] wrote them.
    ///
    /// Single-threaded, O(n · count). Allocates 64 codes where n is no multiple of 64.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn sums(&self, packed: &[u8], sums: &mut [f32]) {
        self.check(packed, sums.len());
        if self.width == 0 {
            return sums.fill(0.0);
        }
        let (lines, rest) = self.lines(packed);
        let (blocks, sums_rest) = sums.as_chunks_mut();
        self.sum_blocks(lines, blocks);
        if !sums_rest.is_empty() {
            sums_rest.copy_from_slice(&self.sum_rest(rest)[..sums_rest.len()]);
        }
    }

    /// Offers the sum of every code to `top`, under the ids `ids` (n); `packed` is n codes, as
    /// [`interleave`] wrote them. `top` selects what it would select from all [`sums`](Self::sums).
    ///
    /// Cheaper than all sums where `top` keeps few of many: most codes are rejected by sums of
    /// 8-bit integers whose error is bounded. Single-threaded, O(n · count), allocates O(count).
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn push_sums(&self, packed: &[u8], ids: Range<u32>, top: &mut TopK) {
        let n = ids.len();
        self.check(packed, n);
        if self.width == 0 {
            return ids.for_each(|id| top.push(0.0, id));
        }
        let (lines, rest) = self.lines(packed);
        match &self.tables {
            Tables::Bytes { nibbles, .. } if !nibbles.is_empty() => {
                let filter = Filter::new(self.path, nibbles);
                self.push_blocks(filter, Path::nibble_candidates, lines, ids.start, top);
            }
            Tables::Bytes { bytes, .. } if self.path.filters_bytes() => {
                let filter = Filter::new(self.path, bytes);
                self.push_blocks(filter, Path::byte_candidates, lines, ids.start, top);
            }
            _ => {
                let none = None::<Filter<'_, 256>>;
                self.push_blocks(none, Path::byte_candidates, lines, ids.start, top);
            }
        }
        let left = n % BLOCK;
        if left > 0 {
            top.push_row(ids.end - left as u32, &self.sum_rest(rest)[..left]);
        }
    }

    /// Offers the sums of whole blocks, of the candidates that `filter` leaves where there is one.
    fn push_blocks<const E: usize>(
        &self,
        mut filter: Option<Filter<'_, E>>,
        candidates: impl Fn(Path, &[[u8; E]], &[Line], &mut [u64]),
        lines: &[Line],
        first_id: u32,
        top: &mut TopK,
    ) {
        let mut sums = [[0.0; BLOCK]; STEP.start];
        let mut masks = [0; STEP.end];
        let (mut lines, mut first_id) = (lines, first_id);
        let mut step = STEP.start;
        while !lines.is_empty() {
            let blocks = (lines.len() / self.width).min(step);
            let (now, later) = lines.split_at(blocks * self.width);
            let threshold = filter.as_ref().map_or(f32::NEG_INFINITY, |_| top.threshold());
            match filter.as_mut().filter(|_| threshold > f32::NEG_INFINITY) {
                Some(filter) => {
                    step = (2 * step).min(STEP.end);
                    let Some(tables) = filter.rounded(threshold) else { return };
                    let masks = &mut masks[..blocks];
                    candidates(self.path, tables, now, masks);
                    for (b, &mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
                        let block = &now[b * self.width..][..self.width];
                        let first_id = first_id + (b * BLOCK) as u32;
                        if mask.count_ones() > FEW {
                            self.sum_blocks(block, &mut sums[..1]);
                            top.push_row(first_id, &sums[0]);
                        } else {
                            let mut mask = mask;
                            while mask != 0 {
                                let i = mask.trailing_zeros();
                                top.push(self.sum_one(block, i as usize), first_id + i);
                                mask &= mask - 1;
                            }
                        }
                    }
                }
                None => {
                    let sums = &mut sums[..blocks];
                    self.sum_blocks(now, sums);
                    top.push_row(first_id, sums.as_flattened());
                }
            }
            lines = later;
            first_id += (blocks * BLOCK) as u32;
        }
    }

    fn check(&self, packed: &[u8], n: usize) {
        assert_eq!(packed.len(), n * self.width, "length of {n} codes of {} bytes", self.width);
    }

    /// The lines of whole blocks and the codes of a last one.
    fn lines<'a>(&self, packed: &'a [u8]) -> (&'a [Line], &'a [u8]) {
        let block = BLOCK * self.width;
        let (blocks, rest) = packed.split_at(packed.len() / block * block);
        (blocks.as_chunks().0, rest)
    }

    /// The sums of a block that is not whole, and of codes 0 behind them.
    fn sum_rest(&self, rest: &[u8]) -> [f32; BLOCK] {
        let mut lines = vec![[0; BLOCK]; self.width];
        for (line, bytes) in lines.iter_mut().zip(rest.chunks_exact(rest.len() / self.width)) {
            line[..bytes.len()].copy_from_slice(bytes);
        }
        let mut sums = [[0.0; BLOCK]];
        self.sum_blocks(&lines, &mut sums);
        sums[0]
    }

    fn sum_blocks(&self, lines: &[Line], sums: &mut [[f32; BLOCK]]) {
        match &self.tables {
            Tables::Bytes { bytes, planes, .. } => self.path.sums(bytes, planes, lines, sums),
            Tables::Codes { entries, bits } => {
                for (lines, sums) in lines.chunks_exact(self.width).zip(sums) {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = portable::sum_codes(entries, *bits, lines, i);
                    }
                }
            }
        }
    }

    /// The sum of code `i` of a block.
    fn sum_one(&self, lines: &[Line], i: usize) -> f32 {
        match &self.tables {
            Tables::Bytes { bytes, .. } => portable::sum_bytes(bytes, lines, i),
            Tables::Codes { entries, bits } => portable::sum_codes(entries, *bits, lines, i),
        }
    }
}

/// One table per byte from the tables (count, 2^bits) of the codes that share it.
fn by_byte(entries: &[f32], bits: u32) -> Vec<[f32; 256]> {
    if bits == 8 {
        return entries.as_chunks().0.to_vec();
    }
    let byte = |codes: &[f32]| {
        let mut table = [0.0; 256];
        let (first, others) = codes.split_at(1 << bits);
        table[..1 << bits].copy_from_slice(first);
        // The sums of the codes so far, for all their values.
        let mut sums = 1 << bits;
        for code in others.chunks_exact(1 << bits) {
            let (below, above) = table.split_at_mut(sums);
            for (value, above) in code[1..].iter().zip(above.chunks_exact_mut(sums)) {
                for (sum, below) in above.iter_mut().zip(&*below) {
                    *sum = below + value;
                }
            }
            below.iter_mut().for_each(|sum| *sum += code[0]);
            sums <<= bits;
        }
        // Bits beyond the last code do not matter.
        while sums < 256 {
            table.copy_within(..sums, sums);
            sums *= 2;
        }
        table
    };
    entries.chunks((8 / bits as usize) << bits).map(byte).collect()
}

impl Path {
    /// The planes of `bytes`, where this path reads them.
    fn planes(self, bytes: &[[f32; 256]]) -> Vec<Planes> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe { avx512::planes(bytes) },
            _ => Vec::new(),
        }
    }

    /// The sums of blocks by bytes.
    fn sums(
        self,
        bytes: &[[f32; 256]],
        planes: &[Planes],
        lines: &[Line],
        sums: &mut [[f32; BLOCK]],
    ) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe { avx512::sums(planes, lines, sums) },
            _ => portable::sums(bytes, lines, sums),
        }
    }

    /// True if [`nibble_candidates`](Self::nibble_candidates) rejects codes.
    fn filters_nibbles(self) -> bool {
        self.0 != Set::Portable
    }

    /// True if [`byte_candidates`](Self::byte_candidates) rejects codes.
    fn filters_bytes(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Vbmi => true,
            _ => false,
        }
    }

    /// Sets in `masks`, one per block, the bits of the codes that [`Filter`] does not reject.
    fn byte_candidates(self, tables: &[[u8; 256]], lines: &[Line], masks: &mut [u64]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe { avx512::byte_candidates(tables, lines, masks) },
            _ => masks.fill(u64::MAX),
        }
    }

    /// As [`byte_candidates`](Self::byte_candidates), by two tables per byte.
    fn nibble_candidates(self, tables: &[[u8; 16]], lines: &[Line], masks: &mut [u64]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX2.
            Set::Avx2 | Set::Avx512 => unsafe {
                avx2::candidates(tables.as_chunks().0, lines, masks)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe {
                avx512::nibble_candidates(tables.as_chunks().0, lines, masks);
            },
            Set::Portable => masks.fill(u64::MAX),
        }
    }

    /// As [`filter::extremes`].
    fn extremes<const E: usize>(self, table: &[f32; E]) -> Option<[f32; 2]> {
        match self.0 {
            Set::Portable => filter::extremes(table),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX2.
            Set::Avx2 | Set::Avx512 => unsafe { avx2::extremes(table) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe { avx512::extremes(table) },
        }
    }

    /// As [`filter::round_down`].
    fn round_down<const E: usize>(
        self,
        tables: &[[f32; E]],
        most: &[f32],
        scale: f32,
        rounded: &mut [[u8; E]],
    ) {
        match self.0 {
            Set::Portable => filter::round_down(tables, most, scale, rounded),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected AVX2.
            Set::Avx2 | Set::Avx512 => unsafe { avx2::round_down(tables, most, scale, rounded) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected its features.
            Set::Vbmi => unsafe { avx512::round_down(tables, most, scale, rounded) },
        }
    }
}

/// Adds to `sums` (k), for every value of `x` (d) in order, `term(x[t], columns[t][i])` to the sum `i`;
/// `columns` is (d, k). One table of a query, in f64.
///
/// Single-threaded, O(d · k), no allocation.
///
/// # Panics
/// When the shapes disagree.
pub fn add_terms(x: &[f32], columns: &[f32], sums: &mut [f64], term: impl Fn(f64, f64) -> f64) {
    assert_eq!(columns.len(), x.len() * sums.len(), "length of the columns");
    Path::fastest().run(
        #[inline(always)]
        || add(x, columns, sums, term),
    );
}

#[inline(always)]
fn add(x: &[f32], columns: &[f32], sums: &mut [f64], term: impl Fn(f64, f64) -> f64) {
    /// Sums that stay in registers while the values pass by.
    const WIDE: usize = 32;
    let k = sums.len();
    let (chunks, rest) = sums.as_chunks_mut::<WIDE>();
    let done = chunks.len() * WIDE;
    for (c, sums) in chunks.iter_mut().enumerate() {
        let mut held = *sums;
        for (t, x) in x.iter().enumerate() {
            let column = &columns[t * k + c * WIDE..];
            let column: &[f32; WIDE] = column.first_chunk().expect("the length was checked");
            for (sum, value) in held.iter_mut().zip(column) {
                *sum += term(f64::from(*x), f64::from(*value));
            }
        }
        *sums = held;
    }
    for (t, x) in x.iter().enumerate() {
        for (sum, value) in rest.iter_mut().zip(&columns[t * k + done..]) {
            *sum += term(f64::from(*x), f64::from(*value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{pack, unpack};
    use ndarray::{Array2, s};
    use proptest::prelude::*;

    fn noise(seed: u32) -> impl FnMut() -> u32 {
        let mut state = u64::from(seed);
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        }
    }

    /// Codes (n, width) of `count` random codes.
    fn random_codes(n: usize, count: usize, bits: u32, seed: u32) -> Array2<u8> {
        let mut noise = noise(seed);
        let mut codes = Array2::zeros((n, packed_bytes(count, bits)));
        for mut row in codes.outer_iter_mut() {
            let values: Vec<u16> = (0..count).map(|_| noise() as u16).collect();
            pack(&values, bits, row.as_slice_mut().unwrap());
        }
        codes
    }

    fn interleaved(codes: ArrayView2<'_, u8>) -> Vec<u8> {
        let mut packed = vec![0xAA; codes.len()];
        interleave(codes, &mut packed);
        packed
    }

    fn by_definition(entries: &[f32], count: usize, bits: u32, code: &[u8]) -> f32 {
        let mut values = vec![0; count];
        unpack(code, bits, &mut values);
        let found: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(j, v)| entries[(j << bits) + usize::from(*v)])
            .collect();
        let per_byte = if 8 % bits == 0 { 8 / bits as usize } else { 1 };
        let of_byte = |codes: &[f32]| codes.iter().copied().reduce(|sum, e| sum + e).unwrap();
        found.chunks(per_byte).map(of_byte).fold(0.0, |sum, entry| sum + entry)
    }

    /// The bits of a value; all NaNs are one.
    fn bits_of(value: f32) -> u32 {
        if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
    }

    /// Kinds of entries: ties, values whose order of addition matters, sums that differ by
    /// roundings only, any range, and what is not finite.
    fn entries(kind: u8, len: usize, seed: u32) -> Vec<f32> {
        let mut noise = noise(seed);
        let mut unit = move || (noise() >> 8) as f32 / (1 << 24) as f32;
        let mut entry = |i: usize| match kind {
            0 => (unit() * 4.0).floor(),
            1 => -unit() * unit() * 1000.0,
            2 => 1e6 + unit(),
            3 => (unit() - 0.5) * 2.0_f32.powi((unit() * 240.0) as i32 - 120),
            4 => f32::from_bits((unit() * 64.0) as u32),
            5 => 2.5,
            _ if i % 37 == 5 => [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0][i % 4],
            _ => f32::MAX * (unit() - 0.5),
        };
        (0..len).map(&mut entry).collect()
    }

    proptest! {
        #[test]
        fn every_path_gives_the_bits_of_the_definition(
            bits in 1_u32..=12,
            count in 0_usize..40,
            n in 0_usize..280,
            kind in 0_u8..7,
            seed in any::<u32>(),
        ) {
            let entries = entries(kind, count << bits, seed);
            let codes = random_codes(n, count, bits, seed ^ 1);
            let packed = interleaved(codes.view());
            let expected: Vec<u32> = codes
                .outer_iter()
                .map(|code| bits_of(by_definition(&entries, count, bits, code.to_slice().unwrap())))
                .collect();
            for path in Path::available() {
                let lookup = Lookup::new_on(path, entries.clone(), count, bits);
                let mut sums = vec![9.0; n];
                lookup.sums(&packed, &mut sums);
                let sums: Vec<u32> = sums.into_iter().map(bits_of).collect();
                prop_assert_eq!(&sums, &expected, "{:?}", path);
            }
        }

        #[test]
        fn a_selection_is_that_of_all_sums(
            bits in prop_oneof![Just(1_u32), Just(2), Just(4), Just(8), Just(5)],
            count in 0_usize..40,
            n in 0_usize..4000,
            k in prop_oneof![0_usize..20, 0_usize..2000],
            kind in 0_u8..7,
            cut in 0.0_f64..1.0,
            seed in any::<u32>(),
        ) {
            let entries = entries(kind, count << bits, seed);
            let codes = random_codes(n, count, bits, seed ^ 1);
            let cut = (n as f64 * cut) as usize;
            let parts = [codes.slice(s![..cut, ..]), codes.slice(s![cut.., ..])].map(interleaved);
            let ids = [7..7 + cut as u32, 7 + cut as u32..7 + n as u32];
            for path in Path::available() {
                let lookup = Lookup::new_on(path, entries.clone(), count, bits);
                let (mut all, mut some) = (TopK::new(k), TopK::new(k));
                for (packed, ids) in parts.iter().zip(&ids) {
                    let mut sums = vec![0.0; ids.len()];
                    lookup.sums(packed, &mut sums);
                    all.push_row(ids.start, &sums);
                    lookup.push_sums(packed, ids.clone(), &mut some);
                }
                let bits_and_ids = |top: TopK| -> Vec<(u32, u32)> {
                    top.into_sorted().into_iter().map(|(sum, id)| (bits_of(sum), id)).collect()
                };
                prop_assert_eq!(bits_and_ids(some), bits_and_ids(all), "{:?}", path);
            }
        }

        #[test]
        fn strides_change_nothing(n in 0_usize..150, width in 0_usize..9, seed in any::<u32>()) {
            let codes = random_codes(n, width + 3, 8, seed);
            let view = codes.slice(s![.., 1..=width]);
            let expected = interleaved(view.as_standard_layout().view());
            prop_assert_eq!(&interleaved(view), &expected);
            let turned = view.t().as_standard_layout().into_owned();
            prop_assert_eq!(&interleaved(turned.t()), &expected);
        }
    }

    #[test]
    fn the_layout_is_blocks_of_64_codes_byte_by_byte() {
        let codes = Array2::from_shape_fn((67, 2), |(i, j)| (i + 100 * j) as u8);
        let packed = interleaved(codes.view());
        let whole = (0..64).chain(100..164);
        let rest = (64..67).chain(164..167);
        assert_eq!(packed, whole.chain(rest).collect::<Vec<u8>>());
    }

    #[test]
    fn most_codes_are_rejected_where_a_path_filters() {
        for bits in [4, 8] {
            let entries: Vec<f32> = entries(1, 8 << bits, 3);
            let packed = interleaved(random_codes(6400, 8, bits, 4).view());
            for path in Path::available() {
                let lookup = Lookup::new_on(path, entries.clone(), 8, bits);
                let mut sums = vec![0.0; 6400];
                lookup.sums(&packed, &mut sums);
                let mut top = TopK::new(10);
                top.push_row(0, &sums);
                let threshold = top.threshold();
                let Tables::Bytes { bytes, nibbles, .. } = &lookup.tables else {
                    panic!("{bits} divides 8")
                };
                let mut masks = vec![0; 100];
                let (lines, _) = lookup.lines(&packed);
                if !nibbles.is_empty() {
                    let mut filter = Filter::new(path, nibbles).unwrap();
                    path.nibble_candidates(filter.rounded(threshold).unwrap(), lines, &mut masks);
                } else if path.filters_bytes() {
                    let mut filter = Filter::new(path, bytes).unwrap();
                    path.byte_candidates(filter.rounded(threshold).unwrap(), lines, &mut masks);
                } else {
                    continue;
                }
                let candidates: u32 = masks.iter().map(|mask| mask.count_ones()).sum();
                assert!((10..100).contains(&candidates), "{candidates} candidates, {path:?}");
                for (i, sum) in sums.iter().enumerate() {
                    let rejected = masks[i / BLOCK] >> (i % BLOCK) & 1 == 0;
                    assert!(!rejected || *sum < threshold, "{sum} reaches {threshold}, {path:?}");
                }
            }
        }
    }

    #[test]
    fn terms_are_added_in_their_order_at_every_width() {
        for (d, k) in [(0, 5), (3, 0), (1, 31), (5, 32), (7, 33), (16, 256)] {
            let value = |i: usize| ((i * 31) as f32 * 0.61).sin();
            let x: Vec<f32> = (0..d).map(value).collect();
            let columns: Vec<f32> = (d..d + d * k).map(value).collect();
            let term = |x: f64, c: f64| (x - c) * (x - c);
            let expected: Vec<f64> = (0..k)
                .map(|i| {
                    let values = columns.iter().skip(i).step_by(k);
                    x.iter()
                        .zip(values)
                        .fold(0.5, |sum, (x, c)| sum + term((*x).into(), (*c).into()))
                })
                .collect();
            let mut sums = vec![0.5; k];
            add_terms(&x, &columns, &mut sums, term);
            assert_eq!(sums, expected);
        }
    }
}
