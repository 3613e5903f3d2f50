//! What the paper and others claim of TurboQuant, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use std::f64::consts::FRAC_PI_2;
use vq_blocks::rotated::testing::{
    Products, batches_seeds_and_models, codes, decoded, degenerate, error_of, fitted, gaussian,
    products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_kernels::distance::{l2_sq, norm_sq};
use vq_plugin_api::{Metric, Quantizer, Space};
use vq_turboquant::{Factor, Kind, TurboParams, Turboquant, Variant};

const PUBLISHED: TurboParams = TurboParams {
    rate: 0.0,
    bits: 1,
    variant: Variant::Mse,
    sketch: Kind::Gaussian,
    scale: Factor::None,
    center: Centring::None,
    rotation: Turn::Dense,
    scalars: Scalars::F32,
};

fn with_bits(bits: u32) -> TurboParams {
    TurboParams { bits, ..PUBLISHED }
}

fn prod(bits: u32, sketch: Kind) -> TurboParams {
    TurboParams { variant: Variant::Prod, sketch, ..with_bits(bits) }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_turboquant::plugin()).assert_clean();
}

/// Isotropic normal rows, ‖x − x̂‖²/‖x‖². `expected` was simulated apart with the levels of N(0,1), on 20,000
/// rows of 128 and 4,000 of 768 dimensions in f64; those of the sphere err up to 0.5 % less. `table` is the
/// mean of 300 and of 40 rows, whose sampling error is theirs. Theorem 1: at most √3·π/2·4^−B.
#[test]
fn isotropic_rows_leave_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1500, 128, 7), gaussian(200, 768, 8));
    for (x, bits, expected, table) in [
        (&rows, 1, 0.361_25, 0.3591),
        (&rows, 2, 0.116_19, 0.1145),
        (&rows, 3, 0.033_946, 0.0333),
        (&rows, 4, 0.009_324, 0.009_07),
        (&long, 2, 0.117_36, 0.1157),
        (&long, 4, 0.009_490, 0.009_23),
    ] {
        let params = TurboParams { rotation: Turn::Hadamard, ..with_bits(bits) };
        let (found, (n, d)) = (error_of::<Turboquant>(params, x), x.dim());
        assert!(found.is(expected, 0.005), "{bits} bits, d = {d}: {found:?}, {expected}");
        let of_table = found.of_rows(if d == 128 { 300 } else { 40 }, n);
        assert!(of_table.is(table, 0.0), "{bits} bits, d = {d}: {found:?}, {table}");
        assert!(found.value < 3.0_f64.sqrt() * FRAC_PI_2 * 0.25_f64.powi(bits as i32));
    }
}

/// Many dimensions: the distortion of the best quantizer of N(0,1) (Max 1960).
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
        let params = TurboParams { rotation: Turn::Hadamard, ..with_bits(bits) };
        let found = error_of::<Turboquant>(params, &x);
        assert!(found.is(expected, 0.005), "{bits} bits: {found:?}, {expected}");
    }
}

/// Slopes of the three scales on the true products: 1 − D, √(1 − D) and 1, to 4.5 standard errors over 24
/// rotations and 10 % of D for what the tails lack at d = 128.
#[test]
fn estimates_have_the_slopes_of_their_scales() {
    for (bits, d) in [(1, 0.363_380_f64), (2, 0.117_482), (3, 0.034_547_8), (4, 0.009_501_01)] {
        for (scale, expected) in
            [(Factor::None, 1.0 - d), (Factor::Length, (1.0 - d).sqrt()), (Factor::Unbiased, 1.0)]
        {
            let params = TurboParams { scale, ..with_bits(bits) };
            let Products { slope, .. } =
                products(128, |x, seed| fitted::<Turboquant>(params.clone(), Metric::Ip, x, seed));
            assert!(slope.is(expected, 0.1 * d), "{bits} bits, {scale:?}: {slope:?}");
        }
    }
}

