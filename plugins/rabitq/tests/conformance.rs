//! What the papers claim of RaBitQ, and the law for every plugin.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use ndarray::{Array2, Axis, Slice, arr2};
use vq_blocks::rotated::testing::{
    Mean, Products, batches_seeds_and_models, codes, decoded, degenerate, error_of, estimates,
    fitted, gaussian, products, proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_plugin_api::{Metric, Quantizer, Space};
use vq_rabitq::{Rabitq, RabitqParams, Seek};

const PUBLISHED: RabitqParams = RabitqParams {
    rate: 0.0,
    bits: 1,
    search: Seek::Exact,
    center: Centring::None,
    rotation: Turn::Dense,
    scalars: Scalars::F32,
    epsilon: 1.9,
};

fn with_bits(bits: u32, search: Seek) -> RabitqParams {
    RabitqParams { bits, search, ..PUBLISHED }
}

/// 1 − ρ² of each code, as its last four bytes have it.
fn misses(codes: &Array2<u8>) -> Vec<f64> {
    let last = |code: ndarray::ArrayView1<'_, u8>| {
        f64::from(f32::from_le_bytes(*code.to_slice().unwrap().last_chunk().unwrap()))
    };
    codes.outer_iter().map(last).collect()
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_rabitq::plugin()).assert_clean();
}

/// Isotropic normal rows, 1 − ρ². `expected` was simulated apart, by the full sweep of 4,000 rows of 128 and
/// 1,200 of 768 dimensions in f64 (good to 0.4 %); `table` is the mean of 300 and of 40 rows, whose
/// sampling error is theirs.
#[test]
fn isotropic_rows_leave_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1500, 128, 7), gaussian(200, 768, 8));
    for (x, bits, exact, fast) in [
        (&rows, 1, (0.3610, 0.3588), (0.3610, 0.3588)),
        (&rows, 2, (0.115_99, 0.1143), (0.116_83, 0.1152)),
        (&rows, 3, (0.035_12, 0.0342), (0.036_40, 0.0354)),
        (&rows, 4, (0.009_931, 0.009_62), (0.011_117, 0.010_57)),
        (&long, 2, (0.118_18, 0.1169), (0.118_45, 0.1170)),
        (&long, 4, (0.011_112, 0.010_65), (0.011_498, 0.010_93)),
    ] {
        for (search, (expected, table)) in [(Seek::Exact, exact), (Seek::Fast, fast)] {
            let params = RabitqParams { rotation: Turn::Hadamard, ..with_bits(bits, search) };
            let (found, (n, d)) = (error_of::<Rabitq>(params, x), x.dim());
            assert!(found.is(expected, 0.004), "{bits} bits, d = {d}: {found:?}, {expected}");
            let of_table = found.of_rows(if d == 128 { 300 } else { 40 }, n);
            assert!(of_table.is(table, 0.0), "{bits} bits, d = {d}: {found:?}, {table}");
        }
    }
}

/// Many dimensions: the error is the distortion of the uniform quantizer of N(0,1).
#[test]
fn many_dimensions_leave_the_distortion_of_the_uniform_quantizer() {
    let distortions = [
        0.363_380,
        0.118_846,
        0.037_439_7,
        0.011_542_9,
        0.003_495_21,
        1.040_05e-3,
        3.043_33e-4,
        8.768_62e-5,
    ];
    let x = gaussian(150, 4096, 5);
    for (bits, expected) in (1..).zip(distortions) {
        let params = RabitqParams { rotation: Turn::Hadamard, ..with_bits(bits, Seek::Fast) };
        let found = error_of::<Rabitq>(params, &x);
        assert!(found.is(expected, 0.005), "{bits} bits: {found:?}, {expected}");
    }
}

/// E⟨o̅, o⟩ = √d·Γ(d/2)/(√π·Γ((d + 1)/2)) (2024, Lemma B.3).
#[test]
fn one_bit_has_the_mean_cosine_of_the_paper() {
    for (d, expected) in [(100, 0.799_88), (128, 0.799_44), (384, 0.798_40)] {
        let x = gaussian(4000, d, 3);
        let made: Rabitq = fitted(PUBLISHED, Metric::L2, &x, 1);
        let cosines: Vec<f64> =
            misses(&codes(&made, x.view())).iter().map(|miss| (1.0 - miss).sqrt()).collect();
        let mean = Mean::of(&cosines);
        assert!(mean.is(expected, 1e-5), "d = {d}: {mean:?}");
    }
}

