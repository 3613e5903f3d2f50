//! Rows to bytes and back, one pair of functions per format; all little-endian. That of f16 is
//! [`vq_kernels::half`].
//!
//! Plain loops without branches, so that they vectorise: rounding to nearest even is an addition
//! that leaves no room for the bits to drop. Inlined into [`vq_kernels::Path::run`].

/// The largest number of OCP e4m3: S.1111.110 = 1.75 · 2^8.
const E4M3_MAX: f32 = 448.0;

/// The largest finite bf16.
const BF16_MAX: f32 = f32::from_bits(0x7F7F_0000);

/// Within ±`end`; no number becomes `end`.
#[inline(always)]
fn saturate(x: f32, end: f32) -> f32 {
    let x = if x < end { x } else { end };
    if x > -end { x } else { -end }
}

#[inline(always)]
pub(crate) fn to_f32(x: &[f32], code: &mut [u8]) {
    for (bytes, x) in code.as_chunks_mut::<4>().0.iter_mut().zip(x) {
        *bytes = x.to_le_bytes();
    }
}

#[inline(always)]
pub(crate) fn from_f32(code: &[u8], x: &mut [f32]) {
    for (x, bytes) in x.iter_mut().zip(code.as_chunks::<4>().0) {
        *x = f32::from_le_bytes(*bytes);
    }
}

#[inline(always)]
pub(crate) fn to_bf16(x: &[f32], code: &mut [u8]) {
    for (bytes, x) in code.as_chunks_mut::<2>().0.iter_mut().zip(x) {
        let bits = saturate(*x, BF16_MAX).to_bits();
        let even = bits >> 16 & 1;
        *bytes = (((bits + 0x7FFF + even) >> 16) as u16).to_le_bytes();
    }
}