/// Theorem 2: unbiased, with variance π/2·D/d of a Gaussian sketch, D being what B − 1 bits leave, and
/// (π/2 − 1)·D/d of an orthogonal one; to 4.5 standard errors over 24 sketches and 8 % for what the tails
/// lack at d = 128. The orthogonal one is unbiased in many dimensions only: its slope is off by at most
/// 1/(4·d) of D, for E‖Q·u‖₁ = √(2·d/π)·(1 + 1/(4·d) + …).
#[test]
fn a_sketch_makes_products_unbiased() {
    for (bits, distortion) in [(1, 1.0), (2, 0.363_380), (3, 0.117_482), (4, 0.034_547_8)] {
        for (sketch, share) in [(Kind::Gaussian, FRAC_PI_2), (Kind::Rotation, FRAC_PI_2 - 1.0)] {
            let Products { slope, bias, variance } = products(128, |x, seed| {
                fitted::<Turboquant>(prod(bits, sketch), Metric::Ip, x, seed)
            });
            assert!(slope.is(1.0, distortion / 512.0), "{bits} {sketch:?}: {slope:?}");
            assert!(bias.is(0.0, 0.0), "{bits} bits, {sketch:?}: {bias:?}");
            let expected = share * distortion;
            assert!(variance.is(expected, 0.08), "{bits} {sketch:?}: {variance:?} {expected}");
        }
    }
}

/// What decoding gets out of a sketch: of γ², 1 − 1/(π/2 + 1) is left by a Gaussian one, 1 − 2/π by an
/// orthogonal one.
#[test]
fn a_sketch_lowers_the_error_of_decoded_rows() {
    let x = gaussian(300, 128, 7);
    for (bits, before) in [(2, 0.361_25), (3, 0.116_19)] {
        for (sketch, left) in [(Kind::Gaussian, 0.611), (Kind::Rotation, 0.3634)] {
            let found = error_of::<Turboquant>(prod(bits, sketch), &x);
            assert!(found.is(left * before, 0.01), "{bits} bits, {sketch:?}: {found:?}");
        }
    }
}

#[test]
fn a_rate_is_filled_to_the_byte_and_recommends_one_configuration() {
    for (dim, rate, bytes) in
        [(128, 1.0, 16), (100, 1.0, 12), (768, 8.0, 768), (33, 4.0, 16), (300, 0.5, 18)]
    {
        let params = TurboParams { rate, scalars: Scalars::F16, ..PUBLISHED };
        let made = Turboquant::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Turboquant>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    let space = Space { dim: 128, metric: Metric::L2 };
    let bytes = |params| Turboquant::create(params, space).map(|made| made.code_bytes());
    assert_eq!(bytes(with_bits(3)).unwrap(), 48 + 4);
    assert_eq!(bytes(prod(3, Kind::Gaussian)).unwrap(), 48 + 8);
    assert_eq!(bytes(TurboParams { rate: 2.0, ..prod(1, Kind::Gaussian) }).unwrap(), 32);
    let error = |params| bytes(params).unwrap_err().to_string();
    assert_eq!(
        error(TurboParams { rate: 1.0, ..prod(1, Kind::Gaussian) }),
        "rate: nothing is left of the 16 bytes of 1 bits/dim at d = 128"
    );
    assert_eq!(
        error(TurboParams { scale: Factor::Length, ..prod(3, Kind::Gaussian) }),
        "scale: prod estimates by its sketch, without a scale"
    );
}

const KINDS: [TurboParams; 4] = [
    PUBLISHED,
    TurboParams { bits: 7, center: Centring::Mean, scale: Factor::Unbiased, ..PUBLISHED },
    TurboParams { rate: 5.0, rotation: Turn::Hadamard, scalars: Scalars::F16, ..PUBLISHED },
    TurboParams { bits: 3, variant: Variant::Prod, center: Centring::Mean, ..PUBLISHED },
];

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in KINDS {
        batches_seeds_and_models::<Turboquant>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for params in KINDS {
            let params = TurboParams { center: Centring::Mean, ..params };
            let made: Turboquant = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 12);
            let mean = x.mean_axis(Axis(0)).unwrap();
            let sum = |a: &Array2<f32>, b: &Array2<f32>| {
                l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap())
            };
            let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
            assert!(sum(&x, &back) <= 0.45 * spread + rounding, "{}", x[[0, 0]]);
            let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decoded(&made, &codes(&made, odd.view()), 12);
            assert!(back.iter().all(|x| x.is_finite()));
        }
    }
    for d in [1, 2, 3] {
        let rows = gaussian(50, d, 9);
        for bits in 1..=8 {
            let found = error_of::<Turboquant>(with_bits(bits), &rows).value;
            assert!(found < 0.4 * 0.3_f64.powi(bits as i32 - 1), "d = {d}, {bits} bits: {found}");
        }
    }
}
