//! Half precision, f16: `(−1)^s · 2^(e−15) · 1.f` with 1 + 5 + 10 bits, little-endian (IEEE 754-2019).
//!
//! Encoding rounds to nearest, ties to even, and saturates: beyond ±65504 the largest number is
//! kept, and NaN becomes the largest. Decoding is exact; infinities stay, and a NaN becomes quiet and
//! keeps its sign and payload.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::path::{Path, Set};

/// The largest finite number.
const MAX: f32 = 65504.0;

/// Encodes `x` (d) into `code` (2·d bytes). O(d), no allocation.
///
/// # Panics
/// When `code` has another length.
pub fn encode(x: &[f32], code: &mut [u8]) {
    encode_on(Path::fastest(), x, code);
}

/// Decodes `code` (2·d bytes) into `x` (d). O(d), no allocation.
///
/// # Panics
/// When `code` has another length.
pub fn decode(code: &[u8], x: &mut [f32]) {
    decode_on(Path::fastest(), code, x);
}

/// As [`encode`], of one number.
#[must_use]
#[inline]
pub fn encode_one(x: f32) -> [u8; 2] {
    from_f32(x).to_le_bytes()
}

/// As [`decode`], of one number.
#[must_use]
#[inline]
pub fn decode_one(code: [u8; 2]) -> f32 {
    to_f32(u16::from_le_bytes(code))
}

