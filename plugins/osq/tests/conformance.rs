//! What is claimed of OSQ, and the law for every plugin.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use ndarray::{Array2, Axis, arr2};
use vq_blocks::rotated::testing::{
    Mean, batches_seeds_and_models, codes, decoded, degenerate, error, error_of, estimates, fitted,
    gaussian, products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_osq::{Osq, OsqParams};
use vq_plugin_api::{Metric, Quantizer, Space};

/// Lucene's, but for the centre.
const PUBLISHED: OsqParams = OsqParams {
    rate: 0.0,
    bits: 1,
    lambda: 0.1,
    query_bits: 0,
    center: Centring::None,
    rotation: Turn::None,
    scalars: Scalars::F32,
};

fn with_bits(bits: u32) -> OsqParams {
    OsqParams { bits, ..PUBLISHED }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_osq::plugin()).assert_clean();
}

/// 1 − ρ² of rows and what is read of them.
fn miss(x: &Array2<f32>, back: &Array2<f32>) -> Mean {
    let one = |(x, back): (ndarray::ArrayView1<'_, f32>, ndarray::ArrayView1<'_, f32>)| {
        let (x, back) = (x.to_slice().unwrap(), back.to_slice().unwrap());
        1.0 - dot(x, back).powi(2) / (norm_sq(x) * norm_sq(back))
    };
    Mean::of(&x.outer_iter().zip(back.outer_iter()).map(one).collect::<Vec<_>>())
}

/// Isotropic normal rows, 1 − ρ² and ‖x − x̂‖²/‖x‖². `expected` was simulated apart, on 20,000 rows of 128 and
/// 4,000 of 768 dimensions in f64 (good to 0.3 %); `table` is the mean of 300 and of 40 rows, whose
/// sampling error is theirs.
#[test]
fn isotropic_rows_leave_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1500, 128, 7), gaussian(200, 768, 8));
    for (x, bits, expected, table) in [
        (&rows, 1, (0.354_68, 0.493_71), (0.353, 0.491)),
        (&rows, 2, (0.118_03, 0.126_48), (0.117, 0.125)),
        (&rows, 3, (0.034_82, 0.035_36), (0.0342, 0.0347)),
        (&rows, 4, (0.009_739, 0.009_795), (0.009_43, 0.009_49)),
        (&long, 2, (0.128_37, 0.137_56), (0.127, 0.136)),
        (&long, 4, (0.011_336, 0.011_364), (0.0108, 0.0109)),
    ] {
        let made: Osq = fitted(with_bits(bits), Metric::L2, x, 3);
        let back = decoded(&made, &codes(&made, x.view()), x.ncols());
        let (n, d) = x.dim();
        for (found, expected, table) in
            [(miss(x, &back), expected.0, table.0), (error(x, &back), expected.1, table.1)]
        {
            assert!(found.is(expected, 0.003), "{bits} bits, d = {d}: {found:?}, {expected}");
            let of_table = found.of_rows(if d == 128 { 300 } else { 40 }, n);
            assert!(of_table.is(table, 0.005), "{bits} bits, d = {d}: {found:?}, {table}");
        }
    }
}

/// λ = 1 is the least squared error: below that of the uniform quantizer of N(0,1), whose points do not know
/// the row.
#[test]
fn the_least_squared_error_is_that_of_a_fitted_uniform_quantizer() {
    let x = gaussian(400, 768, 8);
    for (bits, uniform) in [(1, 0.363_380), (2, 0.118_846), (4, 0.011_542_9)] {
        let found = error_of::<Osq>(OsqParams { lambda: 1.0, ..with_bits(bits) }, &x);
        assert!((0.93 * uniform..uniform).contains(&found.value), "{bits} bits: {found:?}");
    }
}