/// Theorem 3.2: unbiased, slope 1, and for queries orthogonal to the row the variance of a random direction's
/// share of the code's error, (1 − ρ²)/ρ²/(d − 1): D/(1 − D)/d in many dimensions. All to 4.5 standard
/// errors over 24 rotations.
#[test]
fn estimates_are_unbiased_and_vary_as_the_theorem_says() {
    let limits = [(1, 0.5708), (2, 0.134_88), (4, 0.011_678), (8, 8.769e-5)];
    for (bits, limit) in limits {
        let dim = 128;
        let params = with_bits(bits, Seek::Fast);
        let Products { slope, bias, variance } =
            products(dim, |x, seed| fitted::<Rabitq>(params.clone(), Metric::Ip, x, seed));
        assert!(slope.is(1.0, 0.0), "{bits} bits: {slope:?}");
        assert!(bias.is(0.0, 0.0), "{bits} bits: {bias:?}");
        let x = gaussian(300, dim, 1);
        let made: Rabitq = fitted(params, Metric::Ip, &x, 1);
        let off =
            misses(&codes(&made, x.view())).iter().map(|m| m / (1.0 - m)).sum::<f64>() / 300.0;
        let expected = off * dim as f64 / (dim as f64 - 1.0);
        // The 48 rows are others than these 300, and of a row's error 13 %, 29 % and 130 % are chance.
        let more = [0.05, 0.1, 0.2, 0.6][limits.iter().position(|(b, _)| *b == bits).unwrap()];
        assert!(variance.is(expected, more), "{bits} bits: {variance:?} {expected}");
        assert!((expected / limit - 1.0).abs() < more, "{bits} bits: {expected} {limit}");
    }
}

/// Eq. 14 with the code's own ρ: a normal number lies within ±1.9 with probability 0.9426; lower limit
/// 0.94, less three standard errors of 60·60·8 pairs that share rows (8 rotations of 60 rows).
#[test]
fn the_bound_holds_as_often_as_it_says() {
    let (x, queries) = (gaussian(60, 128, 1), gaussian(60, 128, 2));
    for (bits, scalars) in [
        (1, Scalars::F32),
        (2, Scalars::F32),
        (4, Scalars::F32),
        (8, Scalars::F32),
        (1, Scalars::F16),
        (4, Scalars::F16),
    ] {
        let (mut within, mut all) = (0.0, 0.0);
        for seed in 0..8 {
            let params =
                RabitqParams { scalars, center: Centring::Mean, ..with_bits(bits, Seek::Fast) };
            let made: Rabitq = fitted(params, Metric::L2, &x, seed);
            let (found, bounds) = estimates(&made, queries.view(), &codes(&made, x.view()));
            for (((q, i), estimate), bound) in found.indexed_iter().zip(&bounds) {
                let exact = l2_sq(queries.row(q).to_slice().unwrap(), x.row(i).to_slice().unwrap());
                within +=
                    f64::from(u8::from((f64::from(*estimate) - exact).abs() <= f64::from(*bound)));
                all += 1.0;
            }
        }
        let covered = within / all;
        assert!((0.935..0.96).contains(&covered), "{bits} bits, {scalars:?}: {covered}");
    }
}

