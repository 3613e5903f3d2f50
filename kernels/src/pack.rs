//! Codes of 1 to 16 bits each, packed without gaps: `out = Σ valueᵢ · 2^(i·bits)`, little-endian.
//!
//! Value `i` takes the bits `i·bits ..` of the row, least significant first; the row ends at a
//! whole byte and the bits that remain there are zero. Five-bit codes take five bits.
//!
//! Eight values of any width fill as many bytes as one has bits. Both paths take several such groups at
//! a time and join two values and then four by shifts; no width is treated apart.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_variables,
        reason = "only x86-64 has a path that writes past the caches"
    )
)]

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Values that are packed at once.
const BLOCK: usize = 32;

/// Bytes that `count` values of `bits` bits take: `⌈count · bits / 8⌉`.
///
/// # Panics
/// When the number of bits does not fit a `usize`.
#[must_use]
pub fn packed_bytes(count: usize, bits: u32) -> usize {
    count.checked_mul(bits as usize).expect("the bits of one row fit a usize").div_ceil(8)
}

/// Packs `values` into `out`, which holds [`packed_bytes`]`(values.len(), bits)` bytes, all of
/// which are written. Bits of a value above `bits` are dropped.
///
/// # Panics
/// When `bits` is not in 1..=16 or `out` has another length.
pub fn pack(values: &[u16], bits: u32, out: &mut [u8]) {
    pack_on(Path::fastest(), values, bits, out);
}

/// Unpacks `bytes`, as [`pack`] wrote them, into `values`.
///
/// # Panics
/// When `bits` is not in 1..=16 or `bytes` is not [`packed_bytes`]`(values.len(), bits)` long.
pub fn unpack(bytes: &[u8], bits: u32, values: &mut [u16]) {
    unpack_on(Path::fastest(), bytes, bits, values);
}

/// Unpacks rows `codes` (n, bytes), each as [`pack`] wrote it, and scales:
/// `out[i, t] = base[t] + step[t] · value[i, t]`, both operations rounded.
///
/// With `past_caches`, for an `out` (n, d) larger than the caches, its memory is written without being
/// read first where the machine can.
///
/// # Panics
/// As [`unpack`]; when shapes disagree, or rows of `out` are not contiguous.
pub fn unpack_scaled(
    codes: ArrayView2<'_, u8>,
    bits: u32,
    base: &[f32],
    step: &[f32],
    out: ArrayViewMut2<'_, f32>,
    past_caches: bool,
) {
    unpack_scaled_on(Path::fastest(), codes, bits, (base, step), out, past_caches);
}

fn unpack_scaled_on(
    path: Path,
    codes: ArrayView2<'_, u8>,
    bits: u32,
    (base, step): (&[f32], &[f32]),
    mut out: ArrayViewMut2<'_, f32>,
    past_caches: bool,
) {
    check(out.ncols(), bits, codes.ncols());
    assert_eq!(codes.nrows(), out.nrows(), "rows of codes and of values");
    assert_eq!((base.len(), step.len()), (out.ncols(), out.ncols()), "one line per value");
    let codes = codes.as_standard_layout();
    let codes = codes.as_slice().expect("the layout is standard");
    let width = packed_bytes(out.ncols(), bits);
    for (i, mut out) in out.outer_iter_mut().enumerate() {
        let rest = &codes[i * width..];
        let code = &rest[..width];
        let out = out.as_slice_mut().expect("rows are contiguous");
        match path.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this set exists only where `Path::available` detected the features.
            Set::Vbmi => unsafe { avx512::unpack_scaled(rest, bits, base, step, out, past_caches) },
            _ => path.run(
                #[inline(always)]
                || portable::unpack_scaled(code, bits, base, step, out),
            ),
        }
    }
    #[cfg(target_arch = "x86_64")]
    if past_caches {
        // Before anything that this thread writes next: who sees that sees these rows.
        // SAFETY: SSE is part of x86-64.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
}

fn pack_on(path: Path, values: &[u16], bits: u32, out: &mut [u8]) {
    check(values.len(), bits, out.len());
    match path.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected the features.
        Set::Vbmi => unsafe { avx512::pack(values, bits, out) },
        _ => path.run(
            #[inline(always)]
            || portable::pack(values, bits, out),
        ),
    }
}

fn unpack_on(path: Path, bytes: &[u8], bits: u32, values: &mut [u16]) {
    check(values.len(), bits, bytes.len());
    match path.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected the features.
        Set::Vbmi => unsafe { avx512::unpack(bytes, bits, values) },
        _ => path.run(
            #[inline(always)]
            || portable::unpack(bytes, bits, values),
        ),
    }
}

