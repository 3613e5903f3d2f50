//! Levels by their indices: `outᵢ = levels[valueᵢ]`.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::path::Path;
#[cfg(target_arch = "x86_64")]
use crate::path::Set;

/// Writes the level of each of `values` (d) into `out` (d); bits of a value beyond those that tell `levels` apart do
/// not count. O(d), no allocation.
///
/// # Panics
/// When the lengths differ, or `levels` are not a power of two.
pub fn decode(levels: &[f32], values: &[u16], out: &mut [f32]) {
    decode_on(Path::fastest(), levels, values, out);
}

/// The whole number `level`, of 0 to 2¹⁶ − 1, as an integer: a cast looks at each number for NaN and for what is too
/// large, and is not vectorised for that. To inline into a [`Path`].
#[inline(always)]
#[must_use]
pub fn index(level: f32) -> u16 {
    // From 2²³ on a number has no fraction, and its last bits are the integer.
    (level + 8_388_608.0).to_bits() as u16
}

fn decode_on(path: Path, levels: &[f32], values: &[u16], out: &mut [f32]) {
    assert!(levels.len().is_power_of_two(), "{} levels, expected a power of two", levels.len());
    assert_eq!(values.len(), out.len(), "a level for each value");
    match path.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 | Set::Vbmi if levels.len() <= avx512::HELD => {
            // SAFETY: these sets exist only where AVX-512 F, BW and VL were detected.
            unsafe { avx512::decode(levels, values, out) }
        }
        _ => path.run(
            #[inline(always)]
            || {
                let last = levels.len() - 1;
                for (out, value) in out.iter_mut().zip(values) {
                    *out = levels[usize::from(*value) & last];
                }
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_finds_the_level_of_the_value(
            log in 0_u32..9,
            values in prop::collection::vec(any::<u16>(), 0..100),
        ) {
            let levels: Vec<f32> = (0..1 << log).map(|v| v as f32 * 1.5 - 3.0).collect();
            let mask = (1 << log) - 1;
            let expected: Vec<f32> = values.iter().map(|v| levels[usize::from(v & mask)]).collect();
            for path in Path::available() {
                let mut out = vec![9.0; values.len()];
                decode_on(path, &levels, &values, &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", path);
            }
        }
    }

    #[test]
    fn the_index_is_the_level() {
        for level in 0..=u16::MAX {
            assert_eq!(index(f32::from(level)), level);
        }
    }
}
