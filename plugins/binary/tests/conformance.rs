//! What is claimed of binary codes, and the law for every plugin.

use ndarray::{Array2, Axis, arr2};
use vq_binary::{Binary, BinaryParams, Levels, Rotate};
use vq_blocks::rotated::Centring;
use vq_blocks::rotated::testing::{
    batches_seeds_and_models, codes, decoded, degenerate, error, error_of, estimates, fitted,
    gaussian, proposals,
};
use vq_kernels::bits::hamming;
use vq_kernels::distance::l2_sq;
use vq_plugin_api::{Metric, Quantizer, Space};

const SIGNS: BinaryParams = BinaryParams {
    rate: 0.0,
    levels: Levels::One,
    rotation: Rotate::None,
    center: Centring::Mean,
    rounds: 50,
};

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_binary::plugin()).assert_clean();
}

/// Signs of normal coordinates read as ±√(2/π) leave 1 − 2/π = 0.363380. The thermometer's three cells leave
/// 1 − Σφ²/p: with φ = φ(⅔) = 0.319448 and tails of 0.252493 each, 1 − 2·0.319448²/0.252493. Where a high bit is
/// shared, a coordinate that is not in the top of both is told from its neighbour's by the low bits alone.
/// The rows are others than those of training, to which ITQ turns (0.351 there); means of 4,000 rows are off by
/// 1/√4000 of a deviation, which adds a thousandth.
#[test]
fn normal_coordinates_leave_the_errors_of_their_cells() {
    let (train, x) = (gaussian(4000, 64, 5), gaussian(4000, 64, 6));
    let density = (-2.0_f64 / 9.0).exp() / std::f64::consts::TAU.sqrt();
    let tail = 0.252_492_5;
    let three = 1.0 - 2.0 * density * density / tail;
    for rotation in [Rotate::None, Rotate::Random, Rotate::Itq] {
        let left = |levels| {
            let params = BinaryParams { levels, rotation, rounds: 3, ..SIGNS };
            let made: Binary = fitted(params, Metric::L2, &train, 1);
            error(&x, &decoded(&made, &codes(&made, x.view()), 64))
        };
        let one = left(Levels::One);
        assert!(one.is(0.363_380, 0.003), "{one:?}");
        let two = left(Levels::Two);
        assert!(two.is(three, 0.003), "{two:?} {three}");
        let between = left(Levels::OneAndHalf);
        assert!(two.value < between.value && between.value < one.value, "{between:?}");
    }
}

/// A row's own code is that of a query at it, and estimates are one line of the Hamming distance: equal
/// distances have equal estimates, to the bit.
#[test]
fn estimates_are_a_line_of_the_hamming_distance_without_bias() {
    let x = gaussian(600, 70, 2) + 1.0;
    for (levels, metric) in [
        (Levels::One, Metric::L2),
        (Levels::OneAndHalf, Metric::L2),
        (Levels::Two, Metric::Ip),
        (Levels::One, Metric::Cosine),
    ] {
        let params = BinaryParams { levels, rotation: Rotate::Random, ..SIGNS };
        let made: Binary = fitted(params, metric, &x, 1);
        let found = codes(&made, x.view());
        let (values, _) = estimates(&made, x.view(), &found);
        let mut by_distance = vec![None; 200];
        let (mut sum, mut count) = (0.0, 0.0);
        for ((q, i), value) in values.indexed_iter() {
            let h = hamming(&found.row(q).to_vec(), &found.row(i).to_vec()) as usize;
            assert_eq!(*by_distance[h].get_or_insert(*value), *value, "distance {h}");
            if q != i {
                let (q, x) = (x.row(q).to_vec(), x.row(i).to_vec());
                let exact = match metric {
                    Metric::L2 => l2_sq(&q, &x),
                    _ => vq_kernels::distance::dot(&q, &x),
                };
                sum += f64::from(*value) - exact;
                count += exact.abs();
            }
        }
        let seen: Vec<f32> = by_distance.into_iter().flatten().collect();
        assert!(seen.is_sorted_by(|a, b| if metric == Metric::L2 { a < b } else { a > b }));
        // Least squares on most of these pairs leaves no mean; the line's digits a sixteenth of a bit.
        assert!((sum / count).abs() < 0.02, "{metric:?}: {}", sum / count);
    }
}

/// Equations 3 and 4 lower the error of signs from round to round, below that of a random rotation, where
/// directions have unequal variances.
#[test]
fn iterative_quantization_errs_less_than_a_random_rotation() {
    let mut x = gaussian(2000, 32, 4);
    x.indexed_iter_mut().for_each(|((_, t), x)| *x *= 0.9_f32.powi(t as i32));
    let turned: Binary =
        fitted(BinaryParams { rotation: Rotate::Random, ..SIGNS }, Metric::L2, &x, 9);
    let error = |rotation, rounds| {
        error_of::<Binary>(BinaryParams { rotation, rounds, rate: 0.5, ..SIGNS }, &x).value
    };
    assert_eq!(turned.code_bytes(), 4);
    let random = error(Rotate::Random, 50);
    let rounds = [0, 3, 50].map(|rounds| error(Rotate::Itq, rounds));
    assert!(rounds[0] < random && rounds[1] < rounds[0] && rounds[2] < rounds[1], "{rounds:?}");
}