fn check(count: usize, bits: u32, bytes: usize) {
    assert!((1..=16).contains(&bits), "{bits} bits, expected 1 to 16");
    assert_eq!(bytes, packed_bytes(count, bits), "length of {count} packed values of {bits} bits");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn defined(values: &[u16], bits: u32) -> Vec<u8> {
        let mut out = vec![0; packed_bytes(values.len(), bits)];
        for (i, value) in values.iter().enumerate() {
            for bit in (0..bits as usize).filter(|bit| value >> bit & 1 == 1) {
                let at = i * bits as usize + bit;
                out[at / 8] |= 1 << (at % 8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_path_packs_by_the_definition_and_unpacks_again(bits in 1_u32..=16, values in prop::collection::vec(any::<u16>(), 0..300)) {
            let expected = defined(&values, bits);
            let mask = ((1_u32 << bits) - 1) as u16;
            let masked: Vec<u16> = values.iter().map(|v| v & mask).collect();
            for path in Path::available() {
                let mut packed = vec![0xAA; expected.len()];
                pack_on(path, &values, bits, &mut packed);
                prop_assert_eq!(&packed, &expected, "{:?}", path);
                let mut back = vec![0xAAAA; values.len()];
                unpack_on(path, &packed, bits, &mut back);
                prop_assert_eq!(&back, &masked, "{:?}", path);
            }
        }

        #[test]
        fn every_path_scales_alike(
            bits in 1_u32..=16,
            values in prop::collection::vec(any::<u16>(), 1..400),
            dim in 1_usize..100,
            at in 0_usize..20,
            past_caches in any::<bool>(),
        ) {
            let mask = ((1_u32 << bits) - 1) as u16;
            let base: Vec<f32> = (0..dim).map(|i| i as f32 * 0.7 - 9.0).collect();
            let step: Vec<f32> = base.iter().map(|base| base.abs() * 0.01).collect();
            let rows = values.chunks_exact(dim);
            let n = rows.len();
            let packed: Vec<u8> = rows.clone().flat_map(|row| defined(row, bits)).collect();
            let codes = ArrayView2::from_shape((n, packed_bytes(dim, bits)), &packed).unwrap();
            let lines = || base.iter().zip(&step);
            let scaled = rows.flat_map(|row| row.iter().zip(lines()));
            let expected: Vec<u32> =
                scaled.map(|(v, (b, s))| (b + s * f32::from(v & mask)).to_bits()).collect();
            for path in Path::available() {
                let mut out = vec![7.0; at + n * dim + 20];
                let inner = &mut out[at..at + n * dim];
                let rows = ArrayViewMut2::from_shape((n, dim), inner).unwrap();
                unpack_scaled_on(path, codes, bits, (&base, &step), rows, past_caches);
                let inner = &out[at..at + n * dim];
                let found: Vec<u32> = inner.iter().map(|x| x.to_bits()).collect();
                prop_assert_eq!(&found, &expected, "{:?}", path);
                let outside = out[..at].iter().chain(&out[at + n * dim..]);
                prop_assert!(outside.into_iter().all(|x| *x == 7.0));
            }
        }

        #[test]
        fn bits_after_the_last_value_are_not_read(bits in 1_u32..=16, values in prop::collection::vec(any::<u16>(), 1..70)) {
            let mut packed = defined(&values, bits);
            let used = values.len() * bits as usize % 8;
            if let (1.., Some(last)) = (used, packed.last_mut()) {
                *last |= 0xFF << used;
            }
            let mask = ((1_u32 << bits) - 1) as u16;
            for path in Path::available() {
                let mut back = vec![0; values.len()];
                unpack_on(path, &packed, bits, &mut back);
                prop_assert!(back.iter().zip(&values).all(|(back, v)| *back == v & mask), "{:?}", path);
            }
        }
    }

    #[test]
    fn nothing_outside_the_slices_is_written() {
        let values: Vec<u16> = (0..67).map(|i| i * 977).collect();
        for bits in 1..=16 {
            for count in 0..=67 {
                let len = packed_bytes(count, bits);
                for path in Path::available() {
                    let mut out = [0x5A; 200];
                    pack_on(path, &values[..count], bits, &mut out[20..20 + len]);
                    assert!(out[..20].iter().chain(&out[20 + len..]).all(|byte| *byte == 0x5A));
                    let mut back = [0x5A5A; 100];
                    unpack_on(path, &out[20..20 + len], bits, &mut back[9..9 + count]);
                    assert!(back[..9].iter().chain(&back[9 + count..]).all(|v| *v == 0x5A5A));
                }
            }
        }
    }

    #[test]
    fn the_layout_never_changes() {
        let mut out = [0; 2];
        pack(&[0b10101, 0b00011, 0b11111], 5, &mut out);
        assert_eq!(out, [0b0111_0101, 0b0111_1100]);
        let mut out = [0; 2];
        pack(&[1, 2, 3], 4, &mut out);
        assert_eq!(out, [0x21, 0x03]);
        let mut out = [0; 2];
        pack(&[0x1234], 16, &mut out);
        assert_eq!(out, [0x34, 0x12]);
    }

    #[test]
    fn five_bit_codes_take_five_bits() {
        assert_eq!(packed_bytes(8, 5), 5);
        assert_eq!(packed_bytes(9, 5), 6);
        assert_eq!(packed_bytes(0, 5), 0);
    }

    #[test]
    #[should_panic(expected = "17 bits")]
    fn more_than_sixteen_bits_are_refused() {
        pack(&[], 17, &mut []);
    }
}
