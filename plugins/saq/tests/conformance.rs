//! What the paper and others claim of SAQ, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use vq_blocks::rotated::testing::{
    Mean, Products, batches_seeds_and_models, codes, decoded, degenerate, error, error_of,
    estimates, fitted, gaussian, products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_plugin_api::{Metric, Quantizer, Space};
use vq_saq::{Objective, Saq, SaqParams, Start};

/// One segment, as published (CAQ).
const CAQ: SaqParams = SaqParams {
    rate: 0.0,
    bits: 4,
    objective: Objective::Paper,
    start: Start::Largest,
    rounds: 6,
    center: Centring::None,
    rotation: Turn::Dense,
    scalars: Scalars::F32,
};

const AT_RATE: SaqParams = SaqParams {
    rate: 4.0,
    objective: Objective::Mse,
    start: Start::Both,
    center: Centring::Mean,
    rotation: Turn::Hadamard,
    scalars: Scalars::F16,
    ..CAQ
};

/// Rows whose principal directions have the deviations 1, `by`, `by`², …, turned.
fn decaying(n: usize, d: usize, by: f32, seed: u64) -> Array2<f32> {
    let mut x = gaussian(n, d, seed);
    for (t, mut column) in x.columns_mut().into_iter().enumerate() {
        column *= by.powi(t as i32);
    }
    let mut turned = Array2::zeros(x.dim());
    vq_kernels::rotation::Rotation::dense(d, 99).apply(x.view(), turned.view_mut());
    turned
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_saq::plugin()).assert_clean();
}

/// Isotropic normal rows, 1 − ρ² before and after six turns. `table` is the mean of 300 and of 40 rows, whose
/// sampling error is theirs; 1 % more for one factor κ in place of each row's own.
#[test]
fn code_adjustment_leaves_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1000, 128, 7), gaussian(150, 768, 8));
    for (x, bits, before, after) in [
        (&rows, 1, 0.3588, 0.3588),
        (&rows, 2, 0.1471, 0.1143),
        (&rows, 3, 0.0403, 0.0347),
        (&rows, 4, 0.010_43, 0.009_93),
        (&long, 2, 0.184, 0.1169),
        (&long, 4, 0.013_80, 0.011_62),
    ] {
        for (rounds, expected) in [(0, before), (6, after)] {
            let params = SaqParams { bits, rounds, rotation: Turn::Hadamard, ..CAQ };
            let (found, (n, d)) = (error_of::<Saq>(params, x), x.dim());
            let found = found.of_rows(if d == 128 { 300 } else { 40 }, n);
            assert!(found.is(expected, 0.01), "{bits} bits, d = {d}, {rounds}: {found:?}");
        }
    }
}

/// Beginning from a clipped range, too, errs less: the whole grid's best is 0.0351, 0.00993 and 0.01111 at 3 and 4
/// bits, and 4 bits of 768 dimensions (`plugins/rabitq`).
#[test]
fn two_starts_come_near_the_best_of_the_grid() {
    let (rows, long) = (gaussian(1000, 128, 7), gaussian(150, 768, 8));
    for (x, bits, exact) in [(&rows, 3, 0.035_12), (&rows, 4, 0.009_931), (&long, 4, 0.011_112)] {
        let params = SaqParams { bits, start: Start::Both, rotation: Turn::Hadamard, ..CAQ };
        let found = error_of::<Saq>(params.clone(), x);
        let one = error_of::<Saq>(SaqParams { start: Start::Largest, ..params }, x);
        assert!(found.value < one.value, "{bits} bits: {found:?} {one:?}");
        assert!(found.is(exact, 0.025) && found.value > 0.98 * exact, "{bits} bits: {found:?}");
    }
}

/// One scale for each segment makes estimates unbiased over rotations, with the variance of what the code misses;
/// to 4.5 standard errors over 24 rotations, and as for RaBitQ for the chance of 48 rows.
#[test]
fn estimates_are_unbiased_and_vary_by_what_the_code_misses() {
    for (bits, miss, more) in [(1, 0.361, 0.05), (2, 0.1160, 0.1), (4, 0.0100, 0.2)] {
        let params = SaqParams { bits, ..CAQ };
        let Products { slope, bias, variance } =
            products(128, |x, seed| fitted::<Saq>(params.clone(), Metric::Ip, x, seed));
        assert!(slope.is(1.0, 0.0), "{bits} bits: {slope:?}");
        assert!(bias.is(0.0, 0.0), "{bits} bits: {bias:?}");
        let expected = miss / (1.0 - miss) * 128.0 / 127.0;
        assert!(variance.is(expected, more), "{bits} bits: {variance:?} {expected}");
    }
}

