//! What is claimed of LVQ, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use vq_blocks::rotated::testing::{
    batches_seeds_and_models, codes, decoded, degenerate, error_of, estimates, fitted, gaussian,
    proposals,
};
use vq_blocks::rotated::{Centring, Scalars, Turn};
use vq_kernels::distance::{dot, l2_sq, norm_sq};
use vq_lvq::{Lvq, LvqParams};
use vq_plugin_api::{Metric, Quantizer, Space};

const PUBLISHED: LvqParams = LvqParams {
    rate: 0.0,
    bits: 8,
    residual: 0,
    center: Centring::Mean,
    rotation: Turn::None,
    scalars: Scalars::F16,
};

fn with_bits(bits: u32, residual: u32) -> LvqParams {
    LvqParams { bits, residual, ..PUBLISHED }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_lvq::plugin()).assert_clean();
}

/// Isotropic normal rows, ‖x − x̂‖²/‖x‖². `expected` was simulated apart, on 20,000 rows of 128 and 4,000 of 768
/// dimensions in f64 (good to 0.3 %), with exact ranges, which f16 widens by up to 0.1 %; `table` is the
/// mean of 300 and of 40 rows, whose sampling error is theirs. A rotation changes nothing here.
#[test]
fn isotropic_rows_leave_the_errors_of_the_table() {
    let (rows, long) = (gaussian(1500, 128, 7), gaussian(200, 768, 8));
    for (x, bits, expected, table) in [
        (&rows, 1, 3.552, 3.5),
        (&rows, 2, 0.2497, 0.248),
        (&rows, 3, 0.045_56, 0.0448),
        (&rows, 4, 0.009_915, 0.0099),
        (&long, 2, 0.3774, 0.358),
        (&long, 4, 0.014_87, 0.0141),
    ] {
        for rotation in [Turn::None, Turn::Hadamard] {
            let params = LvqParams { rotation, center: Centring::None, ..with_bits(bits, 0) };
            let (found, (n, d)) = (error_of::<Lvq>(params, x), x.dim());
            assert!(found.is(expected, 0.006), "{bits} bits, d = {d}: {found:?}, {expected}");
            let of_table = found.of_rows(if d == 128 { 300 } else { 40 }, n);
            assert!(of_table.is(table, 0.01), "{bits} bits, d = {d}: {found:?}, {table}");
        }
    }
}

/// Section 3: at most Δ/2 in each coordinate, and Δ/2 over 2^R − 1 after a second level. Ranges of f32 leave
/// nothing but the rounding of sums.
#[test]
fn no_coordinate_is_off_by_more_than_half_a_step() {
    let x = gaussian(300, 100, 7);
    for scalars in [Scalars::F16, Scalars::F32] {
        for (bits, residual) in [(1, 0), (4, 0), (8, 0), (4, 4), (3, 7), (8, 8)] {
            let params = LvqParams { scalars, center: Centring::None, ..with_bits(bits, residual) };
            let made: Lvq = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 100);
            for (x, back) in x.outer_iter().zip(back.outer_iter()) {
                let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let least = x.iter().copied().fold(f32::INFINITY, f32::min);
                // f16 has 11 digits; either end of the range moves out by less than 2^-10.
                let wide = (most - least) * if scalars == Scalars::F16 { 1.003 } else { 1.0 };
                let step = wide / ((1 << bits) - 1) as f32;
                let step = if residual > 0 { step / ((1 << residual) - 1) as f32 } else { step };
                let off = x.iter().zip(back).map(|(x, back)| (x - back).abs());
                let off = off.fold(0.0, f32::max);
                assert!(off <= step / 2.0 + 1e-6, "{bits} + {residual}: {off} {step}");
                assert!(off > step / 5.0 || step < 1e-5, "{bits} + {residual}: {off} {step}");
            }
        }
    }
}

