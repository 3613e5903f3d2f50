//! Rate–distortion: the Gaussian bound by reverse water-filling, and the bits wasted above it.
//!
//! For covariance eigenvalues λ₁..λ_d and a water level θ (Cover & Thomas, Elements of
//! Information Theory, 2nd ed., theorem 10.3.3), per dimension:
//!
//! ```text
//! D(θ) = (1/d) Σ min(θ, λᵢ)        R(θ) = (1/d) Σ max(0, ½·log2(λᵢ / θ))
//! ```
//!
//! so that R is the fewest bits per dimension with which a Gaussian source of that covariance
//! can be stored at a mean squared error of D. With all λᵢ = σ² it is D = σ²·2^(−2R). Of all
//! sources with one covariance the Gaussian is the hardest, so data far from Gaussian
//! (clustered, sparse) may be stored with fewer: `bits_wasted` is then negative, which is a
//! statement about the data and not an error.
//!
//! Both directions are solved in closed form over the sorted eigenvalues, without iteration:
//! O(d log d) time, O(d) memory.

/// Eigenvalues descending; round-off below zero counts as zero.
fn descending(spectrum: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = spectrum.iter().map(|λ| λ.max(0.0)).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted
}

/// R(D): the bits per dimension that the bound asks for at the mean squared error `distortion`
/// per dimension, of a source with covariance eigenvalues `spectrum` (d, any order).
///
/// 0 from the variance Σλᵢ/d upwards, where storing the mean is enough; a source without
/// variance needs 0 bits at any distortion. `None` where the rate is infinite (`distortion` = 0
/// on data that varies) or undefined (negative, not a number).
pub fn rate_at(distortion: f64, spectrum: &[f64]) -> Option<f64> {
    if distortion.is_nan() || distortion < 0.0 {
        return None;
    }
    let λ = descending(spectrum);
    let d = λ.len() as f64;
    let sse = distortion * d;

    // Suffix sums: drowned[m] = Σ λᵢ of the components after the first m, smallest first.
    let mut drowned = vec![0.0; λ.len() + 1];
    for m in (0..λ.len()).rev() {
        drowned[m] = drowned[m + 1] + λ[m];
    }
    if sse >= drowned[0] {
        return Some(0.0);
    }
    if distortion == 0.0 {
        return None;
    }
    // With the first m components above the water, m·θ + drowned[m] = d·D. The right m is the
    // one whose level drowns everything after it: λ[m] ≤ θ.
    for m in 1..=λ.len() {
        let θ = (sse - drowned[m]) / m as f64;
        if θ > 0.0 && λ.get(m).is_none_or(|next| *next <= θ) {
            // Rounding may leave θ a hair above λ[m − 1] where components are equal.
            let bits: f64 = λ[..m].iter().map(|λ| 0.5 * (λ / θ).log2().max(0.0)).sum();
            return Some(bits / d);
        }
    }
    None
}

/// D(R): the mean squared error per dimension that the bound allows at `rate` bits per
/// dimension, of a source with covariance eigenvalues `spectrum` (d, any order).
///
/// A rate of 0 or less gives the variance Σλᵢ/d. Inverse of [`rate_at`].
pub fn distortion_at(rate: f64, spectrum: &[f64]) -> f64 {
    let λ = descending(spectrum);
    if λ.is_empty() {
        return 0.0;
    }
    let d = λ.len() as f64;
    if rate <= 0.0 {
        return λ.iter().sum::<f64>() / d;
    }
    // With m components above the water, Σ log2 λᵢ − m·log2 θ = 2·R·d.
    let mut log2_product = 0.0;
    for m in 1..=λ.len() {
        if λ[m - 1] == 0.0 {
            break;
        }
        log2_product += λ[m - 1].log2();
        let θ = ((log2_product - 2.0 * rate * d) / m as f64).exp2();
        if λ.get(m).is_none_or(|next| *next <= θ) {
            return (m as f64 * θ + λ[m..].iter().sum::<f64>()) / d;
        }
    }
    // No component varies; a zero eigenvalue after others drowns at any level and returns above.
    0.0
}

/// `bits_per_dim` − R(`mse`): the bits per dimension a method spends above the Gaussian bound
/// at the distortion it reached; negative where the data is easier than Gaussian.
///
/// `None` where the bound is infinite, that is when a reconstruction of data that varies is
/// perfect (`mse` = 0).
pub fn bits_wasted(bits_per_dim: f64, mse: f64, spectrum: &[f64]) -> Option<f64> {
    rate_at(mse, spectrum).map(|bound| bits_per_dim - bound)
}

#[cfg(test)]
mod tests {
    use super::{bits_wasted, distortion_at, rate_at};
    use proptest::prelude::*;

    fn assert_close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn equal_eigenvalues_give_the_shannon_bound() {
        for variance in [1e-6, 1.0, 2.5, 1e9] {
            for d in [1, 3, 128] {
                let spectrum = vec![variance; d];
                for rate in [0.25_f64, 1.0, 2.0, 4.0, 8.0, 16.0] {
                    let shannon = variance * (-2.0 * rate).exp2();
                    let bound = distortion_at(rate, &spectrum);
                    assert!((bound / shannon - 1.0).abs() < 1e-12, "{bound} {shannon}");
                    assert_close(rate_at(shannon, &spectrum).unwrap(), rate);
                }
            }
        }
        assert_eq!(distortion_at(1.0, &[1.0; 4]), 0.25);
        assert_eq!(rate_at(0.25, &[1.0; 4]), Some(1.0));
    }