/// The same of segments of 24 to 64 dimensions: the slope stays 1 in those that are coded, 4.5 standard errors
/// over 24 rotations, and nothing is said of the others.
#[test]
fn segments_are_unbiased_together() {
    let x = decaying(600, 64, 0.93, 5);
    let queries = decaying(40, 64, 0.93, 6);
    let off = |seed| {
        let params = SaqParams { rotation: Turn::Dense, scalars: Scalars::F32, ..AT_RATE };
        let made: Saq = fitted(params, Metric::L2, &x, seed);
        let (found, _) = estimates(&made, queries.view(), &codes(&made, x.view()));
        let (mut bias, mut scale) = (0.0, 0.0);
        for ((q, i), e) in found.indexed_iter() {
            let exact = l2_sq(queries.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
            bias += f64::from(*e) - exact;
            scale += exact;
        }
        bias / scale
    };
    let off = Mean::of(&(0..24).map(off).collect::<Vec<_>>());
    assert!(off.is(0.0, 0.0) && off.error < 1e-4, "{off:?}");
}

/// Of rows whose variance falls, bits by variance leave less than the same bits everywhere.
#[test]
fn bits_by_variance_leave_less_than_equal_bits() {
    let x = decaying(1500, 96, 0.95, 3);
    for (rate, bits) in [(2.0, 2), (4.0, 4), (8.0, 8)] {
        let by_variance = error_of::<Saq>(SaqParams { rate, ..AT_RATE }, &x).value;
        let equal = error_of::<Saq>(SaqParams { bits, start: Start::Both, ..CAQ }, &x).value;
        // Mean log variance below the log of the mean: a factor 6.7; scalars take a bit of it.
        assert!(by_variance < 0.45 * equal, "{bits} bits: {by_variance} {equal}");
    }
}

#[test]
fn a_rate_is_a_budget_and_recommends_one_configuration() {
    for (dim, rate, bytes) in [
        (128, 1.0, 16),
        (100, 1.0, 12),
        (768, 8.0, 768),
        (33, 4.0, 16),
        (300, 0.5, 18),
        (5, 8.0, 5),
    ] {
        let params = SaqParams { rate, ..AT_RATE };
        let made = Saq::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Saq>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    assert_eq!(
        proposals::<Saq>(32, Some(1.0)),
        ["skipped: rate: nothing is left of the 4 bytes of 1 bits/dim at d = 32"]
    );
    assert_eq!(
        proposals::<Saq>(128, Some(14.0)),
        ["skipped: rate: 212 bytes fill less than 95 % of the 224 bytes of 14 bits/dim at d = 128"]
    );
    assert_eq!(proposals::<Saq>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
    let bytes = |bits, metric, scalars| {
        let params = SaqParams { bits, scalars, ..CAQ };
        Saq::create(params, Space { dim: 100, metric }).unwrap().code_bytes()
    };
    assert_eq!(bytes(1, Metric::L2, Scalars::F32), 13 + 8);
    assert_eq!(bytes(5, Metric::L2, Scalars::F16), 63 + 4);
    assert_eq!(bytes(13, Metric::Ip, Scalars::F16), 163 + 2);
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        CAQ,
        SaqParams { bits: 11, center: Centring::Mean, ..CAQ },
        AT_RATE,
        SaqParams { rate: 9.0, scalars: Scalars::F32, ..AT_RATE },
    ] {
        batches_seeds_and_models::<Saq>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for params in [SaqParams { bits: 2, center: Centring::Mean, ..CAQ }, AT_RATE] {
            let made: Saq = fitted(params, Metric::L2, &x, 1);
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
    let x = arr2(&[[1.0_f32, 2.0, 3.0], [3.0, 4.0, 5.0], [2.0, 3.0, 4.0]]);
    let made: Saq = fitted(SaqParams { center: Centring::Mean, ..CAQ }, Metric::L2, &x, 1);
    let found = codes(&made, x.view());
    assert!(found.row(2).iter().all(|byte| *byte == 0));
    assert_eq!(decoded(&made, &found, 3).row(2), x.row(2));
}

#[test]
fn one_dimension_is_exact() {
    let x = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    for bits in [1, 4, 13] {
        let made: Saq = fitted(SaqParams { bits, ..CAQ }, Metric::L2, &x, 1);
        let found = codes(&made, x.view());
        assert!(error(&x, &decoded(&made, &found, 1)).value.is_nan());
        let back = decoded(&made, &found, 1);
        assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() <= 1e-6 * x.abs()), "{back}");
        for ((q, i), estimate) in estimates(&made, x.view(), &found).0.indexed_iter() {
            assert!((estimate - (x[[q, 0]] - x[[i, 0]]).powi(2)).abs() < 1e-5);
        }
    }
}

/// What segments tell of ‖r‖² and the rest add up to it, however many bits are coded; under cosine estimates come from
/// distances, and a row of zeros is told apart.
#[test]
fn norms_are_exact_and_zero_rows_known() {
    let mut x = decaying(500, 40, 0.9, 1) + 0.2;
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    x.row_mut(7).fill(0.0);
    for (rate, limit) in [(2.0, 0.2), (4.0, 0.02), (8.0, 0.001)] {
        let made: Saq = fitted(SaqParams { rate, ..AT_RATE }, Metric::Cosine, &x, 3);
        let (found, _) = estimates(&made, x.view(), &codes(&made, x.view()));
        let off = |((q, i), estimate): ((usize, usize), &f32)| {
            let exact = dot(x.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
            (f64::from(*estimate) - exact).powi(2)
        };
        let mean_sq = found.indexed_iter().map(off).sum::<f64>() / found.len() as f64;
        assert!(mean_sq.sqrt() < limit, "{rate}: {mean_sq}");
        // Where nothing marks it, ½.
        assert!(found.column(7).iter().all(|zero| f64::from(zero.abs()) < 4.0 * limit), "{rate}");
    }
}
