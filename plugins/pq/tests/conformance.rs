//! What product quantization promises, asked through the C table as the host asks it.

use ndarray::Array2;
use vq_plugin_api::testing::{self, Subject, calling, config, gaussian, l2_sq};
use vq_plugin_api::{ErrorKind, Metric, Space};

fn subject() -> Subject {
    Subject::of(vq_pq::plugin())
}

#[test]
fn threads_and_batches_change_nothing_and_seeds_do() {
    subject().threads_and_batches_change_nothing_and_seeds_do(CONFIGS);
}

#[test]
fn a_loaded_model_encodes_decodes_and_scores_like_the_saved_one() {
    subject().a_loaded_model_encodes_decodes_and_scores_like_the_saved_one(CONFIGS);
}

#[test]
fn degenerate_rows_give_finite_ones() {
    subject().degenerate_rows_give_finite_ones(CONFIGS);
}

#[test]
fn estimates_are_the_values_of_the_decoded_rows() {
    subject().estimates_are_the_values_of_the_decoded_rows(CONFIGS);
}

#[test]
fn training_stops_when_asked_to() {
    subject().training_stops_when_asked_to(CONFIGS[0]);
}

const CONFIGS: &[&[(&str, i64)]] =
    &[&[("m", 4)], &[("m", 3), ("bits", 4)], &[("m", 4), ("bits", 5)], &[("m", 1), ("bits", 10)]];

#[test]
fn five_bit_codes_take_five_bits() {
    for (m, bits, bytes) in [(6, 5, 4), (5, 5, 4), (10, 4, 5), (3, 12, 5), (30, 1, 4), (15, 8, 15)]
    {
        let space = Space { dim: 30, metric: Metric::L2 };
        let made = subject().method().create(&config(&[("m", m), ("bits", bits)]), space).unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(made.ratio(), Some(120.0 / bytes as f64));
    }
}

#[test]
fn an_m_that_does_not_divide_is_refused() {
    let space = Space { dim: 100, metric: Metric::L2 };
    let error = subject().method().create(&config(&[("m", 24)]), space).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BadConfig));
    assert_eq!(error.message(), "m: 24 does not divide d = 100");
}

#[test]
fn the_default_grid_is_of_rates() {
    assert_eq!(
        subject().proposals(128, None, &[]),
        [
            "m=8 bits=8: 8",
            "m=16 bits=4: 8",
            "m=16 bits=8: 16",
            "m=32 bits=4: 16",
            "m=32 bits=8: 32",
            "m=64 bits=4: 32",
            "m=64 bits=8: 64",
            "m=128 bits=4: 64"
        ]
    );
    assert_eq!(
        subject().proposals(100, None, &[]),
        [
            "m=5 bits=9: 6",
            "m=10 bits=9: 12",
            "m=25 bits=8: 25",
            "m=50 bits=4: 25",
            "m=50 bits=8: 50",
            "m=100 bits=4: 50"
        ]
    );
    assert_eq!(
        subject().proposals(100, None, &[("bits", &[4])]),
        ["m: 8 does not divide d = 100; 10 is tried instead", "m=10 bits=4: 5"]
    );
    assert_eq!(subject().proposals(100, None, &[("m", &[24])]), ["m: 24 does not divide d = 100"]);
}

#[test]
fn a_rate_is_answered_by_whole_or_half_bytes_and_else_by_other_widths() {
    assert_eq!(subject().proposals(128, Some(1.0), &[]), ["m=16 bits=8: 16", "m=32 bits=4: 16"]);
    assert_eq!(subject().proposals(128, Some(4.0), &[]), ["m=64 bits=8: 64", "m=128 bits=4: 64"]);
    assert_eq!(subject().proposals(100, Some(1.0), &[]), ["m=10 bits=9: 12"]);
    assert_eq!(subject().proposals(100, Some(2.0), &[]), ["m=25 bits=8: 25", "m=50 bits=4: 25"]);
    assert_eq!(subject().proposals(384, Some(2.0), &[]), ["m=96 bits=8: 96", "m=192 bits=4: 96"]);
    assert_eq!(subject().proposals(100, Some(1.5), &[]), ["m=20 bits=7: 18"]);
    assert_eq!(
        subject().proposals(100, Some(0.5), &[]),
        ["m=5 bits=9: 6", "m=4 bits=11: 6", "m=4 bits=12: 6"]
    );
    assert_eq!(subject().proposals(100, Some(1.0), &[("m", &[10])]), ["m=10 bits=9: 12"]);
    assert_eq!(
        subject().proposals(100, Some(1.0), &[("bits", &[5])]),
        ["nothing stores 1 bits/dim at d = 100; nearest is m=20 bits=5 with 1.040"]
    );
    assert!(subject().proposals(7, Some(40.0), &[])[0].starts_with("nothing stores 40 bits/dim"));
}

#[test]
fn one_dimension_per_sub_space_reaches_the_distortion_of_lloyd_and_max() {
    // Max 1960, N(0,1). Tolerance: 6 standard errors of a mean of 4·30,000 squared errors, whose
    // relative standard deviation is below 2.5, and 1 % for training on a sample.
    let (x, train) = (gaussian(30_000, 4, 7), gaussian(30_000, 4, 8));
    calling(2, 1, |caller| {
        for (bits, published) in [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)] {
            let pairs =
                [("m", 4), ("bits", bits), ("iterations", 300), ("points_per_centroid", 1_000_000)];
            let made = subject().fitted(&pairs, Metric::L2, &train, caller);
            let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
            let mse = l2_sq(&x, &back) / x.len() as f64;
            assert!(
                (mse / published - 1.0).abs() < 0.01 + 6.0 * 2.5 / (x.len() as f64).sqrt(),
                "{bits} bits: {mse}"
            );
        }
    });
}

#[test]
fn every_sub_vector_takes_its_nearest_centroid() {
    let x = gaussian(300, 6, 9) + 1e3;
    calling(1, 1, |caller| {
        let made = subject().fitted(&[("m", 2), ("bits", 3)], Metric::L2, &x, caller);
        let codes = testing::encode(&made, x.view(), caller);
        let back = testing::decode(&made, &codes, caller);
        // All 64 codes, decoded.
        let all = Array2::from_shape_fn((64, 1), |(i, _)| i as u8);
        let all = testing::decode(&made, &all, caller);
        for (x, back) in x.outer_iter().zip(back.outer_iter()) {
            let to = |row: ndarray::ArrayView1<'_, f32>| -> f64 {
                x.iter().zip(row).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            let least = all.outer_iter().map(to).fold(f64::INFINITY, f64::min);
            assert!(to(back) <= least * (1.0 + 1e-5) + 1e-6);
        }
    });
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_pq::plugin()).assert_clean();
}
