//! Exact values for two vectors: `Σ aₖ·bₖ` and `Σ (aₖ − bₖ)²`, f32 inputs, f64 sums.
//!
//! Term `k` goes to accumulator `k mod 16`; the sixteen are then added as a binary tree
//! (`0+8, 1+9, …`, then `0+4, …`). Every path keeps this order and never fuses the multiplication
//! with the addition, so a wider register changes the speed and nothing else.

use crate::Path;

/// Accumulators.
pub(crate) const LANES: usize = 16;

/// The inner product of `a` and `b`, both (d).
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, Term::Product)
}

/// The squared Euclidean distance of `a` and `b`, both (d); each difference is taken in f64.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn l2_sq(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, Term::SquaredDifference)
}

/// The squared Euclidean norm of `a` (d); equal to `dot(a, a)`.
#[must_use]
pub fn norm_sq(a: &[f32]) -> f64 {
    dot(a, a)
}

/// [`dot`]`(a, b)` and [`norm_sq`]`(b)`, both (d), in one pass.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn dot_and_norm_sq(a: &[f32], b: &[f32]) -> (f64, f64) {
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    Path::fastest().run(
        #[inline(always)]
        || {
            let (mut inner, mut length_sq) = ([0.0_f64; LANES], [0.0_f64; LANES]);
            let (a, a_tail) = a.as_chunks::<LANES>();
            let (b, b_tail) = b.as_chunks::<LANES>();
            for (a, b) in a.iter().zip(b) {
                add_terms(a, b, &mut inner, &mut length_sq);
            }
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            a[..a_tail.len()].copy_from_slice(a_tail);
            b[..b_tail.len()].copy_from_slice(b_tail);
            add_terms(&a, &b, &mut inner, &mut length_sq);
            (added(inner), added(length_sq))
        },
    )
}

/// A tail made up with zeros adds zeros, which change no sum.
#[inline(always)]
fn add_terms(
    a: &[f32; LANES],
    b: &[f32; LANES],
    inner: &mut [f64; LANES],
    length_sq: &mut [f64; LANES],
) {
    for lane in 0..LANES {
        inner[lane] += f64::from(a[lane]) * f64::from(b[lane]);
    }
    for lane in 0..LANES {
        length_sq[lane] += f64::from(b[lane]) * f64::from(b[lane]);
    }
}

#[derive(Clone, Copy)]
enum Term {
    Product,
    SquaredDifference,
}

fn sum(a: &[f32], b: &[f32], term: Term) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: AVX-512F was detected on the line above.
        return unsafe { sum_avx512(a, b, term) };
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected on the line above.
        return unsafe { sum_avx2(a, b, term) };
    }
    sum_portable(a, b, term)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(a: &[f32], b: &[f32], term: Term) -> f64 {
    sum_portable(a, b, term)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(a: &[f32], b: &[f32], term: Term) -> f64 {
    sum_portable(a, b, term)
}

#[inline(always)]
fn sum_portable(a: &[f32], b: &[f32], term: Term) -> f64 {
    match term {
        Term::Product => accumulate(a, b, |a, b| a * b),
        Term::SquaredDifference => accumulate(a, b, |a, b| (a - b) * (a - b)),
    }
}

#[inline(always)]
fn accumulate(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (a, a_tail) = a.as_chunks::<LANES>();
    let (b, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += term(f64::from(a[lane]), f64::from(b[lane]));
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_tail).zip(b_tail) {
        *sum += term(f64::from(a), f64::from(b));
    }
    added(sums)
}

/// The sum of the accumulators.
#[inline(always)]
pub(crate) fn added(mut sums: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_gives_the_same_bits(pairs in prop::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 0..200)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            for term in [Term::Product, Term::SquaredDifference] {
                let expected = sum_portable(&a, &b, term).to_bits();
                prop_assert_eq!(sum(&a, &b, term).to_bits(), expected);
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: AVX2 was detected on the line above.
                    let avx2 = unsafe { sum_avx2(&a, &b, term) };
                    prop_assert_eq!(avx2.to_bits(), expected);
                }
            }
            let (inner, length_sq) = dot_and_norm_sq(&a, &b);
            prop_assert_eq!(inner.to_bits(), dot(&a, &b).to_bits());
            prop_assert_eq!(length_sq.to_bits(), norm_sq(&b).to_bits());
        }
    }

    #[test]
    fn differences_are_taken_in_f64() {
        let a = [1.0e8_f32, 3.0];
        let b = [0.1_f32, -1.0];
        let wide = 1.0e8_f64 - f64::from(0.1_f32);
        assert_eq!(l2_sq(&a, &b), wide * wide + 16.0);
        assert_eq!(dot(&a, &b), 1.0e8 * f64::from(0.1_f32) - 3.0);
        assert_eq!(norm_sq(&b), f64::from(0.1_f32) * f64::from(0.1_f32) + 1.0);
    }

    #[test]
    fn empty_vectors_are_at_distance_zero() {
        assert_eq!(dot(&[], &[]), 0.0);
        assert_eq!(l2_sq(&[], &[]), 0.0);
    }
}
