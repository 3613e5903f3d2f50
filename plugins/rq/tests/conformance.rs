//! What residual quantization promises, asked through the C table as the host asks it.

use ndarray::Array2;
use vq_plugin_api::testing::{self, Subject, calling, config, gaussian, l2_sq};
use vq_plugin_api::{Metric, Space};

fn subject() -> Subject {
    Subject::of(vq_rq::plugin())
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

const CONFIGS: &[&[(&str, i64)]] = &[
    &[("layers", 3), ("bits", 6)],
    &[("layers", 4), ("beam", 1)],
    &[("layers", 5), ("bits", 3), ("beam", 3)],
    &[("layers", 2), ("bits", 9), ("beam", 2)],
    &[("splits", 2), ("layers", 3), ("bits", 4)],
];

#[test]
fn five_bit_codes_take_five_bits_and_no_norm_is_stored() {
    for (layers, bits, bytes) in [(6, 5, 4), (5, 5, 4), (8, 8, 8), (3, 12, 5), (30, 1, 4)] {
        let space = Space { dim: 30, metric: Metric::L2 };
        let made = subject()
            .method()
            .create(&config(&[("layers", layers), ("bits", bits)]), space)
            .unwrap();
        assert_eq!(made.code_bytes(), bytes);
        assert_eq!(made.ratio(), Some(120.0 / bytes as f64));
    }
}

#[test]
fn the_grid_sweeps_rates_and_beams_at_any_dimension() {
    assert_eq!(
        subject().proposals(100, None, &[]),
        [
            "layers=3 beam=5: 3",
            "layers=3 beam=1: 3",
            "layers=6 beam=5: 6",
            "layers=6 beam=1: 6",
            "splits=2 layers=6 beam=5: 12",
            "splits=2 layers=6 beam=1: 12"
        ]
    );
    assert_eq!(subject().proposals(100, None, &[("layers", &[2])]), ["layers=2 beam=5: 2"]);
}

#[test]
fn a_rate_is_answered_by_few_layers_in_many_sub_spaces_and_then_by_many_in_few() {
    let at = |dim, rate| subject().proposals(dim, Some(rate), &[("beam", &[1])]);
    assert_eq!(at(128, 1.0), ["splits=2 layers=8 beam=1: 16", "layers=16 beam=1: 16"]);
    assert_eq!(at(128, 4.0), ["splits=8 layers=8 beam=1: 64", "splits=2 layers=32 beam=1: 64"]);
    assert_eq!(at(100, 1.0), ["splits=2 layers=6 beam=1: 12", "layers=12 beam=1: 12"]);
    assert_eq!(at(384, 2.0), ["splits=12 layers=8 beam=1: 96", "splits=3 layers=32 beam=1: 96"]);
    // Once where both are one.
    assert_eq!(at(100, 0.1), ["layers=1 beam=1: 1"]);
    assert_eq!(at(127, 1.0), ["layers=15 beam=1: 15"]);
    assert_eq!(
        at(7, 1.0),
        ["nothing stores 1 bits/dim at d = 7; nearest is layers=1 beam=1 with 1.143"]
    );
}

#[test]
fn a_rate_keeps_what_is_named() {
    let at = |axes: &[(&str, &[i64])]| subject().proposals(384, Some(2.0), axes);
    assert_eq!(at(&[("splits", &[4]), ("beam", &[1])]), ["splits=4 layers=24 beam=1: 96"]);
    assert_eq!(
        at(&[("beam", &[1]), ("bits", &[4])]),
        ["splits=24 layers=8 bits=4 beam=1: 96", "splits=6 layers=32 bits=4 beam=1: 96"]
    );
    // What is recommended is before all of the other shape.
    assert_eq!(
        at(&[]),
        [
            "splits=12 layers=8 beam=5: 96",
            "splits=12 layers=8 beam=1: 96",
            "splits=3 layers=32 beam=5: 96",
            "splits=3 layers=32 beam=1: 96"
        ]
    );
}

#[test]
fn a_beam_of_all_partial_codes_finds_the_best_code() {
    let x = gaussian(500, 6, 9) + 10.0;
    calling(1, 1, |caller| {
        let made =
            subject().fitted(&[("layers", 3), ("bits", 2), ("beam", 16)], Metric::L2, &x, caller);
        let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
        let all = Array2::from_shape_fn((64, 1), |(i, _)| i as u8);
        let all = testing::decode(&made, &all, caller);
        for (x, back) in x.outer_iter().zip(back.outer_iter()) {
            let to = |row: ndarray::ArrayView1<'_, f32>| -> f64 {
                x.iter().zip(row).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            let least = all.outer_iter().map(to).fold(f64::INFINITY, f64::min);
            assert!(to(back) <= least * (1.0 + 1e-5));
        }
    });
}

/// With all codes fixed no other centroids of the layers are nearer than those of the least squares.
#[test]
fn layers_that_move_together_come_nearer() {
    let (x, train) = (gaussian(2000, 16, 10), gaussian(4000, 16, 11));
    calling(2, 1, |caller| {
        let error = |joint: i64, rows: &Array2<f32>| {
            let pairs = [("layers", 6), ("bits", 5), ("joint", joint)];
            let made = subject().fitted(&pairs, Metric::L2, &train, caller);
            let back = testing::decode(&made, &testing::encode(&made, rows.view(), caller), caller);
            l2_sq(rows, &back) / rows.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        };
        let (apart, together) = (error(0, &train), error(1, &train));
        assert!(together < 0.99 * apart, "{together}, apart {apart}");
        let (apart, together) = (error(0, &x), error(1, &x));
        assert!(together < apart, "unseen rows: {together}, apart {apart}");
    });
}

#[test]
fn wider_beams_and_more_layers_come_nearer() {
    let (x, train) = (gaussian(2000, 16, 10), gaussian(4000, 16, 11));
    calling(2, 1, |caller| {
        let error = |layers: i64, beam: i64| {
            let pairs = [("layers", layers), ("bits", 5), ("beam", beam)];
            let made = subject().fitted(&pairs, Metric::L2, &train, caller);
            let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
            l2_sq(&x, &back) / x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        };
        let (greedy, five, twenty) = (error(6, 1), error(6, 5), error(6, 20));
        assert!(five < 0.97 * greedy && twenty < five, "{greedy} {five} {twenty}");
        assert!(five < 0.7 * error(3, 5));
        // 30 bits in 16 dimensions: no code can pass the Shannon bound.
        assert!(twenty > 2.0_f64.powf(-2.0 * 30.0 / 16.0));
    });
}

#[test]
fn a_wider_beam_errs_no_more_on_unseen_rows_with_16_and_32_layers() {
    // Correlated dimensions: later layers have structure left to find.
    let rows = |seed: u64| {
        let mut x = gaussian(2000, 24, seed);
        for mut row in x.outer_iter_mut() {
            for t in 1..row.len() {
                row[t] = 0.8 * row[t - 1] + 0.6 * row[t];
            }
        }
        x
    };
    let (x, train) = (rows(10), rows(11));
    calling(2, 1, |caller| {
        for layers in [16, 32] {
            let error = |beam: i64| {
                let pairs = [("layers", layers), ("bits", 3), ("beam", beam)];
                let made = subject().fitted(&pairs, Metric::L2, &train, caller);
                let codes = testing::encode(&made, x.view(), caller);
                assert_eq!(codes.ncols() as i64, 3 * layers / 8);
                l2_sq(&x, &testing::decode(&made, &codes, caller))
            };
            let (greedy, wide) = (error(1), error(5));
            assert!(wide < greedy, "{layers} layers: {wide}, greedy {greedy}");
        }
    });
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    vq_plugin_api::conformance::check(vq_rq::plugin()).assert_clean();
}
