//! What local search quantization promises, asked through the C table as the host asks it.

use ndarray::Array2;
use std::sync::Arc;
use vq_blocks::residual::Shape;
use vq_blocks::{Residual, Training};
use vq_plugin_api::conformance::{Report, check_method};
use vq_plugin_api::testing::{self, Subject, calling, config, gaussian, l2_sq};
use vq_plugin_api::{Context, Metric, Space};

fn subject() -> Subject {
    Subject::of(vq_lsq::plugin())
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
    &[("layers", 3), ("bits", 6), ("rounds", 3)],
    &[("layers", 4), ("bits", 5), ("beam", 1), ("rounds", 2)],
    &[("layers", 1), ("bits", 7), ("rounds", 1)],
    &[("layers", 2), ("bits", 4), ("tries", 0), ("rounds", 0)],
];

#[test]
fn sub_spaces_of_a_split_have_layers_of_their_own() {
    let configs: &[&[(&str, i64)]] = &[&[("splits", 2), ("layers", 3), ("bits", 4), ("rounds", 2)]];
    let x = gaussian(600, 12, 3) + 4.0;
    for metric in [Metric::L2, Metric::Ip] {
        calling(2, 1, |caller| {
            let made = subject().fitted(configs[0], metric, &x, caller);
            assert_eq!(made.code_bytes(), 3);
            let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
            // 24 bits in 12 dimensions; what one bit per dimension reaches is .36.
            let about_mean = x.iter().map(|x| (f64::from(*x) - 4.0).powi(2)).sum::<f64>();
            let error = l2_sq(&x, &back) / about_mean;
            assert!(error < 0.25, "{error}");
        });
    }
}

#[test]
fn searching_longer_comes_nearer_and_never_farther() {
    let (x, train) = (gaussian(1000, 16, 10), gaussian(3000, 16, 11));
    calling(2, 1, |caller| {
        let error = |tries: i64, rounds: i64| {
            let pairs = [("layers", 6), ("bits", 5), ("tries", tries), ("rounds", rounds)];
            let made = subject().fitted(&pairs, Metric::L2, &train, caller);
            let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
            l2_sq(&x, &back) / x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        };
        let (none, few, many) = (error(0, 4), error(4, 4), error(30, 4));
        assert!(few < 0.99 * none && many < few, "{none} {few} {many}");
        // 30 bits in 16 dimensions: no code can pass the Shannon bound.
        assert!(many > 2.0_f64.powf(-2.0 * 30.0 / 16.0));
    });
}

#[test]
fn rounds_count_with_a_single_layer_too() {
    let (x, train) = (gaussian(2000, 4, 20), gaussian(4000, 4, 21));
    calling(2, 1, |caller| {
        let error = |rounds: i64| {
            let pairs = [("layers", 1), ("bits", 6), ("iterations", 1), ("rounds", rounds)];
            let made = subject().fitted(&pairs, Metric::L2, &train, caller);
            let codes = testing::encode(&made, x.view(), caller);
            l2_sq(&x, &testing::decode(&made, &codes, caller))
        };
        let (few, many) = (error(1), error(30));
        assert!(many < 0.97 * few, "{few} {many}");
    });
}

/// Any row may be among those that are kept out of training.
#[test]
fn a_row_that_is_not_finite_is_refused_wherever_it_is() {
    let space = Space { dim: 2, metric: Metric::L2 };
    for row in (0..3000).step_by(37) {
        let mut x = gaussian(3000, 2, 22);
        x[[row, 1]] = [f32::NAN, f32::INFINITY][row % 2];
        calling(2, 1, |caller| {
            let pairs = [("layers", 2), ("bits", 4), ("rounds", 1), ("iterations", 1)];
            let mut made = subject().method().create(&config(&pairs), space).unwrap();
            let told = made.fit(x.view(), caller).unwrap_err().to_string();
            assert!(told.contains(&format!("training row {row} is not finite")), "{told}");
        });
    }
}