/// Estimates of ⟨q, x⟩ are low by ⟨x, x̂⟩/‖x‖², whose means at 1 to 4 bits and d = 128 were simulated apart; over 24
/// rotations.
#[test]
fn estimates_have_the_slopes_of_the_interval() {
    for (bits, slope, table) in
        [(1, 0.9425, 0.944), (2, 0.9646, 0.966), (3, 0.9854, 0.985), (4, 0.9953, 0.9965)]
    {
        let params = OsqParams { rotation: Turn::Dense, ..with_bits(bits) };
        let found = products(128, |x, seed| fitted::<Osq>(params.clone(), Metric::Ip, x, seed));
        // 48 rows of 24 rotations are not independent.
        assert!(found.slope.is(slope, 0.003), "{bits} bits: {:?}", found.slope);
        assert!(found.slope.is(table, 0.005), "{bits} bits: {:?}", found.slope);
    }
}

/// The third scalar makes estimates exact but for the product: that of a query at the centre is the row's
/// own term.
#[test]
fn what_is_stored_beside_the_interval_is_exact() {
    let x = gaussian(50, 40, 4) + 2.0;
    for (metric, scalars) in [
        (Metric::L2, Scalars::F32),
        (Metric::L2, Scalars::F16),
        (Metric::Ip, Scalars::F32),
        (Metric::Ip, Scalars::F16),
    ] {
        for rotation in [Turn::None, Turn::Hadamard] {
            let params = OsqParams { center: Centring::Mean, rotation, scalars, ..with_bits(1) };
            let made: Osq = fitted(params, metric, &x, 1);
            let mean = x.mean_axis(Axis(0)).unwrap().insert_axis(Axis(0));
            let (found, _) = estimates(&made, mean.view(), &codes(&made, x.view()));
            for (x, found) in x.outer_iter().zip(&found) {
                let (q, x) = (mean.row(0).to_vec(), x.to_vec());
                let exact = if metric == Metric::L2 { l2_sq(&q, &x) } else { dot(&q, &x) };
                let off = (f64::from(*found) / exact - 1.0).abs();
                let most = if scalars == Scalars::F32 { 1e-5 } else { 1e-3 };
                assert!(off < most, "{metric:?} {scalars:?}: {found} {exact}");
            }
        }
    }
}