/// Estimates are the values of decoded rows, of both levels.
#[test]
fn estimates_are_those_of_decoded_rows() {
    let mut x = gaussian(130, 20, 4) + 1.0;
    for mut row in x.outer_iter_mut() {
        let norm = norm_sq(&row.to_vec()).sqrt() as f32;
        row /= norm;
    }
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        for (params, rotation) in [
            (with_bits(2, 0), Turn::Hadamard),
            (with_bits(3, 2), Turn::None),
            (LvqParams { rate: 4.0, ..with_bits(1, 0) }, Turn::None),
            (LvqParams { rate: 8.0, ..with_bits(1, 4) }, Turn::Dense),
        ] {
            let params = LvqParams { rotation, ..params };
            let made: Lvq = fitted(params, metric, &x, 1);
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
}

/// Without a rotation the coordinates that vary most have more bits: smaller steps in one range.
#[test]
fn mixed_widths_go_by_falling_variance() {
    let mut x = gaussian(600, 64, 4);
    x.indexed_iter_mut().for_each(|((_, t), x)| *x *= if t % 4 == 2 { 2.0 } else { 1.0 });
    let params = LvqParams { rate: 3.75, ..PUBLISHED };
    let made: Lvq = fitted(params, Metric::L2, &x, 1);
    // 30 bytes, 4 of them scalars: 16 of 64 coordinates with 4 bits, 48 with three.
    assert_eq!(made.code_bytes(), 30);
    let back = decoded(&made, &codes(&made, x.view()), 64);
    let error = |wide: bool| {
        let off = x.indexed_iter().filter(|((_, t), _)| (t % 4 == 2) == wide);
        let off: Vec<f64> = off.map(|(at, x)| f64::from((x - back[at]).powi(2))).collect();
        off.iter().sum::<f64>() / off.len() as f64
    };
    let ratio = error(false) / error(true);
    // Steps of 1/7 and 1/15 of the range: (15/7)². The ends of the range, mostly two of the 16 wide
    // coordinates, are read exactly: up to 16/14 of it.
    assert!((0.97 * 4.592..1.03 * 5.248).contains(&ratio), "{ratio}");
}

#[test]
fn a_rate_is_filled_to_the_byte_and_recommends_one_configuration() {
    for (dim, rate, residual, bytes) in [
        (128, 1.0, 0, 16),
        (100, 4.0, 0, 50),
        (768, 8.0, 0, 768),
        (33, 4.0, 0, 16),
        (100, 8.0, 4, 100),
        (300, 0.5, 0, 18),
    ] {
        let params = LvqParams { rate, residual, ..PUBLISHED };
        let made = Lvq::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Lvq>(dim, Some(rate)), [format!("rate={rate}")]);
    }
    assert!(proposals::<Lvq>(30, Some(1.0))[0].starts_with("skipped: rate: nothing is left"));
    assert_eq!(proposals::<Lvq>(128, None), ["rate=1", "rate=2", "rate=4", "rate=8"]);
    let made = |params| Lvq::create(params, Space { dim: 100, metric: Metric::L2 });
    assert_eq!(made(with_bits(4, 8)).unwrap().code_bytes(), 50 + 100 + 4);
    let wide = LvqParams { scalars: Scalars::F32, ..with_bits(8, 0) };
    assert_eq!(made(wide).unwrap().code_bytes(), 100 + 8);
    let refused = made(LvqParams { rate: 5.0, ..with_bits(8, 4) }).err().unwrap().to_string();
    assert!(refused.contains("the first has less than a bit"), "{refused}");
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for params in [
        LvqParams { rotation: Turn::Dense, ..with_bits(1, 0) },
        LvqParams { rotation: Turn::Hadamard, center: Centring::None, ..with_bits(7, 3) },
        LvqParams { rate: 5.0, rotation: Turn::Hadamard, ..PUBLISHED },
    ] {
        batches_seeds_and_models::<Lvq>(params);
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for (bits, residual, most) in [(4, 0, 0.02), (8, 0, 1e-4), (4, 4, 1e-4)] {
            let params = LvqParams { scalars: Scalars::F32, ..with_bits(bits, residual) };
            let made: Lvq = fitted(params, Metric::L2, &x, 1);
            let back = decoded(&made, &codes(&made, x.view()), 12);
            let mean = x.mean_axis(Axis(0)).unwrap();
            let sum = |a: &Array2<f32>, b: &Array2<f32>| {
                l2_sq(a.as_slice().unwrap(), b.as_slice().unwrap())
            };
            let spread = sum(&x, &(Array2::zeros(x.dim()) + mean));
            let rounding = 1e-11 * norm_sq(x.as_slice().unwrap());
            let off = sum(&x, &back);
            assert!(off <= most * spread + rounding, "{bits} + {residual} {}: {off}", x[[0, 0]]);
            let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
            let back = decoded(&made, &codes(&made, odd.view()), 12);
            assert!(back.iter().all(|x| x.is_finite()), "{bits} + {residual}");
        }
    }
    // Rows that are the same in all coordinates, zeros and one dimension are read exactly: Δ = 0.
    let flat = arr2(&[[-3.0_f32; 7], [0.0; 7], [0.5; 7], [1e-3; 7]]);
    let line = arr2(&[[-3.0_f32], [0.0], [0.5], [1e-3]]);
    for x in [flat, line] {
        for (bits, residual) in [(1, 0), (4, 0), (8, 0), (4, 4)] {
            let params = LvqParams {
                scalars: Scalars::F32,
                center: Centring::None,
                ..with_bits(bits, residual)
            };
            let made: Lvq = fitted(params, Metric::L2, &x, 1);
            assert_eq!(decoded(&made, &codes(&made, x.view()), x.ncols()), x);
        }
    }
}