#[test]
fn a_rate_is_filled_to_the_byte_and_recommends_one_configuration() {
    for (dim, rate, bytes) in [
        (128, 1.0, 16),
        (100, 1.0, 12),
        (768, 8.0, 768),
        (33, 4.0, 16),
        (300, 0.5, 18),
        (7, 8.0, 7),
    ] {
        let params = RabitqParams { rate, scalars: Scalars::F16, ..PUBLISHED };
        let made = Rabitq::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Rabitq>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    assert_eq!(
        proposals::<Rabitq>(30, Some(1.0)),
        ["skipped: rate: nothing is left of the 3 bytes of 1 bits/dim at d = 30"]
    );
    assert_eq!(
        proposals::<Rabitq>(128, Some(9.0)),
        ["skipped: rate: 132 bytes fill less than 95 % of the 144 bytes of 9 bits/dim at d = 128"]
    );
    assert_eq!(proposals::<Rabitq>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
    let whole = |bits, scalars| {
        let params = RabitqParams { scalars, ..with_bits(bits, Seek::Exact) };
        Rabitq::create(params, Space { dim: 100, metric: Metric::L2 }).unwrap().code_bytes()
    };
    assert_eq!(whole(1, Scalars::F32), 13 + 8);
    assert_eq!(whole(5, Scalars::F16), 63 + 4);
}

/// Mixed widths err between the whole ones: k coordinates of B + 1 bits and d − k of B bits leave the mean
/// of their distortions.
#[test]
fn mixed_widths_leave_the_mean_of_their_distortions() {
    // 16 of 768 bytes of rate 8/3 are scalars at f32: 2 + 7/12 bits for each coordinate.
    let x = gaussian(300, 768, 4);
    let params = RabitqParams {
        rate: 31.0 / 12.0 + 64.0 / 768.0,
        rotation: Turn::Hadamard,
        ..with_bits(0, Seek::Fast)
    };
    let found = error_of::<Rabitq>(params, &x);
    let expected = (7.0 * 0.0373 + 5.0 * 0.118_45) / 12.0;
    assert!(found.is(expected, 0.005), "{found:?} {expected}");
}

#[test]
fn f16_scalars_cost_no_more_than_they_round() {
    let x = gaussian(300, 128, 7);
    for (bits, more) in [(1, 1e-6), (4, 1e-4), (8, 1e-2)] {
        let [wide, narrow] = [Scalars::F32, Scalars::F16].map(|scalars| {
            error_of::<Rabitq>(RabitqParams { scalars, ..with_bits(bits, Seek::Fast) }, &x)
        });
        let off = narrow.value / wide.value - 1.0;
        assert!(off.abs() < more, "{bits} bits: {narrow:?} {wide:?}");
    }
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        with_bits(1, Seek::Exact),
        RabitqParams { center: Centring::Mean, ..with_bits(5, Seek::Fast) },
        RabitqParams { rate: 5.0, rotation: Turn::Hadamard, scalars: Scalars::F16, ..PUBLISHED },
    ] {
        batches_seeds_and_models::<Rabitq>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for bits in [1, 2, 5, 8] {
            let params = RabitqParams { center: Centring::Mean, ..with_bits(bits, Seek::Exact) };
            let made: Rabitq = fitted(params, Metric::L2, &x, 1);
            let found = codes(&made, x.view());
            let back = decoded(&made, &found, 12);
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
}

#[test]
fn the_centre_itself_has_a_code_of_zeros_and_one_dimension_is_exact() {
    let x = arr2(&[[1.0_f32, 2.0, 3.0], [3.0, 4.0, 5.0], [2.0, 3.0, 4.0]]);
    let params = RabitqParams { center: Centring::Mean, ..with_bits(3, Seek::Exact) };
    let made: Rabitq = fitted(params, Metric::L2, &x, 1);
    let found = codes(&made, x.view());
    assert!(found.row(2).iter().all(|byte| *byte == 0));
    assert_eq!(decoded(&made, &found, 3).row(2), x.row(2));
    let x = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    for bits in 1..=8 {
        let made: Rabitq = fitted(with_bits(bits, Seek::Exact), Metric::L2, &x, 1);
        let found = codes(&made, x.view());
        let back = decoded(&made, &found, 1);
        assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() <= 1e-6 * x.abs()), "{back}");
        let (found, bounds) = estimates(&made, x.view(), &found);
        for ((q, i), estimate) in found.indexed_iter() {
            assert!((estimate - (x[[q, 0]] - x[[i, 0]]).powi(2)).abs() < 1e-5);
        }
        assert!(bounds.iter().all(|bound| (0.0..0.1).contains(bound)), "{bounds}");
    }
}

/// Under cosine the inner product with r is known without a byte: estimates err as those of distances do, in
/// proportion to ‖q − c‖. A zero row, which has no unit length, is told apart.
#[test]
fn cosine_estimates_err_less_than_products() {
    let mut x = gaussian(400, 64, 1) * 0.5 + 1.0;
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    x.row_mut(7).fill(0.0);
    let params = RabitqParams { center: Centring::Mean, ..with_bits(1, Seek::Exact) };
    let queries = x.slice_axis(Axis(0), Slice::from(20..40));
    let [cosine, ip] = [Metric::Cosine, Metric::Ip].map(|metric| {
        let made: Rabitq = fitted(params.clone(), metric, &x, 3);
        let (found, _) = estimates(&made, queries, &codes(&made, x.view()));
        assert!(found.column(7).iter().all(|estimate| estimate.abs() < 0.15));
        let off = found.indexed_iter().map(|((q, i), estimate)| {
            let (q, x) = (queries.row(q).to_vec(), x.row(i).to_vec());
            (f64::from(*estimate) - dot(&q, &x)).powi(2)
        });
        off.sum::<f64>()
    });
    assert!(cosine < 0.5 * ip, "{cosine} {ip}");
}