    #[test]
    fn water_fills_unequal_components_as_worked_by_hand() {
        // λ = 4, 1. At θ = 1/2: D = 1/2, R = ½·(½·log2 8 + ½·log2 2) = 1.
        assert_close(rate_at(0.5, &[4.0, 1.0]).unwrap(), 1.0);
        assert_close(distortion_at(1.0, &[1.0, 4.0]), 0.5);
        // At θ = 2 the second drowns: D = (2 + 1)/2, R = ½·½·log2 2 = 1/4.
        assert_close(rate_at(1.5, &[1.0, 4.0]).unwrap(), 0.25);
        assert_close(distortion_at(0.25, &[4.0, 1.0]), 1.5);
    }

    #[test]
    fn the_variance_costs_nothing_and_more_costs_no_less() {
        assert_eq!(rate_at(2.5, &[4.0, 1.0]), Some(0.0));
        assert_eq!(rate_at(1e9, &[4.0, 1.0]), Some(0.0));
        assert_eq!(distortion_at(0.0, &[4.0, 1.0]), 2.5);
        assert_eq!(distortion_at(-1.0, &[4.0, 1.0]), 2.5);
    }

    #[test]
    fn a_perfect_reconstruction_has_no_finite_bound() {
        assert_eq!(rate_at(0.0, &[4.0, 1.0]), None);
        assert_eq!(bits_wasted(32.0, 0.0, &[4.0, 1.0]), None);
        assert_eq!(rate_at(f64::NAN, &[1.0]), None);
        assert_eq!(rate_at(-1.0, &[1.0]), None);
    }

    #[test]
    fn constant_data_needs_no_bits() {
        assert_eq!(rate_at(0.0, &[0.0; 3]), Some(0.0));
        assert_eq!(distortion_at(2.0, &[0.0; 3]), 0.0);
        assert_eq!(bits_wasted(8.0, 0.0, &[0.0; 3]), Some(8.0));
        assert_eq!(bits_wasted(8.0, 0.0, &[]), Some(8.0));
    }

    #[test]
    fn zero_and_slightly_negative_eigenvalues_take_no_bits() {
        // Two of four dimensions vary: 2 bits per dimension are 4 bits for each that does.
        let spectrum = [1.0, 0.0, 1.0, -1e-18];
        assert_close(distortion_at(2.0, &spectrum), 0.5 * (-8.0_f64).exp2());
        assert_close(rate_at(0.5 * (-8.0_f64).exp2(), &spectrum).unwrap(), 2.0);
    }

    #[test]
    fn lloyd_max_at_one_bit_wastes_what_theory_says() {
        // Published: D = 0.3634 at 1 bit, so R(D) = ½·log2(1/0.3634) = 0.7302.
        let wasted = bits_wasted(1.0, 0.3634, &[1.0; 16]).unwrap();
        assert!((wasted - 0.2698).abs() < 1e-4, "{wasted}");
    }

    proptest! {
        #[test]
        fn rate_and_distortion_invert_each_other(
            spectrum in prop::collection::vec(1e-3_f64..1e3, 1..40),
            rate in 0.01_f64..20.0,
        ) {
            let distortion = distortion_at(rate, &spectrum);
            let back = rate_at(distortion, &spectrum).unwrap();
            prop_assert!((back - rate).abs() < 1e-9, "{} {}", back, rate);
        }

        #[test]
        fn less_distortion_never_costs_fewer_bits(
            spectrum in prop::collection::vec(0.0_f64..10.0, 1..20),
            a in 1e-6_f64..10.0,
            b in 1e-6_f64..10.0,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let (dear, cheap) = (rate_at(low, &spectrum), rate_at(high, &spectrum));
            prop_assert!(dear.unwrap() >= cheap.unwrap() - 1e-12);
        }

        #[test]
        fn water_filling_is_the_level_found_by_bisection(
            spectrum in prop::collection::vec(0.0_f64..10.0, 1..20),
            share in 0.01_f64..0.99,
        ) {
            let d = spectrum.len() as f64;
            let distortion = share * spectrum.iter().sum::<f64>() / d;
            prop_assume!(distortion > 1e-9);
            let (mut low, mut high) = (0.0, 10.0);
            for _ in 0..200 {
                let θ = 0.5 * (low + high);
                let at = spectrum.iter().map(|λ| λ.min(θ)).sum::<f64>() / d;
                if at < distortion { low = θ } else { high = θ }
            }
            let rate = spectrum.iter().map(|λ| 0.5 * (λ / low).log2().max(0.0)).sum::<f64>() / d;
            let got = rate_at(distortion, &spectrum).unwrap();
            prop_assert!((got - rate).abs() < 1e-9, "{} {}", got, rate);
        }
    }
}