fn encode_on(path: Path, x: &[f32], code: &mut [u8]) {
    assert_eq!(code.len(), 2 * x.len(), "bytes of {} numbers", x.len());
    let code = code.as_chunks_mut().0;
    match path.0 {
        Set::Portable => encode_each(x, code),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected AVX2 and F16C.
        Set::Avx2 => unsafe { avx2::encode(x, code) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected AVX-512F.
        Set::Avx512 | Set::Vbmi => unsafe { avx512::encode(x, code) },
    }
}

fn decode_on(path: Path, code: &[u8], x: &mut [f32]) {
    assert_eq!(code.len(), 2 * x.len(), "bytes of {} numbers", x.len());
    let code = code.as_chunks().0;
    match path.0 {
        Set::Portable => decode_each(code, x),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected AVX2 and F16C.
        Set::Avx2 => unsafe { avx2::decode(code, x) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this set exists only where `Path::available` detected AVX-512F.
        Set::Avx512 | Set::Vbmi => unsafe { avx512::decode(code, x) },
    }
}

#[inline]
fn encode_each(x: &[f32], code: &mut [[u8; 2]]) {
    for (x, code) in x.iter().zip(code) {
        *code = encode_one(*x);
    }
}

#[inline]
fn decode_each(code: &[[u8; 2]], x: &mut [f32]) {
    for (x, code) in x.iter_mut().zip(code) {
        *x = decode_one(*code);
    }
}

/// The f16 nearest to `x`, without branches.
#[inline]
fn from_f32(x: f32) -> u16 {
    // In this order the comparisons make the largest number of NaN.
    let x = if x < MAX { x } else { MAX };
    let x = if x > -MAX { x } else { -MAX };
    let (sign, bits) = (x.to_bits() >> 16 & 0x8000, x.to_bits() & 0x7FFF_FFFF);
    // Ten bits of fraction, then the exponent's bias from 127 to 15.
    let even = bits >> 13 & 1;
    let normal = ((bits + 0xFFF + even) >> 13).wrapping_sub((127 - 15) << 10);
    // Below 2^−14 the spacing is 2^−24, which is one unit in the last place of 1/2.
    let subnormal = (f32::from_bits(bits) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let small = bits < (127 - 14) << 23;
    (sign | if small { subnormal } else { normal }) as u16
}

/// The number that an f16 is, without branches.
#[inline]
fn to_f32(half: u16) -> f32 {
    let (sign, bits) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7FFF) << 13);
    // The bias from 15 to 127, or to the exponent of infinities and NaNs, which are made quiet.
    let normal = bits + ((127 - 15) << 23);
    let special = bits | 0x7F80_0000 | if bits > 31 << 23 { 0x40_0000 } else { 0 };
    // With the exponent of 2^−14 in place of none, less the one that this puts before the fraction.
    let least = (127 - 14) << 23;
    let subnormal = (f32::from_bits(bits + least) - f32::from_bits(least)).to_bits();
    let bits = if bits < 1 << 23 { subnormal } else { normal };
    f32::from_bits(sign | if half & 0x7C00 == 0x7C00 { special } else { bits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(path: Path, x: &[f32]) -> Vec<u16> {
        let mut code = vec![0xAA; 2 * x.len()];
        encode_on(path, x, &mut code);
        code.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
    }

    fn decoded(path: Path, halves: &[u16]) -> Vec<f32> {
        let code: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut x = vec![9.0; halves.len()];
        decode_on(path, &code, &mut x);
        x
    }

    /// The number by its definition, in f64; infinity for the exponent after the last.
    fn defined(half: u16) -> f64 {
        let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 0x3FF));
        let magnitude = match exponent {
            0 => fraction * 2.0_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2.0_f64.powi(exponent - 25),
        };
        if half & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_half_is_decoded_exactly_and_encoded_again_on_every_path() {
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        for path in Path::available() {
            let x = decoded(path, &halves);
            let again = encoded(path, &x);
            for ((half, x), again) in halves.iter().zip(&x).zip(again) {
                let exact = defined(*half);
                if exact.is_nan() {
                    let quiet = 0x7FC0_0000 | u32::from(half & 0x3FF) << 13;
                    assert_eq!(x.to_bits() & 0x7FFF_FFFF, quiet, "{half:#x} {path:?}");
                    assert_eq!((again, x.is_sign_negative()), (0x7BFF, half & 0x8000 != 0));
                } else {
                    assert_eq!(x.to_bits(), (exact as f32).to_bits(), "{half:#x} {path:?}");
                    let saturated = if exact.is_infinite() { half - 1 } else { *half };
                    assert_eq!(again, saturated, "{half:#x} {path:?}");
                }
            }
        }
    }

    #[test]
    fn between_two_halves_the_nearer_wins_and_the_even_one_on_a_tie() {
        for path in Path::available() {
            for low in 0..0x7BFF_u16 {
                // Twelve bits are enough for the middle.
                let middle = ((defined(low) + defined(low + 1)) / 2.0) as f32;
                let x = [middle.next_down(), middle, middle.next_up()];
                let even = low + low % 2;
                assert_eq!(encoded(path, &x), [low, even, low + 1], "{middle} {path:?}");
                let even = even | 0x8000;
                assert_eq!(encoded(path, &x.map(|x| -x))[1], even, "{middle} {path:?}");
            }
            let edges = [65504.0, 65519.9, 65520.0, f32::MAX, f32::INFINITY, f32::NAN, -f32::NAN];
            assert_eq!(encoded(path, &edges), [0x7BFF; 7], "{path:?}");
            assert_eq!(
                encoded(path, &edges[..5].iter().map(|x| -x).collect::<Vec<_>>()),
                [0xFBFF; 5]
            );
        }
    }

    #[test]
    fn one_number_is_rounded_as_a_row_of_it() {
        for path in Path::available() {
            for high in 0..=u16::MAX {
                for low in [0, 1, 0x1000, 0x2000, 0xFFFF] {
                    let x = f32::from_bits(u32::from(high) << 16 | low);
                    let code = encode_one(x);
                    assert_eq!(encoded(path, &[x; 17]), [u16::from_le_bytes(code); 17], "{x}");
                }
                let back = decode_one(high.to_le_bytes()).to_bits();
                assert!(decoded(path, &[high; 17]).iter().all(|x| x.to_bits() == back), "{high:x}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_path_gives_the_bits_of_the_portable_one(bits in prop::collection::vec(any::<u32>(), 0..80)) {
            let x: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let halves: Vec<u16> = bits.iter().map(|bits| *bits as u16).collect();
            for path in Path::available() {
                let expected: Vec<u16> = x.iter().map(|x| from_f32(*x)).collect();
                prop_assert_eq!(encoded(path, &x), expected, "{:?}", path);
                for (x, half) in decoded(path, &halves).iter().zip(&halves) {
                    prop_assert_eq!(x.to_bits(), to_f32(*half).to_bits(), "{:?}", path);
                }
            }
        }
    }
}