/// Two thresholds: what lies on one belongs to the upper cell, and a shared bit is set by either neighbour.
#[test]
fn thermometers_are_laid_out_in_planes() {
    let x = arr2(&[[0.0_f32, 0.0, 0.0], [3.0, 3.0, 3.0], [-3.0, -3.0, -3.0]]);
    for (levels, bytes) in [
        // Low bits of three coordinates, then high bits.
        (Levels::Two, [0b000_111_u8, 0b111_111, 0]),
        (Levels::OneAndHalf, [0b00_111, 0b11_111, 0]),
        (Levels::One, [0b111, 0b111, 0]),
    ] {
        let made: Binary = fitted(BinaryParams { levels, ..SIGNS }, Metric::L2, &x, 1);
        let found = codes(&made, x.view());
        assert_eq!(found.column(0).to_vec(), bytes);
        let back = decoded(&made, &found, 3);
        if made.code_bytes() == 1 && bytes[0] != bytes[1] {
            assert_eq!(back, x);
        }
    }
    let mixed = arr2(&[[3.0_f32, -3.0, 0.0]]);
    let params = BinaryParams { levels: Levels::OneAndHalf, ..SIGNS };
    let made: Binary = fitted(params, Metric::L2, &x, 1);
    assert_eq!(codes(&made, mixed.view())[[0, 0]], 0b01_101);
}

#[test]
fn a_rate_codes_as_many_coordinates_as_fit() {
    for (dim, rate, levels, bytes) in [
        (128, 1.0, Levels::One, 16),
        (100, 1.0, Levels::One, 12),
        (100, 1.5, Levels::OneAndHalf, 18),
        (100, 2.0, Levels::Two, 25),
        (768, 0.5, Levels::One, 48),
        (33, 2.0, Levels::Two, 8),
    ] {
        let label = ["1", "1.5", "2"][levels as usize];
        let params = BinaryParams { rate, levels, ..SIGNS };
        let made = Binary::create(params, Space { dim, metric: Metric::L2 }).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(proposals::<Binary>(dim, Some(rate)), [format!("rate={rate} levels={label}")]);
    }
    assert_eq!(
        proposals::<Binary>(128, Some(4.0)),
        ["skipped: rate: 32 bytes fill less than 95 % of the 64 bytes of 4 bits/dim at d = 128"]
    );
    assert_eq!(
        proposals::<Binary>(7, Some(1.0)),
        ["skipped: rate: no bit fits the 0 bytes of 1 bits/dim at d = 7"]
    );
    assert_eq!(
        proposals::<Binary>(128, None),
        ["rate=1 levels=1", "rate=1.5 levels=1.5", "rate=2 levels=2"]
    );
    let whole = |dim, levels| {
        let params = BinaryParams { levels, ..SIGNS };
        Binary::create(params, Space { dim, metric: Metric::L2 }).unwrap().code_bytes()
    };
    assert_eq!([whole(13, Levels::One), whole(1, Levels::One)], [2, 1]);
    assert_eq!([whole(13, Levels::OneAndHalf), whole(13, Levels::Two)], [3, 4]);
}

#[test]
fn batches_change_nothing_seeds_do_and_a_loaded_model_is_the_saved_one() {
    for (rotation, levels) in [
        (Rotate::Random, Levels::One),
        (Rotate::Random, Levels::Two),
        (Rotate::Itq, Levels::One),
        (Rotate::Itq, Levels::OneAndHalf),
    ] {
        batches_seeds_and_models::<Binary>(BinaryParams { rotation, levels, ..SIGNS });
    }
}

#[test]
fn degenerate_rows_are_coded() {
    for x in degenerate() {
        for rotation in [Rotate::None, Rotate::Random, Rotate::Itq] {
            for levels in [Levels::One, Levels::OneAndHalf, Levels::Two] {
                let params = BinaryParams { levels, rotation, ..SIGNS };
                let made: Binary = fitted(params, Metric::L2, &x, 1);
                let found = codes(&made, x.view());
                let back = decoded(&made, &found, 12);
                let mean = x.mean_axis(Axis(0)).unwrap();
                let off = |a: &Array2<f32>| l2_sq(x.as_slice().unwrap(), a.as_slice().unwrap());
                let spread = off(&(Array2::zeros(x.dim()) + mean));
                let rounding = 1e-11 * vq_kernels::distance::norm_sq(x.as_slice().unwrap());
                assert!(off(&back) <= 0.45 * spread + rounding, "{}", x[[0, 0]]);
                let odd = arr2(&[[f32::NAN; 12], [f32::INFINITY; 12], [f32::MAX; 12]]);
                let (values, _) = estimates(&made, odd.view(), &found);
                assert!(values.iter().all(|value| value.is_finite()));
                let back = decoded(&made, &codes(&made, odd.view()), 12);
                assert!(back.iter().all(|x| x.is_finite()));
            }
        }
    }
    let line = arr2(&[[-3.0_f32], [3.0], [-3.0], [3.0]]);
    let made: Binary = fitted(SIGNS, Metric::L2, &line, 1);
    assert_eq!(decoded(&made, &codes(&made, line.view()), 1), line);
}
