//! What the papers claim of EDEN, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use vq_blocks::rotated::testing::{
    Products, batches_seeds_and_models, codes, decoded, degenerate, error_of, estimates, fitted,
    gaussian, products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_eden::{Eden, EdenParams, Factor};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_plugin_api::{Metric, Quantizer, Space};

const PUBLISHED: EdenParams = EdenParams {
    rate: 0.0,
    bits: 1,
    scale: Factor::Unbiased,
    center: Centring::None,
    rotation: Turn::Dense,
    scalars: Scalars::F32,
};

fn with_bits(bits: u32) -> EdenParams {
    EdenParams { bits, ..PUBLISHED }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_eden::plugin()).assert_clean();
}

/// Isotropic normal rows, 1 − ρ². `expected` was simulated apart, on 20,000 rows of 128 and 4,000 of 768
/// dimensions in f64 (good to 0.2 %); `table` is the mean of 300 and of 40 rows, whose sampling error is
/// theirs.
#[test]
fn isotropic_rows_leave_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1500, 128, 7), gaussian(200, 768, 8));
    for (x, bits, expected, table) in [
        (&rows, 1, 0.3609, 0.3588),
        (&rows, 2, 0.115_41, 0.1138),
        (&rows, 3, 0.033_493, 0.0328),
        (&rows, 4, 0.009_156, 0.008_91),
        (&long, 2, 0.117_23, 0.1156),
        (&long, 4, 0.009_462, 0.009_19),
    ] {
        let params = EdenParams { rotation: Turn::Hadamard, ..with_bits(bits) };
        let (found, (n, d)) = (error_of::<Eden>(params, x), x.dim());
        assert!(found.is(expected, 0.002), "{bits} bits, d = {d}: {found:?}, {expected}");
        let of_table = found.of_rows(if d == 128 { 300 } else { 40 }, n);
        assert!(of_table.is(table, 0.0), "{bits} bits, d = {d}: {found:?}, {table}");
    }
}

/// Many dimensions: the error is the distortion of the best quantizer of N(0,1) (Max 1960).
#[test]
fn many_dimensions_leave_the_distortion_of_the_best_quantizer() {
    let distortions = [
        0.363_380,
        0.117_482,
        0.034_547_8,
        0.009_501_01,
        0.002_504_67,
        6.442_40e-4,
        1.634_78e-4,
        4.118_51e-5,
    ];
    let x = gaussian(150, 4096, 5);
    for (bits, expected) in (1..).zip(distortions) {
        let found =
            error_of::<Eden>(EdenParams { rotation: Turn::Hadamard, ..with_bits(bits) }, &x);
        assert!(found.is(expected, 0.005), "{bits} bits: {found:?}, {expected}");
    }
}

/// Theorem 2.1: unbiased, with variance D/(1 − D)/(d − 1) for queries orthogonal to the row; to 4.5 standard
/// errors over 24 rotations, and 10 % more for what the tails lack at d = 128 and the chance of 48 rows. The biased scale has the slope
/// of the nearest multiple, 1 − D.
#[test]
fn estimates_have_the_slopes_and_variances_of_their_scales() {
    for (bits, distortion) in [(1, 0.363_380), (2, 0.117_482), (3, 0.034_547_8), (4, 0.009_501_01)]
    {
        let of = |scale| {
            let params = EdenParams { scale, ..with_bits(bits) };
            products(128, |x, seed| fitted::<Eden>(params.clone(), Metric::Ip, x, seed))
        };
        let Products { slope, bias, variance } = of(Factor::Unbiased);
        assert!(slope.is(1.0, 0.0), "{bits} bits: {slope:?}");
        assert!(bias.is(0.0, 0.0), "{bits} bits: {bias:?}");
        let expected = distortion / (1.0 - distortion);
        assert!(variance.is(expected, 0.1), "{bits} bits: {variance:?} {expected}");
        let Products { slope, .. } = of(Factor::Biased);
        assert!(slope.is(1.0 - distortion, 0.1 * distortion), "{bits} bits: {slope:?}");
    }
}

/// Section 4.2's fractional rates, here with the first k coordinates a bit wider: the mean of the two
/// distortions.
#[test]
fn mixed_widths_leave_the_mean_of_their_distortions() {
    let x = gaussian(300, 768, 4);
    let params =
        EdenParams { rate: 31.0 / 12.0 + 64.0 / 768.0, rotation: Turn::Hadamard, ..with_bits(4) };
    let found = error_of::<Eden>(params, &x);
    let expected = (7.0 * 0.034_377 + 5.0 * 0.117_23) / 12.0;
    assert!(found.is(expected, 0.005), "{found:?} {expected}");
}

#[test]
fn a_rate_is_filled_to_the_byte_and_recommends_one_configuration() {
    for (dim, rate, bytes) in
        [(128, 1.0, 16), (100, 1.0, 12), (768, 8.0, 768), (33, 4.0, 16), (300, 0.5, 18)]
    {
        let params = EdenParams { rate, scalars: Scalars::F16, ..PUBLISHED };
        let made = Eden::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Eden>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    assert!(proposals::<Eden>(30, Some(1.0))[0].starts_with("skipped: rate: nothing is left"));
    assert_eq!(proposals::<Eden>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        with_bits(1),
        EdenParams { center: Centring::Mean, ..with_bits(7) },
        EdenParams { rate: 5.0, rotation: Turn::Hadamard, scalars: Scalars::F16, ..PUBLISHED },
    ] {
        batches_seeds_and_models::<Eden>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for bits in [1, 2, 5, 8] {
            let params = EdenParams { center: Centring::Mean, ..with_bits(bits) };
            let made: Eden = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 12);
            let mean = x.mean_axis(Axis(0)).unwrap();
            let sum = |a: &Array2<f32>, b: &Array2<f32>| {
                l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap())
            };
            let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
            assert!(sum(&x, &back) <= 0.45 * spread + rounding, "{bits} bits {}", x[[0, 0]]);
            let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decoded(&made, &codes(&made, odd.view()), 12);
            assert!(back.iter().all(|x| x.is_finite()), "{bits} bits");
        }
    }
    let line = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    for bits in 1..=8 {
        let made: Eden = fitted(with_bits(bits), Metric::L2, &line, 1);
        let back = decoded(&made, &codes(&made, line.view()), 1);
        assert!(
            line.iter().zip(&back).all(|(x, back)| (x - back).abs() <= 1e-6 * x.abs()),
            "{back}"
        );
    }
}

/// With the biased scale, estimates are the values of decoded rows.
#[test]
fn biased_estimates_are_those_of_decoded_rows() {
    let mut x = gaussian(60, 20, 4) + 1.0;
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        let params = EdenParams { scale: Factor::Biased, center: Centring::Mean, ..with_bits(2) };
        let made: Eden = fitted(params, metric, &x, 1);
        let found = codes(&made, x.view());
        let back = decoded(&made, &found, 20);
        let (estimates, _) = estimates(&made, x.view(), &found);
        for ((q, i), estimate) in estimates.indexed_iter() {
            let (q, back) = (x.row(q).to_vec(), back.row(i).to_vec());
            let exact = if metric == Metric::L2 { l2_sq(&q, &back) } else { dot(&q, &back) };
            assert!((f64::from(*estimate) - exact).abs() < 1e-5, "{estimate} {exact}");
        }
    }
}