/// A query of B bits adds the variance of its own error: of 8 bits next to none, of one bit much.
#[test]
fn quantized_queries_err_more_by_what_they_lose() {
    let (x, queries) = (gaussian(300, 128, 1), gaussian(40, 128, 2));
    let off = |query_bits| {
        let made: Osq = fitted(OsqParams { query_bits, ..with_bits(4) }, Metric::L2, &x, 1);
        let (found, _) = estimates(&made, queries.view(), &codes(&made, x.view()));
        let of = |((q, i), found): ((usize, usize), &f32)| {
            let exact = l2_sq(queries.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
            (f64::from(*found) - exact).powi(2)
        };
        found.indexed_iter().map(of).sum::<f64>()
    };
    let [plain, eight, four, one] = [0, 8, 4, 1].map(off);
    assert!((0.98..1.05).contains(&(eight / plain)), "{eight} {plain}");
    // Codes and queries of 4 bits each.
    assert!((1.7..2.3).contains(&(four / plain)), "{four} {plain}");
    assert!(one > 10.0 * plain, "{one} {plain}");
}

/// Without a rotation the coordinates that vary most have more bits.
#[test]
fn mixed_widths_go_by_falling_variance() {
    let mut x = gaussian(600, 64, 4);
    // Four times the deviation in every fourth dimension.
    x.indexed_iter_mut().for_each(|((_, t), x)| *x *= if t % 4 == 2 { 4.0 } else { 1.0 });
    let params = OsqParams { rate: 2.25, lambda: 1.0, scalars: Scalars::F16, ..PUBLISHED };
    let made: Osq = fitted(params, Metric::L2, &x, 1);
    assert_eq!(made.code_bytes(), 18);
    // 12 bytes: 32 of 64 coordinates with 2 bits, 32 with one.
    let back = decoded(&made, &codes(&made, x.view()), 64);
    let error = |wide: bool| {
        let off = x.indexed_iter().filter(|((_, t), _)| (t % 4 == 2) == wide);
        let (mut error, mut all) = (0.0, 0.0);
        for (at, x) in off {
            error += f64::from((x - back[at]).powi(2));
            all += f64::from(x * x);
        }
        error / all
    };
    assert!(error(true) < 0.25, "{}", error(true));
}

#[test]
fn a_rate_is_filled_to_the_byte_and_recommends_one_configuration() {
    for (dim, rate, bytes) in
        [(128, 1.0, 16), (100, 1.0, 12), (768, 8.0, 768), (33, 4.0, 16), (300, 0.5, 18)]
    {
        let params = OsqParams { rate, scalars: Scalars::F16, ..PUBLISHED };
        let made = Osq::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Osq>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    assert!(proposals::<Osq>(40, Some(1.0))[0].starts_with("skipped: rate: nothing is left"));
    assert_eq!(proposals::<Osq>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
    let bytes = |metric, center, scalars| {
        let params = OsqParams { center, scalars, ..with_bits(4) };
        Osq::create(params, Space { dim: 100, metric }).unwrap().code_bytes()
    };
    assert_eq!(bytes(Metric::L2, Centring::Mean, Scalars::F32), 50 + 12);
    assert_eq!(bytes(Metric::Cosine, Centring::None, Scalars::F16), 50 + 6);
    // Without a centre the product with it is no news.
    assert_eq!(bytes(Metric::Ip, Centring::None, Scalars::F32), 50 + 8);
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        OsqParams { rotation: Turn::Dense, ..with_bits(1) },
        OsqParams { center: Centring::Mean, rotation: Turn::Hadamard, ..with_bits(7) },
        OsqParams { rate: 5.0, rotation: Turn::Hadamard, scalars: Scalars::F16, ..PUBLISHED },
    ] {
        batches_seeds_and_models::<Osq>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for (bits, most) in [(1, 0.6), (2, 0.2), (5, 0.01), (8, 1e-3)] {
            let params = OsqParams { center: Centring::Mean, ..with_bits(bits) };
            let made: Osq = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 12);
            let mean = x.mean_axis(Axis(0)).unwrap();
            let sum = |a: &Array2<f32>, b: &Array2<f32>| {
                l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap())
            };
            let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
            let off = sum(&x, &back);
            assert!(off <= most * spread + rounding, "{bits} bits {}: {off}", x[[0, 0]]);
            let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decoded(&made, &codes(&made, odd.view()), 12);
            assert!(back.iter().all(|x| x.is_finite()), "{bits} bits");
        }
    }
    // Rows that are the same in all coordinates, zeros and one dimension are read exactly.
    let flat = arr2(&[[-3.0_f32; 7], [0.0; 7], [0.5; 7], [1e-3; 7]]);
    let line = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    for x in [flat, line] {
        for bits in 1..=8 {
            let made: Osq = fitted(with_bits(bits), Metric::L2, &x, 1);
            assert_eq!(decoded(&made, &codes(&made, x.view()), x.ncols()), x);
        }
    }
}

/// A zero row, which has no unit length, is told apart under cosine.
#[test]
fn a_zero_row_has_the_cosine_zero() {
    let mut x = gaussian(400, 64, 1) * 0.5 + 1.0;
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    x.row_mut(7).fill(0.0);
    let params = OsqParams { center: Centring::Mean, ..with_bits(2) };
    let made: Osq = fitted(params, Metric::Cosine, &x, 3);
    let (found, _) = estimates(&made, x.view(), &codes(&made, x.view()));
    assert!(found.column(7).iter().all(|estimate| estimate.abs() < 0.15));
    let off = found.indexed_iter().filter(|((q, i), _)| *q != 7 && *i != 7);
    let worst = off.map(|((q, i), found)| {
        (f64::from(*found) - dot(x.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap())).abs()
    });
    assert!(worst.fold(0.0, f64::max) < 0.1);
}