/// The squared error on `x` (n, d) of residual quantization that learned from it with the same seed, with its
/// default rounds of all layers.
#[expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
fn error_of_rq(shape: Shape, x: &Array2<f32>) -> f64 {
    let ctx = Context::detached(1, 1);
    let mut rq = Residual::new(x.ncols(), shape).unwrap();
    rq.fit(x.view(), Training::default(), 2, ctx.seed(), &|_, _| Ok(())).unwrap();
    let mut codes = Array2::zeros((x.nrows(), rq.code_bytes()));
    rq.encode(x.view(), codes.view_mut(), &ctx).unwrap();
    let mut back = Array2::zeros(x.dim());
    rq.decode(codes.view(), back.view_mut(), &ctx).unwrap();
    l2_sq(x, &back)
}

#[test]
fn where_they_are_few_rows_that_it_learned_from_never_err_more_than_by_rq() {
    // Far from the origin, of unequal spread.
    let spread = |t: usize| 3.0 / (1 + t % 7) as f32;
    let mut x = gaussian(2000, 24, 5);
    x.indexed_iter_mut().for_each(|((_, t), x)| *x = 4.0 + *x * spread(t));
    for (splits, layers, bits, beam, tries, rounds) in [
        (1, 2, 5, 5, 16, 20),
        (1, 2, 6, 5, 0, 20),
        (1, 3, 6, 1, 16, 5),
        (2, 2, 5, 5, 3, 20),
        (1, 1, 6, 5, 16, 20),
        (1, 2, 5, 5, 16, 0),
        (1, 8, 4, 5, 16, 6),
    ] {
        let rq = error_of_rq(Shape { splits, layers, bits, beam }, &x);
        let pairs = [
            ("splits", splits as i64),
            ("layers", layers as i64),
            ("bits", bits.into()),
            ("beam", beam as i64),
            ("tries", tries),
            ("rounds", rounds),
            ("iterations", Training::default().iterations as i64),
        ];
        calling(2, 1, |caller| {
            let made = subject().fitted(&pairs, Metric::L2, &x, caller);
            let back = testing::decode(&made, &testing::encode(&made, x.view(), caller), caller);
            let lsq = l2_sq(&x, &back);
            println!("{pairs:?}: {:.4}", lsq / rq);
            // What the sums of decoded rows round.
            assert!(lsq <= (1.0 + 1e-6) * rq, "{pairs:?}: {lsq} {rq}");
        });
    }
}

#[test]
fn a_rate_is_answered_by_few_layers_in_many_sub_spaces_and_then_by_many_in_few() {
    let at = |dim, rate| subject().proposals(dim, Some(rate), &[]);
    assert_eq!(at(128, 1.0), ["splits=2 layers=8: 16", "layers=16: 16"]);
    assert_eq!(at(128, 2.0), ["splits=4 layers=8: 32", "splits=2 layers=16: 32"]);
    assert_eq!(at(384, 1.0), ["splits=6 layers=8: 48", "splits=3 layers=16: 48"]);
    assert_eq!(at(100, 1.0), ["splits=2 layers=6: 12", "layers=12: 12"]);
    assert_eq!(at(100, 2.0), ["splits=5 layers=5: 25"]);
    assert_eq!(
        subject().proposals(128, Some(0.5), &[("splits", &[1, 2])]),
        ["splits=1 layers=8: 8", "splits=2 layers=4: 8"]
    );
}

#[test]
fn more_bits_or_layers_than_tables_are_made_for_are_refused() {
    let space = Space { dim: 30, metric: Metric::L2 };
    for (pairs, says) in [
        (&[("bits", 9)][..], "bits"),
        (&[("layers", 33)], "layers"),
        (&[("splits", 4)], "splits: 4 does not divide d = 30"),
    ] {
        let refused = subject().method().create(&config(pairs), space).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn the_law_for_every_plugin_is_kept() {
    // The law asks for no good codes, and a second round of training runs what twenty do.
    let fixed = config(&[("rounds", 2)]);
    let report = check_method(subject().method(), &fixed, Arc::new(|_, _| ()), &mut |_| ());
    Report { methods: vec![report] }.assert_clean();
}
