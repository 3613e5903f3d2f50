//! What is claimed of ASH, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use vq_ash::{Ash, AshParams, Factor};
use vq_blocks::rotated::testing::{
    Products, batches_seeds_and_models, codes, decoded, degenerate, error_of, estimates, fitted,
    gaussian, products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_kernels::rotation::Rotation;
use vq_plugin_api::{Metric, Quantizer, Space};

const PLAIN: AshParams = AshParams {
    rate: 0.0,
    bits: 4,
    kept: 8,
    scale: Factor::Length,
    rounds: 20,
    center: Centring::Mean,
    scalars: Scalars::F32,
};

/// Rows whose principal directions have the deviations 1, `by`, `by`², …, turned.
fn decaying(n: usize, d: usize, by: f32, seed: u64) -> Array2<f32> {
    let mut x = gaussian(n, d, seed);
    for (t, mut column) in x.columns_mut().into_iter().enumerate() {
        column *= by.powi(t as i32);
    }
    let mut turned = Array2::zeros(x.dim());
    Rotation::dense(d, 99).apply(x.view(), turned.view_mut());
    turned + 0.2
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_ash::plugin()).assert_clean();
}

/// With all directions and none learned it is RaBitQ: its errors at 4 bits and d = 128, its unbiased estimates and
/// their variance, and the slope ρ of the paper's scale, √(1 − D) in many dimensions.
#[test]
fn with_all_directions_it_is_rabitq() {
    let all = AshParams { kept: 128, rounds: 0, center: Centring::None, ..PLAIN };
    let found = error_of::<Ash>(all.clone(), &gaussian(1000, 128, 7));
    assert!(found.is(0.009_931, 0.004), "{found:?}");
    for (bits, miss, more) in [(1, 0.361, 0.05), (2, 0.1160, 0.1), (4, 0.009_93, 0.2)] {
        let of = |scale| {
            let params = AshParams { bits, scale, ..all.clone() };
            products(128, |x, seed| fitted::<Ash>(params.clone(), Metric::Ip, x, seed))
        };
        let Products { slope, bias, variance } = of(Factor::Unbiased);
        assert!(slope.is(1.0, 0.0) && bias.is(0.0, 0.0), "{bits} bits: {slope:?} {bias:?}");
        let expected = miss / (1.0 - miss) * 128.0 / 127.0;
        assert!(variance.is(expected, more), "{bits} bits: {variance:?} {expected}");
        if bits == 2 {
            let (length, nearest) = (of(Factor::Length).slope, of(Factor::Nearest).slope);
            let slope = (1.0_f64 - miss).sqrt();
            assert!(length.is(slope, 0.03 * miss), "{bits} bits: {length:?} {slope}");
            assert!(nearest.is(1.0 - miss, 0.05 * miss), "{bits} bits: {nearest:?}");
        }
    }
}

/// The claim: of rows whose variance falls, half the directions with twice the bits leave less than all of them;
/// and learning how they are turned leaves less than a random rotation.
#[test]
fn fewer_directions_with_more_bits_leave_less_and_learning_helps() {
    let x = decaying(1500, 64, 0.92, 3);
    let error =
        |bits, kept, rounds| error_of::<Ash>(AshParams { bits, kept, rounds, ..PLAIN }, &x).value;
    let (half, all) = (error(4, 32, 20), error(2, 64, 20));
    assert!(half < 0.5 * all, "{half} {all}");
    let (learned, random) = (error(1, 64, 20), error(1, 64, 0));
    assert!(learned < 0.97 * random, "{learned} {random}");
}

#[test]
fn a_rate_is_a_budget_and_recommends_a_width() {
    assert_eq!(
        proposals::<Ash>(128, Some(2.0)),
        ["rate=2 bits=2", "rate=2 bits=4", "rate=2 bits=8"]
    );
    assert_eq!(
        proposals::<Ash>(128, None),
        ["rate=1 bits=2", "rate=2 bits=2", "rate=4 bits=4", "rate=8 bits=8"]
    );
    for (dim, rate, bits, bytes) in [(128, 1.0, 2, 16), (100, 1.0, 2, 12), (768, 8.0, 8, 768)] {
        let params = AshParams { rate, bits, scalars: Scalars::F16, ..PLAIN };
        let made = Ash::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
    }
    assert_eq!(
        proposals::<Ash>(32, Some(1.0))[0],
        "skipped: rate: nothing is left of the 4 bytes of 1 bits/dim at d = 32"
    );
    let made = Ash::create(PLAIN, Space { dim: 5, metric: Metric::L2 }).unwrap();
    assert_eq!(made.code_bytes(), 3 + 8);
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        PLAIN,
        AshParams { bits: 2, kept: 13, scale: Factor::Nearest, ..PLAIN },
        AshParams { rate: 5.0, bits: 7, scalars: Scalars::F16, ..PLAIN },
    ] {
        batches_seeds_and_models::<Ash>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        let made: Ash = fitted(AshParams { kept: 11, ..PLAIN }, Metric::L2, &x, 1);
        let back = decoded(&made, &codes(&made, x.view()), 12);
        let mean = x.mean_axis(Axis(0)).unwrap();
        let sum =
            |a: &Array2<f32>, b: &Array2<f32>| l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap());
        let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
        let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
        assert!(sum(&x, &back) <= 0.2 * spread + rounding, "{}", x[[0, 0]]);
        let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
        let back = decoded(&made, &codes(&made, odd.view()), 12);
        assert!(back.iter().all(|x| x.is_finite()));
    }
    let x = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    let made: Ash = fitted(AshParams { center: Centring::None, ..PLAIN }, Metric::L2, &x, 1);
    let back = decoded(&made, &codes(&made, x.view()), 1);
    assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() <= 1e-6 * x.abs()), "{back}");
}

#[test]
fn cosine_estimates_are_near_and_zero_rows_known() {
    let mut x = decaying(500, 40, 0.9, 1);
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    x.row_mut(7).fill(0.0);
    let made: Ash = fitted(AshParams { bits: 6, kept: 36, ..PLAIN }, Metric::Cosine, &x, 3);
    for ((q, i), estimate) in estimates(&made, x.view(), &codes(&made, x.view())).0.indexed_iter() {
        let exact = dot(x.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
        assert!((f64::from(*estimate) - exact).abs() < 0.1, "{q} {i}: {estimate} {exact}");
    }
}