#[inline(always)]
pub(crate) fn from_bf16(code: &[u8], x: &mut [f32]) {
    for (x, bytes) in x.iter_mut().zip(code.as_chunks::<2>().0) {
        *x = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// `2^k` for k in −126..=127.
pub(crate) fn exp2(k: i32) -> f32 {
    f32::from_bits(((k.clamp(-126, 127) + 127) as u32) << 23)
}

/// The largest k in −126..=127 with `2^k · largest ≤ 448`; 0 for nothing but zeros.
pub(crate) fn e4m3_exponent(largest: f32) -> i32 {
    if largest == 0.0 {
        return 0;
    }
    let k = (f64::from(E4M3_MAX) / f64::from(largest)).log2().floor();
    (k as i32).clamp(-126, 127)
}

/// e4m3 of `scale · x`, OCP table 2 with rounding to nearest even and saturation.
#[inline(always)]
pub(crate) fn to_e4m3(x: &[f32], scale: f32, code: &mut [u8]) {
    for (code, x) in code.iter_mut().zip(x) {
        let bits = saturate(x * scale, E4M3_MAX).to_bits();
        let (sign, bits) = (bits >> 24 & 0x80, bits & 0x7FFF_FFFF);
        // Three bits of fraction, then the exponent's bias from 127 to 7.
        let even = bits >> 20 & 1;
        let normal = ((bits + 0x7_FFFF + even) >> 20).wrapping_sub((127 - 7) << 3);
        // Below 2^−6 the spacing is 2^−9, which is one unit in the last place of 2^14.
        let subnormal = (f32::from_bits(bits) + 16384.0).to_bits() & 0xF;
        let small = bits < (127 - 6) << 23;
        *code = (sign | if small { subnormal } else { normal }) as u8;
    }
}

/// The number of each code, divided by `2^exponent`.
#[inline(always)]
pub(crate) fn from_e4m3(code: &[u8], exponent: i32, x: &mut [f32]) {
    // Every number is a multiple of the smallest, at most 15 · 2^14 times.
    let smallest = 2.0_f64.powi(-9 - exponent);
    for (x, code) in x.iter_mut().zip(code) {
        let code = u32::from(*code);
        let (exp, fraction) = (code >> 3 & 0xF, code & 7);
        let multiple = if exp == 0 { fraction } else { (8 + fraction) << (exp - 1) };
        let magnitude = (f64::from(multiple as i32) * smallest).min(f64::from(f32::MAX)) as f32;
        let magnitude = if code & 0x7F == 0x7F { f32::NAN } else { magnitude };
        *x = f32::from_bits(magnitude.to_bits() | (code & 0x80) << 24);
    }
}

/// Codes per unit: 127 at the largest training value; 0 where a step would be no normal number.
pub(crate) fn int8_scale(largest: f32) -> f32 {
    let scale = (127.0 / f64::from(largest)) as f32;
    if scale.is_finite() { scale } else { 0.0 }
}

#[inline(always)]
pub(crate) fn to_int8(x: &[f32], scale: f32, code: &mut [u8]) {
    // The low byte of 1.5 · 2^23 + n is n in two's complement, rounded to nearest even.
    const ROUND: f32 = 12_582_912.0;
    for (code, x) in code.iter_mut().zip(x) {
        *code = (saturate(x * scale, 127.0) + ROUND).to_bits() as u8;
    }
}

/// The number of each code: `largest` for 127.
#[inline(always)]
pub(crate) fn from_int8(code: &[u8], largest: f32, x: &mut [f32]) {
    let (step, end) = (f64::from(largest) / 127.0, f64::from(f32::MAX));
    for (x, code) in x.iter_mut().zip(code) {
        *x = (f64::from(*code as i8) * step).clamp(-end, end) as f32;
    }
}

#[inline(always)]
pub(crate) fn all_finite(x: &[f32]) -> bool {
    // No early end: the loop vectorises.
    x.iter().fold(0, |most, x| (x.to_bits() & 0x7FFF_FFFF).max(most)) < 0x7F80_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    /// The codes of `x` in three formats, the bits of what they stand for, and whether `x` is finite.
    #[inline(always)]
    fn there_and_back(x: &[f32], scale: f32) -> (Vec<u8>, Vec<u32>, bool) {
        let mut codes = vec![0; 4 * x.len()];
        let (bf16, bytes) = codes.split_at_mut(2 * x.len());
        let (e4m3, int8) = bytes.split_at_mut(x.len());
        to_bf16(x, bf16);
        to_e4m3(x, scale, e4m3);
        to_int8(x, scale, int8);
        let mut values = vec![0.0; 3 * x.len()];
        let (from, rest) = values.split_at_mut(x.len());
        from_bf16(bf16, from);
        let (from, rest) = rest.split_at_mut(x.len());
        from_e4m3(e4m3, 5, from);
        from_int8(int8, 3.0, rest);
        (codes, values.iter().map(|value| value.to_bits()).collect(), all_finite(x))
    }

    proptest! {
        #[test]
        fn every_path_gives_the_codes_and_values_of_the_plain_loops(
            bits in prop::collection::vec(any::<u32>(), 0..150),
            scale in prop_oneof![Just(1.0), Just(1e-30), Just(127.0 / 3.0)],
        ) {
            let x: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let expected = there_and_back(&x, scale);
            for path in vq_kernels::Path::available() {
                let found = path.run(
                    #[inline(always)]
                    || there_and_back(&x, scale),
                );
                prop_assert_eq!(&found, &expected, "{:?}", path);
            }
        }
    }

    fn of_bits(bits: u32) -> Option<f32> {
        Some(f32::from_bits(bits)).filter(|x| x.is_finite())
    }

    #[test]
    fn bf16_rounds_as_the_half_crate_does_and_saturates() {
        // Every upper half with lower halves around the ties.
        for upper in 0..=u32::from(u16::MAX) {
            for lower in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let Some(x) = of_bits(upper << 16 | lower) else { continue };
                let mut code = [0; 2];
                to_bf16(&[x], &mut code);
                let mut expected = bf16::from_f32(x);
                if expected.is_infinite() {
                    expected = if x > 0.0 { bf16::MAX } else { bf16::MIN };
                }
                assert_eq!(u16::from_le_bytes(code), expected.to_bits(), "{x}");
            }
        }
    }

    #[test]
    fn every_bf16_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let (mut code, mut back) = ([0; 2], [0.0]);
            let half = bf16::from_bits(bits);
            if half.is_finite() {
                to_bf16(&[half.to_f32()], &mut code);
                assert_eq!(u16::from_le_bytes(code), bits);
                from_bf16(&code, &mut back);
                assert_eq!(back[0].to_bits(), half.to_f32().to_bits());
            }
        }
    }

    #[test]
    fn f16_is_what_the_half_crate_makes_of_it() {
        let bits = (0..=u32::MAX).step_by(104_729).filter_map(of_bits);
        let x: Vec<f32> = bits.filter(|x| x.abs() <= 65504.0).collect();
        let mut code = vec![0; 2 * x.len()];
        vq_kernels::half::encode(&x, &mut code);
        let mut back = vec![0.0; x.len()];
        vq_kernels::half::decode(&code, &mut back);
        for ((x, code), back) in x.iter().zip(code.as_chunks().0).zip(back) {
            let expected = f16::from_f32(*x);
            assert_eq!(u16::from_le_bytes(*code), expected.to_bits(), "{x}");
            assert_eq!(back.to_bits(), expected.to_f32().to_bits(), "{x}");
        }
    }

    /// The numbers of the 256 codes, divided by `2^exponent`, by the definition of the format.
    fn e4m3_values(exponent: i32) -> [f32; 256] {
        std::array::from_fn(|code| {
            let (exp, fraction) = (code as i32 >> 3 & 0xF, (code & 7) as f64);
            let magnitude = match exp {
                0 => fraction * 2.0_f64.powi(-9 - exponent),
                15 if fraction == 7.0 => f64::NAN,
                _ => (8.0 + fraction) * 2.0_f64.powi(exp - 10 - exponent),
            };
            let magnitude =
                if magnitude > f64::from(f32::MAX) { f32::MAX } else { magnitude as f32 };
            if code & 0x80 == 0 { magnitude } else { -magnitude }
        })
    }

    #[test]
    fn every_e4m3_is_decoded_by_definition_at_every_scale_on_every_path() {
        let codes: Vec<u8> = (0..=255).collect();
        for exponent in -126..=127 {
            for path in vq_kernels::Path::available() {
                let mut x = [9.0; 256];
                path.run(
                    #[inline(always)]
                    || from_e4m3(&codes, exponent, &mut x),
                );
                for (x, value) in x.iter().zip(e4m3_values(exponent)) {
                    assert!(x.to_bits() == value.to_bits() || x.is_nan() && value.is_nan());
                }
            }
        }
    }

    #[test]
    fn e4m3_is_the_nearest_of_its_numbers_with_ties_to_even() {
        let values = e4m3_values(0);
        // Known points of the specification.
        assert_eq!(values[0x7E], 448.0);
        assert_eq!(values[0x08], 2.0_f32.powi(-6));
        assert_eq!(values[0x07], 0.875 * 2.0_f32.powi(-6));
        assert_eq!(values[0x01], 2.0_f32.powi(-9));
        assert!(values[0x7F].is_nan() && values[0xFF].is_nan());
        assert_eq!(values[0xB8], -1.0);
        let encode = |x: f32| {
            let mut code = [0];
            to_e4m3(&[x], 1.0, &mut code);
            code[0]
        };
        for low in 0_u8..0x7E {
            let (a, b) = (values[usize::from(low)], values[usize::from(low) + 1]);
            assert_eq!(encode(a), low);
            assert_eq!(encode(-a), low | 0x80);
            let middle = (a + b) / 2.0;
            let even = if low & 1 == 0 { low } else { low + 1 };
            assert_eq!(encode(middle), even, "{middle}");
            assert_eq!(encode(middle.next_down()), low, "below {middle}");
            assert_eq!(encode(middle.next_up()), low + 1, "above {middle}");
        }
        assert_eq!(encode(449.0), 0x7E);
        assert_eq!(encode(f32::MAX), 0x7E);
        assert_eq!(encode(f32::MIN), 0xFE);
    }

    #[test]
    fn e4m3_uses_the_largest_power_of_two_that_does_not_saturate() {
        assert_eq!(e4m3_exponent(448.0), 0);
        assert_eq!(e4m3_exponent(449.0), -1);
        assert_eq!(e4m3_exponent(1.0), 8);
        assert_eq!(e4m3_exponent(0.0), 0);
        for largest in [f32::MAX, f32::MIN_POSITIVE, 1e-45, 3.0, 1e30] {
            let k = e4m3_exponent(largest);
            assert!(largest * exp2(k) <= 448.0, "{largest}");
            assert!(k == 127 || largest * exp2(k) > 224.0, "{largest}");
            assert!(
                e4m3_values(k).iter().enumerate().all(|(c, v)| c & 0x7F == 0x7F || v.is_finite())
            );
        }
    }

    #[test]
    fn int8_reaches_its_ends_and_rounds_to_even() {
        let encode = |x: f32, largest: f32| {
            let mut code = [0];
            to_int8(&[x], int8_scale(largest), &mut code);
            code[0] as i8
        };
        assert_eq!(
            [encode(127.0, 127.0), encode(-127.0, 127.0), encode(500.0, 127.0)],
            [127, -127, 127]
        );
        assert_eq!([encode(0.5, 127.0), encode(1.5, 127.0), encode(-2.5, 127.0)], [0, 2, -2]);
        assert_eq!(encode(0.0, 0.0), 0);
        let mut ends = [0.0; 4];
        from_int8(&[127, 129, 128, 0], f32::MAX, &mut ends);
        assert_eq!(ends, [f32::MAX, f32::MIN, f32::MIN, 0.0]);
    }
}
