//! The signs of a vector as a code, its product with them, `⟨x, y⟩`, yᵢ = ±l with the sign of xᵢ, and its norm.
//!
//! The sums are those of [`dot`](crate::distance::dot) and [`norm_sq`](crate::distance::norm_sq), term by term, so that
//! it does not matter whether y was written down. The rows of 1 bit in `examples/peers` measure it.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::distance::{LANES, added};
use crate::pack::packed_bytes;
use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Writes bit `i` of `code` (⌈d/8⌉ bytes) where `x` (d) is not below 0 there, as [`pack`](crate::pack) packs values of
/// one bit, and answers ⟨x, y⟩, where y is `level` with these signs, and ‖x‖². O(d), no allocation.
///
/// # Panics
/// When `code` has another length.
pub fn encode(x: &[f32], level: f32, code: &mut [u8]) -> (f64, f64) {
    encode_on(Path::fastest(), x, level, code)
}

fn encode_on(path: Path, x: &[f32], level: f32, code: &mut [u8]) -> (f64, f64) {
    assert_eq!(code.len(), packed_bytes(x.len(), 1), "length of {} signs", x.len());
    let (lines, tail) = x.as_chunks::<LANES>();
    let (whole, rest) = code.split_at_mut(2 * lines.len());
    let [mut sums, mut squares] = match path.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these sets exist only where AVX-512 F and DQ were detected.
        Set::Avx512 | Set::Vbmi => unsafe { avx512::encode(lines, level, whole.as_chunks_mut().0) },
        _ => path.run(
            #[inline(always)]
            || portable(lines, level, whole.as_chunks_mut().0),
        ),
    };
    rest.fill(0);
    for (i, ((x, sum), square)) in tail.iter().zip(&mut sums).zip(&mut squares).enumerate() {
        rest[i / 8] |= u8::from(*x >= 0.0) << (i % 8);
        *sum += f64::from(*x) * f64::from(signed(*x, level));
        *square += f64::from(*x) * f64::from(*x);
    }
    (added(sums), added(squares))
}

#[inline(always)]
fn portable(lines: &[[f32; LANES]], level: f32, code: &mut [[u8; 2]]) -> [[f64; LANES]; 2] {
    let [mut sums, mut squares] = [[0.0; LANES]; 2];
    for (line, code) in lines.iter().zip(code) {
        let mut bits = 0;
        for (i, ((x, sum), square)) in line.iter().zip(&mut sums).zip(&mut squares).enumerate() {
            bits |= u16::from(*x >= 0.0) << i;
            *sum += f64::from(*x) * f64::from(signed(*x, level));
            *square += f64::from(*x) * f64::from(*x);
        }
        *code = bits.to_le_bytes();
    }
    [sums, squares]
}

#[inline(always)]
fn signed(x: f32, level: f32) -> f32 {
    if x >= 0.0 { level } else { -level }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::{dot, norm_sq};
    use crate::nearest::tests::noise;
    use crate::pack::pack;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_gives_the_code_and_the_sums_of_the_signs_written_down(
            d in 1_usize..200,
            level in 1e-3_f32..10.0,
            kind in 0_usize..3,
            seed in any::<u32>(),
        ) {
            let mut x = noise(1, d, seed, kind).into_raw_vec_and_offset().0;
            for (i, zero) in [0.0, -0.0].into_iter().enumerate().take(d) {
                x[i * 7 % d] = zero;
            }
            let bits: Vec<u16> = x.iter().map(|x| u16::from(*x >= 0.0)).collect();
            let y: Vec<f32> = x.iter().map(|x| signed(*x, level)).collect();
            let mut expected = vec![0; packed_bytes(d, 1)];
            pack(&bits, 1, &mut expected);
            for path in Path::available() {
                let mut code = vec![0xAA; expected.len()];
                let (sum, square) = encode_on(path, &x, level, &mut code);
                prop_assert_eq!(&code, &expected, "{:?}", path);
                prop_assert_eq!(sum.to_bits(), dot(&x, &y).to_bits(), "{:?}", path);
                prop_assert_eq!(square.to_bits(), norm_sq(&x).to_bits(), "{:?}", path);
            }
        }
    }
}
